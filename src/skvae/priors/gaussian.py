"""N(0, I) and mixtures of Gaussians."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from skvae.distributions import DiagonalMixture, bounded
from skvae.latent import Latent
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.spec import at_least

__all__ = ["GaussianMixture", "GaussianMixtureModule", "Standard", "StandardModule"]


@dataclass(frozen=True)
class Standard(Prior, name="standard"):
    """N(0, I)."""

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return StandardModule(latent.width)


class StandardModule(PriorModule):
    """N(0, I) on whatever device and in whatever precision the model is."""

    zeros: Tensor
    ones: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(d), persistent=False)
        self.register_buffer("ones", torch.ones(d), persistent=False)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return Independent(
            Normal(self.zeros, self.ones, validate_args=False), 1, validate_args=False
        )


@dataclass(frozen=True)
class GaussianMixture(Prior, name="gaussian_mixture"):
    """Mixture of diagonal Gaussians, learned with the model.

    Parameters
    ----------
    n_components : int
        Number of Gaussians.
    """

    n_components: int = 50

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "GaussianMixture: n_components")

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return GaussianMixtureModule(latent.width, self.n_components)


class GaussianMixtureModule(PriorModule):
    """Weights, means and scales; starts near N(0, I), with the means spread out."""

    def __init__(self, d: int, n_components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(0.5 * torch.randn(n_components, d))
        self.log_scales = nn.Parameter(torch.zeros(n_components, d))

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        scales = torch.exp(bounded(self.log_scales, math.log(1e3)))
        return DiagonalMixture(self.logits, self.means, scales)
