"""The fuzzy graph of nearest neighbours of UMAP, from which neighbours are drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

__all__ = ["FuzzyGraph", "memberships", "union"]

Array = NDArray[Any]

N_BISECTIONS = 64
LEAST_WIDTH = 1e-3  # of the mean distance: rows among copies of themselves have no width of theirs


def memberships(distance: Array) -> NDArray[np.float64]:
    """Return how much each of the k nearest rows is a neighbour, shape (n, k).

    exp(−max(0, d − ρ) / σ), with ρ the distance to the nearest row that is not a copy, and σ such
    that the sum over the k is log₂ k [1]_. Where too many are as near as the nearest, the sum is
    larger for every σ.

    Parameters
    ----------
    distance : ndarray, shape (n, k)

    References
    ----------
    .. [1] McInnes, Healy and Melville, "UMAP", 2018, arXiv:1802.03426, section 3.1
    """
    d = np.asarray(distance, dtype=np.float64)
    rho = np.where(d > 0, d, np.inf).min(1, keepdims=True)
    beyond = np.maximum(d - np.where(np.isfinite(rho), rho, 0.0), 0.0)
    target = np.log2(d.shape[1])
    mean = d.mean()
    if not mean:
        return np.ones_like(d)
    # The sum rises with σ from the number of those at ρ to k, so that bisection of log σ finds it.
    largest = np.maximum(beyond.max(1, keepdims=True), mean)
    low, high = np.log(LEAST_WIDTH * mean), np.log(1e3 * largest)
    low = np.full_like(high, low)
    for _ in range(N_BISECTIONS):
        middle = 0.5 * (low + high)
        small = np.exp(-beyond / np.exp(middle)).sum(1, keepdims=True) < target
        low, high = np.where(small, middle, low), np.where(small, high, middle)
    weight: NDArray[np.float64] = np.exp(-beyond / np.exp(0.5 * (low + high)))
    return weight


def union(index: Array, weight: Array) -> Any:
    """Return a + b − a b for both directions of each pair: a symmetric sparse matrix (n, n)."""
    n, k = index.shape
    pointers = np.arange(0, n * k + 1, k)
    one_way = sparse.csr_matrix((weight.ravel(), index.ravel(), pointers), shape=(n, n))
    other = one_way.T.tocsr()
    both = (one_way + other - one_way.multiply(other)).tocsr()
    both.eliminate_zeros()
    both.sort_indices()
    return both


class FuzzyGraph:
    """Rows and their neighbours, drawn in proportion to what joins them.

    Parameters
    ----------
    index : ndarray of int, shape (n, k)
        The k nearest rows of each.
    distance : ndarray, shape (n, k)

    Attributes
    ----------
    matrix : sparse matrix, shape (n, n)
        What joins any two rows, symmetric.
    """

    def __init__(self, index: Array, distance: Array) -> None:
        self.matrix = graph = union(index, memberships(distance))
        self.start = torch.from_numpy(graph.indptr.astype(np.int64))
        self.neighbor = torch.from_numpy(graph.indices.astype(np.int64))
        # Sums over all edges: one search in them finds the neighbours of any rows.
        self.sums = torch.from_numpy(np.append(0.0, np.cumsum(graph.data)))

    def __len__(self) -> int:
        return len(self.start) - 1

    def draw(self, rows: Tensor, u: Tensor) -> Tensor:
        """Return a neighbour of each row, shape (B,), for uniform numbers u (B,) in [0, 1)."""
        first, last = self.start[rows], self.start[rows + 1]
        below, above = self.sums[first], self.sums[last]
        place = torch.searchsorted(self.sums, below + u * (above - below), right=True) - 1
        return self.neighbor[place.clamp(first, last - 1)]
