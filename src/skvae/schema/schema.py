"""Schema: what the columns of a table are, and the exact way to numbers and back."""

import re
import warnings
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import (
    DataError,
    ModelFileError,
    ParameterError,
    UnseenCategoryWarning,
    did_you_mean,
)
from skvae.schema import codec
from skvae.schema.cells import Cells, is_missing
from skvae.schema.columns import CONTAINERS, Column, Scalar
from skvae.schema.containers import builder_of, table_of
from skvae.schema.rules import Declared, infer_column
from skvae.schema.tables import Table

__all__ = ["Schema"]


@dataclass(frozen=True)
class Schema:
    """What each column of a table is, and the exact way to numbers and back.

    Parameters
    ----------
    columns : tuple of Column
    container : {"pandas", "polars", "numpy"}
        What `decode` returns.
    missing_values : str, int, float or None
        A value that marks a missing cell, beside None, NaN, NaT and NA, which always do.

    Notes
    -----
    `infer` decides by these rules, the first that fits, on the values that are there:

    =====================================================================  ====================
    column                                                                 kind
    =====================================================================  ====================
    declared as text                                                       text
    no value at all                                                        constant, no level
    one distinct value, whatever is declared                               constant
    declared in ``kinds``                                                  that one
    dates; durations                                                       datetime; real
    booleans, two declared categories, two strings, the numbers 0 and 1    binary
    ordered categories (pandas)                                            ordinal
    other declared categories, at most 10,000                              categorical
    strings: over 50 distinct, and over half of the cells are distinct or  text
    their mean length is over 60; or over 10,000 distinct
    other strings                                                          categorical
    integers in even steps, as 1, 2, 3, …, over 100 of them                text
    whole numbers >= 0: three or more distinct, the largest from 3 to      count
    below 1e6, variance >= mean / 2, skewness > 0.5
    numbers > 0 with skewness > 2 or a largest over 50 medians             positive
    other numbers                                                          real
    =====================================================================  ====================

    Levels are in the order that the type declares, or sorted; categories that are declared and
    not used stay levels. A bounded column is never guessed. Mixed types and infinity are errors.
    """

    columns: tuple[Column, ...]
    container: str
    missing_values: Scalar | None = None

    def __post_init__(self) -> None:
        if self.container not in CONTAINERS:
            raise ParameterError(
                f"Schema: container must be one of {', '.join(map(repr, CONTAINERS))}; "
                f"received {self.container!r:.80}."
            )
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names):
            raise ParameterError(f"Schema: names of columns must be distinct: {names!r:.200}.")
        if self.container == "numpy":
            if names != list(range(len(names))) or len({c.dtype for c in self.columns}) > 1:
                raise ParameterError("Schema: columns of an array are numbered and of one type.")
        elif self.container == "polars" and not all(isinstance(n, str) for n in names):
            raise ParameterError("Schema: names of a polars frame's columns must be str.")
        for column in self.columns:
            if not column.goes_into(self.container):
                raise ParameterError(
                    f"Schema: column {column.name!r:.80} of {self.container} has the type "
                    f"{column.dtype!r:.80}, which does not go with {column.kind} and its levels."
                )

    @classmethod
    def infer(
        cls,
        X: Any,
        kinds: Mapping[str | int, Any] | None = None,
        *,
        missing_values: object = np.nan,
    ) -> "Schema":
        """Find out what the columns of a table are, by the rules in the notes.

        Parameters
        ----------
        X : DataFrame of pandas or polars, or two-dimensional array
        kinds : mapping from column to kind, optional
            Overrides, as ``{"age": "count", "score": ("bounded", 0, 1), "id": "text", "grade":
            ("ordinal", ["low", "mid", "high"])}``. A mapping with ``"kind"`` and ``"levels"``, or
            ``"low"`` and ``"high"``, says the same. Bounds of dates and durations are in the
            numbers of `encode`.
        missing_values : scalar, default=nan
            A further mark of a missing cell, such as -999 or ``"?"``.

        Raises
        ------
        DataError
            The table is empty, or a column has infinite values, values of mixed types, or values
            that contradict what is declared; the message names the column, the row and the value.
        ParameterError
            ``kinds`` names an unknown column or kind, or says too little.
        """
        table = table_of(X)
        if not table.n_rows or not table.names:
            raise DataError(f"The table has {table.n_rows} rows and {len(table.names)} columns.")
        declared = _parse(kinds, table.names)
        missing_value = _missing_value(missing_values)
        columns = tuple(
            infer_column(name, table.cells(j, missing_value), declared.get(name))
            for j, name in enumerate(table.names)
        )
        return cls(columns, table.kind, missing_value)

    @property
    def modelled(self) -> tuple[int, ...]:
        """Positions of the columns that are numbers for a model: not constant, text or empty."""
        return tuple(i for i, column in enumerate(self.columns) if column.is_modelled)

    def check(self, X: Any) -> None:
        """Raise unless a table has the columns of the schema; frames may have them in any order.

        Where the schema or the table is of an array, columns are told by their positions.

        Raises
        ------
        DataError
            Naming the columns that are missing, or added, or there twice.
        """
        self._places(table_of(X))

    def missing(self, X: Any) -> NDArray[np.bool_]:
        """Return which cells are missing, shape (n, p): of all columns, in the schema's order."""
        table = table_of(X)
        places = self._places(table)
        return np.stack([table.cells(j, self.missing_values).missing for j in places], axis=1)

    def encode(
        self, X: Any, *, unseen: Literal["missing", "error"] = "missing"
    ) -> NDArray[np.float64]:
        """Return the modelled columns as numbers, NaN where missing, shape (n, d).

        Numbers as they are, dates as days since 1970-01-01 (UTC), durations as seconds, levels as
        their codes 0, 1, …; columns in the order of `modelled`.

        Parameters
        ----------
        X : DataFrame or array
            In any container, with the columns of the schema.
        unseen : {"missing", "error"}
            What to do with categories that the fit did not see, and numbers outside of what the
            kind allows: "missing" gives NaN with a warning, and `fill` leaves the cells as they
            are.

        Raises
        ------
        DataError
            Other columns, infinity, values of a type that is not the column's, or, with
            ``unseen="error"``, such a value.
        """
        if unseen not in ("missing", "error"):
            raise ParameterError(f"unseen must be 'missing' or 'error'; received {unseen!r}.")
        table = table_of(X)
        places = self._places(table)
        out = np.empty((table.n_rows, len(self.modelled)))
        told = []
        for k, i in enumerate(self.modelled):
            cells = table.cells(places[i], self.missing_values)
            out[:, k], odd = codec.encode(self.columns[i], cells)
            if odd.any():
                told.append(_told(self.columns[i], cells, odd))
        if told and unseen == "error":
            raise DataError(f"{told[0]}. With unseen='missing' such cells count as unknown.")
        if told:
            message = f"{'; '.join(told)}. They count as unknown."
            warnings.warn(message, UnseenCategoryWarning, stacklevel=2)
        return out

    def fill(self, X: Any, values: NDArray[np.floating]) -> Any:
        """Return a copy of a table whose missing cells are replaced.

        Everything else is as it was: cells that are not missing, types, index, order of columns
        and categories. (A categorical type gets the levels that it lacks, and a column without
        any value whose type cannot hold the new ones gets that of the fit.) Missing cells of a
        constant column get the constant; those of text and of columns that the fit saw no value
        of stay.

        Parameters
        ----------
        X : DataFrame or array
        values : ndarray, shape (n, d)
            Numbers as `encode` returns; those of cells that are not missing are not used. They
            are rounded for columns of whole numbers, and brought into the range of the kind.

        Raises
        ------
        DataError
            A number is not finite or not a code, or the column's type cannot hold the value.
        """
        table = table_of(X)
        places = self._places(table)
        values = self._check_values(values, table.n_rows)
        position = {i: k for k, i in enumerate(self.modelled)}
        new = {}
        for i, (column, j) in enumerate(zip(self.columns, places, strict=True)):
            if not column.is_modelled and not column.levels:
                continue
            cells = table.cells(j, self.missing_values)
            if cells.missing.any():
                numbers = values[cells.missing, position[i]] if column.is_modelled else None
                new[j] = self._filled(table, j, cells, column, numbers)
        return table.with_columns(new)

    def _filled(
        self,
        table: Table,
        j: int,
        cells: Cells,
        column: Column,
        numbers: NDArray[np.float64] | None,
    ) -> Any:
        fits = codec.fits(column, cells)
        dtype, time = (cells.dtype, cells.time or column.time) if fits else ("", column.time)
        if not fits and self.container == table.kind:
            dtype = column.dtype
        if numbers is None:
            decoded = codec.constant(column, int(cells.missing.sum()), time)
        else:
            decoded = codec.decode(column, numbers, dtype, time)
        try:
            if fits:
                return table.put(j, cells.missing, decoded, column)
            if cells.missing.all():
                known = column if self.container == table.kind else None
                return table.series(j, decoded, known)
            problem = "it holds other values"
        except (TypeError, ValueError, OverflowError) as error:
            problem = str(error)
        raise DataError(
            f"Column {column.name!r} of type {cells.dtype} cannot hold {decoded[0]!s:.60}, which "
            f"a column of type {column.dtype} needs: {problem:.200}."
        )

    def decode(self, values: NDArray[np.floating]) -> Any:
        """Return a table made of a model's numbers, shape (n, d), with the types of the fit.

        Constant columns have their constant; text and columns without any value are missing.
        Where their type has no missing value, pandas' nullable one or float64 is taken.

        Raises
        ------
        DataError
            A number is not finite or not a code.
        """
        n = len(values)
        values = self._check_values(values, n)
        position = {i: k for k, i in enumerate(self.modelled)}
        decoded: list[NDArray[Any] | None] = []
        for i, column in enumerate(self.columns):
            if column.is_modelled:
                numbers = values[:, position[i]]
                decoded.append(codec.decode(column, numbers, column.dtype, column.time))
            elif column.levels:
                decoded.append(codec.constant(column, n, column.time))
            else:
                decoded.append(None)
        return builder_of(self.container).build(self.columns, decoded, n)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` turns back into an equal schema."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "container": self.container,
            "missing_values": self.missing_values,
        }

    @classmethod
    def from_json(cls, data: object) -> "Schema":
        """Build the schema that `to_json` described.

        Raises
        ------
        ModelFileError
            For anything that cannot be a schema.
        """
        fields = {"columns", "container", "missing_values"}
        if not isinstance(data, dict) or data.keys() != fields:
            raise ModelFileError(f"expected a schema, found {data!r:.80}.")
        if not isinstance(data["columns"], list):
            raise ModelFileError(f"expected a list of columns, found {data['columns']!r:.80}.")
        columns = tuple(map(Column.from_json, data["columns"]))
        for column in columns:
            _check_zone(column)
        try:
            return cls(columns, data["container"], _missing_value(data["missing_values"]))
        except ParameterError as error:
            raise ModelFileError(str(error)) from error

    def _places(self, table: Table) -> list[int]:
        """Return where the table has each column of the schema."""
        names = [column.name for column in self.columns]
        if "numpy" in (self.container, table.kind):
            if len(table.names) != len(names):
                raise DataError(
                    f"The table has {len(table.names)} columns, but {len(names)} were there in "
                    "the fit."
                )
            return list(range(len(names)))
        place = {name: j for j, name in enumerate(table.names)}
        known = set(names)
        lacking = [name for name in names if name not in place]
        added = [name for name in table.names if name not in known]
        if lacking or added:
            told = [
                f"{what}: {', '.join(map(repr, odd[:10]))}{', …' if len(odd) > 10 else ''}"
                for what, odd in (("missing", lacking), ("not there in the fit", added))
                if odd
            ]
            raise DataError(f"The columns are not those of the fit; {'; '.join(told)}.")
        return [place[name] for name in names]

    def _check_values(self, values: NDArray[np.floating], n: int) -> NDArray[np.float64]:
        numbers: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        if numbers.shape != (n, len(self.modelled)):
            raise DataError(
                f"values have shape {numbers.shape}; ({n}, {len(self.modelled)}) is needed."
            )
        return numbers


def _check_zone(column: Column) -> None:
    zone = column.dtype.partition(", ")[2].removesuffix("]")
    if not column.is_date or not zone or re.fullmatch(r"UTC([+-]\d\d:\d\d)?", zone):
        return
    known = zoneinfo.available_timezones()  # none where the system and Python have no data
    if known and zone not in known:
        raise ModelFileError(f"column {column.name!r:.80}: unknown time zone {zone!r:.80}.")


def _parse(
    kinds: Mapping[str | int, Any] | None, names: list[str | int]
) -> dict[str | int, Declared]:
    if kinds is not None and not isinstance(kinds, Mapping):
        raise ParameterError(f"kinds must map columns to kinds; received {kinds!r:.80}.")
    for name in kinds or {}:
        if name not in names:
            hint = did_you_mean(str(name), [n for n in names if isinstance(n, str)])
            shown = ", ".join(map(repr, names[:10])) + (", …" if len(names) > 10 else "")
            raise ParameterError(
                f"kinds has {name!r:.80}, which is no column.{hint} Columns: {shown}."
            )
    return {name: Declared.parse(name, value) for name, value in (kinds or {}).items()}


def _missing_value(value: Any) -> Scalar | None:
    if is_missing(value):
        return None
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, str) or (type(plain) in (int, float) and np.isfinite(plain)):
        known: Scalar = plain
        return known
    raise ParameterError(
        f"missing_values must be NaN, None, a str or a finite number; received {value!r:.80}."
    )


def _told(column: Column, cells: Cells, odd: NDArray[np.bool_]) -> str:
    """Return which values of a column are not in its domain, up to three."""
    rows = np.flatnonzero(odd)
    shown = list(dict.fromkeys(repr(cells.value(row))[:40] for row in rows[:1000]))
    more = " and others" if len(shown) > 3 else ""
    return (
        f"Column {column.name!r} ({column.kind}), row {rows[0]}: {', '.join(shown[:3])}{more} "
        f"not {codec.domain(column)} ({len(rows)} cell(s))"
    )
