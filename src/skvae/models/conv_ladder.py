"""A ladder whose levels are maps: the hierarchical convolutional autoencoder."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.models.base import LatentModule
from skvae.models.chain import (
    Chain,
    ChainModel,
    ChainModule,
    Conditional,
    Path,
    Step,
    detached,
    gaussian,
)
from skvae.networks import Conv
from skvae.networks.base import ACTIVATIONS
from skvae.networks.conv import (
    MapEncoder,
    Sizes,
    Upsampling,
    convolution,
    hidden_levels,
    in_fast_layout,
    normalization,
    residuals,
)
from skvae.posteriors.gaussian import bounded_log_variance
from skvae.spec import at_least

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["ConvLadder", "ConvLadderModule"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class ConvLadder(ChainModel, name="conv_ladder"):
    """A ladder of maps: latent variables at every resolution of a convolutional network [1]_.

    Going down from a learned start, the model keeps maps that every level adds its z_i to:
    p(z_i | z_{i+1}, …, z_L) is read from them, and so is p(x | z). On the way up, x gives maps of
    the same sizes; q(z_i | z_{i+1}, …, z_L, x) sees both, and is given relative to
    p(z_i | z_{i+1}, …, z_L): shifted by so many of its standard deviations, and so much narrower
    [2]_. (The product of `Ladder` has no gradient where x has no say yet, and collapses here.)

    Each level has ``n_components`` latent maps. A flat z holds those of the finest level first.
    The prior is that of the top level. `objectives.ELBO` gives its free bits to each map.

    Parameters
    ----------
    n_levels : int
        Levels at each resolution.

    References
    ----------
    .. [1] Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow", 2016,
       arXiv:1606.04934, section 5
    .. [2] Vahdat and Kautz, "NVAE: A Deep Hierarchical Variational Autoencoder", 2020,
       arXiv:2007.03898, section 3.2
    """

    n_levels: int = 1

    def __post_init__(self) -> None:
        at_least(self.n_levels, 1, "ConvLadder: n_levels")

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if not isinstance(parts.network, Conv):
            raise ParameterError(
                f"model={self.name!r} does not go with network={parts.network.name!r}: its levels "
                "are maps. Use network='conv', or model='ladder'."
            )
        parts.network.split(parts.event_shape)

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return ConvLadderModule(parts, self)

    def maps(self, parts: "Assembly") -> list[tuple[int, Sizes]]:
        """Return the resolution of each level, its number and its sizes, the finest first."""
        assert isinstance(parts.network, Conv)  # see `check`
        _, sides = parts.network.split(parts.event_shape)
        resolutions = enumerate(hidden_levels(sides))
        return [level for level in resolutions for _ in range(self.n_levels)]

    def level_sizes(self, parts: "Assembly") -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""
        return tuple(parts.n_components * math.prod(sizes) for _, sizes in self.maps(parts))


class ConvLadderModule(ChainModule):
    """The wiring of a ladder of maps."""

    encoder: MapEncoder
    decoder: "TopDown"

    def __init__(self, spec: "Assembly", choice: ConvLadder) -> None:
        super().__init__(spec, choice.level_sizes(spec))
        network = spec.network
        assert isinstance(network, Conv)  # see `ConvLadder.check`
        self.encoder = network.build_maps(spec.event_shape)
        widths, sizes = self.encoder.widths, self.encoder.levels
        self.resolutions = [r for r, _ in choice.maps(spec)]
        self.n_maps = spec.n_components
        *lower, top = [widths[r] for r in self.resolutions]
        evident = [Head(2 * w, self.n_maps, network) for w in lower]
        self.evident = nn.ModuleList([*evident, Head(top, self.n_maps, network)])
        self.generative.extend(Head(w, self.n_maps, network) for w in lower)
        shapes = [(widths[r], *sizes[r]) for r in self.resolutions]
        self.decoder = TopDown(shapes, self.n_maps, self.likelihood.param_shape, network)
        for part in (self.evident, self.generative):
            in_fast_layout(part, network.n_dims)

    @property
    def path(self) -> Path:
        """The model's way from the top down."""
        return self._path(self.generative, self.decoder.descents, self.decoder.start)

    def _path(
        self, heads: Iterable[Function], descents: Iterable[Function], start: Tensor
    ) -> Path:
        def law_by(head: Function) -> Conditional:
            return lambda maps: _law(self._body(head, maps))

        def step_by(descent: Function) -> Step:
            return lambda above, z: self._body(descent, z, start if above is None else above)

        return Path([*map(law_by, heads)], [*map(step_by, descents)])

    def _decoded(self, levels: Sequence[Tensor], path: Path) -> Distribution:
        maps: Tensor | None = None
        for step, z in zip(reversed(path.steps), reversed(levels), strict=True):
            maps = step(maps, z)
        assert maps is not None
        p: Distribution = self.likelihood(self._body(self.decoder.last, maps))
        return p

    def _posterior(self, batch: Batch, path: Path) -> tuple[Chain, Chain]:
        with self._lowered(batch.x):
            maps = self.encoder.maps(*self.likelihood.represent(batch.x, batch.mask))
        maps = [m.to(batch.x.dtype) for m in maps]
        fixed_path = self._path(
            map(detached, self.generative),
            map(detached, self.decoder.descents),
            self.decoder.start.detach(),
        )
        return (
            self._given(maps, self.evident, path),
            self._given([m.detach() for m in maps], map(detached, self.evident), fixed_path),
        )

    def _given(self, maps: list[Tensor], heads: Iterable[Function], path: Path) -> Chain:
        """Return q, whose conditionals see the maps of x and those that come from above."""
        *lower, top = [
            functools.partial(self._read, head, maps[r])
            for head, r in zip(heads, self.resolutions, strict=True)
        ]
        laws = [*map(_relative, lower, path.conditionals)]
        return Chain(_law(top()), laws, self.sizes, path.steps)

    def _read(self, head: Function, maps: Tensor, *above: Tensor) -> Tensor:
        seen = [maps.expand(*a.shape[: a.ndim - maps.ndim], *maps.shape) for a in above]
        return self._body(head, torch.cat([*seen, *above], 1 - maps.ndim) if above else maps)

    def _grouped(self, kl: Tensor) -> Tensor:
        if kl.shape[-1] == 1:
            return kl
        grouped: Tensor = kl.unflatten(-1, (self.n_maps, -1)).sum(-1)
        return grouped


