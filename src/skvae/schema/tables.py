"""What a schema asks of a container; NumPy's arrays."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.schema.cells import Cells, of_array, of_dates, of_labels, of_objects
from skvae.schema.columns import Column, Scalar

__all__ = ["ArrayTable", "Table"]

Mask = NDArray[np.bool_]


class Table(abc.ABC):
    """A table in a container.

    Attributes
    ----------
    names : list of str or int
        Names of the columns in their order.
    n_rows : int
    """

    kind: str
    names: list[str | int]
    n_rows: int

    @abc.abstractmethod
    def cells(self, j: int, missing_value: Scalar | None) -> Cells:
        """Read column j."""

    @abc.abstractmethod
    def put(self, j: int, mask: Mask, values: NDArray[Any], column: Column) -> Any:
        """Return the native column j with other values where the mask is set.

        Raises
        ------
        TypeError, ValueError, OverflowError
            Its type cannot hold them.
        """

    @abc.abstractmethod
    def with_columns(self, columns: dict[int, Any]) -> Any:
        """Return a copy of the container with native columns in the place of its own."""

    @abc.abstractmethod
    def series(self, j: int, values: NDArray[Any], column: Column | None) -> Any:
        """Return a native column j made of values, as the column's type where that is given."""

    @staticmethod
    @abc.abstractmethod
    def build(columns: Sequence[Column], values: Sequence[NDArray[Any] | None], n: int) -> Any:
        """Return a container of columns with n rows, None for those without any value."""


class ArrayTable(Table):
    """A two-dimensional array."""

    kind = "numpy"

    def __init__(self, X: NDArray[Any]) -> None:
        self.X = X
        self.n_rows, n = X.shape
        self.names = list(range(n))

    def cells(self, j: int, missing_value: Scalar | None) -> Cells:
        """Read column j."""
        values = self.X[:, j]
        known = np.zeros(self.n_rows, np.bool_)
        dtype = "str" if self.X.dtype.kind == "U" else self.X.dtype.name
        if self.X.dtype.kind == "O":
            return of_objects(values, dtype, missing_value)
        if self.X.dtype.kind == "U":
            return of_labels(values.tolist(), known, dtype, missing_value)
        if self.X.dtype.kind in "Mm":
            return of_dates(values.astype(dtype).view(np.int64), np.isnat(values), dtype, dtype)
        return of_array(values, known, dtype, missing_value)

    def put(self, j: int, mask: Mask, values: NDArray[Any], column: Column) -> NDArray[Any]:
        """Return column j with other values where the mask is set."""
        if self.X.dtype.kind == "U":  # which may be too narrow
            out = self.X[:, j].astype(np.result_type(self.X.dtype, values.astype(np.str_).dtype))
        else:
            out = self.X[:, j].copy()
        out[mask] = values
        return out

    def series(self, j: int, values: NDArray[Any], column: Column | None) -> NDArray[Any]:
        """Return values; an array has one type for all columns."""
        if self.X.dtype.kind == "O":
            return values.astype(object)
        raise TypeError(f"an array of {self.X.dtype} has no column of another type")

    def with_columns(self, columns: dict[int, NDArray[Any]]) -> NDArray[Any]:
        """Return a copy of the array with other columns."""
        out = self.X.astype(np.result_type(self.X.dtype, *(c.dtype for c in columns.values())))
        for j, values in columns.items():
            out[:, j] = values
        return out

    @staticmethod
    def build(
        columns: Sequence[Column], values: Sequence[NDArray[Any] | None], n: int
    ) -> NDArray[Any]:
        """Return an array of the columns' type, float64 where that has no missing value."""
        dtype = np.dtype(columns[0].dtype)
        known = [cells for cells in values if cells is not None]
        if len(known) < len(values) and dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        if dtype.kind == "U":
            dtype = np.result_type("U1", *(cells.astype(np.str_).dtype for cells in known))
        empty = {"f": np.nan, "M": "NaT", "m": "NaT", "O": None, "U": ""}.get(dtype.kind, 0)
        out = np.full((n, len(columns)), empty, dtype=dtype)
        for j, cells in enumerate(values):
            if cells is not None:
                out[:, j] = cells.astype(object) if dtype.kind == "O" else cells
        return out
