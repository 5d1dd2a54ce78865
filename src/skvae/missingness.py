"""Which cells are observed given what they hold, p(s | x): data that are not missing at random.

Without it, a model takes cells to be missing at random given those that are observed, and what is
missing says nothing beyond that.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from skvae.distributions import bounded
from skvae.exceptions import ParameterError, did_you_mean
from skvae.likelihoods import Likelihood
from skvae.likelihoods.columns import Cells
from skvae.quadrature import Tilted, nodes
from skvae.spec import Spec

__all__ = ["Missingness", "MissingnessModule", "SelfMasking"]

Sign = Literal["any", "high", "low"]


class MissingnessModule(nn.Module, abc.ABC):
    """p(s | x) for rows of one width."""

    @abc.abstractmethod
    def forward(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Tensor:
        """Log p(which cells are observed | z, what they hold), in nats, shape (K, B).

        Parameters
        ----------
        p : Distribution, batch shape (K, B, D)
            p(x | z), one factor per cell.
        x : Tensor, shape (B, D)
            Any finite number where hidden.
        mask : Tensor of bool, shape (B, D), or None
            True where a cell is observed; None means that all are.
        """

    @abc.abstractmethod
    def conditioned(self, p: Distribution) -> Distribution:
        """Return p(x | z, hidden) from p(x | z), one factor per cell."""

    def calibrate(self, rows: Tensor) -> None:
        """Learn from training rows (n, D), NaN where hidden; does nothing by default."""


class Missingness(Spec, abc.ABC, family="missingness"):
    """Choice of p(s | x)."""

    @abc.abstractmethod
    def build(self, likelihood: Likelihood, event_shape: tuple[int, ...]) -> MissingnessModule:
        """Return the module for one event shape.

        Raises
        ------
        ParameterError
            It does not go with the likelihood or the shape.
        """

    @abc.abstractmethod
    def of_table(
        self, likelihood: Likelihood, places: tuple[int, ...], holes: tuple[int, ...]
    ) -> Self | None:
        """Return the choice for the modelled columns of a table, or None if it concerns none.

        Parameters
        ----------
        likelihood : Likelihood
            Of the modelled columns.
        places : tuple of int
            Where these are in the table.
        holes : tuple of int
            Modelled columns with missing cells, by their number among the modelled ones.

        Raises
        ------
        ParameterError
            It names a column that it cannot describe.
        """


@dataclass(frozen=True)
class SelfMasking(Missingness, name="self_masking"):
    """Whether a cell is missing depends on what it holds [1]_.

    logit p(missing_j | x_j) = a_j (x_j − b_j), with x_j as the model sees it (standardised) and
    both numbers learned; |a_j| stays below 20. The expectation of that probability over a hidden
    cell is computed by quadrature, where [1]_ takes draws.

    Parameters
    ----------
    columns : tuple of int or None
        Columns that hide themselves, by their places in the table; None is each one with holes.
        They must hold real numbers (Gaussian, Student's t or Laplace). All other columns are
        taken to be missing at random.
    sign : {"any", "high", "low"}
        What goes missing: large values (a > 0), small ones (a < 0), or what the data suggest.
        To know it helps more than anything else, for the data hardly tell.

    References
    ----------
    .. [1] Ipsen, Mattei and Frellsen, "not-MIWAE: Deep Generative Modelling with Missing not at
       Random Data", 2021, arXiv:2006.12871
    """

    columns: tuple[int, ...] | None = None
    sign: Sign = "any"

    def __post_init__(self) -> None:
        if self.sign not in get_args(Sign):
            raise ParameterError(
                f"SelfMasking: sign={self.sign!r} is not known."
                f"{did_you_mean(str(self.sign), get_args(Sign))} "
                f"Known: {', '.join(map(repr, get_args(Sign)))}."
            )
        if self.columns is None:
            return
        if not isinstance(self.columns, tuple | list) or not (
            self.columns
            and all(type(j) is int and j >= 0 for j in self.columns)
            and len(set(self.columns)) == len(self.columns)
        ):
            raise ParameterError(
                "SelfMasking: columns must be None or a tuple of distinct integers >= 0; "
                f"received {self.columns!r}."
            )
        object.__setattr__(self, "columns", tuple(self.columns))

    def build(self, likelihood: Likelihood, event_shape: tuple[int, ...]) -> MissingnessModule:
        """Return the module for flat rows (D,).

        Raises
        ------
        ParameterError
            Rows are not flat, or a column does not hold real numbers.
        """
        if likelihood.sequential or len(event_shape) != 1:
            raise ParameterError(
                f"SelfMasking describes the columns of a table, not {likelihood.name!r} cells of "
                f"the shape {tuple(event_shape)}."
            )
        real = [j for j in range(event_shape[0]) if _is_real(likelihood, j)]
        columns = real if self.columns is None else sorted(self.columns)
        if not columns or not set(columns) <= set(real):
            raise ParameterError(
                f"SelfMasking: columns={self.columns!r} must be columns of real numbers; with "
                f"likelihood={likelihood.name!r} these are {real}."
            )
        return SelfMaskingModule(columns, self.sign)

    def of_table(
        self, likelihood: Likelihood, places: tuple[int, ...], holes: tuple[int, ...]
    ) -> Self | None:
        """Return the choice with columns by their number among the modelled ones.

        Raises
        ------
        ParameterError
            A column does not hold real numbers.
        """
        if self.columns is None:
            own = tuple(j for j in holes if _is_real(likelihood, j))
            return self.replace(columns=own) if own else None
        real = [place for j, place in enumerate(places) if _is_real(likelihood, j)]
        if odd := sorted(set(self.columns) - set(real)):
            raise ParameterError(
                f"SelfMasking: columns {odd} do not hold real numbers; those that do: {real}."
            )
        return self.replace(columns=tuple(places.index(j) for j in self.columns))


def _is_real(likelihood: Likelihood, column: int) -> bool:
    support = likelihood.support.at(column)
    return support.low == -torch.inf and support.high == torch.inf and not support.integral


def _positive(raw: Tensor) -> Tensor:
    return F.softplus(raw)


def _negative(raw: Tensor) -> Tensor:
    return -F.softplus(raw)


SLOPES: dict[Sign, Callable[[Tensor], Tensor]] = {
    "any": torch.Tensor.clone,
    "high": _positive,
    "low": _negative,
}


class SelfMaskingModule(MissingnessModule):
    """A logistic regression of "missing" on its own column, for n of the columns.

    It is written with an intercept c = −a b, which unlike b has a meaning at a = 0.
    """

    MAX_SLOPE = 20.0
    GAIN = 10.0  # steps of Adam are of one size for all weights, and these have a long way to go

    column: Tensor

    def __init__(self, columns: list[int], sign: Sign) -> None:
        super().__init__()
        self.sign = sign
        self.register_buffer("column", torch.tensor(columns), persistent=False)
        self.raw_slope = nn.Parameter(torch.zeros(len(columns)))
        self.raw_intercept = nn.Parameter(torch.zeros(len(columns)))

    @property
    def slope(self) -> Tensor:
        """The numbers a, shape (n,)."""
        return bounded(SLOPES[self.sign](self.GAIN * self.raw_slope), self.MAX_SLOPE)

    @property
    def intercept(self) -> Tensor:
        """The numbers −a b, shape (n,)."""
        return self.GAIN * self.raw_intercept

    @torch.no_grad()
    def calibrate(self, rows: Tensor) -> None:
        """Start from how often each column is missing in the rows (m, D)."""
        missing = rows.index_select(-1, self.column).isnan().sum(0)
        rate = (missing + 0.5) / (len(rows) + 1)
        self.raw_intercept.copy_(torch.logit(rate) / self.GAIN)

    def _log_missing(self, which: Tensor) -> Callable[[Tensor], Tensor]:
        """Return log p(missing | x) of some columns, from x (..., m) to (..., m)."""
        slope, intercept = self.slope[which], self.intercept[which]
        return lambda x: F.logsigmoid(slope * x + intercept)

    def _places(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return which of some columns are described, and by which parameters."""
        within, which = (index.unsqueeze(-1) == self.column).nonzero(as_tuple=True)
        return within, which

    def forward(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Tensor:
        """Log p(s | z, x), shape (K, B)."""
        own = x.index_select(-1, self.column)
        observed = F.logsigmoid(-(self.slope * own + self.intercept))  # (B, n)
        if mask is None:
            return observed.sum(-1).expand(p.batch_shape[:-1])
        hidden, order = [], []
        for index, cells in _parts(p):
            within, which = self._places(index)
            if len(which):
                grid = nodes(cells).at(within)
                hidden.append(grid.log_expectation(self._log_missing(which)))
                order.append(which)
        unseen = torch.cat(hidden, -1).index_select(-1, torch.cat(order).argsort())  # (K, B, n)
        return torch.where(mask.index_select(-1, self.column), observed, unseen).sum(-1)

    def conditioned(self, p: Distribution) -> Distribution:
        """Return p(x | z, hidden), ∝ p(x | z) p(missing | x)."""
        parts = tuple((index, self._tilted(index, cells)) for index, cells in _parts(p))
        return Cells(parts, p.summaries, p.order) if isinstance(p, Cells) else parts[0][1]

    def _tilted(self, index: Tensor, cells: Distribution) -> Distribution:
        within, which = self._places(index)
        return Tilted(cells, within, self._log_missing(which)) if len(which) else cells


def _parts(p: Distribution) -> tuple[tuple[Tensor, Distribution], ...]:
    """Return distributions of columns with their places: one, unless columns differ in kind."""
    if isinstance(p, Cells):
        return p.parts
    every = torch.arange(p.batch_shape[-1], device=p.mean.device)
    return ((every, p),)
