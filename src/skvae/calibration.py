"""How far a model of tables can be trusted, learned from cells that were hidden from it.

A model that has learned noise guesses too far from the mean, and is too sure of it. Cells that
were hidden from it in training show both: how much of its deviations from the mean of a column is
real, as the slope of a linear recalibration [1]_ [2]_; and how often it is wrong altogether, as
the share of its law that must give way to its guess with the errors of guesses, for 90 % of the
cells to lie in their 90 % interval. Laws that are widened in proportion, or by noise, or mixed
with the distribution of the column, have wider intervals at the same coverage: most cells need no
correction, and some a large one. Errors are scaled by the root of the law's own standard
deviation, for cells of which the model is less sure are guessed less well, if not in proportion.
Guesses are averages over draws, each of which counts for no more than the smallest and the largest
value that was seen.

Few cells say little about a slope. Most are 1, so that is what is believed of a column until its
cells speak against it: a priori a slope is 1 with the share that all columns together make most
probable, less where guesses hardly differ from the mean, and anything from 0 to 1 otherwise.

References
----------
.. [1] Cox, "Two Further Applications of a Model for Binary Regression", 1958
.. [2] Copas, "Regression, Prediction and Shrinkage", 1983
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.likelihoods.columns import Columns, ColumnsModule
from skvae.likelihoods.summaries import Mean, MostProbable, YesOrNo

__all__ = [
    "LEVEL",
    "SHARES",
    "Calibration",
    "base_of",
    "kinds_of",
    "quantiles_of_codes",
    "quantiles_of_errors",
    "range_of",
    "shares",
    "weights",
]

Array = NDArray[Any]
Mask = NDArray[np.bool_]

CODE, NUMBER, WHOLE = 0.0, 1.0, 2.0

LEVEL = 0.9  # the interval whose coverage is set right
TRUST = 1.0  # standard deviation of what a weight of codes may be before any is seen, around 1
SLOPES = np.linspace(0, 1, 101)
FAINT = 0.1  # of a column's variance is that of guesses of which half as many are trusted
ROUNDS = 100  # of looking for the share of slopes that are 1
NARROWEST = 0.05  # of the usual spread of a column's laws, below which errors shrink no more
SLACK = 0.005  # of the coverage, for which no share is raised
PRIOR_CELLS = 20  # as many cells do the other columns count for beside those of a column
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.55, 0.75, 1.0)
N_QUANTILES = 41


@dataclass(frozen=True)
class Calibration:
    """Corrections of what is said of single cells.

    Parameters
    ----------
    weight : ndarray of float64, shape (D,)
        Between 0 and 1. The share of a guess's deviation from the column's mean that is kept; for
        codes, of the model's probabilities beside the frequencies of the column.
    base : ndarray of float64, shape (S,)
        Means and frequencies of the columns, in model units, as `ColumnsModule.statistics`.
    low, high : ndarray of float64, shape (S,)
        Between which statistics lie, in model units: of numbers, the range that was seen.
    centre : ndarray of float64, shape (D,)
        Means of the columns, in data units.
    share : ndarray of float64, shape (D,)
        Between 0 and 1. Part of the second law of a cell: of numbers, the guess plus errors that
        guesses had; of codes, the distribution of the column.
    second : ndarray of float64, shape (Q, D)
        Quantiles of these errors at the usual spread, in data units, and of these codes.
    spread : ndarray of float64, shape (D,)
        The usual standard deviation of the model's law of a number, in data units.
    ends : ndarray of float64, shape (2, D)
        Least and greatest value that was seen, in data units.
    kind : ndarray of float64, shape (D,)
        `CODE`, `NUMBER` or `WHOLE`.
    """

    weight: Array
    base: Array
    low: Array
    high: Array
    centre: Array
    share: Array
    second: Array
    spread: Array
    ends: Array
    kind: Array

    def fits(self, likelihood: ColumnsModule) -> bool:
        """Whether it makes sense for these columns."""
        n = sum(len(group.index) for group in likelihood.groups)
        k = sum(len(group.index) * group.summary.width for group in likelihood.groups)
        parts = [getattr(self, one.name) for one in fields(self)]
        return (
            [one.shape for one in parts]
            == [(n,), (k,), (k,), (k,), (n,), (n,), (N_QUANTILES, n), (n,), (2, n), (n,)]
            and all(one.dtype == np.float64 and np.isfinite(one).all() for one in parts)
            and all(((one >= 0) & (one <= 1)).all() for one in (self.weight, self.share))
        )

    def statistics(self, likelihood: ColumnsModule, mean: Array) -> Array:
        """Return the corrected averages of statistics (n, S)."""
        widths = [stop - start for _, _, start, stop in _places(likelihood)]
        columns = [j for j, *_ in _places(likelihood)]
        weight = np.repeat(self.weight[columns], widths)
        return np.asarray(weight * mean + (1 - weight) * self.base)

    def law(self, j: int, x: Array, weight: Array) -> tuple[Array, Array]:
        """Return weighted draws of a cell of column j, from draws x (K,) and weights (K,)."""
        share = self.share[j]
        if not share:
            return x, weight
        second = self.second_law(
            j, self.mean(j, x, weight), self.scale(j, self.spread_of(j, x, weight))
        )
        own = np.full(len(second), share * weight.sum() / len(second))
        return np.append(x, second), np.append((1 - share) * weight, own)

    def moved(
        self,
        j: int,
        values: Array,
        x: Array,
        weight: Array,
        choice: Array,
        noise: np.random.Generator,
    ) -> Array:
        """Map draws of a cell of column j to the corrected law.

        A number becomes, with the probability of the second law, the value of equal rank in that,
        and of codes as many as possible stay, so that what a draw says of the cells of a row
        together is kept.

        Parameters
        ----------
        j : int
        values : ndarray, shape (n,)
            What is mapped: draws of the model's law.
        x, weight : ndarray, shape (K,)
            That law.
        choice : ndarray, shape (n,)
            Uniform on [0, 1), the same for all cells of a row: below its share, a number comes
            from the second law.
        noise : Generator
        """
        if not self.share[j]:
            return values
        if self.kind[j] == CODE:
            return self._moved_codes(j, values.astype(int), x.astype(int), weight, noise)
        order = np.argsort(x, kind="stable")
        reached = np.concatenate([[0.0], np.cumsum(weight[order])])
        below, upto = (np.searchsorted(x[order], values, side=s) for s in ("left", "right"))
        rank = reached[below] + noise.random(len(values)) * (reached[upto] - reached[below])
        spread = self.spread_of(j, x, weight)
        second = self.second_law(j, self.mean(j, x, weight), self.scale(j, spread))
        levels = (np.arange(len(second)) + 0.5) / len(second)
        others = np.interp(rank / reached[-1], levels, np.sort(second))
        others = np.rint(others) if self.kind[j] == WHOLE else others
        return np.where(choice < self.share[j], others, values)

    def _moved_codes(
        self, j: int, code: Array, x: Array, weight: Array, noise: np.random.Generator
    ) -> Array:
        mixed, mass = self.law(j, x, weight)
        n = 1 + int(max(code.max(), mixed.max()))
        own, wanted = np.bincount(x, weight, n), np.bincount(mixed.astype(int), mass, n)
        stays = noise.random(len(code)) * own[code] < wanted[code]
        lacking = np.maximum(wanted - own, 0)
        if stays.all() or not lacking.any():
            return code
        return np.where(stays, code, noise.choice(n, len(code), p=lacking / lacking.sum()))

    def second_law(self, j: int, guess: float, scale: float) -> Array:
        """Return the part of the law that is not the model's, as equally probable values (Q,)."""
        second = self.second[:, j]
        if self.kind[j] == CODE:
            return second
        second = np.clip(guess + scale * second, *self.ends[:, j])
        return np.rint(second) if self.kind[j] == WHOLE else second

    def scale(self, j: int, spread: float) -> float:
        """Return how large errors of column j are where draws have this standard deviation."""
        return math.sqrt(max(spread / self.spread[j], NARROWEST)) if self.spread[j] else 1.0

    def spread_of(self, j: int, x: Array, weight: Array) -> float:
        """Return the standard deviation of draws x (K,) of a number of column j."""
        x = np.clip(x, *self.ends[:, j])
        weight = weight / weight.sum()
        return math.sqrt(weight @ (x - weight @ x) ** 2)

    def mean(self, j: int, x: Array, weight: Array) -> float:
        """Return the guess of a number of column j, from draws x (K,) and weights (K,)."""
        if self.kind[j] == CODE:
            return 0.0  # codes have no mean
        mean = weight @ np.clip(x, *self.ends[:, j])
        return float(self.weight[j] * mean + (1 - self.weight[j]) * self.centre[j])


