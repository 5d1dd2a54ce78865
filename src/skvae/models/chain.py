"""Several latent vectors, each given the one above it, as one flat z = [z_1, …, z_L].

z_1 is next to x and z_L at the top. Both p(z) and q(z | x) are chains that are drawn from the top
down and whose densities can be evaluated at any z.
"""

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from skvae import distributions, rng
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.models.base import GenerativeModel, LatentModule
from skvae.networks import dense_layers, running_statistics
from skvae.posteriors.gaussian import DiagonalModule

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = [
    "Chain",
    "ChainModel",
    "ChainModule",
    "Conditional",
    "conditional",
    "detached",
    "gaussian",
]

Conditional = Callable[[Tensor], Distribution]


class Chain(Distribution):
    """Law of a flat z: that of the top level, and that of each other level given the one above.

    Parameters
    ----------
    top : Distribution, event shape (d_L,)
    conditionals : sequence of functions
        From z_{i+1} (..., d_{i+1}) to independent Gaussians for z_i (..., d_i); that of z_1 first.
    sizes : sequence of int
        d_1, …, d_L.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self, top: Distribution, conditionals: Sequence[Conditional], sizes: Sequence[int]
    ) -> None:
        super().__init__(top.batch_shape, torch.Size([sum(sizes)]), validate_args=False)
        self.top, self.conditionals, self.sizes = top, tuple(conditionals), tuple(sizes)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Chain":
        """Return the same law for another batch shape."""
        return Chain(self.top.expand(batch_shape), self.conditionals, self.sizes)

    @property
    def mean(self) -> Tensor:
        """The path of means, shape (*batch_shape, d): each level's mean at the mean above it."""
        levels = [self.top.mean]
        for conditional in reversed(self.conditionals):
            levels.append(conditional(levels[-1]).mean)
        return torch.cat(levels[::-1], -1)

    def split(self, z: Tensor) -> tuple[Tensor, ...]:
        """Split flat z (..., d) into its levels, z_1 first."""
        return torch.split(z, [*self.sizes], -1)

    def laws(self, z: Tensor) -> list[Distribution]:
        """Law of each level, z_1 first, where the levels above it have the values of flat z."""
        above = self.split(z)[1:]
        laws = [conditional(z_) for conditional, z_ in zip(self.conditionals, above, strict=True)]
        return [*laws, self.top]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d), shape (...)."""
        return torch.stack(
            [law.log_prob(z) for law, z in zip(self.laws(value), self.split(value), strict=True)]
        ).sum(0)

    def draw(self, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
        """Draw from the top down with explicit noise, shape (*shape, *batch_shape, d)."""
        levels = [distributions.draw(self.top, shape, noise)]
        for conditional in reversed(self.conditionals):
            law = conditional(levels[-1])
            loc = law.mean  # (*shape, *batch_shape, d_i)
            eps = noise.normal(shape, loc.new_empty(loc.shape[len(shape) :]))
            levels.append(loc + law.stddev * eps)
        return torch.cat(levels[::-1], -1)


@distributions.draw.register
def _(distribution: Chain, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    return distribution.draw(shape, noise)


class ChainModel(GenerativeModel, abc.ABC):
    """A wiring of levels, each Gaussian given the one above; the prior is that of the top."""

    @abc.abstractmethod
    def sizes(self, n_components: int) -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of all levels together."""
        return Latent(sum(self.sizes(parts.n_components)))

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of the top level."""
        return Latent(self.sizes(parts.n_components)[-1])

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if parts.posterior.name != "diagonal":
            raise ParameterError(
                f"model={self.name!r} does not go with posterior={parts.posterior.name!r}: the "
                "posteriors of its levels are diagonal Gaussians. Use posterior='diagonal'."
            )


class ChainModule(LatentModule):
    """A wiring with several levels. Subclasses say how they are inferred from x."""

    def __init__(self, spec: "Assembly", sizes: tuple[int, ...]) -> None:
        super().__init__(spec)
        self.sizes = sizes
        self.generative = nn.ModuleList()  # from z_{i+1} to p(z_i | z_{i+1}), that of z_1 first

    @abc.abstractmethod
    def _posterior(self, batch: Batch) -> tuple[Chain, Chain]:
        """q(z | x), and the same cut off from the gradient of its parameters."""

    def infer(self, batch: Batch) -> Chain:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""
        return self._posterior(batch)[0]

    def infer_prior_part(self, x: Tensor) -> Distribution:
        """q(z_L | x) for pseudo-inputs x (K, *event)."""
        with running_statistics(self):
            return self.infer(Batch(x)).top

    def prior_part(self, z: Tensor) -> Tensor:
        """Return the top level of z (..., d)."""
        return z[..., -self.sizes[-1] :]

    def prior_distribution(self) -> Chain:
        """p(z), event shape (d,)."""
        return Chain(self.prior(self.infer_prior_part), [*self.generative], self.sizes)

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x).

        The KL of a level is that of its conditionals, exact given the drawn levels above it and
        averaged over the draws: unbiased, with one column for each latent variable. Where the top
        prior leaves no closed form, the top level is one column by Monte Carlo.
        """
        q, fixed_q = self._posterior(batch)
        z = distributions.draw(q, (n_samples,), noise)  # (K, B, d)
        # All laws are functions of the flat z, as it was drawn: a gradient that is taken or
        # changed there must see everything that follows from it.
        levels = q.split(z)
        p_laws, q_laws = self.prior_distribution().laws(z), (fixed_q if path_only else q).laws(z)
        log_pz = [law.log_prob(level) for law, level in zip(p_laws, levels, strict=True)]
        log_qz = [law.log_prob(level) for law, level in zip(q_laws, levels, strict=True)]
        kl = map(_kl, q_laws, p_laws, log_qz, log_pz)
        return Evidence(
            log_px=self._log_px(batch, self.generate(z)),
            log_pz=torch.stack(log_pz).sum(0),
            log_qz=torch.stack(log_qz).sum(0),
            kl=torch.cat(list(kl), -1),
            draws=(z,),
            posterior=q,
        )


def _kl(q: Distribution, p: Distribution, log_q: Tensor, log_p: Tensor) -> Tensor:
    """KL of one level's laws, (B, d_i), or (B, 1) by Monte Carlo from log-densities (K, B)."""
    kl = distributions.kl_per_dimension(q, p)  # (K, B, d_i), at the top (B, d_L)
    if kl is None:
        return (log_q - log_p).mean(0).unsqueeze(-1)
    return kl.mean(0) if kl.ndim == 3 else kl


def conditional(
    n_in: int, widths: Sequence[int], d: int, activation: str, norm: bool
) -> nn.Module:
    """Return layers from (..., n_in) to independent Gaussians for d numbers."""
    sizes = (n_in, *widths)
    return nn.Sequential(*dense_layers(sizes, activation, norm), DiagonalModule(d, sizes[-1]))


def detached(module: nn.Module) -> Callable[[Tensor], Any]:
    """Return the module as a function whose weights have no gradient."""
    weights = {name: p.detach() for name, p in module.named_parameters()}
    return lambda x: torch.func.functional_call(module, weights, (x,))


def gaussian(loc: Tensor, scale: Tensor) -> Distribution:
    """Return independent Gaussians, event shape (d,)."""
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
