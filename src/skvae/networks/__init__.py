"""Bodies of encoder and decoder. They know shapes and masks, and nothing about probability."""

from skvae.networks.base import (
    BatchNorm,
    Encoder,
    Network,
    check_activation,
    dense_layers,
    running_statistics,
)
from skvae.networks.custom import Custom
from skvae.networks.mlp import MLP

__all__ = [
    "MLP",
    "BatchNorm",
    "Custom",
    "Encoder",
    "Network",
    "check_activation",
    "dense_layers",
    "running_statistics",
]
