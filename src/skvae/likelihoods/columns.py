"""Tables: another likelihood for each column."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from skvae import distributions
from skvae.exceptions import ParameterError
from skvae.likelihoods.base import Likelihood, LikelihoodModule, Mode, Support
from skvae.likelihoods.readers import sum_up
from skvae.likelihoods.real import Gaussian
from skvae.likelihoods.summaries import Summary
from skvae.rng import Noise

__all__ = ["Cells", "ColumnSupport", "Columns", "ColumnsModule"]

GAUSSIAN = Gaussian()


@dataclass(frozen=True)
class ColumnSupport(Support):
    """Another rule for each column; the inherited fields are the loosest of all.

    Parameters
    ----------
    columns : tuple of Support
    """

    columns: tuple[Support, ...] = ()

    @classmethod
    def of(cls, likelihoods: Iterable[Likelihood]) -> Self:
        """Return the rules of likelihoods, one for each column."""
        columns = tuple(replace(one.support, likelihood=one.name) for one in likelihoods)
        return cls(
            low=min(one.low for one in columns),
            high=max(one.high for one in columns),
            integral=any(one.integral for one in columns),
            columns=columns,
        )

    def forbids(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where X (n, D) breaks the rule of its column.

        Raises
        ------
        ParameterError
            There are more or fewer columns than rules.
        """
        check_width(len(self.columns), X.shape[1:])
        return np.stack([one.forbids(X[:, j]) for j, one in enumerate(self.columns)], -1)

    def at(self, column: int) -> Support:
        """Return the rule for one column."""
        return self.columns[column]


