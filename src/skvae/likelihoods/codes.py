"""Categories as whole numbers 0, ..., K − 1 in one cell: categorical and ordinal."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skvae import families
from skvae.likelihoods.base import (
    Likelihood,
    LikelihoodModule,
    Support,
    at_least,
    bounded,
)
from skvae.likelihoods.readers import OneHot, Reader, Symbols
from skvae.likelihoods.summaries import Median, MostProbable, Summary

__all__ = ["Categorical", "Ordinal"]


def codes(n_categories: int) -> Support:
    """0, ..., n_categories − 1."""
    return Support(
        0.0,
        n_categories - 1.0,
        integral=True,
        advice=(
            f"Number the categories from 0 to n_categories - 1 = {n_categories - 1}, "
            "or set n_categories to their number."
        ),
    )


def log_frequencies(rows: Tensor, n_categories: int) -> Tensor:
    """Logs of the share of each category in rows (n, *event), shape (K, *event).

    One extra row spread over all categories keeps those finite that do not occur.
    """
    counts = torch.stack([(rows == k).sum(0) for k in range(n_categories)]).double()
    counts += 1 / n_categories
    return (counts / counts.sum(0)).log()


@dataclass(frozen=True)
class Categorical(Likelihood, name="categorical"):
    """Categories without order, one decoded logit for each.

    Parameters
    ----------
    n_categories : int
        Number of categories K of every feature.
    rank : int or None
        For many categories: the decoder puts out this many numbers e for each feature, of which
        the K logits are a learned linear function. The network then needs e / K of the weights.
    """

    MOST_SHOWN: ClassVar[int] = 32  # as they are; more of them as learned vectors

    n_categories: int = 2
    rank: int | None = None

    def __post_init__(self) -> None:
        at_least(self.n_categories, 2, "Categorical: n_categories")
        if self.rank is not None:
            at_least(self.rank, 1, "Categorical: rank")

    @property
    def support(self) -> Support:
        """0, ..., K − 1."""
        return codes(self.n_categories)

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        if self.rank is None:
            return CategoricalModule(event_shape, self.n_categories)
        return LowRankCategoricalModule(event_shape, self.n_categories, self.rank)

    def reader(self, n_features: int) -> Reader:
        """Codes are shown as learned vectors."""
        return Symbols(n_features, self.n_categories)

    def column_reader(self, n_features: int) -> Reader:
        """Codes of few categories are shown as indicators."""
        shown = OneHot if self.n_categories <= self.MOST_SHOWN else Symbols
        return shown(n_features, self.n_categories)

    @property
    def summary(self) -> Summary:
        """The most probable code."""
        return MostProbable(self.n_categories)


class CategoricalModule(LikelihoodModule):
    """Categorical on logits, relative to the marginal log-probabilities."""

    base: Tensor

    def __init__(self, event_shape: tuple[int, ...], n_categories: int) -> None:
        super().__init__()
        self.event_shape = event_shape
        self.param_shape = (n_categories, *event_shape)
        self.register_buffer("base", torch.full(self.param_shape, -math.log(n_categories)))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the frequencies in the training rows."""
        if rows is not None:
            self.base.copy_(log_frequencies(rows, len(self.base)))

    def forward(self, h: Tensor) -> families.Codes:
        """Return the cells' distributions, h: (..., K, *event)."""
        return families.Codes((h + self.base).movedim(-1 - len(self.event_shape), -1))


class LowRankCategoricalModule(CategoricalModule):
    """Categorical whose logits are W h, with a matrix W for each cell."""

    def __init__(self, event_shape: tuple[int, ...], n_categories: int, rank: int) -> None:
        super().__init__(event_shape, n_categories)
        self.param_shape = (rank, *event_shape)
        # Rows of length 1 on average: logits start about as large as the h of a full one.
        self.weight = nn.Parameter(torch.randn(n_categories, rank, *event_shape) / rank**0.5)

    def forward(self, h: Tensor) -> families.Codes:
        """Return the cells' distributions, h: (..., e, *event)."""
        axis = -len(self.event_shape)
        logits = torch.einsum(
            "...ed,ked->...kd", h.flatten(axis), self.weight.flatten(axis)
        )  # (..., K, D)
        return super().forward(logits.unflatten(-1, self.event_shape))


@dataclass(frozen=True)
class Ordinal(Likelihood, name="ordinal"):
    """Categories with an order: P(x <= k | z) = σ(c_k − h), learned c_0 < c_1 < ... per feature.

    The proportional-odds model (McCullagh, 1980): one decoded number h says how high on the scale
    a cell is, whatever the number of categories.

    Parameters
    ----------
    n_categories : int
        Number of categories K of every feature; two are ``"bernoulli"``.
    """

    n_categories: int = 5

    def __post_init__(self) -> None:
        at_least(self.n_categories, 3, "Ordinal: n_categories")

    @property
    def support(self) -> Support:
        """0, ..., K − 1."""
        return codes(self.n_categories)

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""
        return OrdinalModule(event_shape, self.n_categories)

    @property
    def summary(self) -> Summary:
        """The median code."""
        return Median(self.n_categories)


class OrdinalModule(LikelihoodModule):
    """Cumulative logits; the first cut point is fixed, since the decoder's bias can shift all.

    The gaps between cut points are learned within a factor of 1,000 of what the marginal says.
    """

    first: Tensor
    log_gaps: Tensor

    def __init__(self, event_shape: tuple[int, ...], n_categories: int) -> None:
        super().__init__()
        self.event_shape = self.param_shape = event_shape
        self.n_categories = n_categories
        self.register_buffer("first", torch.zeros(event_shape))
        self.register_buffer("log_gaps", torch.zeros(n_categories - 2, *event_shape))
        self.raw_gaps = nn.Parameter(torch.zeros(n_categories - 2, *event_shape))
        uniform = torch.full((n_categories, *event_shape), -math.log(n_categories))
        self._start_at(uniform.double())

    def _start_at(self, log_frequencies: Tensor) -> None:
        share = log_frequencies.exp()
        below = share.cumsum(0)[:-1]
        above = share.flip(0).cumsum(0).flip(0)[1:]  # not 1 − below, which may round to 0
        cuts = below.log() - above.log()
        self.first.copy_(cuts[0])
        self.log_gaps.copy_(cuts.diff(dim=0).log())

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Start at the frequencies in the training rows."""
        if rows is not None:
            self._start_at(log_frequencies(rows, self.n_categories))

    def forward(self, h: Tensor) -> families.Codes:
        """Return the cells' distributions, h: (..., *event)."""
        gaps = torch.exp(self.log_gaps + bounded(self.raw_gaps, math.log(1e3)))  # (K − 2, *event)
        steps = torch.cat([self.first.unsqueeze(0), gaps]).movedim(0, -1)  # (*event, K − 1)
        logits = steps.cumsum(-1) - h.unsqueeze(-1)  # (..., *event, K − 1)
        inside = families.log_sigmoid_difference(logits[..., 1:], gaps.movedim(0, -1))
        ends = F.logsigmoid(logits[..., :1]), F.logsigmoid(-logits[..., -1:])
        return families.Codes(torch.cat([ends[0], inside, ends[1]], -1))
