"""The von Mises–Fisher posterior: z on a sphere."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import bounded, unit
from skvae.exceptions import ParameterError
from skvae.latent import Latent, Space
from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.sphere import VonMisesFisher as Law

__all__ = ["VonMisesFisher", "VonMisesFisherModule"]

LOWEST, HIGHEST = 1e-3, 1e5


@dataclass(frozen=True)
class VonMisesFisher(Posterior, name="von_mises_fisher"):
    """Von Mises–Fisher law on the sphere S^{d−1}, with a uniform prior [1]_.

    ``n_components`` is d, the dimension of the space around the sphere, at least 2: with d = 2
    the latent space is a circle. The posterior mean, which `transform` returns, lies inside the
    ball, the nearer to the centre the less certain z is; the decoder looks at its direction.

    References
    ----------
    .. [1] Davidson et al., "Hyperspherical Variational Auto-Encoders", 2018, arXiv:1804.00891
    """

    space: ClassVar[Space] = "sphere"

    def latent(self, n_components: int) -> Latent:
        """Return the sphere in ``n_components`` dimensions."""
        if n_components < 2:
            raise ParameterError(
                "VonMisesFisher: n_components is the dimension of the space around the sphere "
                f"and must be at least 2; received {n_components!r}."
            )
        return Latent(n_components, self.space)

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for a sphere in d dimensions and ``context`` features."""
        return VonMisesFisherModule(d, context)


class VonMisesFisherModule(PosteriorModule):
    """Linear maps to the direction and to log κ, which starts at log d."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.start = min(float(d), 0.1 * HIGHEST)
        self.head = nn.Linear(context, d + 1)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        h = self.head(features)
        high, low = math.log(HIGHEST / self.start), math.log(self.start / LOWEST)
        concentration = self.start * torch.exp(bounded(h[..., -1], high, low))  # (B,)
        return Law(unit(h[..., :-1]), concentration)

    def embed(self, z: Tensor, q: Distribution | None) -> Tensor:
        """Return the point on the sphere in the direction of z."""
        return unit(z)
