"""N(0, I) and mixtures of Gaussians."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from skvae.distributions import DiagonalMixture, FullMixture, bounded
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.spec import at_least

__all__ = [
    "FullMixtureModule",
    "GaussianMixture",
    "GaussianMixtureModule",
    "Standard",
    "StandardModule",
]


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
    """Mixture of Gaussians, learned with the model.

    Parameters
    ----------
    n_components : int
        Number of Gaussians.
    covariance : {"diagonal", "full"}
        Full ones have d² / 2 numbers each, and a few describe codes as well as many diagonal ones.
    """

    n_components: int = 50
    covariance: Literal["diagonal", "full"] = "diagonal"

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "GaussianMixture: n_components")
        if self.covariance not in ("diagonal", "full"):
            raise ParameterError(
                "GaussianMixture: covariance must be 'diagonal' or 'full'; received "
                f"{self.covariance!r}."
            )

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        of = FullMixtureModule if self.covariance == "full" else GaussianMixtureModule
        return of(latent.width, self.n_components)


class GaussianMixtureModule(PriorModule):
    """Weights, means and scales; starts near N(0, I), with the means spread out."""

    def __init__(self, d: int, n_components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(0.5 * torch.randn(n_components, d))
        self.log_scales = nn.Parameter(torch.zeros(n_components, d))

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return DiagonalMixture(self.logits, self.means, self._scales)

    @property
    def _scales(self) -> Tensor:
        return torch.exp(bounded(self.log_scales, math.log(1e3)))


class FullMixtureModule(GaussianMixtureModule):
    """The same, and what is below the diagonal of the factors of the precisions; starts at 0."""

    def __init__(self, d: int, n_components: int) -> None:
        super().__init__(d, n_components)
        self.below = nn.Parameter(torch.zeros(n_components, d, d))

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        factors = self.below.tril(-1) + torch.diag_embed(1 / self._scales)
        return FullMixture(self.logits, self.means, factors)
