"""Calibrating the members of an imputer by cells that were hidden from one of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.calibration import (
    CODE,
    Calibration,
    base_of,
    kinds_of,
    quantiles_of_codes,
    quantiles_of_errors,
    range_of,
    shares,
    weights,
)
from skvae.conditional import Sampler
from skvae.estimators._cells import by_row
from skvae.estimators._members import Members
from skvae.estimators._table import varies
from skvae.likelihoods.columns import Columns, ColumnsModule

__all__ = ["HeldOut", "calibrate", "hold_out"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

N_FOLDS = 10  # one of the rows is held out, and one of the cells of the others
MOST_ROWS = 2000  # that are judged of each
FEWEST = 30  # cells that say something


@dataclass(frozen=True)
class HeldOut:
    """What a model is trained on, and what it is judged by.

    Attributes
    ----------
    seen : ndarray, shape (n, D)
    truth : ndarray, shape (m, D)
        Rows of which cells are predicted: some of `seen`, and, again and again with other cells,
        some that are not.
    hidden : ndarray of bool, shape (m, D)
        The cells.
    """

    seen: Array
    truth: Array
    hidden: Mask


def hold_out(X: Array, seed: int) -> HeldOut | None:
    """Hold out cells of X (n, D), or return None if they would say too little.

    A tenth of the cells of most rows, and a tenth of the rows: models that are too close to the
    rows of their training are better at the former than at the latter.
    """
    noise = np.random.default_rng(seed)
    order = noise.permutation(len(X))  # tables are often sorted
    fold = noise.integers(N_FOLDS, size=X.shape)
    n_new = len(X) // N_FOLDS
    old, new = order[n_new:], order[:n_new]
    hidden = (fold[old] == 0) & ~np.isnan(X[old])
    hidden[MOST_ROWS:] = False
    seen = np.where(hidden, np.nan, X[old])
    seen_rows = ~np.isnan(seen).all(1)
    again = np.repeat(new[: MOST_ROWS // N_FOLDS], N_FOLDS)
    turn = np.resize(np.arange(N_FOLDS), len(again))[:, None]
    truth = np.concatenate([X[old], X[again]])
    hidden = np.concatenate([hidden, (fold[again] == turn) & ~np.isnan(X[again])])
    hidden &= varies(seen)
    judged = hidden.any(1) & ~np.isnan(np.where(hidden, np.nan, truth)).all(1)
    if hidden[judged].sum() < FEWEST:
        return None
    return HeldOut(seen[seen_rows], truth[judged], hidden[judged])


def calibrate(
    members: Members, held: HeldOut, guesser: Sampler, sampler: Sampler, seed: int
) -> Calibration:
    """Learn how far members are wrong about cells that they were trained without.

    Parameters
    ----------
    members : Members
    held : HeldOut
    guesser, sampler : Sampler
        What samples for guesses, and for all else.
    """
    core = members.cores[0]
    spec, likelihood = core.spec.likelihood, core.module.likelihood
    assert isinstance(spec, Columns)
    assert isinstance(likelihood, ColumnsModule)
    seen, truth, hidden = held.seen, held.truth, held.hidden
    n = seen.shape[1]
    units = core.batch_of(seen, core.module).x.double().cpu().numpy()  # of the model
    low, high = range_of(likelihood, units, ~np.isnan(seen))
    found = Calibration(
        weight=np.ones(n),
        base=base_of(likelihood, units, ~np.isnan(seen)),
        low=low,
        high=high,
        centre=np.nanmean(seen, 0),
        share=np.zeros(n),
        second=quantiles_of_codes(seen),
        spread=np.zeros(n),
        ends=np.stack([np.nanmin(seen, 0), np.nanmax(seen, 0)]),
        kind=kinds_of(likelihood, spec),
    )
    known = np.where(hidden, np.nan, truth)
    units = core.batch_of(truth, core.module).x.double().cpu().numpy()
    _, mean = Members(members.cores, found).mean(known, guesser, seed)
    weight = weights(likelihood, units, hidden, mean, found.base)
    found = replace(found, weight=weight)
    numbers = hidden & (found.kind != CODE)
    cells = []
    for parts in members.drawn(known, sampler, seed):
        for i, draws, w in by_row(parts):  # (K, D), (K,)
            for j in np.flatnonzero(numbers[i]).tolist():
                x, y = draws[:, j], truth[i, j]
                below = w @ (x < y), w @ (x <= y)
                cells.append((j, y, found.mean(j, x, w), found.spread_of(j, x, w), *below))
    return _with_laws(found, np.reshape(cells, (-1, 6)))


def _with_laws(found: Calibration, cells: Array) -> Calibration:
    """Add what is learned from numbers.

    Parameters
    ----------
    found : Calibration
    cells : ndarray, shape (m, 6)
        Column, truth, guess, standard deviation of the draws, and P(x < truth) and
        P(x <= truth) under them.
    """
    n = len(found.weight)
    truth, guess, spread = cells[:, 1], cells[:, 2], cells[:, 3]
    column = cells[:, 0].astype(np.intp)
    squares = np.bincount(column, spread**2, n) / np.maximum(np.bincount(column, minlength=n), 1)
    found = replace(found, spread=np.sqrt(squares))
    scale = np.array([found.scale(*cell) for cell in zip(column, spread, strict=True)])
    errors = quantiles_of_errors((truth - guess) / scale, column, n)
    found = replace(found, second=np.where(found.kind == CODE, found.second, errors))
    second = (found.second_law(*cell) for cell in zip(column, guess, scale, strict=True))
    below = [((x < y).mean(), (x <= y).mean()) for x, y in zip(second, truth, strict=True)]
    share = shares(cells[:, 4:], np.reshape(below, (-1, 2)), column, n)
    return replace(found, share=np.where(found.kind == CODE, 1 - found.weight, share))
