"""Sequences: the same likelihood for every step, and where a sequence ends."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from skvae import distributions, families
from skvae.exceptions import ParameterError
from skvae.likelihoods.base import Likelihood, LikelihoodModule, Standardize
from skvae.likelihoods.real import Gaussian
from skvae.rng import Noise

__all__ = ["Sequence", "SequenceModule", "Steps"]

GAUSSIAN = Gaussian()


@dataclass(frozen=True)
class Sequence(Likelihood, name="sequence"):
    """Sequences of steps that share one likelihood, of equal or of different length.

    One x has shape (T, F). With ``ragged=True`` the last of the F channels says which steps exist:
    1 for these and 0 after them, where the other channels hold 0. Given that step t − 1 exists,
    step t does with a probability that is decoded; the first one always does. The end of the
    longest sequence needs a step of its own, so T is the longest length plus one.

    Parameters
    ----------
    step : Likelihood
        p(x_t | z) of the features of one step.
    ragged : bool
        Whether sequences end; False for sequences of T steps each.
    """

    sequential: ClassVar[bool] = True
    cellwise: ClassVar[bool] = False

    step: Likelihood = GAUSSIAN
    ragged: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.step, Likelihood) or not self.step.cellwise:
            raise ParameterError(
                "Sequence: step must be the likelihood of one step, such as Gaussian(); "
                f"received {self.step!r}."
            )
        if not isinstance(self.ragged, bool):
            raise ParameterError(
                f"Sequence: ragged must be True or False; received {self.ragged!r}."
            )

    @property
    def standardize(self) -> Standardize:
        """As for one step."""
        return self.step.standardize

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape.

        Raises
        ------
        ParameterError
            The shape is not that of a sequence.
        """
        least = 2 if self.ragged else 1
        if len(event_shape) != 2 or min(event_shape) < least:
            raise ParameterError(
                f"Sequence: event_shape must be (steps, features), each at least {least}; "
                f"received {event_shape!r}."
            )
        return SequenceModule(event_shape, self)


