"""A mixture of encoders."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import EqualMixture
from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.posteriors.gaussian import bounded_log_variance
from skvae.spec import at_least

__all__ = ["Mixture", "MixtureModule"]


@dataclass(frozen=True)
class Mixture(Posterior, name="mixture"):
    """Mixture of diagonal Gaussians with equal weights, (1/A) Σ_a q_a(z | x).

    The bound is that of the whole mixture, each draw weighted against all its components: with
    one draw from each of them it is known as MISELBO [1]_. The encoders share their body and
    differ in their heads, which the bound itself keeps apart [2]_.

    Parameters
    ----------
    n_components : int
        Number of Gaussians A.

    References
    ----------
    .. [1] Kviman et al., "Multiple Importance Sampling ELBO and Deep Ensembles of Variational
       Approximations", 2022, arXiv:2202.10951
    .. [2] Kviman et al., "Cooperation in the Latent Space: The Benefits of Adding Mixture
       Components in Variational Autoencoders", 2023, arXiv:2209.15514
    """

    n_components: int = 4

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "Mixture: n_components")

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent dimensions and ``context`` features."""
        return MixtureModule(d, context, self.n_components)


class MixtureModule(PosteriorModule):
    """Linear maps to the means and log-variances of all components."""

    def __init__(self, d: int, context: int, n_components: int) -> None:
        super().__init__()
        self.shape = (2, n_components, d)
        self.head = nn.Linear(context, 2 * n_components * d)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        means, raw = self.head(features).unflatten(-1, self.shape).unbind(-3)  # (B, A, d) each
        return EqualMixture(means, torch.exp(0.5 * bounded_log_variance(raw)))
