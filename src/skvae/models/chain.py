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
from skvae.posteriors.gaussian import Diagonal, DiagonalModule

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = [
    "Chain",
    "ChainModel",
    "ChainModule",
    "Conditional",
    "conditional",
    "constant",
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
        for law_given in reversed(self.conditionals):
            levels.append(law_given(levels[-1]).mean)
        return torch.cat(levels[::-1], -1)

    def split(self, z: Tensor) -> list[Tensor]:
        """Split flat z (..., d) into its levels, z_1 first."""
        return list(torch.split(z, [*self.sizes], -1))

    def laws(self, levels: Sequence[Tensor]) -> list[Distribution]:
        """Law of each level, z_1 first, at given values of the levels above it."""
        laws = [law_given(z) for law_given, z in zip(self.conditionals, levels[1:], strict=True)]
        return [*laws, self.top]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d), shape (...)."""
        levels = self.split(value)
        return torch.stack(_log_probs(self.laws(levels), levels)).sum(0)

    def descend(
        self, shape: tuple[int, ...], noise: rng.Noise
    ) -> tuple[list[Tensor], list[Distribution]]:
        """Draw from the top down; return the levels (*shape, *batch_shape, d_i) and their laws."""
        levels, laws = [distributions.draw(self.top, shape, noise)], [self.top]
        for law_given in reversed(self.conditionals):
            law = law_given(levels[-1])
            loc = law.mean  # (*shape, *batch_shape, d_i)
            eps = noise.normal(shape, loc.new_empty(loc.shape[len(shape) :]))
            levels.append(loc + law.stddev * eps)
            laws.append(law)
        return levels[::-1], laws[::-1]


@distributions.draw.register
def _(distribution: Chain, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    return torch.cat(distribution.descend(shape, noise)[0], -1)


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
        if not isinstance(parts.posterior, Diagonal):
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
    def _posterior(self, batch: Batch, generative: Sequence[Conditional]) -> tuple[Chain, Chain]:
        """q(z | x), and the same cut off from the gradient of its parameters.

        ``generative`` are p(z_i | z_{i+1}), of which q may make use.
        """

    def infer(self, batch: Batch) -> Chain:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""
        return self._posterior(batch, [*self.generative])[0]

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
        generative = [_Once(module) for module in self.generative]
        q, fixed_q = self._posterior(batch, generative)
        levels, q_laws = q.descend((n_samples,), noise)
        z = torch.cat(levels, -1)  # (K, B, d)
        point = z.view_as(z)
        if path_only:  # then the densities must be functions of the point that is handed out
            levels = q.split(point)
            q_laws = fixed_q.laws(levels)
        p_laws = Chain(self.prior(self.infer_prior_part), generative, self.sizes).laws(levels)
        log_pz, log_qz = _log_probs(p_laws, levels), _log_probs(q_laws, levels)
        kl = list(map(_kl, q_laws, p_laws, log_qz, log_pz))
        return Evidence(
            log_px=self._log_px(batch, self.generate(point), noise),
            log_pz=torch.stack(log_pz).sum(0),
            log_qz=torch.stack(log_qz).sum(0),
            kl=torch.cat(kl, -1),
            draws=(z,),
            posterior=q,
            points=(point,) if path_only else (),
        )


class _Once:
    """A conditional that is not computed again for the very tensor that it was computed for last.

    q and p share p(z_i | z_{i+1}) at the drawn levels; batch normalisation then sees a batch once.
    """

    def __init__(self, law_given: Conditional) -> None:
        self.law_given = law_given
        self._last: tuple[Tensor, Distribution] | None = None

    def __call__(self, z: Tensor) -> Distribution:
        if self._last is None or self._last[0] is not z:
            self._last = (z, self.law_given(z))
        return self._last[1]


def _log_probs(laws: Sequence[Distribution], levels: Sequence[Tensor]) -> list[Tensor]:
    return [law.log_prob(z) for law, z in zip(laws, levels, strict=True)]


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


def constant(law: Distribution) -> Distribution:
    """Return the same independent Gaussians, cut off from the gradient of their parameters."""
    return gaussian(law.mean.detach(), law.stddev.detach())


def gaussian(loc: Tensor, scale: Tensor) -> Distribution:
    """Return independent Gaussians, event shape (d,)."""
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
