"""The ladder whose rows have classes, known or not."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from skvae import rng
from skvae.evidence import Batch, Evidence
from skvae.latent import Latent
from skvae.models.base import LatentModule
from skvae.models.chain import Chain, densities, gaussian, markov
from skvae.models.classes import ClassConditionalModule, ClassModel
from skvae.models.ladder import LadderModel, climbed, merged
from skvae.networks import Network

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["ClassLadderModule", "LadderM2"]


@dataclass(frozen=True)
class LadderM2(ClassModel, LadderModel, name="ladder_m2"):
    """A class y beside a ladder, p(y) p(z_L) … p(z_1 | z_2) p(x | z_1, y) with q(y | x) [1]_ [2]_.

    The classes are those of `M2`: known ones are given, unknown ones summed over, exactly. Given
    x and y, the levels are inferred as in `Ladder`, on features of x that a layer joins with the
    class. What p expects of the levels does not depend on y. The decoder sees z_1 and y. A flat z
    is [z_1, …, z_L, y], y as indicators; the prior is that of z_L.

    Parameters
    ----------
    n_classes : int
    class_prior : tuple of float or "learned"
        p(y); ``()`` is uniform.
    upper, hidden_layer_sizes : tuple of int or None
        As in `Ladder`. On the way up, the first layer is as wide as ``hidden_size``.
    hidden_size : int
        Width of the layer in which q(z_1, …, z_L | x, y) sees the class.
    activation : str
        Of that layer and of those between the levels, as in `networks.MLP`.
    batch_norm : bool
        Normalise the layers between the levels, over all rows and classes together.
    judge : networks.Network or None
        As in `M2`.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298
    .. [2] Sønderby et al., "Ladder Variational Autoencoders", 2016, arXiv:1602.02282
    """

    n_classes: int = 2
    class_prior: tuple[float, ...] | str = ()
    upper: tuple[int, ...] | None = None
    hidden_layer_sizes: tuple[int, ...] | None = None
    hidden_size: int = 256
    activation: str = "silu"
    batch_norm: bool = True
    judge: Network | None = None

    one_level: ClassVar[str] = "m2"

    def __post_init__(self) -> None:
        ClassModel.__post_init__(self)
        LadderModel.__post_init__(self)

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return ClassLadderModule(parts, self)

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of all levels and y together."""
        return Latent(super().latent(parts).width + self.n_classes, "mixed")


class ClassLadderModule(ClassConditionalModule):
    """The wiring of a ladder with classes."""

    def __init__(self, spec: "Assembly", model: LadderM2) -> None:
        super().__init__(spec, model)
        self.sizes = model.level_sizes(spec)
        self.d = sum(self.sizes)
        self.upward, self.evident, self.generative = model.layers(self.sizes, model.hidden_size)
        self.decoder = self._build_decoder(self.sizes[0] + model.n_classes)

    def prior_part(self, z: Tensor) -> Tensor:
        """Return the top level of z (..., d + C)."""
        return z[..., self.d - self.sizes[-1] : self.d]

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z_1, y) for [z_1, …, z_L, y] (..., d + C), batch shape (..., *event)."""
        return self._emit(torch.cat([z[..., : self.sizes[0]], z[..., self.d :]], -1))

    def _prior(self) -> Distribution:
        return Chain(self.prior(self.infer_prior_part), [*self.generative], self.sizes)

    def _laws(self, contexts: Tensor) -> Sequence[Distribution]:
        evident = climbed(contexts, self.upward, self.evident, self._body)  # (C, B, d_i) each
        return [
            merged(
                [gaussian(e.mean[y], e.stddev[y]) for e in evident], self.generative, self.sizes
            )
            for y in range(self.n_classes)
        ]

    def _of_pairs(
        self, pairs: Batch, classes: Tensor, contexts: Tensor, n_samples: int, noise: rng.Noise
    ) -> Evidence:
        expected = markov(self.generative).once().conditionals
        evident = climbed(contexts, self.upward, self.evident, self._body)
        levels, q = merged(evident, expected, self.sizes).descend((n_samples,), noise)
        prior = Chain(self.prior(self.infer_prior_part), expected, self.sizes)
        log_pz, log_qz, kl = densities(prior.laws(levels), q, levels)
        p = self._emit_of(levels[0], classes)  # what q drew, not p(z_1 | z_2)
        return Evidence(
            log_px=self._log_px(pairs, p, noise),
            log_pz=log_pz,
            log_qz=log_qz,
            kl=torch.cat(kl, -1),
        )
