"""Objectives: functions of the evidence that training minimises. Everything is in nats per row."""

import abc
from dataclasses import dataclass

from torch import Tensor

from skvae.evidence import Batch, Model
from skvae.exceptions import ParameterError
from skvae.rng import Noise
from skvae.spec import Spec

__all__ = ["ELBO", "Bound", "Objective"]


@dataclass(frozen=True)
class Bound:
    """Result of an objective on one batch.

    Attributes
    ----------
    loss : Tensor, shape ()
        What is minimised.
    terms : dict of str to Tensor, shape (B,)
        Per-row quantities in nats for the history, detached.
    """

    loss: Tensor
    terms: dict[str, Tensor]


class Objective(Spec, abc.ABC, family="objective"):
    """A function of a model and a batch. ``step`` is the number of updates done so far."""

    @abc.abstractmethod
    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective; random numbers come from ``noise`` only."""


@dataclass(frozen=True)
class ELBO(Objective, name="elbo"):
    """Negative evidence lower bound, E_q[log p(x | z)] − β KL(q(z | x) || p(z)).

    Parameters
    ----------
    beta : float
        Weight of the KL term [2]_. 1 is the bound itself.
    warmup : int
        Number of updates over which the weight rises linearly from 0 to ``beta``.
    n_samples : int
        Monte-Carlo draws of z per row and update.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114
    .. [2] Higgins et al., "beta-VAE", ICLR 2017
    """

    beta: float = 1.0
    warmup: int = 0
    n_samples: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.beta < float("inf"):
            raise ParameterError(f"ELBO: beta must be finite and >= 0; received {self.beta!r}.")
        if self.warmup < 0:
            raise ParameterError(f"ELBO: warmup must be >= 0 updates; received {self.warmup!r}.")
        if self.n_samples < 1:
            raise ParameterError(f"ELBO: n_samples must be >= 1; received {self.n_samples!r}.")

    def weight(self, step: int) -> float:
        """Weight of the KL term at an update."""
        return self.beta * min(1.0, step / self.warmup) if self.warmup else self.beta

    def __call__(self, model: Model, batch: Batch, *, step: int, noise: Noise) -> Bound:
        """Evaluate the objective."""
        evidence = model.evidence(batch, self.n_samples, noise)
        reconstruction, kl = evidence.log_px.mean(0), evidence.kl_rows  # (B,)
        loss = (self.weight(step) * kl - reconstruction).mean()
        terms = {
            "elbo": (reconstruction - kl).detach(),
            "reconstruction": reconstruction.detach(),
            "kl": kl.detach(),
        }
        return Bound(loss, terms)
