"""p(z, hidden cells | observed cells) by Markov chains, which need no weights.

A chain goes from rows that are filled in to z and back. Pseudo-Gibbs [1]_ takes z from the
encoder, and so is right where the encoder's q(z | x) is the posterior of complete rows.
Metropolis-within-Gibbs [2]_ takes it for a proposal that may be refused, and is right in the limit
whatever the encoder does.

References
----------
.. [1] Rezende, Mohamed and Wierstra, "Stochastic Backpropagation", 2014, arXiv:1401.4082
.. [2] Mattei and Frellsen, "Leveraging the Exact Likelihood of Deep Latent Variable Models",
   2018, arXiv:1802.04826
.. [3] Gelman et al., "Bayesian Data Analysis", third edition, 2013, sections 11.4 and 11.5
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from skvae import distributions, rng
from skvae.conditional import (
    DEFAULT,
    Accuracy,
    NoiseOf,
    PosteriorSample,
    adaptive_posterior,
    encoded_posterior,
)
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.models import LatentModule
from skvae.spec import at_least

__all__ = ["ChainSample", "Chains", "chain_posterior", "split_r_hat"]

N_START = 256  # importance samples that the chains start from
N_CHAINS = 8


@dataclass(frozen=True, kw_only=True)
class ChainSample(PosteriorSample):
    """Draws of chains, all of the same weight; their Pareto-k̂ is NaN.

    Attributes
    ----------
    acceptance : Tensor, shape (B,)
        Share of the proposals that were accepted; 1 for pseudo-Gibbs.
    r_hat : Tensor, shape (B,)
        Split-R̂ of the dimension of z where it is largest. Above 1.1, the chains do not agree.
    n_effective : Tensor, shape (B,)
        How many independent draws they are worth, of the dimension where it is least.
    """

    acceptance: Tensor
    r_hat: Tensor
    n_effective: Tensor

    @property
    def effective_sample_size(self) -> Tensor:
        """How many independent draws they are worth: the weights do not tell, shape (B,)."""
        return self.n_effective

    @property
    def figures(self) -> dict[str, Tensor]:
        """How far the draws can be trusted, by name, each (B,)."""
        return super().figures | {"acceptance": self.acceptance, "r_hat": self.r_hat}

    def of(self, rows: Tensor) -> Self:
        """Return the draws of some rows."""
        return replace(
            super().of(rows),
            acceptance=self.acceptance[rows],
            r_hat=self.r_hat[rows],
            n_effective=self.n_effective[rows],
        )


@dataclass(frozen=True)
class Chains:
    """Chains, of which the first half is burn-in, and which are run again if they are too short.

    Parameters
    ----------
    accuracy : Accuracy
        Draws of all chains of a row together, without burn-in.
    metropolis : bool
        Whether what the encoder proposes may be refused.
    """

    accuracy: Accuracy = DEFAULT
    metropolis: bool = True

    def samples(
        self, module: LatentModule, batch: Batch, noise_of: NoiseOf
    ) -> Iterator[tuple[Tensor, PosteriorSample]]:
        """Yield numbers of some rows and draws for them."""

        def draw(
            module: LatentModule, batch: Batch, n_samples: int, noise: rng.Noise
        ) -> PosteriorSample:
            n_steps = max(4, math.ceil(n_samples / N_CHAINS))
            return chain_posterior(
                module, batch, noise, metropolis=self.metropolis, n_steps=n_steps, burn_in=n_steps
            )

        # Ten independent draws for each half of a chain mean an R̂ of about 1.05.
        effective = max(self.accuracy.effective, 10 * 2 * N_CHAINS)
        accuracy = replace(self.accuracy, effective=effective)
        return adaptive_posterior(module, batch, accuracy, noise_of, draw=draw, fall_back=None)


@torch.no_grad()
def chain_posterior(
    module: LatentModule,
    batch: Batch,
    noise: rng.Noise,
    *,
    metropolis: bool = True,
    n_chains: int = N_CHAINS,
    n_steps: int = 256,
    burn_in: int = 256,
) -> ChainSample:
    """Draw from p(z | observed cells) by chains that start from importance samples.

    Parameters
    ----------
    module : LatentModule
        Its encoder must know complete rows.
    batch : Batch of B rows
    noise : Noise
    metropolis : bool
        Accept a proposal of the encoder with the probability that makes the chain exact; False
        always takes it.
    n_chains : int
        For each row.
    n_steps : int
        Draws of each chain that are kept.
    burn_in : int
        Steps before these.

    Raises
    ------
    ParameterError
        There are too few steps for a split-R̂, or hidden cells depend on each other given z.
    """
    at_least(n_chains, 1, "chain_posterior: n_chains")
    at_least(n_steps, 4, "chain_posterior: n_steps")
    at_least(burn_in, 0, "chain_posterior: burn_in")
    if module.autoregressive:
        raise ParameterError(
            f"network={module.spec.network.name!r} decodes one step from those before, so that "
            "hidden cells cannot be drawn from p(hidden | observed, z). Use importance sampling."
        )
    start = encoded_posterior(module, batch, N_START, noise)
    z = start.resample(n_chains, noise).flatten(0, 1)  # (C · B, d)
    noise = rng.Repeated(noise, n_chains)
    batch = batch.map(lambda part: torch.cat([part] * n_chains))
    kept, accepted = [], torch.zeros_like(z[:, 0])
    for step in range(burn_in + n_steps):
        x = Batch(module.complete(batch, z, noise))
        z = module.renewed(x, z, noise)
        q = module.infer(x)
        proposed = distributions.draw(q, (), noise)
        if metropolis:
            both = torch.stack([z, proposed])
            old, new = Evidence(*module.log_joint(x, both), q.log_prob(both)).log_w  # (C · B,)
            accept = noise.uniform((), new).log() < new - old
            proposed = torch.where(accept.unsqueeze(-1), proposed, z)
        else:
            accept = torch.ones_like(accepted, dtype=torch.bool)
        z = proposed
        if step >= burn_in:
            kept.append(z.unflatten(0, (n_chains, -1)))
            accepted += accept
    draws = torch.stack(kept)  # (T, C, B, d)
    r_hat, n_effective = split_r_hat(draws.double())
    return ChainSample(
        draws.flatten(0, 1),
        draws.new_full((n_steps * n_chains, draws.shape[2]), 1 / (n_steps * n_chains)),
        draws.new_full((draws.shape[2],), torch.nan),
        acceptance=accepted.unflatten(0, (n_chains, -1)).mean(0) / n_steps,
        r_hat=r_hat.amax(-1).to(z),
        n_effective=n_effective.amin(-1).to(z),
    )


def split_r_hat(draws: Tensor) -> tuple[Tensor, Tensor]:
    """Compare the halves of chains with each other [3]_.

    Parameters
    ----------
    draws : Tensor, shape (T, C, ...)
        T >= 4 steps of C chains.

    Returns
    -------
    r_hat : Tensor, shape (...)
        √(var⁺ / W): how much the spread could shrink if the chains went on for ever.
    n_effective : Tensor, shape (...)
        Number of draws · var⁺ / (variance between the halves), and never more than there are
        draws: a rough guess, as the halves are few.
    """
    half = len(draws) // 2
    halves = torch.cat([draws[:half], draws[-half:]], 1)  # (T / 2, 2 C, ...)
    within = halves.var(0).mean(0)
    between = halves.mean(0).var(0)  # B / n
    spread = (half - 1) / half * within + between  # var⁺
    constant = spread == 0  # nothing moves, and nothing differs
    r_hat = torch.where(constant, 1, (spread / within).sqrt())
    ratio = torch.where(constant, 1, spread / (half * between))
    return r_hat, half * halves.shape[1] * ratio.clamp(max=1)
