"""How much a result depends on missing cells being missing at random: shift them, and see."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import ParameterError

if TYPE_CHECKING:
    from skvae.schema import Schema

__all__ = ["Sensitivity", "shifted"]

Array = NDArray[Any]

NUMERIC = ("real", "positive", "bounded")


@dataclass(frozen=True)
class Sensitivity:
    """A statistic for imputed cells that are shifted by δ standard deviations.

    Attributes
    ----------
    columns : tuple
        Names of the columns that are shifted, one at a time.
    deltas : tuple of float
    statistic : ndarray of float64, shape (len(columns), len(deltas))
    missing : ndarray of float64, shape (len(columns),)
        Share of the cells of each column that is missing.
    """

    columns: tuple[Any, ...]
    deltas: tuple[float, ...]
    statistic: NDArray[np.float64]
    missing: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """Return the columns of a long table, for ``pandas.DataFrame(...)`` and the like."""
        names = np.empty(len(self.columns), object)
        names[:] = self.columns
        return {
            "column": np.repeat(names, len(self.deltas)),
            "missing": np.repeat(self.missing, len(self.deltas)),
            "delta": np.tile(self.deltas, len(self.columns)),
            "statistic": self.statistic.ravel(),
        }

    def __str__(self) -> str:
        head = ["column", "missing", *(f"δ = {delta:g}" for delta in self.deltas)]
        rows = [
            [str(name), f"{share:.0%}", *(f"{value:.6g}" for value in values)]
            for name, share, values in zip(self.columns, self.missing, self.statistic, strict=True)
        ]
        widths = [max(map(len, cells)) for cells in zip(head, *rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
            for row in (head, *rows)
        )


def shifted(
    schema: Schema,
    table: Any,
    values: Array,
    filled: Array,
    deltas: Sequence[float],
    columns: Sequence[Any] | None,
    statistic: Callable[[Any], float] | None,
    completed: Callable[[Array], Any],
) -> Sensitivity:
    """Shift the imputed cells of one column after the other, and compute the statistic.

    Parameters
    ----------
    schema : Schema
    table : container
        With holes.
    values, filled : ndarray, shape (n, D)
        Its modelled columns, NaN where missing; and without holes.
    completed : callable
        From values (n, D) to the table that the statistic is computed from.
    """
    for delta in deltas:
        if not isinstance(delta, Real) or not math.isfinite(delta):
            raise ParameterError(f"deltas must be finite numbers; received {delta!r}.")
    missing = schema.missing(table)[:, list(schema.modelled)]  # (n, D)
    places = _places(schema, missing, columns)
    allowed = _allowed(schema, table, filled)
    figures = np.empty((len(places), len(deltas)))
    for i, j in enumerate(places):
        hidden = missing[:, j]
        known = values[~np.isnan(values[:, j]), j]
        spread = known.std() if len(known) else 0.0
        for k, delta in enumerate(deltas):
            moved = allowed.copy()
            moved[hidden, j] += delta * spread
            figures[i, k] = (
                np.nanmean(_allowed(schema, table, moved)[:, j])
                if statistic is None
                else statistic(completed(moved))
            )
    names = tuple(schema.columns[schema.modelled[j]].name for j in places)
    return Sensitivity(names, tuple(map(float, deltas)), figures, missing[:, places].mean(0))


def _allowed(schema: Schema, table: Any, values: Array) -> Array:
    """Return values (n, D) as the schema allows them in a table: rounded, and in bounds."""
    with warnings.catch_warnings():  # of unknown cells, which were told of before
        warnings.simplefilter("ignore")
        return schema.encode(schema.fill(table, values))


def _places(
    schema: Schema, missing: NDArray[np.bool_], columns: Sequence[Any] | None
) -> list[int]:
    """Return the columns of numbers that are asked for, by their number among the modelled."""
    own = [schema.columns[place] for place in schema.modelled]
    numeric = {column.name: j for j, column in enumerate(own) if column.kind in NUMERIC}
    if columns is None:
        return [j for j in numeric.values() if missing[:, j].any()]
    for name in columns:
        if name not in numeric:
            raise ParameterError(
                f"columns has {name!r}, which is no column of numbers; these are "
                f"{list(numeric)!r:.300}."
            )
    return [numeric[name] for name in columns]
