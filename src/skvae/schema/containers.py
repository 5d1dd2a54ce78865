"""Which kind of table something is."""

from collections import Counter
from typing import Any

import numpy as np

from skvae.exceptions import DataError
from skvae.schema.columns import dtype_family
from skvae.schema.tables import ArrayTable, Table

__all__ = ["builder_of", "table_of"]


def table_of(X: Any) -> Table:
    """Return the table that a frame of pandas or polars, an array or nested lists are.

    Raises
    ------
    DataError
        It is no table with two dimensions, or two columns have the same name.
    """
    kinds = {(t.__module__.partition(".")[0], t.__name__) for t in type(X).__mro__}
    if {("polars", "LazyFrame"), ("polars", "Series"), ("pandas", "Series")} & kinds:
        raise DataError(f"A data frame is needed; received a {type(X).__name__}.")
    table: Table
    if ("pandas", "DataFrame") in kinds:
        from skvae.schema.pandas_table import PandasTable

        table = PandasTable(X)
    elif ("polars", "DataFrame") in kinds:
        from skvae.schema.polars_table import PolarsTable

        table = PolarsTable(X)
    else:
        return _array_table(X)
    if twice := [name for name, n in Counter(table.names).items() if n > 1]:
        raise DataError(f"Columns with the same name: {', '.join(map(repr, twice))}.")
    if odd := [n for n in table.names if type(n) not in (str, int)]:
        raise DataError(
            f"Names of columns must be str or int; {odd[0]!r:.80} is {type(odd[0]).__name__}."
        )
    return table


def builder_of(container: str) -> type[Table]:
    """Return the class that builds tables of a kind."""
    if container == "numpy":
        return ArrayTable
    if container == "pandas":
        from skvae.schema.pandas_table import PandasTable

        return PandasTable
    from skvae.schema.polars_table import PolarsTable

    return PolarsTable


def _array_table(X: Any) -> ArrayTable:
    if isinstance(X, np.ma.MaskedArray):
        raise DataError("X is a masked array; fill its masked cells with NaN.")
    if hasattr(X, "toarray"):
        raise DataError("X is sparse; make it dense with X.toarray().")
    try:
        array = np.asarray(X)
    except ValueError as error:
        raise DataError(f"X is not a table: {error}") from error
    if not isinstance(X, np.ndarray) and array.dtype.kind == "U":
        array = np.array(X, dtype=object)  # [1, "a"] would be two strings
    if array.ndim != 2:
        raise DataError(f"A table with two dimensions is needed; X has shape {array.shape}.")
    if array.dtype.kind != "U" and dtype_family(array.dtype.name, "numpy") is None:
        raise DataError(
            f"An array of {array.dtype} is no table of numbers, strings, dates or objects."
        )
    return ArrayTable(array)
