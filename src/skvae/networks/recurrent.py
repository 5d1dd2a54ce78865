"""Recurrent encoder and decoder for sequences."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skvae.exceptions import ParameterError, did_you_mean
from skvae.networks.base import Encoder
from skvae.networks.steps import (
    SequenceNetwork,
    StepDecoder,
    check_word_dropout,
    read,
    sequence_shape,
)
from skvae.spec import at_least

__all__ = ["RNN", "RNNDecoder", "RNNEncoder"]

# The layer, and how many tensors its state consists of.
CELLS: dict[str, tuple[type[nn.GRU] | type[nn.LSTM], int]] = {
    "gru": (nn.GRU, 1),
    "lstm": (nn.LSTM, 2),
}


@dataclass(frozen=True)
class RNN(SequenceNetwork, name="rnn"):
    """Recurrent layers that read a sequence and write one step after the other.

    The encoder's features are its last states and the mean of its outputs. The decoder gets z as
    its first state and beside every step; what it writes depends on all steps before [1]_. Both
    work for sequences of any length.

    Parameters
    ----------
    cell : {"gru", "lstm"}
        Gated recurrent unit [2]_ or long short-term memory.
    hidden_size : int
        Width of a layer in one direction.
    n_layers : int
        Layers of the encoder and of the decoder.
    bidirectional : bool
        Let the encoder also read from the end.
    word_dropout : float
        Probability that in training the decoder does not see a step before: a remedy for a
        decoder that ignores z [1]_.

    References
    ----------
    .. [1] Bowman et al., "Generating Sentences from a Continuous Space", 2016, arXiv:1511.06349
    .. [2] Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014,
       arXiv:1406.1078
    """

    cell: Literal["gru", "lstm"] = "gru"
    hidden_size: int = 256
    n_layers: int = 1
    bidirectional: bool = True
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ParameterError(
                f"RNN: cell={self.cell!r} is not known.{did_you_mean(str(self.cell), CELLS)} "
                f"Known: {', '.join(map(repr, CELLS))}."
            )
        at_least(self.hidden_size, 1, "RNN: hidden_size")
        at_least(self.n_layers, 1, "RNN: n_layers")
        if not isinstance(self.bidirectional, bool):
            raise ParameterError(
                f"RNN: bidirectional must be True or False; received {self.bidirectional!r}."
            )
        check_word_dropout(self.word_dropout, "RNN")

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body."""
        return RNNEncoder(sequence_shape(event_shape, self)[1], self)

    def decoder_for(
        self, d: int, out_shape: tuple[int, ...], in_shape: tuple[int, ...]
    ) -> StepDecoder:
        """Return a decoder that reads steps (T, C) and puts out (T, k)."""
        _, in_features = sequence_shape(in_shape, self)
        return RNNDecoder(d, in_features, out_shape[-1], self)


class RNNEncoder(Encoder):
    """Layers that read forwards and, on the sequences turned round, backwards.

    Packing the sequences would save the steps after their ends, but on a CPU it costs more than
    that: it is up to four times slower for sequences of similar length, which batches have.
    """

    def __init__(self, in_features: int, spec: RNN) -> None:
        super().__init__()
        layer, _ = CELLS[spec.cell]
        n_ways = 1 + spec.bidirectional
        widths = [2 * in_features - 1, *[n_ways * spec.hidden_size] * (spec.n_layers - 1)]
        self.layers = nn.ModuleList(
            nn.ModuleList(layer(width, spec.hidden_size, batch_first=True) for _ in range(n_ways))
            for width in widths
        )
        self.out_features = 2 * n_ways * spec.hidden_size

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the last states and the mean outputs of the upper layer, (B, out_features)."""
        out, alive = read(x, mask)
        length = alive.sum(-1)  # (B,)
        step = torch.arange(x.shape[1], device=x.device)
        turned = torch.where(alive, length.unsqueeze(-1) - 1 - step, step)  # (B, T)
        last = (length - 1).clamp(min=0).view(-1, 1, 1)
        for ways in self.layers:
            assert isinstance(ways, nn.ModuleList)
            outputs, ends = [], []
            for way, order in zip(ways, (None, turned), strict=False):
                run, _ = way(_in_order(out, order))
                ends.append(run.gather(1, last.expand(-1, 1, run.shape[-1])).squeeze(1))
                outputs.append(_in_order(run, order))
            out = torch.cat(outputs, -1)
        there = alive.unsqueeze(-1)
        total = torch.where(there, out, out.new_zeros(())).sum(1)
        return torch.cat([*ends, total / length.clamp(min=1).unsqueeze(-1)], -1)


def _in_order(x: Tensor, order: Tensor | None) -> Tensor:
    """Return steps (B, T, C) in an order (B, T)."""
    return x if order is None else x.gather(1, order.unsqueeze(-1).expand(x.shape))


class RNNDecoder(StepDecoder):
    """Layers that start from z and read it again beside the step before."""

    def __init__(self, d: int, in_features: int, out_features: int, spec: RNN) -> None:
        super().__init__(in_features, spec.word_dropout)
        layer, n_states = CELLS[spec.cell]
        self.state_shape = (n_states, spec.n_layers, spec.hidden_size)
        self.initial = nn.Linear(d, n_states * spec.n_layers * spec.hidden_size)
        self.layers = layer(
            in_features + d, spec.hidden_size, num_layers=spec.n_layers, batch_first=True
        )
        self.last = nn.Linear(spec.hidden_size + d, out_features)

    def start(self, z: Tensor) -> Any:
        """Return z and the first state of the layers."""
        states = torch.tanh(self.initial(z)).unflatten(-1, self.state_shape)
        parts = [part.transpose(0, 1).contiguous() for part in states.unbind(1)]  # (layers, N, H)
        return z, parts[0] if len(parts) == 1 else tuple(parts)

    def advance(self, before: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return the numbers of the next T steps (N, T, k) and the state after them."""
        z, hidden = state
        beside = z.unsqueeze(1).expand(-1, before.shape[1], -1)
        out, hidden = self.layers(torch.cat([before, beside], -1), hidden)
        return self.last(torch.cat([out, beside], -1)), (z, hidden)