def range_of(likelihood: ColumnsModule, x: Array, observed: Mask) -> tuple[Array, Array]:
    """Return between which values statistics of x (n, D) lie, in model units, each (S,)."""
    low, high = [], []
    for j, summary, start, stop in _places(likelihood):
        if isinstance(summary, MostProbable | YesOrNo):
            low += [0.0] * (stop - start)
            high += [1.0] * (stop - start)
        else:
            own = x[observed[:, j], j]
            low.append(own.min())
            high.append(own.max())
    return np.array(low, dtype=np.float64), np.array(high, dtype=np.float64)


def base_of(likelihood: ColumnsModule, x: Array, observed: Mask) -> Array:
    """Return the means and frequencies of the observed cells of x (n, D) in model units, (S,)."""
    parts = []
    for j, summary, _, _ in _places(likelihood):
        own = x[observed[:, j], j]
        if isinstance(summary, MostProbable):
            count = np.bincount(own.astype(int), minlength=summary.width) + 1.0
            parts.append(count / count.sum())
        elif isinstance(summary, YesOrNo):
            parts.append([(own.sum() + 1) / (len(own) + 2)])
        else:
            parts.append([own.mean()])
    return np.concatenate(parts).astype(np.float64)


def kinds_of(likelihood: ColumnsModule, spec: Columns) -> Array:
    """Return what the columns are, (D,)."""
    kind = np.zeros(len(spec.columns))
    for j, summary, _, _ in _places(likelihood):
        if not isinstance(summary, MostProbable | YesOrNo):
            kind[j] = WHOLE if spec.columns[j].support.integral else NUMBER
    return kind


