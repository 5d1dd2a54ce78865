"""The cells of one column as arrays, whatever container they came in."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError
from skvae.schema.columns import Scalar
from skvae.schema.times import to_days, to_seconds

__all__ = ["Cells", "is_missing", "of_array", "of_dates", "of_labels", "of_objects"]

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Cells:
    """A column that has been read.

    Attributes
    ----------
    family : str
        ``"bool"``, ``"integer"``, ``"float"``, ``"text"``, ``"category"``, ``"date"``,
        ``"duration"``, ``"empty"`` for a type that says nothing and no values, or ``"other"``.
    dtype : str
        Name of the native type.
    missing : ndarray of bool, shape (n,)
    values : ndarray, shape (n,)
        Numbers, whatever stands in a missing cell; of dates and durations the ticks; of text and
        categories positions in ``uniques``, −1 where missing; otherwise the objects.
    uniques : tuple
        Distinct values of text and categories.
    declared : bool
        Whether ``uniques`` are the categories that the type declares, in their order.
    ordered : bool
    categories_dtype : str
    time : str
        As in `Column`.
    why : str
        Of ``"other"``: what is wrong with it.
    objects : ndarray of object, shape (n,), or None
        The cells as they came, if they came as objects.
    """

    family: str
    dtype: str
    missing: Mask
    values: NDArray[Any]
    uniques: tuple[Any, ...] = ()
    declared: bool = False
    ordered: bool = False
    categories_dtype: str = ""
    time: str = ""
    why: str = ""
    objects: NDArray[np.object_] | None = None

    @property
    def is_number(self) -> bool:
        """Whether arithmetic means something."""
        return self.family in ("bool", "integer", "float")

    def numbers(self) -> NDArray[np.float64]:
        """Return numbers, days since 1970 or seconds, NaN where missing, shape (n,)."""
        if self.family == "date":
            values = to_days(self.values, self.time)
        elif self.family == "duration":
            values = to_seconds(self.values, self.time)
        else:
            values = self.values.astype(np.float64)
        values[self.missing] = np.nan
        return values

    def factorized(self, *, as_text: bool = False) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
        """Return the position of each cell among distinct values, −1 where missing, and those.

        Parameters
        ----------
        as_text : bool
            Tell values apart by their ``str``.
        """
        codes = np.full(len(self.missing), -1)
        if as_text and (self.objects is not None or self.family == "other"):
            objects = self.values if self.objects is None else self.objects
            codes[~self.missing], uniques = _factorize([*map(str, objects[~self.missing])])
            return codes, uniques
        if self.family in ("text", "category"):
            return self.values, tuple(map(str, self.uniques)) if as_text else self.uniques
        distinct, codes[~self.missing] = np.unique(self.values[~self.missing], return_inverse=True)
        return codes, tuple(map(str, distinct) if as_text else distinct.tolist())

    def value(self, row: int) -> Any:
        """Return what a person would call the value of a cell that is not missing."""
        value = self.values[row]
        if self.family in ("text", "category"):
            return self.uniques[value]
        if self.time:
            return str(value.astype(np.int64).view(self.time))
        return value.item() if isinstance(value, np.generic) else value

    def check_finite(self, name: str | int) -> None:
        """Raise for infinity.

        Raises
        ------
        DataError
            Naming column, row and value.
        """
        if self.family != "float" or not (infinite := np.isinf(self.values) & ~self.missing).any():
            return
        row = int(infinite.argmax())
        raise DataError(
            f"Column {name!r}, row {row}: {self.values[row]} is not a finite number; "
            f"{int(infinite.sum())} cell(s) of the column are infinite. Replace them, or mark "
            "them as missing."
        )


def of_array(
    values: NDArray[Any], missing: Mask, dtype: str, missing_value: Scalar | None
) -> Cells:
    """Return cells of a type of booleans, integers or floats.

    Parameters
    ----------
    values : ndarray of such a type, shape (n,)
    missing : ndarray of bool, shape (n,)
    dtype : str
    missing_value : scalar or None
        Counts as missing, too.
    """
    family = {"b": "bool", "i": "integer", "u": "integer", "f": "float"}[values.dtype.kind]
    if family == "float":
        missing = missing | np.isnan(values)
    if missing_value is not None and not isinstance(missing_value, str):
        missing = missing | (values == missing_value)
    return Cells(family, dtype, missing, values)


def of_dates(ticks: NDArray[np.int64], missing: Mask, dtype: str, time: str) -> Cells:
    """Return cells of dates (time ``"datetime64[…]"``) or durations (``"timedelta64[…]"``)."""
    family = "date" if time.startswith("datetime64") else "duration"
    return Cells(family, dtype, missing, ticks, time=time)


def of_labels(values: list[str], missing: Mask, dtype: str, missing_value: Scalar | None) -> Cells:
    """Return cells of strings, of which those that are not missing are given."""
    codes = np.full(len(missing), -1)
    codes[~missing], uniques = _factorize(values)
    if missing_value in uniques:
        codes[codes == uniques.index(missing_value)] = -1
    return Cells("text", dtype, codes < 0, codes, uniques)


def of_objects(values: NDArray[np.object_], dtype: str, missing_value: Scalar | None) -> Cells:
    """Return cells of an array of Python objects, as what all of them are.

    Whole numbers and fractions together are numbers; a boolean beside them is a mixture.
    """
    return replace(_of_objects(values, dtype, missing_value), objects=values)


def _of_objects(values: NDArray[np.object_], dtype: str, missing_value: Scalar | None) -> Cells:
    missing = np.fromiter(
        (type(v) is not str and is_missing(v) for v in values), np.bool_, len(values)
    )
    if missing_value is not None:
        same = (_same(v, missing_value) for v in values)
        missing |= np.fromiter(same, np.bool_, len(values))
    known = values[~missing]
    families = {t: _family_of(t) for t in set(map(type, known))}
    found = set(families.values())
    if not found:
        return Cells("empty", dtype, missing, np.full(len(values), -1))
    if found == {"text"}:
        return of_labels(known.tolist(), missing, dtype, None)
    if found <= {"integer", "float"}:
        family = "integer" if found == {"integer"} and _fits_64_bits(known) else "float"
        numbers = np.zeros(len(values), np.int64 if family == "integer" else np.float64)
        try:
            numbers[~missing] = known.astype(numbers.dtype)
        except OverflowError:
            why = "holds an integer that is larger than any float64"
            return Cells("other", dtype, missing, values, why=why)
        return Cells(family, dtype, missing, numbers)
    if found == {"bool"}:
        return Cells("bool", dtype, missing, np.where(missing, False, values).astype(np.bool_))
    if len(found) == 1 and (time := _time_of(found, known)):
        ticks = np.zeros(len(values), np.int64)
        ticks[~missing] = known.astype(time).view(np.int64)
        return of_dates(ticks, missing, dtype, time)
    return Cells("other", dtype, missing, values, why=_why(values, missing, families))


def is_missing(value: Any) -> bool:
    """Whether an object is None, NaN, NaT or pandas' NA."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    # Of numbers only: others, such as arrays, may answer != with no truth value.
    return isinstance(value, float | np.generic) and bool(value != value)


