"""Objectives: functions of the evidence that training minimises. Everything is in nats per row."""

import abc
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from skvae.distributions import log_mean_exp
from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError, did_you_mean
from skvae.gradients import leave_one_out, without_path
from skvae.penalties import (
    DIP,
    MMD,
    Consistency,
    Contractive,
    DecoderGradient,
    DecoderWeights,
    FactorVAE,
    Layout,
    Neighbors,
    Penalty,
    PseudoLabels,
    Supervised,
    TotalCorrelation,
    VirtualAdversarial,
    WakePhase,
)
from skvae.penalties.base import Beside
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import Spec, at_least, check_finite

__all__ = [
    "DIP",
    "ELBO",
    "IWAE",
    "MMD",
    "Bound",
    "Capacity",
    "Consistency",
    "Contractive",
    "DecoderGradient",
    "DecoderWeights",
    "Discriminative",
    "FactorVAE",
    "Layout",
    "Neighbors",
    "Objective",
    "Penalized",
    "Penalty",
    "PseudoLabels",
    "Reconstruction",
    "Supervised",
    "TotalCorrelation",
    "VirtualAdversarial",
    "WakePhase",
]

Gradient = Literal["plain", "stl", "dreg", "vimco"]


@dataclass(frozen=True)
class Bound:
    """Result of an objective on one batch.

    Attributes
    ----------
    loss : Tensor, shape ()
        What is minimised.
    terms : dict of str to Tensor, shape (B,)
        Per-row quantities in nats for the history, detached.
    evidence : Evidence
        What it was computed from.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    evidence: Evidence


def _scale_by(factor: Tensor, ndim: int) -> Callable[[Tensor], Tensor]:
    shaped = factor.view(*factor.shape, *[1] * (ndim - factor.ndim))
    return lambda gradient: gradient * shaped


def _bound(loss: Tensor, evidence: Evidence, **terms: Tensor) -> Bound:
    """Put a result together, with what the model itself adds to every loss."""
    if evidence.auxiliary is not None:
        loss = loss + evidence.auxiliary.mean()
    return Bound(loss, {**terms, **_terms(evidence)}, evidence)


def _terms(evidence: Evidence) -> dict[str, Tensor]:
    return {
        "elbo": evidence.elbo.detach(),
        "reconstruction": evidence.log_px.mean(0).detach(),
        "kl": evidence.kl_rows.detach(),
    }


def _check_count(spec: Spec, least: int, *names: str) -> None:
    for name in names:
        at_least(getattr(spec, name), least, f"{type(spec).__name__}: {name}")


class Objective(Spec, abc.ABC, family="objective"):
    """A function of a model and a batch.

    The class attribute ``watch`` names the term that early stopping looks at; ``of_rows`` says
    whether log p(x) is part of it.
    """

    watch: ClassVar[str] = "elbo"
    of_rows: ClassVar[bool] = True

    @abc.abstractmethod
    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective; random numbers come from ``noise`` only.

        ``step`` is the number of updates done so far.
        """

    def held_out(self) -> "Objective":
        """Return what held-out rows are judged by: the bound itself, without weights on it."""
        return ELBO()

    def start(self, width: int) -> "Objective":
        """Return what is called in every update of one training run, for z of ``width`` numbers.

        An objective that learns something of its own returns an object that holds it.
        """
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of its own, trained along with those of the model."""
        return iter(())

    def objection(self, posterior: Posterior) -> str | None:
        """Return why this objective cannot stand with a posterior, or None where it can."""
        return None

    @property
    def beside(self) -> tuple[Beside, ...]:
        """What it asks of the batches of a fit."""
        return ()

    def __add__(self, penalty: Penalty) -> "Penalized":
        """Add a penalty: ``ELBO() + Contractive(0.1)``."""
        if not isinstance(penalty, Penalty):
            return NotImplemented
        return Penalized(self, (penalty,))


@dataclass(frozen=True)
class ELBO(Objective, name="elbo"):
    """Negative evidence lower bound, E_q[log p(x | z)] − β KL(q(z | x) || p(z)) [1]_.

    Parameters
    ----------
    beta : float
        Weight of the KL term [2]_. 1 is the bound itself.
    warmup : int
        Number of updates over which the weight rises linearly from 0 to ``beta``.
    cycle : int
        Number of updates after which the warm-up starts again [3]_; 0 for never.
    free_bits : float
        Nats that each latent dimension may use without being charged: its KL, averaged over the
        batch, counts as at least this much [4]_.
    n_samples : int
        Monte-Carlo draws of z per row and update.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114
    .. [2] Higgins et al., "beta-VAE", ICLR 2017
    .. [3] Fu et al., "Cyclical Annealing Schedule", 2019, arXiv:1903.10145
    .. [4] Kingma et al., 2016, arXiv:1606.04934, appendix C.8
    """

    beta: float = 1.0
    warmup: int = 0
    cycle: int = 0
    free_bits: float = 0.0
    n_samples: int = 1

    def __post_init__(self) -> None:
        check_finite(self, "beta", "free_bits")
        _check_count(self, 0, "warmup", "cycle")
        _check_count(self, 1, "n_samples")

    def weight(self, step: int) -> float:
        """Weight of the KL term at an update."""
        if self.cycle:
            step %= self.cycle
        return self.beta * min(1.0, step / self.warmup) if self.warmup else self.beta

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective."""
        evidence = model.evidence(batch, self.n_samples, noise)
        kl = evidence.kl if evidence.kl is not None else evidence.kl_rows.unsqueeze(-1)  # (B, g)
        charged = kl.mean(0)  # (g,)
        if self.free_bits:
            charged = batch.whole(charged).clamp(min=self.free_bits)
        loss = self.weight(step) * charged.sum() - evidence.log_px.mean()
        return _bound(loss, evidence)