def quantiles_of_codes(X: Array) -> Array:
    """Return evenly spaced quantiles of the observed cells of X (n, D), (Q, D)."""
    levels = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    return np.asarray(np.nanquantile(X, levels, axis=0, method="nearest"), dtype=np.float64)


def quantiles_of_errors(error: Array, column: NDArray[np.intp], n: int) -> Array:
    """Return quantiles of the errors (m,) of guesses in each of n columns, (Q, n).

    Those of all columns, in units of their root mean squares, count for a few more of each.
    """
    out = np.zeros((N_QUANTILES, n))
    columns = np.unique(column)
    rms = {j: max(math.sqrt(np.mean(error[column == j] ** 2)), 1e-300) for j in columns}
    common = np.concatenate([error[column == j] / rms[j] for j in columns] or [error])
    levels = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    for j in columns:
        own = error[column == j]
        x = np.concatenate([own, rms[j] * common])
        weight = np.repeat([1.0, PRIOR_CELLS / len(common)], [len(own), len(common)])
        order = np.argsort(x, kind="stable")
        reached = np.cumsum(weight[order])
        index = np.searchsorted(reached / reached[-1], levels).clip(max=len(x) - 1)
        out[:, j] = x[order][index] * (1 + 1 / len(own))  # few errors are seldom the largest
    return out


def weights(
    likelihood: ColumnsModule, truth: Array, hidden: Mask, mean: Array, base: Array
) -> Array:
    """Learn the weight of each column from cells that were hidden, shape (D,).

    Parameters
    ----------
    likelihood : ColumnsModule
    truth : ndarray, shape (n, D)
        In model units.
    hidden : ndarray of bool, shape (n, D)
    mean : ndarray, shape (n, S)
        What the model said of them.
    base : ndarray, shape (S,)
    """
    weight = np.ones(truth.shape[1])
    numbers, evidence, strength = [], [], []
    for j, summary, start, stop in _places(likelihood):
        seen = hidden[:, j]
        x, guess, centre = truth[seen, j], mean[seen, start:stop], base[start:stop]
        if not len(x):
            continue
        if isinstance(summary, MostProbable | YesOrNo):
            weight[j] = _mixed(summary, x.astype(int), guess, centre)
        else:
            numbers.append(j)
            away = guess[:, 0] - centre
            evidence.append(_log_evidence(away, x - centre))
            strength.append(np.square(away).mean() / max(np.square(x - centre).mean(), 1e-300))
    if numbers:
        weight[numbers] = _slopes(np.stack(evidence), np.array(strength))
    return weight


