"""Bodies of encoder and decoder. They know shapes and masks, and nothing about probability."""

import abc
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from skvae.exceptions import ParameterError, did_you_mean
from skvae.spec import Spec

__all__ = ["MLP", "Encoder", "Network"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}


class Encoder(nn.Module, abc.ABC):
    """Maps x (B, *event) and its mask to features (B, out_features)."""

    out_features: int

    @abc.abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the features; hidden cells (mask False) must not influence them."""

    def calibrate(self, mean: Tensor, rows: Tensor) -> None:
        """Learn the mean (*event,) and some rows (n, *event) before the first update."""


class Network(Spec, abc.ABC, family="network"):
    """Choice of the encoder's and decoder's bodies."""

    @abc.abstractmethod
    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body; its ``out_features`` says how wide its features are."""

    @abc.abstractmethod
    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder, (..., d) -> (..., *out_shape)."""


@dataclass(frozen=True)
class MLP(Network, name="mlp"):
    """Fully connected layers; the decoder mirrors the encoder.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers; ``()`` makes encoder and decoder linear.
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}
        Non-linearity after each hidden layer.
    """

    hidden_layer_sizes: tuple[int, ...] = (256, 256)
    activation: str = "silu"

    def __post_init__(self) -> None:
        sizes = self.hidden_layer_sizes
        if not isinstance(sizes, Sequence) or isinstance(sizes, str):
            raise ParameterError(
                f"hidden_layer_sizes must be a tuple of integers; received {sizes!r}. "
                "One hidden layer of 100 units is written (100,)."
            )
        if not all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sizes):
            raise ParameterError(
                f"hidden_layer_sizes must hold integers >= 1; received {sizes!r}."
            )
        object.__setattr__(self, "hidden_layer_sizes", tuple(sizes))
        if self.activation not in ACTIVATIONS:
            raise ParameterError(
                f"activation={self.activation!r} is not known."
                f"{did_you_mean(str(self.activation), ACTIVATIONS)} "
                f"Known: {', '.join(map(repr, ACTIVATIONS))}."
            )

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body."""
        return MLPEncoder(event_shape, self)

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder."""
        sizes = (d, *reversed(self.hidden_layer_sizes))
        last = nn.Linear(sizes[-1], math.prod(out_shape))
        return nn.Sequential(
            *dense_layers(sizes, self.activation), last, nn.Unflatten(-1, out_shape)
        )


def dense_layers(sizes: Sequence[int], activation: str) -> list[nn.Module]:
    """Return linear layers between consecutive sizes, each followed by the activation."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
    return layers


class MLPEncoder(Encoder):
    """Flattens x, replaces hidden cells by their training mean, and applies the layers."""

    center: Tensor
    spread: Tensor

    def __init__(self, event_shape: tuple[int, ...], spec: MLP) -> None:
        super().__init__()
        sizes = (math.prod(event_shape), *spec.hidden_layer_sizes)
        self.out_features = sizes[-1]
        self.register_buffer("center", torch.zeros(event_shape))
        self.register_buffer("spread", torch.ones(()))
        self.layers = nn.Sequential(*dense_layers(sizes, spec.activation))

    def calibrate(self, mean: Tensor, rows: Tensor) -> None:
        """Centre the input; a hidden cell then reads as its mean.

        Counts and bytes come in their own units and are divided by their common spread.
        """
        self.center.copy_(mean)
        self.spread.copy_(((rows - mean) ** 2).mean().sqrt().clamp(min=1.0))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, out_features) of x (B, *event)."""
        x = (x - self.center) / self.spread
        if mask is not None:
            x = torch.where(mask, x, torch.zeros((), dtype=x.dtype))
        features: Tensor = self.layers(x.flatten(1))
        return features
