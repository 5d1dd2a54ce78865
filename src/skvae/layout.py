"""t-SNE of a graph in one or two dimensions: where the rows of a map are to be."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse
from scipy.spatial.distance import cdist

__all__ = ["layout", "repulsion"]

Array = NDArray[np.float64]

N_NODES = 3  # of the interpolation, in each interval
LEAST_INTERVALS = 50
MOST_INTERVALS = {1: 20_000, 2: 400}  # a bound on memory, which a map of a million rows is below
EARLY = 12.0  # exaggeration in the first updates, so that clusters come together
N_EARLY, N_LATE = 125, 375
FIRST_SCALE = 1e-2
FEW = 1000  # rows


def layout(graph: Any, start: NDArray[Any], exaggeration: float = 1.0) -> Array:
    """Return places of the rows of a graph, shape (n, d), by t-SNE [1]_ with exaggeration.

    Edges attract, ``exaggeration`` times as much as in t-SNE, and all rows repel each other. With
    1 it is t-SNE; with about 4 the result resembles that of UMAP [2]_. The forces between all
    rows are interpolated on a grid [3]_, so that an update takes time in proportion to n.
    Deterministic.

    Parameters
    ----------
    graph : sparse matrix, shape (n, n)
        Symmetric, not negative.
    start : ndarray, shape (n, d), d of 1 or 2
        Where rows begin, up to scale.
    exaggeration : float

    References
    ----------
    .. [1] van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008
    .. [2] Böhm, Berens and Kobak, "Attraction-Repulsion Spectrum in Neighbor Embeddings", 2022,
       arXiv:2007.08902
    .. [3] Linderman et al., "Fast interpolation-based t-SNE", 2019, arXiv:1712.09005
    """
    graph = (graph / graph.sum()).tocsr()
    centred = np.asarray(start, dtype=np.float64) - np.mean(start, 0, dtype=np.float64)
    y: Array = FIRST_SCALE * centred / max(centred.std(), np.finfo(np.float64).tiny)
    step, gain = np.zeros_like(y), np.ones_like(y)
    rows = np.repeat(np.arange(len(y)), np.diff(graph.indptr))
    repel = _of_pairs if len(y) <= FEW else repulsion
    for i in range(N_EARLY + N_LATE):
        early = i < N_EARLY
        rho = EARLY if early else exaggeration
        slope = 4 * (rho * _attraction(graph, rows, y) - repel(y)[0])
        # Gains and the rate n / exaggeration are those of openTSNE and FIt-SNE.
        gain = np.where(np.sign(slope) != np.sign(step), gain + 0.2, 0.8 * gain).clip(0.01)
        step = (0.5 if early else 0.8) * step - len(y) / max(rho, 1.0) * gain * slope
        y = y + step
        y -= y.mean(0)
    return y


def _attraction(graph: Any, rows: NDArray[np.int64], y: Array) -> Array:
    """Return Σ_j p_ij k_ij (y_i − y_j) with k = 1 / (1 + r²), shape (n, d)."""
    apart = y[rows] - y[graph.indices]
    pulls = graph.data / (1 + np.einsum("ed,ed->e", apart, apart))
    pulled = sparse.csr_matrix((pulls, graph.indices, graph.indptr), shape=graph.shape)
    attraction: Array = np.asarray(pulled.sum(1)) * y - pulled @ y
    return attraction


def _of_pairs(y: Array) -> tuple[Array, float]:
    """Return what `repulsion` does, from all pairs: faster than a grid where these are few."""
    k = 1 / (1 + cdist(y, y, "sqeuclidean"))
    squares = k * k
    z = float(k.sum()) - len(y)
    return (squares.sum(1, keepdims=True) * y - squares @ y) / z, z


def repulsion(y: Array) -> tuple[Array, float]:
    """Return Σ_j k_ij² (y_i − y_j) / Z, shape (n, d), and Z = Σ_{i≠j} k_ij, k = 1 / (1 + r²).

    Rows give their charges to the nodes of a grid by Lagrange interpolation, the nodes interact
    by a convolution, and rows read the potentials there.
    """
    n, d = y.shape
    low = y.min(0)
    span = max(float((y.max(0) - low).max()), 1e-12)
    intervals = min(max(LEAST_INTERVALS, math.ceil(span)), MOST_INTERVALS[d])
    width, size = span / intervals, N_NODES * intervals
    weights = _interpolation((y - low) / width, intervals, size)
    charges = np.column_stack([np.ones(n), y])  # (n, 1 + d)
    grid = (weights.T @ charges).T.reshape(1 + d, *[size] * d)
    padded = fft.next_fast_len(2 * size - 1, real=True)
    far = np.minimum(np.arange(padded), padded - np.arange(padded)) * width / N_NODES
    r2 = sum((far**2).reshape([-1 if a == axis else 1 for a in range(d)]) for axis in range(d))
    kernel = 1 / (1 + r2)
    axes, shape = tuple(range(-d, 0)), (padded,) * d
    inside = (slice(None), *[slice(size)] * d)
    waves = fft.rfftn(grid, shape, axes)

    def potential(kernel: Array, waves: Any) -> Array:
        values = fft.irfftn(waves * fft.rfftn(kernel, shape, axes), shape, axes)[inside]
        read: Array = weights @ values.reshape(len(values), -1).T
        return read

    z = float(potential(kernel, waves[:1]).sum()) - n  # without each row's potential at itself
    squares = potential(kernel**2, waves)
    return (squares[:, :1] * y - squares[:, 1:]) / z, z


def _interpolation(place: Array, intervals: int, size: int) -> Any:
    """Return the weights of nodes for rows at ``place`` (n, d) in intervals, (n, size^d)."""
    n, d = place.shape
    cell = np.minimum(place.astype(np.int64), intervals - 1)  # (n, d)
    t = N_NODES * (place - cell) - 0.5  # nodes stand at 0, 1 and 2
    polynomials = ((t - 1) * (t - 2) / 2, t * (2 - t), t * (t - 1) / 2)
    index, weight = [], []
    for nodes in product(range(N_NODES), repeat=d):
        at, w = np.zeros(n, dtype=np.int64), np.ones(n)
        for axis, node in enumerate(nodes):
            at = at * size + cell[:, axis] * N_NODES + node
            w = w * polynomials[node][:, axis]
        index.append(at)
        weight.append(w)
    pointers = np.arange(0, n * len(index) + 1, len(index))
    entries = (np.stack(weight, 1).ravel(), np.stack(index, 1).ravel(), pointers)
    return sparse.csr_matrix(entries, shape=(n, size**d))