def shares(below: Array, second_below: Array, column: NDArray[np.intp], n: int) -> Array:
    """Choose the share of each of n columns, shape (n,).

    Parameters
    ----------
    below : ndarray, shape (m, 2)
        P(x < truth) and P(x <= truth) of m hidden numbers under the law of the model.
    second_below : ndarray, shape (m, 2)
        The same under the second law.
    column : ndarray of int, shape (m,)
    """
    share = np.array(SHARES)[:, None, None]
    mixed = (1 - share) * below + share * second_below  # (len(SHARES), m, 2)
    inside = (mixed[..., 1] >= (1 - LEVEL) / 2) & (mixed[..., 0] < (1 + LEVEL) / 2)
    common = PRIOR_CELLS * inside.mean(1) if len(below) else np.zeros(len(SHARES))
    chosen = np.zeros(n)
    for j in np.unique(column):
        own = inside[:, column == j]
        count = own.shape[1] + PRIOR_CELLS
        coverage = (own.sum(1) + common) / count
        chosen[j] = SHARES[int((coverage >= min(LEVEL, coverage.max()) - SLACK).argmax())]
    return chosen


def _places(likelihood: ColumnsModule) -> Iterator[tuple[int, Mean | MostProbable, int, int]]:
    """Yield each column with its summary, and where its statistics are."""
    start = 0
    for group in likelihood.groups:
        for j in group.index.tolist():
            assert isinstance(group.summary, Mean | MostProbable)
            yield j, group.summary, start, start + group.summary.width
            start += group.summary.width


def _log_evidence(guess: Array, truth: Array) -> Array:
    """Return log p(truth | guess, slope) for each of `SLOPES`, errors of unknown variance.

    Up to a constant; the variance is integrated out with the prior 1 / variance.
    """
    square = np.square(truth - SLOPES[:, None] * guess).sum(1)
    return np.asarray(
        -0.5 * len(truth) * np.log(np.maximum(square / max(square.max(), 1e-300), 1e-12))
    )


def _slopes(log_evidence: Array, strength: Array) -> Array:
    """Return the posterior means of slopes that are 1 or anything between 0 and 1.

    Parameters
    ----------
    log_evidence : ndarray, shape (n, len(SLOPES))
    strength : ndarray, shape (n,)
        Variance of the guesses over that of the truths.
    """
    evidence = np.exp(log_evidence - log_evidence.max(1, keepdims=True))
    one, other = evidence[:, -1], evidence.mean(1)
    trust = strength / (strength + FAINT)
    share = 0.5
    for _ in range(ROUNDS):  # expectation maximisation, with one slope of each kind added
        prior = share * trust
        is_one = prior * one / (prior * one + (1 - prior) * other)
        share = min(1.0, (is_one.sum() + 1) / (trust.sum() + 2))
    return np.asarray(is_one + (1 - is_one) * (evidence @ SLOPES) / evidence.sum(1))


def _mixed(summary: Mean | MostProbable, code: Array, mean: Array, base: Array) -> float:
    """Return the share of the model in its mixture with frequencies that is most probable."""
    if isinstance(summary, YesOrNo):
        mean, base = (np.concatenate([1 - p, p], -1) for p in (mean, base))
    own = mean[np.arange(len(code)), code]
    choices = np.linspace(0, 1, 41)[:, None]
    log_p = np.log(np.maximum(choices * own + (1 - choices) * base[code], 1e-12)).sum(1)
    return float(choices[(log_p - 0.5 * ((1 - choices[:, 0]) / TRUST) ** 2).argmax(), 0])
