"""Polars' frames."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.schema.cells import Cells, of_array, of_dates, of_labels, of_objects
from skvae.schema.columns import Column, Scalar, dtype_family
from skvae.schema.tables import Mask, Table

__all__ = ["PolarsTable"]


class PolarsTable(Table):
    """A polars DataFrame."""

    kind = "polars"

    def __init__(self, X: Any) -> None:
        self.X = X
        self.n_rows = X.height
        self.names = list(X.columns)

    def cells(self, j: int, missing_value: Scalar | None) -> Cells:
        """Read column j."""
        import polars as pl

        series = self.X.to_series(j)
        missing, name = series.is_null().to_numpy(), _name_of(series.dtype)
        family = dtype_family(name, self.kind)
        if name == "Enum":
            return _enum(series, missing, missing_value)
        if family == "object":
            return of_objects(_objects(series), name, missing_value)
        if family in ("text", "category"):
            known = series.cast(pl.String).drop_nulls().to_list()
            return of_labels(known, missing, name, missing_value)
        if family in ("date", "duration"):
            ticks = series.to_physical().fill_null(0).cast(pl.Int64).to_numpy()
            unit = getattr(series.dtype, "time_unit", "D")
            time = f"{'datetime64' if family == 'date' else 'timedelta64'}[{unit}]"
            return of_dates(ticks, missing, name, time)
        if family == "bool":
            values = series.fill_null(value=False).to_numpy()
        elif family == "integer":
            values = series.fill_null(0).to_numpy()
        elif family == "float":
            series = series.cast(pl.Float64) if name.startswith("Decimal") else series
            values = series.fill_null(np.nan).to_numpy()
        else:
            why = f"has the type {name}, which is not known here"
            return Cells("other", name, missing, _objects(series), why=why)
        return of_array(values, missing, name, missing_value)

    def put(self, j: int, mask: Mask, values: NDArray[Any], column: Column) -> Any:
        """Return column j with other values where the mask is set."""
        import polars as pl

        series = self.X.to_series(j)
        if series.dtype == pl.Object:
            cells = _objects(series)
            cells[mask] = values
            return pl.Series(series.name, cells.tolist(), dtype=pl.Object)
        if isinstance(series.dtype, pl.Enum):
            known = series.dtype.categories.to_list()
            if new := sorted(set(values.tolist()) - set(known)):
                series = series.cast(pl.String).cast(pl.Enum([*known, *new]))
        place = np.zeros(self.n_rows, np.int64)
        place[mask] = np.arange(mask.sum())
        filled = _series(values, series.dtype).gather(place)
        return series.zip_with(pl.Series(~mask), filled)

    def series(self, j: int, values: NDArray[Any], column: Column | None) -> Any:
        """Return values as a series, of the column's type where that is given."""
        import polars as pl

        if column is not None:
            return _series(values, _dtype_of(column))
        return pl.Series(values.tolist() if values.dtype == object else values)

    def with_columns(self, columns: dict[int, Any]) -> Any:
        """Return the frame with other columns."""
        return self.X.with_columns(*(s.alias(self.names[j]) for j, s in columns.items()))

    @staticmethod
    def build(columns: Sequence[Column], values: Sequence[NDArray[Any] | None], n: int) -> Any:
        """Return a frame."""
        import polars as pl

        return pl.DataFrame(
            {
                column.name: pl.Series([None] * n, dtype=_dtype_of(column))
                if cells is None
                else _series(cells, _dtype_of(column))
                for column, cells in zip(columns, values, strict=True)
            }
        )


def _objects(series: Any) -> NDArray[np.object_]:
    return np.fromiter(series.to_list(), np.object_, len(series))


def _enum(series: Any, missing: Mask, missing_value: Scalar | None) -> Cells:
    import polars as pl

    categories = series.dtype.categories.to_list()
    codes = series.to_physical().cast(pl.Int64).fill_null(-1).to_numpy().copy()
    if missing_value in categories:
        gone = categories.index(missing_value)
        codes[codes == gone] = -1
        codes[codes > gone] -= 1
        del categories[gone]
    return Cells("category", "Enum", codes < 0, codes, tuple(categories), declared=True)


def _name_of(dtype: Any) -> str:
    import polars as pl

    if isinstance(dtype, pl.Datetime):
        zone = f", {dtype.time_zone}" if dtype.time_zone else ""
        return f"Datetime[{dtype.time_unit}{zone}]"
    if isinstance(dtype, pl.Duration):
        return f"Duration[{dtype.time_unit}]"
    if isinstance(dtype, pl.Decimal):
        return f"Decimal[{dtype.precision}, {dtype.scale}]"
    return "Enum" if isinstance(dtype, pl.Enum) else str(dtype)


def _dtype_of(column: Column) -> Any:
    """Return the type that a column names; Null for one without values that has no name here."""
    import polars as pl

    arguments: list[Any]
    base, *arguments = re.split(r"\[|, |\]", column.dtype)
    if dtype_family(column.dtype, "polars") is None:
        return pl.Null()
    if base == "Enum":
        return pl.Enum(list(map(str, column.categories)))
    if base == "Decimal":
        return pl.Decimal(int(arguments[0]), int(arguments[1]))
    if base == "Datetime":
        return pl.Datetime(arguments[0], arguments[1] or None)
    return pl.Duration(arguments[0]) if base == "Duration" else getattr(pl, base)()


def _series(values: NDArray[Any], dtype: Any) -> Any:
    import polars as pl

    if dtype == pl.Object:
        return pl.Series(values.tolist(), dtype=dtype)
    if values.dtype.kind in "Mm":
        ticks = pl.Series(values.view(np.int64))
        return (ticks.cast(pl.Int32) if dtype == pl.Date else ticks).cast(dtype)
    series = pl.Series(values.tolist()) if values.dtype == object else pl.Series(values)
    return series.cast(dtype)
