"""Fully connected encoder and decoder."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from skvae.networks.base import (
    CenteredEncoder,
    Encoder,
    Network,
    check_activation,
    dense_layers,
)
from skvae.spec import check_sizes

__all__ = ["MLP", "MLPEncoder"]


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


class MLPEncoder(CenteredEncoder):
    """Flattens x and applies the layers."""

    def __init__(self, event_shape: tuple[int, ...], spec: MLP) -> None:
        super().__init__(event_shape)
        sizes = (math.prod(event_shape), *spec.hidden_layer_sizes)
        self.out_features = sizes[-1]
        self.layers = nn.Sequential(*dense_layers(sizes, spec.activation, spec.batch_norm))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, out_features) of x (B, *event)."""
        features: Tensor = self.layers(self.centered(x, mask).flatten(1))
        return features
