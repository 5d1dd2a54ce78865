"""What the points of a map are coloured by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skvae.estimators._labels import UNKNOWN, encode_labels
from skvae.exceptions import DataError
from skvae.plot._style import GREY, MARKERS, Ink, color_of_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MOST_CLASSES", "Classes", "Quantity", "labels_of"]

Array = NDArray[Any]

MOST_CLASSES = 20
LONGEST = 18  # characters of a name on the map
APART = 0.05  # of the map's size, between names


@dataclass(frozen=True)
class Quantity:
    """A number for each row, NaN where it is unknown."""

    values: NDArray[np.float64]


@dataclass(frozen=True)
class Classes:
    """A class for each row.

    Attributes
    ----------
    names : list of str
        Of the classes that are shown, at most 20, the most frequent ones.
    codes : ndarray of int, shape (n,)
        Numbers of the classes; −1 for unknown and all others.
    """

    names: list[str]
    codes: NDArray[np.int64]

    def groups(self) -> Iterator[tuple[Ink, NDArray[np.bool_]]]:
        """Yield ink and rows of each class, unknown ones first, which lie below."""
        rest = self.codes == UNKNOWN
        if rest.any():
            yield Ink(GREY, backdrop=True), rest
        for i in range(len(self.names)):
            ink = Ink(color_of_class(i), MARKERS[i % len(MARKERS)])
            yield ink, self.codes == i

    def name(self, ax: Axes, Z: Array) -> None:
        """Write the name of each class near the median of its points (n, 2)."""
        medians = np.array([np.median(Z[self.codes == i], 0) for i in range(len(self.names))])
        known = [ink for ink, _ in self.groups() if not ink.backdrop]
        places = spread_out(medians, APART * np.ptp(Z))
        for name, ink, (x, y) in zip(self.names, known, places, strict=True):
            ax.text(
                x,
                y,
                name if len(name) <= LONGEST else name[: LONGEST - 1] + "…",
                ha="center",
                va="center",
                fontweight="bold",
                parse_math=False,
                zorder=5,
                bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": ink.color, "alpha": 0.85},
            )


def labels_of(y: Array, n: int) -> Classes | Quantity:
    """Return what y says of n points.

    Raises
    ------
    DataError
        y is of another length, or is the same for all rows.
    """
    if y.ndim != 1 or len(y) != n:
        raise DataError(
            f"y has shape {y.shape}, but there are {n} rows, each of which needs one label "
            "(-1 or NaN where it is unknown)."
        )
    if _is_quantity(y):
        return Quantity(y.astype(np.float64))
    try:
        classes, codes = encode_labels(y, "a coloured map")
    except DataError as error:
        raise DataError(f"{error} Leave y out to see the points alone.") from error
    frequent = np.sort(np.argsort(-np.bincount(codes[codes >= 0]), kind="stable")[:MOST_CLASSES])
    place = np.full(len(classes) + 1, UNKNOWN)  # the last one is for those that are unknown
    place[frequent] = np.arange(len(frequent))
    return Classes([str(classes[i]) for i in frequent], place[codes])


def _is_quantity(y: Array) -> bool:
    if y.dtype.kind not in "iuf":
        return False
    known = y[np.isfinite(y.astype(np.float64))]
    whole = (known == np.round(known)).all()
    return not whole or len(np.unique(known)) > MOST_CLASSES


def spread_out(points: Array, distance: float) -> Array:
    """Push points (n, 2) apart until none is nearer to another than ``distance``, or nearly so."""
    points = points.astype(np.float64)
    for _ in range(100):
        gaps = points[:, None] - points[None]  # (n, n, 2)
        lengths = np.linalg.norm(gaps, axis=-1, keepdims=True)
        near = (lengths < distance) & (lengths > 0)
        if not near.any():
            break
        push = np.where(near, gaps / np.where(lengths > 0, lengths, 1) * (distance - lengths), 0)
        points += push.sum(1) / 2
    return points
