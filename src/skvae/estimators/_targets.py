"""Targets, of which some are unknown, as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from skvae.exceptions import DataError

__all__ = ["encode_targets", "given_targets"]


def encode_targets(y: Any, name: str) -> tuple[NDArray[np.float64], bool]:
    """Return targets as columns (n, n_targets), NaN where unknown, and whether y was but one.

    Parameters
    ----------
    y : array, shape (n,) or (n, n_targets)
        Unknown are NaN and None.
    name : str
        Of the estimator, for messages.

    Raises
    ------
    DataError
        Of some target there are no two known values that differ, so that it has no unit.
    ValueError
        y is not of numbers, is infinite, or has more than two dimensions.
    """
    values = check_array(
        y,
        dtype=np.float64,
        ensure_2d=False,
        ensure_all_finite="allow-nan",
        input_name="y",
        estimator=name,
    )
    columns = values.reshape(len(values), -1)
    for i, column in enumerate(columns.T):
        known = column[~np.isnan(column)]
        if len(different := np.unique(known)) < 2:
            which = "y" if values.ndim == 1 else f"y[:, {i}]"
            raise DataError(
                f"{name} needs at least 2 different known targets; {which} has {len(different)}: "
                f"it is known of {len(known)} rows, n_samples={len(values)}."
            )
    return columns, values.ndim == 1


def given_targets(y: Any, n: int, n_targets: int) -> NDArray[np.float64]:
    """Return the targets that n rows are to have, (n, n_targets).

    Parameters
    ----------
    y : number, or array of shape (n,), (n_targets,) or (n, n_targets)
        Of one target, a number for all rows or one for each; of several, a set of them for all
        rows or one for each.

    Raises
    ------
    DataError
        It has another shape, or is not of finite numbers.
    """
    try:
        values = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"y must be of numbers; received {y!r:.80}.") from error
    rows = values.reshape(-1, 1) if n_targets == 1 else np.atleast_2d(values)
    if values.ndim > 2 or rows.shape[1:] != (n_targets,) or len(rows) not in (1, n):
        raise DataError(
            f"y must have {n_targets} target{'s' * (n_targets > 1)} for all rows or for each of "
            f"{n}; its shape is {values.shape}."
        )
    if not np.isfinite(rows).all():
        raise DataError("y must be finite: the rows are to have these targets.")
    return np.repeat(rows, n, 0) if len(rows) != n else rows
