"""Distance between the codes and the prior by a kernel."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from skvae import distributions
from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError, did_you_mean
from skvae.penalties.base import Penalty
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import check_finite

__all__ = ["MMD"]

Kernel = Literal["imq", "rbf"]

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class MMD(Penalty, name="mmd"):
    """Maximum mean discrepancy between the aggregate posterior and the prior [1]_ [2]_.

    Unlike the KL term it leaves each q(z | x) free to be narrow. ``ELBO(beta=0.0) + MMD(10)`` is
    the Wasserstein autoencoder WAE-MMD [2]_, ``ELBO(beta=1 - a) + MMD(w)`` an InfoVAE [1]_.

    The estimate is the unbiased one, from one draw of z for each row and as many from the prior;
    it can be negative. A mixture as prior learns nothing from it, since its draws do not
    depend smoothly on its parameters.

    Parameters
    ----------
    weight : float
    kernel : {"imq", "rbf"}
        ``"imq"``: Σ_s C / (C + r²) with C = 2 d s for seven scales s from 0.1 to 10; 2 d is the
        expected r² of two draws from N(0, I). ``"rbf"``: exp(−r² / 2 d).

    References
    ----------
    .. [1] Zhao, Song and Ermon, "InfoVAE", 2019, arXiv:1706.02262
    .. [2] Tolstikhin et al., "Wasserstein Auto-Encoders", 2018, arXiv:1711.01558
    """

    weight: float = 10.0
    kernel: Kernel = "imq"

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        if self.kernel not in get_args(Kernel):
            hint = did_you_mean(str(self.kernel), get_args(Kernel))
            raise ParameterError(
                f"MMD: kernel={self.kernel!r} is not known.{hint} Known: 'imq', 'rbf'."
            )

    def objection(self, posterior: Posterior) -> str | None:
        """Draws must have a gradient."""
        if posterior.reparameterized:
            return None
        return "the penalty has a gradient through the draws alone, and these have none"

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty; a batch of one row has none."""
        z = evidence.draws[0][0]  # (B, d)
        n = len(z)
        prior = model.prior_distribution().expand(torch.Size([n]))
        p = distributions.draw(prior, (), noise)
        if n == 1:
            return torch.zeros_like(z.sum())
        # A point says nothing about the distance to another draw of its own law.
        within = [k.sum() - k.trace() for k in (self.similarity(z, z), self.similarity(p, p))]
        mean_within = torch.stack(within).sum() / (n * (n - 1))
        return self.weight * (mean_within - 2 * self.similarity(z, p).mean())

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """Kernel of all pairs, shape (n, m), for points (n, d) and (m, d)."""
        d = a.shape[1]
        r2 = (a.unsqueeze(1) - b).square().sum(-1)
        if self.kernel == "rbf":
            return torch.exp(-r2 / (2 * d))
        return torch.stack([2 * d * s / (2 * d * s + r2) for s in SCALES]).sum(0)
