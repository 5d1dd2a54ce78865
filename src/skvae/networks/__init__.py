"""Bodies of encoder and decoder. They know shapes and masks, and nothing about probability."""

from skvae.networks.base import (
    BatchNorm,
    CenteredEncoder,
    Encoder,
    Network,
    check_activation,
    dense_layers,
    running_statistics,
)
from skvae.networks.conv import Conv
from skvae.networks.custom import Custom
from skvae.networks.mlp import MLP
from skvae.networks.recurrent import RNN
from skvae.networks.steps import SequenceNetwork, StepDecoder
from skvae.networks.table import Table
from skvae.networks.temporal import TCN

__all__ = [
    "MLP",
    "RNN",
    "TCN",
    "BatchNorm",
    "CenteredEncoder",
    "Conv",
    "Custom",
    "Encoder",
    "Network",
    "SequenceNetwork",
    "StepDecoder",
    "Table",
    "check_activation",
    "dense_layers",
    "running_statistics",
]
