"""Likelihoods p(x | z): one factor per cell of x, never reduced.

A likelihood turns the decoder's output into a distribution whose ``log_prob`` has the shape of x.
What is summed is decided later, by a mask; that is why every likelihood works with missing cells.
"""

import abc
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Distribution, Normal

from skvae.exceptions import DataError, ParameterError, did_you_mean
from skvae.spec import Spec

__all__ = ["Bernoulli", "Gaussian", "Likelihood", "LikelihoodModule"]

Scale = Literal["unit", "global", "per_feature", "per_cell"]


class LikelihoodModule(nn.Module, abc.ABC):
    """A likelihood for one event shape.

    Attributes
    ----------
    event_shape : tuple of int
        Shape of one x.
    param_shape : tuple of int
        Shape of what the decoder must put out for one x.
    """

    event_shape: tuple[int, ...]
    param_shape: tuple[int, ...]

    @abc.abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """Return p(x | z) with batch shape ``(..., *event)`` for h of ``(..., *param_shape)``."""

    def calibrate(self, mean: Tensor, unit: Tensor) -> None:
        """Learn from the training data before the first update; does nothing by default.

        Parameters
        ----------
        mean : Tensor, shape (*event,)
            Mean of the training data in model units.
        unit : Tensor, shape () or (*event,)
            How many data units one model unit is.
        """


class Likelihood(Spec, abc.ABC, family="likelihood"):
    """Choice of p(x | z).

    Class attributes say what the data must be like: ``support``, the closed interval of allowed
    values, and ``standardize``, how the data are rescaled before the network sees them.
    """

    support: ClassVar[tuple[float, float]] = (-math.inf, math.inf)

    @property
    def standardize(self) -> Literal["none", "shared", "per_feature"]:
        """``"shared"``: centred, one unit for all cells; ``"per_feature"``: one for each."""
        return "none"

    @abc.abstractmethod
    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""


@dataclass(frozen=True)
class Bernoulli(Likelihood, name="bernoulli", aliases={"bce": {}}):
    """Binary cells, log p(x | z) = x·l − log(1 + eˡ) with logit l.

    Values strictly between 0 and 1 are accepted and scored as the expectation over binary x with
    that mean (the cross-entropy of the tutorials). For them this is not the log-density of a
    continuous variable: ``binarize="stochastic"`` gives figures that compare with the literature.
    """

    support: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return BernoulliModule(event_shape)


class BernoulliModule(LikelihoodModule):
    """Bernoulli on logits; the decoder's output is relative to the marginal log-odds."""

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("base", torch.zeros(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor) -> None:
        """Start at the log-odds of the training data (Burda et al., 2016, arXiv:1509.00519)."""
        self.base.copy_(torch.logit(mean.clamp(1e-3, 1 - 1e-3)))

    def forward(self, h: Tensor) -> BernoulliDistribution:
        """Return the cells' distributions, h: (..., *event)."""
        return BernoulliDistribution(logits=h + self.base, validate_args=False)


@dataclass(frozen=True)
class Gaussian(Likelihood, name="gaussian", aliases={"mse": {"scale": "unit"}, "normal": {}}):
    """Real cells with a decoded mean.

    Parameters
    ----------
    scale : {"unit", "global", "per_feature", "per_cell"}
        Standard deviation σ: 1 in data units, which makes −log p half the squared error plus a
        constant (``"mse"``); one learned number; one learned number for each feature; or decoded
        from z for every cell. Learned σ stays above 1e-3 of the data's own spread.
    """

    scale: Scale = "per_feature"

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            hint = did_you_mean(str(self.scale), get_args(Scale))
            raise ParameterError(
                f"Gaussian: scale={self.scale!r} is not known.{hint} "
                f"Known: {', '.join(map(repr, get_args(Scale)))}."
            )

    @property
    def standardize(self) -> Literal["none", "shared", "per_feature"]:
        """One σ for all cells means one unit for all cells."""
        return "shared" if self.scale in ("unit", "global") else "per_feature"

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        if self.scale == "per_cell":
            return DecodedScaleGaussian(event_shape)
        if self.scale == "unit":
            return FixedScaleGaussian(event_shape)
        return LearnedScaleGaussian(event_shape, () if self.scale == "global" else event_shape)


def bounded_scale(raw: Tensor) -> Tensor:
    """Map any real number to a standard deviation in (1e-3, 1e3), 0 to 1, smoothly."""
    limit = math.log(1e3)
    return torch.exp(limit * torch.tanh(raw / limit))


class FixedScaleGaussian(LikelihoodModule):
    """Gaussian with σ = 1 in data units."""

    MAX_UNIT = 1e6

    sigma: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("sigma", torch.ones(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor) -> None:
        """One data unit is 1 / unit model units.

        Raises
        ------
        DataError
            The data vary so much more than 1 that no float32 gradient could follow.
        """
        if unit.max() > self.MAX_UNIT:
            raise DataError(
                f"X has a standard deviation of {float(unit.max()):.3g}, but a Gaussian with "
                "scale='unit' ('mse') assumes 1. Rescale X, or choose likelihood='gaussian', "
                "which learns the scale."
            )
        self.sigma.copy_((1 / unit).expand(self.event_shape))

    def forward(self, h: Tensor) -> Normal:
        """Return the cells' distributions, h: (..., *event)."""
        return Normal(h, self.sigma, validate_args=False)


class LearnedScaleGaussian(LikelihoodModule):
    """Gaussian with σ a parameter, one for all cells or one for each feature."""

    def __init__(self, event_shape: tuple[int, ...], scale_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.raw_scale = nn.Parameter(torch.zeros(scale_shape))

    def forward(self, h: Tensor) -> Normal:
        """Return the cells' distributions, h: (..., *event)."""
        return Normal(
            h, bounded_scale(self.raw_scale).expand(self.event_shape), validate_args=False
        )


class DecodedScaleGaussian(LikelihoodModule):
    """Gaussian with mean and σ decoded for every cell."""

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.param_shape = (2, *event_shape)

    def forward(self, h: Tensor) -> Normal:
        """Return the cells' distributions, h: (..., 2, *event)."""
        mean, raw = h.unbind(-1 - len(self.event_shape))
        return Normal(mean, bounded_scale(raw), validate_args=False)
