"""A grid of boxes on one axes: where things stand, and how the rows and columns are labelled.

All boxes share an axes rather than having one each, so that any axes can be drawn on, hundreds of
boxes are quick, and what they show is to one scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Sheet", "Ticks"]

Array = NDArray[Any]
Ticks = tuple[Sequence[float], Sequence[str]]  # places within a box from 0 to 1, and what they say

FRAME = "#d0d0d0"


@dataclass(frozen=True)
class Sheet:
    """A grid of boxes of unit size; y goes down.

    Parameters
    ----------
    n_rows, n_columns : int
    gap_x, gap_y : float
        Between boxes, in boxes.
    """

    n_rows: int
    n_columns: int
    gap_x: float = 0.06
    gap_y: float = 0.06

    def boxes(self) -> Array:
        """Return left, bottom, right and top of each box, row by row, shape (n, 4)."""
        row, column = np.divmod(np.arange(self.n_rows * self.n_columns), self.n_columns)
        left, top = column * (1 + self.gap_x), row * (1 + self.gap_y)
        return np.stack([left, top + 1, left + 1, top], 1).astype(np.float64)

    def inches(
        self, size: tuple[float, float], margin: tuple[float, float]
    ) -> tuple[float, float]:
        """Return width and height of a figure whose boxes are of this size."""
        width, height = self._extent()
        return size[0] * width + margin[0], size[1] * height + margin[1]

    def finish(
        self,
        ax: Axes,
        *,
        aspect: float | None,
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        on_top: bool = False,
        headroom: float = 0.0,
    ) -> None:
        """Set the frame, and the labels of rows to the left and of columns below or on top.

        ``aspect`` is the height of a box over its width, None for what fits the axes;
        ``headroom``, in boxes, is what lies above the first row.
        """
        width, height = self._extent()
        ax.set_xlim(0, width)
        ax.set_ylim(height, -headroom)
        ax.set_aspect("auto" if aspect is None else aspect)
        middle_x = np.arange(len(columns)) * (1 + self.gap_x) + 0.5
        middle_y = np.arange(len(rows)) * (1 + self.gap_y) + 0.5
        ax.set_xticks(middle_x, labels=list(columns))
        ax.set_yticks(middle_y, labels=list(rows))
        ax.tick_params(length=0, bottom=False, labelbottom=not on_top, labeltop=on_top)
        for spine in ax.spines.values():
            spine.set_visible(False)

    def frame(self, ax: Axes, n: int, x: Ticks, y: Ticks, titles: Sequence[str] = ()) -> None:
        """Draw a frame around each of the first n boxes, with ticks at the left and at the foot.

        Titles stand above the boxes, for which there must be a gap.
        """
        from matplotlib.collections import PolyCollection

        boxes = self.boxes()[:n]
        corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]  # (n, 4, 2)
        ax.add_collection(
            PolyCollection(list(corners), facecolors="none", edgecolors=FRAME, lw=0.8, zorder=0),
            autolim=False,
        ).set_clip_on(False)  # half of the outer lines is outside of the axes
        n_columns = min(n, self.n_columns)
        left = np.arange(n_columns) * (1 + self.gap_x)
        top = np.arange(-(-n // self.n_columns)) * (1 + self.gap_y)
        ax.set_xticks((left[:, None] + np.asarray(x[0])).ravel(), labels=list(x[1]) * n_columns)
        ax.set_yticks((top[:, None] + np.asarray(y[0])).ravel(), labels=list(y[1]) * len(top))
        ax.tick_params(length=2, labelsize="small")
        for box, title in zip(boxes, titles, strict=False):
            ax.text(box[0], box[3] - 0.03, title, fontsize="small", ha="left", va="bottom")

    def _extent(self) -> tuple[float, float]:
        return (
            self.n_columns * (1 + self.gap_x) - self.gap_x,
            self.n_rows * (1 + self.gap_y) - self.gap_y,
        )
