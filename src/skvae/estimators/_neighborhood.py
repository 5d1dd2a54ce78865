"""The graph of neighbours among the rows of a fit, and what batches bring of it."""

import functools
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from skvae.data import Source, Transform
from skvae.estimators._fit_rows import FitRows, InMemory
from skvae.exceptions import DataError, ParameterError
from skvae.fuzzy import FuzzyGraph
from skvae.graphs import MAX_DIMENSIONS, nearest, principal
from skvae.guides import Neighboring, Placed
from skvae.layout import layout
from skvae.penalties.base import Beside

__all__ = ["Company", "company_of"]

Array = NDArray[np.float32]
Company = Callable[[Source], Source]

ROWS_PER_CHUNK = 8192
MANY = 5000  # rows, from which on clusters of a layout are drawn together
ROWS_OF_COMPONENTS = 20_000  # that the principal components are computed from


def company_of(
    rows: FitRows, transform: Transform, wanted: tuple[Beside, ...], width: int
) -> Company:
    """Return what adds to a source of the rows what an objective asks to have beside them.

    Parameters
    ----------
    rows : FitRows
    transform : Transform
        To model units, in which distances are measured.
    wanted : tuple of Beside
    width : int
        Of z.

    Raises
    ------
    ParameterError
        The rows are sequences, or streamed from files; z has more dimensions than a layout; two
        terms ask for different neighbours or layouts.
    DataError
        There are too few rows, all are equal, or cells are missing.
    """
    if not wanted:
        return lambda source: source
    kinds = [one.exaggeration is None for one in wanted]
    if len(set(kinds)) < len(kinds):
        raise ParameterError(
            f"objective: all terms must ask for the same neighbours or the same layout; received "
            f"{', '.join(map(repr, wanted))}."
        )
    if not all(kinds) and width > 2:
        raise ParameterError(
            f"objective: Layout lays rows out in one or two dimensions, but z has {width}. Use "
            "n_components=2, or Neighbors, which goes with any number."
        )
    flat = _projected(_checked(rows, max(one.n_neighbors for one in wanted)), transform)
    graphs = {k: FuzzyGraph(*nearest(flat, k)) for k in {one.n_neighbors for one in wanted}}
    parts: list[Company] = []
    for one in sorted(wanted, key=lambda one: one.exaggeration is not None):  # neighbours first
        graph = graphs[one.n_neighbors]
        if one.exaggeration is None:
            parts.append(functools.partial(Neighboring, graph=graph))
        else:
            start = flat @ principal(flat, width)
            if start.shape[1] < width:  # of one column: a plane is needed all the same
                start = np.hstack([start, start**2])
            auto = 2.0 if len(flat) >= MANY else 1.0
            exaggeration = auto if one.exaggeration == "auto" else one.exaggeration
            places = layout(graph.matrix, start, exaggeration)
            places /= places.std()
            parts.append(functools.partial(Placed, places=torch.from_numpy(places).float()))
    return lambda source: functools.reduce(lambda inner, part: part(inner), parts, source)


def _checked(rows: FitRows, n_neighbors: int) -> InMemory:
    """Return the rows, or say why nothing can be said of their neighbours."""
    if not isinstance(rows, InMemory):
        raise ParameterError(
            "objective: neighbours are looked for among all rows, which takes rows of one length "
            "in memory, but these are sequences or streamed from files. Give X as an array, a "
            "sample of the rows if need be, or leave Neighbors and Layout out of the objective."
        )
    if len(rows) <= n_neighbors:
        raise DataError(
            f"objective: n_neighbors={n_neighbors} neighbours of each row are looked for, but "
            f"there are {len(rows)} rows to train on. Give more rows, or use "
            f"n_neighbors={max(2, (len(rows) - 1) // 2)} or fewer."
        )
    if not rows.varied:
        raise DataError(
            "objective: all rows are equal, so that none is nearer than another. Give rows that "
            "differ, or leave Neighbors and Layout out of the objective."
        )
    if rows.X.dtype.kind == "f" and any(np.isnan(rows.X[s]).any() for s in _slices(len(rows))):
        raise DataError(
            "objective: distances between rows need all their cells, but some are missing (NaN). "
            "Fill them in first, for example with VAEImputer, or leave Neighbors and Layout out "
            "of the objective."
        )
    return rows


def _projected(rows: InMemory, transform: Transform) -> Array:
    """Return rows in model units; wide ones by their principal components."""

    def encoded(X: NDArray[np.generic]) -> Array:
        values: Array = transform.encode(X, torch.float32).numpy()  # type: ignore[arg-type]
        return values

    some = encoded(rows.some(ROWS_OF_COMPONENTS))
    components = principal(some) if some.shape[1] > MAX_DIMENSIONS else np.eye(some.shape[1])
    components = components.astype(np.float32)
    return np.concatenate([encoded(rows.X[s]) @ components for s in _slices(len(rows))])


def _slices(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS_PER_CHUNK):
        yield slice(start, start + ROWS_PER_CHUNK)
