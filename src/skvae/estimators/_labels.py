"""Labels, of which some are unknown, as numbers of classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, column_or_1d

from skvae.exceptions import DataError

__all__ = ["UNKNOWN", "class_number", "encode_labels"]

UNKNOWN = -1


def encode_labels(y: Any, name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes, sorted, and of each row the number of its own or −1.

    Parameters
    ----------
    y : array, shape (n,)
        Unknown are −1, NaN and None, and of unsigned types the largest value, which is what NumPy
        makes of −1. Where there is but one other value, −1 is a class.
    name : str
        Of the estimator, for messages.

    Raises
    ------
    DataError
        There are fewer than two classes.
    ValueError
        y is not of classes, or not of one column.
    """
    y = column_or_1d(_plain(y), warn=True)
    unknown = _missing(y)
    if y.dtype.kind == "f":
        assert_all_finite(y[~unknown], input_name="y")
    minus = np.zeros(len(y), bool)
    if y.dtype.kind == "u":
        minus = y == np.iinfo(y.dtype).max
    if y.dtype.kind in "ifO":
        minus = np.array([value == UNKNOWN for value in y.tolist()], bool) & ~unknown
    others = np.unique(y[~(unknown | minus)])
    if len(others) > 1:
        unknown |= minus
    known = y[~unknown]
    if y.dtype.kind == "O" and len(known):
        known = np.array(known.tolist())
    check_classification_targets(known)
    classes, codes = np.unique(known, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"{name} needs labels of at least 2 classes; y has {len(classes)} class"
            f"{'' if len(classes) == 1 else 'es'} among {len(known)} labelled rows."
        )
    out = np.full(len(y), UNKNOWN, dtype=np.int64)
    out[~unknown] = codes
    return classes, out


def _plain(y: Any) -> Any:
    """Return what NumPy can hold of the labels of a frame; others stay."""
    if hasattr(y, "to_numpy"):
        return y.to_numpy()
    return y


def _missing(y: NDArray[Any]) -> NDArray[np.bool_]:
    if y.dtype.kind == "f":
        return np.asarray(np.isnan(y))
    if y.dtype.kind == "O":
        return np.array([_is_missing(value) for value in y], bool)
    return np.zeros(len(y), bool)


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float) and value != value


def class_number(y: Any, classes: NDArray[Any]) -> int:
    """Return the number of a class.

    Raises
    ------
    DataError
        There is none of this name.
    """
    found = np.flatnonzero([value == y for value in classes.tolist()])
    if not len(found):
        known = ", ".join(map(repr, classes.tolist()[:20]))
        raise DataError(f"y={y!r} is none of the classes of fit: {known}.")
    return int(found[0])
