"""How a network that reads step after step is shown the values of one step, and what sums them up.

Numbers are centred and scaled, and codes are looked up in a table of vectors.
"""

import abc
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

__all__ = ["Numbers", "Reader", "Symbols"]


class Reader(nn.Module, abc.ABC):
    """Represents the values of one step, F cells in model units.

    Attributes
    ----------
    out_features : int
        How many numbers represent a step.
    """

    out_features: int

    @abc.abstractmethod
    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Represent x (..., F), and its mask if there is one, by (..., out_features).

        Hidden cells (mask False) become 0, whatever they hold.
        """

    def calibrate(self, values: Tensor) -> None:
        """Learn from the steps of the training data, (m, F), NaN where hidden."""

    def typical(self, cells: Distribution) -> Tensor:
        """Return one allowed value for each cell, (..., F): the mean by default."""
        mean: Tensor = cells.mean
        return mean

    def pool(self, weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum up values (..., F) and their weights, which broadcast to them: the weighted mean."""
        return sum_up(weighted)


class Numbers(Reader):
    """Shows numbers centred and scaled.

    Parameters
    ----------
    n_features : int
    logarithmic : bool
        Show log(1 + x): counts may be of any size.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, n_features: int, *, logarithmic: bool = False) -> None:
        super().__init__()
        self.out_features = n_features
        self.logarithmic = logarithmic
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def calibrate(self, values: Tensor) -> None:
        """Start from mean and standard deviation."""
        values = values.double()
        values = values.log1p() if self.logarithmic else values
        center = values.nanmean(0).nan_to_num()
        spread = (values - center).square().nanmean(0).sqrt().nan_to_num()
        self.center.copy_(center)
        self.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Represent x (..., F) by as many numbers."""
        if mask is not None:
            x = torch.where(mask, x, torch.zeros((), dtype=x.dtype))
        shown = ((x.log1p() if self.logarithmic else x) - self.center) / self.spread
        if mask is not None:
            shown = torch.where(mask, shown, torch.zeros((), dtype=x.dtype))
        return shown, mask


class Symbols(Reader):
    """Shows codes 0, ..., K − 1 as learned vectors, for each feature a table of its own.

    A vector has round(1.6 K^0.56) numbers, 64 at most: enough to tell the codes apart, and few
    beside K where there are many.
    """

    MAX_WIDTH = 64

    def __init__(self, n_features: int, n_categories: int) -> None:
        super().__init__()
        self.n_categories = n_categories
        self.width = min(self.MAX_WIDTH, round(1.6 * n_categories**0.56))
        self.out_features = n_features * self.width
        self.vectors = nn.Embedding(n_features * n_categories, self.width)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Represent codes x (..., F) by (..., F · width)."""
        if mask is not None:
            x = torch.where(mask, x, torch.zeros((), dtype=x.dtype))
        code = x.round().long().clamp(0, self.n_categories - 1)
        start = torch.arange(x.shape[-1], device=x.device) * self.n_categories
        vectors = self.vectors(code + start)  # (..., F, width)
        if mask is None:
            return vectors.flatten(-2), None
        mask = mask.unsqueeze(-1).expand(vectors.shape)
        return torch.where(mask, vectors, vectors.new_zeros(())).flatten(-2), mask.flatten(-2)

    def typical(self, cells: Distribution) -> Tensor:
        """Return the most probable codes; the mean of codes would be no code."""
        assert isinstance(cells, Categorical)
        return cells.logits.argmax(-1).to(cells.logits.dtype)

    def pool(self, weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Let the codes vote by weight."""
        votes: Tensor | None = None
        for value, weight in weighted:
            if votes is None:
                votes = value.new_zeros(*value.shape, self.n_categories)
            index = value.long().unsqueeze(-1)
            votes.scatter_add_(-1, index, weight.to(votes).expand_as(value).unsqueeze(-1))
        assert votes is not None
        return votes.argmax(-1).to(votes.dtype)


def sum_up(weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return Σ weight · value."""
    total: Tensor | None = None
    for value, weight in weighted:
        total = torch.zeros_like(value) if total is None else total
        total += weight * value
    assert total is not None
    return total
