"""What a model says about a batch: the terms of log p(x, z) − log q(z | x), in nats.

The importance weight ``log w = log p(x | z) + log p(z) − log q(z | x)`` is written out here and
nowhere else. Objectives, held-out likelihood and imputation read it from here.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import log_mean_exp
from skvae.rng import Noise

__all__ = ["Batch", "Evidence", "Model"]


class _Deferred:
    """A field that may be given as a function, which is called when the value is first asked for.

    Where the KL has a closed form, the ELBO needs neither log p(z) nor log q(z | x).
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type | None = None) -> Tensor:
        if instance is None:  # the field has no default
            raise AttributeError(self.name)
        value = instance.__dict__[self.name]
        if not isinstance(value, Tensor):
            value = instance.__dict__[self.name] = value()
        return cast(Tensor, value)

    def __set__(self, instance: object, value: Tensor | Callable[[], Tensor]) -> None:
        instance.__dict__[self.name] = value


def _alone(mean: Tensor) -> Tensor:
    return mean


@dataclass(frozen=True)
class Batch:
    """Rows of data in model units.

    Attributes
    ----------
    x : Tensor, shape (B, *event)
        Hidden cells may hold anything, also NaN.
    mask : Tensor of bool, shape (B, *event), or None
        True where a cell is observed; None means that all are.
    y : Tensor of int64, shape (B,), of floats, shape (B, n_targets), or None
        Number of the class of each row, −1 where it is unknown, or its targets, NaN where they
        are; None means that all are.
    guide : Batch or None
        Rows with labels, over and over again, that only what is said of labels learns from.
    near : Batch of as many rows, or None
        A neighbour of each row, for the terms of an objective that keep neighbours.
    place : Tensor, shape (B, d), or None
        Where each row is to be on a map of them all.
    whole : callable
        Turns a mean over these rows into that over all rows of an update, of which several
        processes may hold a part each. An objective that is not itself a mean over rows asks for
        it, so that it does not depend on the number of processes.
    """

    x: Tensor
    mask: Tensor | None = None
    y: Tensor | None = None
    guide: "Batch | None" = None
    near: "Batch | None" = None
    place: Tensor | None = None
    whole: Callable[[Tensor], Tensor] = _alone

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with x and the mask, if there is one, changed alike; the rest stays."""
        mask = None if self.mask is None else function(self.mask)
        return replace(self, x=function(self.x), mask=mask)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        y = None if self.y is None else self.y.to(device)
        guide, near = (None if one is None else one.to(device) for one in (self.guide, self.near))
        moved = self.map(lambda cells: cells.to(device))
        place = None if self.place is None else self.place.to(device)
        return replace(moved, y=y, guide=guide, near=near, place=place)

    def labelled(self) -> "Batch | None":
        """Return the rows of whose label something is known, or None where there are none."""
        if self.y is None:
            return None
        known = (~self.y.isnan()).any(-1) if self.y.is_floating_point() else self.y >= 0
        return self.rows(known) if bool(known.any()) else None

    def rows(self, which: Tensor | slice) -> "Batch":
        """Return some rows."""
        chosen = self.map(lambda cells: cells[which])
        y, place = (None if one is None else one[which] for one in (self.y, self.place))
        near = None if self.near is None else self.near.rows(which)
        return replace(chosen, y=y, near=near, place=place)


@dataclass(frozen=True)
class Evidence:
    """Log-densities of a batch at K draws of the latent variables.

    Attributes
    ----------
    log_px : Tensor, shape (K, B)
        log p(x | z), summed over the observed cells.
    log_pz, log_qz : Tensor, shape (K, B)
        Prior and posterior log-density of the same z. Each may be passed as a function, which is
        then called only if the value is needed.
    kl : Tensor, shape (B, g), or None
        Closed-form KL(q(z | x) || p(z)) in terms that add up, where there is one.
    draws : tuple of Tensor, shape (K, B, ...)
        The draws that the log-densities were evaluated at.
    posterior : Distribution or None
        q(z | x) that they came from, batch shape (B,), for penalties.
    auxiliary : Tensor, shape (B,), or None
        What the model itself adds to every loss, such as the commitment of a quantiser.
    points : tuple of Tensor
        The draws once more, as nodes that p(x, z) depends on and, with ``path_only``, log q(z | x)
        too, but nothing else. An objective may change the gradient that passes there, and a
        penalty that is computed from ``draws`` keeps its own. Without ``path_only``, a model whose
        densities cannot be taken at such nodes leaves it empty.
    """

    log_px: Tensor
    log_pz: _Deferred = _Deferred()
    log_qz: _Deferred = _Deferred()
    kl: Tensor | None = None
    draws: tuple[Tensor, ...] = ()
    posterior: Distribution | None = None
    auxiliary: Tensor | None = None
    points: tuple[Tensor, ...] = ()

    @property
    def log_w(self) -> Tensor:
        """Importance log-weights, shape (K, B)."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def kl_rows(self) -> Tensor:
        """KL per row, shape (B,): closed form where it exists, otherwise Monte Carlo."""
        if self.kl is not None:
            return self.kl.sum(-1)
        return (self.log_qz - self.log_pz).mean(0)

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound per row, shape (B,)."""
        return self.log_px.mean(0) - self.kl_rows

    @property
    def log_likelihood(self) -> Tensor:
        """Importance-weighted bound log (1/K) Σ w per row, shape (B,)."""
        return log_mean_exp(self.log_w)


class Model(Protocol):
    """What an objective needs of a model."""

    decoder: nn.Module

    def evidence(
        self, batch: Batch, n_samples: int, noise: Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities of the batch at ``n_samples`` draws from the posterior.

        With ``path_only``, log q(z | x) is taken at fixed parameters of q: its gradient comes
        through z alone (the score term is left out).
        """
        ...

    def infer(self, batch: Batch) -> Distribution:
        """q(z | x), batch shape (B,), event shape (d,)."""
        ...

    def prior_distribution(self) -> Distribution:
        """p(z), event shape (d,)."""
        ...

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""
        ...
