"""What an estimator of tables does with columns: learn, check, encode, and give back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from skvae.estimators._base import AllOrNothing, Array
from skvae.estimators._containers import container_of, to_numpy, widened
from skvae.exceptions import DataError, DataWarning

if TYPE_CHECKING:
    from skvae.schema import Schema

__all__ = ["TableFace"]


class TableFace(AllOrNothing, BaseEstimator):  # type: ignore[misc]
    """An estimator of tables whose columns a `Schema` describes.

    Subclasses have the parameters ``kinds``, ``unseen``, ``missing_values``, ``add_indicator`` and
    ``keep_empty_features``.
    """

    kinds: Mapping[Any, Any] | None
    unseen: Literal["missing", "error"]
    missing_values: Any
    add_indicator: bool
    keep_empty_features: bool
    schema_: Schema
    n_features_in_: int
    _kept: NDArray[np.intp]
    _indicated: NDArray[np.intp]

    def _learned(self, X: Any) -> Array:
        """Check X, learn its columns, and return it as numbers (n, D), NaN where missing."""
        from skvae.schema import Schema

        self._validate_params()
        table = self._checked(X, reset=True)
        self.schema_ = Schema.infer(table, self.kinds, missing_values=self.missing_values)
        missing = self.schema_.missing(table)
        empty = missing.all(0)
        self._empty = np.flatnonzero(empty)
        self._kept = np.flatnonzero(~empty | self.keep_empty_features)
        self._indicated = np.flatnonzero(missing.any(0)) if self.add_indicator else np.arange(0)
        names = [str(column.name) for column in self.schema_.columns]
        if len(self._empty) and not self.keep_empty_features:
            _warn("has no value and is left out", [names[j] for j in self._empty])
        text = [
            j
            for j, c in enumerate(self.schema_.columns)
            if c.kind == "text" and missing[:, j].any()
        ]
        if text:
            _warn(
                "is taken for an identifier or free text, so that its holes stay (kinds= can make "
                "it categorical)",
                [names[j] for j in text],
            )
        return self.schema_.encode(table)

    def _checked(self, X: Any, *, reset: bool = False) -> Any:
        """Compare the columns with those of `fit`, and return X as a table that a schema takes."""
        if isinstance(X, str | os.PathLike):
            X = _opened(X)
        X = to_numpy(X)
        if not reset and self.schema_.container == "numpy" and container_of(X) != "numpy":
            validate_data(self, X, reset=False, skip_check_array=True)  # warns of the names
            X = np.asarray(X)
        if container_of(X) == "numpy":
            X = check_array(
                widened(X),
                dtype=None,
                ensure_all_finite=False,
                ensure_2d=True,
                estimator=self,
                input_name="X",
            )
            if X.dtype.kind in "US":
                X = X.astype(object)
            if X.dtype.kind in "biu":
                X = X.astype(np.float64)
        else:
            _check_unique([*X.columns])
        validate_data(self, X, reset=reset, skip_check_array=True)
        return X

    def _encoded(self, X: Any, *, quiet: bool = False) -> tuple[Any, Array]:
        """Return X as a table, and its modelled columns as numbers (n, D), NaN where missing."""
        table = self._checked(X)
        with warnings.catch_warnings():
            if quiet:
                warnings.simplefilter("ignore")
            return table, self.schema_.encode(table, unseen=self.unseen)

    def _completed(self, table: Any, values: Array) -> Any:
        """Return the table with its holes filled by values (n, D), and columns as asked for."""
        filled = self.schema_.fill(table, values)
        missing = self.schema_.missing(table)
        if container_of(table) == "numpy":
            return self._completed_array(filled, missing)
        return self._completed_frame(filled, missing)

    def _completed_array(self, filled: Array, missing: NDArray[np.bool_]) -> Array:
        for j in self._empty if self.keep_empty_features else ():
            filled[missing[:, j], j] = 0
        parts = [filled[:, self._kept]]
        if self.add_indicator:
            parts.append(missing[:, self._indicated].astype(filled.dtype))
        return np.concatenate(parts, 1)

    def _completed_frame(self, filled: Any, missing: NDArray[np.bool_]) -> Any:
        import narwhals as nw

        frame = nw.from_native(filled, eager_only=True)
        names = frame.columns
        for j in self._empty if self.keep_empty_features else ():
            if frame[names[j]].dtype.is_numeric():
                frame = frame.with_columns(nw.col(names[j]).fill_nan(None).fill_null(0))
        if len(self._kept) < len(names):
            frame = frame.select([names[j] for j in self._kept])
        native = frame.to_native()
        if not self.add_indicator:
            return native
        flags = {f"missingindicator_{names[j]}": missing[:, j] for j in self._indicated}
        if container_of(native) == "pandas":
            return native.assign(**flags)
        series = [
            nw.new_series(name, flag, backend=nw.get_native_namespace(frame).__name__)
            for name, flag in flags.items()
        ]
        return frame.with_columns(*series).to_native()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_members")


def _opened(path: str | os.PathLike[str]) -> Any:
    from skvae._frames import ParquetTable, open_table

    table = open_table(path)
    if not isinstance(table, ParquetTable):
        raise DataError(
            f"{os.fspath(path)!r} does not say what its columns are. Read it with pandas or "
            "polars and pass the frame, or use the command: "
            f"skvae impute {os.fspath(path)} -o full.csv"
        )
    return table.frame({})


def _check_unique(names: list[Any]) -> None:
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"X has several columns of the name {', '.join(map(repr, twice))}. Rename them, so "
            "that each can be told from the others."
        )


def _warn(what: str, names: list[str]) -> None:
    listed = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
    warnings.warn(f"Column {listed} {what}.", DataWarning, stacklevel=4)
