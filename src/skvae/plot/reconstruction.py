"""Rows beside what the model makes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from skvae.plot._choose import check_latent, painter_of
from skvae.plot._layout import versions
from skvae.plot._painter import Items, Painter
from skvae.plot._rows import count, opened, some, spread
from skvae.plot._style import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["ReconstructionDisplay"]


@dataclass
class ReconstructionDisplay(Display):
    """Rows and their reconstructions, or any other versions of the same rows.

    Images stand below each other; bars and lines are drawn over each other.

    Attributes
    ----------
    rows : dict of str to rows
        Label and rows of each version, as the model takes or returns them; NaN is shown as
        missing.
    painter : Painter
        As `painter_of` returns it.
    """

    rows: Mapping[str, Any]
    painter: Painter

    @classmethod
    def from_estimator(cls, vae: VAE, X: Any, *, n_rows: int = 10, ax: Axes | None = None) -> Self:
        """Show rows of X and E[x | z] at their posterior means.

        Parameters
        ----------
        vae : VAE
        X : rows as for `fit`
        n_rows : int
            So many, spread evenly over X.
        ax : matplotlib Axes or None
        """
        check_latent(vae)
        X = opened(vae, X, 10_000)
        painter = painter_of(vae, X)
        chosen = some(X, spread(count(X), n_rows))
        rows = {"data": chosen, "reconstruction": vae.reconstruct(chosen)}
        return cls(rows, painter).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        items: dict[str, Items] = {
            label: self.painter.items(rows) for label, rows in self.rows.items()
        }
        return self._drawn(versions(ax, self.painter, items), title)
