"""Holes for experiments: hiding known cells of a table at random, or not at random.

References
----------
.. [1] Rubin, "Inference and Missing Data", 1976
.. [2] Muzellec, Josse, Boyer and Cuturi, "Missing Data Imputation using Optimal Transport", 2020,
   arXiv:2002.03860, whose mechanisms these are, but for the rate
"""

from collections.abc import Callable
from numbers import Real
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import ParameterError, did_you_mean
from skvae.schema import Schema

__all__ = ["Mechanism", "hidden_cells", "make_missing"]

Mechanism = Literal["mcar", "mar", "mnar"]
Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SLOPE = 2.0  # of the log-odds, for one standard deviation of what they depend on
SHARE = 0.3  # of the columns, which say where others have holes
MOST = 0.95  # that may be hidden of one column


def make_missing(
    X: Any,
    rate: float,
    mechanism: Mechanism = "mcar",
    random_state: int | np.random.Generator | None = None,
) -> Mask:
    """Choose known cells of a table to hide.

    Parameters
    ----------
    X : array or DataFrame (pandas, polars), shape (n, p)
        Cells that are missing already stay so, and are not counted.
    rate : float
        Expected share of the known cells that are hidden, between 0 and 1.
    mechanism : {"mcar", "mar", "mnar"}
        Which cells are hidden [1]_. ``"mcar"``: any, with the same probability. ``"mar"``: 30 % of
        the columns, chosen at random, complete ones first, are spared, and the log-odds of a hole
        in each other column are linear in what these hold. ``"mnar"``: the log-odds are linear in
        the cell itself, so that high values are hidden more often. Categories count as numbers
        that are drawn at random for each, and ordered ones as their place.
    random_state : int, Generator or None

    Returns
    -------
    hidden : ndarray of bool, shape (n, p)
        True where a cell is to be hidden. No row loses its last value: one cell of such a row,
        chosen at random, is kept, so that a table of few columns loses a little less than asked.

    Raises
    ------
    ParameterError
        The mechanism or the rate cannot be had.
    DataError
        X is no table.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.missing import make_missing
    >>> X = np.random.default_rng(0).normal(size=(1000, 10))
    >>> make_missing(X, 0.3, "mar", random_state=0).mean().round(1)
    np.float64(0.3)
    """
    schema = Schema.infer(X)
    return hidden_cells(
        schema, schema.encode(X), ~schema.missing(X), rate, mechanism, random_state
    )


def hidden_cells(
    schema: Schema,
    values: Array,
    known: Mask,
    rate: float,
    mechanism: Mechanism,
    random_state: int | np.random.Generator | None,
) -> Mask:
    """Choose cells to hide of a table whose schema is known; see `make_missing`.

    Parameters
    ----------
    schema : Schema
    values : ndarray, shape (n, d)
        The modelled columns, NaN where missing.
    known : ndarray of bool, shape (n, p)
    """
    if not isinstance(rate, Real) or not 0 < rate < 1:
        raise ParameterError(f"rate must be a number between 0 and 1; received {rate!r}.")
    if mechanism not in MECHANISMS:
        raise ParameterError(
            f"mechanism={mechanism!r} is not known.{did_you_mean(str(mechanism), MECHANISMS)} "
            f"Known: {', '.join(map(repr, MECHANISMS))}."
        )
    random = _generator(random_state)
    scores = _scores(schema, values, random)
    probability = MECHANISMS[mechanism](scores, known, float(rate), random)
    hidden: Mask = known & (random.random(known.shape) < probability)
    return hidden & ~_last(hidden, known, random)


def _generator(random_state: int | np.random.Generator | None) -> np.random.Generator:
    """Return a generator whose numbers are not those of ``default_rng(random_state)``.

    These may have made the table, or the holes that it has.
    """
    if isinstance(random_state, np.random.Generator):
        return random_state
    try:
        return np.random.default_rng(np.random.SeedSequence(random_state, spawn_key=(1,)))
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"random_state must be an int >= 0, a Generator or None; received {random_state!r}."
        ) from error


def _last(hidden: Mask, known: Mask, random: np.random.Generator) -> Mask:
    """Return one known cell of each row that would lose them all."""
    order = np.where(known, random.random(known.shape), -1)
    chosen = np.arange(known.shape[1]) == order.argmax(1)[:, None]
    lost = known.any(1) & (hidden == known).all(1)
    return np.asarray(chosen & lost[:, None])


def _scores(schema: Schema, values: Array, random: np.random.Generator) -> Array:
    """Return columns as numbers of mean 0 and variance 1, 0 where there is none, (n, p)."""
    scores = np.zeros((len(values), len(schema.columns)))
    for k, j in enumerate(schema.modelled):
        column, x = schema.columns[j], values[:, k]
        seen = ~np.isnan(x)
        own = x[seen]
        if column.levels and column.kind != "ordinal":
            own = random.normal(size=len(column.levels))[own.astype(int)]
        scores[seen, j] = _standardized(own)
    return scores


def _standardized(x: Array) -> Array:
    sd = x.std()
    return (x - x.mean()) / sd if sd > 0 else np.zeros_like(x)


def _completely(scores: Array, known: Mask, rate: float, random: np.random.Generator) -> Array:
    return np.full(known.shape, rate)


def _given_others(scores: Array, known: Mask, rate: float, random: np.random.Generator) -> Array:
    p = known.shape[1]
    n_spared = max(1, round(SHARE * p))
    order = random.permutation(p)
    order = order[np.argsort((~known).sum(0)[order] > 0, kind="stable")]  # complete ones first
    spared, others = order[:n_spared], np.sort(order[n_spared:])
    own = rate * known.sum() / max(1, known[:, others].sum())
    if own > MOST:
        raise ParameterError(
            f"rate={rate!r} with mechanism='mar' would hide {own:.0%} of the columns that may "
            f"have holes, {len(others)} of {p}. Lower the rate, or use 'mcar' or 'mnar'."
        )
    weights = random.normal(size=(n_spared, len(others)))
    out = np.zeros(known.shape)
    for j, weight in zip(others, weights.T, strict=True):
        out[:, j] = _logistic(_standardized(scores[:, spared] @ weight), known[:, j], own)
    return out


def _given_itself(scores: Array, known: Mask, rate: float, random: np.random.Generator) -> Array:
    columns = [_logistic(scores[:, j], known[:, j], rate) for j in range(known.shape[1])]
    return np.stack(columns, 1)


def _logistic(score: Array, known: Mask, rate: float) -> Array:
    """Return probabilities whose log-odds are linear in the score, ``rate`` on average."""
    own = SLOPE * score[known]
    low, high = -100.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        if _sigmoid(own + middle).sum() < rate * len(own):
            low = middle
        else:
            high = middle
    return _sigmoid(SLOPE * score + high)


def _sigmoid(x: Array) -> Array:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


MECHANISMS: dict[str, Callable[[Array, Mask, float, np.random.Generator], Array]] = {
    "mcar": _completely,
    "mar": _given_others,
    "mnar": _given_itself,
}
