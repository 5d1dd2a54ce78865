"""Approximate posteriors q(z | x): from the encoder's features to a distribution over z."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from skvae.distributions import bounded
from skvae.flows import FlowKind, build_flow, check_flow
from skvae.spec import Spec

__all__ = ["Diagonal", "Flow", "FullCovariance", "Posterior"]

LOG_VAR_BOUND = 14.0


class Posterior(Spec, abc.ABC, family="posterior"):
    """Choice of q(z | x)."""

    @abc.abstractmethod
    def build(self, d: int, context: int) -> nn.Module:
        """Return a module: features (B, context) -> distribution with event shape (d,)."""


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

    def build(self, d: int, context: int) -> nn.Module:
        """Return the module for d latent dimensions and ``context`` features."""
        return DiagonalModule(d, context)


class DiagonalModule(nn.Module):
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

    def build(self, d: int, context: int) -> nn.Module:
        """Return the module for d latent dimensions and ``context`` features."""
        return FullCovarianceModule(d, context)


class FullCovarianceModule(nn.Module):
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


@dataclass(frozen=True)
class Flow(Posterior, name="flow"):
    """Diagonal Gaussian pushed through a normalizing flow that is conditioned on x [1]_.

    The decoder sees the flow's output, and the density is that of the same point.

    Parameters
    ----------
    kind : str
        See `skvae.flows`; ``"iaf"`` draws in one pass [2]_.
    n_transforms : int
    hidden_layer_sizes : tuple of int
        Widths of the networks inside the flow.

    References
    ----------
    .. [1] Rezende and Mohamed, "Variational Inference with Normalizing Flows", 2015,
       arXiv:1505.05770
    .. [2] Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow",
       2016, arXiv:1606.04934
    """

    kind: FlowKind = "iaf"
    n_transforms: int = 2
    hidden_layer_sizes: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        check_flow(self)

    def build(self, d: int, context: int) -> nn.Module:
        """Return the module for d latent dimensions and ``context`` features."""
        return FlowModule(self, d, context)


class FlowModule(nn.Module):
    """A diagonal Gaussian, then the flow."""

    def __init__(self, spec: Flow, d: int, context: int) -> None:
        super().__init__()
        self.base = DiagonalModule(d, context)
        self.flow = build_flow(spec, d, context)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        return self.flow(self.base(features), features)  # type: ignore[no-any-return]
