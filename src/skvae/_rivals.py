"""Other ways to fill in a table, to compare with: the mean, near rows, and forests.

Tables are (n, D) with NaN where a cell is missing, and ``levels`` has for each column how many
codes 0, 1, … it knows; 0 for numbers. Every column has a value somewhere.

References
----------
.. [1] Troyanskaya et al., "Missing Value Estimation Methods for DNA Microarrays", 2001
.. [2] Stekhoven and Bühlmann, "MissForest: Non-Parametric Missing Value Imputation for Mixed-Type
   Data", 2012, arXiv:1105.0828
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RIVALS", "forest", "knn", "mean"]

Array = NDArray[np.float64]

N_TREES = 100
MAX_ROUNDS = 10


def mean(X: Array, levels: Sequence[int], seed: int) -> Array:
    """Fill in means of numbers and the most frequent codes."""
    filled = X.copy()
    for j, k in enumerate(levels):
        seen = X[~np.isnan(X[:, j]), j]
        value = np.bincount(seen.astype(int)).argmax() if k else seen.mean()
        filled[np.isnan(X[:, j]), j] = value
    return filled


def knn(X: Array, levels: Sequence[int], seed: int) -> Array:
    """Fill in means, and votes, of the five nearest rows that have a value [1]_.

    Near in the standardised numbers and the indicators of codes that both rows have.
    """
    from sklearn.impute import KNNImputer

    shift, unit = _scaling(X, levels)
    shown, places = _indicators((X - shift) / unit, levels)
    found = KNNImputer(keep_empty_features=True).fit_transform(shown)
    filled = X.copy()
    for j, (k, place) in enumerate(zip(levels, places, strict=True)):
        own = found[:, place]
        value = own.argmax(1) if k else own[:, 0] * unit[j] + shift[j]
        filled[:, j] = np.where(np.isnan(X[:, j]), value, X[:, j])
    return filled


def forest(
    X: Array,
    levels: Sequence[int],
    seed: int,
    *,
    n_trees: int = N_TREES,
    max_rounds: int = MAX_ROUNDS,
) -> Array:
    """Fill in what random forests predict from the other columns, in rounds [2]_.

    Column by column, those with the fewest holes first, until the table changes no less than in
    the round before, numbers and codes both; then what that one made is taken.
    """
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    shift, unit = _scaling(X, levels)
    scaled = (X - shift) / unit
    missing = np.isnan(X)
    codes = np.array(levels) > 0
    order = [int(j) for j in np.argsort(missing.sum(0), kind="stable") if missing[:, j].any()]
    filled = mean(scaled, levels, seed)
    last = np.full(2, np.inf)
    for turn in range(max_rounds):
        new = filled.copy()
        for j in order:
            known, holes = ~missing[:, j], missing[:, j]
            others, _ = _indicators(np.delete(new, j, 1), [*levels[:j], *levels[j + 1 :]])
            make = RandomForestClassifier if codes[j] else RandomForestRegressor
            key = np.random.SeedSequence(seed, spawn_key=(turn, j)).generate_state(1)[0]
            trees = make(n_estimators=n_trees, max_features="sqrt", random_state=int(key))
            trees.fit(others[known], scaled[known, j])
            new[holes, j] = trees.predict(others[holes])
        change = np.array([_change(new, filled, missing & codes), _moved(new, filled, ~codes)])
        present = np.array([(missing & codes).any(), (missing & ~codes).any()])
        if (change >= last)[present].all():
            break
        filled, last = new, change
    return np.where(missing, filled * unit + shift, X)


def _change(new: Array, old: Array, cells: NDArray[np.bool_]) -> float:
    """Return which share of some cells is another code."""
    return float(np.mean((new != old)[cells])) if cells.any() else 0.0


def _moved(new: Array, old: Array, columns: NDArray[np.bool_]) -> float:
    """Return the squared change of some columns of numbers relative to their squares."""
    total = float(np.square(new[:, columns]).sum())
    return float(np.square((new - old)[:, columns]).sum()) / total if total else 0.0


def _scaling(X: Array, levels: Sequence[int]) -> tuple[Array, Array]:
    """Return mean and standard deviation of numbers, 0 and 1 for codes, (D,) each."""
    codes = np.array(levels) > 0
    sd = np.nanstd(X, 0)
    return np.where(codes, 0, np.nanmean(X, 0)), np.where(codes | (sd == 0), 1, sd)


def _indicators(X: Array, levels: Sequence[int]) -> tuple[Array, list[slice]]:
    """Replace codes by an indicator for each, NaN where missing, and say where they stand."""
    parts, places, start = [], [], 0
    for x, k in zip(X.T, levels, strict=True):
        part = x[:, None]
        if k:
            part = np.where(np.isnan(part), np.nan, part == np.arange(k))
        parts.append(part)
        places.append(slice(start, start + part.shape[1]))
        start += part.shape[1]
    return np.concatenate(parts, 1), places


RIVALS: dict[str, Callable[[Array, Any, int], Array]] = {
    "mean": mean,
    "knn": knn,
    "forest": forest,
}
