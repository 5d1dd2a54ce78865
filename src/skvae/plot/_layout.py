"""How rows stand beside each other: versions of them, steps of a path, or just many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from skvae.plot._painter import Items, Painter
from skvae.plot._sheet import Sheet
from skvae.plot._style import CONTINUOUS, PLAIN, Ink, axes, inks, inks_of_values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["many", "steps", "versions"]

MARGIN = (1.4, 0.5)  # inches, for labels
LOWEST = 2.0  # inches, for what stands beside the boxes
TITLED = 0.28  # gap above a box for its title, in inches


def many(ax: Axes | None, painter: Painter, items: Items) -> Axes:
    """Draw rows side by side."""
    n = len(items)
    if painter.overlays:
        return _over(ax, painter, {"": items}, [PLAIN], ())
    square = n > painter.per_row and not painter.reads_down
    n_columns = int(np.ceil(np.sqrt(n))) if square else min(n, painter.per_row)
    sheet = Sheet(-(-n // n_columns), n_columns)
    ax = axes(ax, *sheet.inches(painter.size, (0.3, 0.3)))
    painter.paint(ax, items, sheet.boxes()[:n])
    sheet.finish(ax, aspect=painter.aspect)
    return ax


def versions(ax: Axes | None, painter: Painter, rows: Mapping[str, Items]) -> Axes:
    """Draw versions of the same rows so that they can be compared."""
    if painter.overlays:
        ax = _over(ax, painter, rows, inks(len(rows)), ())
        _legend(ax, painter, rows, inks(len(rows)))
        return ax
    return _table(ax, painter, [list(items) for items in rows.values()], list(rows), ())


def steps(
    ax: Axes | None,
    painter: Painter,
    rows: Mapping[str, Items],
    values: Sequence[float],
    name: str,
) -> Axes:
    """Draw what rows become step by step, each of them beginning anew.

    Parameters
    ----------
    rows : mapping of str to items
        The steps of each row.
    values : sequence of float
        What the steps are taken at.
    name : str
        Of the values.
    """
    if not painter.overlays:
        labels = [f"{v:.2g}".replace("-", "−") for v in values]
        ax = _table(ax, painter, [list(items) for items in rows.values()], list(rows), labels)
        (ax.set_ylabel if painter.reads_down else ax.set_xlabel)(name)
        return ax
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shades = inks_of_values(values)
    turned = {label: [items[i] for items in rows.values()] for i, label in enumerate(values)}
    ax = _over(ax, painter, {str(v): items for v, items in turned.items()}, shades, list(rows))
    scale = ScalarMappable(Normalize(min(values), max(values)), CONTINUOUS)
    assert ax.figure is not None
    ax.figure.colorbar(scale, ax=ax, label=name, fraction=0.04, aspect=30)
    return ax


def _over(
    ax: Axes | None,
    painter: Painter,
    rows: Mapping[str, Items],
    colours: Sequence[Ink],
    titles: Sequence[str],
) -> Axes:
    """Draw versions over each other, a box for each row."""
    n = len(next(iter(rows.values())))
    n_columns = min(n, painter.per_row)
    # Boxes beside each other share the ticks at the left, so that little need lie between them.
    gap = TITLED / painter.size[1] if titles else 0.1
    sheet = Sheet(-(-n // n_columns), n_columns, 0.06, gap)
    width, height = sheet.inches(painter.size, (2.2, 0.7 + (TITLED if titles else 0)))
    ax = axes(ax, width, max(height, LOWEST))
    for items, ink in zip(rows.values(), colours, strict=True):
        painter.paint(ax, items, sheet.boxes()[:n], ink)
    sheet.finish(ax, aspect=None, headroom=gap if titles else 0)
    sheet.frame(ax, n, painter.x_ticks, painter.y_ticks, titles)
    ax.set_xlabel(painter.note)
    return ax


def _table(
    ax: Axes | None,
    painter: Painter,
    cells: list[list[object]],
    rows: list[str],
    columns: Sequence[str],
) -> Axes:
    """Draw rows of cells, or columns of them where the painter reads down."""
    down = painter.reads_down
    if down:
        cells = [list(column) for column in zip(*cells, strict=True)]
        rows, columns = list(columns), rows
    sheet = Sheet(len(cells), len(cells[0]))
    ax = axes(ax, *sheet.inches(painter.size, MARGIN))
    painter.paint(ax, list(chain.from_iterable(cells)), sheet.boxes(), Ink("black"))
    sheet.finish(ax, aspect=painter.aspect, rows=rows, columns=columns, on_top=down)
    return ax


def _legend(ax: Axes, painter: Painter, rows: Mapping[str, Items], colours: Sequence[Ink]) -> None:
    """Say beside the axes, where nothing else is, which version is which."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=label, **painter.key(ink))
        for label, ink in zip(rows, colours, strict=True)
    ]
    ax.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
