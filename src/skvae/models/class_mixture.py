"""Rows whose latent vectors have a Gaussian for each class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.exceptions import ParameterError
from skvae.models.base import LatentModule
from skvae.models.classes import M2, ClassModule

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["ClassMixture", "ClassMixtureModule"]


@dataclass(frozen=True)
class ClassMixture(M2, name="class_mixture"):
    """p(y) p(h | y) p(x | h) with h | y ~ N(m_y, diag s_y²): a Gaussian for each class [1]_.

    It is `M2` whose decoder sees h = m_y + s_y z alone, with z ~ N(0, I) as there; m and s are
    learned. A flat z is [z, y]: z says where a row lies within its class. As the decoder is not
    told the class, rows of one class must lie together.

    Parameters
    ----------
    n_classes, class_prior, hidden_size, activation, judge
        As of `M2`.

    References
    ----------
    .. [1] Jiang et al., "Variational Deep Embedding", 2017, arXiv:1611.05148, there without labels
    """

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return ClassMixtureModule(parts, self)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if parts.posterior.space != "real":
            raise ParameterError(
                f"model={self.name!r} does not go with posterior={parts.posterior.name!r}: the "
                "classes move and stretch z, for which it must be real numbers."
            )


class ClassMixtureModule(ClassModule):
    """The wiring of M2 whose decoder sees z at the place of its class."""

    def __init__(self, spec: "Assembly", model: ClassMixture) -> None:
        super().__init__(spec, model)
        # Apart from the start: between classes that are alike, unlabelled rows could not choose.
        self.place = nn.Parameter(torch.randn(model.n_classes, self.d))
        self.raw_scale = nn.Parameter(torch.zeros(model.n_classes, self.d))

    @property
    def spread(self) -> Tensor:
        """Standard deviations of h in each class, shape (C, d), 1 at the start."""
        return F.softplus(self.raw_scale) / F.softplus(torch.zeros(()))

    def _width(self, of_z: int) -> int:
        return of_z

    def _seen(self, shown: Tensor, code: Tensor) -> Tensor:
        return code @ self.place + (code @ self.spread) * shown