class TopDown(nn.Module):
    """The decoder: a start, the descent from each level, and the way from maps to an event.

    Parameters
    ----------
    shapes : list of tuple of int
        Channels and sizes of the maps at each level, the finest first.
    n_maps : int
        Latent maps of each level.
    out_shape : tuple of int
        What the likelihood needs.
    network : Conv
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        n_maps: int,
        out_shape: tuple[int, ...],
        network: Conv,
    ) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(shapes[-1]))
        descents = []
        for below, (width, *sizes) in zip([shapes[0], *shapes], shapes, strict=False):
            body = residuals(network, width)
            if below[1:] != tuple(sizes):
                body.append(Upsampling(width, below[0], tuple(sizes), below[1:]))
            descents.append(Descent(n_maps, (width, *sizes), body))
        self.descents = in_fast_layout(nn.ModuleList(descents), network.n_dims)
        last = MapsToEvent(out_shape, shapes[0], network)
        self.last = in_fast_layout(last, network.n_dims)


class Descent(nn.Module):
    """Adds latent maps to those from above, and refines and enlarges the sum.

    Parameters
    ----------
    n_maps : int
        Latent maps.
    shape : tuple of int
        Channels and sizes of the maps from above.
    body : list of Module
    """

    def __init__(self, n_maps: int, shape: tuple[int, ...], body: list[nn.Module]) -> None:
        super().__init__()
        width, *sizes = shape
        self.shape, self.latent_shape = shape, (n_maps, *sizes)
        self.enter = convolution(n_maps, width, (1,) * len(sizes))
        self.body = nn.Sequential(*body)

    def forward(self, z: Tensor, above: Tensor) -> Tensor:
        """Return maps (..., *shape of the next level) for z (..., d) and maps (..., *shape)."""
        lead = z.shape[:-1]
        entered = self.enter(z.reshape(-1, *self.latent_shape)).view(*lead, *self.shape)
        maps: Tensor = self.body((above + entered).reshape(-1, *self.shape))
        return maps.view(*lead, *maps.shape[1:])


class Head(nn.Module):
    """From maps (..., width, *sizes) to mean and log-variance of latent maps, (..., 2 d).

    Both are 0 before training, so that q and p are equal at every level.
    """

    def __init__(self, width: int, n_maps: int, network: Conv) -> None:
        super().__init__()
        self.n_dims = network.n_dims
        self.layers = nn.Sequential(
            normalization(width),
            ACTIVATIONS[network.activation](),
            convolution(width, 2 * n_maps, (1,) * network.n_dims),
        )
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the parameters; those of the means come first."""
        lead = maps.shape[: -1 - self.n_dims]
        out: Tensor = self.layers(maps.reshape(-1, *maps.shape[-1 - self.n_dims :]))
        return out.reshape(*lead, -1)


class MapsToEvent(nn.Module):
    """From the finest maps (..., width, *sizes) to what the likelihood needs."""

    def __init__(
        self, out_shape: tuple[int, ...], in_shape: tuple[int, ...], network: Conv
    ) -> None:
        super().__init__()
        self.in_shape, self.out_shape = in_shape, out_shape
        width, *sizes = in_shape
        channels = math.prod(out_shape[: -network.n_dims])
        self.layers = nn.Sequential(
            normalization(width),
            ACTIVATIONS[network.activation](),
            Upsampling(width, channels, tuple(sizes), out_shape[-network.n_dims :]),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Return (..., *out_shape)."""
        lead = maps.shape[: maps.ndim - len(self.in_shape)]
        out: Tensor = self.layers(maps.reshape(-1, *self.in_shape))
        return out.reshape(*lead, *self.out_shape)


def _relative(read: Function, expected: Conditional) -> Conditional:
    def law_given(above: Tensor) -> Distribution:
        p, own = expected(above), _law(read(above))
        return gaussian(p.mean + p.stddev * own.mean, p.stddev * own.stddev)

    return law_given


def _law(parameters: Tensor) -> Distribution:
    mean, raw = parameters.chunk(2, -1)  # (..., d) each
    return gaussian(mean, torch.exp(0.5 * bounded_log_variance(raw)))
