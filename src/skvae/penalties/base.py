"""What a penalty is."""

import abc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import Spec

__all__ = ["Beside", "Penalty", "directions", "said_of"]


@dataclass(frozen=True)
class Beside:
    """What the batches of a fit are to bring of a graph of neighbours.

    Attributes
    ----------
    n_neighbors : int
        Nearest rows that each is joined to.
    exaggeration : float, "auto" or None
        None for a neighbour of each row, `Batch.near`; otherwise, for its place on a map,
        `Batch.place`, how much more neighbours attract than in t-SNE.
    """

    n_neighbors: int
    exaggeration: float | Literal["auto"] | None = None


class Penalty(Spec, abc.ABC, family="penalty"):
    """A number that training makes small, next to an objective.

    ``of_classes`` says whether it is about q(y | x), so that it needs a model with classes, or
    targets, and rows of which these are known.
    """

    of_classes: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty, shape (); randomness comes from ``noise`` only.

        ``evidence`` is what the objective was computed from: the posterior and its draws need not
        be computed again.
        """

    def start(self, width: int) -> "Penalty":
        """Return what is called in every update of one training run, for z of ``width`` numbers.

        A penalty that learns something of its own returns an object that holds it, and moves that
        to the device and precision of the z that it sees.
        """
        return self

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of its own, trained along with those of the model."""
        return iter(())

    @property
    def beside(self) -> tuple[Beside, ...]:
        """What it asks of the batches of a fit."""
        return ()

    def objection(self, posterior: Posterior) -> str | None:
        """Return why this penalty cannot stand with a posterior, or None where it can."""
        return None


def directions(n_probes: int, z: Tensor, noise: Noise) -> Tensor:
    """Directions in the space of z (B, d) in which a Jacobian is measured, shape (n, B, d).

    Random ones v ~ N(0, I), for which E[‖J v‖²] = ‖J‖² (Hutchinson, 1989), or with ``n_probes=0``
    all d axes, whose sum is exact.
    """
    if n_probes:
        return noise.normal((n_probes,), z.detach())
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    return eye.unsqueeze(1).expand(-1, *z.shape)


def said_of(what: str, model: Model, batch: Batch, penalty: Penalty, noise: Noise) -> Tensor:
    """Return what a model says of labels.

    That is for ``"class"`` log q(y | x) of each, shape (B, C), and for ``"label"`` log q(y | x) of
    what is known of y, classes or targets, shape (B,).

    Raises
    ------
    ParameterError
        The model knows none.
    """
    own = getattr(model, f"log_{what}", None)
    if own is None:
        needed = {"class": "classes", "label": "classes or targets"}[what]
        raise ParameterError(
            f"{type(penalty).__name__} needs a model with {needed}, such as model='m2'."
        )
    log_q: Tensor = own(batch, noise)
    return log_q