@dataclass(frozen=True)
class Capacity(Objective, name="capacity"):
    """E_q[log p(x | z)] − γ |KL − C| with a capacity C that rises linearly [1]_.

    Parameters
    ----------
    capacity : float
        Final C, in nats per row.
    gamma : float
        Weight of the deviation.
    rise : int
        Number of updates over which C rises from 0.

    References
    ----------
    .. [1] Burgess et al., "Understanding disentangling in β-VAE", 2018, arXiv:1804.03599
    """

    capacity: float = 25.0
    gamma: float = 30.0
    rise: int = 5000

    def __post_init__(self) -> None:
        check_finite(self, "capacity", "gamma")
        _check_count(self, 1, "rise")

    def objection(self, posterior: Posterior) -> str | None:
        """The target is a number of nats."""
        if posterior.has_density:
            return None
        return "the KL of a posterior without a density is not a number of nats"

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective."""
        evidence = model.evidence(batch, 1, noise)
        target = self.capacity * min(1.0, step / self.rise)
        deviation = (batch.whole(evidence.kl_rows.mean()) - target).abs()
        return _bound(self.gamma * deviation - evidence.log_px.mean(), evidence)


@dataclass(frozen=True)
class Reconstruction(Objective, name="reconstruction"):
    """E_q[log p(x | z)] alone: the autoencoder, with ``posterior="deterministic"``.

    Codes then lie wherever they like; `VAE.fit_prior` finds out where, so that one can sample.
    """

    watch: ClassVar[str] = "reconstruction"

    def held_out(self) -> Objective:
        """Return the objective itself: it makes no bound on log p(x)."""
        return self

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective."""
        evidence = model.evidence(batch, 1, noise)
        return _bound(-evidence.log_px.mean(), evidence)


