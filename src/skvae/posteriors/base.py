"""What a posterior is."""

import abc
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.latent import Latent, Space
from skvae.spec import Spec

__all__ = ["Posterior", "PosteriorModule"]


class PosteriorModule(nn.Module, abc.ABC):
    """Maps the encoder's features to q(z | x)."""

    @abc.abstractmethod
    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x), batch shape (B,), event shape (d,), for features (B, context)."""

    def embedding_width(self, latent: Latent) -> int:
        """Return how many numbers the decoder sees of one z."""
        return latent.width

    def embed(self, z: Tensor, q: Distribution | None) -> Tensor:
        """Return what the decoder sees of z (..., d): z itself, unless z is a code for it.

        ``q`` is the distribution that z was just drawn from, during training, where the gradient
        that reaches the encoder may have to take a way of its own.
        """
        return z

    def auxiliary(self, q: Distribution) -> Tensor | None:
        """Return what this posterior adds to every loss, shape (B,), or None."""
        return None


class Posterior(Spec, abc.ABC, family="posterior"):
    """Choice of q(z | x).

    ``space`` is where z lives. ``reparameterized`` says whether a draw is a
    differentiable function of the parameters, ``has_density`` whether q has a log-density at all,
    ``factorizes`` whether it is an ``Independent`` of laws of one coordinate each, ``has_score``
    whether a gradient can be had from the density: draws in training follow q exactly, and log q
    at a fixed point varies with the parameters. ``smooth_mean`` says whether E[z | x] is a
    differentiable function of x.
    """

    space: ClassVar[Space] = "real"
    reparameterized: ClassVar[bool] = True
    has_density: ClassVar[bool] = True
    factorizes: ClassVar[bool] = False
    has_score: ClassVar[bool] = True
    smooth_mean: ClassVar[bool] = True

    @abc.abstractmethod
    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent variables and ``context`` features."""

    def latent(self, n_components: int) -> Latent:
        """Return the space of z for a number of latent variables."""
        return Latent(n_components, self.space)