@dataclass(frozen=True)
class Columns(Likelihood, name="columns"):
    """Tables of mixed columns: a likelihood for each cell of a flat row (D,).

    Parameters
    ----------
    columns : tuple of Likelihood
        p(x_j | z) of column j, each one that describes single cells. Columns with equal ones are
        computed together, and what these share, such as the σ of ``Gaussian(scale="global")``,
        is theirs together.
    """

    cellwise: ClassVar[bool] = False

    columns: tuple[Likelihood, ...] = (GAUSSIAN,)

    def __post_init__(self) -> None:
        if not isinstance(self.columns, tuple | list) or not self.columns:
            raise ParameterError(
                "Columns: columns must be a tuple with the likelihood of each column; "
                f"received {self.columns!r}."
            )
        for j, one in enumerate(self.columns):
            if not isinstance(one, Likelihood) or not one.cellwise:
                raise ParameterError(
                    f"Columns: columns[{j}] must be the likelihood of a cell, such as Gaussian(); "
                    f"received {one!r}."
                )
        object.__setattr__(self, "columns", tuple(self.columns))

    @property
    def support(self) -> Support:
        """The rule of each column."""
        return ColumnSupport.of(self.columns)

    @property
    def standardize(self) -> tuple[Mode, ...]:
        """The mode of each column."""
        return tuple(cast(Mode, one.standardize) for one in self.columns)

    @property
    def groups(self) -> dict[Likelihood, list[int]]:
        """The different likelihoods, and the columns that have them."""
        groups: dict[Likelihood, list[int]] = {}
        for j, one in enumerate(self.columns):
            groups.setdefault(one, []).append(j)
        return groups

    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape.

        Raises
        ------
        ParameterError
            The shape is not that of a row with these columns.
        """
        check_width(len(self.columns), event_shape)
        return ColumnsModule(event_shape, self)


def check_width(n_columns: int, event_shape: tuple[int, ...]) -> None:
    """Check that a row is one of a table with so many columns."""
    if tuple(event_shape) != (n_columns,):
        raise ParameterError(
            f"Columns: columns has {n_columns} likelihoods, so that a row must have the shape "
            f"({n_columns},); received rows of shape {tuple(event_shape)}."
        )


class Group(nn.Module):
    """Columns with the same likelihood.

    Parameters
    ----------
    likelihood : Likelihood
    columns : list of int
        Their places in a row.
    """

    index: Tensor

    def __init__(self, likelihood: Likelihood, columns: list[int]) -> None:
        super().__init__()
        self.cells = likelihood.build((len(columns),))
        self.reader = likelihood.column_reader(len(columns))
        self.summary = likelihood.summary
        self.register_buffer("index", torch.tensor(columns), persistent=False)

    def of(self, x: Tensor) -> Tensor:
        """Return these columns of x (..., D)."""
        return x.index_select(-1, self.index)


class ColumnsModule(LikelihoodModule):
    """Groups of columns, whose parameters and statistics lie behind each other.

    Networks see what the reader of each group shows, in the order of the groups.
    """

    groups: Sequence[Group]
    order: Tensor

    def __init__(self, event_shape: tuple[int, ...], spec: Columns) -> None:
        super().__init__()
        self.event_shape = event_shape
        groups = spec.groups
        modules = nn.ModuleList(Group(one, columns) for one, columns in groups.items())
        self.groups = cast(Sequence[Group], modules)
        self.param_shape = (sum(self._sizes),)
        places = [j for columns in groups.values() for j in columns]
        order = sorted(range(len(places)), key=places.__getitem__)
        self.register_buffer("order", torch.tensor(order), persistent=False)

    @property
    def _sizes(self) -> list[int]:
        return [math.prod(group.cells.param_shape) for group in self.groups]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """As many numbers as the readers show."""
        return (sum(group.reader.out_features for group in self.groups),)

    def forward(self, h: Tensor) -> "Cells":
        """Return the cells' distributions, h: (..., P)."""
        parts = tuple(
            (group.index, group.cells(part.unflatten(-1, group.cells.param_shape)))
            for group, part in zip(self.groups, h.split(self._sizes, -1), strict=True)
        )
        return Cells(parts, tuple(group.summary for group in self.groups), self.order)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Let each group learn from its columns of the training data."""
        unit = unit.expand(self.event_shape)
        for group in self.groups:
            own = None if rows is None else group.of(rows)
            group.cells.calibrate(group.of(mean), group.of(unit), own)
            if own is not None:
                group.reader.calibrate(own)

    def adapt(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Distribution:
        """Fit each group's distributions to its columns of the batch."""
        assert isinstance(p, Cells)
        parts = []
        for group, (index, cells) in zip(self.groups, p.parts, strict=True):
            seen = None if mask is None else group.of(mask)
            parts.append((index, group.cells.adapt(cells, group.of(x), seen)))
        return Cells(tuple(parts), p.summaries, p.order)

    def represent(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return x (B, D) and its mask as the readers show them, (B, W)."""
        pairs = [
            group.reader(group.of(x), None if mask is None else group.of(mask))
            for group in self.groups
        ]
        masks = [seen for _, seen in pairs if seen is not None]
        shown = torch.cat([one for one, _ in pairs], -1)
        return shown, torch.cat(masks, -1) if masks else None

    def statistics(self, p: Distribution) -> Tensor:
        """Return means of numbers and probabilities of codes, (..., S)."""
        assert isinstance(p, Cells)
        return torch.cat([one.flatten(-2) for one in p.statistics], -1)

    def pool(self, weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum up statistics and weights, and return the values (B, D) that follow from them."""
        widths = [group.summary.width for group in self.groups]
        sizes = [k * len(group.index) for k, group in zip(widths, self.groups, strict=True)]
        values = [
            group.summary.value(part.unflatten(-1, (-1, k)))
            for group, k, part in zip(
                self.groups, widths, sum_up(weighted).split(sizes, -1), strict=True
            )
        ]
        return torch.cat(values, -1).index_select(-1, self.order)


class Cells(Distribution):
    """Independent cells of a table, of a different kind in each column.

    Parameters
    ----------
    parts : tuple of (Tensor, Distribution)
        Places of some columns, and their distributions with batch shape (..., number of columns).
    summaries : tuple of Summary
        What stands for a cell of each part.
    order : Tensor, shape (D,)
        Where each column is once the parts lie behind each other.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self,
        parts: tuple[tuple[Tensor, Distribution], ...],
        summaries: tuple[Summary, ...],
        order: Tensor,
    ) -> None:
        *lead, _ = parts[0][1].batch_shape
        super().__init__(torch.Size([*lead, len(order)]), validate_args=False)
        self.parts, self.summaries, self.order = parts, summaries, order

    def joined(self, values: Iterable[Tensor]) -> Tensor:
        """Join values of the parts to (..., D)."""
        return torch.cat(list(values), -1).index_select(-1, self.order)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of each cell of (..., D)."""
        return self.joined(
            cells.log_prob(value.index_select(-1, index)) for index, cells in self.parts
        )

    @property
    def statistics(self) -> list[Tensor]:
        """What of each part may be averaged over draws of z, (..., number of columns, k)."""
        return [
            summary.statistics(cells)
            for summary, (_, cells) in zip(self.summaries, self.parts, strict=True)
        ]

    @property
    def mean(self) -> Tensor:
        """E[x] of numbers, the most probable code and the median of ordered ones, (..., D)."""
        both = zip(self.summaries, self.statistics, strict=True)
        return self.joined(summary.value(statistics) for summary, statistics in both)


@distributions.draw.register
def _(distribution: Cells, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.joined(
        distributions.draw(cells, shape, noise) for _, cells in distribution.parts
    )
