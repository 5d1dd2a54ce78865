"""Which cells are hidden: boolean arrays of shape (n, p), True where a cell is."""

import math

import numpy as np
import pandas as pd
from scipy.special import expit

OBSERVED_SHARE = 0.3  # of the columns, those that missingness at random depends on


def _numbers(frame, rng):
    """Return standardised columns (n, p); the levels of a category get random numbers."""
    columns = []
    for name in frame:
        column = frame[name]
        if isinstance(column.dtype, pd.CategoricalDtype):
            values = rng.normal(size=len(column.cat.categories))[column.cat.codes]
        else:
            values = column.to_numpy(float)
        columns.append((values - values.mean()) / (values.std() or 1.0))
    return np.stack(columns, 1)


def _intercept(logits, rate):
    """Return b such that sigmoid(logits + b) is `rate` on average, by bisection."""
    low, high = -50.0, 50.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(logits + middle).mean() < rate else (low, middle)
    return (low + high) / 2


def mcar(frame, rate, rng):
    """Hide every cell with the same probability."""
    return rng.random(frame.shape) < rate


def mar(frame, rate, rng):
    """Hide cells of 70 % of the columns by logistic models of the others, which stay complete.

    Each column has its own model; its coefficients are normal, and scaled so that the logits have
    unit variance.
    """
    n, p = frame.shape
    numbers = _numbers(frame, rng)
    order = rng.permutation(p)
    n_observed = min(p - 1, max(1, round(OBSERVED_SHARE * p)))
    observed = numbers[:, order[:n_observed]]  # (n, o)
    hidden = np.zeros((n, p), bool)
    for j in order[n_observed:]:
        logits = observed @ rng.normal(size=n_observed)
        logits /= logits.std() or 1.0
        hidden[:, j] = rng.random(n) < expit(logits + _intercept(logits, rate))
    return hidden


def mnar(frame, rate, rng):
    """Hide each cell by a logistic model of its own value, with a random direction."""
    numbers = _numbers(frame, rng)
    hidden = np.zeros(frame.shape, bool)
    for j, sign in enumerate(rng.choice([-1.0, 1.0], frame.shape[1])):
        logits = sign * numbers[:, j]
        hidden[:, j] = rng.random(len(frame)) < expit(logits + _intercept(logits, rate))
    return hidden


MECHANISMS = {"mcar": mcar, "mar": mar, "mnar": mnar}


def hide(frame, mechanism, rate, seed):
    """Return the mask of a table; a row that would lose all its cells keeps a random one.

    Parameters
    ----------
    frame : DataFrame, shape (n, p)
    mechanism : str
        A key of `MECHANISMS`.
    rate : float
        Expected share of hidden cells in each column that can lose cells.
    seed : int
    """
    rng = np.random.default_rng([seed, sorted(MECHANISMS).index(mechanism), round(1000 * rate)])
    hidden = MECHANISMS[mechanism](frame, rate, rng)
    empty = np.flatnonzero(hidden.all(1))
    hidden[empty, rng.integers(frame.shape[1], size=len(empty))] = False
    return hidden


def holed(frame, hidden):
    """Return the table without the hidden cells."""
    return frame.mask(pd.DataFrame(hidden, frame.index, frame.columns))


def notebook(n, p, rate=0.5, seed=1234):
    """Return the mask of MIWAE's notebook: exactly ⌊n p rate⌋ cells."""
    # The legacy generator is what the notebook used; another one would give another mask.
    rng = np.random.RandomState(seed)
    hidden = np.zeros(n * p, bool)
    hidden[rng.choice(n * p, math.floor(n * p * rate), replace=False)] = True
    return hidden.reshape(n, p)


def above_mean(X):
    """Return not-MIWAE's mask: in the first half of the columns, all values above the mean."""
    hidden = np.zeros(X.shape, bool)
    half = X.shape[1] // 2
    hidden[:, :half] = X[:, :half] > X[:, :half].mean(0)
    return hidden
