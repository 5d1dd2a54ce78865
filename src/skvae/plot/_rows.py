"""Rows in whatever container they came: some of them, their number, their values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae import files
from skvae.estimators._containers import to_numpy
from skvae.exceptions import DataError, ParameterError

__all__ = ["count", "numbers", "opened", "single", "some", "spread"]

Array = NDArray[Any]


def opened(vae: Any, X: Any, most: int | None = None) -> Any:
    """Return X out of its files; of rows that may be larger than memory at most so many.

    Those are spread evenly. Images with their channels in front get them behind where the model
    has them there.
    """
    stream = files.stream_of(X)
    if stream is None:
        X = files.in_memory(X)
        if count(X) == 0:
            raise DataError("X has no rows, so there is nothing to show.")
        return X
    wanted = spread(len(stream), len(stream) if most is None else most)
    blocks, start = [], 0
    for block in stream:
        here = wanted[(wanted >= start) & (wanted < start + len(block))] - start
        blocks.append(block[here])
        start += len(block)
    rows = np.concatenate(blocks).reshape(-1, *stream.event_shape)
    if stream.channels_first and vae.channels_last:
        rows = np.moveaxis(rows, 1, -1)
    return files.Table(rows, stream.columns)


def count(X: Any) -> int:
    """Return the number of rows."""
    return len(X.values) if isinstance(X, files.Table) else len(X)


def spread(n: int, most: int) -> NDArray[np.int64]:
    """Return the places of at most so many of n rows, at equal distances from the first on."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(np.int64)


def some(X: Any, index: NDArray[np.int64]) -> Any:
    """Return rows by their numbers, in a container like that of X."""
    from sklearn.utils import _safe_indexing

    if isinstance(X, files.Table):
        return files.Table(X.values[index], X.columns)
    if isinstance(X, list | tuple):
        return [X[i] for i in index.tolist()]
    X = to_numpy(X)
    return _safe_indexing(X, index)


def single(X: Any, i: int) -> Any:
    """Return row i by itself, as calls for one row take it.

    Raises
    ------
    ParameterError
        There is none of this number.
    """
    if not 0 <= i < count(X):
        raise ParameterError(f"row {i} must be one of the {count(X)} rows of X, from 0.")
    one = some(X, np.array([i]))
    if isinstance(one, files.Table):
        return one.values[0]
    return one[0] if isinstance(one, list | np.ndarray) else one  # frames stay frames


def numbers(rows: Any) -> NDArray[np.float64]:
    """Return the values of rows of numbers."""
    values = rows.values if isinstance(rows, files.Table) else to_numpy(rows)
    return np.asarray(values, dtype=np.float64)
