"""Estimators on tables of mixed columns: what differs from those on numbers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import validate_data

from skvae.estimators._base import Array
from skvae.estimators._containers import container_of
from skvae.estimators._sequence_face import SequenceFace
from skvae.exceptions import DataError, DataWarning, ModelFileError, ParameterError

if TYPE_CHECKING:
    from skvae.estimators._fit_rows import FitRows
    from skvae.likelihoods import Likelihood
    from skvae.schema import Schema

__all__ = ["MixedFace"]


class MixedFace(SequenceFace):
    """An estimator that takes frames with categories and dates as well as numbers."""

    schema_: Schema

    @property
    def _schema(self) -> Schema | None:
        """What the columns are, where they are not all numbers."""
        return getattr(self, "schema_", None)

    def _validated(
        self, X: Any, *, reset: bool = False, allow_nan: bool = False, compact: bool = False
    ) -> Array:
        """Check X and return it flat, as `Face` does; ``reset`` learns its form."""
        if reset:
            self.__dict__.pop("schema_", None)
            if is_mixed(X):
                return self._of_columns(X)
        if self._schema is None:
            return super()._validated(X, reset=reset, allow_nan=allow_nan, compact=compact)
        if container_of(X) != "numpy":
            validate_data(self, X, reset=False, skip_check_array=True)
        return self._schema.encode(X)

    def _of_columns(self, X: Any) -> Array:
        """Learn the columns of a frame."""
        from skvae.schema import Schema

        self._validate_params()
        if self.event_shape is not None or self._sequential:
            raise ParameterError(
                "X has columns that are not numbers, so its rows have the shape (n_columns,). "
                "event_shape, and networks and likelihoods of sequences, are for numbers."
            )
        self._container, self._flat, self._channels_last = container_of(X), True, False
        validate_data(self, X, reset=True, skip_check_array=True)
        schema = Schema.infer(X)
        if not schema.modelled:
            raise DataError(
                "No column of X can be modelled: each is constant, empty, or free text."
            )
        names = [c.name for c in schema.columns if c.kind == "text"]
        if names:
            listed = ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
            warnings.warn(
                f"Column {listed} is taken for an identifier or free text and left out.",
                DataWarning,
                stacklevel=6,
            )
        self.schema_ = schema
        values = schema.encode(X)
        self.event_shape_, self._dtype = (values.shape[1],), "float64"
        return values

    def _chosen_likelihood(self, rows: FitRows) -> Likelihood:
        """Resolve the likelihood; ``"auto"`` is one for each column of a mixed table."""
        from skvae.estimators._choices import choose_likelihood
        from skvae.estimators._table import table_likelihood
        from skvae.likelihoods import Columns

        if self._schema is None or isinstance(self.likelihood, Columns):
            return choose_likelihood(self.likelihood, rows)
        if self.likelihood != "auto":
            raise ParameterError(
                f"likelihood={self.likelihood!r} describes cells of one kind, but X has columns "
                "that are not numbers. Use likelihood='auto', or likelihoods.Columns with one for "
                "each column."
            )
        return table_likelihood(self._schema, None)

    def _recall_form(self, manifest: dict[str, Any]) -> None:
        """Take from a file what `_validated` learned of the data."""
        from skvae.schema import Schema

        described = manifest.get("schema")  # not in files from before there were any
        if described is not None:
            schema = Schema.from_json(described)
            if len(schema.modelled) != self._core.n_features:
                raise ModelFileError("what it says of columns does not fit the model.")
            self.schema_, self.n_features_in_ = schema, len(schema.columns)
        super()._recall_form(manifest)

    def _contained(self, values: Array) -> Any:
        return super()._contained(values) if self._schema is None else self._schema.decode(values)

    def _completed(self, X: Any, values: Array, filled: Array) -> Any:
        if self._schema is None:
            return super()._completed(X, values, filled)
        out = [self._schema.fill(X, one) for one in filled.reshape(-1, *values.shape)]
        return out[0] if filled.ndim == 2 else out


def is_mixed(X: Any) -> bool:
    """Whether X is a frame with columns that are neither numbers nor truth values."""
    if container_of(X) == "numpy":
        return False
    import narwhals as nw

    kinds = (nw.String, nw.Categorical, nw.Enum, nw.Datetime, nw.Date, nw.Duration)
    return any(isinstance(t, kinds) for t in nw.from_native(X, eager_only=True).schema.values())
