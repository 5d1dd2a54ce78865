"""Graphs of nearest neighbours among rows."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = [
    "MAX_DIMENSIONS",
    "N_NEIGHBORS",
    "Neighbors",
    "adjacency",
    "mutual",
    "nearest",
    "principal",
]

Array = NDArray[Any]

N_NEIGHBORS = 5
MAX_DIMENSIONS = 64
N_CANDIDATES = 50
N_COMPONENTS = 50
MANY = 100_000  # rows from which on an exact search of wide rows takes minutes
N_CELLS = 12


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


def principal(rows: Array, n_components: int = N_COMPONENTS) -> Array:
    """Return the directions of most variance, shape (D, n_components)."""
    from sklearn.decomposition import PCA

    pca = PCA(min(n_components, *rows.shape), svd_solver="covariance_eigh").fit(rows)
    return np.ascontiguousarray(pca.components_.T)


def nearest(rows: Array, k: int) -> tuple[Array, Array]:
    """Return the k nearest other rows of each and their distances, nearest first, (n, k) each.

    Of more than `MANY` rows the search is approximate: by pynndescent where that is installed, or
    else within the cells of k-means that are nearest. Deterministic in either case.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(rows) > MANY:
        return _descended(rows, k) if find_spec("pynndescent") else _in_cells(rows, k)
    distance, index = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors()
    return index, distance


def _descended(rows: Array, k: int) -> tuple[Array, Array]:
    from pynndescent import NNDescent

    index, distance = NNDescent(rows, n_neighbors=k + 1, random_state=0).neighbor_graph
    return _others(index, distance, np.arange(len(rows)))


def _in_cells(rows: Array, k: int) -> tuple[Array, Array]:
    """Search among the rows of the cells whose centres are nearest to the centre of one's own."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.neighbors import NearestNeighbors

    n_cells = max(1, round(len(rows) ** 0.5))
    means = MiniBatchKMeans(n_cells, random_state=0, n_init=1, batch_size=4 * n_cells).fit(rows)
    cell = means.predict(rows)
    members = np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1])
    centers = means.cluster_centers_
    members += [np.empty(0, dtype=np.int64)] * (len(centers) - len(members))
    order = (
        NearestNeighbors(n_neighbors=len(centers))
        .fit(centers)
        .kneighbors(centers, return_distance=False)
    )
    index = np.empty((len(rows), k), dtype=np.int64)
    distance = np.empty((len(rows), k))
    for own, near in zip(members, order, strict=True):
        if not len(own):
            continue
        reach = np.cumsum([len(members[c]) for c in near])
        n_near = max(N_CELLS, int(np.searchsorted(reach, k + 1)) + 1)
        pool = np.concatenate([members[c] for c in near[:n_near]])
        search = NearestNeighbors(algorithm="brute").fit(rows[pool])
        far, place = search.kneighbors(rows[own], k + 1)
        index[own], distance[own] = _others(pool[place], far, own)
    return index, distance


def _others(index: Array, distance: Array, own: Array) -> tuple[Array, Array]:
    """Leave out each row itself, or the last one where that is not among those found."""
    kept = index != own[:, None]
    kept[kept.all(1), -1] = False
    shape = (len(index), index.shape[1] - 1)
    return index[kept].reshape(shape), distance[kept].reshape(shape)
