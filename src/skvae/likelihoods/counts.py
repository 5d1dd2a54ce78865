"""Counts: Poisson, negative binomial, and both with extra zeros."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae import families
from skvae.likelihoods.base import Likelihood, LikelihoodModule, Support, bounded, bounded_scale

__all__ = [
    "NegativeBinomial",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
]

MAX_RATIO = 3e6  # of a rate to the feature's mean; the least is e^-15 or so, its reciprocal
LEAST = 15.0
# Log-odds of an extra zero at the start: few, since the counts explain some of the zeros.
EXTRA_ZERO = -2.0


class Counts(Likelihood):
    """Base of the likelihoods for counts."""

    @property
    def support(self) -> Support:
        """0, 1, 2, ..."""
        return Support(
            0.0,
            integral=True,
            advice="Round the data if they are counts; otherwise choose likelihood='gaussian'.",
        )


@dataclass(frozen=True)
class Poisson(Counts, name="poisson"):
    """Counts whose variance equals their mean: decoded log-rate."""

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return CountModule(event_shape, overdispersed=False, zero_inflated=False)


@dataclass(frozen=True)
class NegativeBinomial(Counts, name="negative_binomial"):
    """Counts with variance μ + μ² / r: decoded log μ, learned r for each feature."""

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return CountModule(event_shape, overdispersed=True, zero_inflated=False)


@dataclass(frozen=True)
class ZeroInflatedPoisson(Counts, name="zero_inflated_poisson"):
    """Poisson counts with extra zeros, whose probability is decoded for every cell."""

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return CountModule(event_shape, overdispersed=False, zero_inflated=True)


@dataclass(frozen=True)
class ZeroInflatedNegativeBinomial(Counts, name="zero_inflated_negative_binomial"):
    """Negative binomial counts with extra zeros, as for single-cell data.

    Lopez et al., "Deep generative modeling for single-cell transcriptomics", 2018,
    arXiv:1709.02082.
    """

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return CountModule(event_shape, overdispersed=True, zero_inflated=True)


def log_ratio(h: Tensor) -> Tensor:
    """Log of softplus(h) / softplus(0), which is near h below 0 and grows as log h above.

    With exp(h) in its place, some draws of z decode to counts far above any that was seen, and
    outweigh all others in a mean.
    """
    return nn.functional.softplus(h).log() - math.log(math.log(2))


class CountModule(LikelihoodModule):
    """Counts with a rate relative to the data's mean, r from 1e-3 to 1e3, 1 at the start."""

    base: Tensor

    def __init__(
        self, event_shape: tuple[int, ...], *, overdispersed: bool, zero_inflated: bool
    ) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.param_shape = (2, *event_shape) if zero_inflated else event_shape
        self.zero_inflated = zero_inflated
        self.register_buffer("base", torch.zeros(event_shape))
        self.raw_shape = nn.Parameter(torch.zeros(event_shape)) if overdispersed else None

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the mean of the training data."""
        log_mean = mean.clamp(min=1e-3).log()
        if self.zero_inflated:  # (1 − π) μ is the mean
            log_mean = log_mean - nn.functional.logsigmoid(torch.tensor(-EXTRA_ZERO))
        self.base.copy_(log_mean)

    def forward(self, h: Tensor) -> Distribution:
        """Return the cells' distributions, h: (..., *event), or (..., 2, *event) with zeros."""
        rate, zero = self.split(h) if self.zero_inflated else (h, None)
        log_mean = self.base + log_ratio(bounded(rate, MAX_RATIO, LEAST))
        p: Distribution
        if self.raw_shape is None:
            p = families.Poisson(log_mean)
        else:
            p = families.NegativeBinomial(log_mean, bounded_scale(self.raw_shape).log())
        return p if zero is None else families.ZeroInflated(p, EXTRA_ZERO + zero)
