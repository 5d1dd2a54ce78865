"""The one value that stands for a cell of a table, and what is averaged to find it.

Over draws of z, means and probabilities may be averaged, codes may not. So each summary has
statistics, which are averaged first, and a value that is made of their average.
"""

import abc
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution

__all__ = ["Mean", "Median", "MostProbable", "Summary", "YesOrNo"]


class Summary(abc.ABC):
    """From distributions of cells to one value for each.

    Attributes
    ----------
    width : int
        How many statistics k a cell has.
    """

    width: int

    @abc.abstractmethod
    def statistics(self, cells: Distribution) -> Tensor:
        """Return what may be averaged, (..., F, k), of cells with batch shape (..., F)."""

    @abc.abstractmethod
    def value(self, statistics: Tensor) -> Tensor:
        """Return the values (..., F) of averaged statistics (..., F, k)."""


class Mean(Summary):
    """E[x], for numbers."""

    width = 1

    def statistics(self, cells: Distribution) -> Tensor:
        """Return the means."""
        mean: Tensor = cells.mean
        return mean.unsqueeze(-1)

    def value(self, statistics: Tensor) -> Tensor:
        """Return the means."""
        return statistics.squeeze(-1)


class YesOrNo(Mean):
    """1 where it is more probable than 0."""

    def value(self, statistics: Tensor) -> Tensor:
        """Return 0 or 1."""
        return (statistics.squeeze(-1) > 0.5).to(statistics)


@dataclass(frozen=True)
class MostProbable(Summary):
    """The most probable of K codes; their mean would be no code.

    Parameters
    ----------
    width : int
        K.
    """

    width: int

    def statistics(self, cells: Distribution) -> Tensor:
        """Return the probabilities of the codes."""
        assert isinstance(cells, Categorical)
        probs: Tensor = cells.probs
        return probs

    def value(self, statistics: Tensor) -> Tensor:
        """Return the codes."""
        return statistics.argmax(-1).to(statistics)


class Median(MostProbable):
    """The median of K codes that have an order: the first that half of them do not exceed."""

    def value(self, statistics: Tensor) -> Tensor:
        """Return the codes."""
        below = torch.cumsum(statistics, -1)[..., :-1]  # P(x <= k), but for the last, which is 1
        return (below < 0.5).sum(-1).to(statistics)
