"""Encoders that change little with x."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skvae.evidence import Batch, Evidence, Model
from skvae.penalties.base import Penalty, directions
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import at_least, check_finite

__all__ = ["Contractive"]


@dataclass(frozen=True)
class Contractive(Penalty, name="contractive"):
    """Squared Frobenius norm of the Jacobian of the encoder, mean over rows [1]_.

    ``‖∂ E[z | x] / ∂x‖²`` in model units; for one sigmoid layer it is
    ``Σ_j (h_j (1 − h_j))² Σ_i W_ji²``, and here it works for any network.

    Parameters
    ----------
    weight : float
    n_probes : int
        Random directions in which the Jacobian is measured for each row (an unbiased estimate,
        one backward pass each); 0 measures all latent dimensions, which is exact.

    References
    ----------
    .. [1] Rifai et al., "Contractive Auto-Encoders", ICML 2011
    """

    weight: float = 0.1
    n_probes: int = 1

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        at_least(self.n_probes, 0, "Contractive: n_probes")

    def objection(self, posterior: Posterior) -> str | None:
        """There must be a Jacobian."""
        if posterior.smooth_mean:
            return None
        return "E[z | x] is not a differentiable function of x, so it has no Jacobian"

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        with torch.enable_grad():
            x = batch.x.detach().requires_grad_()
            code = model.infer(replace(batch, x=x)).mean  # (B, d)
            probes = directions(self.n_probes, code, noise)  # (n, B, d)
            total = torch.zeros((), dtype=code.dtype, device=code.device)
            for probe in probes:
                (row,) = torch.autograd.grad(code, x, probe, create_graph=True)
                total = total + row.square().sum() / len(x)
        return self.weight * total / max(1, self.n_probes)
