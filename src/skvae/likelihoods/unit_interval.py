"""Cells in [0, 1]: Bernoulli, continuous Bernoulli, Beta."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from skvae import families
from skvae.likelihoods.base import Likelihood, LikelihoodModule, Support, bounded
from skvae.likelihoods.summaries import Summary, YesOrNo

__all__ = ["Bernoulli", "Beta", "ContinuousBernoulli"]


@dataclass(frozen=True)
class Bernoulli(Likelihood, name="bernoulli", aliases={"bce": {}}):
    """Binary cells, log p(x | z) = x·l − log(1 + eˡ) with logit l.

    Values strictly between 0 and 1 are accepted and scored as the expectation over binary x with
    that mean (the cross-entropy of the tutorials). For them this is not the log-density of a
    continuous variable: ``"continuous_bernoulli"`` is one, and ``binarize="stochastic"`` gives
    figures that compare with the literature.
    """

    takes_rounded: ClassVar[bool] = True

    @property
    def support(self) -> Support:
        """From 0 to 1; the only likelihood for which ``binarize`` makes sense."""
        return Support(0.0, 1.0)

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return BernoulliModule(event_shape)

    @property
    def summary(self) -> Summary:
        """0 or 1, whichever is more probable."""
        return YesOrNo()


class BernoulliModule(LikelihoodModule):
    """Bernoulli on logits; the decoder's output is relative to the marginal log-odds."""

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("base", torch.zeros(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the log-odds of the training data (Burda et al., 2016, arXiv:1509.00519)."""
        self.base.copy_(torch.logit(mean.clamp(1e-3, 1 - 1e-3)))

    def forward(self, h: Tensor) -> families.Bernoulli:
        """Return the cells' distributions, h: (..., *event)."""
        return families.Bernoulli(h + self.base)


@dataclass(frozen=True)
class ContinuousBernoulli(Likelihood, name="continuous_bernoulli"):
    """Grey values as a density on [0, 1], log p(x | z) = x·l − log((eˡ − 1) / l).

    The cross-entropy with the normalising constant that makes it a likelihood (Loaiza-Ganem and
    Cunningham, 2019, arXiv:1907.06845).
    """

    @property
    def support(self) -> Support:
        """From 0 to 1."""
        return Support(0.0, 1.0)

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return ContinuousBernoulliModule(event_shape)


class ContinuousBernoulliModule(LikelihoodModule):
    """Continuous Bernoulli on logits, relative to the one that has the data's mean."""

    # The logit l gives a density of l at the end of the interval: black pixels want it large.
    MAX_LOGIT = 1000.0

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("base", torch.zeros(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the mean of the training data, found by bisection: it rises with the logit."""
        target = mean.double().clamp(0.02, 0.98)  # logits up to 50
        low, high = torch.full_like(target, -60.0), torch.full_like(target, 60.0)
        for _ in range(60):
            middle = (low + high) / 2
            above = families.ContinuousBernoulli(middle).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        self.base.copy_(high)

    def forward(self, h: Tensor) -> families.ContinuousBernoulli:
        """Return the cells' distributions, h: (..., *event)."""
        return families.ContinuousBernoulli(self.base + bounded(h, self.MAX_LOGIT))


@dataclass(frozen=True)
class Beta(Likelihood, name="beta"):
    """Proportions strictly between 0 and 1: decoded mean, one learned precision per feature.

    The density may be zero or infinite at 0 and 1 themselves, so data with such values are
    refused.
    """

    @property
    def support(self) -> Support:
        """Between 0 and 1."""
        return Support(
            0.0,
            1.0,
            open=True,
            advice=(
                "Move values off the ends, for example by (X * (n - 1) + 0.5) / n for n rows, "
                "or choose likelihood='continuous_bernoulli', which includes 0 and 1."
            ),
        )

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return BetaModule(event_shape)


class BetaModule(LikelihoodModule):
    """Beta with mean σ(h), relative to the data's, and precision from 0.2 to 2,000."""

    MAX_LOGIT = 10.0

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("base", torch.zeros(event_shape))
        self.raw_precision = nn.Parameter(torch.zeros(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the mean of the training data."""
        self.base.copy_(torch.logit(mean.clamp(1e-3, 1 - 1e-3)))

    def forward(self, h: Tensor) -> families.Beta:
        """Return the cells' distributions, h: (..., *event)."""
        precision = 2 * torch.exp(bounded(self.raw_precision, math.log(1e3), math.log(10)))
        return families.Beta(self.base + bounded(h, self.MAX_LOGIT), precision)
