"""What cells that were hidden from a model teach it about its guesses and intervals."""

import numpy as np
import pytest
import torch

from skvae import VAEImputer, calibration, likelihoods, load
from skvae.calibration import CODE, LEVEL, N_QUANTILES, NUMBER, WHOLE, Calibration
from skvae.estimators._calibrate import MOST_ROWS, choose_cells
from skvae.exceptions import ModelFileError, NotIdentifiedWarning
from skvae.likelihoods import Bernoulli, Categorical, Columns, Gaussian, NegativeBinomial

SMALL = {"hidden_layer_sizes": (32,), "n_samples": 64, "max_samples": 64, "random_state": 0}
KINDS = Columns((Gaussian(), Categorical(3), Bernoulli(), NegativeBinomial()))


def built(spec=KINDS):
    return spec.build((len(spec.columns),))


def table(n=120, seed=0):
    """Two columns that know each other, a code of them, and one of noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    y = x + 0.3 * rng.normal(size=n)
    return np.stack([x, y, np.digitize(x, [-0.5, 0.5]), 7 + 3 * rng.normal(size=n)], 1)


def holed(X, share=0.3, seed=1):
    return np.where(np.random.default_rng(seed).random(X.shape) < share, np.nan, X)


@pytest.fixture(scope="module")
def fitted():
    kinds = {2: "categorical"}
    return [
        VAEImputer(
            kinds=kinds, max_epochs=200, learning_rate=0.01, calibrate=calibrate, **SMALL
        ).fit(holed(table()))
        for calibrate in (True, False)
    ]


def test_noise_is_guessed_by_its_mean_and_the_rest_stays(fitted):
    own, plain = fitted
    weight = own._members.calibration.weight
    assert plain._members.calibration is None
    assert weight[3] < 0.4 < 0.9 < weight[:2].min()
    X = table(2000, seed=5)
    holes = np.where(np.arange(4) == 3, np.nan, X)
    errors = [np.sqrt(np.mean((one.transform(holes) - X)[:, 3] ** 2)) / 3 for one in fitted]
    assert errors[0] < 1.02
    assert errors[1] > errors[0] + 0.02


def test_intervals_hold_what_they_promise(fitted):
    X = table(600, seed=6)
    holes = holed(X, seed=7)
    hidden = np.isnan(holes)[:, [0, 1, 3]]
    covered = []
    for one in fitted:
        low, high = (end[:, [0, 1, 3]] for end in one.interval(holes, LEVEL))
        truth = X[:, [0, 1, 3]]
        covered.append(((low <= truth) & (truth <= high))[hidden].mean())
    assert covered[1] + 0.01 < covered[0]
    assert 0.82 < covered[0] < 0.95


def test_draws_of_rows_and_scores_are_those_of_the_model(fitted):
    own, plain = fitted
    X = holed(table(40, seed=8))
    for a, b in zip(*(one.sample(X, 3, random_state=0) for one in fitted), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(own.score_samples(X), plain.score_samples(X))


def test_what_is_said_of_a_cell_agrees_with_what_is_filled_in(fitted):
    own, _ = fitted
    X = holed(table(60, seed=9))
    own = VAEImputer.set_params(own, n_samples=4096, max_samples=4096)
    cells, filled = own.cell_distribution(X), own.transform(X)
    number = cells.column != 2
    found = filled[cells.row[number], cells.column[number].astype(int)]
    spread = np.array([1, 1, 0, 3])[cells.column[number].astype(int)]
    assert np.abs((cells.mean[number] - found) / spread).max() < 0.25
    own.set_params(n_samples=64, max_samples=64)
    for p in cells.probability[~number]:
        assert sum(p.values()) == pytest.approx(1)


# -- by hand ----


def test_a_slope_is_least_squares_that_leans_to_one():
    guess = np.array([-1.0, 1.0, -2.0, 2.0])
    slope = calibration._slope
    assert slope(guess, guess) == 1
    assert slope(guess, 2 * guess) == 1
    assert slope(guess, -guess) == pytest.approx(0, abs=1e-9)
    assert slope(guess, 0.5 * guess) == pytest.approx(0.5)  # no noise: sure of it
    truth = np.array([1.0, 1.0, -1.0, 1.0])  # slope 0.4, residuals of mean square 0.6
    assert slope(guess, truth) == pytest.approx((4 + 0.6) / (10 + 0.6))
    assert slope(np.zeros(3), np.ones(3)) == 1


def test_codes_are_mixed_with_their_frequencies():
    likelihood = built()
    n = 60
    rng = np.random.default_rng(0)
    truth = np.stack(
        [np.zeros(n), rng.integers(3, size=n), rng.integers(2, size=n), np.ones(n)], 1
    )
    base = calibration.base_of(likelihood, truth, np.ones((n, 4), bool))
    assert base[0] == 0
    assert base[4] == pytest.approx((truth[:, 2].sum() + 1) / (n + 2))
    assert base[1:4] == pytest.approx((np.bincount(truth[:, 1].astype(int)) + 1) / (n + 3))
    mean = np.tile(base, (n, 1))
    mean[:, 1:4] = np.eye(3)[truth[:, 1].astype(int)]  # always right
    mean[:, 4] = np.where(truth[:, 2] == 1, 0.01, 0.99)  # always wrong
    hidden = np.ones((n, 4), bool)
    hidden[:, 3] = False
    weight = calibration.weights(likelihood, truth, hidden, mean, base)
    assert weight.tolist() == [1, 1, 0, 1]
    low, high = calibration.range_of(likelihood, truth, hidden | True)
    assert low.tolist() == [0, 0, 0, 0, 0, 1]
    assert high.tolist() == [0, 1, 1, 1, 1, 1]


def test_shares_are_the_least_with_which_intervals_hold():
    n = 400
    u = (np.arange(n) + 0.5) / n
    sure = np.stack([u, u], 1)
    blind = np.where(u[:, None] < 0.2, 0.0, sure)  # a fifth lies below all draws
    column = np.repeat([0, 1], n)
    found = calibration.shares(np.concatenate([sure, blind]), np.tile(sure, (2, 1)), column, 3)
    assert found[0] == found[2] == 0
    # A truth below all draws is inside where share · u is at least 0.05: 0.4 · u, from 1/8 on,
    # leaves out 1/8 below and, as always, 1/20 above; 0.55 · u leaves out 1/11 below, 1 · u 1/20.
    assert found[1] == 1.0
    assert calibration.shares(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, int), 2).sum() == 0


def test_errors_of_all_columns_count_for_a_few_more_of_each():
    error = np.concatenate([np.full(20, 1.0), np.full(20, -1.0), np.full(20, 100.0)])
    column = np.repeat([0, 0, 2], 20)
    found = calibration.quantiles_of_errors(error, column, 3)
    assert found.shape == (N_QUANTILES, 3)
    assert (found[:, 1] == 0).all()
    # 40 cells and 20 like all, of which 40 of 60 have their sign; a bit more than what was seen
    assert set(found[:, 0]) == {-1 - 1 / 40, 1 + 1 / 40}
    assert np.mean(found[:, 0] > 0) == pytest.approx((20 + 20 * 40 / 60) / 60, abs=1 / 41)
    assert np.mean(found[:, 2] > 0) == pytest.approx((20 + 20 * 40 / 60) / 40, abs=1 / 41)
    assert (
        calibration.quantiles_of_errors(np.zeros(0), np.zeros(0, int), 2).tolist()
        == [[0, 0]] * N_QUANTILES
    )


def law_of(kind, share=0.2, ends=(-10.0, 10.0)):
    one = np.ones(1)
    errors = np.linspace(-1, 1, N_QUANTILES)[:, None]
    return Calibration(
        weight=0.5 * one,
        base=one,
        low=-one,
        high=one,
        centre=2 * one,
        share=share * one,
        second=errors,
        ends=np.array(ends)[:, None],
        kind=kind * one,
    )


def test_the_law_is_a_mixture_with_the_guess_and_its_errors():
    draws, weight = np.array([5.0, 16.0]), np.array([0.75, 0.25])
    own = law_of(NUMBER)
    guess = own.mean(0, draws, weight)
    assert guess == pytest.approx(0.5 * (0.75 * 5 + 0.25 * 10) + 0.5 * 2)  # 16 counts as 10
    x, w = own.law(0, draws, weight)
    assert w.sum() == pytest.approx(1)
    assert w[:2].tolist() == pytest.approx([0.6, 0.2])
    assert x[2:] == pytest.approx(guess + np.linspace(-1, 1, N_QUANTILES))
    assert law_of(NUMBER, ends=(-1.0, 1.5)).law(0, draws, weight)[0][2:].max() == 1.5
    whole = law_of(WHOLE).law(0, draws, weight)[0][2:]
    assert set(whole) == {3.0, 4.0, 5.0}
    codes = law_of(CODE).law(0, draws, weight)[0][2:]
    assert np.array_equal(codes, np.linspace(-1, 1, N_QUANTILES))
    assert law_of(NUMBER, share=0.0).law(0, draws, weight)[0] is draws


def test_kinds_of_columns():
    assert calibration.kinds_of(built(), KINDS).tolist() == [NUMBER, CODE, CODE, WHOLE]


# -- when there is none ----


def test_too_few_cells_and_cells_that_hide_themselves_teach_nothing():
    X = np.random.default_rng(0).normal(size=(30, 3))
    X[:5, 0] = np.nan
    assert VAEImputer(max_epochs=1, **SMALL).fit(X)._members.calibration is None
    X = np.random.default_rng(0).normal(size=(300, 3))
    X[:50, 0] = np.nan
    with pytest.warns(NotIdentifiedWarning):
        own = VAEImputer(max_epochs=1, mnar="self_masking", **SMALL).fit(X)
    assert own._members.calibration is None


def test_counts_do_not_explode():
    h = torch.tensor([0.0, 5.0, 50.0])
    ratio = likelihoods.Poisson().build((3,))(h).mean
    assert ratio[0] == pytest.approx(1)
    assert ratio[1:] == pytest.approx(np.log1p(np.exp([5.0, 50.0])) / np.log(2), rel=1e-4)


# -- in files ----


def test_it_is_in_the_file(fitted, tmp_path):
    own, _ = fitted
    path = own.save(tmp_path / "own.safetensors") or tmp_path / "own.safetensors"
    again = load(path)
    for name, value in vars(own._members.calibration).items():
        np.testing.assert_array_equal(getattr(again._members.calibration, name), value)
    X = holed(table(20, seed=3))
    np.testing.assert_array_equal(own.transform(X), again.transform(X))


@pytest.mark.parametrize(
    ("name", "value"), [("weight", 2.0), ("share", -0.1), ("base", np.nan), ("second", np.inf)]
)
def test_one_that_makes_no_sense_is_refused(fitted, name, value):
    from skvae.estimators._keep_table import _calibration

    own, _ = fitted
    cores = list(own._members.cores)
    tensors = {
        f"calibration.{k}": torch.from_numpy(v.copy())
        for k, v in vars(own._members.calibration).items()
    }
    assert isinstance(_calibration(cores, tensors), Calibration)
    tensors[f"calibration.{name}"].view(-1)[0] = value
    with pytest.raises(ModelFileError, match="calibration"):
        _calibration(cores, tensors)
    del tensors[f"calibration.{name}"]
    with pytest.raises(ModelFileError, match="calibration"):
        _calibration(cores, tensors)


def test_cells_to_learn_from_lie_anywhere_in_a_long_table():
    X = np.random.default_rng(0).normal(size=(5000, 3))
    rows = np.flatnonzero(choose_cells(X, 0).any(1))
    assert len(rows) <= MOST_ROWS
    assert (np.bincount(rows // 1000, minlength=5) > 50).all()
    np.testing.assert_array_equal(choose_cells(X, 0), choose_cells(X, 0))
    assert choose_cells(X[:20], 0) is None
