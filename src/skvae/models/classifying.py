"""What every generative model of rows with classes is: a class y beside the latent vector."""

import abc

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae import rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.models.base import LatentModule

__all__ = ["UNKNOWN", "ClassifyingModule", "check_class_prior", "known", "logits_of"]

UNKNOWN = -1


class ClassifyingModule(LatentModule):
    """A wiring with q(y | x). A flat z is [z, y, …]: y as indicators, then what else there is.

    Attributes
    ----------
    n_classes : int
    d : int
        Size of z without y.
    class_logits : Parameter, shape (n_classes,)
        Of p(y), up to a constant.
    """

    n_classes: int
    d: int
    class_logits: nn.Parameter

    @abc.abstractmethod
    def log_class(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x), shape (B, C).

        With noise, what stands between x and y is drawn, as training needs it; without, the
        result is deterministic.
        """

    def log_label(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x) of classes that are all known, shape (B,)."""
        assert batch.y is not None
        return -F.nll_loss(self.log_class(batch, noise), batch.y, reduction="none")

    def prior_part(self, z: Tensor) -> Tensor:
        """Return z without y."""
        return z[..., : self.d]

    def of_class(self, z: Tensor, y: int, noise: rng.Noise | None = None) -> Tensor:
        """Return [z, y, …] for z (..., d) and the number of a class.

        What else there is is drawn from its law given these, or without noise at its mean.
        """
        code = F.one_hot(torch.tensor(y, device=z.device), self.n_classes).to(z.dtype)
        return self.further(torch.cat([z, code.expand(*z.shape[:-1], -1)], -1), noise)

    def further(self, above: Tensor, noise: rng.Noise | None) -> Tensor:
        """Return [z, y, …] for [z, y]."""
        return above

    def pairs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Rows and classes that go together: all classes, one after the other, or the known."""
        size, device = len(batch.x), batch.x.device
        possible = torch.ones(self.n_classes, size, dtype=torch.bool, device=device)
        if batch.y is not None:
            each = torch.arange(self.n_classes, device=device)[:, None]
            possible = (batch.y == each) | ~known(batch)
        classes, rows = possible.nonzero(as_tuple=True)
        return rows, classes

    def weigh(self, batch: Batch, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of the classes in the bound, and what y itself adds to the KL.

        Where the class is unknown, these are q(y | x), which ``log_q`` (..., B, C) is the
        logarithm of, and its KL to p(y); where it is known, an indicator and −log p(y). Shapes
        (..., B, C) and (..., B).
        """
        weight, log_p = log_q.exp(), torch.log_softmax(self.class_logits, -1)
        is_known = known(batch)[:, None]  # (B, 1)
        if batch.y is not None:
            indicator = F.one_hot(batch.y.clamp(min=0), self.n_classes).to(weight.dtype)
            weight = torch.where(is_known, indicator, weight)
        return weight, (weight * (torch.where(is_known, 0.0, log_q) - log_p)).sum(-1)


def known(batch: Batch) -> Tensor:
    """Whether the class of each row is known, shape (B,)."""
    if batch.y is None:
        return torch.zeros(len(batch.x), dtype=torch.bool, device=batch.x.device)
    return batch.y != UNKNOWN


def check_class_prior(name: str, given: tuple[float, ...] | str, n_classes: int) -> None:
    """Raise ParameterError unless p(y) is "learned", () for a uniform one, or positive shares."""
    if given == "learned":
        return
    if (
        isinstance(given, str)
        or len(given) not in (0, n_classes)
        or not all(p > 0 for p in given)
        or (given and abs(sum(given) - 1) > 1e-6)
    ):
        raise ParameterError(
            f"{name}: class_prior must be 'learned', () for a uniform one, or "
            f"{n_classes} positive probabilities that sum to 1; received {given!r}."
        )


def logits_of(given: tuple[float, ...] | str, n_classes: int) -> nn.Parameter:
    """Return the logits of p(y), shape (C,), that have a gradient if they are to be learned."""
    p = torch.tensor(given) if given and given != "learned" else torch.ones(n_classes)
    return nn.Parameter(p.log(), requires_grad=given == "learned")
