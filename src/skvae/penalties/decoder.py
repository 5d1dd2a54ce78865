"""Decoders that are smooth: the regularised autoencoders."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skvae.evidence import Batch, Evidence, Model
from skvae.penalties.base import Penalty, directions
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import at_least, check_finite

__all__ = ["DecoderGradient", "DecoderWeights"]


@dataclass(frozen=True)
class DecoderGradient(Penalty, name="decoder_gradient"):
    """Squared Frobenius norm of the Jacobian of the decoder, mean over rows: RAE-GP [1]_.

    ``‖∂ E[x | z] / ∂z‖²`` in model units, at one draw of z for each row.

    Parameters
    ----------
    weight : float
    n_probes : int
        Random directions of z in which the Jacobian is measured for each row (an unbiased
        estimate, one double backward pass each); 0 measures along all axes, which is exact.

    References
    ----------
    .. [1] Ghosh et al., "From Variational to Deterministic Autoencoders", 2020, arXiv:1903.12436
    """

    weight: float = 0.01
    n_probes: int = 1

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        at_least(self.n_probes, 0, "DecoderGradient: n_probes")

    def objection(self, posterior: Posterior) -> str | None:
        """There must be codes next to a code."""
        return "a discrete z has no gradient" if posterior.space == "one_hot" else None

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""

        def mean(z: Tensor) -> Tensor:
            return model.generate(z).mean

        z = evidence.draws[0][0]  # (B, d)
        probes = directions(self.n_probes, z, noise)  # (n, B, d)
        total = torch.zeros((), dtype=z.dtype, device=z.device)
        for probe in probes:
            _, change = torch.autograd.functional.jvp(mean, z, probe, create_graph=True)
            total = total + change.square().sum() / len(z)
        return self.weight * total / max(1, self.n_probes)


@dataclass(frozen=True)
class DecoderWeights(Penalty, name="decoder_weights"):
    """Squared norm of all weights of the decoder: RAE-L2 [1]_.

    Parameters
    ----------
    weight : float

    References
    ----------
    .. [1] Ghosh et al., "From Variational to Deterministic Autoencoders", 2020, arXiv:1903.12436
    """

    weight: float = 1e-4

    def __post_init__(self) -> None:
        check_finite(self, "weight")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        squares = [parameter.square().sum() for parameter in model.decoder.parameters()]
        return self.weight * torch.stack(squares).sum()
