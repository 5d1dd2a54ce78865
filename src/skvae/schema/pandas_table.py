"""pandas' frames."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError
from skvae.schema.cells import Cells, of_array, of_dates, of_labels, of_objects
from skvae.schema.columns import Column, Scalar, dtype_family
from skvae.schema.tables import Mask, Table

__all__ = ["PandasTable"]


class PandasTable(Table):
    """A pandas DataFrame."""

    kind = "pandas"

    def __init__(self, X: Any) -> None:
        if X.columns.nlevels > 1:
            raise DataError(
                f"The columns have names of {X.columns.nlevels} levels, such as "
                f"{X.columns[0]!r}; flatten them, as with X.columns.map('_'.join)."
            )
        self.X = X
        self.n_rows = len(X)
        self.names = X.columns.tolist()

    def cells(self, j: int, missing_value: Scalar | None) -> Cells:
        """Read column j."""
        import pandas as pd

        series = self.X.iloc[:, j]
        dtype, missing = series.dtype, series.isna().to_numpy()
        if isinstance(dtype, pd.CategoricalDtype):
            return _categorical(series.array, missing_value)
        name = _name_of(dtype)
        family = dtype_family(name, self.kind)
        if family == "object":
            return of_objects(series.to_numpy(), name, missing_value)
        if family == "text":
            known = series.to_numpy(object)[~missing].tolist()
            return of_labels(known, missing, name, missing_value)
        if family in ("date", "duration"):
            index = (pd.DatetimeIndex if family == "date" else pd.TimedeltaIndex)(series)
            time = f"{'datetime64' if family == 'date' else 'timedelta64'}[{index.unit}]"
            return of_dates(index.asi8, missing, name, time)
        if family is None:
            why = f"has the type {name}, which is not known here"
            return Cells("other", name, missing, series.to_numpy(object), why=why)
        plain = {"bool": "bool", "float": "float64"}.get(
            family, "uint64" if name.lower().startswith("u") else "int64"
        )
        if isinstance(dtype, np.dtype):
            return of_array(series.to_numpy(), missing, name, missing_value)
        filler = {"float": np.nan, "bool": False}.get(family, 0)
        return of_array(series.to_numpy(plain, na_value=filler), missing, name, missing_value)

    def put(self, j: int, mask: Mask, values: NDArray[Any], column: Column) -> Any:
        """Return column j with other values where the mask is set."""
        import pandas as pd

        series = self.X.iloc[:, j]
        array, dtype = series.array, series.dtype
        if isinstance(dtype, pd.CategoricalDtype):
            return _with_labels(array, mask, values.tolist(), as_text=column.as_text)
        array = array.copy()
        objects = isinstance(dtype, np.dtype) and dtype.kind == "O"
        if values.dtype.kind in "biuf" and not objects:
            # pandas refuses to round to a smaller type.
            values = values.astype(getattr(dtype, "numpy_dtype", dtype))
        elif objects:
            values = values.astype(object)
        elif values.dtype.kind == "M":
            zone = None if isinstance(dtype, np.dtype) else "UTC"
            values = pd.DatetimeIndex(values).tz_localize(zone)
        elif values.dtype.kind == "m":
            values = pd.TimedeltaIndex(values)
        array[mask] = values
        return array

    def series(self, j: int, values: NDArray[Any], column: Column | None) -> Any:
        """Return values as an array, of the column's type where that is given."""
        import pandas as pd

        if column is None:
            return pd.Series(values.tolist() if values.dtype == object else values).array
        return _native(column, values, self.n_rows)

    def with_columns(self, columns: dict[int, Any]) -> Any:
        """Return a copy of the frame with other columns."""
        import pandas as pd

        out = self.X.copy()
        for j, array in columns.items():
            # Without the type, objects that are all strings become a column of strings.
            out.isetitem(j, pd.Series(array, index=out.index, dtype=array.dtype))
        return out

    @staticmethod
    def build(columns: Sequence[Column], values: Sequence[NDArray[Any] | None], n: int) -> Any:
        """Return a frame; integers and booleans without any value are of the nullable types."""
        import pandas as pd

        arrays = [_native(c, v, n) for c, v in zip(columns, values, strict=True)]
        series = [pd.Series(array, dtype=array.dtype) for array in arrays]
        return pd.DataFrame({c.name: s for c, s in zip(columns, series, strict=True)})


def _name_of(dtype: Any) -> str:
    import pandas as pd

    if isinstance(dtype, pd.StringDtype) and pd.api.types.pandas_dtype(str(dtype)) != dtype:
        return f"{dtype}[{dtype.storage}]"
    return str(dtype)


def _categorical(array: Any, missing_value: Scalar | None) -> Cells:
    categories, codes = array.categories.tolist(), np.array(array.codes, np.int64)
    dtype = _name_of(array.categories.dtype)
    if missing_value in categories:
        gone = categories.index(missing_value)
        codes[codes == gone] = -1
        codes[codes > gone] -= 1
        del categories[gone]
    return Cells(
        "category",
        "category",
        codes < 0,
        codes,
        tuple(categories),
        declared=True,
        ordered=bool(array.ordered),
        categories_dtype=dtype if dtype_family(dtype, "pandas") else "",
    )


def _with_labels(array: Any, mask: Mask, labels: list[Any], *, as_text: bool) -> Any:
    """Return a categorical with some cells replaced, and with categories that it lacks added."""
    import pandas as pd

    known = array.categories.tolist()
    keys = list(map(str, known)) if as_text else known
    if new := sorted(set(labels) - set(keys)):
        array = array.add_categories(new)
    index = {key: code for code, key in enumerate([*keys, *new])}
    codes = np.array(array.codes, np.int64)
    codes[mask] = [index[label] for label in labels]
    return pd.Categorical.from_codes(codes, dtype=array.dtype)


def _native(column: Column, values: NDArray[Any] | None, n: int) -> Any:
    """Return an array of the column's type, whose cells are all missing if values is None."""
    import pandas as pd

    if column.dtype == "category":
        categories = pd.Index(list(column.categories), dtype=column.categories_dtype or None)
        dtype = pd.CategoricalDtype(categories, column.ordered)
        return pd.Categorical([None] * n if values is None else values.tolist(), dtype=dtype)
    family = dtype_family(column.dtype, "pandas")
    if values is None:
        nullable = {"bool": "boolean"}
        name = column.dtype if family else "object"
        if family == "integer":
            name = name.replace("uint", "UInt").replace("int", "Int")
        return pd.Series(index=range(n), dtype=nullable.get(name, name)).array
    if family == "object":
        return pd.Series(values.astype(object), dtype=object).array
    if family == "date" and "," in column.dtype:
        values = pd.DatetimeIndex(values).tz_localize("UTC")
    return pd.Series(values).astype(column.dtype).array
