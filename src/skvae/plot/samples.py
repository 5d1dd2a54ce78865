"""New rows, with the training rows that are nearest to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from skvae.exceptions import ParameterError
from skvae.plot._choose import check_latent, painter_of
from skvae.plot._histograms import marginals
from skvae.plot._layout import many, versions
from skvae.plot._painter import Painter
from skvae.plot._rows import opened, some
from skvae.plot._style import Display

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["SamplesDisplay"]

SHOWN = 36  # samples, if nothing is beside them
BESIDE = 10  # with their neighbours
FOR_MARGINALS = 2000
ROWS_OF_A_STREAM = 50_000


@dataclass
class SamplesDisplay(Display):
    """Rows drawn from the model: alone, beside the nearest rows of X, or as marginals.

    Samples that equal their neighbours were learned by heart. Marginals set the distribution of
    each column of a table against that of the data.

    Attributes
    ----------
    samples : rows as the model returns them
    beside : rows or None
        The nearest row of X for each sample, or for marginals the rows of X.
    painter : Painter
    kind : {"rows", "marginals"}
    """

    samples: Any
    beside: Any
    painter: Painter
    kind: Literal["rows", "marginals"] = "rows"

    @classmethod
    def from_estimator(
        cls,
        vae: VAE,
        X: Any = None,
        *,
        n_samples: int | None = None,
        kind: Literal["auto", "rows", "marginals"] = "auto",
        random_state: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw samples.

        Parameters
        ----------
        vae : VAE
        X : rows as for `fit`, or None
            Where neighbours are looked for, and what marginals are compared with.
        n_samples : int or None
            By default 36 without X, 10 beside their neighbours, 2,000 for marginals.
        kind : {"auto", "rows", "marginals"}
            ``"auto"`` means marginals for tables of at most 24 columns where X is given, and
            otherwise rows. Rows are E[x | z], without noise; marginals are of draws from p(x | z).
        random_state : int or None
        ax : matplotlib Axes or None

        Raises
        ------
        ParameterError
            Marginals are asked for without X, or of rows that are no table.
        """
        if kind not in ("auto", "rows", "marginals"):
            raise ParameterError(f"kind must be 'auto', 'rows' or 'marginals'; received {kind!r}.")
        check_latent(vae)
        if X is not None:
            X = opened(vae, X, ROWS_OF_A_STREAM)
        if X is None:
            if kind == "marginals":
                raise ParameterError("kind='marginals' compares samples with data: pass X.")
            samples = vae.sample(n_samples or SHOWN, kind="mean", random_state=random_state)
            return cls(samples, None, painter_of(vae, samples)).plot(ax=ax)
        painter = painter_of(vae, X)
        if kind == "marginals" and not painter.columns:
            raise ParameterError(
                "kind='marginals' is for tables of at most 24 columns; show kind='rows' of these."
            )
        if kind != "rows" and painter.columns:
            samples = vae.sample(n_samples or FOR_MARGINALS, random_state=random_state)
            return cls(samples, X, painter, "marginals").plot(ax=ax)
        samples = vae.sample(n_samples or BESIDE, kind="mean", random_state=random_state)
        near = some(X, vae.nearest(samples, X))
        return cls(samples, near, painter).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        if self.kind == "marginals":
            read = self.painter.read
            sets = {"data": read(self.beside), "samples": read(self.samples)}
            return self._drawn(marginals(ax, sets, self.painter.columns), title)
        items = self.painter.items(self.samples)
        if self.beside is None:
            return self._drawn(many(ax, self.painter, items), title)
        rows = {"nearest\nrow of X": self.painter.items(self.beside), "sample": items}
        if not self.painter.overlays:
            rows = dict(reversed(rows.items()))
        return self._drawn(versions(ax, self.painter, rows), title)
