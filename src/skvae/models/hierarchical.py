"""The variational autoencoder with two stochastic layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae.evidence import Batch
from skvae.models.base import LatentModule
from skvae.models.chain import (
    Chain,
    ChainModel,
    ChainModule,
    Conditional,
    conditional,
    constant,
    detached,
)
from skvae.networks import check_activation
from skvae.posteriors.gaussian import DiagonalModule
from skvae.spec import at_least, check_sizes

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["Hierarchical", "HierarchicalModule"]


@dataclass(frozen=True)
class Hierarchical(ChainModel, name="hierarchical"):
    """Two latent vectors, p(z_2) p(z_1 | z_2) p(x | z_1, z_2) and q(z_2 | x) q(z_1 | x, z_2) [1]_.

    The decoder sees both. A flat z is [z_1, z_2]; the prior is that of z_2, for which the paper
    takes a VampPrior.

    Parameters
    ----------
    upper : int or None
        Size of z_2; None for as many as z_1 has, ``n_components``.
    hidden_layer_sizes : tuple of int
        Widths of the layers between the levels, in p(z_1 | z_2) and in q(z_1 | x, z_2), which
        sees the encoder's features; ``()`` makes both linear.
    activation : str
        As in `networks.MLP`.
    batch_norm : bool
        Normalise these layers.

    References
    ----------
    .. [1] Tomczak and Welling, "VAE with a VampPrior", 2018, arXiv:1705.07120, section 3
    """

    upper: int | None = None
    hidden_layer_sizes: tuple[int, ...] = (256,)
    activation: str = "silu"
    batch_norm: bool = False

    def __post_init__(self) -> None:
        if self.upper is not None:
            at_least(self.upper, 1, "Hierarchical: upper")
        sizes = check_sizes(self.hidden_layer_sizes, "Hierarchical: hidden_layer_sizes")
        object.__setattr__(self, "hidden_layer_sizes", sizes)
        check_activation(self.activation)

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return HierarchicalModule(parts, self)

    def sizes(self, n_components: int) -> tuple[int, ...]:
        """Return the sizes of z_1 and z_2."""
        return (n_components, self.upper or n_components)


class HierarchicalModule(ChainModule):
    """The wiring with two latent vectors, both of which the decoder sees."""

    def __init__(self, spec: "Assembly", choice: Hierarchical) -> None:
        super().__init__(spec, choice.sizes(spec.n_components))
        lower, upper = self.sizes
        features = self.encoder.out_features
        layers = (choice.hidden_layer_sizes, lower, choice.activation, choice.batch_norm)
        self.top = DiagonalModule(upper, features)
        self.lower = conditional(features + upper, *layers)
        self.generative.append(conditional(upper, *layers))
        self.decoder = self._build_decoder(lower + upper)

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""
        return self._emit(z)

    def _posterior(self, batch: Batch, generative: Sequence[Conditional]) -> tuple[Chain, Chain]:
        features = self._features(batch)  # (B, context)
        top = self.top(features)
        return (
            Chain(top, [_given(features, self.lower)], self.sizes),
            Chain(constant(top), [_given(features.detach(), detached(self.lower))], self.sizes),
        )


def _given(features: Tensor, lower: Conditional) -> Conditional:
    return lambda z: lower(torch.cat([features.expand(*z.shape[:-1], -1), z], -1))
