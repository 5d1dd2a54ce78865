"""Importance sampling of log p(x) with the posterior as proposal.

Memory is constant in the number of rows and of samples; sums over samples are kept in float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from skvae import rng
from skvae.evidence import Batch
from skvae.models import LatentModule
from skvae.pareto import Tail

__all__ = ["Marginal", "log_marginal"]

# One decoder call sees about this many latent vectors: large enough for the matrix product to
# run at full speed, small enough for its output to stay near the processor.
LATENTS_PER_CALL = 2048


@dataclass(frozen=True)
class Marginal:
    """Importance-sampled quantities per row, float64, shape (B,), in nats.

    ``pareto_k`` tells how heavy the tail of the weights is (`skvae.pareto`); NaN where there are
    fewer than 25 of them.
    """

    log_likelihood: Tensor
    elbo: Tensor
    reconstruction: Tensor
    kl: Tensor
    effective_sample_size: Tensor
    pareto_k: Tensor


@torch.no_grad()
def log_marginal(module: LatentModule, batch: Batch, n_samples: int, noise: rng.Noise) -> Marginal:
    """Estimate log p(x) of every row with ``n_samples`` draws from q(z | x).

    The estimate is a lower bound in expectation that rises with the number of samples (Burda et
    al., 2016, arXiv:1509.00519).
    """
    rows = len(batch.x)
    log_sum = torch.full((2, rows), -math.inf, dtype=torch.float64)  # Σ w and Σ w²
    reconstruction = torch.zeros(rows, dtype=torch.float64)
    kl = torch.zeros(rows, dtype=torch.float64)
    tail = Tail(n_samples)
    for k in _chunks(n_samples, max(1, LATENTS_PER_CALL // rows)):
        evidence = module.evidence(batch, k, noise)
        log_w = evidence.log_w.double().cpu()
        chunk = torch.stack([torch.logsumexp(log_w, 0), torch.logsumexp(2 * log_w, 0)])
        log_sum = torch.logaddexp(log_sum, chunk)
        tail.add(log_w)
        reconstruction += evidence.log_px.double().cpu().sum(0) / n_samples
        kl += evidence.kl_rows.double().cpu() * (k / n_samples)
    return Marginal(
        log_likelihood=log_sum[0] - math.log(n_samples),
        elbo=reconstruction - kl,
        reconstruction=reconstruction,
        kl=kl,
        effective_sample_size=torch.exp(2 * log_sum[0] - log_sum[1]),
        pareto_k=tail.k(),
    )


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
