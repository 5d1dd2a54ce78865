"""What all estimators share: containers and shapes, seeds, and leaving nothing half done."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from skvae import files
from skvae._rows import ChannelsFirst
from skvae.estimators._containers import (
    CONTAINERS,
    check_finite,
    column_names,
    container_of,
    fill_frame,
    is_compact,
    to_container,
    to_numpy,
    widened,
)
from skvae.estimators._layout import (
    channels_first,
    channels_last,
    check_event,
    inward,
    outward,
    warn_of_order,
)
from skvae.exceptions import DataError, ModelFileError, ParameterError
from skvae.spec import Spec

if TYPE_CHECKING:
    from skvae.distributed import World
    from skvae.estimators._core import Core
    from skvae.estimators._fit_rows import FitRows

__all__ = [
    "AllOrNothing",
    "Array",
    "Face",
    "Rows",
    "Seed",
    "at_least",
    "from_json",
    "joined",
    "seed_of",
    "to_json",
]

Array = NDArray[Any]
Rows = ArrayLike | str | Path | files.Table | files.Rows
Seed = int | np.random.RandomState | np.random.Generator | None


class AllOrNothing:
    """An object that a failed call leaves as it was."""

    @contextmanager
    def _all_or_nothing(self, *keep_on: type[BaseException]) -> Iterator[None]:
        """Leave the estimator as it was when fitting fails, unless with one of these."""
        before = dict(vars(self))
        try:
            yield
        except keep_on:
            raise
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise


class Face(AllOrNothing, BaseEstimator):  # type: ignore[misc]
    """An estimator that holds a `Core` and takes and returns what its users have.

    Subclasses have the parameters ``event_shape``, ``channels_last``, ``early_stopping``,
    ``validation_fraction`` and ``random_state``.
    """

    event_shape: tuple[int, ...] | None
    channels_last: bool
    early_stopping: bool | Literal["auto"]
    validation_fraction: float
    random_state: Seed
    event_shape_: tuple[int, ...]
    _core: Core

    def _validated(
        self, X: Any, *, reset: bool = False, allow_nan: bool = False, compact: bool = False
    ) -> Array:
        """Check X and return it flat, (n, D), float32 or float64; ``reset`` learns its form.

        NaN is a missing cell, where it is allowed.

        ``compact`` keeps arrays of small types as they are.
        """
        if reset:
            self._validate_params()
            self._container = container_of(X)
        X = files.in_memory(X)
        columns = column_names(X)
        if isinstance(X, files.Table):
            X, columns = self._unpack_table(X, reset=reset)
        X = to_numpy(X)
        compact = compact and is_compact(X)
        X = X if compact else widened(X)
        shape = np.shape(X)
        if len(shape) > 2:
            if not reset and len(self._given_event) > 1:
                check_event(tuple(shape[1:]), self._given_event, type(self).__name__)
            X = np.reshape(X, (shape[0], -1))
        with warnings.catch_warnings():
            if columns is not None:  # of a table, whose names were compared above
                warnings.filterwarnings("ignore", "X does not have valid feature names")
            values: Array = validate_data(
                self,
                X,
                reset=reset,
                dtype=None if compact else [np.float64, np.float32],
                ensure_all_finite=False,
            )
        check_finite(
            values,
            columns,
            allow_nan=allow_nan,
            advice=self._advice,
        )
        if reset:
            self._learn_form(shape, values)
            if columns is not None:
                self.feature_names_in_ = np.array(columns, dtype=object)
        return inward(values, self.event_shape_) if self._channels_last else values

    @property
    def _given_event(self) -> tuple[int, ...]:
        """Shape of one row as users have it."""
        return channels_last(self.event_shape_) if self._channels_last else self.event_shape_

    def _outward(self, values: Array) -> Array:
        """Return rows (..., D) in the order of the cells that users have."""
        return outward(values, self.event_shape_) if self._channels_last else values

    @property
    def _advice(self) -> str:
        return (
            f"{type(self).__name__} takes no missing cells here, in sequences and in rows that "
            "are streamed from files. Rows in memory may have some; for a fitted model, impute(X) "
            "fills them in."
        )

    def _unpack_table(self, table: files.Table, *, reset: bool) -> tuple[Array, list[str] | None]:
        """Return values and names; the names must be those of `fit`, as for frames."""
        expected = None if reset else getattr(self, "feature_names_in_", None)
        if table.columns is None:
            return table.values, None
        if expected is not None and list(table.columns) != list(expected):
            raise DataError(
                f"The columns of X are {', '.join(table.columns)}, but {type(self).__name__} was "
                f"fitted with {', '.join(expected)}, in this order."
            )
        return table.values, list(table.columns)

    def _learn_form(self, shape: tuple[int, ...], values: Array) -> None:
        event = tuple(shape[1:]) if len(shape) > 2 else (values.shape[1],)
        if self.event_shape is not None:
            event = tuple(int(s) for s in self.event_shape)
            if int(np.prod(event)) != values.shape[1]:
                raise ParameterError(
                    f"event_shape={self.event_shape!r} has {int(np.prod(event))} cells, but X has "
                    f"{values.shape[1]} features per row."
                )
        self._channels_last = bool(self.channels_last)
        if not self._channels_last:
            warn_of_order(event)
        self.event_shape_ = channels_first(event) if self._channels_last else event
        self._flat = len(shape) <= 2
        self._dtype = widened(values[:0]).dtype.name

    def _take_form(self, other: Face) -> None:
        """Take from another estimator what it learned of the form of the data."""
        learned = ("_container", "_flat", "_dtype", "_channels_last", "_form")
        public = ("event_shape_", "n_features_in_", "feature_names_in_", "schema_")
        for name in (*learned, *public):
            if hasattr(other, name):
                setattr(self, name, getattr(other, name))

    def _recall_form(self, manifest: dict[str, Any]) -> None:
        """Take from a file what `_validated` learned of the data."""
        names = manifest["feature_names"]
        named = isinstance(names, list) and all(isinstance(n, str) for n in names)
        if not (
            (names is None or (named and len(names) == self.n_features_in_))
            and manifest["container"] in CONTAINERS
            and manifest["flat"] in (True, False)
            and manifest.get("channels_last", False) in (True, False)
            and manifest["dtype"] in ("float32", "float64")
        ):
            raise ModelFileError("what it says of the form of the data makes no sense.")
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        self._container, self._flat = manifest["container"], bool(manifest["flat"])
        self._dtype = manifest["dtype"]
        self._channels_last = bool(manifest.get("channels_last", False))

    def _contained(self, values: Array) -> Any:
        values = self._outward(values)
        if not self._flat:
            return values.reshape(len(values), *self._given_event)
        return to_container(values, self._container, getattr(self, "feature_names_in_", None))

    def _completed(self, X: Any, values: Array, filled: Array) -> Any:
        """Return X with its holes filled in, as it came.

        Parameters
        ----------
        X : what the user passed
        values : ndarray, shape (n, D)
            The same as `_validated` returns it.
        filled : ndarray, shape (n, D) or, for draws, (m, n, D)
            In the order of the cells that users have.
        """
        if container_of(X) == "numpy":
            shape = X.values.shape if isinstance(X, files.Table) else np.shape(X)
            return filled.reshape(*filled.shape[:-2], *shape)
        missing = np.isnan(self._outward(values))
        if filled.ndim == 2:
            return fill_frame(X, filled, missing)
        return [fill_frame(X, one, missing) for one in filled]

    def _rows_to_fit(self, X: Any, *, reset: bool = False, world: World | None = None) -> FitRows:
        """Check X and return its rows for training, in memory or as a stream from files."""
        from skvae.estimators._fit_rows import InMemory, Streamed

        stream = files.stream_of(X)
        if stream is None:
            values = self._validated(X, reset=reset, compact=True)
        else:  # the cells are checked when they are first read
            last = self.channels_last if reset else self._channels_last
            form = np.zeros((1, *stream.event_shape), stream.dtype)
            if stream.channels_first and last:
                form = np.moveaxis(form, 1, -1)
            self._validated(files.Table(form, stream.columns), reset=reset)
            if last and not stream.channels_first:
                stream = ChannelsFirst(stream, self._given_event)
        seed = self._seed_to_fit(reset, world)
        return InMemory(values, seed) if stream is None else Streamed(stream, seed, self._advice)

    def _seed_to_fit(self, reset: bool, world: World | None) -> int:
        """Return the seed of the fit, which is that of the first of several processes."""
        own = self._core.seed if not reset else seed_of(self.random_state)
        if not reset or world is None:
            return own
        return world.from_main(lambda: own)  # every process asked, so that its generator moved on

    def _validated_blocks(self, X: Any) -> Iterator[Array]:
        """Check X and yield it flat: as a whole or, as a stream, one block after the other."""
        stream = files.stream_of(X)
        if stream is None:
            yield self._validated(X)
            return
        for i, block in enumerate(stream):
            try:
                rows = block.reshape(-1, *stream.event_shape)
                if stream.channels_first and self._channels_last:
                    rows = np.moveaxis(rows, 1, -1)
                yield self._validated(files.Table(rows, stream.columns))
            except DataError as error:
                file, first = stream.origin(i)
                raise DataError(f"{file}, counted from row {first}: {error}") from error

    def _hold_out(self, rows: FitRows) -> tuple[FitRows, FitRows | None]:
        """Hold out rows for early stopping, a function of the seed."""
        n = len(rows)
        held_out = int(n * self.validation_fraction)
        if self.early_stopping == "auto":
            held_out = held_out if held_out >= 10 else 0
        elif not self.early_stopping:
            held_out = 0
        elif not 1 <= held_out < n:
            raise ParameterError(
                f"early_stopping=True needs at least one row to hold out, but "
                f"validation_fraction={self.validation_fraction!r} of {n} rows is {held_out}. "
                "Raise validation_fraction or set early_stopping=False."
            )
        return rows.hold_out(held_out) if held_out else (rows, None)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_core")


def seed_of(random_state: Seed) -> int:
    """Turn what scikit-learn accepts as a seed into an int, without the global generators."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> np.uint64(1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, Integral) and random_state >= 0:
        return int(random_state)
    raise ParameterError(
        f"random_state must be an int >= 0, a RandomState, a Generator or None; "
        f"received {random_state!r}."
    )


def at_least(name: str, value: object, least: int) -> int:
    """Return an integer argument, or raise a ParameterError that names it."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ParameterError(f"{name} must be an integer >= {least}; received {value!r}.")
    return int(value)


def joined(parts: list[Array]) -> Array:
    """Return parts as one array."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def to_json(name: str, value: Any) -> Any:
    """Return a parameter as plain JSON; what has no such form is named in a warning."""
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, tuple | list):
        return [to_json(name, v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    warnings.warn(f"{name}={value!r} is not saved; it loads as its default.", stacklevel=4)
    return None


def from_json(value: Any) -> Any:
    """Return the parameter that `to_json` described."""
    if isinstance(value, dict):
        return Spec.from_json(value)
    return tuple(map(from_json, value)) if isinstance(value, list) else value
