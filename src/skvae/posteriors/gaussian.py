"""Gaussian posteriors."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from skvae.distributions import bounded
from skvae.posteriors.base import Posterior, PosteriorModule

__all__ = ["Diagonal", "DiagonalModule", "FullCovariance", "FullCovarianceModule"]

LOG_VAR_BOUND = 14.0


def bounded_log_variance(raw: Tensor) -> Tensor:
    """Bound a log-variance smoothly to (−14, 14).

    σ² can fall far below the prior's 1 (a softplus on the log-variance, common in published code,
    cannot), yet never under- or overflows in float32.
    """
    return bounded(raw, LOG_VAR_BOUND)


@dataclass(frozen=True)
class Diagonal(Posterior, name="diagonal"):
    """Gaussian with independent coordinates, sampled by reparameterisation [1]_.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114
    """

    factorizes: ClassVar[bool] = True

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent dimensions and ``context`` features."""
        return DiagonalModule(d, context)


class DiagonalModule(PosteriorModule):
    """Linear maps to mean and log-variance."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.head = nn.Linear(context, 2 * d)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        mean, raw = self.head(features).chunk(2, -1)  # (B, d) each
        scale = torch.exp(0.5 * bounded_log_variance(raw))
        return Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)


@dataclass(frozen=True)
class FullCovariance(Posterior, name="full_covariance"):
    """Gaussian with a full covariance matrix, through its Cholesky factor [1]_.

    References
    ----------
    .. [1] Kingma and Welling, "An Introduction to Variational Autoencoders", 2019,
       arXiv:1906.02691, section 2.5.1
    """

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent dimensions and ``context`` features."""
        return FullCovarianceModule(d, context)


class FullCovarianceModule(PosteriorModule):
    """Linear maps to the mean, the logarithm of the Cholesky diagonal, and what is below it."""

    rows: Tensor
    columns: Tensor

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        rows, columns = torch.tril_indices(d, d, -1)
        self.d = d
        self.head = nn.Linear(context, 2 * d + len(rows))
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        h = self.head(features)
        mean, raw, below = h[..., : self.d], h[..., self.d : 2 * self.d], h[..., 2 * self.d :]
        scale = torch.exp(0.5 * bounded_log_variance(raw))  # (B, d)
        # Relative to the row's scale, so that correlations do not depend on the variances.
        lower = below * scale[..., self.rows] / math.sqrt(self.d)
        factor = torch.diag_embed(scale)
        factor[..., self.rows, self.columns] = lower
        return MultivariateNormal(mean, scale_tril=factor, validate_args=False)
