"""What all networks share: the two contracts, activations, layers, batch normalisation."""

import abc
import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm

from skvae.exceptions import ModelFileError, ParameterError, did_you_mean
from skvae.spec import Spec

__all__ = [
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


class CenteredEncoder(Encoder):
    """Reads x relative to its training mean, which is also what hidden cells are taken for."""

    center: Tensor
    spread: Tensor

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(event_shape))
        self.register_buffer("spread", torch.ones(()))

    def calibrate(self, mean: Tensor, rows: Tensor) -> None:
        """Centre the input; a hidden cell then reads as its mean.

        Counts and bytes come in their own units and are divided by their common spread.
        """
        self.center.copy_(mean)
        self.spread.copy_(((rows - mean) ** 2).nanmean().sqrt().clamp(min=1.0))

    def centered(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return x (B, *event) in units of the spread around the mean, 0 where hidden."""
        x = (x - self.center) / self.spread
        return x if mask is None else torch.where(mask, x, torch.zeros((), dtype=x.dtype))


class Network(Spec, abc.ABC, family="network"):
    """Choice of the encoder's and decoder's bodies.

    ``sequential`` says whether they are for sequences, whose batches may be cut after the longest,
    and ``rounded_from`` from how many weights of the whole model on bfloat16 saves more time in
    products than it costs in casts.
    """

    sequential: ClassVar[bool] = False
    rounded_from: ClassVar[int] = 200_000

    @abc.abstractmethod
    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body; its ``out_features`` says how wide its features are."""

    @abc.abstractmethod
    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder, (..., d) -> (..., *out_shape)."""

    def restored(self, given: "Network | None") -> "Network":
        """Return the network of a model file, with what only the caller of `load` has.

        Parameters
        ----------
        given : Network or None
            What the caller passes.

        Raises
        ------
        ModelFileError
            It does not go with the file.
        """
        if given is not None and given != self:
            raise ModelFileError(
                f"network={given!r} was passed, but it has a network of its own, {self!r}. Leave "
                "out network; only modules of your own need it."
            )
        return self

    def decoder_for(
        self, d: int, out_shape: tuple[int, ...], in_shape: tuple[int, ...]
    ) -> nn.Module:
        """Return the decoder of a model whose networks see x as ``in_shape``; few need to know."""
        return self.build_decoder(d, out_shape)


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
    kinds = (BatchNorm, _BatchNorm)
    learning = [m for m in module.modules() if isinstance(m, kinds) and m.training]
    for part in learning:
        part.training = False
    try:
        yield
    finally:
        for part in learning:
            part.training = True
