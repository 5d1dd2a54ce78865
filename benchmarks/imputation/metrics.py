"""How far imputed tables are from the truth."""

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

N_DRAWS = 19  # the smallest and the largest of 19 exchangeable draws hold 18/20 of the mass


def numeric(frame):
    """Return the names of the numeric columns."""
    return [c for c in frame if not isinstance(frame[c].dtype, pd.CategoricalDtype)]


def column_errors(truth, imputed, hidden, train):
    """Return errors of each column over its hidden cells.

    Parameters
    ----------
    truth, imputed : DataFrame, shape (n, p)
    hidden : ndarray of bool, shape (n, p)
    train : DataFrame
        Complete training rows, whose standard deviations (ddof 0) are the unit of the errors.

    Returns
    -------
    nrmse, nmae, wrong : dict
        From column to root mean squared error and mean absolute error of numbers, and to the
        share of wrong categories. Columns without hidden cells are left out.
    """
    nrmse, nmae, wrong = {}, {}, {}
    numbers = set(numeric(truth))
    for j, name in enumerate(truth):
        rows = hidden[:, j]
        if not rows.any():
            continue
        true, guess = truth[name][rows], imputed[name][rows]
        if name in numbers:
            error = guess.to_numpy(float) - true.to_numpy(float)
            if not np.isfinite(error).all():
                raise ValueError(f"column {name!r} has cells that were not filled in")
            sd = train[name].std(ddof=0)
            nrmse[name] = float(np.sqrt(np.mean(error**2)) / sd)
            nmae[name] = float(np.mean(np.abs(error)) / sd)
        else:
            if guess.isna().any():
                raise ValueError(f"column {name!r} has cells that were not filled in")
            wrong[name] = float(np.mean(guess.astype(str).to_numpy() != true.astype(str)))
    return nrmse, nmae, wrong


def mean_of(values):
    """Return the mean of the values of a dict, None for an empty one."""
    return float(np.mean([*values.values()])) if values else None


def worst_ratio(nrmse, of_mean):
    """Return the largest ratio over columns to the error of the mean fill."""
    return max((nrmse[c] / of_mean[c] for c in nrmse if of_mean[c] > 0), default=None)


def coverage(truth, lower, upper, hidden, train):
    """Return the share of hidden numbers within [lower, upper], and the mean width in sds."""
    inside, width = [], []
    columns = [*truth]
    for name in numeric(truth):
        rows = hidden[:, columns.index(name)]
        true, low, high = (f[name][rows].to_numpy(float) for f in (truth, lower, upper))
        # What is written and read in other units may differ in the last digit.
        slack = 1e-6 * train[name].std(ddof=0)
        inside.append((true >= low - slack) & (true <= high + slack))
        width.append((high - low) / train[name].std(ddof=0))
    if not sum(len(w) for w in width):
        return None, None, 0
    return (
        float(np.concatenate(inside).mean()),
        float(np.concatenate(width).mean()),
        int(sum(len(w) for w in width)),
    )


def ends(draws):
    """Return frames with the least and the greatest of the draws of each number."""
    first = draws[0]
    names = numeric(first)
    stacked = np.stack([d[names].to_numpy(float) for d in draws])  # (m, n, q)
    return [pd.DataFrame(f(0), first.index, names) for f in (stacked.min, stacked.max)]


def crps(truth, draws, hidden, train):
    """Return the mean over hidden numbers of the continuous ranked probability score, in sds.

    The estimate from m draws, mean |x_i − y| − Σ_{i,j} |x_i − x_j| / (2 m (m − 1)), has no bias
    that depends on m.
    """
    scores = []
    columns = [*truth]
    m = len(draws)
    for name in numeric(truth):
        rows = hidden[:, columns.index(name)]
        x = np.sort(np.stack([d[name][rows].to_numpy(float) for d in draws]), 0)  # (m, h)
        y = truth[name][rows].to_numpy(float)
        # Sorted, Σ_{i<j} (x_j − x_i) = Σ_i (2 i − m + 1) x_i for i = 0 … m − 1.
        spread = (2 * np.arange(m) - m + 1) @ x / (m * (m - 1))
        scores.append((np.abs(x - y).mean(0) - spread) / train[name].std(ddof=0))
    scores = np.concatenate(scores) if scores else np.empty(0)
    return float(scores.mean()) if len(scores) else None


def points(frame, train):
    """Return rows as points (n, q): standardised numbers, and categories one-hot over √2."""
    columns = []
    numbers = set(numeric(train))
    for name in train:
        if name in numbers:
            sd = train[name].std(ddof=0)
            columns.append((frame[name].to_numpy(float)[:, None] - train[name].mean()) / sd)
        else:
            levels = np.array([str(c) for c in train[name].cat.categories])
            # Two rows that differ in a category are 1 apart in it.
            same = frame[name].astype(str).to_numpy()[:, None] == levels
            columns.append(same / np.sqrt(2))
    return np.concatenate(columns, 1)


def energy_distance(truth, imputed, train):
    """Return 2 E|X − Y| − E|X − X'| − E|Y − Y'| between rows of the two tables (V-statistic)."""
    x, y = points(truth, train), points(imputed, train)
    return float(2 * cdist(x, y).mean() - cdist(x, x).mean() - cdist(y, y).mean())
