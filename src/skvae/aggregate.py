"""The aggregate posterior q(z), the average of q(z | x) over rows, and what it says of a model.

E KL(q(z | x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)): what the code tells of the row, and how far
the codes as a whole are from the prior that samples come from [1]_.

References
----------
.. [1] Hoffman and Johnson, "ELBO surgery: yet another way to carve up the variational evidence
   lower bound", NIPS 2016 workshop
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from skvae import distributions
from skvae.distributions import DiagonalMixture
from skvae.evidence import Batch
from skvae.models import LatentModule
from skvae.rng import Noise

__all__ = ["KLSplit", "row_limit", "split_kl"]

PAIRS_PER_CALL = 1 << 16


@dataclass(frozen=True)
class KLSplit:
    """The two parts of the mean KL, in nats."""

    mutual_information: float
    aggregate_kl: float


def row_limit(q: Distribution) -> int:
    """Return for how many rows the split is cheap: it takes the density of all pairs of rows."""
    gaussian = isinstance(q, MultivariateNormal) or _is_diagonal(q)
    return 1000 if gaussian else 200


@torch.no_grad()
def split_kl(module: LatentModule, batch: Batch, noise: Noise, *, n_samples: int = 4) -> KLSplit:
    """Split the mean KL of n rows, with q(z) the mixture of the posteriors of these rows.

    For the rows at hand both parts are unbiased in the draws of z. As an estimate for the whole
    population the mutual information is too low, since it cannot exceed log n (6.9 nats for 1,000
    rows), and the other part is too high by as much. Well below log n both can be trusted; near
    it, the one is a lower and the other an upper bound.

    Parameters
    ----------
    module : LatentModule
        With a posterior that has a density.
    batch : Batch of n rows
    noise : Noise
    n_samples : int
        Draws of z per row.
    """
    q = module.infer(batch)
    z = distributions.draw(q, (n_samples,), noise)  # (S, n, d)
    log_pz = module.prior_distribution().log_prob(z)
    if _is_diagonal(q):
        # In float64: the matrix products cancel where posteriors are narrow.
        mean, scale = q.mean.cpu().double(), q.stddev.cpu().double()
        z = z.cpu().double()
        own = Normal(mean, scale, validate_args=False).log_prob(z).sum(-1)  # (S, n)
        mixture = DiagonalMixture(torch.zeros_like(mean[:, 0]), mean, scale)
        parts = z.flatten(0, 1).split(max(1, 16 * PAIRS_PER_CALL // len(mean)))  # small pairs
        whole = torch.cat([mixture.log_prob(part) for part in parts])  # (S · n,)
    else:
        own = q.log_prob(z)
        whole = _mixture_log_prob(q, z.flatten(0, 1))
    return KLSplit(_mean(own) - _mean(whole), _mean(whole) - _mean(log_pz))


def _mean(values: Tensor) -> float:
    return float(values.cpu().double().mean())


def _is_diagonal(q: Distribution) -> bool:
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)


def _mixture_log_prob(q: Distribution, z: Tensor) -> Tensor:
    """Log of the mean over the batch of q, at points (m, d); shape (m,)."""
    n = q.batch_shape[0]
    parts = [
        torch.logsumexp(q.log_prob(part.unsqueeze(1).expand(-1, n, -1)), -1) - math.log(n)
        for part in z.split(max(1, PAIRS_PER_CALL // n))
    ]
    return torch.cat(parts)
