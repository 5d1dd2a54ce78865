"""Bodies of encoder and decoder. They know shapes and masks, and nothing about probability."""

import abc
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm

from skvae.exceptions import ParameterError, did_you_mean
from skvae.spec import Spec, check_sizes

__all__ = [
    "MLP",
    "BatchNorm",
    "Encoder",
    "Network",
    "check_activation",
    "dense_layers",
    "running_statistics",
]

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
    batch_norm : bool
        Normalise each hidden layer before its non-linearity [1]_.

    References
    ----------
    .. [1] Ioffe and Szegedy, "Batch Normalization", 2015, arXiv:1502.03167
    """

    hidden_layer_sizes: tuple[int, ...] = (256, 256)
    activation: str = "silu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "hidden_layer_sizes", check_sizes(self.hidden_layer_sizes, "hidden_layer_sizes")
        )
        check_activation(self.activation)

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body."""
        return MLPEncoder(event_shape, self)

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder."""
        sizes = (d, *reversed(self.hidden_layer_sizes))
        last = nn.Linear(sizes[-1], math.prod(out_shape))
        return nn.Sequential(
            *dense_layers(sizes, self.activation, self.batch_norm),
            last,
            nn.Unflatten(-1, out_shape),
        )


def check_activation(activation: object) -> None:
    """Check a field that names an activation.

    Raises
    ------
    ParameterError
    """
    if activation not in ACTIVATIONS:
        raise ParameterError(
            f"activation={activation!r} is not known."
            f"{did_you_mean(str(activation), ACTIVATIONS)} "
            f"Known: {', '.join(map(repr, ACTIVATIONS))}."
        )


def dense_layers(
    sizes: Sequence[int], activation: str, normalized: bool = False
) -> list[nn.Module]:
    """Return linear layers between consecutive sizes, each followed by the activation."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layers.append(nn.Linear(n_in, n_out, bias=not normalized))  # else the norm has the bias
        if normalized:
            layers.append(BatchNorm(n_out))
        layers.append(ACTIVATIONS[activation]())
    return layers


class BatchNorm(nn.Module):
    """Batch normalisation of features (..., B, d) over all axes but the last.

    A single row has no statistics of its own and is normalised by the running ones, which a batch
    that is not finite leaves as they are.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("variance", torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised features."""
        mean, variance = self.mean, self.variance
        learn = self.training and x.ndim > 1 and x.shape[-2] > 1
        if learn:
            mean, variance = mean.clone(), variance.clone()
        rows = x.reshape(-1, x.shape[-1])
        out = batch_norm(rows, mean, variance, self.weight, self.bias, training=learn)
        if learn:  # never in place: a backward pass may still need the old ones
            self.mean = torch.where(mean.isfinite(), mean, self.mean)
            self.variance = torch.where(variance.isfinite(), variance, self.variance)
        return out.view(x.shape)


@contextmanager
def running_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation take its running statistics, also in training."""
    learning = [m for m in module.modules() if isinstance(m, BatchNorm) and m.training]
    for part in learning:
        part.training = False
    try:
        yield
    finally:
        for part in learning:
            part.training = True


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
        self.layers = nn.Sequential(*dense_layers(sizes, spec.activation, spec.batch_norm))

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
