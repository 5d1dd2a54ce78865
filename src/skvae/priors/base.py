"""What a prior is."""

import abc
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.latent import Latent, Space
from skvae.posteriors import Posterior
from skvae.spec import Spec

__all__ = ["Infer", "Prior", "PriorModule"]

Infer = Callable[[Tensor], Distribution]


class PriorModule(nn.Module, abc.ABC):
    """A prior for d latent dimensions."""

    @abc.abstractmethod
    def forward(self, infer: Infer) -> Distribution:
        """Return p(z), event shape (d,); ``infer`` maps rows (K, *event) to q(z | x)."""

    def calibrate(self, rows: Tensor) -> None:
        """Learn from some training rows (n, *event) in model units before the first update."""


SPACES: dict[Space, str] = {
    "real": "real numbers",
    "sphere": "points on a sphere",
    "one_hot": "discrete codes",
    "mixed": "numbers beside codes",
}


class Prior(Spec, abc.ABC, family="prior"):
    """Choice of p(z); ``space`` is where z lives."""

    space: ClassVar[Space] = "real"

    @abc.abstractmethod
    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module for a space of z and rows of a shape."""

    def objection(self, posterior: Posterior) -> str | None:
        """Return why this prior cannot stand with a posterior, or None where it can."""
        if posterior.space == self.space:
            return None
        return f"the one is for {SPACES[self.space]}, the other makes {SPACES[posterior.space]}"
