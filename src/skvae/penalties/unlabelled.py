"""What q(y | x) learns from rows of unknown class, beside its part in the bound."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.augmentation import Affine, Augmentation, Erase, Shift, changed, check_images
from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.penalties.base import Penalty, said_of
from skvae.rng import Noise
from skvae.spec import Spec, check_finite

__all__ = ["Consistency", "PseudoLabels", "VirtualAdversarial"]


@dataclass(frozen=True)
class PseudoLabels(Penalty, name="pseudo_labels"):
    """−log q(ŷ | x) of rows of unknown class where q(ŷ | x) is large, ŷ the likeliest class [1]_.

    A mean over all rows of unknown class; rows that q is less sure of count as zero.

    Parameters
    ----------
    weight : float
    threshold : float
        Probability from which on q is believed.

    References
    ----------
    .. [1] Lee, "Pseudo-Label", 2013
    """

    weight: float = 1.0
    threshold: float = 0.95

    of_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        _check_share(self, "threshold")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape ()."""
        rows = unlabelled(batch)
        log_q = said_of("class", model, rows, self, noise)
        p, y = log_q.detach().exp().max(-1)
        nll = F.nll_loss(log_q, y, reduction="none")
        return self.weight * (nll * (p >= self.threshold)).mean()


@dataclass(frozen=True)
class Consistency(Penalty, name="consistency"):
    """−log q(ŷ | x″) of a strongly changed row, ŷ the class of a weakly changed one x′ [1]_.

    As `PseudoLabels`, but for two random changes of the same row, which keep its class: what q is
    sure of it must also say where that is harder. Where the class is known, ŷ is that.

    Parameters
    ----------
    weight : float
    threshold : float
        Probability of ŷ from which on it is believed.
    weak, strong : tuple of Augmentation

    References
    ----------
    .. [1] Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and
       Confidence", 2020, arXiv:2001.07685
    """

    weight: float = 1.0
    threshold: float = 0.95
    weak: tuple[Augmentation, ...] = (Shift(2),)
    strong: tuple[Augmentation, ...] = (Affine(), Erase())

    of_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        _check_share(self, "threshold")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape ()."""
        check_images((*self.weak, *self.strong), tuple(batch.x.shape[1:]))
        student = said_of("class", model, _changed(batch, self.strong, noise), self, noise)
        y = torch.full((len(batch.x),), -1, device=batch.x.device) if batch.y is None else batch.y
        unknown = y < 0
        sure = ~unknown
        if bool(unknown.any()):
            with torch.no_grad():
                seen = _changed(batch.rows(unknown), self.weak, noise)
                p, guess = said_of("class", model, seen, self, noise).exp().max(-1)
            y, sure = (
                y.masked_scatter(unknown, guess),
                sure.masked_scatter(unknown, p >= self.threshold),
            )
        return self.weight * (F.nll_loss(student, y, reduction="none") * sure).mean()


@dataclass(frozen=True)
class VirtualAdversarial(Penalty, name="virtual_adversarial"):
    """KL(q(y | x) || q(y | x + r)) for the small r that changes q(y | x) most [1]_.

    r is found by one step of the power method. No class need be known.

    Parameters
    ----------
    weight : float
    radius : float
        Length of r, in model units, for a row of one cell; times the root of the number of cells.
    probe : float
        Length of the first, random step, likewise.

    References
    ----------
    .. [1] Miyato et al., "Virtual Adversarial Training", 2018, arXiv:1704.03976
    """

    weight: float = 1.0
    radius: float = 0.1
    probe: float = 1e-3

    of_classes: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_finite(self, "weight", "radius", "probe")

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape ()."""
        log_q = said_of("class", model, batch, self, noise)
        fixed = log_q.detach()

        def kl(r: Tensor) -> Tensor:
            moved = said_of("class", model, replace(batch, x=batch.x + r), self, noise)
            return (fixed.exp() * (fixed - moved)).sum(-1)

        with torch.enable_grad():
            r = _of_length(self.probe, noise.normal((), batch.x)).requires_grad_()
            (steepest,) = torch.autograd.grad(kl(r).sum(), r)
        return self.weight * kl(_of_length(self.radius, steepest)).mean()


def unlabelled(batch: Batch) -> Batch:
    """Return the rows whose class is unknown, or all where there is none."""
    if batch.y is None or not bool((batch.y < 0).any()):
        return batch
    return batch.rows(batch.y < 0)


def _changed(batch: Batch, changes: tuple[Augmentation, ...], noise: Noise) -> Batch:
    x, mask = changed(batch.x, batch.mask, changes, noise)
    return replace(batch, x=x, mask=mask)


def _of_length(length: float, r: Tensor) -> Tensor:
    """Return directions (B, *event) with ``length`` in the mean over their cells."""
    flat = r.flatten(1)
    norm = flat.square().mean(1, keepdim=True).sqrt()
    tiny = torch.finfo(r.dtype).tiny
    return (length * flat / norm.clamp(min=tiny)).view(r.shape).detach()


def _check_share(spec: Spec, *names: str) -> None:
    for name in names:
        value = getattr(spec, name)
        if not 0 <= value <= 1:
            raise ParameterError(
                f"{type(spec).__name__}: {name} must be between 0 and 1; received {value!r}."
            )
