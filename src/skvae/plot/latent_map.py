"""Rows as points of the latent plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skvae.exceptions import DataError, ParameterError
from skvae.plot._choose import check_latent, painter_of
from skvae.plot._dimensions import by_kl
from skvae.plot._map_labels import Classes, Quantity, labels_of
from skvae.plot._painter import Items, Painter
from skvae.plot._rows import count, opened, some
from skvae.plot._style import COLORS, CONTINUOUS, GREY, Display, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["LatentMapDisplay", "Thumbnails"]

Array = NDArray[Any]

MANY = 20_000  # points that hide each other
MOST_CELLS = 240
SHAPES_FROM = 6  # square points
BOX = 0.07  # of a thumbnail, in sides of the axes
ROWS_FOR_KL = 2000


@dataclass(frozen=True)
class Thumbnails:
    """Rows that are shown on a map, in the place of their points.

    Attributes
    ----------
    items : rows as the painter takes them
    index : ndarray of int, shape (m,)
        Which points they are.
    painter : Painter
    """

    items: Items
    index: NDArray[np.int64]
    painter: Painter


@dataclass
class LatentMapDisplay(Display):
    """Posterior means in two latent dimensions, coloured by label or quantity.

    Attributes
    ----------
    Z : ndarray, shape (n, 2)
    y : ndarray, shape (n,), or None
        Classes, or a quantity where they are numbers of more than 20 values or not whole. −1,
        NaN and None are unknown classes.
    dimensions : tuple of two int
        From 0.
    density : bool
        Whether shares of the plane are drawn in place of single points.
    thumbnails : Thumbnails or None
    """

    Z: Array
    y: Array | None = None
    dimensions: tuple[int, int] = (0, 1)
    density: bool = False
    thumbnails: Thumbnails | None = None

    @classmethod
    def from_estimator(
        cls,
        vae: VAE,
        X: Any,
        y: ArrayLike | None = None,
        *,
        dimensions: tuple[int, int] | None = None,
        density: bool | Literal["auto"] = "auto",
        thumbnails: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Encode X and draw two of its latent dimensions.

        Parameters
        ----------
        vae : VAE
        X : rows as for `fit`
        y : array, shape (n,), or None
        dimensions : tuple of two int, or None
            By default the two whose KL is largest.
        density : bool or "auto"
            ``"auto"`` draws densities of more than 20,000 rows.
        thumbnails : int
            At most so many rows are shown themselves, spread over the map; they are read into
            memory.
        ax : matplotlib Axes or None

        Raises
        ------
        ParameterError
            The model has fewer than two latent dimensions, or not these.
        DataError
            y is not one label for each row, or is of one class; all rows have the same place.
        """
        check_latent(vae)
        painter = None
        if thumbnails:
            X = opened(vae, X)
            painter = painter_of(vae, X)
        Z = np.asarray(vae.transform(X))
        chosen = _chosen(vae, X, dimensions, Z.shape[1])
        labels = None if y is None else np.asarray(y)
        Z = Z[:, list(chosen)]
        shown = None
        if painter is not None:
            index = _spread_over(Z, thumbnails)
            shown = Thumbnails(painter.items(some(X, index)), index, painter)
        dense = len(Z) > MANY if density == "auto" else density
        return cls(Z, labels, chosen, dense, shown).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones; up to 20 classes get their name."""
        if len(self.Z) == 0 or not np.ptp(self.Z, axis=0).any():
            raise DataError(
                f"All {len(self.Z)} rows have the same place, so there is no map. Either the rows "
                "are equal, or the model tells nothing of them: see VAE.evaluate(X).kl."
            )
        labels = None if self.y is None else labels_of(self.y, len(self.Z))
        ax = axes(ax, 6.4 if isinstance(labels, Quantity) else 6, 6)
        if labels is None:
            self._plain(ax)
        elif isinstance(labels, Quantity):
            self._quantity(ax, labels)
        else:
            (self._shares if self.density else self._points)(ax, labels)
            labels.name(ax, self.Z)
        if self.thumbnails is not None:
            self._thumbnails(ax, self.thumbnails)
        ax.set_xlabel(f"latent dimension {self.dimensions[0] + 1}")
        ax.set_ylabel(f"latent dimension {self.dimensions[1] + 1}")
        return self._drawn(ax, title)

    def _xy(self, rows: Any = slice(None)) -> tuple[Array, Array]:
        return self.Z[rows, 0], self.Z[rows, 1]

    @property
    def _size(self) -> float:
        """Area of a point, in square points."""
        return float(np.clip(20000 / len(self.Z), 1.5, 30))

    @property
    def _cells(self) -> int:
        """Cells of a density along a side, so many that a few rows are in each."""
        return int(np.clip(np.sqrt(len(self.Z)), 30, MOST_CELLS) / 1.5)

    def _plain(self, ax: Axes) -> None:
        if not self.density:
            ax.scatter(*self._xy(), s=self._size, linewidths=0, alpha=0.6, color=COLORS[0])
            return
        cells = ax.hexbin(
            *self._xy(), gridsize=self._cells, bins="log", mincnt=1, cmap=f"{CONTINUOUS}_r"
        )
        _bar(ax, cells, "rows")

    def _quantity(self, ax: Axes, labels: Quantity) -> None:
        known = np.isfinite(labels.values)
        if not known.all():
            ax.scatter(*self._xy(~known), s=self._size, linewidths=0, alpha=0.3, color=GREY)
        (x, y), values = self._xy(known), labels.values[known]
        low, high = np.quantile(values, [0.01, 0.99])  # one odd value must not take all colours
        how: dict[str, Any] = {"cmap": CONTINUOUS, "vmin": low, "vmax": high}
        if self.density:
            _bar(ax, ax.hexbin(x, y, C=values, gridsize=self._cells, **how), "y, mean of a cell")
        else:
            points = ax.scatter(x, y, c=values, s=self._size, linewidths=0, alpha=0.8, **how)
            _bar(ax, points, "y")

    def _points(self, ax: Axes, labels: Classes) -> None:
        shapes = self._size >= SHAPES_FROM  # of smaller ones, squares would look like more
        for ink, rows in labels.groups():
            ax.scatter(
                *self._xy(rows),
                s=self._size,
                linewidths=0,
                color=ink.color,
                marker=ink.marker if shapes else "o",
                alpha=0.3 if ink.backdrop else 0.6,
            )

    def _shares(self, ax: Axes, labels: Classes) -> None:
        """Colour each cell of the plane by its most frequent class, the fuller the stronger."""
        from matplotlib.colors import to_rgb

        edges = [np.linspace(z.min(), z.max(), self._cells + 1) for z in self.Z.T]
        groups = list(labels.groups())
        found = (np.histogram2d(*self._xy(rows), bins=(edges[0], edges[1])) for _, rows in groups)
        counts = np.stack([count.T for count, _, _ in found])  # (C, cells, cells)
        total = counts.sum(0)
        colors = np.array([to_rgb(ink.color) for ink, _ in groups])
        strength = np.log1p(total) / np.log1p(total.max())
        alpha = np.where(total > 0, 0.2 + 0.8 * strength, 0)
        picture = np.concatenate([colors[counts.argmax(0)], alpha[..., None]], -1)
        extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
        ax.imshow(picture, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
        ax.margins(0.03)

    def _thumbnails(self, ax: Axes, shown: Thumbnails) -> None:
        from matplotlib.collections import PolyCollection

        ax.margins(0.05)
        ax.autoscale_view()
        (x0, x1), (y0, y1) = ax.get_xlim(), ax.get_ylim()
        w, h = shown.painter.size
        scale = BOX / np.sqrt(w * h)
        half = np.array([w * scale * (x1 - x0), h * scale * (y1 - y0)]) / 2
        low, high = self.Z[shown.index] - half, self.Z[shown.index] + half
        boxes = np.stack([low[:, 0], low[:, 1], high[:, 0], high[:, 1]], 1)
        corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        frame = PolyCollection(
            list(corners), facecolors="white", edgecolors=GREY, lw=0.5, zorder=1.5
        )
        ax.add_collection(frame, autolim=False)
        shown.painter.paint(ax, shown.items, boxes)
        ax.set_xlim(min(x0, boxes[:, 0].min()), max(x1, boxes[:, 2].max()))
        ax.set_ylim(min(y0, boxes[:, 1].min()), max(y1, boxes[:, 3].max()))


def _chosen(vae: VAE, X: Any, dimensions: tuple[int, int] | None, width: int) -> tuple[int, int]:
    if width < 2:
        raise ParameterError(
            "a map needs two latent dimensions, but the model has one. Fit with n_components=2."
        )
    if dimensions is None:
        if width == 2:
            return (0, 1)
        some_rows = opened(vae, X, ROWS_FOR_KL)
        order, _ = by_kl(vae, some(some_rows, np.arange(min(count(some_rows), ROWS_FOR_KL))))
        return (int(order[0]), int(order[1]))
    if len(dimensions) != 2 or not all(0 <= d < width for d in dimensions):
        raise ParameterError(
            f"dimensions={dimensions!r} must be two numbers from 0 to {width - 1}, for z of this "
            f"model has {width} dimensions."
        )
    return (int(dimensions[0]), int(dimensions[1]))


def _bar(ax: Axes, mappable: Any, label: str) -> None:
    assert ax.figure is not None
    bar = ax.figure.colorbar(mappable, ax=ax, label=label, fraction=0.04, aspect=30)
    if bar.solids is not None:
        bar.solids.set_alpha(1)


def _spread_over(Z: Array, n: int) -> NDArray[np.int64]:
    """Return at most n rows, no two of which are so near that their pictures would overlap."""
    span = np.ptp(Z, axis=0)
    place = (Z - Z.min(0)) / np.where(span > 0, span, 1)
    free = np.ones(len(Z), bool)
    found: list[int] = []
    while free.any() and len(found) < n:
        # The next one is far from the others, beginning in the middle.
        others = place[found] if found else np.full((1, 2), 0.5)
        gap = np.abs(place[free][:, None] - others).max(-1).min(1)
        i = int(np.flatnonzero(free)[gap.argmax() if found else gap.argmin()])
        found.append(i)
        free &= np.abs(place - place[i]).max(1) > 1.15 * BOX
    return np.array(found, dtype=np.int64)
