"""Sequences of numbers, signals, and rows of too many columns for bars: lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skvae.plot._painter import Array, Items, Painter
from skvae.plot._style import PLAIN, Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Lines"]

MOST_LANES = 6


class Lines(Painter):
    """Lines from left to right, with a lane of its own for each of the first six channels.

    Parameters
    ----------
    reference : sequence of ndarray, shape (L, F)
        Lines whose range, channel by channel, is that of the lanes.
    name : str
        Of what is counted along a line.
    """

    overlays: ClassVar[bool] = True
    side: ClassVar[int] = 8
    per_row: ClassVar[int] = 4

    def __init__(self, reference: Any, name: str = "step") -> None:
        lines = self.items(reference)
        steps = np.concatenate([np.asarray(line) for line in lines])
        steps = steps if len(steps) else np.zeros((1, steps.shape[1]))
        steps = np.where(np.isnan(steps).all(0), 0, steps)
        self.low, self.high = np.nanmin(steps, 0), np.nanmax(steps, 0)  # (F,)
        self.length = max(1, *map(len, lines))
        lanes = len(self.low)
        self.size = (2.2, 1.2 if lanes == 1 else 0.5 + 0.35 * lanes)
        self.x_ticks = (self._x(np.array([0, self.length - 1])).tolist(), ("1", str(self.length)))
        if lanes == 1:
            ends = self._y(np.array([[self.high[0]], [self.low[0]]]))[:, 0]
            self.y_ticks = (ends.tolist(), (f"{self.high[0]:.3g}", f"{self.low[0]:.3g}"))
        else:
            places = (np.arange(lanes) + 0.5) / lanes
            self.y_ticks = (places.tolist(), [f"channel {i + 1}" for i in range(lanes)])
        self.note = name

    def items(self, rows: Any) -> Items:
        """Return lines (L, F), of the channels that are shown."""
        lines = (np.asarray(row, np.float64) for row in rows)
        return [(x if x.ndim == 2 else x[:, None])[:, :MOST_LANES] for x in lines]

    def paint(self, ax: Axes, items: Items, boxes: Array, ink: Ink = PLAIN) -> None:
        """Draw a line for each channel, and a dot where the sequence ends."""
        width = _width(ink)
        style: dict[str, Any] = {"color": ink.color, "zorder": 2 if ink.backdrop else 3}
        for line, (left, bottom, right, top) in zip(items, boxes, strict=True):
            if not len(line):  # a sequence that ended before it began
                continue
            x = left + self._x(np.arange(len(line))) * (right - left)
            y = top + self._y(line) * (bottom - top)  # (L, F)
            ax.plot(x, y, ink.dash, lw=width, **style)
            if len(line) < self.length:
                ax.plot(np.repeat(x[-1], y.shape[1]), y[-1], ".", ms=2 * width + 2, **style)

    def key(self, ink: Ink) -> dict[str, Any]:
        """Return how a legend shows an ink."""
        return {"color": ink.color, "ls": ink.dash, "lw": _width(ink)}

    def _x(self, step: Array) -> Array:
        return np.asarray((step + 0.5) / self.length)

    def _y(self, values: Array) -> Array:
        """Return places from 0, the top of the box, to 1, each channel in its lane."""
        span = self.high - self.low
        share = (self.high - values) / np.where(span > 0, span, 1)
        share = np.where(span > 0, share, 0.5)
        lanes = len(self.low)
        return np.asarray((np.arange(lanes) + 0.08 + 0.84 * share.clip(-0.05, 1.05)) / lanes)


def _width(ink: Ink) -> float:
    return 3.0 if ink.backdrop else 1.2


def as_signals(rows: Array, shape: Sequence[int], *, channels_last: bool) -> Array:
    """Return flat or other rows of signals (c, L) as (n, L, c)."""
    if channels_last:
        return rows.reshape(-1, shape[1], shape[0])
    return np.moveaxis(rows.reshape(-1, *shape), 1, 2)
