"""Calibrating the members of an imputer by cells that were hidden from one of them."""

from __future__ import annotations

from dataclasses import replace
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

__all__ = ["calibrate", "choose_cells"]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

HELD_OUT = 0.1  # of the observed cells
MOST_ROWS = 2000  # that have held-out cells
FEWEST = 30  # cells that say something


def choose_cells(X: Array, seed: int) -> Mask | None:
    """Choose cells of X (n, D) to hide from a model, or None if they would say too little."""
    hidden = Members.chosen(X, HELD_OUT, seed) & ~np.isnan(X)
    # Not the first rows: tables are often sorted.
    hidden[np.random.default_rng(seed).permutation(len(X))[MOST_ROWS:]] = False
    rest = np.where(hidden, np.nan, X)
    hidden &= varies(rest) & ~np.isnan(rest).all(1, keepdims=True)
    return hidden if hidden.sum() >= FEWEST else None


def calibrate(
    members: Members, X: Array, hidden: Mask, guesser: Sampler, sampler: Sampler, seed: int
) -> Calibration:
    """Learn how far members are wrong about cells of X that they were trained without.

    Parameters
    ----------
    members : Members
    X : ndarray, shape (n, D)
    hidden : ndarray of bool, shape (n, D)
    guesser, sampler : Sampler
        What samples for guesses, and for all else.
    """
    core = members.cores[0]
    spec, likelihood = core.spec.likelihood, core.module.likelihood
    assert isinstance(spec, Columns)
    assert isinstance(likelihood, ColumnsModule)
    known, n = np.where(hidden, np.nan, X), X.shape[1]
    units = core.batch_of(X, core.module).x.double().cpu().numpy()  # of the model
    low, high = range_of(likelihood, units, ~np.isnan(known))
    found = Calibration(
        weight=np.ones(n),
        base=base_of(likelihood, units, ~np.isnan(known)),
        low=low,
        high=high,
        centre=np.nanmean(known, 0),
        share=np.zeros(n),
        second=quantiles_of_codes(known),
        ends=np.stack([np.nanmin(known, 0), np.nanmax(known, 0)]),
        kind=kinds_of(likelihood, spec),
    )
    some = hidden.any(1)
    known, truth, units, hidden = known[some], X[some], units[some], hidden[some]
    _, mean = Members(members.cores, found).mean(known, guesser, seed)
    weight = weights(likelihood, units, hidden, mean, found.base)
    found = replace(found, weight=weight)
    cells, below = [], []
    for parts in members.drawn(known, sampler, seed):
        for i, draws, w in by_row(parts):  # (K, D), (K,)
            for j in np.flatnonzero(hidden[i] & (found.kind != CODE)).tolist():
                x, y = draws[:, j], truth[i, j]
                cells.append((j, y, found.mean(j, x, w)))
                below.append((w @ (x < y), w @ (x <= y)))
    column = np.array([j for j, _, _ in cells], dtype=np.intp)
    error = np.array([y - guess for _, y, guess in cells])
    errors = quantiles_of_errors(error, column, n)
    found = replace(found, second=np.where(found.kind == CODE, found.second, errors))
    second = [found.second_law(j, guess) for j, _, guess in cells]
    second_below = [
        ((x < y).mean(), (x <= y).mean()) for x, (_, y, _) in zip(second, cells, strict=True)
    ]
    share = shares(np.reshape(below, (-1, 2)), np.reshape(second_below, (-1, 2)), column, n)
    return replace(found, share=np.where(found.kind == CODE, 1 - weight, share))