@dataclass(frozen=True)
class IWAE(Objective, name="iwae"):
    """Importance-weighted bound log (1/K) Σ_k w_k [1]_, and its relatives.

    Parameters
    ----------
    n_samples : int
        K, draws in each bound.
    n_groups : int
        M bounds that are averaged: MIWAE(M, K) [2]_.
    elbo_weight : float
        Share of the ELBO in a convex combination: CIWAE [2]_.
    gradient : {"plain", "stl", "dreg", "vimco"}
        Gradient of the encoder. ``"plain"`` is that of the bound; its signal-to-noise ratio falls
        with K. ``"dreg"`` (doubly reparameterised [3]_) has the same expectation and a ratio that
        rises. ``"stl"`` (sticking the landing [4]_) drops the score term; for K = 1 both agree,
        for K > 1 it is biased. ``"vimco"`` [5]_ needs no differentiable draws, so it is for
        discrete z: the score function with leave-one-out baselines, unbiased, for K >= 2. With
        ``elbo_weight=1`` it is REINFORCE with such baselines for the ELBO.
    pooled_decoder : bool
        Decoder and prior get the gradient of the one bound over all M · K draws, the encoder that
        of the average of M: PIWAE(M, K) [2]_. A tighter bound is better for the one and worse for
        the other. The loss has the value of the average.

    References
    ----------
    .. [1] Burda, Grosse and Salakhutdinov, 2016, arXiv:1509.00519
    .. [2] Rainforth et al., "Tighter Variational Bounds are Not Necessarily Better", 2018,
       arXiv:1802.04537
    .. [3] Tucker et al., 2019, arXiv:1810.04152
    .. [4] Roeder, Wu and Duvenaud, 2017, arXiv:1703.09194
    .. [5] Mnih and Rezende, 2016, arXiv:1602.06725
    """

    n_samples: int = 5
    n_groups: int = 1
    elbo_weight: float = 0.0
    gradient: Gradient = "dreg"
    pooled_decoder: bool = False

    watch: ClassVar[str] = "iwae"

    def __post_init__(self) -> None:
        _check_count(self, 1, "n_samples", "n_groups")
        if not 0 <= self.elbo_weight <= 1:
            raise ParameterError(
                f"IWAE: elbo_weight must be in [0, 1]; received {self.elbo_weight!r}."
            )
        if self.gradient not in get_args(Gradient):
            hint = did_you_mean(str(self.gradient), get_args(Gradient))
            raise ParameterError(
                f"IWAE: gradient={self.gradient!r} is not known.{hint} "
                f"Known: {', '.join(map(repr, get_args(Gradient)))}."
            )
        if self.pooled_decoder and self.n_groups == 1:
            raise ParameterError(
                "IWAE: pooled_decoder=True needs n_groups > 1; with one group there is nothing to "
                "pool."
            )
        if self.gradient == "vimco":
            at_least(self.n_samples, 2, "IWAE: n_samples with gradient='vimco'")
            if self.pooled_decoder:
                raise ParameterError(
                    "IWAE: pooled_decoder=True gives the encoder a gradient through the draws, "
                    "which gradient='vimco' does not have."
                )

    def objection(self, posterior: Posterior) -> str | None:
        """Weights need densities; then either the draws have gradients, or the score of q."""
        if not posterior.has_density:
            return "importance weights need the density of z, and this posterior has none"
        if self.gradient == "vimco":
            if posterior.has_score:
                return None
            return (
                "the gradient 'vimco' needs exact draws from a posterior whose log-density varies "
                "with its parameters"
            )
        if posterior.reparameterized:
            return None
        hint = "; gradient='vimco' does not" if posterior.has_score else ""
        return (
            f"the gradient {self.gradient!r} needs draws that are differentiable functions of the "
            f"posterior's parameters{hint}"
        )

    def held_out(self) -> Objective:
        """Return the same bound; how its gradient is taken does not matter."""
        return IWAE(self.n_samples, self.n_groups, self.elbo_weight, "plain")

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective."""
        groups = (self.n_groups, self.n_samples)
        path_only = self.gradient != "plain"
        evidence = model.evidence(batch, math.prod(groups), noise, path_only=path_only)
        if self.gradient == "vimco":
            evidence = without_path(evidence)
        log_w = evidence.log_w.unflatten(0, groups)  # (M, K, B)
        loss = -self._average(log_w).mean()
        if self.pooled_decoder:
            loss = self._pool(loss, evidence, log_w.detach())
        elif self.gradient == "dreg":
            self._square_weights(evidence, log_w)
        elif self.gradient == "vimco":
            log_qz = evidence.log_qz.unflatten(0, groups)
            loss = loss - leave_one_out(log_w, log_qz, self._average).mean()
        return _bound(loss, evidence, iwae=log_mean_exp(log_w.detach(), 1).mean(0))

    def _average(self, log_w: Tensor) -> Tensor:
        """Combine the log-weights (..., K, B) of a group, shape (..., B)."""
        share = self.elbo_weight
        return share * log_w.mean(-2) + (1 - share) * log_mean_exp(log_w, -2)

    def _square_weights(self, evidence: Evidence, log_w: Tensor) -> None:
        """Make the gradient that reaches the draws that of Σ w̃² ∂ log w.

        Backpropagation of the bound brings Σ w̃ ∂ log w to the draws z; what is still missing is
        one factor w̃. The decoder's and the prior's gradients, which do not pass through z, stay.
        """
        weight = torch.softmax(log_w.detach(), 1)  # (M, K, B)
        flat = self.elbo_weight / self.n_samples
        now = flat + (1 - self.elbo_weight) * weight
        wanted = flat + (1 - self.elbo_weight) * weight**2
        factor = torch.where(now > 0, wanted / now, 0).flatten(0, 1)  # (M · K, B)
        for z in evidence.points:
            if z.requires_grad:
                z.register_hook(_scale_by(factor, z.ndim))

    def _pool(self, loss: Tensor, evidence: Evidence, log_w: Tensor) -> Tensor:
        """Return the same value with gradients of different weights for the two networks.

        Σ a ∂ log p(x, z) is what decoder and prior get, a the weight of a draw among all. It also
        reaches z, whose share there is to be b, its weight within its group; b − a is added to
        the gradient of each draw, rather than that multiplied by b / a, for a may be 0.
        """
        share, m, k = self.elbo_weight, *log_w.shape[:2]
        within = torch.softmax(log_w, 1)  # (M, K, B)
        if self.gradient == "dreg":
            within = within**2
        a = share / (m * k) + (1 - share) * torch.softmax(log_w.flatten(0, 1), 0)  # (M · K, B)
        b = share / (m * k) + (1 - share) * within.flatten(0, 1) / m
        log_joint = evidence.log_px + evidence.log_pz
        total = (a * log_joint - b * evidence.log_qz).sum(0).mean()
        if not evidence.points:
            raise ParameterError(
                "IWAE: pooled_decoder=True with gradient='plain' does not go with a model of "
                "several levels. Use gradient='dreg'."
            )
        points = [z for z in evidence.points if z.requires_grad]
        if points and log_joint.requires_grad:
            slopes = torch.autograd.grad(log_joint.sum(), points, retain_graph=True)
            for z, slope in zip(points, slopes, strict=True):
                change = (slope * z).flatten(2).sum(-1) * (b - a)  # (M · K, B)
                total = total + change.sum(0).mean()
        return loss.detach() - (total - total.detach())


@dataclass(frozen=True)
class Penalized(
    Objective,
    name="penalized",
    aliases={
        "elbo+layout": {"penalties": (Layout(),)},
        "elbo+neighbors": {"penalties": (Neighbors(),)},
    },
):
    """An objective with penalties added; written as a sum.

    Parameters
    ----------
    objective : Objective
    penalties : tuple of Penalty
    """

    objective: Objective = ELBO()
    penalties: tuple[Penalty, ...] = ()

    @property
    def watch(self) -> str:  # type: ignore[override]
        """The term that early stopping looks at: that of the objective."""
        return self.objective.watch

    @property
    def of_rows(self) -> bool:  # type: ignore[override]
        """That of the objective."""
        return self.objective.of_rows

    def held_out(self) -> Objective:
        """Held-out rows are judged without penalties."""
        return self.objective.held_out()

    def __add__(self, penalty: Penalty) -> "Penalized":
        """Add one more penalty."""
        if not isinstance(penalty, Penalty):
            return NotImplemented
        return Penalized(self.objective, (*self.penalties, penalty))

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate objective and penalties."""
        bound = self.objective(model, batch, step=step, noise=noise)
        loss = bound.loss
        for penalty in self.penalties:
            loss = loss + penalty(model, batch, bound.evidence, step=step, noise=noise)
        return Bound(loss, bound.terms, bound.evidence)

    def start(self, width: int) -> Objective:
        """Start all parts."""
        return Penalized(
            self.objective.start(width), tuple(p.start(width) for p in self.penalties)
        )

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of the objective and its penalties."""
        return itertools.chain(
            self.objective.parameters(), *(p.parameters() for p in self.penalties)
        )

    def objection(self, posterior: Posterior) -> str | None:
        """Return the first reason that any part has."""
        parts: tuple[Objective | Penalty, ...] = (self.objective, *self.penalties)
        reasons = (part.objection(posterior) for part in parts)
        return next(filter(None, reasons), None)

    @property
    def beside(self) -> tuple[Beside, ...]:
        """What the parts ask for, each once."""
        parts: tuple[Objective | Penalty, ...] = (self.objective, *self.penalties)
        return tuple(dict.fromkeys(one for part in parts for one in part.beside))


@dataclass(frozen=True)
class Discriminative(Objective, name="discriminative"):
    """Nothing of log p(x): what is added to it is trained alone.

    ``Discriminative() + Supervised(1.0)`` trains q(y | x) of a model with classes, and leaves the
    other parts as they are.
    """

    of_rows: ClassVar[bool] = False

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate to zero."""
        none = torch.zeros(1, len(batch.x), device=batch.x.device)
        evidence = Evidence(log_px=none, log_pz=none, log_qz=none)
        return Bound(none.sum(), _terms(evidence), evidence)
