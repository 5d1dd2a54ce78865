"""Approximate posteriors q(z | x): from the encoder's features to a distribution over z."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from skvae.spec import Spec

__all__ = ["Diagonal", "Posterior"]


class Posterior(Spec, abc.ABC, family="posterior"):
    """Choice of q(z | x)."""

    @abc.abstractmethod
    def build(self, d: int, context: int) -> nn.Module:
        """Return a module: features (B, context) -> distribution with event shape (d,)."""


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
    """Linear maps to mean and log-variance.

    The log-variance is bounded smoothly to (−14, 14): σ² can fall far below the prior's 1 (a
    softplus on the log-variance, common in published code, cannot), yet never under- or overflows
    in float32.
    """

    BOUND = 14.0

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.head = nn.Linear(context, 2 * d)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        mean, raw = self.head(features).chunk(2, -1)  # (B, d) each
        log_var = self.BOUND * torch.tanh(raw / self.BOUND)
        return Independent(
            Normal(mean, torch.exp(0.5 * log_var), validate_args=False), 1, validate_args=False
        )
