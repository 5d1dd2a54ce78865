"""The ELBO, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skvae.exceptions import ParameterError
from skvae.plot._style import COLORS, Display, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.callbacks import History

__all__ = ["TrainingCurveDisplay"]

CURVES = (("train_elbo", "training", COLORS[0], "-"), ("valid_elbo", "held out", COLORS[1], "--"))


@dataclass
class TrainingCurveDisplay(Display):
    """The ELBO of training and held-out rows over the epochs, in nats per row.

    Attributes
    ----------
    histories : sequence of History
        One, or that of each member of a `VAEImputer`.
    """

    histories: Sequence[History]

    @classmethod
    def from_estimator(cls, estimator: Any, *, ax: Axes | None = None) -> Self:
        """Draw the curves of a fitted estimator.

        Parameters
        ----------
        estimator : VAE, VAEClassifier, VAERegressor or VAEImputer
        ax : matplotlib Axes or None
        """
        found = estimator.history_
        return cls(tuple(found) if isinstance(found, list | tuple) else (found,)).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw the curves; the first tenth of the epochs may leave the frame.

        Raises
        ------
        ParameterError
            There is no epoch to show.
        """
        if not any(len(history) for history in self.histories):
            raise ParameterError("the model has no history: it was never trained for an epoch.")
        ax = axes(ax, 6, 4)
        settled = []
        for name, label, color, dash in CURVES:
            for history in self.histories:
                if name not in history.columns:
                    continue
                curve = history[name]
                lone = "o" if len(curve) == 1 else ""
                ax.plot(history["epoch"], curve, dash, color=color, label=label, marker=lone)
                # The first epochs would squeeze everything that is of interest into a line.
                settled.append(curve[len(curve) // 10 :])
                label = "_"  # of several members, one stands in the legend
        values = np.concatenate(settled)
        values = values[np.isfinite(values)]
        if len(values) >= 10:
            low, high = values.min(), values.max()
            room = (high - low) or 1.0
            ax.set_ylim(low - 0.05 * room, high + 0.1 * room)
        ax.set_xlabel("epoch")
        ax.set_ylabel("ELBO, nats per row")
        ax.legend()
        ax.grid(alpha=0.3)
        return self._drawn(ax, title)
