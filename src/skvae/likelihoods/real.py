"""Real cells: Gaussian, Student's t, Laplace; and positive ones: log-normal."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal
from torch.distributions import Laplace as LaplaceDistribution

from skvae import families
from skvae.exceptions import DataError, ParameterError, did_you_mean
from skvae.likelihoods.base import (
    Likelihood,
    LikelihoodModule,
    Standardize,
    Support,
    bounded,
    bounded_scale,
)
from skvae.likelihoods.readers import Numbers, Reader, log_of_positive

__all__ = ["Gaussian", "Laplace", "LogNormal", "StudentT"]

Scale = Literal["unit", "global", "per_feature", "per_cell", "optimal"]


@dataclass(frozen=True)
class Gaussian(Likelihood, name="gaussian", aliases={"mse": {"scale": "unit"}, "normal": {}}):
    """Real cells with a decoded mean.

    Parameters
    ----------
    scale : {"unit", "global", "per_feature", "per_cell", "optimal"}
        Standard deviation σ: 1 in data units, which makes −log p half the squared error plus a
        constant (``"mse"``); one learned number; one learned number for each feature; decoded
        from z for every cell; or one number with σ² = mean squared error, computed for each
        batch in training and as their running mean afterwards (the σ-VAE, Rybkin et al., 2021,
        arXiv:2006.13202). All but the first stay above 1e-3 of the data's own spread.
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
    def standardize(self) -> Standardize:
        """One σ for all cells means one unit for all cells."""
        return "shared" if self.scale in ("unit", "global", "optimal") else "per_feature"

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        if self.scale == "per_cell":
            return DecodedScaleGaussian(event_shape)
        if self.scale == "unit":
            return FixedScaleGaussian(event_shape)
        if self.scale == "optimal":
            return OptimalScaleGaussian(event_shape)
        return LearnedScaleGaussian(event_shape, () if self.scale == "global" else event_shape)


class FixedScaleGaussian(LikelihoodModule):
    """Gaussian with σ = 1 in data units."""

    MAX_UNIT = 1e6

    sigma: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("sigma", torch.ones(event_shape))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
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
        mean, raw = self.split(h)
        return Normal(mean, bounded_scale(raw), validate_args=False)


class OptimalScaleGaussian(LikelihoodModule):
    """Gaussian with the σ that maximises the likelihood of the batch.

    No gradient passes through σ: at the optimum it would be zero.
    """

    MIN_VARIANCE = 1e-6
    RATE = 0.05  # of the running mean

    variance: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.register_buffer("variance", torch.ones(()))

    def forward(self, h: Tensor) -> Normal:
        """Return the cells' distributions with the running σ, h: (..., *event)."""
        return Normal(h, self.variance.sqrt(), validate_args=False)

    @torch.no_grad()
    def _optimum(self, mean: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        square = (x - mean) ** 2
        seen = torch.ones_like(square) if mask is None else mask.expand_as(square).to(square)
        return ((square * seen).sum() / seen.sum().clamp(min=1)).clamp(min=self.MIN_VARIANCE)

    def adapt(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Distribution:
        """In training, replace σ by the optimum for these cells and note it."""
        if not self.training:
            return p
        variance = self._optimum(p.mean, x, mask)
        if torch.isfinite(variance):
            self.variance.lerp_(variance.to(self.variance), self.RATE)
        return Normal(p.mean, variance.sqrt(), validate_args=False)


@dataclass(frozen=True)
class StudentT(Likelihood, name="student_t"):
    """Real cells with outliers: decoded location, learned tails for each feature.

    The degrees of freedom stay above 2, so that mean and variance exist.

    Parameters
    ----------
    scale : {"per_feature", "per_cell"}
        One learned scale for each feature, or one decoded from z for every cell, within a factor
        of 1,000 of that.
    """

    scale: Literal["per_feature", "per_cell"] = "per_feature"

    def __post_init__(self) -> None:
        if self.scale not in ("per_feature", "per_cell"):
            raise ParameterError(
                f"StudentT: scale={self.scale!r} is not known. Known: 'per_feature', 'per_cell'."
            )

    @property
    def standardize(self) -> Standardize:
        """Each feature has a scale of its own."""
        return "per_feature"

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return StudentTModule(event_shape, decoded=self.scale == "per_cell")


class StudentTModule(LikelihoodModule):
    """Student's t with 2.08 to 802 degrees of freedom, 10 at the start."""

    def __init__(self, event_shape: tuple[int, ...], *, decoded: bool = False) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.decoded = decoded
        self.param_shape = (2, *event_shape) if decoded else event_shape
        self.raw_scale = nn.Parameter(torch.zeros(event_shape))
        self.raw_df = nn.Parameter(torch.zeros(event_shape))

    def forward(self, h: Tensor) -> families.StudentT:
        """Return the cells' distributions, h: (..., *param_shape)."""
        df = 2 + 8 * torch.exp(bounded(self.raw_df, math.log(100)))
        loc, raw = self.split(h) if self.decoded else (h, 0.0)
        return families.StudentT(df, loc, bounded_scale(self.raw_scale + raw))


@dataclass(frozen=True)
class Laplace(Likelihood, name="laplace"):
    """Real cells under the absolute error: decoded median, learned scale for each feature."""

    @property
    def standardize(self) -> Standardize:
        """Each feature has a scale of its own."""
        return "per_feature"

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return LaplaceModule(event_shape)


class LaplaceModule(LikelihoodModule):
    """Laplace with a learned scale."""

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.raw_scale = nn.Parameter(torch.zeros(event_shape))

    def forward(self, h: Tensor) -> LaplaceDistribution:
        """Return the cells' distributions, h: (..., *event)."""
        return LaplaceDistribution(h, bounded_scale(self.raw_scale), validate_args=False)


@dataclass(frozen=True)
class LogNormal(Likelihood, name="log_normal"):
    """Positive cells: decoded mean of log x, learned standard deviation for each feature.

    Data are divided by the geometric mean of each feature, so any scale will do.
    """

    @property
    def support(self) -> Support:
        """Above 0."""
        return Support(
            0.0,
            open=True,
            advice=(
                "Zero and negative numbers have no logarithm. Shift the data, "
                "or choose likelihood='gaussian'."
            ),
        )

    @property
    def standardize(self) -> Standardize:
        """The geometric mean is where log x is 0 on average."""
        return "scale"

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return LogNormalModule(event_shape)

    def column_reader(self, n_features: int) -> Reader:
        """Positive numbers of any size are shown by their logarithm."""
        return Numbers(n_features, log_of_positive)


class LogNormalModule(LikelihoodModule):
    """Log-normal; the bounds keep mean and draws within float32."""

    MAX_LOC = 40.0
    MAX_SCALE = 5.0

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.raw_scale = nn.Parameter(torch.zeros(event_shape))

    def forward(self, h: Tensor) -> families.LogNormal:
        """Return the cells' distributions, h: (..., *event)."""
        scale = torch.exp(bounded(self.raw_scale, math.log(self.MAX_SCALE), math.log(1e3)))
        return families.LogNormal(bounded(h, self.MAX_LOC), scale)
