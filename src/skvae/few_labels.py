"""Label spreading on a graph of nearest neighbours, built once for many draws of the labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["NeighborGraph", "draw_labels", "spread"]

Array = NDArray[Any]

N_NEIGHBORS = 5
ALPHA = 0.99
MAX_DIMENSIONS = 64
N_CANDIDATES = 50


@dataclass(frozen=True)
class NeighborGraph:
    """Nearest neighbours within the training rows, and of the test rows among them.

    Attributes
    ----------
    within : sparse matrix, shape (n_train, n_train)
        1 where either row is among the other's nearest neighbours. Made symmetric: labels then
        flow both ways, and no row stays unreachable.
    across : sparse matrix, shape (n_test, n_train)
        1 where the training row is among the test row's nearest neighbours.
    """

    within: Any
    across: Any

    @classmethod
    def build(cls, train: Array, test: Array) -> Self:
        """Find the neighbours of rows (n, D) by Euclidean distance."""
        train, test = np.asarray(train, np.float32), np.asarray(test, np.float32)
        search = _Neighbors(train)
        index = search.find(train, N_NEIGHBORS + 1)[:, 1:]  # the nearest row is the row itself
        one_way = _adjacency(index, len(train))
        across = _adjacency(search.find(test, N_NEIGHBORS), len(train))
        return cls(one_way.maximum(one_way.T).tocsr(), across)

    def __call__(self, X: Array, Y: Array) -> Any:
        """Be a kernel for LabelSpreading; rows are given by index, test rows after the others."""
        n = self.within.shape[0]
        if len(Y) == n and Y[0, 0] == 0:
            return self.within
        return self.across[Y[:, 0].astype(int) - n].T


class _Neighbors:
    """Brute-force search; many columns are searched through their principal components first.

    The distance in the leading principal components is never larger than the full one and ranks
    nearly alike: the nearest among `N_CANDIDATES` found there are ordered by the full distance.
    """

    def __init__(self, train: Array) -> None:
        from sklearn.decomposition import PCA
        from sklearn.neighbors import NearestNeighbors

        self.train = train
        self.pca = None
        if train.shape[1] > MAX_DIMENSIONS:
            self.pca = PCA(MAX_DIMENSIONS, svd_solver="covariance_eigh").fit(train)
            train = self.pca.transform(train)
        self.search = NearestNeighbors(algorithm="brute").fit(train)

    def find(self, rows: Array, k: int) -> Array:
        """Indices of the k nearest training rows, nearest first, shape (n, k)."""
        if self.pca is None:
            return np.asarray(self.search.kneighbors(rows, k, return_distance=False))
        n_candidates = min(N_CANDIDATES, len(self.train))
        candidates = self.search.kneighbors(
            self.pca.transform(rows), n_candidates, return_distance=False
        )
        best = np.empty((len(rows), k), dtype=np.int64)
        for start in range(0, len(rows), 512):
            part = candidates[start : start + 512]  # (b, c)
            difference = self.train[part] - rows[start : start + 512, None]  # (b, c, D)
            order = np.argsort(np.einsum("bcd,bcd->bc", difference, difference), 1)[:, :k]
            best[start : start + 512] = np.take_along_axis(part, order, 1)
        return best


def _adjacency(index: Array, n: int) -> Any:
    rows, k = index.shape
    data = np.ones(rows * k, dtype=np.float32)
    return sparse.csr_matrix((data, index.ravel(), np.arange(0, rows * k + 1, k)), shape=(rows, n))


def draw_labels(y: Array, n_per_class: int, seed: int) -> Array:
    """Return y with all but ``n_per_class`` random labels of each class replaced by −1."""
    rng = np.random.default_rng(seed)
    known = np.concatenate(
        [rng.choice(np.flatnonzero(y == c), n_per_class, replace=False) for c in np.unique(y)]
    )
    partial = np.full(len(y), -1)
    partial[known] = y[known]
    return partial


def spread(graph: NeighborGraph, y: Array, y_test: Array, n_per_class: int, seed: int) -> float:
    """Accuracy on the test rows when labels spread from a few training rows to all."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.semi_supervised import LabelSpreading

    n = len(y)
    model = LabelSpreading(kernel=graph, alpha=ALPHA, max_iter=100)
    # A part of the graph without any label has no distribution to normalise; it gets some class.
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # The ranking of the classes settles long before the sum of all changes is below tol.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(np.arange(n)[:, None], draw_labels(y, n_per_class, seed))
        return float(model.score(np.arange(n, n + len(y_test))[:, None], y_test))
