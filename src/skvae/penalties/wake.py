"""Training the encoder on rows of which it sees less than the model does."""

from dataclasses import dataclass

import torch
from torch import Tensor

from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.penalties.base import Penalty
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import check_finite

__all__ = ["WakePhase"]


@dataclass(frozen=True)
class WakePhase(Penalty, name="wake_phase"):
    """Teach q(z | x) patterns of holes that the training rows do not have.

    Of each row a random share of the observed cells is hidden, uniform between 0 and ``hide``, and
    the encoder alone is trained to make the draws of the whole row likely, weighted by importance:
    −Σ w̃ log q(z | what is left), the wake phase for q of [1]_ on rows with holes. The decoder is
    trained on all that is observed, as without it.

    Parameters
    ----------
    weight : float
    hide : float
        In (0, 1].

    References
    ----------
    .. [1] Bornschein and Bengio, "Reweighted Wake-Sleep", 2015, arXiv:1406.2751
    """

    weight: float = 1.0
    hide: float = 0.8

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        if not 0 < self.hide <= 1:
            raise ParameterError(f"WakePhase: hide must be in (0, 1]; received {self.hide!r}.")

    def objection(self, posterior: Posterior) -> str | None:
        """There must be a density."""
        return None if posterior.has_density else "the draws of the whole row need a density"

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        x = batch.x
        share = self.hide * noise.uniform((), x.new_empty(len(x), *[1] * (x.ndim - 1)))
        seen = noise.uniform((), x) >= share  # (B, *event)
        q = model.infer(Batch(x, seen if batch.mask is None else seen & batch.mask))
        weight = torch.softmax(evidence.log_w.detach(), 0)  # (K, B)
        log_q = q.log_prob(evidence.draws[0].detach())  # (K, B)
        return -self.weight * (weight * log_q).sum(0).mean()
