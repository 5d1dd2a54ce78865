"""The ladder variational autoencoder."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

__all__ = ["Ladder", "LadderModule", "product"]


@dataclass(frozen=True)
class Ladder(ChainModel, name="ladder"):
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

    def __post_init__(self) -> None:
        for field in ("upper", "hidden_layer_sizes"):
            if (value := getattr(self, field)) is not None:
                object.__setattr__(self, field, check_sizes(value, f"Ladder: {field}"))
        check_activation(self.activation)
        n_upper = 2 if self.upper is None else len(self.upper)
        if not n_upper:
            raise ParameterError(
                "Ladder: upper must hold at least one level; received (). With one level in all, "
                "use model='vae'."
            )
        if self.hidden_layer_sizes and len(self.hidden_layer_sizes) != n_upper:
            raise ParameterError(
                f"Ladder: hidden_layer_sizes must be () or hold {n_upper} widths, one for each "
                f"upper level; received {self.hidden_layer_sizes!r}."
            )

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return LadderModule(parts, self)

    def sizes(self, n_components: int) -> tuple[int, ...]:
        """Return the sizes of the levels, that next to x first."""
        upper = self.upper or (max(1, n_components // 2), max(1, n_components // 4))
        return (n_components, *upper)


class LadderModule(ChainModule):
    """The wiring of a ladder."""

    def __init__(self, spec: "Assembly", ladder: Ladder) -> None:
        super().__init__(spec, ladder.sizes(spec.n_components))
        norm, activation = ladder.batch_norm, ladder.activation
        features = self.encoder.out_features
        self.upward = nn.ModuleList([nn.Identity()])
        self.evident = nn.ModuleList([DiagonalModule(self.sizes[0], features)])
        for i, (below, size) in enumerate(itertools.pairwise(self.sizes)):
            if ladder.hidden_layer_sizes is None:
                widths: tuple[int, ...] = (max(features // 2, 2 * size),)
            else:
                widths = ladder.hidden_layer_sizes[i : i + 1]
            up = dense_layers((features, *widths), activation, norm)
            self.upward.append(nn.Sequential(*up))
            self.generative.append(conditional(size, widths, below, activation, norm))
            features = (features, *widths)[-1]
            self.evident.append(DiagonalModule(size, features))
        self.decoder = self._build_decoder(self.sizes[0])

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z_1) for z (..., d), batch shape (..., *event), one factor per cell."""
        return self._emit(z[..., : self.sizes[0]])

    def _posterior(self, batch: Batch, generative: Sequence[Conditional]) -> tuple[Chain, Chain]:
        features = self._features(batch)
        evident: list[Distribution] = []
        for upward, head in zip(self.upward, self.evident, strict=True):
            features = self._body(upward, features)
            evident.append(head(features))
        fixed = [constant(law) for law in evident]
        return (
            self._merged(evident, generative),
            self._merged(fixed, [detached(module) for module in self.generative]),
        )

    def _merged(self, evident: list[Distribution], expected: Sequence[Conditional]) -> Chain:
        *lower, top = evident
        return Chain(top, list(map(_product_with, lower, expected)), self.sizes)


def product(a: Distribution, b: Distribution) -> Distribution:
    """Return the normalised product of two Gaussian densities; the precisions add up."""
    variance_a, variance_b = a.variance, b.variance
    total = variance_a + variance_b
    loc = b.mean + (a.mean - b.mean) * (variance_b / total)
    return gaussian(loc, a.stddev * b.stddev * total.rsqrt())


def _product_with(evident: Distribution, expected: Conditional) -> Conditional:
    return lambda above: product(evident, expected(above))
