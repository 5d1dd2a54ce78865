"""Rows of tables: a bar for each column, in standard deviations from its mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from skvae.plot._painter import Array, Items, Painter, coordinate
from skvae.plot._sheet import Sheet, Ticks
from skvae.plot._style import CONTINUOUS, PLAIN, Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_BARS", "Bars"]

MOST_BARS = 24
LONGEST = 24  # characters of a name
OVER_MAP = 17  # characters above a map
MAP = 1.35  # inches
REACH = 3.0  # standard deviations from the middle of a box to its side


class Bars(Painter):
    """Rows of a table, column below column.

    Parameters
    ----------
    names : sequence of str
        Of the columns.
    reference : array, shape (n, p)
        Rows whose mean and standard deviation are the units.
    """

    overlays: ClassVar[bool] = True
    side: ClassVar[int] = 40
    per_row: ClassVar[int] = 6

    def __init__(self, names: Sequence[str], reference: Any) -> None:
        self.columns = [short(name) for name in names]
        rows = self.read(reference).reshape(-1, len(self.columns))
        rows = np.where(np.isnan(rows).all(0), 0, rows)  # a column without any value
        self.mean, sd = np.nanmean(rows, 0), np.nanstd(rows, 0)
        self.sd = np.where(sd > 0, sd, 1.0)
        p = len(self.columns)
        self.size = (1.3, max(0.9, 0.19 * p))
        self.y_ticks = ((np.arange(p) + 0.5) / p).tolist(), self.columns
        self.x_ticks: Ticks = ((1 / 6, 0.5, 5 / 6), ("−2", "0", "2"))
        self.note = "standard deviations from the mean"

    def items(self, rows: Any) -> Items:
        """Return rows in standard units, (n, p)."""
        return np.asarray((self.read(rows).reshape(-1, len(self.columns)) - self.mean) / self.sd)

    def paint(self, ax: Axes, items: Items, boxes: Array, ink: Ink = PLAIN) -> None:
        """Draw bars from the middle, or only where they end if the ink is for the foreground."""
        from matplotlib.collections import PolyCollection

        values = np.asarray(items, np.float64).clip(-REACH, REACH)  # (n, p)
        left, bottom, right, top = boxes.T[..., None]  # (n, 1)
        middle, p = (left + right) / 2, values.shape[1]
        x = middle + values / REACH * (right - left) / 2
        y = top + (np.arange(p) + 0.5) / p * (bottom - top)
        ax.plot(*_columns(np.repeat(middle, 2, 1), boxes[:, [1, 3]]), color="#d0d0d0", lw=0.8)
        if not (ink.backdrop or ink.alone):
            ax.plot(x.ravel(), y.ravel(), ink.marker, color=ink.color, ms=4, zorder=4)
            return
        half = 0.38 / p * (bottom - top)
        middle = np.broadcast_to(middle, x.shape)
        corners = np.stack([middle, y - half, x, y - half, x, y + half, middle, y + half], -1)
        known = ~np.isnan(x)
        ax.add_collection(
            PolyCollection(
                list(corners.reshape(*x.shape, 4, 2)[known]), facecolors=ink.color, lw=0, zorder=2
            ),
            autolim=False,
        )

    def key(self, ink: Ink) -> dict[str, Any]:
        """Return how a legend shows an ink."""
        if ink.backdrop or ink.alone:
            return {"color": ink.color, "lw": 7}
        return {"color": ink.color, "lw": 0, "marker": ink.marker, "ms": 4}

    def plane(self, ax: Axes, items: Items, values: Array) -> None:
        """Draw a map of each column over the plane."""
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.image import AxesImage

        n, p = len(values), len(self.columns)
        maps = np.asarray(items).reshape(n, n, p)
        sheet = self._maps()
        norm = Normalize(max(-REACH, maps.min()), min(REACH, maps.max()))
        boxes = sheet.boxes()[:p]
        for j, (left, bottom, right, top) in enumerate(boxes):
            extent = (left, right, bottom, top)
            artist = AxesImage(
                ax, cmap=colormaps[CONTINUOUS], norm=norm, extent=extent, interpolation="nearest"
            )
            artist.set_data(maps[..., j])
            artist.set_clip_path(ax.patch)
            ax.add_image(artist)
        sheet.finish(ax, aspect=1)
        places = (0.15, 0.5, 0.85)
        labels = [coordinate(np.quantile(values, q)) for q in places]
        sheet.frame(ax, p, (places, labels), (places, labels[::-1]), self._titles())
        ax.set_xlabel("latent dimension 1")
        ax.set_ylabel("latent dimension 2")
        assert ax.figure is not None
        shades = ScalarMappable(norm, CONTINUOUS)
        ax.figure.colorbar(shades, ax=ax, label=self.note, fraction=0.04)

    @property
    def plane_size(self) -> tuple[float, float]:
        """Width and height of a figure with a map of each column."""
        return self._maps().inches((MAP, MAP), (1.8, 0.8))

    def _maps(self) -> Sheet:
        p = len(self.columns)
        n_columns = int(np.ceil(np.sqrt(p * 1.3)))
        return Sheet(-(-p // n_columns), n_columns, 0.12, 0.28)

    def _titles(self) -> list[str]:
        return [short(name, OVER_MAP) for name in self.columns]


def _columns(x: Array, y: Array) -> tuple[Array, Array]:
    """Return lines (n, 2) as the columns that ``plot`` takes."""
    return x.T, y.T


def short(name: str, most: int = LONGEST) -> str:
    """Return a name that leaves room for others."""
    return name if len(name) <= most else name[: most - 1] + "…"
