"""Colours, markers and axes that all pictures share.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common
colour blindness tell apart, without yellow, which white paper swallows. Nothing is told by colour
alone: classes differ in their markers, versions of a row in markers and dashes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from skvae.exceptions import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = [
    "COLORS",
    "CONTINUOUS",
    "GREY",
    "MARKERS",
    "PLAIN",
    "Display",
    "Ink",
    "axes",
    "color_of_class",
    "inks",
    "inks_of_values",
]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "^", "s", "D", "v")  # their number has no factor in common with the colours'
DASHES = ("-", "--", "-.", ":")
GREY = "#9a9a9a"
DARKER = 0.6
CONTINUOUS = "cividis"  # perceptually uniform, the same to colour-blind eyes, and rising in grey


@dataclass(frozen=True)
class Ink:
    """How one version of a row is drawn over others.

    Attributes
    ----------
    color : colour of matplotlib
    marker, dash : str
    backdrop : bool
        Broad and pale, behind the others.
    alone : bool
        There are no others.
    """

    color: Any = COLORS[0]
    marker: str = MARKERS[0]
    dash: str = DASHES[0]
    backdrop: bool = False
    alone: bool = False


PLAIN = Ink(alone=True)


def inks(n: int) -> list[Ink]:
    """Return an ink for each of n versions; the first is what the others are compared with."""
    first = PLAIN if n == 1 else Ink(GREY, backdrop=True)
    others = [
        Ink(COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)], DASHES[i % len(DASHES)])
        for i in range(n - 1)
    ]
    return [first, *others]


def inks_of_values(values: Sequence[float]) -> list[Ink]:
    """Return inks whose colours rise with the values."""
    from matplotlib import colormaps

    low, high = min(values), max(values)
    shade = colormaps[CONTINUOUS]
    return [
        replace(Ink(), color=shade(0.95 * (v - low) / ((high - low) or 1)))  # not the palest
        for v in values
    ]


def color_of_class(i: int) -> str:
    """Return a colour for class i: after the first seven, which are enough for most, dark ones."""
    from matplotlib.colors import to_hex, to_rgb

    rounds, place = divmod(i, len(COLORS) - 1) if i >= len(COLORS) else (0, i)
    red, green, blue = to_rgb(COLORS[place])
    share = DARKER**rounds
    return to_hex((red * share, green * share, blue * share))


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """Return the axes that were given, or those of a new figure of so many inches."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


@dataclass
class Display:
    """A picture: what it shows, and once it is drawn, where.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    def _drawn(self, ax: Axes, title: str | None) -> Self:
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self
