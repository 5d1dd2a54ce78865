"""Priors p(z)."""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from skvae.spec import Spec

__all__ = ["Prior", "Standard"]


class Prior(Spec, abc.ABC, family="prior"):
    """Choice of p(z)."""

    @abc.abstractmethod
    def build(self, d: int) -> nn.Module:
        """Return a module whose ``forward()`` is a distribution with event shape (d,)."""


@dataclass(frozen=True)
class Standard(Prior, name="standard"):
    """N(0, I)."""

    def build(self, d: int) -> nn.Module:
        """Return the module for d latent dimensions."""
        return StandardModule(d)


class StandardModule(nn.Module):
    """N(0, I) on whatever device and in whatever precision the model is."""

    zeros: Tensor
    ones: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(d), persistent=False)
        self.register_buffer("ones", torch.ones(d), persistent=False)

    def forward(self) -> Distribution:
        """Return p(z)."""
        return Independent(
            Normal(self.zeros, self.ones, validate_args=False), 1, validate_args=False
        )
