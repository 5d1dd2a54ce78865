"""What the decoder makes of the latent plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae.plot._choose import check_latent, painter_of
from skvae.plot._painter import Painter
from skvae.plot._style import Display, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["ManifoldDisplay"]


@dataclass
class ManifoldDisplay(Display):
    """Rows decoded on a regular grid over two latent dimensions; for tables, a map per column.

    Attributes
    ----------
    rows : shape (n · n, D) or (n · n, *event)
        Row by row from the top left, where the second dimension is largest.
    values : ndarray, shape (n,)
        Coordinates of the grid along either axis.
    painter : Painter
    """

    rows: Any
    values: NDArray[np.float64]
    painter: Painter

    @classmethod
    def from_estimator(cls, vae: VAE, *, n: int | None = None, ax: Axes | None = None) -> Self:
        """Decode the grid; coordinates are equally spaced quantiles of N(0, 1).

        Parameters
        ----------
        vae : VAE
            With two latent dimensions.
        n : int or None
            Rows along a side; by default what can be read, 20 for images.
        ax : matplotlib Axes or None

        Raises
        ------
        ParameterError
            The model has other than two latent dimensions; see `TraversalDisplay`.
        """
        check_latent(vae)
        side = n or painter_of(vae, vae.sample(2, kind="mean", random_state=0)).side
        rows, values = vae.decode_grid(side)
        return cls(rows, values, painter_of(vae, rows)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        painter = self.painter
        ax = axes(ax, *painter.plane_size)
        painter.plane(ax, painter.items(self.rows), self.values)
        return self._drawn(ax, title)
