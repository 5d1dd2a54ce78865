"""Convolutional encoder and decoder for signals, images and volumes of any size."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from skvae.exceptions import ParameterError
from skvae.networks.base import ACTIVATIONS, CenteredEncoder, Encoder, Network, check_activation
from skvae.spec import at_least

__all__ = [
    "Conv",
    "MapEncoder",
    "Residual",
    "Sizes",
    "Upsampling",
    "convolution",
    "hidden_levels",
    "in_fast_layout",
    "normalization",
    "residuals",
    "strides",
]

Sizes = tuple[int, ...]
M = TypeVar("M", bound=nn.Module)

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, Callable[..., nn.Module]] = {
    1: nn.ConvTranspose1d,
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
LAYOUTS = {2: torch.channels_last, 3: torch.channels_last_3d}  # what the convolutions are fast in

SMALLEST = 4  # sizes up to this are not halved any more
WIDEST = 8  # times the channels of the first level
GROUPS = 8


@dataclass(frozen=True)
class Conv(Network, name="conv"):
    """Residual convolutions over ever smaller maps; the decoder mirrors the encoder [1]_.

    The size is halved (rounding up) until no side is longer than 4, so the depth follows from it,
    and each level has twice the channels of the one before, up to 8 times ``channels``. Any size
    works, odd ones too: the decoder retraces the encoder's sizes exactly. Group normalisation
    [2]_ makes a row independent of the others.

    Parameters
    ----------
    n_dims : {1, 2, 3}
        Signals, images or volumes. An event has ``n_dims`` sizes, with the number of channels in
        front if there is one more: ``(c, height, width)``, or ``(height, width)`` for grey images.
    channels : int
        Channels of the first level.
    n_blocks : int
        Residual blocks of two convolutions at each level, in the encoder and in the decoder.
    activation : str
        As in `networks.MLP`.

    References
    ----------
    .. [1] He et al., "Identity Mappings in Deep Residual Networks", 2016, arXiv:1603.05027
    .. [2] Wu and He, "Group Normalization", 2018, arXiv:1803.08494
    """

    rounded_from: ClassVar[int] = 600_000

    n_dims: int = 2
    channels: int = 32
    n_blocks: int = 1
    activation: str = "silu"

    def __post_init__(self) -> None:
        if self.n_dims not in CONVOLUTIONS or isinstance(self.n_dims, bool):
            raise ParameterError(
                f"Conv: n_dims must be 1 (signals), 2 (images) or 3 (volumes); "
                f"received {self.n_dims!r}."
            )
        at_least(self.channels, 1, "Conv: channels")
        at_least(self.n_blocks, 0, "Conv: n_blocks")
        check_activation(self.activation)

    @classmethod
    def of(cls, event_shape: tuple[int, ...]) -> Self:
        """Return the network for an event that has channels in front.

        An event of two sizes is a signal with channels where the first is below 8, and otherwise
        a grey image without a channel axis; one of one size is a signal.
        """
        if len(event_shape) == 2:
            return cls(n_dims=1 if event_shape[0] < 8 else 2)
        return cls(n_dims=min(max(1, len(event_shape) - 1), 3))

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return the encoder's body.

        Raises
        ------
        ParameterError
            The event has another number of sizes.
        """
        return ConvEncoder(event_shape, self)

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return the decoder."""
        return ConvDecoder(d, out_shape, self)

    def build_maps(self, event_shape: tuple[int, ...]) -> "MapEncoder":
        """Return an encoder that also gives the maps of all levels."""
        return MapEncoder(event_shape, self)

    def split(self, event_shape: tuple[int, ...]) -> tuple[int, Sizes]:
        """Return the number of channels of an event and the sizes of its sides."""
        if len(event_shape) not in (self.n_dims, self.n_dims + 1):
            sizes = ", ".join(("length", "height", "width", "depth")[: self.n_dims])
            if self.n_dims > 1:
                sizes = ", ".join(("depth", "height", "width")[-self.n_dims :])
            raise ParameterError(
                f"Conv(n_dims={self.n_dims}) needs events of shape (channels, {sizes}) or "
                f"({sizes}), but event_shape is {event_shape}. Where rows come flat, pass for "
                "example event_shape=(1, 28, 28)."
            )
        sides = event_shape[-self.n_dims :]
        return math.prod(event_shape[: -self.n_dims]), sides

    def widths(self, n_levels: int) -> list[int]:
        """Return the channels of each level, the finest first."""
        return [self.channels * min(2**i, WIDEST) for i in range(n_levels)]


def pyramid(sides: Sizes) -> list[Sizes]:
    """Return the sizes of the maps from level to level, each side halved while it is long."""
    levels = [sides]
    while max(levels[-1]) > SMALLEST:
        levels.append(tuple(s if s <= SMALLEST else -(-s // 2) for s in levels[-1]))
    return levels


def strides(larger: Sizes, smaller: Sizes) -> Sizes:
    """Return by how much each side shrinks from one level to the next."""
    return tuple(1 if a == b else 2 for a, b in zip(larger, smaller, strict=True))


def convolution(n_in: int, n_out: int, stride: Sizes) -> nn.Module:
    """Return a convolution with windows of 3, which turns n into n / stride, rounded up."""
    return CONVOLUTIONS[len(stride)](n_in, n_out, 3, stride=stride, padding=1)


def normalization(channels: int) -> nn.Module:
    """Return group normalisation, with 8 groups where that goes."""
    return nn.GroupNorm(math.gcd(channels, GROUPS), channels)


class Residual(nn.Module):
    """x + f(x) with two convolutions; f is 0 before training.

    Parameters
    ----------
    channels, n_dims : int
    activation : str
    """

    def __init__(self, channels: int, n_dims: int, activation: str) -> None:
        super().__init__()
        same = (1,) * n_dims
        last = convolution(channels, channels, same)
        nn.init.zeros_(last.get_parameter("weight"))
        self.layers = nn.Sequential(
            normalization(channels),
            ACTIVATIONS[activation](),
            convolution(channels, channels, same),
            ACTIVATIONS[activation](),
            last,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of the same shape."""
        out: Tensor = x + self.layers(x)
        return out