def _factorize(values: list[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    uniques = tuple(dict.fromkeys(values))
    index = {value: code for code, value in enumerate(uniques)}
    return np.fromiter(map(index.__getitem__, values), np.int64, len(values)), uniques


def _same(value: Any, missing_value: Scalar) -> bool:
    kinds = (str,) if isinstance(missing_value, str) else (int, float, np.number, np.bool_)
    return isinstance(value, kinds) and bool(value == missing_value)


def _fits_64_bits(integers: Sequence[Any] | NDArray[Any]) -> bool:
    return max(abs(int(v)) for v in integers) < 1 << 63


FAMILIES: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((bool, np.bool_), "bool"),  # before int, whose subclass bool is; so are the two below
    ((int, np.integer), "integer"),
    ((float, np.floating), "float"),
    (str, "text"),
    (dt.datetime, "moment"),
    (dt.date, "day"),
    (dt.timedelta, "duration"),
)


def _family_of(kind: type) -> str:
    return next((name for base, name in FAMILIES if issubclass(kind, base)), kind.__name__)


def _time_of(found: set[str], known: NDArray[np.object_]) -> str:
    """Return the type of ticks for objects of one family; empty if they are no such objects."""
    (family,) = found
    if family == "moment" and any(v.tzinfo is not None for v in known):
        return ""
    return {
        "moment": "datetime64[us]",
        "day": "datetime64[D]",
        "duration": "timedelta64[us]",
    }.get(family, "")


def _why(values: NDArray[np.object_], missing: Mask, families: dict[type, str]) -> str:
    """Return two values of different types and their rows, or one of a type that is unknown."""
    known = np.flatnonzero(~missing)
    first = values[known[0]]
    row = next((r for r in known if families[type(values[r])] != families[type(first)]), None)
    start = f"{_shown(first)} in row {known[0]}"
    if row is None:
        zone = " with a time zone" if isinstance(first, dt.datetime) else ""
        return f"holds objects of a type that is not known here{zone}: {start}"
    return f"mixes types: {start} and {_shown(values[row])} in row {row}"


def _shown(value: Any) -> str:
    return f"{value!r:.60} ({type(value).__name__})"
