"""Encoder and decoder for rows of a table, with holes or without."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from skvae.networks.base import (
    ACTIVATIONS,
    CenteredEncoder,
    Encoder,
    Network,
    check_activation,
)
from skvae.spec import check_sizes

__all__ = ["Table", "TableEncoder"]


@dataclass(frozen=True)
class Table(Network, name="table"):
    """Fully connected layers that are told which cells are hidden; the decoder mirrors them.

    The encoder reads each cell, or a learned number in its place where it is hidden, and beside it
    whether it is observed: then "hidden" is not taken for "as usual". A layer between equal widths
    is a residual block with its normalisation in front [1]_, as for tables in [2]_.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the encoder's hidden layers; ``()`` makes encoder and decoder linear.
    activation : {"elu", "gelu", "relu", "sigmoid", "silu", "softplus", "tanh"}
        Non-linearity in front of each layer but the first.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Identity Mappings in Deep Residual Networks", 2016,
       arXiv:1603.05027
    .. [2] Gorishniy, Rubachev, Khrulkov and Babenko, "Revisiting Deep Learning Models for Tabular
       Data", 2021, arXiv:2106.11959
    """

    hidden_layer_sizes: tuple[int, ...] = (128, 128, 128)
    activation: str = "silu"

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "hidden_layer_sizes", check_sizes(self.hidden_layer_sizes, "hidden_layer_sizes")
        )
        check_activation(self.activation)

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body."""
        return TableEncoder(event_shape, self)

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder."""
        sizes = (d, *reversed(self.hidden_layer_sizes))
        last = nn.Linear(sizes[-1], math.prod(out_shape))
        return nn.Sequential(layers(sizes, self.activation), last, nn.Unflatten(-1, out_shape))


class TableEncoder(CenteredEncoder):
    """Flattens x and its mask, and applies the layers to both."""

    LIMIT = 1e6  # of centred cells: the normalisation squares what the layers make of them

    def __init__(self, event_shape: tuple[int, ...], spec: Table) -> None:
        super().__init__(event_shape)
        sizes = (2 * math.prod(event_shape), *spec.hidden_layer_sizes)
        self.out_features = sizes[-1]
        self.fill = nn.Parameter(torch.zeros(event_shape))
        self.layers = layers(sizes, spec.activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, out_features) of x (B, *event)."""
        seen = torch.ones_like(x, dtype=torch.bool) if mask is None else mask
        values = self.centered(x, mask).clamp(-self.LIMIT, self.LIMIT)
        values = torch.where(seen, values, self.fill)
        features: Tensor = self.layers(torch.cat([values.flatten(1), seen.flatten(1).to(x)], 1))
        return features


class Block(nn.Module):
    """Normalise, activate, multiply; plus what came in where the widths are equal."""

    def __init__(self, n_in: int, n_out: int, activation: str) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.LayerNorm(n_in), ACTIVATIONS[activation](), nn.Linear(n_in, n_out)
        )
        self.residual = n_in == n_out

    def forward(self, h: Tensor) -> Tensor:
        """Return (..., n_out) for h (..., n_in)."""
        out: Tensor = self.layer(h)
        return h + out if self.residual else out


def layers(sizes: tuple[int, ...], activation: str) -> nn.Sequential:
    """Return layers between consecutive sizes, normalised and activated at the end."""
    if len(sizes) == 1:
        return nn.Sequential()
    first, *rest = pairwise(sizes)
    return nn.Sequential(
        nn.Linear(*first),
        *(Block(n_in, n_out, activation) for n_in, n_out in rest),
        nn.LayerNorm(sizes[-1]),
        ACTIVATIONS[activation](),
    )
