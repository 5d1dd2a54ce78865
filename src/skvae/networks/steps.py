"""What networks for sequences share: how they read a sequence, and how they go on with one.

They read steps (B, T, C) as `likelihoods.Sequence` represents them, with "alive" as the last
channel: 1 for the steps that exist, then 0. Nothing about a row may depend on the steps after its
end or on the other rows.
"""

import abc
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skvae.exceptions import ParameterError
from skvae.networks.base import Network

__all__ = ["SequenceNetwork", "StepDecoder", "check_word_dropout", "read"]


class SequenceNetwork(Network, abc.ABC):
    """A network whose decoder needs the steps before: p(x_t | x_1, …, x_{t − 1}, z)."""

    sequential: ClassVar[bool] = True

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> "StepDecoder":
        """Return a decoder that reads steps as wide as those that it puts out."""
        return self.decoder_for(d, out_shape, out_shape)

    @abc.abstractmethod
    def decoder_for(
        self, d: int, out_shape: tuple[int, ...], in_shape: tuple[int, ...]
    ) -> "StepDecoder":
        """Return a decoder that reads steps (T, C) and puts out (T, k)."""


class StepDecoder(nn.Module, abc.ABC):
    """Maps z and the steps before each step to the k numbers of that step.

    In training a part of the steps before may be hidden from it, so that it must find in z what it
    cannot copy.

    Parameters
    ----------
    in_features : int
        Width C of a step as it is read.
    word_dropout : float
        Probability that a step is hidden in training.

    References
    ----------
    Bowman et al., "Generating Sentences from a Continuous Space", 2016, arXiv:1511.06349
    """

    def __init__(self, in_features: int, word_dropout: float) -> None:
        super().__init__()
        self.word_dropout = word_dropout
        self.unknown = nn.Parameter(torch.zeros(in_features))

    @abc.abstractmethod
    def start(self, z: Tensor) -> Any:
        """Return the state before the first step, for z (N, d)."""

    @abc.abstractmethod
    def advance(self, before: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the numbers of the next T steps (N, T, k) and the state after them.

        ``before`` (N, T, C) are the steps right before each of them, zeros before the first one.
        """

    def forward(self, z: Tensor, before: Tensor) -> Tensor:
        """Return the numbers of all steps (N, T, k), for z (N, d) and the steps before each."""
        return self.advance(before, self.start(z))[0]

    def show(self, steps: Tensor, known: Tensor | None = None) -> Tensor:
        """Put the learned "unknown" in place of what is not known of steps (..., T, C)."""
        alive = steps[..., -1:] > 0.5
        channel = torch.arange(steps.shape[-1], device=steps.device)
        hidden = alive & (channel < steps.shape[-1] - 1)
        hidden = hidden & ~known if known is not None else torch.zeros_like(hidden)
        return torch.where(hidden, self.unknown, steps)


def read(x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what an encoder reads of steps (B, T, C), and which exist, (B, T).

    Values and, for each, whether it is observed, (B, T, 2 C − 1); "alive" always is.
    """
    alive = x[..., -1] > 0.5
    there = alive.unsqueeze(-1)
    seen = torch.ones_like(x[..., :-1], dtype=torch.bool) if mask is None else mask[..., :-1]
    seen = seen & there
    values = torch.where(seen, x[..., :-1], x.new_zeros(()))
    return torch.cat([values, seen.to(x), there.to(x)], -1), alive


def sequence_shape(shape: tuple[int, ...], network: Network) -> tuple[int, int]:
    """Return steps and channels of a sequence.

    Raises
    ------
    ParameterError
        The shape is not that of a sequence.
    """
    if len(shape) != 2:
        raise ParameterError(
            f"network={network.name!r} reads sequences of shape (steps, features); received "
            f"{shape!r}."
        )
    return shape


def check_word_dropout(value: object, where: str) -> None:
    """Check a field that is a probability below 1.

    Raises
    ------
    ParameterError
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ParameterError(f"{where}: word_dropout must be in [0, 1); received {value!r}.")
