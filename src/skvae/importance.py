"""Importance sampling with the posterior as proposal: log p(x) and p(missing | observed).

Both use the same weights. Memory is constant in the number of rows and of samples; sums over
samples are kept in float64.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae import distributions, rng
from skvae.evidence import Batch
from skvae.models import LatentModule
from skvae.pareto import Tail

__all__ = ["Marginal", "PosteriorSample", "conditional_posterior", "log_marginal"]

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


@dataclass(frozen=True)
class PosteriorSample:
    """Weighted draws from p(z | observed cells).

    Attributes
    ----------
    z : Tensor, shape (K, B, d)
    weight : Tensor, shape (K, B)
        Self-normalised: sums to 1 over K.
    x : Tensor, shape (K, B, *event), or None
        Rows whose hidden cells were drawn with z, where these depend on each other; the weights
        are those of the pairs. None where p(x | z) says all about them.
    """

    z: Tensor
    weight: Tensor
    x: Tensor | None = None

    def mean(self, module: LatentModule, batch: Batch) -> Tensor:
        """E[x | observed cells], or its counterpart for codes, shape (B, *event)."""
        likelihood = module.likelihood
        values: Iterable[Tensor] | None = self.x
        if values is None:
            values = (likelihood.statistics(module.hidden(batch, z)) for z in self.z)
        axes = [1] * len(module.spec.event_shape)
        weights = (weight.view(-1, *axes) for weight in self.weight)
        return likelihood.pool(zip(values, weights, strict=True))

    def resample(self, n: int, noise: rng.Noise) -> Tensor:
        """Draw ``n`` latent vectors per row with replacement by weight, shape (n, B, d)."""
        return self.draws(n, noise)[0]

    def draws(self, n: int, noise: rng.Noise) -> tuple[Tensor, Tensor | None]:
        """Draw ``n`` pairs of z (n, B, d) and x (n, B, *event), where there are any x."""
        u = noise.uniform((n,), torch.empty(self.z.shape[1], dtype=torch.float64))  # (n, B)
        cumulative = self.weight.double().cpu().cumsum(0)  # (K, B)
        index = torch.searchsorted(
            (cumulative / cumulative[-1]).T.contiguous(), u.T.contiguous()
        ).T.clamp_(max=len(self.z) - 1)  # (n, B)
        index = index.to(self.z.device)
        row = torch.arange(index.shape[1], device=index.device)
        return self.z[index, row], None if self.x is None else self.x[index, row]


@torch.no_grad()
def conditional_posterior(
    module: LatentModule,
    batch: Batch,
    n_samples: int,
    noise: rng.Noise,
    *,
    n_chains: int = 8,
    n_sweeps: int = 12,
) -> PosteriorSample:
    """Draw from p(z | observed cells) by adaptive importance sampling.

    An encoder that was trained on complete rows is a poor proposal for a row with holes. So each
    row runs ``n_chains`` short pseudo-Gibbs chains first [1]_: encode, draw z, fill the hidden
    cells with a draw from the decoder, repeat. The final proposal is the mixture of the posteriors
    of all the fillings and of the prior, and every draw is weighted against that whole mixture, as
    in population Monte Carlo [2]_: the weights are right whatever the chains did, and bounded
    because of the prior's part [3]_, which also covers rows of which little or nothing is seen.

    Parameters
    ----------
    module : LatentModule
    batch : Batch of B rows
    n_samples : int
        Draws per row, rounded up to a multiple of the number of proposals.
    noise : Noise
    n_chains, n_sweeps : int
        Number and length of the chains.

    References
    ----------
    .. [1] Rezende, Mohamed and Wierstra, "Stochastic Backpropagation", 2014, arXiv:1401.4082
    .. [2] Cappé, Guillin, Marin and Robert, "Population Monte Carlo", 2004
    .. [3] Hesterberg, "Weighted Average Importance Sampling and Defensive Mixture
       Distributions", 1995
    """
    proposals: list[Distribution] = []
    for _ in range(n_chains):
        q = module.infer(batch)
        for _ in range(n_sweeps):
            z = distributions.draw(q, (), noise)  # (B, d)
            q = module.infer(Batch(module.complete(batch, z, noise)))
        proposals.append(q)
    proposals.append(module.prior_distribution().expand(torch.Size([len(batch.x)])))
    per_proposal = math.ceil(n_samples / len(proposals))
    z = torch.cat([distributions.draw(q, (per_proposal,), noise) for q in proposals])  # (K, B, d)
    log_q = distributions.log_mean_exp(torch.stack([q.log_prob(z) for q in proposals]))
    parts = z.split(max(1, LATENTS_PER_CALL // len(batch.x)))
    x: Tensor | None = None
    if module.autoregressive:
        filled, log_px = zip(*(module.fill(batch, part, noise) for part in parts), strict=True)
        x = torch.cat(filled)
        log_joint = torch.cat(log_px) + module.prior_distribution().log_prob(z)
    else:
        log_joint = torch.cat([torch.add(*module.log_joint(batch, part)) for part in parts])
    weight = torch.softmax((log_joint - log_q).double(), 0)
    return PosteriorSample(z, weight.to(z.dtype), x)


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)
