"""Temporal convolutions: encoder and decoder for sequences without recurrence."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.networks.base import Encoder
from skvae.networks.steps import (
    SequenceNetwork,
    StepDecoder,
    check_word_dropout,
    read,
    sequence_shape,
)
from skvae.spec import at_least

__all__ = ["TCN", "TCNDecoder", "TCNEncoder"]


@dataclass(frozen=True)
class TCN(SequenceNetwork, name="tcn"):
    """Residual blocks of two dilated convolutions each [1]_, all steps of a sequence at once.

    The dilation doubles from block to block. What the decoder writes depends on z and on the last
    1 + 2 (kernel_size − 1) (2^n_layers − 1) steps, 253 by default; the encoder sees as far, half
    of it to either side. Both work for sequences of any length.

    Parameters
    ----------
    channels : int
        Width of the blocks.
    n_layers : int
        Number of blocks of the encoder and of the decoder.
    kernel_size : int
        Steps that a convolution reads.
    word_dropout : float
        As in `RNN`.

    References
    ----------
    .. [1] Bai, Kolter and Koltun, "An Empirical Evaluation of Generic Convolutional and Recurrent
       Networks for Sequence Modeling", 2018, arXiv:1803.01271
    """

    channels: int = 64
    n_layers: int = 6
    kernel_size: int = 3
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        at_least(self.channels, 1, "TCN: channels")
        at_least(self.n_layers, 1, "TCN: n_layers")
        at_least(self.kernel_size, 2, "TCN: kernel_size")
        check_word_dropout(self.word_dropout, "TCN")

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body."""
        return TCNEncoder(sequence_shape(event_shape, self)[1], self)

    def decoder_for(
        self, d: int, out_shape: tuple[int, ...], in_shape: tuple[int, ...]
    ) -> StepDecoder:
        """Return a decoder that reads steps (T, C) and puts out (T, k)."""
        _, in_features = sequence_shape(in_shape, self)
        return TCNDecoder(d, in_features, out_shape[-1], self)


class Dilated(nn.Module):
    """A convolution of steps (N, T + reach, C) -> (N, T, C) as one matrix product."""

    def __init__(self, channels: int, kernel_size: int, dilation: int) -> None:
        super().__init__()
        self.kernel_size, self.dilation = kernel_size, dilation
        self.reach = (kernel_size - 1) * dilation
        self.kernel = nn.Linear(kernel_size * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return one step for each that has ``reach`` steps around it."""
        n_steps = x.shape[1] - self.reach
        starts = range(0, self.reach + 1, self.dilation)
        out: Tensor = self.kernel(torch.cat([x.narrow(1, s, n_steps) for s in starts], -1))
        return out


def convolutions(spec: TCN) -> nn.ModuleList:
    """Return the convolutions of all blocks, two for each."""
    return nn.ModuleList(
        Dilated(spec.channels, spec.kernel_size, 2**i) for i in range(spec.n_layers) for _ in "ab"
    )


class TCNEncoder(Encoder):
    """Blocks that see both sides of a step; steps that do not exist read as the zeros around."""

    def __init__(self, in_features: int, spec: TCN) -> None:
        super().__init__()
        self.first = nn.Linear(2 * in_features - 1, spec.channels)
        self.convolutions = convolutions(spec)
        self.out_features = 2 * spec.channels

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return mean and maximum of the outputs at the steps that exist, (B, out_features)."""
        shown, alive = read(x, mask)
        there = alive.unsqueeze(-1)
        zero = x.new_zeros(())
        out = self.first(shown)
        for first, second in _pairs(self.convolutions):
            change = out
            for layer in (first, second):
                change = torch.where(there, F.silu(change), zero)
                left = layer.reach // 2
                change = layer(F.pad(change, (0, 0, left, layer.reach - left)))
            out = out + change
        mean = torch.where(there, out, zero).sum(1) / there.sum(1).clamp(min=1)
        low = torch.finfo(out.dtype).min
        top = torch.where(there, out, low).amax(1)
        return torch.cat([mean, torch.where(there.any(1), top, zero)], -1)


class TCNDecoder(StepDecoder):
    """Blocks that see a step and those before it.

    The state is what each convolution still needs of the steps so far.
    """

    def __init__(self, d: int, in_features: int, out_features: int, spec: TCN) -> None:
        super().__init__(in_features, spec.word_dropout)
        self.first = nn.Linear(in_features + d, spec.channels)
        self.convolutions = convolutions(spec)
        self.last = nn.Linear(spec.channels + d, out_features)

    def start(self, z: Tensor) -> Any:
        """Return z and the zeros before the first step."""
        width = self.first.out_features
        reaches = [layer.reach for pair in _pairs(self.convolutions) for layer in pair]
        return z, [z.new_zeros(len(z), reach, width) for reach in reaches]

    def advance(self, before: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the numbers of the next T steps (N, T, k) and the state after them."""
        z, carried = state
        rest, kept = iter(carried), []
        beside = z.unsqueeze(1).expand(-1, before.shape[1], -1)
        out = self.first(torch.cat([before, beside], -1))
        for pair in _pairs(self.convolutions):
            change = out
            for layer in pair:
                change = torch.cat([next(rest), F.silu(change)], 1)
                kept.append(change[:, change.shape[1] - layer.reach :])
                change = layer(change)
            out = out + change
        return self.last(torch.cat([out, beside], -1)), (z, kept)


def _pairs(layers: nn.ModuleList) -> Sequence[tuple[Dilated, Dilated]]:
    """Return the two convolutions of each block."""
    every: list[Any] = list(layers)
    return list(zip(every[::2], every[1::2], strict=True))
