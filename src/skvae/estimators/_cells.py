"""What is known of each missing cell of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from skvae.conditional import Sampler
    from skvae.estimators._members import Drawn, Members
    from skvae.schema import Schema

__all__ = ["CellDistribution", "by_row", "describe", "quantiles_of"]

Array = NDArray[Any]


@dataclass(frozen=True)
class CellDistribution:
    """p(cell | observed cells of its row) of the missing cells of a table, row by row.

    Attributes
    ----------
    row : ndarray of int, shape (n,)
    column : ndarray of object, shape (n,)
        Names.
    mean, std : ndarray of float64, shape (n,)
        What `VAEImputer.transform` expects, and how far the cell may be from it, in data units;
        dates in days since 1970-01-01. NaN for categories.
    quantile : ndarray of float64, shape (n, q)
        NaN for categories without order; for ordered ones, numbers of levels.
    levels_of_quantile : tuple of float
        The q probabilities.
    probability : ndarray of object, shape (n,)
        For categories, a dict from each level to its probability; None for numbers.
    """

    row: NDArray[np.intp]
    column: NDArray[np.object_]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    quantile: NDArray[np.float64]
    levels_of_quantile: tuple[float, ...]
    probability: NDArray[np.object_]
    position: NDArray[np.intp] = field(repr=False)
    ends: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.row)

    def to_dict(self) -> dict[str, Any]:
        """Return the columns of a long table, for ``pandas.DataFrame(...)`` and the like."""
        quantiles = {
            f"quantile_{q:g}": self.quantile[:, i] for i, q in enumerate(self.levels_of_quantile)
        }
        own = {"row": self.row, "column": self.column, "mean": self.mean, "std": self.std}
        return own | quantiles | {"probability": self.probability}


def describe(
    schema: Schema,
    members: Members | None,
    values: Array,
    missing: NDArray[np.bool_],
    quantiles: tuple[float, ...],
    sampler: Sampler,
    seed: int,
) -> CellDistribution:
    """Describe the missing cells of values (n, D) by weighted draws.

    Parameters
    ----------
    missing : ndarray of bool, shape (n, D)
        Of the modelled columns.
    quantiles : tuple of float
    """
    row, position = np.nonzero(missing)
    n = len(row)
    columns = [schema.columns[j] for j in schema.modelled]
    mean, std = np.full(n, np.nan), np.full(n, np.nan)
    found, ends = np.full((n, len(quantiles)), np.nan), np.full((n, len(quantiles)), np.nan)
    probability = np.full(n, None, object)
    todo = np.flatnonzero(missing.any(1))
    first = np.searchsorted(row, np.arange(len(values) + 1))  # cells of a row lie together
    for parts in members.drawn(values[todo], sampler, seed) if members else ():
        assert members is not None
        for i, draws, weight in by_row(parts):  # (K, D), (K,)
            for cell in range(first[todo[i]], first[todo[i] + 1]):
                j = position[cell]
                column, (x, w) = columns[j], members.law(j, draws[:, j], weight)
                if column.levels:
                    share = np.bincount(x.astype(int), w, len(column.levels))
                    probability[cell] = dict(zip(column.levels, share.tolist(), strict=True))
                    ends[cell] = share.argmax()
                    if column.kind != "ordinal":
                        continue
                else:
                    mean[cell] = members.guess(j, draws[:, j], weight)
                    std[cell] = np.sqrt(w @ (x - mean[cell]) ** 2)
                found[cell] = ends[cell] = quantiles_of(x, w, quantiles)
    names = np.empty(n, object)
    names[:] = [columns[j].name for j in position]
    return CellDistribution(
        row, names, mean, std, found, tuple(quantiles), probability, position, ends
    )


def by_row(parts: list[Drawn]) -> Any:
    """Yield the number of each row with all its draws (K, D) and their weights (K,)."""
    places: dict[int, list[tuple[Drawn, int]]] = {}
    for part in parts:
        for i, r in enumerate(part.rows):
            places.setdefault(int(r), []).append((part, i))
    for r, own in sorted(places.items()):
        draws = np.concatenate([part.values[i] for part, i in own])
        yield r, draws, np.concatenate([part.weight[i] for part, i in own])


def quantiles_of(x: Array, weight: Array, levels: tuple[float, ...]) -> Array:
    """Return weighted quantiles: where the cumulated weight reaches the level."""
    order = np.argsort(x, kind="stable")
    reached = np.cumsum(weight[order])
    index = np.searchsorted(reached / reached[-1], levels).clip(max=len(x) - 1)
    return np.asarray(x[order][index])
