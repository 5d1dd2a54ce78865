"""Annealed importance sampling of log p(x), with a check that bounds its error from both sides.

Importance sampling jumps from q(z | x) to the posterior at once, and fails where the two are far
apart. Annealing goes in small steps through densities in between, and moves z along [1]_. It needs
the decoder's gradient at every step, so it is for hundreds of rows rather than for ten thousands.

References
----------
.. [1] Neal, "Annealed importance sampling", 2001
.. [2] Wu, Burda, Salakhutdinov and Grosse, "On the Quantitative Analysis of Decoder-Based
   Generative Models", 2017, arXiv:1611.04273
.. [3] Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood using bidirectional
   Monte Carlo", 2015, arXiv:1511.02543
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae import distributions
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.models import LatentModule
from skvae.rng import Noise
from skvae.spec import at_least

__all__ = ["AnnealedWeights", "Annealing", "Bounds", "annealed_weights", "bidirectional"]

Start = Literal["posterior", "prior"]
Schedule = Literal["sigmoid", "linear"]

TARGET_ACCEPTANCE = 0.65  # near the best for Hamiltonian transitions in many dimensions
WARM_UP, PILOT = 10, 40  # transitions of the preliminary run, at the start and on the way
GAIN = 0.5  # by how much the log of a step follows the acceptance


@dataclass(frozen=True)
class Annealing:
    """How to anneal.

    Parameters
    ----------
    n_temperatures : int
        Steps from the start to the posterior. With 1 there is nothing in between, and what is left
        is importance sampling.
    n_samples : int
        Chains, and so weights, per row.
    start : {"posterior", "prior"}
        Where the chains begin. From q(z | x) the way is short, and a tenth of the temperatures
        goes as far as from the prior, which [2]_ use because their models have no encoder. The
        prior is the one to take where q may have missed a part of the posterior altogether.
    schedule : {"sigmoid", "linear"}
        How the temperatures are spread: more of them near both ends, or evenly.
    n_leapfrog : int
        Gradient steps of one Hamiltonian transition; there is one transition per temperature.
    """

    n_temperatures: int = 500
    n_samples: int = 16
    start: Start = "posterior"
    schedule: Schedule = "sigmoid"
    n_leapfrog: int = 10

    def __post_init__(self) -> None:
        for name in ("n_temperatures", "n_samples", "n_leapfrog"):
            at_least(getattr(self, name), 1, f"Annealing: {name}")
        for name, known in (("start", get_args(Start)), ("schedule", get_args(Schedule))):
            if getattr(self, name) not in known:
                raise ParameterError(
                    f"Annealing: {name} must be one of {', '.join(map(repr, known))}; "
                    f"received {getattr(self, name)!r}."
                )

    def temperatures(self) -> Tensor:
        """Powers from 0 to 1, float64, shape (n_temperatures + 1,)."""
        even = torch.linspace(0, 1, self.n_temperatures + 1, dtype=torch.float64)
        if self.schedule == "linear":
            return even
        raw = torch.sigmoid(8 * even - 4)
        return (raw - raw[0]) / (raw[-1] - raw[0])

    def check(self, module: LatentModule) -> None:
        """Refuse models that cannot be annealed.

        Raises
        ------
        ParameterError
            Says why.
        """
        posterior, latent = module.spec.posterior, module.spec.latent
        if latent.space != "real":
            raise ParameterError(
                f"Annealing moves z along gradients in a space of real numbers, but "
                f"posterior={posterior.name!r} has a latent space of another kind "
                f"({latent.space!r}). Use importance sampling, n_temperatures=1."
            )
        if self.start == "posterior" and not posterior.has_density:
            raise ParameterError(
                f"posterior={posterior.name!r} has no density, so annealing cannot start from it. "
                "Use start='prior'."
            )


@dataclass(frozen=True)
class AnnealedWeights:
    """Weights whose mean is an unbiased estimate of p(x).

    Attributes
    ----------
    log_w : Tensor of float64, shape (K, B)
    acceptance : Tensor of float64, shape (B,)
        Mean probability with which transitions were accepted; NaN where there were none.
    """

    log_w: Tensor
    acceptance: Tensor

    @property
    def log_likelihood(self) -> Tensor:
        """Log p(x) per row, shape (B,): a lower bound in expectation."""
        return distributions.log_mean_exp(self.log_w)


@dataclass(frozen=True)
class Bounds:
    """Two estimates of log p(x) of rows that the model made, float64, shape (B,).

    ``lower`` is too low in expectation, ``upper`` too high, so their distance bounds the error of
    either.
    """

    lower: Tensor
    upper: Tensor
    acceptance: Tensor

    @property
    def gap(self) -> Tensor:
        """Distance of the bounds."""
        return self.upper - self.lower


def annealed_weights(
    module: LatentModule, batch: Batch, settings: Annealing, noise: Noise
) -> AnnealedWeights:
    """Anneal from the start to the posterior of every row.

    Step sizes are set in a preliminary run with chains of its own, for each row and temperature,
    and are then fixed: weights of chains that tune their own transitions would be biased.

    Parameters
    ----------
    module : LatentModule
        With real z.
    batch : Batch of B rows
    settings : Annealing
    noise : Noise
    """
    settings.check(module)
    path = _Path(module, batch, settings.start)
    temperatures = settings.temperatures()
    steps = _step_sizes(path, settings, temperatures, noise)
    z = path.draw(settings.n_samples, noise)
    return _anneal(path, z, temperatures, steps, settings.n_leapfrog, noise)


def bidirectional(module: LatentModule, n_rows: int, settings: Annealing, noise: Noise) -> Bounds:
    """Bound log p(x) of rows drawn from the model, from below and from above [3]_.

    The z that a row was made from is an exact draw from its posterior. A chain that runs from it
    back to the start estimates 1 / p(x) without bias, and so log p(x) from above.

    Parameters
    ----------
    module : LatentModule
        With real z.
    n_rows : int
    settings : Annealing
    noise : Noise
        The rows are simulated, and have nothing that row-wise noise could be a function of.
    """
    settings.check(module)
    with torch.no_grad():
        truth = distributions.draw(module.prior_distribution(), (n_rows,), noise)  # (B, d)
        batch = Batch(distributions.draw(module.generate(truth), (), noise))
    path = _Path(module, batch, settings.start)
    temperatures = settings.temperatures()
    steps = _step_sizes(path, settings, temperatures, noise)
    z = path.draw(settings.n_samples, noise)
    forward = _anneal(path, z, temperatures, steps, settings.n_leapfrog, noise)
    back = _anneal(
        path, truth.expand_as(z), temperatures.flip(0), steps.flip(0), settings.n_leapfrog, noise
    )
    return Bounds(
        lower=forward.log_likelihood,
        upper=-back.log_likelihood,
        acceptance=(forward.acceptance + back.acceptance) / 2,
    )


class _Path:
    """Unnormalised densities log f_t(z) = log start(z) + t · log w(z), from start to p(x, z)."""

    def __init__(self, module: LatentModule, batch: Batch, start: Start) -> None:
        self.module, self.batch = module, batch
        with torch.no_grad():
            self.prior = module.prior_distribution()
            self.start: Distribution | None = None
            if start == "posterior":
                self.start = module.infer(batch)

    @torch.no_grad()
    def draw(self, n_samples: int, noise: Noise) -> Tensor:
        """Draw from the start, shape (K, B, d)."""
        start = self.start or self.prior.expand(torch.Size([len(self.batch.x)]))
        return distributions.draw(start, (n_samples,), noise).detach()

    def at(self, z: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        """Log f_t and log w, each (K, B), and the gradient of the former, (K, B, d)."""
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            log_px, log_pz = self.module.log_joint(self.batch, z, self.prior)
            log_start = log_pz if self.start is None else self.start.log_prob(z)
            log_w = Evidence(log_px, log_pz, log_start).log_w
            log_f = log_start + t * log_w
            (gradient,) = torch.autograd.grad(log_f.sum(), z)
        return log_f.detach(), log_w.detach(), gradient


@dataclass(frozen=True)
class _Move:
    """What a transition led to."""

    z: Tensor  # (K, B, d)
    log_w: Tensor  # (K, B)
    acceptance: Tensor  # (K, B), probabilities


def _transition(
    path: _Path, z: Tensor, t: float, step: Tensor, n_leapfrog: int, noise: Noise
) -> _Move:
    """Make one Hamiltonian transition, which leaves f_t invariant, with steps (B,) on average.

    The step is drawn anew each time: a fixed length of path can fall in with the period of the
    motion, and then a chain goes to and fro between the same places.
    """
    n_samples = (len(z),)
    momentum = noise.normal(n_samples, z[0])  # (K, B, d)
    uniform, stretch = noise.uniform((2, *n_samples), z[0, :, 0])  # (K, B) each
    step = (step.to(z) * (0.5 + stretch)).unsqueeze(-1)  # (K, B, 1)
    log_f, log_w, gradient = path.at(z, t)
    energy = log_f - 0.5 * momentum.square().sum(-1)
    new = z
    for _ in range(n_leapfrog):
        momentum = momentum + 0.5 * step * gradient
        new = new + step * momentum
        log_f, new_log_w, gradient = path.at(new, t)
        momentum = momentum + 0.5 * step * gradient
    gain = log_f - 0.5 * momentum.square().sum(-1) - energy
    gain = torch.nan_to_num(gain, nan=-torch.inf, neginf=-torch.inf).clamp(max=0)
    accepted = torch.log(uniform) < gain
    return _Move(
        torch.where(accepted.unsqueeze(-1), new, z),
        torch.where(accepted, new_log_w, log_w),
        torch.exp(gain),
    )


def _step_sizes(path: _Path, settings: Annealing, temperatures: Tensor, noise: Noise) -> Tensor:
    """Step sizes, shape (n_temperatures + 1, B), found by a preliminary run."""
    if settings.n_temperatures == 1:  # no transitions
        return torch.empty(2, 0)
    z = path.draw(settings.n_samples, noise)
    log_step = torch.full_like(z[0, :, 0], math.log(0.5))  # (B,)
    # Where the pilot's temperatures lie among those of the run.
    place = torch.linspace(0, settings.n_temperatures, PILOT)
    found = []
    for i in range(-WARM_UP, PILOT):
        t = float(temperatures[round(float(place[max(i, 0)]))])
        move = _transition(path, z, t, log_step.exp(), settings.n_leapfrog, noise)
        excess = move.acceptance.mean(0) - TARGET_ACCEPTANCE
        log_step = log_step + GAIN * excess
        z = move.z
        if i >= 0:
            found.append(log_step)
    nearest = torch.linspace(0, PILOT - 1, settings.n_temperatures + 1).round().long()
    return torch.stack(found).exp()[nearest.to(z.device)]


def _anneal(
    path: _Path, z: Tensor, temperatures: Tensor, steps: Tensor, n_leapfrog: int, noise: Noise
) -> AnnealedWeights:
    """Walk along the path, in either direction, and collect the weights."""
    rising = temperatures.diff().tolist()
    log_w = path.at(z, 0.0)[1]
    total = rising[0] * log_w.cpu().double()
    acceptance = torch.zeros(z.shape[1], dtype=torch.float64)
    for i, change in enumerate(rising[1:], 1):
        move = _transition(path, z, float(temperatures[i]), steps[i], n_leapfrog, noise)
        z = move.z
        total += change * move.log_w.cpu().double()
        acceptance += move.acceptance.mean(0).cpu().double()
    n_transitions = len(rising) - 1
    return AnnealedWeights(total, acceptance / (n_transitions or math.nan))
