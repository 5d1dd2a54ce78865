"""How networks are shown the values of one step or of some columns, and what sums them up.

Numbers are centred and scaled, and codes are looked up in a table of vectors.
"""

import abc
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution

__all__ = ["Numbers", "OneHot", "Reader", "Symbols", "log_of_counts", "log_of_positive"]


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


def log_of_counts(x: Tensor) -> Tensor:
    """Return log(1 + x); what is below 0 counts as 0."""
    return x.clamp(min=0).log1p()


def log_of_positive(x: Tensor) -> Tensor:
    """Return log x; what is not above 0 counts as the smallest number that is."""
    return x.clamp(min=torch.finfo(x.dtype).tiny).log()


class Numbers(Reader):
    """Shows numbers centred and scaled.

    Parameters
    ----------
    n_features : int
    scale : callable or None
        What is applied to them first, where they may be of any size.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, n_features: int, scale: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.out_features = n_features
        self.scale = scale
        self.register_buffer("center", torch.zeros(n_features))
        self.register_buffer("spread", torch.ones(n_features))

    def calibrate(self, values: Tensor) -> None:
        """Start from mean and standard deviation."""
        values = self._scaled(values.double())
        center = values.nanmean(0).nan_to_num()
        spread = (values - center).square().nanmean(0).sqrt().nan_to_num()
        self.center.copy_(center)
        self.spread.copy_(torch.where(spread > 1e-6, spread, 1.0))

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Represent x (..., F) by as many numbers."""
        if mask is not None:
            x = torch.where(mask, x, torch.zeros((), dtype=x.dtype))
        shown = (self._scaled(x) - self.center) / self.spread
        if mask is not None:
            shown = torch.where(mask, shown, torch.zeros((), dtype=x.dtype))
        return shown, mask

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self.scale is None else self.scale(x)


class Codes(Reader):
    """Shows codes 0, ..., K − 1 as vectors of ``width`` numbers each."""

    def __init__(self, n_features: int, n_categories: int, width: int) -> None:
        super().__init__()
        self.n_categories, self.width = n_categories, width
        self.out_features = n_features * width

    @abc.abstractmethod
    def _vectors(self, code: Tensor) -> Tensor:
        """Return the vectors of codes (..., F), shape (..., F, width)."""

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Represent codes x (..., F) by (..., F · width)."""
        if mask is not None:
            x = torch.where(mask, x, torch.zeros((), dtype=x.dtype))
        vectors = self._vectors(x.round().long().clamp(0, self.n_categories - 1))
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


class Symbols(Codes):
    """Shows codes as learned vectors, for each feature a table of its own.

    A vector has round(1.6 K^0.56) numbers, 64 at most: enough to tell the codes apart, and few
    beside K where there are many.
    """

    MAX_WIDTH = 64

    def __init__(self, n_features: int, n_categories: int) -> None:
        width = min(self.MAX_WIDTH, round(1.6 * n_categories**0.56))
        super().__init__(n_features, n_categories, width)
        self.vectors = nn.Embedding(n_features * n_categories, width)

    def _vectors(self, code: Tensor) -> Tensor:
        start = torch.arange(code.shape[-1], device=code.device) * self.n_categories
        vectors: Tensor = self.vectors(code + start)
        return vectors


class OneHot(Codes):
    """Shows codes as 1 for the one that it is and 0 for the others, minus their frequencies.

    A hidden cell, which becomes 0, then looks like an average one.
    """

    share: Tensor

    def __init__(self, n_features: int, n_categories: int) -> None:
        super().__init__(n_features, n_categories, n_categories)
        self.register_buffer("share", torch.zeros(n_features, n_categories))

    def calibrate(self, values: Tensor) -> None:
        """Note the share of each code in the cells that are observed."""
        code = torch.arange(self.n_categories, device=values.device)
        counts = (values.unsqueeze(-1) == code).sum(0)  # (F, K)
        self.share.copy_(counts / counts.sum(-1, keepdim=True).clamp(min=1))

    def _vectors(self, code: Tensor) -> Tensor:
        ones = nn.functional.one_hot(code, self.n_categories)  # (..., F, K)
        return ones.to(self.share) - self.share


def sum_up(weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return Σ weight · value."""
    total: Tensor | None = None
    for value, weight in weighted:
        total = torch.zeros_like(value) if total is None else total
        total += weight * value
    assert total is not None
    return total
