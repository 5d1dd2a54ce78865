"""The ladder variational autoencoder."""

import abc
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

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
    conditional,
    constant,
    detached,
    gaussian,
)
from skvae.networks import check_activation, dense_layers
from skvae.posteriors.gaussian import DiagonalModule
from skvae.spec import check_sizes

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["Ladder", "LadderModel", "LadderModule", "climbed", "merged", "product"]


class LadderModel(ChainModel, abc.ABC):
    """A ladder of levels, whatever else there is. The fields are those of `Ladder`."""

    one_level: ClassVar[str]  # the name of what is left without upper levels
    upper: tuple[int, ...] | None
    hidden_layer_sizes: tuple[int, ...] | None
    activation: str
    batch_norm: bool

    def __post_init__(self) -> None:
        name = type(self).__name__
        for field in ("upper", "hidden_layer_sizes"):
            if (value := getattr(self, field)) is not None:
                object.__setattr__(self, field, check_sizes(value, f"{name}: {field}"))
        check_activation(self.activation)
        n_upper = 2 if self.upper is None else len(self.upper)
        if not n_upper:
            raise ParameterError(
                f"{name}: upper must hold at least one level; received (). With one level in "
                f"all, use model={self.one_level!r}."
            )
        if self.hidden_layer_sizes and len(self.hidden_layer_sizes) != n_upper:
            raise ParameterError(
                f"{name}: hidden_layer_sizes must be () or hold {n_upper} widths, one for each "
                f"upper level; received {self.hidden_layer_sizes!r}."
            )

    def level_sizes(self, parts: "Assembly") -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""
        return self.sizes(parts.n_components)

    def sizes(self, n_components: int) -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""
        upper = self.upper or (max(1, n_components // 2), max(1, n_components // 4))
        return (n_components, *upper)

    def layers(
        self, sizes: Sequence[int], features: int
    ) -> tuple[nn.ModuleList, nn.ModuleList, nn.ModuleList]:
        """Return the layers for levels of these sizes on so many features of x.

        Returns
        -------
        upward, evident : ModuleList of L
            From the features of a level to those of the next, and what is evident from them: a
            Gaussian for each level, z_1 first.
        generative : ModuleList of L - 1
            p(z_i | z_{i+1}), that of z_1 first.
        """
        upward, generative = nn.ModuleList([nn.Identity()]), nn.ModuleList()
        evident = nn.ModuleList([DiagonalModule(sizes[0], features)])
        kind = self.activation, self.batch_norm
        for i, (below, size) in enumerate(itertools.pairwise(sizes)):
            if self.hidden_layer_sizes is None:
                widths: tuple[int, ...] = (max(features // 2, 2 * size),)
            else:
                widths = self.hidden_layer_sizes[i : i + 1]
            upward.append(nn.Sequential(*dense_layers((features, *widths), *kind)))
            generative.append(conditional(size, widths, below, *kind))
            features = (features, *widths)[-1]
            evident.append(DiagonalModule(size, features))
        return upward, evident, generative


@dataclass(frozen=True)
class Ladder(LadderModel, name="ladder"):
    """A ladder of latent vectors, p(z_L) p(z_{L-1} | z_L) … p(z_1 | z_2) p(x | z_1) [1]_.

    On the way up, x gives evidence about every level, a Gaussian for each. On the way down it is
    combined with what the model expects there: q(z_i | z_{i+1}, x) is the product of that Gaussian
    and p(z_i | z_{i+1}), weighted by their precisions. The decoder sees z_1. A flat z is
    [z_1, …, z_L], the level next to x first; its "mean" is the path of means from the top.

    The prior is that of z_L. The bodies of the network belong to the lowest level; the paper
    normalises all layers, as does ``network=MLP((512, 512), batch_norm=True)``, and lets the KL
    term rise slowly, as does ``ELBO(warmup=...)``.

    Parameters
    ----------
    upper : tuple of int or None
        Sizes of the levels above the lowest one, which has ``n_components``; None adds two, each
        half as large as the one below.
    hidden_layer_sizes : tuple of int or None
        Width of the layer below each upper level, on the way up and on the way down; ``()`` makes
        everything between the levels linear, None halves from level to level (but at least twice
        the level's size).
    activation : str
        As in `networks.MLP`.
    batch_norm : bool
        Normalise these layers.

    References
    ----------
    .. [1] Sønderby et al., "Ladder Variational Autoencoders", 2016, arXiv:1602.02282
    """

    upper: tuple[int, ...] | None = None
    hidden_layer_sizes: tuple[int, ...] | None = None
    activation: str = "silu"
    batch_norm: bool = True

    one_level: ClassVar[str] = "vae"

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return LadderModule(parts, self)


class LadderModule(ChainModule):
    """The wiring of a ladder."""

    def __init__(self, spec: "Assembly", ladder: Ladder) -> None:
        super().__init__(spec, ladder.sizes(spec.n_components))
        features = self.encoder.out_features
        self.upward, self.evident, self.generative = ladder.layers(self.sizes, features)
        self.decoder = self._build_decoder(self.sizes[0])

    def _decoded(self, levels: Sequence[Tensor], path: Path) -> Distribution:
        return self._emit(levels[0])

    def _posterior(self, batch: Batch, path: Path) -> tuple[Chain, Chain]:
        evident = climbed(self._features(batch), self.upward, self.evident, self._body)
        fixed = [constant(law) for law in evident]
        return (
            merged(evident, path.conditionals, self.sizes),
            merged(fixed, [detached(module) for module in self.generative], self.sizes),
        )


def climbed(
    features: Tensor,
    upward: Iterable[nn.Module],
    evident: Iterable[nn.Module],
    body: Callable[[nn.Module, Tensor], Tensor],
) -> list[Distribution]:
    """Return what is evident about each level, z_1 first, from features (..., B, H) of x.

    ``body`` runs a layer.
    """
    laws: list[Distribution] = []
    for layers, head in zip(upward, evident, strict=True):
        features = body(layers, features)
        laws.append(head(features))
    return laws


def merged(
    evident: Sequence[Distribution], expected: Iterable[Conditional], sizes: Sequence[int]
) -> Chain:
    """Return q: what is evident about each level times what is expected given the one above."""
    *lower, top = evident
    return Chain(top, list(map(_product_with, lower, expected)), sizes)


def product(a: Distribution, b: Distribution) -> Distribution:
    """Return the normalised product of two Gaussian densities; the precisions add up."""
    variance_a, variance_b = a.variance, b.variance
    total = variance_a + variance_b
    loc = b.mean + (a.mean - b.mean) * (variance_b / total)
    return gaussian(loc, a.stddev * b.stddev * total.rsqrt())


def _product_with(evident: Distribution, expected: Conditional) -> Conditional:
    return lambda above: product(evident, expected(above))
