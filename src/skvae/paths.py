"""Paths between two points of a latent space."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError

__all__ = ["along", "linear", "spherical"]

Array = NDArray[Any]

N_NEIGHBORS = 10
PARALLEL = 1e-6  # sine of an angle below which there is no great circle to follow


def linear(z0: Array, z1: Array, n: int) -> Array:
    """Return n points at equal distances on the straight line from z0 to z1, shape (n, d)."""
    t = np.linspace(0, 1, n)[:, None]
    return np.asarray((1 - t) * z0 + t * z1)


def spherical(z0: Array, z1: Array, n: int) -> Array:
    """Return n points of the arc from z0 to z1 at equal angles, shape (n, d) [1]_.

    Of two vectors of one length all points have that length: in high dimensions nearly all of
    N(0, I) lies at one distance from the origin, and the middle of a straight line does not.
    Vectors that are parallel or opposite, as all are in one dimension, have no arc of their own
    and get the straight line.

    References
    ----------
    .. [1] White, "Sampling Generative Networks", 2016, arXiv:1609.04468
    """
    lengths = np.linalg.norm(z0) * np.linalg.norm(z1)
    cosine = float(z0 @ z1 / lengths) if lengths > 0 else 1.0
    angle = np.arccos(np.clip(cosine, -1, 1))
    if np.sin(angle) < PARALLEL:
        return linear(z0, z1, n)
    t = np.linspace(0, 1, n)[:, None]
    return np.asarray((np.sin((1 - t) * angle) * z0 + np.sin(t * angle) * z1) / np.sin(angle))


def along(z0: Array, z1: Array, n: int, Z: Array) -> Array:
    """Return n points of a path from z0 to z1 that stays where the points Z are, shape (n, d).

    The shortest path in the graph of nearest neighbours, where an edge costs the square of its
    length: many short steps are cheaper than a leap over an empty place [1]_. The points lie at
    equal distances on it; those in between may lie on edges.

    Parameters
    ----------
    z0, z1 : ndarray, shape (d,)
    n : int
    Z : ndarray, shape (m, d)

    Raises
    ------
    DataError
        Z is empty or has other dimensions.

    References
    ----------
    .. [1] Bijral, Ratliff and Srebro, "Semi-supervised Learning with Density Based Distances",
       2011, arXiv:1202.3702
    """
    if Z.ndim != 2 or len(Z) == 0 or Z.shape[1] != len(z0):
        raise DataError(f"the points to go along have shape {Z.shape}, expected (m, {len(z0)}).")
    points = np.concatenate([z0[None], z1[None], Z]).astype(np.float64)
    return _walked(points[_shortest(points)], n).astype(np.result_type(z0, z1))


def _shortest(points: Array) -> list[int]:
    """Return the places of the points on the way from the first to the second."""
    from scipy.sparse.csgraph import dijkstra
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors().fit(points)
    k = N_NEIGHBORS
    while True:  # islands are joined by more neighbours; all of them join everything
        k = min(k, len(points) - 1)
        graph = search.kneighbors_graph(n_neighbors=k, mode="distance")
        # Equal points are neighbours, too: an edge of length 0 would be none to a sparse graph.
        graph.data = np.maximum(graph.data**2, np.finfo(np.float64).tiny)
        _, before = dijkstra(graph, directed=False, indices=0, return_predecessors=True)
        if before[1] >= 0:
            break
        k *= 2
    way = [1]
    while way[-1] != 0:
        way.append(int(before[way[-1]]))
    return way[::-1]


def _walked(corners: Array, n: int) -> Array:
    """Return n points at equal distances on the line through the corners (m, d)."""
    steps = [float(np.linalg.norm(b - a)) for a, b in itertools.pairwise(corners)]
    place = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.linspace(0, place[-1], n)
    return np.stack([np.interp(wanted, place, column) for column in corners.T], 1)
