"""Estimators on sequences of different lengths: what differs from those on tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skvae import files
from skvae.estimators._base import Array, Face
from skvae.estimators._containers import container_of, to_numpy
from skvae.exceptions import DataError, ModelFileError, ParameterError, did_you_mean
from skvae.sequences import Form, Ragged, are_sequences, listed
from skvae.spec import Spec

if TYPE_CHECKING:
    from skvae.distributed import World
    from skvae.estimators._fit_rows import FitRows

__all__ = ["SequenceFace"]

SEQUENTIAL = ("rnn", "tcn", "sequence")  # by name, since the classes would need torch
CELLS_PER_BLOCK = 1 << 24


class SequenceFace(Face):
    """An estimator that takes sequences as well as tables.

    Subclasses have the parameters ``likelihood`` and ``network``.
    """

    likelihood: str | Spec
    network: str | Spec
    n_features_in_: int
    _form: Form | None = None

    @property
    def _sequential(self) -> bool:
        """Whether the parameters ask for a model of sequences."""
        return any(
            choice in SEQUENTIAL if isinstance(choice, str) else getattr(choice, "sequential", 0)
            for choice in (self.network, self.likelihood)
        )

    def _validated(
        self, X: Any, *, reset: bool = False, allow_nan: bool = False, compact: bool = False
    ) -> Array:
        """Check X and return it flat, as `Face` does; ``reset`` learns its form.

        Missing cells of sequences must be allowed.
        """
        X, sequences = self._sequences(X, reset=reset, missing=allow_nan)
        if sequences is None:
            values = super()._validated(
                X,
                reset=reset,
                allow_nan=allow_nan or not self._sequential,
                compact=compact and not self._sequential,
            )
            if not reset:
                self._check_steps(values)
            return values
        return sequences.padded(self.event_shape_[0], self._dtype)

    def _sequences(
        self, X: Any, *, reset: bool = False, missing: bool = False
    ) -> tuple[Any, Ragged | None]:
        """Return X out of its file, and checked, if it is a set of sequences."""
        if isinstance(X, str | Path):
            X = files.in_memory(X) if files.stream_of(X) is None else X
        if reset:
            self._form = None
            if not are_sequences(X, meant=self._sequential):
                return X, None
            self._validate_params()
            return X, self._learned(listed(X) or [])
        if self._form is None:
            if are_sequences(X):
                raise DataError(
                    f"X is a set of sequences, but {type(self).__name__} was fitted on rows of "
                    f"{self.n_features_in_} features each."
                )
            return X, None
        items = listed(X)
        if items is None:
            raise DataError(
                f"{type(self).__name__} was fitted on sequences, so X must be a list of "
                f"sequences like these; received {type(X).__name__}."
            )
        from skvae.estimators._sequence_rows import check_steps

        sequences = self._form.read(items, missing=missing)
        check_steps(sequences, self._core.spec.likelihood)
        return X, sequences

    def _check_steps(self, values: Array) -> None:
        """Check sequences of one length, (n, T · F), as `fit` does."""
        likelihood = self._core.spec.likelihood
        if likelihood.sequential:
            from skvae.estimators._sequence_rows import check_steps

            check_steps(Ragged.of_table(values, self.event_shape_[0]), likelihood)

    def _learned(self, X: Any) -> Ragged:
        """Learn the form of sequences."""
        form, sequences = Form.learn(X, coded=self.likelihood == "categorical")
        if self.event_shape is not None:
            longest, n_features = form.length, form.n_features
            shape = tuple(int(s) for s in self.event_shape)
            alone = len(shape) == 1 and n_features == 1
            if not alone and shape[1:] != (n_features,):
                raise ParameterError(
                    f"event_shape={self.event_shape!r} must be (T, F) for sequences of at most T "
                    f"steps, but those of X have F = {n_features} feature(s) per step."
                )
            if shape[0] < longest:
                raise ParameterError(
                    f"event_shape={self.event_shape!r} allows {shape[0]} steps, but the longest "
                    f"sequence of X has {longest}."
                )
            form = dataclasses.replace(form, length=shape[0])
        if hasattr(self, "feature_names_in_"):  # of an earlier fit
            del self.feature_names_in_
        self._take(form)
        return sequences

    def _take(self, form: Form) -> None:
        self._form, self._dtype = form, form.dtype
        self._container, self._flat, self._channels_last = "numpy", True, False
        self.n_features_in_, self.event_shape_ = form.n_features, form.event_shape

    def _rows_to_fit(self, X: Any, *, reset: bool = False, world: World | None = None) -> FitRows:
        """Check X and return its rows for training."""
        from skvae.estimators._fit_rows import InMemory
        from skvae.estimators._sequence_rows import SequenceRows

        X, sequences = self._sequences(X, reset=reset)
        if sequences is not None:
            assert self._form is not None
            return SequenceRows(
                sequences,
                self._seed_to_fit(reset, world),
                length=self._form.event_shape[0],
                n_codes=len(self._form.tokens),
                dtype=self._dtype,
            )
        if not self._sequential:
            return super()._rows_to_fit(X, reset=reset, world=world)
        rows = super()._rows_to_fit(files.in_memory(X), reset=reset, world=world)
        assert isinstance(rows, InMemory)
        return SequenceRows.of_table(rows.X, self.event_shape_, rows.seed)

    def _validated_blocks(self, X: Any) -> Iterator[Array]:
        """Check X and yield it flat: sequences, which grow by being padded, in blocks."""
        X, sequences = self._sequences(X)
        if sequences is None:
            yield from super()._validated_blocks(X)
            return
        length, channels = self.event_shape_
        size = max(1, CELLS_PER_BLOCK // (length * channels))
        for start in range(0, len(sequences), size):
            index = np.arange(start, min(start + size, len(sequences)))
            yield sequences.take(index).padded(length, self._dtype)

    def _learn_form(self, shape: tuple[int, ...], values: Array) -> None:
        super()._learn_form(shape, values)
        if self._sequential and len(self.event_shape_) == 1:
            self.event_shape_ = (*self.event_shape_, 1)  # one number per step

    def _recall_form(self, manifest: dict[str, Any]) -> None:
        """Take from a file what `_validated` learned of the data."""
        from skvae.estimators._sequence_rows import check_form

        super()._recall_form(manifest)
        described = manifest.get("sequences")  # not in files from before there were any
        form = None if described is None else Form.from_json(described)
        if not check_form(form, self._core.spec):
            raise ModelFileError("what it says of sequences does not fit the model.")
        if form is not None:
            self._take(form)

    def _as_one(self, x: Any, name: str) -> Any:
        """Return one row, or one sequence, as a set of one; a mapping is a row with holes."""
        if isinstance(x, Mapping):
            return self._named(x, name)
        if self._form is not None:
            return [x]
        if container_of(x) == "numpy":
            names = getattr(self, "feature_names_in_", None)
            return files.Table(np.asarray(to_numpy(x))[None], names)
        if len(x) != 1:
            raise DataError(f"{name} must be one row; received a frame of {len(x)} rows.")
        return x

    def _named(self, cells: Mapping[str, Any], name: str) -> Any:
        """Return a row of which some cells are given by the names of their columns."""
        names = list(getattr(self, "feature_names_in_", ()))
        unknown = [key for key in cells if key not in names]
        if unknown:
            columns = ", ".join(map(str, names)) or "no names: pass a row with NaN"
            raise DataError(
                f"{name} has the key {unknown[0]!r}, but the columns of fit have "
                f"{columns}.{did_you_mean(str(unknown[0]), names)}"
            )
        if self._container == "numpy":
            values = np.asarray([[cells.get(key, np.nan) for key in names]], dtype=self._dtype)
            return files.Table(values, tuple(names))
        import narwhals as nw

        hole = None if hasattr(self, "schema_") else np.nan
        row = {key: [cells.get(key, hole)] for key in names}
        backend: Any = self._container
        return nw.from_dict(row, backend=backend).to_native()

    def _contained(self, values: Array) -> Any:
        if self._form is None:
            return super()._contained(values)
        return self._form.restored(self._unpadded(values))

    def _unpadded(self, values: Array) -> Ragged:
        """Take the steps out of padded rows, and no more than can be given back to the model."""
        length, channels = self.event_shape_
        return Ragged.unpadded(values[:, : (length - 1) * channels], channels - 1)

    def _completed(self, X: Any, values: Array, filled: Array) -> Any:
        form, items = self._form, listed(X)
        if form is None:
            return super()._completed(X, values, filled)
        assert items is not None
        draws = filled.reshape(-1, *filled.shape[-2:])
        out = [form.filled(items, self._unpadded(rows)) for rows in draws]
        return out[0] if filled.ndim == 2 else out
