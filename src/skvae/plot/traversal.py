"""What each latent dimension does to a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae.plot._choose import check_latent, painter_of
from skvae.plot._dimensions import by_kl
from skvae.plot._layout import steps
from skvae.plot._painter import Painter
from skvae.plot._rows import opened, single
from skvae.plot._style import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["TraversalDisplay"]

ROWS_FOR_KL = 2000


@dataclass
class TraversalDisplay(Display):
    """One row with one latent dimension after the other set to a range of values.

    Attributes
    ----------
    rows : dict of str to rows
        What each dimension makes of the row, the dimension that tells most first.
    values : ndarray, shape (n_steps,)
        What the dimensions are set to.
    dimensions : tuple of int
        From 0, in the order of the rows.
    painter : Painter
    """

    rows: Mapping[str, Any]
    values: NDArray[np.float64]
    dimensions: tuple[int, ...]
    painter: Painter

    @classmethod
    def from_estimator(
        cls,
        vae: VAE,
        X: Any = None,
        *,
        row: int = 0,
        n_dimensions: int = 8,
        n_steps: int = 9,
        reach: float = 2.5,
        ax: Axes | None = None,
    ) -> Self:
        """Order the dimensions by their KL, and decode.

        Parameters
        ----------
        vae : VAE
        X : rows as for `fit`, or None
            The KL is their mean, in nats per row; without rows, that of 500 samples.
        row : int
            Which row of X is changed.
        n_dimensions : int
            So many at most.
        n_steps : int
        reach : float
            Values go from minus this to this; the prior's standard deviation is 1.
        ax : matplotlib Axes or None

        Raises
        ------
        ParameterError
            X has no such row, or z is not made of numbers, as that of ``posterior="categorical"``.
        """
        check_latent(vae)
        X = vae.sample(500, random_state=0) if X is None else opened(vae, X, ROWS_FOR_KL)
        x = single(X, row)
        order, kl = by_kl(vae, X)
        values = np.linspace(-reach, reach, n_steps)
        order = order[:n_dimensions]
        rows = {_label(i, kl): vae.traverse(x, int(i), values) for i in order}
        return cls(rows, values, tuple(map(int, order)), painter_of(vae, X)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        items = {label: self.painter.items(rows) for label, rows in self.rows.items()}
        name = "value of z"
        return self._drawn(steps(ax, self.painter, items, self.values.tolist(), name), title)


def _label(i: int, kl: NDArray[np.float64] | None) -> str:
    return f"z{i + 1}" if kl is None else f"z{i + 1}  {kl[i]:.2f} nats"
