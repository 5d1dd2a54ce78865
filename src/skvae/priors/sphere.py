"""The uniform prior on a sphere."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae.latent import Latent, Space
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.sphere import UniformSphere

__all__ = ["Sphere", "SphereModule"]


@dataclass(frozen=True)
class Sphere(Prior, name="sphere"):
    """Uniform on the sphere, for von Mises–Fisher posteriors [1]_.

    References
    ----------
    .. [1] Davidson et al., "Hyperspherical Variational Auto-Encoders", 2018, arXiv:1804.00891
    """

    space: ClassVar[Space] = "sphere"

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return SphereModule(latent.width)


class SphereModule(PriorModule):
    """The uniform law on whatever device and in whatever precision the model is."""

    zeros: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(d), persistent=False)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return UniformSphere(self.zeros)
