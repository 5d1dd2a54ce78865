"""The VampPrior."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import DiagonalMixture
from skvae.latent import Latent
from skvae.posteriors import Diagonal, Posterior
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.spec import at_least

__all__ = ["Vamp", "VampModule"]


@dataclass(frozen=True)
class Vamp(Prior, name="vamp"):
    """Mixture of the posteriors of pseudo-inputs, p(z) = Σ_k π_k q(z | u_k) [1]_.

    Parameters
    ----------
    n_components : int
        Number of pseudo-inputs; they start as training rows.
    learned : bool
        False keeps the training rows as they are ("VampPrior data").

    References
    ----------
    .. [1] Tomczak and Welling, "VAE with a VampPrior", 2018, arXiv:1705.07120
    """

    n_components: int = 500
    learned: bool = True

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "Vamp: n_components")

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return VampModule(self, event_shape)

    def objection(self, posterior: Posterior) -> str | None:
        """The mixture is computed from the means and scales of its components."""
        if isinstance(posterior, Diagonal):
            return None
        return "a VampPrior is a mixture of posteriors, which must be diagonal Gaussians"


class VampModule(PriorModule):
    """Pseudo-inputs and their weights. Needs a diagonal posterior."""

    def __init__(self, spec: Vamp, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(spec.n_components))
        inputs = torch.zeros(spec.n_components, *event_shape)
        self.inputs = nn.Parameter(inputs, requires_grad=spec.learned)

    def calibrate(self, rows: Tensor) -> None:
        """Start from the training rows, again and again where there are few."""
        index = torch.arange(len(self.inputs)) % len(rows)
        with torch.no_grad():
            some = rows[index]  # of which a hidden cell starts at its mean
            self.inputs.copy_(torch.where(some.isnan(), rows.nanmean(0).nan_to_num(), some))

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        q = infer(self.inputs)
        return DiagonalMixture(self.logits, q.mean, q.stddev)
