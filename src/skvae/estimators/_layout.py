"""Where the channels of images are: last in what users have, if they say so, and first inside."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, DataWarning, ParameterError

__all__ = ["channels_first", "channels_last", "check_event", "inward", "outward", "warn_of_order"]

Array = NDArray[Any]
Shape = tuple[int, ...]


def channels_first(event: Shape) -> Shape:
    """Return (c, *space) for (*space, c).

    Raises
    ------
    ParameterError
        There is no axis but that of the channels.
    """
    if len(event) < 2:
        raise ParameterError(
            f"channels_last=True needs rows like (h, w, c), but they have shape {event}. Flat "
            "rows need event_shape=(h, w, c), too."
        )
    return (event[-1], *event[:-1])


def channels_last(event: Shape) -> Shape:
    """Return (*space, c) for (c, *space)."""
    return (*event[1:], event[0])


def inward(values: Array, event: Shape) -> Array:
    """Return rows (n, D) of (*space, c) as rows of ``event``, (c, *space)."""
    rows = values.reshape(len(values), *channels_last(event))
    return np.moveaxis(rows, -1, 1).reshape(values.shape)


def outward(values: Array, event: Shape) -> Array:
    """Return rows (..., D) of ``event``, (c, *space), as rows of (*space, c)."""
    rows = values.reshape(-1, *event)
    return np.moveaxis(rows, 1, -1).reshape(values.shape)


def warn_of_order(event: Shape) -> None:
    """Warn where the last axis of what should be (c, h, w) looks like that of the channels."""
    if len(event) >= 3 and event[-1] in (1, 3, 4) and min(event[:-1]) >= 8:
        warnings.warn(
            f"Rows of shape {event} are taken as {event[0]} channels of {event[1:]} cells. If the "
            "last axis is that of the channels, fit with channels_last=True.",
            DataWarning,
            stacklevel=10,
        )


def check_event(given: Shape, event: Shape, estimator: str) -> None:
    """Compare the shape of rows with that of the rows in `fit`; axes of length 1 do not count.

    Raises
    ------
    DataError
        They differ; says what to do.
    """
    if _long(given) == _long(event):
        return
    if (given[-1], *given[:-1]) == event:
        advice = "Their channels come last: pass np.moveaxis(X, -1, 1)."
    elif (*given[1:], given[0]) == event:
        advice = "Their channels come first: pass np.moveaxis(X, 1, -1)."
    elif len(given) == len(event):
        advice = "Resize or crop them to that, or fit another model on this size."
    else:
        advice = "Reshape them to that."
    raise DataError(
        f"X has rows of shape {given}, but {estimator} was fitted on rows of shape {event}. "
        f"{advice}"
    )


def _long(shape: Shape) -> list[int]:
    return [s for s in shape if s != 1]
