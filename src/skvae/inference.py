"""A fitted model as a function of one batch, for engines that send work to many processes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, ParameterError

if TYPE_CHECKING:
    import os

    from skvae.estimators import VAE

__all__ = ["Predictor"]

Array = NDArray[Any]

METHODS = ("transform", "score_samples", "impute", "inverse_transform")


class Predictor:
    """Apply a method of a saved model to batches.

    Holds the path and the arguments only, so it is small to send; each process reads the model
    when it gets its first batch, once for all predictors of the file.

    Parameters
    ----------
    path : path
        A model file that all processes can read.
    method : {"transform", "score_samples", "impute", "inverse_transform"}
        One row out for one row in. What comes out for a row does not depend on the other rows of
        the batch nor on the process, but for rounding.
    keep : sequence of str
        Columns of a frame, table or dict that go to the output as they are, such as a key. Other
        columns that the model was not fitted on are left out.
    **arguments
        For the method, such as ``n_samples=500``.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from skvae import VAE
    >>> from skvae.inference import Predictor
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vae.save(f"{folder}/model.safetensors")
    ...     encode = Predictor(f"{folder}/model.safetensors", "transform")
    ...     encode(X[:5]).shape
    (5, 2)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        method: Literal["transform", "score_samples", "impute", "inverse_transform"] = "transform",
        *,
        keep: Sequence[str] = (),
        **arguments: Any,
    ) -> None:
        if method not in METHODS:
            raise ParameterError(f"method must be one of {METHODS}; received {method!r}.")
        if arguments.get("n_draws") is not None:
            raise ParameterError("n_draws gives several rows for one; leave it out.")
        # The working directory of another process may be another one.
        self.path = str(Path(path).absolute())
        self.method, self.keep, self.arguments = method, tuple(keep), arguments

    def __repr__(self) -> str:
        extra = "".join(f", {k}={v!r}" for k, v in self.arguments.items())
        return f"Predictor({self.path!r}, {self.method!r}{extra})"

    @property
    def model(self) -> VAE:
        """The estimator, read once per process."""
        status = Path(self.path).stat()
        return _load(self.path, status.st_mtime_ns, status.st_size)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that the method makes, without those of ``keep``."""
        if self.method == "score_samples":
            return ["log_likelihood"]
        if self.method == "transform":
            return [str(name) for name in self.model.get_feature_names_out()]
        return self._names or [f"x{i}" for i in range(self.model.n_features_in_)]

    @property
    def _names(self) -> list[str] | None:
        """Names that the model was fitted with."""
        names = getattr(self.model, "feature_names_in_", None)
        return None if names is None else [str(name) for name in names]

    def __call__(self, batch: Any) -> Any:
        """Return the method's result in the kind of container that the batch is.

        Parameters
        ----------
        batch : ndarray, pandas DataFrame, pyarrow Table, or dict of arrays
            Of columns, those are taken that the model was fitted on, whatever their order; all
            but those to keep, where it was fitted on rows without names. A dict or a table may
            also hold one array of whole rows, shape (n, D) or (n, *event), under any name; then
            the result is one array, too, under the method's name.

        Returns
        -------
        result : same kind
            An ndarray has the shape that the method returns.

        Raises
        ------
        DataError
            The batch is of no known kind, or a column is missing.
        """
        if isinstance(batch, np.ndarray):
            return self._apply(batch)
        kind = type(batch).__module__.partition(".")[0]
        if isinstance(batch, Mapping):
            return self._on_columns(batch)
        if kind == "pandas":
            result = self._on_columns({name: batch[name] for name in batch.columns})
            return type(batch)(result, index=batch.index)
        if kind == "pyarrow":
            import pyarrow

            result = self._on_columns(
                {
                    n: batch[n] if n in self.keep else _from_arrow(batch[n])
                    for n in batch.schema.names
                }
            )
            return pyarrow.table({n: _to_arrow(v) for n, v in result.items()})
        raise DataError(
            f"A batch must be a NumPy array, a pandas DataFrame, a pyarrow Table or a dict of "
            f"arrays; received {type(batch).__name__}."
        )

    def _on_columns(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        missing = [name for name in self.keep if name not in columns]
        inputs = {k: np.asarray(v) for k, v in columns.items() if k not in self.keep}
        latent = self.method == "inverse_transform"
        names = [str(n) for n in self.model.get_feature_names_out()] if latent else self._names
        whole = len(inputs) == 1 and next(iter(inputs.values())).ndim > 1
        if not whole and names is not None:
            missing += [name for name in names if name not in inputs]
        if missing:
            raise DataError(
                f"The batch has no column {', '.join(map(repr, missing))}; "
                f"it has {', '.join(map(repr, columns))}."
            )
        kept = {name: columns[name] for name in self.keep}
        if whole:
            return {**kept, self.method: self._apply(next(iter(inputs.values())))}
        result = self._apply(np.column_stack([inputs[name] for name in names or inputs]))
        flat = result.reshape(-1, len(self.columns))
        return {**kept, **{name: flat[:, i] for i, name in enumerate(self.columns)}}

    def _apply(self, X: Array) -> Array:
        if not len(X):  # engines send empty batches to learn what comes out
            width = () if self.method == "score_samples" else (len(self.columns),)
            return np.empty((0, *width), X.dtype if X.dtype.kind == "f" else np.float64)
        result = getattr(_without_names(self.model), self.method)(X, **self.arguments)
        return np.asarray(result)


@functools.lru_cache(maxsize=4)
def _load(path: str, changed: int, size: int) -> VAE:
    """Read a model; a file that was replaced is read again."""
    from skvae.estimators import VAE, load

    model = load(path)
    if not isinstance(model, VAE):
        raise ParameterError(
            f"{path} holds a {type(model).__name__}; a Predictor takes the model of a VAE."
        )
    return model


def _without_names(model: VAE) -> VAE:
    """The columns were put in order here, so that the model can take and give arrays."""
    plain = copy.copy(model)
    plain._container = "numpy"
    plain.__dict__.pop("feature_names_in_", None)
    return plain


def _from_arrow(column: Any) -> Array:
    import pyarrow

    whole = column.combine_chunks()
    if isinstance(whole, pyarrow.FixedShapeTensorArray):
        return np.asarray(whole.to_numpy_ndarray())
    if pyarrow.types.is_fixed_size_list(whole.type):
        return np.asarray(whole.flatten().to_numpy()).reshape(len(whole), -1)
    return np.asarray(whole.to_numpy(zero_copy_only=False))


def _to_arrow(values: Any) -> Any:
    import pyarrow

    if not isinstance(values, np.ndarray):
        return values
    if values.ndim == 1:
        return pyarrow.array(values)
    return pyarrow.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(values))