class Upsampling(nn.Module):
    """A transposed convolution from maps of one size to those of the next larger one.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    smaller, larger : tuple of int
        Sizes of the sides.
    """

    def __init__(self, n_in: int, n_out: int, smaller: Sizes, larger: Sizes) -> None:
        super().__init__()
        stride = strides(larger, smaller)
        kernel = tuple(
            2 + s for s in stride
        )  # divisible by the stride: all cells get equal shares
        self.larger = larger
        self.layer = TRANSPOSED[len(stride)](n_in, n_out, kernel, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return maps (B, n_out, *larger) of maps (B, n_in, *smaller)."""
        out: Tensor = self.layer(x)
        for axis, size in enumerate(self.larger, 2):
            out = out.narrow(axis, 0, size)  # an odd side was rounded up when it was halved
        return out


class MapEncoder(CenteredEncoder):
    """Halves the maps level by level and gives those of every level.

    Attributes
    ----------
    widths : list of int
        Channels of the levels, the finest first.
    levels : list of tuple of int
        Sizes of their maps.
    """

    def __init__(self, event_shape: tuple[int, ...], spec: Conv) -> None:
        channels, sides = spec.split(event_shape)
        super().__init__(event_shape)
        self.levels = hidden_levels(sides)
        self.widths = spec.widths(len(self.levels))
        self.out_features = self.widths[-1] * math.prod(self.levels[-1])
        self.shape = (channels, *sides)
        stages = []
        n_in, larger = channels, sides
        for width, level in zip(self.widths, self.levels, strict=True):
            halving = convolution(n_in, width, strides(larger, level))
            stages.append(nn.Sequential(halving, *residuals(spec, width)))
            n_in, larger = width, level
        self.stages = in_fast_layout(nn.ModuleList(stages), spec.n_dims)

    def maps(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Return the maps (B, width, *level) of each level for x (B, *event), the finest first."""
        maps = [self.centered(x, mask).reshape(-1, *self.shape)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[1:]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the coarsest maps as features (B, out_features)."""
        return self.maps(x, mask)[-1].flatten(1)


class ConvEncoder(MapEncoder):
    """Reads the coarsest maps."""

    def __init__(self, event_shape: tuple[int, ...], spec: Conv) -> None:
        super().__init__(event_shape, spec)
        self.last = nn.Sequential(
            normalization(self.widths[-1]), ACTIVATIONS[spec.activation](), nn.Flatten()
        )

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, out_features) of x (B, *event)."""
        features: Tensor = self.last(self.maps(x, mask)[-1])
        return features


class ConvDecoder(nn.Module):
    """Doubles the maps level by level, (..., d) -> (..., *out_shape)."""

    def __init__(self, d: int, out_shape: tuple[int, ...], spec: Conv) -> None:
        super().__init__()
        sides = out_shape[-spec.n_dims :]
        levels = hidden_levels(sides)
        widths = spec.widths(len(levels))
        self.out_shape = out_shape
        self.start = (widths[-1], *levels[-1])
        layers: list[nn.Module] = []
        targets = [
            (math.prod(out_shape[: -spec.n_dims]), sides),
            *zip(widths, levels, strict=True),
        ]
        for (n_out, larger), (n_in, smaller) in reversed(list(itertools.pairwise(targets))):
            layers += residuals(spec, n_in)
            layers += [normalization(n_in), ACTIVATIONS[spec.activation]()]
            layers.append(Upsampling(n_in, n_out, smaller, larger))
        self.first = nn.Linear(d, math.prod(self.start))
        self.layers = in_fast_layout(nn.Sequential(*layers), spec.n_dims)

    def forward(self, z: Tensor) -> Tensor:
        """Return what the likelihood needs, (..., *out_shape), for z (..., d)."""
        maps = self.first(z).reshape(-1, *self.start)
        out: Tensor = self.layers(maps)
        return out.reshape(*z.shape[:-1], *self.out_shape)


def hidden_levels(sides: Sizes) -> list[Sizes]:
    """Return the sizes of the hidden maps, the largest first: events are halved at once."""
    levels = pyramid(sides)
    return levels[1:] or levels


def residuals(spec: Conv, channels: int) -> list[nn.Module]:
    """Return the blocks of one level."""
    return [Residual(channels, spec.n_dims, spec.activation) for _ in range(spec.n_blocks)]


def in_fast_layout(module: M, n_dims: int) -> M:
    """Put the weights into the layout that convolutions are fast in; maps then follow."""
    layout = LAYOUTS.get(n_dims)
    return module if layout is None else module.to(memory_format=layout)  # type: ignore[call-overload]
