"""What a kind of rows is drawn by."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from skvae.plot._rows import numbers
from skvae.plot._sheet import Sheet, Ticks
from skvae.plot._style import PLAIN, Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["NO_TICKS", "Array", "Items", "Painter", "coordinate", "some_places"]

Array = NDArray[Any]
Items = Sequence[Any] | Array

NO_TICKS: Ticks = ((), ())
PLANE = 6.0  # inches


def coordinate(value: float) -> str:
    """Return a number of a latent dimension as axes show it."""
    return f"{value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def some_places(n: int) -> list[int]:
    """Return which of n boxes beside each other are labelled."""
    some = np.arange(n) if n <= 10 else np.linspace(0, n - 1, 5).round()
    return [int(i) for i in np.unique(some)]


class Painter(abc.ABC):
    """Draws rows of one kind, each in a box of its own.

    A subclass is one kind of rows: images, rows of a table, lines, texts. The displays know no
    kind, only this class.

    Attributes
    ----------
    size : tuple of float
        Width and height of a box in inches.
    overlays : bool
        Whether versions of a row are drawn over each other, rather than side by side.
    rigid : bool
        Whether boxes keep their proportions.
    reads_down : bool
        Whether what goes on is below what came before, rather than to the right of it.
    side : int
        Boxes along a side of a plane.
    per_row : int
        Boxes beside each other.
    columns : sequence of str
        Names of the columns of a table whose columns can be looked at one by one.
    note : str
        What the ticks of the boxes mean.
    """

    size: tuple[float, float]
    overlays: ClassVar[bool] = False
    rigid: ClassVar[bool] = False
    reads_down: ClassVar[bool] = False
    side: ClassVar[int]
    per_row: ClassVar[int]
    x_ticks: Ticks = NO_TICKS
    y_ticks: Ticks = NO_TICKS
    columns: Sequence[str] = ()
    note: str = ""

    @abc.abstractmethod
    def items(self, rows: Any) -> Items:
        """Return rows as what `paint` takes, one by one."""

    @abc.abstractmethod
    def paint(self, ax: Axes, items: Items, boxes: Array, ink: Ink = PLAIN) -> None:
        """Draw each item into its box: left, bottom, right, top, in the units of the axes."""

    def read(self, rows: Any) -> Array:
        """Return rows as numbers, (n, ·); of tables a column for each of ``columns``."""
        return numbers(rows)

    def key(self, ink: Ink) -> dict[str, Any]:
        """Return how a legend shows an ink, as arguments of ``Line2D``."""
        return {"color": ink.color}

    def plane(self, ax: Axes, items: Items, values: Array) -> None:
        """Draw items of a square grid over two coordinates with these values along either.

        They come row by row from the top left, where the second coordinate is largest.
        """
        n = len(values)
        sheet = Sheet(n, n)
        self.paint(ax, items, sheet.boxes())
        shown = some_places(n)
        labels = [coordinate(v) if i in shown else "" for i, v in enumerate(values)]
        sheet.finish(ax, aspect=self.aspect, rows=labels[::-1], columns=labels)
        ax.set_xlabel("latent dimension 1")
        ax.set_ylabel("latent dimension 2")

    @property
    def plane_size(self) -> tuple[float, float]:
        """Width and height of a figure with a plane, in inches."""
        return PLANE, max(0.5 * PLANE, PLANE * (self.aspect or 1))

    @property
    def aspect(self) -> float | None:
        """Height of a box over its width, where that matters."""
        return self.size[1] / self.size[0] if self.rigid else None
