"""Codes of neighbours that stay near each other: a map of the rows."""

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError, did_you_mean
from skvae.penalties.base import Beside, Penalty
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import at_least, check_finite

__all__ = ["Neighbors", "curve", "tsne_loss", "umap_loss"]

Kind = Literal["umap", "tsne"]

BLUR = 1e-3  # added to r², for the slope of r^(2b) is infinite at 0; umap-learn adds as much
FIRST_SCALE = 4.0
PACE = 10.0  # of the scale beside weights: were it slower, means would leave N(0, I) in its place


@dataclass(frozen=True)
class Neighbors(Penalty, name="neighbors"):
    """Rows that are neighbours in the data stay so in the posterior means: a map.

    In training, each row of a batch brings one of its neighbours, drawn in proportion to the
    edges of UMAP's fuzzy graph [1]_ of the training rows; what it is held apart from are the
    other rows of the batch. Rows are only seen through the encoder, so that the model places new
    ones as it places those of `fit`.

    The term is about posterior means, since these are the map that `transform` gives; how wide
    q(z | x) is remains a matter of the bound. Distances on the map are those of the means times a
    factor that is learned along with the weights: maps are tens of units wide, and the prior is
    not. Held-out rows are judged without the term. Of several processes, each holds apart the
    rows of its own part of a batch.

    Parameters
    ----------
    kind : {"umap", "tsne"}
        ``"umap"``: the cross-entropy of parametric UMAP [2]_, in expectation over all negatives
        that could be drawn from the batch. ``"tsne"``: InfoNC-t-SNE [3]_, the log-probability of
        picking the neighbour out of it and the other rows of the batch, by the Cauchy kernel of
        t-SNE. It comes nearer to t-SNE the larger the batches are.
    n_neighbors : int
        Nearest rows of each that count as its neighbours. More show coarser structure.
    weight : float
        Of the term, which is of the order of 1 for each row, beside a bound of hundreds of nats.
    min_dist : float
        For ``"umap"``: how near neighbours are on the map; less makes tighter clusters.
    n_negative : float
        For ``"umap"``: how many other rows each pair of neighbours is held apart from.

    References
    ----------
    .. [1] McInnes, Healy and Melville, "UMAP", 2018, arXiv:1802.03426
    .. [2] Sainburg, McInnes and Gentner, "Parametric UMAP", 2021, arXiv:2009.12981
    .. [3] Damrich et al., "From t-SNE to UMAP with contrastive learning", 2022, arXiv:2206.01816
    """

    kind: Kind = "tsne"
    n_neighbors: int = 15
    weight: float = 1000.0
    min_dist: float = 0.1
    n_negative: float = 5.0

    def __post_init__(self) -> None:
        check_finite(self, "weight", "min_dist", "n_negative")
        at_least(self.n_neighbors, 2, "Neighbors: n_neighbors")
        if self.min_dist >= 3:
            raise ParameterError(
                f"Neighbors: min_dist must be below 3, the reach of its curve; received "
                f"{self.min_dist!r}."
            )
        if self.kind not in get_args(Kind):
            hint = did_you_mean(str(self.kind), get_args(Kind))
            raise ParameterError(
                f"Neighbors: kind={self.kind!r} is not known.{hint} Known: 'umap', 'tsne'."
            )

    @property
    def beside(self) -> tuple[Beside, ...]:
        """A neighbour of each row."""
        return (Beside(self.n_neighbors),)

    def objection(self, posterior: Posterior) -> str | None:
        """Distances between means must be distances between codes."""
        if posterior.space == "one_hot":
            return "its codes are categories, between which there are no distances"
        return None

    def start(self, width: int) -> Penalty:
        """Return the penalty with a scale of the map to learn."""
        return NeighborsRun(self)

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Refuse: there is no scale yet."""
        raise ParameterError(
            "Neighbors learns the scale of the map: call what `start(width)` returns instead."
        )


class NeighborsRun(Penalty):
    """One training run of `Neighbors`."""

    def __init__(self, spec: Neighbors) -> None:
        self.spec = spec
        self.slow = nn.Parameter(torch.tensor(math.log(FIRST_SCALE) / PACE))

    def parameters(self) -> Iterator[nn.Parameter]:
        """What the scale follows from."""
        return iter((self.slow,))

    @property
    def scale(self) -> Tensor:
        """Units of the map in one of z."""
        return (PACE * self.slow).exp()

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty; a batch of one row has none.

        Raises
        ------
        ParameterError
            The batch brings no neighbours.
        """
        if batch.near is None:
            raise ParameterError(
                "Neighbors needs batches that bring neighbours: wrap the source of the rows in "
                "guides.Neighboring."
            )
        q = evidence.posterior or model.infer(batch)
        scale = self.scale.to(q.mean)
        y, near = scale * q.mean, scale * model.infer(batch.near).mean  # (B, d)
        if len(y) == 1:
            return torch.zeros_like(near.sum())
        if self.spec.kind == "tsne":
            return self.spec.weight * tsne_loss(y, near)
        shape = curve(self.spec.min_dist)
        return self.spec.weight * umap_loss(y, near, *shape, self.spec.n_negative)


