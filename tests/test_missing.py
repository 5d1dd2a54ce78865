"""Holes for experiments."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skvae.exceptions import DataError, ParameterError
from skvae.missing import make_missing

MECHANISMS = pytest.mark.parametrize("mechanism", ["mcar", "mar", "mnar"])
NAN = math.nan


def table(n=4000, p=10, seed=0):
    """Numbers that depend on each other."""
    random = np.random.default_rng(seed)
    common = random.normal(size=(n, 1))
    return (common + random.normal(size=(n, p))) * np.logspace(-2, 3, p) + 5


def frame(n=400):
    random = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "a": random.normal(size=n),
            "b": random.choice(["x", "y", "z"], n),
            "c": random.integers(0, 2, n).astype(bool),
            "d": random.normal(size=n),
            "constant": 1.0,
            "e": pd.Categorical(random.choice(["low", "high"], n), ["low", "high"], ordered=True),
        }
    )


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def near(found, rate, n, sds=4.5):
    return abs(found - rate) < sds * math.sqrt(rate * (1 - rate) / n)


@MECHANISMS
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_as_many_cells_are_hidden_as_asked_for(mechanism, rate):
    X = table()
    hidden = make_missing(X, rate, mechanism, 0)
    assert hidden.shape == X.shape
    assert hidden.dtype == np.bool_
    assert near(hidden.mean(), rate, X.size)
    columns = hidden.mean(0)
    if mechanism == "mar":
        assert sum(columns == 0) == 3
        assert all(near(one, rate / 0.7, len(X)) for one in columns if one)
    else:
        assert all(near(one, rate, len(X)) for one in columns)


@MECHANISMS
def test_the_seed_decides(mechanism):
    X = table(200)
    first = make_missing(X, 0.3, mechanism, 0)
    assert np.array_equal(make_missing(X, 0.3, mechanism, 0), first)
    second, third = (make_missing(X, 0.3, mechanism, np.random.default_rng(0)) for _ in range(2))
    assert np.array_equal(second, third)
    assert not np.array_equal(first, second)  # holes may have been made with the same seed
    assert not np.array_equal(make_missing(X, 0.3, mechanism, 1), first)
    assert not np.array_equal(make_missing(X, 0.3, mechanism), make_missing(X, 0.3, mechanism))


def test_completely_at_random_depends_on_nothing():
    X = table()
    assert np.array_equal(make_missing(X, 0.3, "mcar", 0), make_missing(-X[::-1], 0.3, "mcar", 0))
    assert np.array_equal(make_missing(X, 0.3, "mcar", 0), make_missing(X, 0.3, random_state=0))


def test_at_random_depends_on_what_is_seen_alone():
    X = table()
    hidden = make_missing(X, 0.3, "mar", 3)
    spared = ~hidden.any(0)
    other = np.where(spared, X, table(seed=9))
    assert np.array_equal(make_missing(other, 0.3, "mar", 3), hidden)
    other = np.where(spared, table(seed=9), X)
    assert not np.array_equal(make_missing(other, 0.3, "mar", 3), hidden)
    # On what is seen it does depend, as a logistic regression with the slope 2 says.
    scores = (X - X.mean(0)) / X.std(0)
    for j in np.flatnonzero(~spared)[:3]:
        direction = np.linalg.lstsq(scores[:, spared], hidden[:, j] - hidden[:, j].mean())[0]
        score = scores[:, spared] @ direction
        score = (score - score.mean()) / score.std()
        assert slope(score, hidden[:, j]) == pytest.approx(2, abs=0.35)


def slope(score, hidden):
    """Slope of a logistic regression, by Newton's method."""
    design = np.stack([np.ones_like(score), score], 1)
    beta = np.zeros(2)
    for _ in range(20):
        p = sigmoid(design @ beta)
        information = design.T @ (design * (p * (1 - p))[:, None])
        beta += np.linalg.solve(information, design.T @ (hidden - p))
    return beta[1]


def test_not_at_random_depends_on_the_cell_itself():
    X = table()
    hidden = make_missing(X, 0.3, "mnar", 0)
    scores = (X - X.mean(0)) / X.std(0)
    found = [slope(scores[:, j], hidden[:, j]) for j in range(X.shape[1])]
    assert np.allclose(found, 2, atol=0.4)
    assert np.mean(found) == pytest.approx(2, abs=0.1)


@MECHANISMS
def test_what_is_missing_stays_so_and_does_not_count(mechanism):
    X = table()
    holes = np.random.default_rng(0).random(X.shape) < np.linspace(0, 0.8, 10)
    holes[:, :4] = False
    X[holes] = NAN
    hidden = make_missing(X, 0.3, mechanism, 0)
    assert not (hidden & holes).any()
    assert near(hidden[~holes].mean(), 0.3, (~holes).sum())
    if mechanism == "mar":
        assert sum(~hidden[:, :4].any(0)) == 3  # complete columns are spared first
        assert hidden[:, 4:].any(0).all()


@MECHANISMS
def test_no_row_becomes_empty(mechanism):
    X = table(300, 3)
    X[:100, 0] = NAN
    X[:50, 1] = NAN
    X[0] = NAN
    hidden = make_missing(X, 0.5, mechanism, 0)
    left = ~hidden & ~np.isnan(X)
    assert left[1:].any(1).all()
    assert not hidden[:50].any()  # the last cell of a row is kept
    assert hidden[50:].any()
    assert (left[50:].sum(1) == 1).any()
    if mechanism != "mar":
        kept = left[100:][left[100:].sum(1) == 1]
        assert kept.any(0).all()  # not always the same one


@MECHANISMS
def test_tables_of_all_kinds_of_columns(mechanism):
    X = frame()
    hidden = make_missing(X, 0.2, mechanism, 0)
    assert hidden.shape == X.shape
    assert near(hidden.mean(), 0.2, X.size)
    same = pl.DataFrame(X.astype({"e": str}))
    assert make_missing(same, 0.2, mechanism, 0).shape == X.shape
    X.loc[:10, "b"] = None
    assert not make_missing(X, 0.2, mechanism, 0)[:10, 1].any()


def test_each_category_has_a_rate_of_its_own():
    X = frame(4000)
    hidden = make_missing(X, 0.3, "mnar", 0)
    rates = [hidden[X["b"] == level, 1].mean() for level in "xyz"]
    assert max(rates) - min(rates) > 0.3
    assert near(hidden[:, 1].mean(), 0.3, 4000)
    ordered = [hidden[X["e"] == level, 5].mean() for level in ("low", "high")]
    assert ordered[1] - ordered[0] > 0.3  # as numbers: more of the high ones
    assert near(hidden[:, 4].mean(), 0.3, 4000)  # where there is only one value, none does


@pytest.mark.parametrize("rate", [0, 1, -0.1, "half", NAN])
def test_rates_must_be_possible(rate):
    with pytest.raises(ParameterError, match="rate"):
        make_missing(table(10), rate)


def test_what_cannot_be_had_is_refused():
    with pytest.raises(ParameterError, match="Did you mean 'mnar'"):
        make_missing(table(10), 0.1, "mnarr")
    with pytest.raises(ParameterError, match=r"would hide 114% of the columns .* 7 of 10"):
        make_missing(table(10), 0.8, "mar")
    with pytest.raises(ParameterError, match="0 of 1"):
        make_missing(table(10, 1), 0.1, "mar")
    with pytest.raises(ParameterError, match="random_state must be"):
        make_missing(table(10), 0.1, random_state=-1)
    with pytest.raises(DataError):
        make_missing(np.zeros(3), 0.1)
