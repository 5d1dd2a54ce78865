"""Hiding known cells of a table, training on the rest, and comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from skvae._cell_scores import ImputationReport, crps, point_errors, summary
from skvae._rivals import RIVALS
from skvae.estimators._cells import by_row, quantiles_of
from skvae.estimators._table import varies
from skvae.exceptions import DataError, ParameterError, did_you_mean
from skvae.likelihoods.columns import ColumnsModule
from skvae.likelihoods.summaries import MostProbable, YesOrNo
from skvae.missing import Mechanism, hidden_cells

if TYPE_CHECKING:
    from skvae.estimators._members import Members
    from skvae.estimators.imputer import VAEImputer

__all__ = ["evaluate"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

ENDS = (0.05, 0.95)


def evaluate(
    imputer: VAEImputer,
    table: Any,
    values: Array,
    rate: float,
    mechanism: Mechanism,
    compare: tuple[str, ...],
    seed: int,
) -> ImputationReport:
    """Report how well a clone of the imputer, and others, find known cells that are hidden.

    Parameters
    ----------
    imputer : VAEImputer
        Fitted; only its parameters and its schema are used.
    table : container
    values : ndarray, shape (n, D)
        Its modelled columns, NaN where missing.
    """
    for name in compare:
        if name not in RIVALS:
            raise ParameterError(
                f"compare has {name!r}, which is not known.{did_you_mean(str(name), RIVALS)} "
                f"Known: {', '.join(map(repr, RIVALS))}."
            )
    schema = imputer.schema_
    columns = [schema.columns[j] for j in schema.modelled]
    for column, differs in zip(columns, varies(values), strict=True):
        if not differs:
            raise DataError(
                f"Column {column.name!r} of X has no two different values, so that nothing can be "
                "learned of it."
            )
    missing = schema.missing(table)
    hidden = hidden_cells(schema, values, ~missing, rate, mechanism, seed)
    hidden = _possible(hidden[:, list(schema.modelled)] & ~np.isnan(values), values)
    if not hidden.any():
        raise DataError(
            f"There is no cell to hide: rate={rate!r} of {(~missing).sum()} known ones hides "
            "none, or would leave a column without two different values."
        )
    known = np.where(hidden, np.nan, values)
    own = clone(imputer)
    own.schema_, own._seed = schema, seed
    own._train(known)
    levels = [len(column.levels) for column in columns]
    sd = np.nanstd(values, 0)
    fills = {name: RIVALS[name](known, levels, seed) for name in dict.fromkeys(("mean", *compare))}
    some = hidden.any(1)  # the other rows were there to learn from
    known, values, hidden = known[some], values[some], hidden[some]
    place = np.nonzero(hidden)[1]
    truth, sd = values[hidden], sd[place]
    is_code = np.array(levels)[place] > 0

    def errors(filled: Array) -> dict[str, Array]:
        return point_errors(truth, filled[hidden], sd, is_code)

    filled, statistics = own._members.mean(known, own._guesser, seed)
    figures = errors(filled)
    figures["log_loss"] = -np.log(_probability(own._members, statistics, values)[hidden])
    figures |= _laws(own, known, hidden, truth, sd, is_code, seed)
    score, count = own._members.log_scores(values, hidden, own._sampler, seed)
    rivals = {name: errors(fill[some]) for name, fill in fills.items()}
    of_column = {str(columns[j].name): place == j for j in np.unique(place)}
    every = slice(None)
    return ImputationReport(
        mechanism=mechanism,
        rate=float(rate),
        log_score=float(score.sum() / count.sum()),
        overall=summary(figures, every),
        columns={name: summary(figures, cells) for name, cells in of_column.items()},
        rivals={rival: summary(found, every) for rival, found in rivals.items()},
        rival_columns={
            rival: {name: summary(found, cells) for name, cells in of_column.items()}
            for rival, found in rivals.items()
        },
    )


def _possible(hidden: Mask, values: Array) -> Mask:
    """Hide nothing of columns that would be left without two different values."""
    return np.asarray(hidden & varies(np.where(hidden, np.nan, values)))


def _probability(members: Members, statistics: Array, values: Array) -> Array:
    """Return the probability of each code that a cell has, NaN for numbers, (n, D)."""
    likelihood = members.cores[0].module.likelihood
    assert isinstance(likelihood, ColumnsModule)
    out = np.full(values.shape, np.nan)
    start = 0
    for group in likelihood.groups:
        k = group.summary.width
        for j in group.index.tolist():
            share = statistics[:, start : start + k]  # (n, k)
            start += k
            code = np.nan_to_num(values[:, j]).astype(int)
            if isinstance(group.summary, YesOrNo):
                out[:, j] = np.where(code == 1, share[:, 0], 1 - share[:, 0])
            elif isinstance(group.summary, MostProbable):
                out[:, j] = share[np.arange(len(share)), code]
    return out.clip(min=np.finfo(np.float32).tiny)  # NaN stays


def _laws(
    own: Any,
    known: Array,
    hidden: Mask,
    truth: Array,
    sd: Array,
    is_code: Mask,
    seed: int,
) -> dict[str, Array]:
    """Judge intervals and draws of hidden numbers, each (m,)."""
    names = ("coverage", "width", "crps")
    out = {name: np.full(len(truth), np.nan) for name in names}
    row, place = np.nonzero(hidden)
    first = np.searchsorted(row, np.arange(len(known) + 1))  # cells of a row lie together
    for parts in own._members.drawn(known, own._sampler, seed):
        for i, draws, weight in by_row(parts):  # (K, D), (K,)
            for cell in range(first[i], first[i + 1]):
                if is_code[cell]:
                    continue
                j, unit = place[cell], sd[cell]
                x, w = own._members.law(j, draws[:, j], weight)
                low, high = quantiles_of(x, w, ENDS)
                out["coverage"][cell] = low <= truth[cell] <= high
                out["width"][cell] = (high - low) / unit
                out["crps"][cell] = crps(x, w / w.sum(), truth[cell]) / unit
    return out
