"""Cells to the numbers of a model, and numbers to values that a native type can hold."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError
from skvae.schema.cells import Cells
from skvae.schema.columns import LEVEL_KINDS, Column, Scalar
from skvae.schema.times import to_ticks

__all__ = ["constant", "decode", "domain", "encode", "fits", "integer_limits"]

Mask = NDArray[np.bool_]


def encode(column: Column, cells: Cells) -> tuple[NDArray[np.float64], Mask]:
    """Return a modelled column as numbers, and which cells hold what the kind does not allow.

    Both kinds of cells, those and missing ones, are NaN.

    Raises
    ------
    DataError
        For infinity, mixed types, or values that are no such numbers at all.
    """
    if cells.missing.all():
        return np.full(len(cells.missing), np.nan), np.zeros(len(cells.missing), np.bool_)
    if cells.family == "other" and not column.as_text:
        raise DataError(f"Column {column.name!r} {cells.why}. Convert it to one type.")
    cells.check_finite(column.name)
    values = _codes(column, cells) if column.kind in LEVEL_KINDS else _numbers(column, cells)
    odd = np.isnan(values) & ~cells.missing
    return values, odd


def _codes(column: Column, cells: Cells) -> NDArray[np.float64]:
    codes, uniques = cells.factorized(as_text=column.as_text)
    index = {level: float(code) for code, level in enumerate(column.levels)}
    if cells.time and not column.as_text:
        index = {}  # a date is not its number of ticks
    table = [index.get(value, np.nan) for value in uniques]
    return np.array([*table, np.nan])[np.where(cells.missing, len(table), codes)]


def _numbers(column: Column, cells: Cells) -> NDArray[np.float64]:
    family = ("date" if column.is_date else "duration") if column.time else "number"
    if family != ("number" if cells.is_number else cells.family):
        row = int((~cells.missing).argmax())
        raise DataError(
            f"Column {column.name!r}, row {row}: {cells.value(row)!r:.60} is not a {family}, but "
            f"the column is one of {family}s (kind {column.kind!r})."
        )
    values = cells.numbers()
    with np.errstate(invalid="ignore"):
        if column.kind == "positive":
            values[~(values > 0)] = np.nan
        elif column.kind == "count":
            values[(values < 0) | (values != np.rint(values))] = np.nan
        elif column.kind == "bounded":
            low, high = _bounds(column, cells.dtype)
            values[(values < low) | (values > high)] = np.nan
            values = np.clip(values, column.low, column.high)
    return values


def _bounds(column: Column, dtype: str) -> tuple[float, float]:
    """Return the bounds, as wide as they are after rounding to the native type."""
    low, high = column.low or 0.0, column.high or 0.0
    if (kind := _small_float(dtype)) is None:
        return low, high
    with np.errstate(over="ignore"):
        return min(low, float(kind(low))), max(high, float(kind(high)))


def domain(column: Column) -> str:
    """Return in words what values a column may have."""
    if column.kind == "positive":
        return "a number > 0"
    if column.kind == "count":
        return "a whole number >= 0"
    if column.kind == "bounded":
        return f"between {column.low:g} and {column.high:g}"
    shown = ", ".join(f"{level!r:.40}" for level in column.levels[:6])
    return f"one of {shown}" + (f" and {n - 6} more" if (n := len(column.levels)) > 6 else "")


def decode(column: Column, values: NDArray[np.float64], dtype: str, time: str) -> NDArray[Any]:
    """Return values of a column from a model's numbers.

    Parameters
    ----------
    column : Column
        One that is modelled.
    values : ndarray, shape (m,)
    dtype : str
        Name of the native type that is to hold them, whose range they are brought into.
    time : str
        Its ticks, if it holds dates or durations.

    Returns
    -------
    ndarray, shape (m,)
        Of objects for levels, of datetime64, timedelta64, int64, uint64 or float64 otherwise.

    Raises
    ------
    DataError
        For a number that is not finite, or not a code where there are levels.
    """
    wrong = ~np.isfinite(values)
    if column.kind in LEVEL_KINDS:
        wrong |= (values < 0) | (values >= len(column.levels)) | (values != np.rint(values))
    if wrong.any():
        needed = f"a code below {len(column.levels)}" if column.levels else "a finite number"
        raise DataError(
            f"Column {column.name!r} cannot be filled with {values[wrong.argmax()]}; "
            f"{needed} is needed."
        )
    if column.kind in LEVEL_KINDS:
        return np.asarray(_array_of(column.levels)[values.astype(np.int64)])
    if column.kind == "bounded":
        values = np.clip(values, column.low, column.high)
    if column.time:
        ticks = to_ticks(np.rint(values) if column.whole else values, time)
        return (np.maximum(ticks, 1) if column.kind == "positive" else ticks).view(time)
    whole = column.whole
    # Objects that are whole numbers are int.
    limits = integer_limits("int64" if whole and dtype == "object" else dtype)
    if whole or limits is not None:
        return _whole(column, values, limits)
    kind = _small_float(dtype) or np.float64
    lowest = {"count": 0.0, "positive": float(np.finfo(kind).tiny)}.get(column.kind, -np.inf)
    values = np.maximum(values, lowest)
    return np.clip(values, float(np.finfo(kind).min), float(np.finfo(kind).max))


def constant(column: Column, n: int, time: str) -> NDArray[Any]:
    """Return the value of a constant column n times, as `decode` returns values."""
    if column.time:
        return np.full(n, column.levels[0], np.int64).view(column.time).astype(time)
    return np.repeat(_array_of(column.levels), n)


def _array_of(levels: tuple[Scalar, ...]) -> NDArray[Any]:
    if not any(isinstance(level, str) for level in levels):
        return np.array(levels)
    array = np.empty(len(levels), dtype=object)
    array[:] = levels
    return array


def _whole(
    column: Column, values: NDArray[np.float64], limits: tuple[int, int] | None
) -> NDArray[Any]:
    if column.kind == "bounded":
        # Rounding must not leave the bounds.
        values = np.clip(values, np.ceil(column.low or 0.0), np.floor(column.high or 0.0))
    lowest = {"count": 0.0, "positive": 1.0}.get(column.kind, -np.inf)
    whole = np.maximum(np.rint(values), lowest)
    if limits is None:
        return whole
    low, high = limits
    top = float(high) if int(float(high)) <= high else float(np.nextafter(float(high), 0))
    return np.clip(whole, float(low), top).astype(np.int64 if low else np.uint64)


def integer_limits(dtype: str) -> tuple[int, int] | None:
    """Return the range of an integer type by its name, whatever container it is of."""
    if not (match := re.match(r"([Uu]?)[Ii]nt(\d+)", dtype)):
        return None
    bits = int(match[2])
    return (0, (1 << bits) - 1) if match[1] else (-(1 << bits - 1), (1 << bits - 1) - 1)


def _small_float(dtype: str) -> type[np.floating] | None:
    """Return a float type below float64 by its name."""
    if re.match(r"[Ff]loat16|halffloat", dtype):
        return np.float16
    return np.float32 if re.match(r"[Ff]loat32|float\[", dtype) else None


def fits(column: Column, cells: Cells) -> bool:
    """Whether the native type that cells came in can hold the column's values."""
    family = cells.family
    if family in ("empty", "other"):
        return family == "other" or cells.dtype == column.dtype
    if column.time:
        return family == ("date" if column.is_date else "duration")
    if family == "category":
        return bool(column.levels)
    if all(isinstance(level, str) for level in column.levels) and column.levels:
        return family == "text"
    if family == "bool":
        return bool(column.levels) and set(column.levels) <= {False, True}
    if family == "integer" and cells.objects is None:
        low, high = integer_limits(cells.dtype) or (-np.inf, np.inf)
        numbers = [v for v in column.levels if not isinstance(v, str)]
        return all(low <= v <= high and v == int(v) for v in numbers)
    return cells.is_number
