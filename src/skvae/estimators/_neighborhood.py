"""The graph of neighbours among the rows of a fit."""

import numpy as np
import torch
from numpy.typing import NDArray

from skvae.data import Transform
from skvae.estimators._fit_rows import FitRows, InMemory
from skvae.exceptions import DataError, ParameterError
from skvae.fuzzy import FuzzyGraph
from skvae.graphs import MAX_DIMENSIONS, nearest, principal

__all__ = ["graph_of"]

ROWS_PER_CHUNK = 8192
ROWS_OF_COMPONENTS = 20_000  # that the principal components are computed from


def graph_of(rows: FitRows, transform: Transform, n_neighbors: int) -> FuzzyGraph:
    """Return the fuzzy graph of neighbours among rows in model units.

    Raises
    ------
    ParameterError
        The rows are sequences, or streamed from files.
    DataError
        There are too few rows, all are equal, or cells are missing.
    """
    if not isinstance(rows, InMemory):
        raise ParameterError(
            "objective: Neighbors looks for neighbours among all rows, which takes rows of one "
            "length in memory, but these are sequences or streamed from files. Give X as an "
            "array, a sample of the rows if need be, or leave Neighbors out of the objective."
        )
    if len(rows) <= n_neighbors:
        raise DataError(
            f"objective: Neighbors looks for n_neighbors={n_neighbors} neighbours of each row, but "
            f"X has {len(rows)} rows to train on. Give more rows, or use "
            f"Neighbors(n_neighbors=...) with a smaller number."
        )
    if not rows.varied:
        raise DataError(
            "objective: Neighbors cannot say which rows are neighbours, for all rows of X are "
            "equal. Give rows that differ, or leave Neighbors out of the objective."
        )
    if any(np.isnan(rows.X[s]).any() for s in _slices(len(rows)) if rows.X.dtype.kind == "f"):
        raise DataError(
            "objective: Neighbors measures distances between complete rows, but cells of X are "
            "missing (NaN). Fill them in first, for example by VAEImputer, or leave Neighbors out "
            "of the objective."
        )

    def encoded(X: NDArray[np.generic]) -> NDArray[np.float32]:
        encoded: NDArray[np.float32] = transform.encode(X, torch.float32).numpy()
        return encoded

    n_columns = rows.X.shape[1]
    project = encoded
    if n_columns > MAX_DIMENSIONS:
        components = principal(encoded(rows.some(ROWS_OF_COMPONENTS)))

        def project(X: NDArray[np.generic]) -> NDArray[np.float32]:
            return encoded(X) @ components

    flat = np.concatenate([project(rows.X[s]) for s in _slices(len(rows))])
    return FuzzyGraph(*nearest(flat, n_neighbors))


def _slices(n: int) -> list[slice]:
    return [slice(i, i + ROWS_PER_CHUNK) for i in range(0, n, ROWS_PER_CHUNK)]
