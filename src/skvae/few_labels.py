"""Label spreading on a graph of nearest neighbours, built once for many draws of the labels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae.graphs import N_NEIGHBORS, Neighbors, adjacency, mutual

__all__ = ["NeighborGraph", "draw_labels", "spread"]

Array = NDArray[Any]

ALPHA = 0.99


@dataclass(frozen=True)
class NeighborGraph:
    """Nearest neighbours within the training rows, and of the test rows among them.

    Attributes
    ----------
    within : sparse matrix, shape (n_train, n_train)
        As `graphs.mutual` makes it.
    across : sparse matrix, shape (n_test, n_train)
        1 where the training row is among the test row's nearest neighbours.
    """

    within: Any
    across: Any

    @classmethod
    def build(cls, train: Array, test: Array) -> Self:
        """Find the neighbours of rows (n, D) by Euclidean distance."""
        train, test = np.asarray(train, np.float32), np.asarray(test, np.float32)
        search = Neighbors(train)
        across = adjacency(search.find(test, N_NEIGHBORS), len(train))
        return cls(mutual(search), across)

    def __call__(self, X: Array, Y: Array) -> Any:
        """Be a kernel for LabelSpreading; rows are given by index, test rows after the others."""
        n = self.within.shape[0]
        if len(Y) == n and Y[0, 0] == 0:
            return self.within
        return self.across[Y[:, 0].astype(int) - n].T


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
