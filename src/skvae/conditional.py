"""p(z | observed cells), and so p(missing | observed), by importance sampling that adapts.

Draws are weighted by the same log p(x, z) − log q(z) as everywhere. Rows whose weights rest on too
few draws get more of them; where the proposal is wrong rather than short of draws, which Pareto-k̂
tells, chains look for a better one.

References
----------
.. [1] Mattei and Frellsen, "MIWAE", 2019, arXiv:1812.02633
.. [2] Rezende, Mohamed and Wierstra, "Stochastic Backpropagation", 2014, arXiv:1401.4082
.. [3] Cappé, Guillin, Marin and Robert, "Population Monte Carlo", 2004
.. [4] Hesterberg, "Weighted Average Importance Sampling and Defensive Mixture Distributions", 1995
.. [5] Owen and Zhou, "Safe and Effective Importance Sampling", 2000
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae import distributions, rng
from skvae.evidence import Batch
from skvae.importance import LATENTS_PER_CALL
from skvae.models import LatentModule
from skvae.pareto import Tail

__all__ = [
    "Accuracy",
    "Importance",
    "NoiseOf",
    "PosteriorSample",
    "Sampler",
    "adaptive_posterior",
    "encoded_posterior",
    "searched_posterior",
]

GROWTH = 4  # of the number of draws from one round to the next
MOST_KEPT = 1 << 23  # numbers
LOST = 2.0  # Pareto-k̂ above which a proposal misses; from 0.7 on, more draws help but slowly

NoiseOf = Callable[[Tensor, int], rng.Noise]


@dataclass(frozen=True)
class PosteriorSample:
    """Weighted draws from p(z | observed cells).

    Attributes
    ----------
    z : Tensor, shape (K, B, d)
    weight : Tensor, shape (K, B)
        Self-normalised: sums to 1 over K.
    pareto_k : Tensor, shape (B,)
        How heavy the tail of the weights is; NaN where they are too few to tell.
    x : Tensor, shape (K, B, *event), or None
        Rows whose hidden cells were drawn with z, where these depend on each other; the weights
        are those of the pairs. None where p(x | z) says all about them.
    statistics : Tensor, shape (K, B, ...), or None
        What of p(hidden cells | z) may be averaged, where it is small enough to be kept.
    """

    z: Tensor
    weight: Tensor
    pareto_k: Tensor
    x: Tensor | None = None
    statistics: Tensor | None = None

    @property
    def effective_sample_size(self) -> Tensor:
        """1 / Σ weight², shape (B,)."""
        return 1 / self.weight.square().sum(0)

    @property
    def figures(self) -> dict[str, Tensor]:
        """How far the draws can be trusted, by name, each (B,)."""
        return {
            "effective_sample_size": self.effective_sample_size,
            "pareto_k": self.pareto_k,
        }

    def of(self, rows: Tensor) -> Self:
        """Return the draws of some rows."""
        return replace(
            self,
            z=self.z[:, rows],
            weight=self.weight[:, rows],
            pareto_k=self.pareto_k[rows],
            x=None if self.x is None else self.x[:, rows],
            statistics=None if self.statistics is None else self.statistics[:, rows],
        )

    def mean(self, module: LatentModule, batch: Batch) -> Tensor:
        """E[x | observed cells], or its counterpart for codes, shape (B, *event)."""
        likelihood = module.likelihood
        values: Iterable[Tensor] | None = self.statistics if self.x is None else self.x
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


@dataclass(frozen=True)
class Accuracy:
    """How good a sample must be.

    Parameters
    ----------
    n_samples : int
        Draws of the first round.
    effective : float
        Effective sample size that suffices.
    max_samples : int
        Draws of the last round.
    """

    n_samples: int = 256
    effective: float = 50.0
    max_samples: int = 8192


DEFAULT = Accuracy()


class Sampler(Protocol):
    """A way to sample p(z | observed cells)."""

    def samples(
        self, module: LatentModule, batch: Batch, noise_of: NoiseOf
    ) -> Iterator[tuple[Tensor, PosteriorSample]]:
        """Yield numbers of some rows and draws for them, as `adaptive_posterior`."""
        ...


@dataclass(frozen=True)
class Importance:
    """Importance sampling.

    Parameters
    ----------
    accuracy : Accuracy
    fall_back : bool
        Search for a better proposal where Pareto-k̂ says that the encoder's is wrong.
    """

    accuracy: Accuracy = DEFAULT
    fall_back: bool = True

    def for_means(self) -> "Importance":
        """Return a quarter of the effort, and no search: a mean hardly gains by them."""
        own = self.accuracy
        quarter = Accuracy(
            math.ceil(own.n_samples / 4), own.effective / 4, math.ceil(own.max_samples / 4)
        )
        return Importance(quarter, fall_back=False)

    def samples(
        self, module: LatentModule, batch: Batch, noise_of: NoiseOf
    ) -> Iterator[tuple[Tensor, PosteriorSample]]:
        """Yield numbers of some rows and draws for them."""
        search = searched_posterior if self.fall_back else None
        return adaptive_posterior(
            module, batch, self.accuracy, noise_of, draw=encoded_posterior, fall_back=search
        )


Draw = Callable[[LatentModule, Batch, int, rng.Noise], PosteriorSample]


def adaptive_posterior(
    module: LatentModule,
    batch: Batch,
    accuracy: Accuracy,
    noise_of: NoiseOf,
    *,
    draw: Draw,
    fall_back: Draw | None,
) -> Iterator[tuple[Tensor, PosteriorSample]]:
    """Sample p(z | observed cells) of a model that was trained on rows with holes.

    Parameters
    ----------
    module : LatentModule
    batch : Batch of B rows
    accuracy : Accuracy
    noise_of : callable
        From the numbers of some rows and the number of a round to their noise.
    draw : callable
        What makes so many draws, with more of them in each round.
    fall_back : callable or None
        Makes the draws for rows whose weights have too heavy a tail after the last round.

    Yields
    ------
    rows : Tensor of int
        Numbers of some rows; every row comes once.
    sample : PosteriorSample
        Of these rows. Rows that never got what suffices come with the best there is; their
        ``figures`` tell.
    """
    rows = torch.arange(len(batch.x), device=batch.x.device)
    n, turn = accuracy.n_samples, 0
    while len(rows):
        own = batch.map(lambda part, rows=rows: part[rows])  # type: ignore[misc]
        sample = draw(module, own, n, noise_of(rows, turn))
        enough = sample.effective_sample_size >= min(accuracy.effective, n / 2)
        if n >= accuracy.max_samples:
            enough |= ~(sample.pareto_k > LOST) | (fall_back is None)
            yield rows[enough], sample.of(enough)
            if fall_back is not None and not enough.all():
                rows = rows[~enough]
                own = batch.map(lambda part, rows=rows: part[rows])  # type: ignore[misc]
                yield rows, fall_back(module, own, n, noise_of(rows, turn + 1))
            return
        if enough.any():
            yield rows[enough], sample.of(enough)
        rows = rows[~enough]
        n, turn = min(GROWTH * n, accuracy.max_samples), turn + 1


@torch.no_grad()
def encoded_posterior(
    module: LatentModule,
    batch: Batch,
    n_samples: int,
    noise: rng.Noise,
    *,
    defensive: float = 0.1,
) -> PosteriorSample:
    """Draw from p(z | observed cells) by importance sampling with the encoder's q [1]_.

    Parameters
    ----------
    module : LatentModule
        Trained on rows with holes, so that q knows what it does not see.
    batch : Batch of B rows
    n_samples : int
    noise : Noise
    defensive : float
        Share of the draws from the prior. They bound the weights [4]_ and cover rows of which
        little or nothing is seen. All draws are weighted against the whole mixture [5]_.
    """
    prior = module.prior_distribution().expand(torch.Size([len(batch.x)]))
    n_prior = math.ceil(defensive * n_samples)
    return _weighted(
        module, batch, [module.infer(batch), prior], [n_samples - n_prior, n_prior], noise
    )


@torch.no_grad()
def searched_posterior(
    module: LatentModule,
    batch: Batch,
    n_samples: int,
    noise: rng.Noise,
    *,
    n_chains: int = 8,
    n_sweeps: int = 12,
) -> PosteriorSample:
    """Draw from p(z | observed cells) with proposals that chains have looked for.

    An encoder that was trained on complete rows is a poor proposal for a row with holes. So each
    row runs ``n_chains`` short pseudo-Gibbs chains first [2]_: encode, draw z, fill the hidden
    cells with a draw from the decoder, repeat. The final proposal is the mixture of the posteriors
    of all the fillings and of the prior, and every draw is weighted against that whole mixture, as
    in population Monte Carlo [3]_: the weights are right whatever the chains did, and bounded
    because of the prior's part [4]_, which also covers rows of which little or nothing is seen.

    Parameters
    ----------
    module : LatentModule
    batch : Batch of B rows
    n_samples : int
        Draws per row, rounded up to a multiple of the number of proposals.
    noise : Noise
    n_chains, n_sweeps : int
        Number and length of the chains.
    """
    proposals: list[Distribution] = []
    for _ in range(n_chains):
        q = module.infer(batch)
        for _ in range(n_sweeps):
            z = distributions.draw(q, (), noise)  # (B, d)
            q = module.infer(Batch(module.complete(batch, z, noise)))
        proposals.append(q)
    proposals.append(module.prior_distribution().expand(torch.Size([len(batch.x)])))
    each = math.ceil(n_samples / len(proposals))
    return _weighted(module, batch, proposals, [each] * len(proposals), noise)


def _weighted(
    module: LatentModule,
    batch: Batch,
    proposals: Sequence[Distribution],
    counts: Sequence[int],
    noise: rng.Noise,
) -> PosteriorSample:
    """Draw the given numbers from the proposals; weight all against their mixture."""
    total = sum(counts)
    z = torch.cat(
        [distributions.draw(q, (n,), noise) for q, n in zip(proposals, counts, strict=True)]
    )  # (K, B, d)
    log_q = torch.logsumexp(
        torch.stack(
            [
                q.log_prob(z) + math.log(n / total)
                for q, n in zip(proposals, counts, strict=True)
                if n
            ]
        ),
        0,
    )
    parts = z.split(max(1, LATENTS_PER_CALL // len(batch.x)))
    x = statistics = None
    if module.autoregressive:
        filled, log_px = zip(*(module.fill(batch, part, noise) for part in parts), strict=True)
        x = torch.cat(filled)
        log_joint = torch.cat(log_px) + module.prior_distribution().log_prob(z)
    else:
        log_joint, statistics = _decoded(module, batch, parts)
    log_w = (log_joint - log_q).double()
    tail = Tail(total)
    tail.add(log_w.cpu())
    weight = torch.softmax(log_w, 0)
    return PosteriorSample(z, weight.to(z.dtype), tail.k().to(z), x, statistics)


def _decoded(
    module: LatentModule, batch: Batch, parts: Sequence[Tensor]
) -> tuple[Tensor, Tensor | None]:
    """Return log p(x, z) (K, B), and the statistics of the hidden cells if they are small."""
    log_joint, statistics, size = [], [], 0
    for z in parts:
        p = module.generate(z)
        log_joint.append(torch.add(*module.log_joint(batch, z, p=p)))
        if size <= MOST_KEPT:
            statistics.append(module.likelihood.statistics(module.hidden(batch, z, p)))
            size += statistics[-1].numel()
    return torch.cat(log_joint), torch.cat(statistics) if size <= MOST_KEPT else None
