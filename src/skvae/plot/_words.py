"""Texts and other sequences of codes: as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from skvae.plot._painter import Array, Items, Painter
from skvae.plot._style import PLAIN, Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Words"]

MOST = 40  # characters that are shown of a text
PER_CHARACTER = 0.085  # inches
HOLE = "_"


class Words(Painter):
    """Texts below each other; codes are parted by spaces, and what is missing is a low line.

    Parameters
    ----------
    reference : sequence of sequences
        How long texts are.
    """

    reads_down: ClassVar[bool] = True
    side: ClassVar[int] = 7
    per_row: ClassVar[int] = 4

    def __init__(self, reference: Any) -> None:
        longest = max(map(len, self.items(reference)), default=1)
        self.size = (max(0.5, PER_CHARACTER * longest + 0.15), 0.26)

    @property
    def plane_size(self) -> tuple[float, float]:
        """Width and height of a figure with a plane, in inches."""
        return self.side * self.size[0] + 0.8, self.side * 0.4 + 0.8

    def items(self, rows: Any) -> Items:
        """Return texts of at most 40 characters."""
        return [_short(row if isinstance(row, str) else _written(row)) for row in rows]

    def paint(self, ax: Axes, items: Items, boxes: Array, ink: Ink = PLAIN) -> None:
        """Write each text at the left of its box."""
        color = "black" if ink.backdrop or ink.alone else ink.color
        for text, (left, bottom, right, top) in zip(items, boxes, strict=True):
            ax.text(
                left + 0.03 * (right - left),
                (bottom + top) / 2,
                text,
                color=color,
                family="monospace",
                fontsize=9,
                va="center",
                parse_math=False,
            )


def _written(row: Any) -> str:
    tokens = [HOLE if token is None or token != token else str(token) for token in row]
    return ("" if all(len(token) == 1 for token in tokens) else " ").join(tokens)


def _short(text: str) -> str:
    return text if len(text) <= MOST else text[: MOST - 1] + "…"
