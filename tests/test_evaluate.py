"""What `VAEImputer.evaluate` reports, and the simple fills that it compares with."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from skvae import VAEImputer, _rivals
from skvae._cell_scores import crps, point_errors, summary
from skvae.evaluation import CellScores, ImputationReport
from skvae.exceptions import DataError, ParameterError
from skvae.missing import make_missing

NAN = math.nan


# -- figures ----


def test_crps_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    x, weight = random.normal(size=30), random.random(30)
    weight /= weight.sum()
    pairs = weight @ np.abs(x[:, None] - x) @ weight
    for y in (-3.0, 0.1, x[4]):
        assert crps(x, weight, y) == pytest.approx(weight @ np.abs(x - y) - pairs / 2, rel=1e-12)
    assert crps(np.array([2.0]), np.array([1.0]), 5.0) == 3


def test_crps_of_a_normal_law_is_its_closed_form():
    x = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    weight = np.full(len(x), 1 / len(x))
    for y in (0.0, 1.3):
        law = stats.norm
        expected = y * (2 * law.cdf(y) - 1) + 2 * law.pdf(y) - 1 / math.sqrt(math.pi)
        assert crps(x, weight, y) == pytest.approx(expected, abs=1e-3)


def test_errors_are_averaged_where_they_apply():
    truth, guess = np.array([1.0, 4.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0, 0.0])
    sd, is_code = np.array([2.0, 1.0, 1.0, 1.0]), np.array([False, False, True, True])
    values = point_errors(truth, guess, sd, is_code)
    assert summary(values, slice(None)) == CellScores(
        n=4, nrmse=math.sqrt((1 + 9) / 2), mae=2.0, error_rate=0.5
    )
    assert summary(values, is_code) == CellScores(n=2, error_rate=0.5)
    assert summary(values, np.array([False, True, False, False])) == CellScores(1, 3.0, 3.0)


def report(overall, mean):
    return ImputationReport(
        "mcar", 0.2, -1.5, overall, {"a": overall}, {"mean": mean}, {"mean": {"a": mean}}
    )


def test_it_helps_where_it_is_better_and_nowhere_worse():
    mean = CellScores(9, nrmse=1.0, error_rate=0.4)
    for nrmse, wrong, helps in (
        (0.9, 0.4, True),
        (1.0, 0.3, True),
        (1.0, 0.4, False),
        (0.5, 0.5, False),
        (1.1, 0.1, False),
    ):
        assert report(CellScores(9, nrmse=nrmse, error_rate=wrong), mean).helps is helps
    assert report(CellScores(9, nrmse=0.9), CellScores(9, nrmse=1.0)).helps
    assert not report(CellScores(9, error_rate=0.5), CellScores(9, error_rate=0.4)).helps


def test_a_report_can_be_read():
    full = CellScores(9, 0.9, 0.7, None, None, 0.88, 2.5, 0.41)
    text = str(report(full, CellScores(9, 1.0, 0.8)))
    lines = text.splitlines()
    assert lines[0] == (
        "9 cells hidden (mcar, rate 0.2); log score -1.500 nats per cell; better than the mean"
    )
    assert lines[2].split() == ["nrmse", "mae", "coverage", "width", "crps"]
    assert lines[3].split() == ["VAE", "0.900", "0.700", "0.880", "2.500", "0.410"]
    assert lines[4].split() == ["mean", "1.000", "0.800", "–", "–", "–"]
    assert lines[7].split()[0] == "a"
    assert len({len(line) for line in lines[2:5]}) == 1
    assert "no better than" in str(report(full, full))


# -- other ways to fill in ----

MIXED = np.array(
    [[1.0, 0.0, 10.0], [2.0, 1.0, NAN], [NAN, 1.0, 30.0], [6.0, NAN, 20.0], [3.0, 2.0, 40.0]]
)
LEVELS = [0, 3, 0]


def test_the_mean_fill():
    filled = _rivals.mean(MIXED, LEVELS, 0)
    assert filled[2, 0] == 3
    assert filled[3, 1] == 1  # the most frequent
    assert filled[1, 2] == 25
    assert np.array_equal(filled[~np.isnan(MIXED)], MIXED[~np.isnan(MIXED)])
    assert np.isnan(MIXED).sum() == 3


def test_near_rows_are_near_in_standardised_columns():
    # Two groups, told by a column of small numbers and by a code; the third is noise of any size.
    random = np.random.default_rng(0)
    group = np.arange(40) % 2
    X = np.stack([group * 1e-3, group, random.normal(size=40) * 1e3, group * 5.0 + 1], 1)
    truth = X.copy()
    X[0, 3] = X[1, 3] = X[2, 1] = X[3, 1] = NAN
    filled = _rivals.knn(X, [0, 2, 0, 0], 0)
    assert np.allclose(filled, truth)
    assert np.array_equal(filled[~np.isnan(X)], X[~np.isnan(X)])


def test_near_rows_vote():
    X = np.array([[0.0, 0.0]] * 3 + [[0.1, 1.0]] * 2 + [[9.0, 2.0]] * 9 + [[0.0, NAN]])
    assert _rivals.knn(X, [0, 3], 0)[-1, 1] == 0
    X[:5, 1] = [1, 1, 1, 0, 0]
    assert _rivals.knn(X, [0, 3], 0)[-1, 1] == 1


def dependent(n=120):
    """A number, its square, and its sign as a code."""
    x = np.random.default_rng(0).normal(size=n)
    return np.stack([x * 100, x**2 + 7, np.where(x > 0, 2.0, 0.0)], 1)


def test_forests_find_what_is_not_linear():
    truth = dependent()
    hidden = make_missing(truth, 0.2, random_state=0)
    X = np.where(hidden, NAN, truth)
    filled = _rivals.forest(X, [0, 0, 3], 0, n_trees=20, max_rounds=3)
    assert np.array_equal(filled[~hidden], truth[~hidden])
    codes = hidden[:, 2]
    assert set(filled[codes, 2]) <= {0, 2}
    assert (filled[codes, 2] != truth[codes, 2]).mean() < 0.15
    mean = _rivals.mean(X, [0, 0, 3], 0)
    square = hidden[:, 1]
    square &= ~hidden[:, 0]
    error, worst = (np.abs(f - truth)[square, 1].mean() for f in (filled, mean))
    assert error < 0.3 * worst
    again = _rivals.forest(X, [0, 0, 3], 0, n_trees=20, max_rounds=3)
    assert np.array_equal(again, filled)
    other = _rivals.forest(X, [0, 0, 3], 1, n_trees=20, max_rounds=3)
    assert not np.array_equal(other, filled)


def test_forests_stop_once_they_change_no_less(monkeypatch):
    class Planned:
        """Predicts what is planned for a round."""

        plan = ()

        def __init__(self, **_):
            pass

        def fit(self, X, y):
            self.fits.append(len(y))

        def predict(self, X):
            return np.full(len(X), self.plan[len(self.fits) - 1])

    class Number(Planned):
        plan, fits = (4.0, 5.0, 8.0, 9.0, 9.5), []  # changes: 4, 1, 3

    class Code(Planned):
        plan, fits = (1.0, 0.0, 0.0, 0.0, 0.0), []

    monkeypatch.setattr("sklearn.ensemble.RandomForestRegressor", Number)
    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier", Code)
    X = np.array([[0.0, 0.0], [0.0, 1.0], [2.0, 1.0], [2.0, 0.0], [NAN, 0.0]])
    filled = _rivals.forest(X, [0, 2], 0)
    assert filled[4, 0] == 5 + 1  # of the second round, in units of the data: mean 1, sd 1
    assert Number.fits == [4, 4, 4]
    Number.fits.clear()
    X[0, 1] = NAN  # as long as codes settle, it goes on
    Code.plan = (1.0, 1.0, 1.0, 1.0, 1.0)
    Number.plan = (4.0, 5.0, 8.0, 8.0, 8.0)
    # changes of codes: 1, 0, 0; of numbers: 4, 1, 3: both no less in the third
    assert _rivals.forest(X, [0, 2], 0)[4, 0] == 6
    Number.fits.clear()
    Code.fits.clear()
    assert _rivals.forest(X, [0, 2], 0, max_rounds=1)[4, 0] == 5
    assert (len(Number.fits), len(Code.fits)) == (1, 1)
    assert RandomForestRegressor is not Number
    assert RandomForestClassifier is not Code


# -- the whole ----


def frame(n=150):
    random = np.random.default_rng(0)
    z = random.normal(size=n)
    X = pd.DataFrame(
        {
            "a": z * 20 + random.normal(size=n),
            "b": -z + 0.1 * random.normal(size=n),
            "c": np.where(z + 0.1 * random.normal(size=n) > 0, "yes", "no"),
            "d": np.select([z < -0.5, z < 0.5], ["u", "v"], "w"),
            "name": [f"row {i}, and then some more text to say" for i in range(n)],
        }
    )
    X.loc[:5, "a"] = np.nan
    return X


def small(**changes):
    params = {
        "hidden_layer_sizes": (16,),
        "n_components": 2,
        "max_epochs": 40,
        "learning_rate": 0.01,
        "n_samples": 64,
        "max_samples": 64,
        "random_state": 0,
        "device": "cpu",
    }
    return VAEImputer(**(params | changes))


@pytest.fixture(scope="module")
def imputer():
    return small(max_epochs=1).fit(frame())


@pytest.fixture(scope="module")
def found(imputer):
    full = small().set_params()
    full.__dict__.update(imputer.__dict__)
    full.set_params(max_epochs=60)
    return full.evaluate(frame(), 0.25, random_state=3, compare=("knn",))


def test_a_vae_that_is_trained_beats_the_mean(found):
    assert found.helps
    assert found.overall.nrmse < 0.7 < found.rivals["mean"].nrmse
    assert found.overall.error_rate < found.rivals["mean"].error_rate - 0.1
    assert 0.75 < found.overall.coverage <= 1
    assert found.overall.crps < found.overall.mae < found.overall.nrmse
    assert 0 < found.overall.log_loss < 1
    assert list(found.rivals) == ["mean", "knn"]
    assert list(found.columns) == ["a", "b", "c", "d"]
    assert (found.mechanism, found.rate) == ("mcar", 0.25)


def test_each_column_has_its_own_figures(found):
    parts = list(found.columns.values())
    assert sum(one.n for one in parts) == found.overall.n
    assert abs(found.overall.n - 0.25 * 594) < 45
    numbers, codes = parts[:2], parts[2:]
    assert all(one.error_rate is one.log_loss is None for one in numbers)
    assert all(one.nrmse is one.coverage is one.width is one.crps is None for one in codes)
    total = sum(one.n * one.nrmse**2 for one in numbers) / sum(one.n for one in numbers)
    assert found.overall.nrmse == pytest.approx(math.sqrt(total), rel=1e-12)
    for name in ("error_rate", "log_loss"):
        total = sum(one.n * getattr(one, name) for one in codes) / sum(one.n for one in codes)
        assert getattr(found.overall, name) == pytest.approx(total, rel=1e-12)
    assert json.loads(json.dumps(found.to_dict()))["helps"] is True
    assert found.to_dict()["rival_columns"]["knn"]["a"]["nrmse"] > 0
    assert "knn" in str(found)


@pytest.mark.parametrize("calibrate", [False, True])
def test_the_figures_are_those_of_an_imputer_that_never_saw_the_cells(calibrate):
    X = frame().drop(columns="name")
    own = small(max_epochs=2, calibrate=calibrate).fit(X)
    before = own.transform(X)
    report = own.evaluate(X, 0.3, "mnar", random_state=3, compare=())
    pd.testing.assert_frame_equal(own.transform(X), before)
    hidden = make_missing(X, 0.3, "mnar", 3)
    other = small(max_epochs=2, calibrate=calibrate, random_state=3).fit(X.mask(hidden))
    filled = other.transform(X.mask(hidden))
    errors = []
    for j, name in enumerate("ab"):
        sd = X[name].std(ddof=0)
        gone = hidden[:, j]
        error = ((filled[name] - X[name])[gone] / sd).to_numpy()
        errors.append(error)
        assert report.columns[name].nrmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
        assert report.columns[name].mae == pytest.approx(np.abs(error).mean(), rel=1e-9)
        mean = X.mask(hidden)[name].mean()
        rival = (mean - X[name])[gone] / sd
        expected = np.sqrt(np.mean(rival**2))
        assert report.rival_columns["mean"][name].nrmse == pytest.approx(expected, rel=1e-9)
        low, high = (end[name][gone] for end in other.interval(X.mask(hidden)))
        inside = (low <= X[name][gone]) & (X[name][gone] <= high)
        assert report.columns[name].coverage == pytest.approx(inside.mean())
        assert report.columns[name].width == pytest.approx(((high - low) / sd).mean(), rel=1e-9)
    pooled = np.concatenate(errors)
    assert report.overall.nrmse == pytest.approx(np.sqrt(np.mean(pooled**2)), rel=1e-9)
    for j, name in enumerate("cd", 2):
        gone = hidden[:, j]
        assert report.columns[name].error_rate == (filled[name] != X[name])[gone].mean()
    values = own.schema_.encode(X)
    score, count = other._members.log_scores(values, hidden, other._sampler, other._seed)
    assert report.log_score == pytest.approx(score.sum() / count.sum(), rel=1e-9)
    if calibrate:
        assert (own._members.calibration.weight < 1).any()
        return  # scores are those of the model, before its correction
    # With one cell of a row hidden, the score of a category is its log-loss.
    for j, name in enumerate("cd", 2):
        alone = np.zeros_like(hidden)
        alone[:, j] = hidden[:, j]
        blind = np.where(hidden, NAN, values)
        blind[:, j] = values[:, j]
        score, count = other._members.log_scores(blind, alone, other._guesser, other._seed)
        assert report.columns[name].log_loss == pytest.approx(-score.sum() / count.sum(), rel=1e-6)


def test_columns_keep_two_values(imputer):
    X = np.random.default_rng(0).normal(size=(30, 3))
    X[2:, 0] = NAN
    own = small(max_epochs=1).fit(X)
    report = own.evaluate(X, 0.5, random_state=0, compare=())
    assert "0" not in report.columns
    assert set(report.columns) == {"1", "2"}


def test_what_makes_no_sense_is_refused(imputer):
    with pytest.raises(ParameterError, match="Did you mean 'forest'"):
        imputer.evaluate(frame(), compare=("forrest",))
    with pytest.raises(ParameterError, match="mechanism"):
        imputer.evaluate(frame(), mechanism="at random")
    with pytest.raises(ParameterError, match="rate"):
        imputer.evaluate(frame(), rate=2)
    with pytest.raises(DataError, match="no cell to hide"):
        imputer.evaluate(frame(), rate=1e-9)
    with pytest.raises(DataError, match="Column 'a' of X has no two different values"):
        imputer.evaluate(frame()[:5])
