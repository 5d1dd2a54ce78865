"""Terms that are added to an objective: ``ELBO() + Contractive(0.1)``."""

import abc
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import Spec, at_least

__all__ = ["Contractive", "Penalty"]


class Penalty(Spec, abc.ABC, family="penalty"):
    """A number that training makes small, next to an objective."""

    @abc.abstractmethod
    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape (); randomness comes from ``noise`` only.

        ``evidence`` is what the objective was computed from: the posterior and its draws need not
        be computed again.
        """

    def start(self, width: int) -> "Penalty":
        """Return what is called in every update of one training run, for z of ``width`` numbers.

        A penalty that learns something of its own returns an object that holds it.
        """
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of its own, trained along with those of the model."""
        return iter(())

    def objection(self, posterior: Posterior) -> str | None:
        """Return why this penalty cannot stand with a posterior, or None where it can."""
        return None


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
        if not 0 <= self.weight < math.inf:
            raise ParameterError(
                f"Contractive: weight must be finite and >= 0; received {self.weight!r}."
            )
        at_least(self.n_probes, 0, "Contractive: n_probes")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        with torch.enable_grad():
            x = batch.x.detach().requires_grad_()
            code = model.infer(Batch(x, batch.mask)).mean  # (B, d)
            if not code.requires_grad:
                raise ParameterError(
                    "Contractive: E[z | x] of this posterior is not a differentiable function of "
                    "x, so it has no Jacobian that could be made small."
                )
            if self.n_probes:  # E[‖Jᵀv‖²] = ‖J‖² for v ~ N(0, I) (Hutchinson, 1989)
                probes = noise.normal((self.n_probes,), code.detach())  # (n, B, d)
            else:
                eye = torch.eye(code.shape[1], dtype=code.dtype, device=code.device)
                probes = eye.unsqueeze(1).expand(-1, *code.shape)  # (d, B, d)
            total = torch.zeros((), dtype=code.dtype, device=code.device)
            for probe in probes:
                (row,) = torch.autograd.grad(code, x, probe, create_graph=True)
                total = total + row.square().sum() / len(x)
        return self.weight * total / max(1, self.n_probes)
