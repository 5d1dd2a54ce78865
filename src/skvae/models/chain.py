"""Several latent vectors, each given the one above it, as one flat z = [z_1, …, z_L].

z_1 is next to x and z_L at the top. Both p(z) and q(z | x) are chains that are drawn from the top
down and whose densities can be evaluated at any z.
"""

import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
    "Path",
    "Step",
    "conditional",
    "constant",
    "densities",
    "detached",
    "gaussian",
    "markov",
]

Conditional = Callable[[Tensor], Distribution]
Step = Callable[[Tensor | None, Tensor], Tensor]


def _hand_down(above: Tensor | None, z: Tensor) -> Tensor:
    return z


class Chain(Distribution):
    """Law of a flat z: that of the top level, and that of each other level given those above.

    Parameters
    ----------
    top : Distribution, event shape (d_L,)
    conditionals : sequence of functions
        From what is handed down to a level to independent Gaussians for z_i (..., d_i); that of
        z_1 first.
    sizes : sequence of int
        d_1, …, d_L.
    steps : sequence of functions
        From what was handed down to level i and its z_i to what is handed down from it; that of
        z_1 first. By default that is z_i itself: a Markov chain.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self,
        top: Distribution,
        conditionals: Sequence[Conditional],
        sizes: Sequence[int],
        steps: Sequence[Step] = (),
    ) -> None:
        super().__init__(top.batch_shape, torch.Size([sum(sizes)]), validate_args=False)
        self.top, self.conditionals, self.sizes = top, tuple(conditionals), tuple(sizes)
        self.steps = tuple(steps) or (_hand_down,) * len(self.sizes)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Chain":
        """Return the same law for another batch shape."""
        return Chain(self.top.expand(batch_shape), self.conditionals, self.sizes, self.steps)

    @property
    def mean(self) -> Tensor:
        """The path of means, shape (*batch_shape, d): each level's mean at the means above it."""
        return torch.cat(self._walk(lambda i, law: law.mean)[0], -1)

    def split(self, z: Tensor) -> list[Tensor]:
        """Split flat z (..., d) into its levels, z_1 first."""
        return list(torch.split(z, [*self.sizes], -1))

    def laws(self, levels: Sequence[Tensor]) -> list[Distribution]:
        """Law of each level, z_1 first, at given values of the levels above it."""
        return self._walk(lambda i, law: levels[i])[1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d), shape (...)."""
        levels = self.split(value)
        return torch.stack(_log_probs(self.laws(levels), levels)).sum(0)

    def descend(
        self, shape: tuple[int, ...], noise: rng.Noise
    ) -> tuple[list[Tensor], list[Distribution]]:
        """Draw from the top down; return the levels (*shape, *batch_shape, d_i) and their laws."""

        def draw(i: int, law: Distribution) -> Tensor:
            if law is self.top:
                return distributions.draw(law, shape, noise)
            loc = law.mean  # (*shape, *batch_shape, d_i)
            return loc + law.stddev * noise.normal(shape, loc.new_empty(loc.shape[len(shape) :]))

        return self._walk(draw)

    def _walk(
        self, choose: Callable[[int, Distribution], Tensor]
    ) -> tuple[list[Tensor], list[Distribution]]:
        """Go from the top down with the value that is chosen at each level, given its law."""
        law, handed = self.top, None
        levels, laws = [], []
        for i in reversed(range(len(self.sizes))):
            if handed is not None:
                law = self.conditionals[i](handed)
            levels.append(choose(i, law))
            laws.append(law)
            if i:
                handed = self.steps[i](handed, levels[-1])
        return levels[::-1], laws[::-1]


@distributions.draw.register
def _(distribution: Chain, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    return torch.cat(distribution.descend(shape, noise)[0], -1)


class ChainModel(GenerativeModel, abc.ABC):
    """A wiring of levels, each Gaussian given those above; the prior is that of the top."""

    @abc.abstractmethod
    def level_sizes(self, parts: "Assembly") -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of all levels together."""
        return Latent(sum(self.level_sizes(parts)))

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of the top level."""
        return Latent(self.level_sizes(parts)[-1])

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if not isinstance(parts.posterior, Diagonal):
            raise ParameterError(
                f"model={self.name!r} does not go with posterior={parts.posterior.name!r}: the "
                "posteriors of its levels are diagonal Gaussians. Use posterior='diagonal'."
            )


@dataclass(frozen=True)
class Path:
    """How the model gets from the top down, for a `Chain`: its conditionals and its steps."""

    conditionals: Sequence[Conditional]
    steps: Sequence[Step]

    def once(self) -> "Path":
        """Return the same path, for q and p to go together: nothing is computed twice."""
        return Path([*map(_Once, self.conditionals)], [*map(_Once, self.steps)])


def markov(conditionals: Iterable[Conditional]) -> Path:
    """Return the path of a chain in which each level sees only the one above it."""
    laws = [*conditionals]
    return Path(laws, [_hand_down] * (len(laws) + 1))


class ChainModule(LatentModule):
    """A wiring with several levels. Subclasses say how they are inferred, and x from them."""

    def __init__(self, spec: "Assembly", sizes: tuple[int, ...]) -> None:
        super().__init__(spec)
        self.sizes = sizes
        self.generative = nn.ModuleList()  # p(z_i | above), that of z_1 first

    @abc.abstractmethod
    def _posterior(self, batch: Batch, path: Path) -> tuple[Chain, Chain]:
        """q(z | x), and the same cut off from the gradient of its parameters.

        q may make use of the model's path.
        """

    @abc.abstractmethod
    def _decoded(self, levels: Sequence[Tensor], path: Path) -> Distribution:
        """p(x | z), batch shape (..., *event), for levels (..., d_i)."""

    @property
    def path(self) -> Path:
        """The model's way from the top down."""
        return markov(self.generative)

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""
        return self._decoded(torch.split(z, [*self.sizes], -1), self.path)

    def infer(self, batch: Batch) -> Chain:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""
        return self._posterior(batch, self.path)[0]

    def infer_prior_part(self, x: Tensor) -> Distribution:
        """q(z_L | x) for pseudo-inputs x (K, *event)."""
        with running_statistics(self):
            return self.infer(Batch(x)).top

    def prior_part(self, z: Tensor) -> Tensor:
        """Return the top level of z (..., d)."""
        return z[..., -self.sizes[-1] :]

    def prior_distribution(self) -> Chain:
        """p(z), event shape (d,)."""
        path = self.path
        top = self.prior(self.infer_prior_part)
        return Chain(top, path.conditionals, self.sizes, path.steps)

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x).

        The KL of a level is that of its conditionals, exact given the drawn levels above it and
        averaged over the draws: unbiased, with one column for each latent variable. Where the top
        prior leaves no closed form, the top level is one column by Monte Carlo.
        """
        once = self.path.once()
        q, fixed_q = self._posterior(batch, once)
        levels, q_laws = q.descend((n_samples,), noise)
        z = torch.cat(levels, -1)  # (K, B, d)
        point = z.view_as(z)
        if path_only:  # then the densities must be functions of the point that is handed out
            levels = q.split(point)
            q_laws = fixed_q.laws(levels)
        prior = self.prior(self.infer_prior_part)
        p_laws = Chain(prior, once.conditionals, self.sizes, once.steps).laws(levels)
        log_pz, log_qz, kl = densities(p_laws, q_laws, levels)
        return Evidence(
            log_px=self._log_px(batch, self._decoded(levels, once), noise),
            log_pz=log_pz,
            log_qz=log_qz,
            kl=torch.cat([self._grouped(terms) for terms in kl], -1),
            draws=(z,),
            posterior=q,
            points=(point,) if path_only else (),
        )

    def _grouped(self, kl: Tensor) -> Tensor:
        """Return the KL of a level (B, d_i) in the terms that free bits are given to, (B, g)."""
        return kl


class _Once:
    """A function that is not computed again for the very tensors that it was computed for last.

    q and p share the model's path at the drawn levels; batch normalisation then sees a batch once.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self._last: tuple[tuple[Tensor | None, ...], Any] | None = None

    def __call__(self, *arguments: Tensor | None) -> Any:
        if self._last is None or any(
            a is not b for a, b in zip(arguments, self._last[0], strict=True)
        ):
            self._last = arguments, self.function(*arguments)
        return self._last[1]


def densities(
    p: Sequence[Distribution], q: Sequence[Distribution], levels: Sequence[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Log p(z) and log q(z | x) of draws from q, and the KL of each level given those above.

    Parameters
    ----------
    p, q : sequence of Distribution
        Law of each level, z_1 first, at the drawn levels above it.
    levels : sequence of Tensor, shape (K, B, d_i)

    Returns
    -------
    log_pz, log_qz : Tensor, shape (K, B)
    kl : list of Tensor, shape (B, d_i), or (B, 1) by Monte Carlo
    """
    log_pz, log_qz = _log_probs(p, levels), _log_probs(q, levels)
    kl = list(map(_kl, q, p, log_qz, log_pz))
    return torch.stack(log_pz).sum(0), torch.stack(log_qz).sum(0), kl


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
    return lambda *x: torch.func.functional_call(module, weights, x)


def constant(law: Distribution) -> Distribution:
    """Return the same independent Gaussians, cut off from the gradient of their parameters."""
    return gaussian(law.mean.detach(), law.stddev.detach())


def gaussian(loc: Tensor, scale: Tensor) -> Distribution:
    """Return independent Gaussians, event shape (d,)."""
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)
