"""The posterior of an autoencoder: one code for each x."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import Point
from skvae.posteriors.base import Posterior, PosteriorModule

__all__ = ["Deterministic", "DeterministicModule"]


@dataclass(frozen=True)
class Deterministic(Posterior, name="deterministic"):
    """One code for each x, without noise: the model is an autoencoder.

    With the objective ``"reconstruction"`` it is the plain one; with ``ELBO(beta)`` it is
    regularised [1]_, since what remains of the KL term is −β log p(z): β (½ ‖z‖² + a constant).
    A point has no density, so log p(x) cannot be estimated.

    References
    ----------
    .. [1] Ghosh et al., "From Variational to Deterministic Autoencoders", 2020, arXiv:1903.12436
    """

    has_density: ClassVar[bool] = False

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent dimensions and ``context`` features."""
        return DeterministicModule(d, context)


class DeterministicModule(PosteriorModule):
    """A linear map to the code."""

    def __init__(self, d: int, context: int) -> None:
        super().__init__()
        self.head = nn.Linear(context, d)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        return Point(self.head(features))
