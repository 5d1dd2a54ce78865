"""Rows, labels and counts that the judges of maps and samples take, checked in one place."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, ParameterError

__all__ = [
    "as_labels",
    "as_rows",
    "check_count",
    "check_varied",
    "generator",
    "known_labels",
    "numbered",
    "subsample",
]

Array = NDArray[Any]


def as_rows(X: Any, name: str, *, minimum: int = 1) -> Array:
    """Return rows as finite numbers, flattened to shape (n, D), in the type they came in.

    Raises
    ------
    DataError
        They are no numbers, not finite, have no axis of rows, or are fewer than ``minimum``.
    """
    try:
        rows = np.asarray(X)
    except ValueError as error:
        raise DataError(f"{name} must be rows of equal shape: {error}.") from error
    if rows.ndim < 2:
        raise DataError(
            f"{name} must have shape (n, features) or (n, *event_shape); received shape "
            f"{rows.shape}. Make a single column of it with {name}.reshape(-1, 1)."
        )
    if rows.dtype.kind == "b":
        rows = rows.astype(np.uint8)
    if rows.dtype.kind not in "iuf":
        try:
            rows = rows.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{name} must hold numbers; received {rows.dtype}. Encode categories first."
            ) from error
    if len(rows) < minimum or rows[:1].size == 0:
        raise DataError(
            f"{name} has {len(rows)} rows of shape {rows.shape[1:]}; at least {minimum} rows of "
            "1 value are needed."
        )
    rows = rows.reshape(len(rows), -1)
    if rows.dtype.kind == "f":
        bad = ~np.isfinite(rows).all(1)
        if bad.any():
            raise DataError(
                f"{name} holds NaN or infinity in {bad.sum()} of {len(rows)} rows, the first of "
                f"them row {int(bad.argmax())}. Leave these rows out, or fill them in "
                "(VAEImputer)."
            )
    return rows


def known_labels(y: Any, name: str, n: int, rows: str) -> Array:
    """Return labels, shape (n,).

    Raises
    ------
    DataError
        Not one known label for each row.
    """
    labels = np.asarray(y)
    if labels.shape != (n,):
        raise DataError(
            f"{name} must hold one label for each row of {rows}, shape ({n},); received shape "
            f"{labels.shape}."
        )
    unknown = ~np.array([_known(label) for label in labels.tolist()], bool)
    if unknown.any():
        raise DataError(
            f"{name} has no label for {unknown.sum()} of {n} rows, the first of them row "
            f"{int(unknown.argmax())}. Leave out the rows without a label."
        )
    return labels


def as_labels(y: Any, name: str, n: int, rows: str) -> tuple[Array, NDArray[np.int64]]:
    """Return the classes of labels, sorted, and the number of the class of each row, (n,).

    Raises
    ------
    DataError
        Not one known label for each row, or fewer than two classes.
    """
    labels = known_labels(y, name, n, rows)
    try:
        classes, codes = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise DataError(f"{name} mixes labels that have no order: {error}.") from error
    if len(classes) < 2:
        raise DataError(
            f"{name} has one class, {classes.tolist()[0]!r}; at least two are needed. "
            f"Leave {name} out for what needs no labels."
        )
    return classes, codes.astype(np.int64)


def numbered(labels: Array, classes: Array, name: str, of: str) -> NDArray[np.int64]:
    """Return the places of labels among classes, −1 for one that is not there.

    Raises
    ------
    DataError
        None of them is there.
    """
    place = {label: i for i, label in enumerate(classes.tolist())}
    found = np.array([place.get(label, -1) for label in labels.tolist()], np.int64)
    if (found < 0).all():
        raise DataError(
            f"{name} has no label in common with {of}: {labels.tolist()[0]!r} is not among "
            f"{classes.tolist()[:5]!r}."
        )
    return found


def _known(label: Any) -> bool:
    same = label == label  # NaN and NaT are not equal to themselves, pandas.NA does not say
    return label is not None and isinstance(same, bool | np.bool_) and bool(same)


def check_varied(rows: Array, name: str, hint: str) -> None:
    """Refuse rows that are all the same.

    Raises
    ------
    DataError
    """
    if (rows == rows[:1]).all():
        raise DataError(f"{name} is constant: its {len(rows)} rows are all the same. {hint}")


def check_count(value: Any, minimum: int, name: str) -> int:
    """Return a whole number that is large enough.

    Raises
    ------
    ParameterError
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < minimum:
        raise ParameterError(f"{name} must be an int >= {minimum}; received {value!r}.")
    return int(value)


def generator(random_state: Any, *key: int) -> np.random.Generator:
    """Return a generator that is a function of a seed and a key.

    Raises
    ------
    ParameterError
        The seed is no int >= 0: figures that are to be compared need the same one.
    """
    seed = check_count(random_state, 0, "random_state")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def subsample(n: int, at_most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return the places of at most so many of n rows, without repetition and in random order.

    In random order also where all are taken: what is decided by the order of the rows, such as
    which of several equally near rows counts, then does not depend on how they were sorted.
    """
    return random.permutation(n)[:at_most]
