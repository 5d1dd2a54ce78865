"""Graphs of nearest neighbours among rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["N_NEIGHBORS", "Neighbors", "adjacency", "mutual"]

Array = NDArray[Any]

N_NEIGHBORS = 5
MAX_DIMENSIONS = 64
N_CANDIDATES = 50


class Neighbors:
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


def adjacency(index: Array, n: int) -> Any:
    """Return neighbours, (rows, k), as a sparse matrix, shape (rows, n)."""
    rows, k = index.shape
    data = np.ones(rows * k, dtype=np.float32)
    return sparse.csr_matrix((data, index.ravel(), np.arange(0, rows * k + 1, k)), shape=(rows, n))


def mutual(search: Neighbors) -> Any:
    """Return the graph within the rows that are searched, a sparse matrix of shape (n, n).

    1 where either row is among the other's nearest neighbours. Made symmetric: labels then flow
    both ways, and no row stays unreachable.
    """
    index = search.find(search.train, N_NEIGHBORS + 1)[:, 1:]  # the nearest row is the row itself
    one_way = adjacency(index, len(search.train))
    return one_way.maximum(one_way.T).tocsr()
