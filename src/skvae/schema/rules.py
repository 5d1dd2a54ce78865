"""What kind a column is, by its type and its values."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, ParameterError, did_you_mean
from skvae.schema.cells import Cells
from skvae.schema.codec import domain, encode
from skvae.schema.columns import KINDS, LEVEL_KINDS, Column, Scalar

__all__ = ["Declared", "infer_column"]

MOST_LEVELS = 10_000  # of what is not declared
FEW = 50  # distinct strings that are categories whatever their share
LONG = 60  # characters
LARGEST_COUNT = 1e6
TYPICAL_COUNT = 10  # a median from which on whole numbers are measured rather than counted
IDENTIFIERS = 100  # rows above which even steps are no accident


@dataclass(frozen=True)
class Declared:
    """What a user says of a column."""

    kind: str
    levels: tuple[Scalar, ...] | None = None
    low: float | None = None
    high: float | None = None

    @classmethod
    def parse(cls, name: str | int, value: object) -> "Declared":
        """Read a kind, a tuple that begins with it, or a mapping with the key ``"kind"``.

        Raises
        ------
        ParameterError
        """
        where = f"kinds[{name!r}]"
        if isinstance(value, str):
            kind, rest = value, ()
        elif isinstance(value, Mapping):
            return cls._of_mapping(where, value)
        elif isinstance(value, tuple | list) and value and isinstance(value[0], str):
            kind, rest = value[0], tuple(value[1:])
        else:
            raise ParameterError(
                f"{where} must be a kind, such as 'count', ('bounded', 0, 1) or "
                f"('ordinal', ['low', 'high']); received {value!r:.80}."
            )
        fields = ("low", "high") if kind == "bounded" else ("levels",)
        if len(rest) > len(fields) or (rest and kind not in ("bounded", *LEVEL_KINDS)):
            raise ParameterError(f"{where}: {value!r:.80} has more parts than {kind!r} takes.")
        return cls._of_mapping(where, {"kind": kind, **dict(zip(fields, rest, strict=False))})

    @classmethod
    def _of_mapping(cls, where: str, value: Mapping[Any, Any]) -> "Declared":
        known = ("kind", "levels", "low", "high")
        for key in value:
            if key not in known:
                raise ParameterError(
                    f"{where} has the unknown key {key!r}.{did_you_mean(str(key), known)} "
                    f"Known: {', '.join(known)}."
                )
        kind = value.get("kind")
        if kind not in KINDS:
            raise ParameterError(
                f"{where}: the kind {kind!r} is not known.{did_you_mean(str(kind), KINDS)} "
                f"Known: {', '.join(KINDS)}."
            )
        for keys, kinds in (({"low", "high"}, ("bounded",)), ({"levels"}, LEVEL_KINDS)):
            if kind not in kinds and (odd := sorted(keys & value.keys())):
                raise ParameterError(f"{where}: the kind {kind!r} has no {' and no '.join(odd)}.")
        low, high = value.get("low"), value.get("high")
        if kind == "bounded":
            low, high = _bounds(where, low, high)
        return cls(kind, _levels(where, kind, value.get("levels")), low, high)


def _bounds(where: str, low: object, high: object) -> tuple[float, float]:
    numbers = [_plain(v) for v in (low, high)]
    if all(isinstance(v, int | float) and np.isfinite(v) for v in numbers):
        first, last = map(float, numbers)
        if first < last:
            return first, last
    raise ParameterError(
        f"{where}: a bounded column needs two finite bounds, the first the smaller, as "
        f"('bounded', 0, 1); received {low!r} and {high!r}."
    )


def _levels(where: str, kind: str, levels: object) -> tuple[Scalar, ...] | None:
    if levels is None:
        return None
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise ParameterError(f"{where}: levels must be a list; received {levels!r:.80}.")
    plain = tuple(map(_plain, levels))
    good = all(
        isinstance(v, str | int) or (isinstance(v, float) and np.isfinite(v)) for v in plain
    )
    needed = "two" if kind == "binary" else "two or more"
    enough = len(plain) == 2 if kind == "binary" else len(plain) >= 2
    if not good or not enough or len(set(plain)) < len(plain):
        raise ParameterError(
            f"{where}: a {kind} column needs {needed} distinct levels that are strings, finite "
            f"numbers or booleans; received {plain!r:.80}."
        )
    return plain


def infer_column(name: str | int, cells: Cells, declared: Declared | None) -> Column:
    """Return what a column is.

    Raises
    ------
    DataError
        Where the values are not usable, or contradict what is declared.
    ParameterError
        Where more must be declared.
    """
    native: dict[str, Any] = {"name": name, "dtype": cells.dtype, "time": cells.time}
    if declared is not None and declared.kind == "text":
        return Column(kind="text", **native)
    if cells.missing.all():
        return Column(kind="constant", **native, **_categories(cells))
    by_str = declared is not None and declared.kind in LEVEL_KINDS and cells.objects is not None
    if cells.family == "other" and not by_str:
        raise _odd(name, cells)
    if cells.time and declared is not None and declared.kind in LEVEL_KINDS:
        raise ParameterError(
            f"kinds[{name!r}]: a column of {cells.family}s cannot be {declared.kind}; convert it "
            "to strings first."
        )
    cells.check_finite(name)
    codes, uniques = cells.factorized(as_text=cells.family == "other")
    used = np.flatnonzero(np.bincount(codes[codes >= 0], minlength=len(uniques)))
    native |= _categories(cells)
    as_text = cells.family == "other" or (cells.declared and not all(map(_is_plain, uniques)))
    # Of categories that are no scalars, such as intervals, the str stands for them.
    labels = tuple(map(str, uniques)) if as_text else uniques
    if len(used) == 1 or (declared is not None and declared.kind == "constant"):
        return _constant(cells, labels, used, as_text, declared, native)
    if declared is None:
        declared = _guess(cells, labels, used)
    if declared.kind == "text":
        return Column(kind="text", name=name, dtype=cells.dtype, time=cells.time)
    if declared.kind in LEVEL_KINDS:
        levels = declared.levels or _levels_of(cells, labels, used)
        needs_order = cells.family in ("text", "other") or (cells.declared and not cells.ordered)
        if declared.kind == "ordinal" and declared.levels is None and needs_order:
            raise ParameterError(
                f"Column {name!r}: the order of its values is not known. Declare it, as "
                f"kinds={{{name!r}: ('ordinal', {sorted(map(str, levels))[:4]!r})}} does, in the "
                "right order."
            )
        if declared.kind == "binary" and len(levels) != 2:
            raise DataError(
                f"Column {name!r} has {len(levels)} distinct values, {_some(levels)}, but a "
                "binary column has two."
            )
        if cells.declared:  # so that the type can hold levels that only the user declares
            known = native["categories"]
            native["categories"] = (*known, *(v for v in levels if v not in known))
        column = Column(kind=declared.kind, levels=levels, as_text=as_text, **native)
        return _checked(column, cells)
    return _numeric(cells, declared, native)


def _odd(name: str | int, cells: Cells) -> DataError:
    advice = ", or 'categorical', which tells its values apart by their str"
    return DataError(
        f"Column {name!r} {cells.why}. Convert it to one type, or pass kinds={{{name!r}: 'text'}},"
        f" which leaves the column alone{advice if cells.objects is not None else ''}."
    )


def _numeric(cells: Cells, declared: Declared, native: dict[str, Any]) -> Column:
    """Return a column of numbers, dates or durations, checked against the values."""
    name, kind = native["name"], declared.kind
    fitting = {"datetime": ("date",), "count": ("integer", "float")}.get(
        kind, ("integer", "float", "duration")
    )
    if cells.family not in fitting:
        row = int((~cells.missing).argmax())
        raise DataError(
            f"Column {name!r} cannot be {kind}: it holds {cells.family} values, such as "
            f"{cells.value(row)!r:.60} in row {row}. Convert it first."
        )
    numbers = cells.numbers()
    known = numbers[~np.isnan(numbers)]
    # Dates that are all days, and durations that are all seconds, stay so.
    is_time = cells.family in ("date", "duration")
    whole = cells.family == "integer" or (is_time and bool((known == np.rint(known)).all()))
    seen = float(np.nanmin(numbers)), float(np.nanmax(numbers))
    if kind == "bounded":
        assert declared.low is not None
        assert declared.high is not None
        seen = declared.low, declared.high
    # The range is written only after the values were found to be in the kind's domain.
    limits: dict[str, Any] = {"low": seen[0], "high": seen[1]}
    checked = Column(kind=kind, whole=whole, **native, **(limits if kind == "bounded" else {}))
    _checked(checked, cells)
    return Column(kind=kind, whole=whole, **native, **limits)


def _constant(
    cells: Cells,
    labels: tuple[Any, ...],
    used: NDArray[np.int64],
    as_text: bool,
    declared: Declared | None,
    native: dict[str, Any],
) -> Column:
    if len(used) > 1:
        raise DataError(
            f"Column {native['name']!r} cannot be constant: it has {len(used)} distinct values, "
            f"such as {_some([labels[i] for i in used])}."
        )
    if declared is not None and declared.kind in LEVEL_KINDS:
        if declared.levels is not None:
            column = Column(kind=declared.kind, levels=declared.levels, as_text=as_text, **native)
            _checked(column, cells)
    elif declared is not None and declared.kind != "constant":
        _numeric(cells, declared, native)
    level = labels[used[0]]
    return Column(kind="constant", levels=(level,), as_text=as_text, **native)


def _checked(column: Column, cells: Cells) -> Column:
    """Return the column if all values are in its domain."""
    odd = encode(column, cells)[1]
    if not odd.any():
        return column
    row = int(odd.argmax())
    raise DataError(
        f"Column {column.name!r}, row {row}: {cells.value(row)!r:.60} is not {domain(column)}, "
        f"but the column is declared as {column.kind} ({int(odd.sum())} such cell(s))."
    )


def _guess(cells: Cells, labels: tuple[Any, ...], used: NDArray[np.int64]) -> Declared:
    """Return the kind of a column with at least two distinct values, of which nothing is said."""
    if cells.family in ("date", "duration"):
        return Declared("datetime" if cells.family == "date" else "real")
    if cells.family == "bool":
        return Declared("binary")
    if cells.family in ("text", "category"):
        n_levels = len(labels) if cells.declared else len(used)
        if n_levels == 2:
            return Declared("binary")
        if n_levels > MOST_LEVELS or (
            cells.family == "text" and _is_free_text([labels[i] for i in used], cells)
        ):
            return Declared("text")
        return Declared("ordinal" if cells.ordered else "categorical")
    values = cells.values[~cells.missing]
    if len(used) == 2 and set(labels) == {0, 1}:
        return Declared("binary")
    if cells.family == "integer" and _is_identifier(values):
        return Declared("text")
    numbers = values.astype(np.float64)
    if _is_count(numbers, len(used)):
        return Declared("count")
    return Declared("positive" if _is_positive(numbers) else "real")


def _is_free_text(distinct: list[str], cells: Cells) -> bool:
    if len(distinct) <= FEW:
        return False
    share = len(distinct) / int((~cells.missing).sum())
    return share > 0.5 or sum(map(len, distinct)) > LONG * len(distinct)


def _is_identifier(values: NDArray[Any]) -> bool:
    steps = np.diff(values)
    return len(values) > IDENTIFIERS and bool(steps[0] != 0 and (steps == steps[0]).all())


def _is_count(numbers: NDArray[np.float64], n_distinct: int) -> bool:
    if n_distinct <= 2 or numbers.min() < 0 or not 3 <= numbers.max() < LARGEST_COUNT:
        return False
    if (numbers != np.rint(numbers)).any():
        return False
    if np.median(numbers) >= TYPICAL_COUNT:
        return False
    return bool(numbers.var() >= 0.5 * numbers.mean() and _skewness(numbers) > 0.5)


def _is_positive(numbers: NDArray[np.float64]) -> bool:
    if numbers.min() <= 0:
        return False
    median = np.median(numbers / numbers.max())
    return bool(_skewness(numbers) > 2 or median < 1 / 50)


def _skewness(numbers: NDArray[np.float64]) -> float:
    """Return the third standardised moment of values that are not all equal."""
    scaled = numbers / np.abs(numbers).max()  # cubes of 1e300 stay finite
    centred = scaled - scaled.mean()
    variance = float(np.mean(centred**2))
    return float(np.mean(centred**3)) / variance**1.5 if variance > 0 else 0.0


def _levels_of(
    cells: Cells, labels: tuple[Any, ...], used: NDArray[np.int64]
) -> tuple[Scalar, ...]:
    if cells.family == "bool":
        return (False, True)
    return labels if cells.declared else tuple(sorted(labels[i] for i in used))


def _categories(cells: Cells) -> dict[str, Any]:
    if not cells.declared:
        return {}
    plain = all(map(_is_plain, cells.uniques))
    return {
        "categories": cells.uniques if plain else tuple(map(str, cells.uniques)),
        "ordered": cells.ordered,
        "categories_dtype": cells.categories_dtype if plain else "object",
    }


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _some(values: Iterable[Any]) -> str:
    return ", ".join(f"{v!r:.40}" for v in list(values)[:3])