class SequenceModule(LikelihoodModule):
    """One flat group of numbers for each step: parameters of its features, and a logit "alive".

    The logit is relative to the share of steps in the training data that are not the last one.
    """

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...], spec: Sequence) -> None:
        super().__init__()
        length, channels = event_shape
        n_features = channels - spec.ragged
        self.event_shape = event_shape
        self.ragged = spec.ragged
        self.step = spec.step.build((n_features,))
        self.reader = spec.step.reader(n_features)
        self.param_shape = (length, math.prod(self.step.param_shape) + spec.ragged)
        self.register_buffer("base", torch.zeros(()))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """T steps of what the reader makes of the features, and "alive", which is always there."""
        return (self.event_shape[0], self.reader.out_features + 1)

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """All steps have the same units, however many there are."""
        return (1, self.event_shape[1])

    def forward(self, h: Tensor, before: Tensor | None = None) -> "Steps":
        """Return the steps' distributions, h: (..., T, k), for any number T of steps.

        ``before`` (...) is "alive" of the step before them; None where they are the first ones.
        """
        alive = None
        if self.ragged:
            h, alive = h[..., :-1], h[..., -1] + self.base
        cells = self.step(h.unflatten(-1, self.step.param_shape))
        return Steps(cells, alive, self.reader.typical, before)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start from the steps of the training rows, all alike."""
        if rows is None:
            return
        values, alive = self._split(rows)
        values = values[alive > 0.5]  # (m, F)
        unit = unit.expand(self.event_shape)[0, : values.shape[-1]]
        self.step.calibrate(values.nanmean(0).nan_to_num(), unit, values)
        self.reader.calibrate(values)
        steps, ends = (alive > 0.5).sum(), len(rows)
        self.base.copy_(torch.logit((steps - ends + 0.5) / (steps + 1)))

    def adapt(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Distribution:
        """Fit the steps' distributions to the cells that there are."""
        assert isinstance(p, Steps)
        if not self.ragged:
            return p.replace(self.step.adapt(p.cells, x, mask))
        counted = self.counted(x, mask)
        assert counted is not None
        return p.replace(self.step.adapt(p.cells, x[..., :-1], counted[..., :-1]))

    def counted(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return which cells are observed and exist."""
        if not self.ragged:
            return mask
        there = existing(x)
        return there if mask is None else there & mask

    def conditioned(self, p: Distribution, x: Tensor) -> Distribution:
        """Return the same steps, of which it is known that they exist."""
        if not self.ragged:
            return p
        assert isinstance(p, Steps)
        lead = p.batch_shape[:-1]
        known = torch.where(x[..., -1] > 0.5, torch.inf, -torch.inf).to(x)
        return Steps(p.cells, known.expand(lead), p.typical, p.before)

    def represent(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Show each step as the reader does, 0 where there is none, and "alive" behind that."""
        values, alive = self._split(x)
        if mask is not None and self.ragged:
            mask = mask[..., :-1]
        shown, mask = self.reader(values, mask)
        alive = alive.unsqueeze(-1)
        shown = torch.where(alive > 0.5, shown, shown.new_zeros(()))
        if mask is not None:
            mask = torch.cat([mask, torch.ones_like(mask[..., :1])], -1)
        return torch.cat([shown, alive.to(shown)], -1), mask

    def pool(self, weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum up sequences as the reader does; "alive" by majority."""
        if not self.ragged:
            return self.reader.pool(weighted)
        alive: list[Tensor] = []

        def features() -> Iterator[tuple[Tensor, Tensor]]:
            for x, weight in weighted:
                alive[:] = [sum(alive, start=weight * x[..., -1:])]
                yield x[..., :-1], weight

        values = self.reader.pool(features())
        there = (alive[0] > 0.5).to(values)
        return torch.cat([values * there, there], -1)

    def alive(self, x: Tensor) -> Tensor:
        """Return 1 for the steps of x (..., T, F) that exist and 0 for the others, (..., T)."""
        return x[..., -1] if self.ragged else x.new_ones(x.shape[:-1])

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (..., T, F) and "alive" (..., T)."""
        return x[..., :-1] if self.ragged else x, self.alive(x)


class Steps(Distribution):
    """Independent steps, each with its features and, if sequences end, "alive" behind them.

    A feature counts where its step exists, "alive" where the step before does; that of the very
    first step is 1 by definition.

    Parameters
    ----------
    cells : Distribution, batch shape (..., T, F), event shape ()
    alive : Tensor, shape (..., T), or None
        Log-odds that a step exists if the one before does; None where all steps exist.
    typical : callable
        From ``cells`` to one value for each, (..., T, F).
    before : Tensor, shape (...), or None
        "Alive" of the step before these; None where they are the first ones.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        cells: Distribution,
        alive: Tensor | None,
        typical: Callable[[Distribution], Tensor],
        before: Tensor | None = None,
    ) -> None:
        *lead, n_features = cells.batch_shape
        shape = torch.Size([*lead, n_features + (alive is not None)])
        super().__init__(shape, validate_args=False)
        self.cells, self.alive, self.typical, self.before = cells, alive, typical, before

    def replace(self, cells: Distribution) -> "Steps":
        """Return the same steps with other distributions of the features."""
        return Steps(cells, self.alive, self.typical, self.before)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Steps":
        """Return the same steps for another batch shape."""
        *lead, length, channels = batch_shape
        if self.alive is None:
            return self.replace(self.cells.expand(torch.Size(batch_shape)))
        cells = self.cells.expand(torch.Size([*lead, length, channels - 1]))
        before = None if self.before is None else self.before.expand(lead)
        return Steps(cells, self.alive.expand(*lead, length), self.typical, before)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each cell of (..., T, F'), 0 where a cell does not count."""
        if self.alive is None:
            return self.cells.log_prob(value)
        counts = existing(value, self.before)
        x = torch.where(counts[..., :-1], value[..., :-1], value.new_zeros(()))
        alive = value[..., -1]
        going_on = families.Bernoulli(self.alive).log_prob(alive)
        log_p = torch.cat([self.cells.log_prob(x), going_on.unsqueeze(-1)], -1)
        return torch.where(counts, log_p, log_p.new_zeros(()))

    @property
    def mean(self) -> Tensor:
        """One typical value for each cell; a step exists if it likely does and those before do."""
        x = self.typical(self.cells)
        return x if self.alive is None else self.joined(x, self.alive >= 0)

    def joined(self, x: Tensor, goes_on: Tensor) -> Tensor:
        """Join features (..., T, F) and whether a step follows on the one before, (..., T)."""
        alive = goes_on.to(x)
        first, rest = alive[..., :1], alive[..., 1:]
        first = torch.ones_like(first) if self.before is None else first * self.before[..., None]
        alive = torch.cat([first, rest], -1).cumprod(-1).unsqueeze(-1)
        return torch.cat([torch.where(alive > 0.5, x, x.new_zeros(())), alive], -1)


def existing(x: Tensor, before: Tensor | None = None) -> Tensor:
    """Return which cells of (..., T, F + 1) count, the last channel being "alive"."""
    alive = x[..., -1:] > 0.5  # (..., T, 1)
    if before is None:
        first = torch.zeros_like(alive[..., :1, :])
    else:
        lead = torch.broadcast_shapes(before.shape, alive.shape[:-2])
        alive = alive.expand(*lead, *alive.shape[-2:])
        first = (before > 0.5)[..., None, None].expand(*lead, 1, 1)
    previous = torch.cat([first, alive[..., :-1, :]], -2)
    return torch.cat([alive.expand(*alive.shape[:-1], x.shape[-1] - 1), previous], -1)


@distributions.draw.register
def _(distribution: Steps, shape: tuple[int, ...], noise: Noise) -> Tensor:
    x = distributions.draw(distribution.cells, shape, noise)
    if distribution.alive is None:
        return x
    p = torch.sigmoid(distribution.alive)
    return distribution.joined(x, noise.uniform(shape, p) < p)