@functools.cache
def curve(min_dist: float) -> tuple[float, float]:
    """Return a and b of v(r) = 1 / (1 + a r^(2b)), the curve of UMAP for a spread of 1 [1]_.

    It is fitted by least squares to 1 up to ``min_dist`` and exp(min_dist − r) beyond.

    References
    ----------
    .. [1] McInnes, Healy and Melville, "UMAP", 2018, arXiv:1802.03426, definition 11
    """
    from scipy.optimize import curve_fit

    r = np.linspace(0, 3, 300)  # as umap-learn does, so that values agree
    wanted = np.minimum(1.0, np.exp(min_dist - r))
    (a, b), _ = curve_fit(lambda r, a, b: 1 / (1 + a * r ** (2 * b)), r, wanted)
    return float(a), float(b)


def umap_loss(y: Tensor, near: Tensor, a: float, b: float, n_negative: float) -> Tensor:
    """Return −log v(y, near) − n_negative · E[log(1 − v(y, y′))], y′ another row; a mean over B.

    Parameters
    ----------
    y, near : Tensor, shape (B, d)
        Rows on the map, and a neighbour of each.
    a, b : float
        Of v(r) = 1 / (1 + a r^(2b)).
    n_negative : float
    """

    def log_odds(r2: Tensor) -> Tensor:  # of not being neighbours
        return math.log(a) + b * (r2 + BLUR).log()

    attraction = F.softplus(log_odds((y - near).square().sum(-1))).mean()
    between = F.softplus(-log_odds(_squared(y)))  # (B, B)
    n = len(y)
    repulsion = (between.sum() - between.trace()) / (n * (n - 1))
    return attraction + n_negative * repulsion


def tsne_loss(y: Tensor, near: Tensor) -> Tensor:
    """Return −log k(y, near) / (k(y, near) + Σ k(y, y′)) over the other rows y′; a mean over B.

    k(r) = 1 / (1 + r²). This is InfoNC-t-SNE with the batch as negatives.

    Parameters
    ----------
    y, near : Tensor, shape (B, d)
        Rows on the map, and a neighbour of each.
    """
    own = -torch.log1p((y - near).square().sum(-1))  # (B,)
    others = -torch.log1p(_squared(y))
    others = others.masked_fill(torch.eye(len(y), dtype=torch.bool, device=y.device), -math.inf)
    every = torch.cat([own.unsqueeze(1), others], 1)  # (B, 1 + B)
    return (torch.logsumexp(every, 1) - own).mean()


def _squared(y: Tensor) -> Tensor:
    """Return squared distances between all rows (B, d), shape (B, B)."""
    return (y.unsqueeze(1) - y).square().sum(-1)
