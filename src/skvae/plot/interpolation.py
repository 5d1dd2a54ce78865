"""What lies between two rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skvae.exceptions import ParameterError
from skvae.plot._choose import check_latent, painter_of
from skvae.plot._layout import steps
from skvae.plot._painter import Painter
from skvae.plot._rows import opened, single
from skvae.plot._style import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE
    from skvae.estimators._walks import Path

__all__ = ["InterpolationDisplay"]

ROWS_OF_A_STREAM = 50_000


@dataclass
class InterpolationDisplay(Display):
    """Rows decoded along paths between the posterior means of two rows.

    Attributes
    ----------
    rows : dict of str to rows
        The rows of each path, (n_steps, D) or (n_steps, *event).
    painter : Painter
    """

    rows: Mapping[str, Any]
    painter: Painter

    @classmethod
    def from_estimator(
        cls,
        vae: VAE,
        X: Any,
        *,
        ends: tuple[int, int] = (0, 1),
        n_steps: int = 9,
        paths: Path | Sequence[Path] = ("linear", "spherical", "data"),
        ax: Axes | None = None,
    ) -> Self:
        """Decode the paths.

        Parameters
        ----------
        vae : VAE
        X : rows as for `fit`
            The two rows, and those that the path ``"data"`` goes along.
        ends : tuple of two int
            Which rows of X.
        n_steps : int
        paths : sequence of {"linear", "spherical", "data"}
            As in `VAE.interpolate`.
        ax : matplotlib Axes or None
        """
        check_latent(vae)
        X = opened(vae, X, ROWS_OF_A_STREAM)
        painter = painter_of(vae, X)
        x0, x1 = (single(X, end) for end in ends)
        names = (paths,) if isinstance(paths, str) else paths
        if not names:
            raise ParameterError("paths must name at least one path.")
        rows: dict[str, Any] = {
            name: vae.interpolate(x0, x1, n_steps, path=name, along=X if name == "data" else None)
            for name in names
        }
        return cls(rows, painter).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        items = {label: self.painter.items(rows) for label, rows in self.rows.items()}
        n = len(next(iter(items.values())))
        values = np.linspace(0, 1, n).tolist()
        name = "share of the way"
        return self._drawn(steps(ax, self.painter, items, values, name), title)
