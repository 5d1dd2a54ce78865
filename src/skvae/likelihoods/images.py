"""Pixels as the bytes that they are: a discretized mixture of logistics."""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from skvae import families
from skvae.likelihoods.base import Likelihood, LikelihoodModule, Support, at_least, bounded

__all__ = ["DiscretizedLogisticMixture", "bits_per_dim"]

Number = TypeVar("Number", float, Tensor)


def bits_per_dim(log_likelihood: Number, event_shape: tuple[int, ...]) -> Number:
    """Turn nats per row into bits per cell, the unit of the literature on images.

    Parameters
    ----------
    log_likelihood : float or Tensor
        log p(x) in nats per row, of discrete data.
    event_shape : tuple of int
        Shape of one row.

    Returns
    -------
    bits : same type; the smaller, the better

    Examples
    --------
    >>> import math
    >>> bits_per_dim(-3 * math.log(256), (3,))  # three bytes at random
    8.0
    """
    return -log_likelihood / (math.prod(event_shape) * math.log(2))


@dataclass(frozen=True)
class DiscretizedLogisticMixture(Likelihood, name="discretized_logistic_mixture"):
    """Bytes 0 to 255: a mixture of logistics for each cell, rounded to whole numbers.

    Log-probabilities are those of discrete data, so `bits_per_dim` of them compares with the
    literature. The colours of a pixel are independent given z, unlike in PixelCNN++ (Salimans et
    al., 2017, arXiv:1701.05517), from which the rest is taken.

    Parameters
    ----------
    n_mixtures : int
        Number of logistics K per cell.
    """

    n_mixtures: int = 5

    def __post_init__(self) -> None:
        at_least(self.n_mixtures, 1, "DiscretizedLogisticMixture: n_mixtures")

    @property
    def support(self) -> Support:
        """0, ..., 255."""
        return Support(
            0.0,
            255.0,
            integral=True,
            advice="Give bytes as they are in the file, neither divided by 255 nor standardised.",
        )

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return DiscretizedLogisticModule(event_shape, self.n_mixtures)


class DiscretizedLogisticModule(LikelihoodModule):
    """Mixture of logistics around the data's mean, on a scale from −1 (0) to 1 (255).

    Parameters are stacked in front: K logits of the weights, K means, K log-scales.
    """

    MAX_LOC = 3.0
    LOG_SCALE = -2.0, 3.0, 5.0  # start, and how far up and down it may go: e^1 and e^−7
    SPREAD = 0.5  # the means start apart, so that they learn different things

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...], n_mixtures: int) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.n_mixtures = n_mixtures
        self.param_shape = (3 * n_mixtures, *event_shape)
        self.register_buffer("base", torch.zeros(n_mixtures, *event_shape))
        self._start_at(torch.zeros(event_shape))

    def _start_at(self, center: Tensor) -> None:
        k = self.n_mixtures
        apart = torch.linspace(-self.SPREAD, self.SPREAD, k) if k > 1 else torch.zeros(1)
        self.base.copy_(center + apart.view(k, *[1] * len(self.event_shape)).to(center))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start around the mean of the training data."""
        self._start_at(2 * mean / 255 - 1)

    def forward(self, h: Tensor) -> families.DiscretizedLogisticMixture:
        """Return the cells' distributions, h: (..., 3 K, *event)."""
        axis = -1 - len(self.event_shape)
        logits, loc, raw = h.unflatten(axis, (3, self.n_mixtures)).unbind(axis - 1)
        start, up, down = self.LOG_SCALE
        return families.DiscretizedLogisticMixture(
            logits.movedim(axis, -1),
            (self.base + bounded(loc, self.MAX_LOC)).movedim(axis, -1),
            torch.exp(start + bounded(raw, up, down)).movedim(axis, -1),
        )
