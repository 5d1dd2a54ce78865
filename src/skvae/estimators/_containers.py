"""Containers: what came in as a frame goes out as a frame of the same kind."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError

__all__ = [
    "CONTAINERS",
    "check_finite",
    "column_names",
    "container_of",
    "fill_frame",
    "is_compact",
    "to_container",
    "to_numpy",
    "widened",
]


FRAMES = ("pandas", "polars")
CONTAINERS = (*FRAMES, "numpy")
COMPACT = tuple(map(np.dtype, (np.bool_, np.uint8, np.int8, np.int16, np.float16)))


def container_of(X: Any) -> str:
    """Return ``"pandas"``, ``"polars"`` or ``"numpy"``."""
    for kind in FRAMES:
        if type(X).__module__.split(".")[0] == kind and hasattr(X, "columns"):
            return kind
    return "numpy"


def to_container(values: NDArray[Any], kind: str, columns: Sequence[str] | None) -> Any:
    """Return values (n, D) as the kind of container; a library that is gone gives an array."""
    if kind == "numpy" or columns is None or values.ndim != 2:
        return values
    import narwhals as nw

    try:
        return nw.from_dict(
            {name: values[:, i] for i, name in enumerate(columns)},
            backend=kind,  # type: ignore[arg-type]
        ).to_native()
    except ImportError:
        warnings.warn(f"{kind} is not installed; an array is returned.", stacklevel=3)
        return values


def fill_frame(frame: Any, values: NDArray[Any], missing: NDArray[np.bool_]) -> Any:
    """Return the frame with the missing cells replaced; columns without holes stay as they are."""
    import narwhals as nw

    df = nw.from_native(frame, eager_only=True)
    index = df.to_native().index if container_of(frame) == "pandas" else None
    new = [
        nw.new_series(name, values[:, i], backend=nw.get_native_namespace(df).__name__)
        for i, name in enumerate(df.columns)
        if missing[:, i].any()
    ]
    if index is not None:
        return frame.assign(**{s.name: s.to_native().set_axis(index) for s in new})
    return df.with_columns(*new).to_native() if new else frame


def to_numpy(X: Any) -> Any:
    """Turn a torch tensor into an array; pass on the rest."""
    if hasattr(X, "detach") and hasattr(X, "cpu"):
        return X.detach().cpu().numpy()
    if hasattr(X, "__array__") and container_of(X) == "numpy":
        return np.asarray(X)
    return X


def widened(X: Any) -> Any:
    """Turn small numbers into float32; pass on the rest."""
    if isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.dtype.itemsize <= 2:
        return X.astype(np.float32)  # exact, and half of what float64 would take
    return X


def is_compact(X: Any) -> bool:
    """Whether X is an array of a small type that torch has, too."""
    return isinstance(X, np.ndarray) and X.dtype in COMPACT


def column_names(X: Any) -> list[str] | None:
    """Return the names of a frame's columns where all are strings, as scikit-learn does."""
    if container_of(X) == "numpy":
        return None
    names = [c for c in X.columns if isinstance(c, str)]
    return names if len(names) == len(X.columns) else None


def check_finite(
    X: NDArray[np.floating], columns: Sequence[str] | None, *, allow_nan: bool, advice: str
) -> None:
    """Raise for NaN or infinity, saying how many there are and where the first is.

    Raises
    ------
    DataError
    """
    if X.dtype.kind in "biu" or np.isfinite(X).all():
        return
    infinite = np.isinf(X)
    bad = infinite if infinite.any() else np.isnan(X)
    if allow_nan and not infinite.any():
        return
    kind = "infinity" if infinite.any() else "NaN"
    row, column = np.argwhere(bad)[0]
    name = f"column {columns[column]!r}" if columns is not None else f"column {column}"
    hint = advice if kind == "NaN" else "Replace or remove these values first."
    raise DataError(
        f"Input X contains {kind}: {int(bad.sum())} cell(s), the first in row {row}, "
        f"{name}. {hint}"
    )
