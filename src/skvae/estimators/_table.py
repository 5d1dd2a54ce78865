"""From what the columns of a table are to the parts of a model, and its rows for training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skvae.data import Transform, mean_of_observed
from skvae.estimators._fit_rows import InMemory
from skvae.exceptions import ParameterError, did_you_mean
from skvae.likelihoods import (
    Bernoulli,
    Categorical,
    Columns,
    Likelihood,
    NegativeBinomial,
    Ordinal,
    StudentT,
)
from skvae.likelihoods.base import Standardize

if TYPE_CHECKING:
    from skvae.schema import Column, Schema

__all__ = ["TableRows", "table_likelihood", "varies"]

Array = NDArray[Any]

MANY = 32  # categories, from which on their logits have a rank

NUMBER = StudentT("per_cell")
NUMBERS: dict[str, Likelihood] = {
    "real": NUMBER,
    "positive": NUMBER,
    "bounded": NUMBER,
    "datetime": NUMBER,
    "count": NegativeBinomial(),
}


def _default(column: Column) -> Likelihood:
    """Return the likelihood of a column by its kind."""
    if column.kind in NUMBERS:
        return NUMBERS[column.kind]
    k = len(column.levels)
    if k == 2:
        return Bernoulli()
    if column.kind == "ordinal":
        return Ordinal(k)
    return Categorical(k, rank=MANY // 2 if k > MANY else None)


def table_likelihood(schema: Schema, choices: Mapping[Any, Any] | None) -> Columns:
    """Return a likelihood for each modelled column.

    Parameters
    ----------
    schema : Schema
    choices : mapping of str to str or Likelihood, or None
        By name of a column or by kind; the name wins.

    Raises
    ------
    ParameterError
        A key is neither a modelled column nor a kind, or a likelihood does not describe its
        column.
    """
    choices = dict(choices or {})
    columns = [schema.columns[j] for j in schema.modelled]
    kinds = {column.kind for column in columns}
    known = {*kinds, *NUMBERS, "binary", "categorical", "ordinal"}
    names = {column.name for column in columns}
    for key in choices:
        if key not in names and key not in known:
            raise ParameterError(
                f"likelihoods has the key {key!r}, which is neither a column that is modelled nor "
                f"a kind of column.{did_you_mean(str(key), map(str, [*names, *known]))}"
            )
    parts = []
    for column in columns:
        choice = choices.get(column.name, choices.get(column.kind))
        own = (
            _default(column)
            if choice is None
            else Likelihood.resolve(choice, argument=f"likelihoods[{column.name!r}]")
        )
        parts.append(own)
    return Columns(tuple(parts))


class TableRows(InMemory):
    """Rows of a table with holes.

    Parameters
    ----------
    X : ndarray of float64, shape (n, D)
        NaN where a cell is missing.
    seed : int
    whole : ndarray or None
        The table that the rows were drawn from, whose scaling they take.
    """

    def __init__(self, X: Array, seed: int, whole: Array | None = None) -> None:
        super().__init__(X, seed)
        self.whole = X if whole is None else whole

    def transform(self, mode: Standardize) -> Transform:
        """Return the map to model units."""
        return Transform.fit(self.whole, mode)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of the observed cells, shape (D,)."""
        return mean_of_observed(self.whole)

    def resampled(self, seed: int) -> TableRows:
        """Return a bootstrap sample of the rows."""
        chosen = np.random.default_rng(seed).integers(len(self.X), size=len(self.X))
        return TableRows(self.X[chosen], self.seed, self.whole)


def varies(values: Array) -> NDArray[np.bool_]:
    """Return which columns of values (n, D) have two different ones, (D,)."""
    return np.asarray(np.fmax.reduce(values, 0) > np.fmin.reduce(values, 0))  # False for NaN
