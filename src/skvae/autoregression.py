"""Laws p(x | z) whose steps depend on those before: p(x_1 | z) p(x_2 | x_1, z) …"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import pad

from skvae import distributions
from skvae.likelihoods.sequence import SequenceModule, Steps
from skvae.networks import StepDecoder
from skvae.rng import Noise

__all__ = ["Autoregressive"]

Body = Callable[[Tensor, Tensor], Tensor]


class Autoregressive(Distribution):
    """Law of a sequence whose decoder sees the steps before.

    Parameters
    ----------
    z : Tensor, shape (..., d)
        What the decoder sees of the latent variables.
    decoder : StepDecoder
    likelihood : SequenceModule
    body : callable or None
        Runs the decoder on z (N, d) and the steps before each (N, T, C), in a precision of its
        own; the decoder itself by default.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        z: Tensor,
        decoder: StepDecoder,
        likelihood: SequenceModule,
        body: Body | None = None,
    ) -> None:
        shape = torch.Size([*z.shape[:-1], *likelihood.event_shape])
        super().__init__(shape, validate_args=False)
        self.z, self.decoder, self.likelihood = z, decoder, likelihood
        self.body: Body = body or decoder

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Autoregressive":
        """Return the same law for another batch shape."""
        z = self.z.expand(*batch_shape[:-2], self.z.shape[-1])
        return Autoregressive(z, self.decoder, self.likelihood, self.body)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each cell of (..., T, F) given the steps before."""
        return self.given(value).log_prob(value)

    def given(self, x: Tensor, mask: Tensor | None = None, noise: Noise | None = None) -> Steps:
        """Return p(x_t | x_1, …, x_{t − 1}, z) of all steps at once (teacher forcing).

        Parameters
        ----------
        x : Tensor, shape (B, T, F)
            Of any length T.
        mask : Tensor of bool, shape (B, T, F), or None
            Cells that are False are shown to the decoder as unknown: an approximation, for their
            values are neither known nor averaged over. `fill` makes none.
        noise : Noise or None
            Decides in training which steps the decoder does not see; None shows all.
        """
        lead = torch.broadcast_shapes(self.z.shape[:-1], x.shape[:-2])
        shown, known = self.likelihood.represent(x, mask)
        if noise is not None and self.decoder.training and self.decoder.word_dropout:
            kept = noise.uniform(lead[:-1], shown[..., 0]) >= self.decoder.word_dropout
            kept = kept.unsqueeze(-1).expand(*kept.shape, shown.shape[-1])
            known = kept if known is None else kept & known
        shown = self.decoder.show(shown, known)
        before = torch.cat([torch.zeros_like(shown[..., :1, :]), shown[..., :-1, :]], -2)
        before = before.expand(*lead, *before.shape[-2:])
        z = self.z.expand(*lead, self.z.shape[-1])
        h = self.body(z.flatten(0, -2), before.flatten(0, -3))
        return self.likelihood.forward(h.unflatten(0, lead))

    @property
    def mean(self) -> Tensor:
        """The sequence that follows where each step is the typical one after those before.

        This is neither the expectation, which would be a mean over all pasts, nor always the most
        probable sequence.
        """
        return self.unroll(lambda p, t: p.mean)

    def unroll(self, pick: Callable[[Steps, int], Tensor], length: int | None = None) -> Tensor:
        """Decode one step after the other, until all sequences have ended.

        Parameters
        ----------
        pick : callable
            From the law of a step, batch shape (..., 1, F), and its place t to its value.
        length : int or None
            Number T of steps; that of the event by default.

        Returns
        -------
        x : Tensor, shape (..., T, F)
        """
        lead = self.z.shape[:-1]
        length = length or self.likelihood.event_shape[0]
        z = self.z.flatten(0, -2)
        state = self.decoder.start(z)
        shown = z.new_zeros(len(z), 1, self.likelihood.input_shape[-1])
        alive: Tensor | None = None
        steps: list[Tensor] = []
        while len(steps) < length:
            h, state = self.decoder.advance(shown, state)
            step = pick(self.likelihood.forward(h.unflatten(0, lead), alive), len(steps))
            steps.append(step)
            alive = self.likelihood.alive(step)[..., 0]
            if not (alive > 0.5).any():
                break
            shown = self.decoder.show(self.likelihood.represent(step, None)[0]).flatten(0, -3)
        return pad(torch.cat(steps, -2), (0, 0, 0, length - len(steps)))

    def fill(self, x: Tensor, mask: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Draw the hidden cells, each step given the steps before as they are then known.

        What is observed later has no part in the draws. It is in the density that comes with
        them: weighted by it, they are draws from p(hidden | observed, z) (likelihood weighting).

        Parameters
        ----------
        x, mask : Tensor, shape (B, T, F)
            Rows and which of their cells are observed.
        noise : Noise

        Returns
        -------
        filled : Tensor, shape (..., B, T, F)
        log_p : Tensor, shape (..., B, T, F)
            Log-density of the cells given the filled steps before.

        References
        ----------
        Fung and Chang, "Weighing and integrating evidence for stochastic simulation in Bayesian
        networks", 1989
        """
        lead = torch.broadcast_shapes(self.z.shape[:-1], x.shape[:-2])
        wide = self.expand((*lead, *self.likelihood.event_shape))
        draws = _Draws(noise, len(lead) - 1)
        log_p: list[Tensor] = []

        def pick(p: Steps, t: int) -> Tensor:
            here = slice(t, t + 1)
            drawn = draws(wide.likelihood.conditioned(p, x[:, here]))
            step = torch.where(mask[:, here], x[:, here], drawn)
            log_p.append(p.log_prob(step))
            return step

        length = x.shape[-2]
        filled = wide.unroll(pick, length)
        draws.use_up(wide.likelihood.event_shape[0])
        return filled, pad(torch.cat(log_p, -2), (0, 0, 0, length - len(log_p)))


class _Draws:
    """Draws of one step after the other, with ``ahead`` axes in front of that of the rows.

    A row's random numbers must not depend on when the other rows end, so steps that are no longer
    needed take theirs, too.
    """

    def __init__(self, noise: Noise, ahead: int) -> None:
        self.noise, self.ahead = noise, ahead
        self.used = 0
        self.last: Distribution | None = None

    def __call__(self, p: Distribution) -> Tensor:
        self.used += 1
        self.last = p
        return distributions.draw(p, (), self)

    def use_up(self, total: int) -> None:
        """Take the numbers of the steps that are left of ``total``."""
        while self.last is not None and self.used < total:
            self(self.last)

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape)."""
        return self.noise.normal((*shape, *like.shape[: self.ahead]), self._row(like))

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        return self.noise.uniform((*shape, *like.shape[: self.ahead]), self._row(like))

    def _row(self, like: Tensor) -> Tensor:
        return like.new_empty(()).expand(like.shape[self.ahead :])


@distributions.draw.register
def _(distribution: Autoregressive, shape: tuple[int, ...], noise: Noise) -> Tensor:
    draws = _Draws(noise, len(shape))
    wide = distribution.expand((*shape, *distribution.batch_shape))
    x = wide.unroll(lambda p, t: draws(p))
    draws.use_up(x.shape[-2])
    return x
