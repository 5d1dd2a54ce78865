"""What q(y | x) learns beside its part in the bound."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from skvae.evidence import Batch, Evidence, Model
from skvae.penalties.base import Penalty, said_of
from skvae.rng import Noise
from skvae.spec import check_finite

__all__ = ["Supervised"]


@dataclass(frozen=True)
class Supervised(Penalty, name="supervised"):
    """−α log q(y | x) of rows whose class or target is known, as the mean over these [1]_.

    In the bound, q(y | x) has a part only where y is unknown. The paper's sum over rows, with
    α = 0.1 · N, is this mean with α = 0.1 beside a mean over all N rows.

    Parameters
    ----------
    weight : float
        α, in nats of a row's bound for one nat of log q(y | x).

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298, equation 9
    """

    weight: float = 0.1

    of_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self, "weight")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape ()."""
        rows = batch.guide or batch.labelled()
        if rows is None:
            return torch.zeros((), device=batch.x.device)
        return -self.weight * said_of("label", model, rows, self, noise).mean()
