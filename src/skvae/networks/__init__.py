"""Bodies of encoder and decoder. They know shapes and masks, and nothing about probability."""

from skvae.networks.base import (
    BatchNorm,
    Encoder,
    Network,
    check_activation,
    dense_layers,
    running_statistics,
)
from skvae.networks.mlp import MLP
from skvae.networks.recurrent import RNN
from skvae.networks.steps import SequenceNetwork, StepDecoder
from skvae.networks.temporal import TCN

__all__ = [
    "MLP",
    "RNN",
    "TCN",
    "BatchNorm",
    "Encoder",
    "Network",
    "SequenceNetwork",
    "StepDecoder",
    "check_activation",
    "dense_layers",
    "running_statistics",
]
