"""Distances between rows, exactly and block by block.

`skvae.graphs` looks for neighbours through principal components, which is faster and nearly
right; figures that are to be compared with other people's must be right.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["blocks", "kth_distances", "nearest", "squared_distances", "vote"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]

BLOCK = 4_000_000  # distances at once: 32 MB
CLOSE = 1e-9  # of the squared norms: below, the difference of squares has lost too many digits


def blocks(n: int, width: int) -> Iterator[slice]:
    """Cut n rows so that a block of rows times ``width`` is bounded."""
    size = max(1, BLOCK // max(1, width))
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def squared_distances(a: Array, b: Array) -> Floats:
    """Return squared Euclidean distances, shape (n, m), of rows (n, D) and (m, D).

    Rows that are equal are at a distance of exactly 0.
    """
    # Small norms lose fewer digits. A whole number, so that whole numbers stay exact.
    center = np.rint(b.mean(0, dtype=np.float64))
    a, b = a.astype(np.float64) - center, b.astype(np.float64) - center
    norms = np.einsum("id,id->i", a, a)[:, None] + np.einsum("jd,jd->j", b, b)
    distances: Floats = -2 * (a @ b.T)
    distances += norms
    norms *= CLOSE
    close = distances < norms
    for i in np.flatnonzero(close.any(1)):
        difference = b[close[i]] - a[i]
        distances[i, close[i]] = np.einsum("jd,jd->j", difference, difference)
    return distances


def kth_distances(rows: Array, k: int) -> Floats:
    """Return squared distances, shape (n,), of rows to the k-th nearest of the others."""
    found = np.empty(len(rows))
    for part in blocks(len(rows), len(rows)):
        distances = squared_distances(rows[part], rows)
        distances[np.arange(len(distances)), np.arange(part.start, part.stop)] = np.inf
        found[part] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return found


def nearest(rows: Array, among: Array, k: int) -> tuple[Places, Floats]:
    """Find the k nearest of other rows, nearest first; of equally near ones the first.

    Returns
    -------
    places : ndarray of int, shape (n, k)
    distances : ndarray, shape (n, k)
    """
    places = np.zeros((len(rows), k), np.int64)
    found = np.full((len(rows), k), np.inf)
    width = min(len(among), 10_000)
    for part in blocks(len(rows), width):
        for start in range(0, len(among), width):
            own = squared_distances(rows[part], among[start : start + width])
            index = _smallest(own, min(k, own.shape[1]))
            candidates = np.concatenate([found[part], np.take_along_axis(own, index, 1)], 1)
            index = np.concatenate([places[part], index + start], 1)
            order = np.argsort(candidates, 1, kind="stable")[:, :k]
            found[part] = np.take_along_axis(candidates, order, 1)
            places[part] = np.take_along_axis(index, order, 1)
    return places, np.sqrt(found)


def _smallest(values: Floats, k: int) -> Places:
    """Return the places of the k smallest of each row, smallest first; of equal ones the first."""
    n = values.shape[1]
    smallest: Places
    if k == n:
        smallest = np.argsort(values, 1, kind="stable")
        return smallest
    # A partition leaves it open which of several equal values at the k-th place are taken.
    bound = np.partition(values, k - 1, axis=1)[:, k - 1 : k]
    below, level = values < bound, values == bound
    short = k - below.sum(1, keepdims=True)
    taken = below | (level & (np.cumsum(level, 1, dtype=np.int32) <= short))
    index = np.nonzero(taken)[1].reshape(-1, k)
    order = np.argsort(np.take_along_axis(values, index, 1), 1, kind="stable")
    smallest = np.take_along_axis(index, order, 1)
    return smallest


def vote(codes: Places, n_classes: int) -> Places:
    """Return the most frequent class, (n,), among neighbours of classes (n, k); of ties the first.

    That is how scikit-learn's k-nearest-neighbour classifier decides.
    """
    rows = np.arange(len(codes))[:, None]
    counts = np.bincount((rows * n_classes + codes).ravel(), minlength=len(codes) * n_classes)
    chosen: Places = counts.reshape(-1, n_classes).argmax(1)
    return chosen
