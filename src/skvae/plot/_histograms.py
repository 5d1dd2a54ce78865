"""Distributions of columns, two against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skvae.plot._rows import numbers
from skvae.plot._style import COLORS, GREY, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["marginals", "two_histograms", "two_shares"]

Array = NDArray[Any]

FEW_VALUES = 12  # of whole numbers, which get a bar each
BINS = 30
OUTSIDE = 0.002  # share at either end that does not stretch the bins


def marginals(ax: Axes | None, sets: Mapping[str, Any], names: Sequence[str]) -> Axes:
    """Draw the distribution of each column in two sets of rows, (n, p) and (m, p)."""
    n_columns = min(4, len(names))
    n_rows = -(-len(names) // n_columns)
    ax = axes(ax, 2.4 * n_columns, 1.8 * n_rows + 0.4)
    ax.set_axis_off()
    values = {label: numbers(rows).reshape(-1, len(names)) for label, rows in sets.items()}
    for j, name in enumerate(names):
        row, column = divmod(j, n_columns)
        height, width = 1 / n_rows, 1 / n_columns
        # Room for the numbers below each and for the name above it.
        place = (column * width, 1 - (row + 0.82) * height, 0.9 * width, 0.64 * height)
        own = ax.inset_axes(place)
        two_histograms(own, {label: rows[:, j] for label, rows in values.items()})
        own.set_title(name, fontsize="small", pad=3)
        own.set_yticks([])
        own.tick_params(labelsize="small")
        own.locator_params(axis="x", nbins=4)
        own.spines[["left", "top", "right"]].set_visible(False)
        if j == 0:
            handles, labels = own.get_legend_handles_labels()
    ax.legend(
        handles, labels, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2,
        frameon=False, borderaxespad=0,
    )  # fmt: skip
    return ax


def two_histograms(ax: Axes, sets: Mapping[str, Array]) -> None:
    """Draw two densities with common bins: the first filled, the second as an outline."""
    (first, a), (second, b) = (
        (label, values[np.isfinite(values)]) for label, values in sets.items()
    )
    bins = _edges(a, b).tolist()
    low, high = bins[0], bins[-1]
    a, b = a.clip(low, high), b.clip(low, high)
    ax.hist(a, bins, density=True, color=GREY, alpha=0.6, label=first)
    ax.hist(b, bins, density=True, histtype="step", lw=1.6, color=COLORS[0], label=second)


def two_shares(ax: Axes, sets: Mapping[str, Array], levels: Sequence[Any]) -> None:
    """Draw the share of each level in two sets, side by side."""
    place = np.arange(len(levels))
    inks = ((GREY, ""), (COLORS[0], "//"))
    for i, ((label, values), (color, hatch)) in enumerate(zip(sets.items(), inks, strict=True)):
        shares = [np.mean(values == level) for level in levels]
        ax.bar(
            place + 0.4 * (i - 0.5), shares, 0.4, label=label, color=color, hatch=hatch,
            edgecolor="white",
        )  # fmt: skip
    ax.set_xticks(place, [str(level) for level in levels])


def _edges(a: Array, b: Array) -> NDArray[np.float64]:
    both = np.concatenate([a, b]).astype(np.float64)
    values = np.unique(a)
    whole = len(values) <= FEW_VALUES and (values == np.round(values)).all()
    if whole and np.ptp(both) <= 2 * BINS:
        return np.arange(np.floor(both.min()) - 0.5, np.ceil(both.max()) + 1)
    ends = [np.quantile(one, q) for one in (a, b) for q in (OUTSIDE, 1 - OUTSIDE)]
    low, high = min(ends), max(ends)
    return np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
