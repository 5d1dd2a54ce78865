"""What cells that were hidden from a model teach it about its guesses and intervals."""

import numpy as np
import pytest
import torch

from skvae import VAEImputer, calibration, likelihoods, load
from skvae.calibration import CODE, LEVEL, N_QUANTILES, NUMBER, WHOLE, Calibration
from skvae.estimators._calibrate import MOST_ROWS, N_FOLDS, hold_out
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
        ).fit(holed(table(300)))
        for calibrate in (True, False)
    ]


def test_noise_is_guessed_by_its_mean_and_the_rest_stays(fitted):
    own, plain = fitted
    weight = own._members.calibration.weight
    assert plain._members.calibration is None
    assert weight[3] < 0.5 < 0.9 < weight[:2].min()
    X = table(2000, seed=5)
    holes = np.where(np.arange(4) == 3, np.nan, X)
    errors = [np.sqrt(np.mean((one.transform(holes) - X)[:, 3] ** 2)) / 3 for one in fitted]
    assert errors[0] < 1.02
    assert errors[1] > errors[0] + 0.01


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


def test_scores_are_those_of_the_model(fitted):
    own, plain = fitted
    X = holed(table(40, seed=8))
    np.testing.assert_array_equal(own.score_samples(X), plain.score_samples(X))


def test_draws_have_the_corrected_laws_and_stay_together(fitted):
    X = table(400, seed=8)
    X[:, :3] = np.nan
    for one in fitted:
        one.set_params(n_samples=1024, max_samples=1024)
    own, _ = fitted
    draws, model = (np.stack(one.sample(X, 50, random_state=0)) for one in fitted)
    low, high = own.interval(X, LEVEL)
    inside = (low[:, :2] <= draws[..., :2]) & (draws[..., :2] <= high[:, :2])
    assert inside.mean() == pytest.approx(LEVEL, abs=0.02)
    share = own._members.calibration.share
    assert share[:2].max() > 0
    together = [np.corrcoef(x[..., 0].ravel(), x[..., 1].ravel())[0, 1] for x in (draws, model)]
    assert together[0] == pytest.approx(together[1], abs=0.04)
    assert together[0] > 0.85
    cells = own.cell_distribution(X[:1])
    said = next(p for p in cells.probability if p is not None)
    drawn = np.stack(own.sample(X[:1], 4000, random_state=0))[:, 0, 2]
    found = np.bincount(drawn.astype(int), minlength=3) / 4000
    assert found == pytest.approx([said.get(k, 0.0) for k in (0.0, 1.0, 2.0)], abs=0.06)
    for one in fitted:
        one.set_params(n_samples=64, max_samples=64)


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


def slopes(*pairs):
    strength = np.array([np.mean(g**2) / np.mean(y**2) for g, y in pairs])
    return calibration._slopes(
        np.stack([calibration._log_evidence(*pair) for pair in pairs]), strength
    )


def test_a_slope_is_one_until_cells_speak_against_it():
    rng = np.random.default_rng(0)
    guess, noise = rng.normal(size=(2, 400))
    few = slice(12)
    right, half = (guess, guess + noise), (guess, 0.5 * guess + noise)
    assert slopes(right)[0] > 0.97
    assert slopes(half)[0] == pytest.approx(0.5, abs=0.1)
    assert slopes((guess, -guess))[0] == pytest.approx(0, abs=0.02)
    assert slopes((guess, 2 * guess))[0] == pytest.approx(1, abs=1e-4)
    # Twelve cells for themselves, beside columns that are right, and beside some that are not
    little = (guess[few], 0.6 * guess[few] + noise[few])
    beside_right, beside_half = slopes(little, *[right] * 9)[0], slopes(little, *[half] * 9)[0]
    assert slopes(little, half, right)[0] < beside_right
    assert beside_half + 0.1 < beside_right
    assert slopes((np.zeros(3), np.ones(3)), right)[0] == pytest.approx(0.5)  # says nothing


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
    assert weight.tolist() == [0.5, 1, 0, 1]  # the first is always guessed right by its mean
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


def law_of(kind, share=0.2, ends=(-10.0, 10.0), spread=0.0):
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
        spread=spread * one,
        ends=np.array(ends)[:, None],
        kind=kind * one,
    )


def test_errors_grow_with_the_root_of_the_spread_of_draws():
    own = law_of(NUMBER, spread=0.5)
    assert own.spread_of(0, np.array([1.0, 5.0]), np.array([0.5, 0.5])) == pytest.approx(2)
    assert own.spread_of(0, np.array([6.0, 50.0]), np.array([2.0, 2.0])) == pytest.approx(2)
    assert own.scale(0, 2.0) == pytest.approx(2)
    assert own.scale(0, 0.0) == pytest.approx(np.sqrt(calibration.NARROWEST))
    assert law_of(NUMBER).scale(0, 2.0) == 1
    x, _ = own.law(0, np.array([1.0, 5.0]), np.array([0.5, 0.5]))
    assert x[2:] == pytest.approx(2.5 + 2 * np.linspace(-1, 1, N_QUANTILES))


def test_draws_go_to_values_of_equal_rank():
    rng = np.random.default_rng(0)
    x = rng.normal(size=500)
    weight = rng.random(500)
    weight /= weight.sum()
    values = rng.choice(x, 20000, p=weight)
    assert (
        law_of(NUMBER, share=0.0).moved(0, values, x, weight, rng.random(len(values)), rng)
        is values
    )
    own = law_of(NUMBER, share=0.5)
    moved = own.moved(0, values, x, weight, rng.random(len(values)), rng)
    law, mass = own.law(0, x, weight)
    for q in (-1.0, 0.0, 0.5, 1.5):
        assert np.mean(moved <= q) == pytest.approx(mass[law <= q].sum(), abs=0.02)
    assert np.corrcoef(values, moved)[0, 1] > 0.75
    whole = law_of(WHOLE, share=0.5).moved(
        0, np.rint(values), np.rint(x), weight, rng.random(20000), rng
    )
    assert np.array_equal(whole, np.rint(whole))
    beyond = law_of(NUMBER, share=1.0).moved(
        0, np.array([-50.0, 50.0]), x, weight, np.zeros(2), rng
    )
    second = law_of(NUMBER, share=1.0).law(0, x, weight)[0][len(x) :]
    assert beyond.tolist() == [second.min(), second.max()]
    # A draw far away of hardly any weight is no reason to go there.
    far = own.moved(0, values, np.append(x, 1e6), np.append(weight, 1e-12), rng.random(20000), rng)
    assert np.abs(far).max() < 10


def test_as_many_codes_as_possible_stay():
    rng = np.random.default_rng(0)
    own = law_of(CODE, share=0.4)
    own.second[:, 0] = 2.0
    x, weight = np.array([0.0, 1.0, 2.0]), np.array([0.5, 0.3, 0.2])
    code = rng.choice(3, 20000, p=weight).astype(float)
    moved = own.moved(0, code, x, weight, code, rng)
    assert np.bincount(moved.astype(int)) / 20000 == pytest.approx([0.3, 0.18, 0.52], abs=0.015)
    assert np.mean(moved != code) == pytest.approx(0.32, abs=0.015)
    own.second[:, 0] = 1.0
    assert own.moved(0, np.ones(5), np.ones(1), np.ones(1), np.zeros(5), rng).tolist() == [1] * 5


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
    X = np.arange(24000.0).reshape(8000, 3)
    held = hold_out(X, 0)
    assert 7150 < len(held.seen) < 7200  # without rows all of which is hidden
    seen = np.isin(held.truth[:, 0] // 3, np.nanmin(held.seen - [0, 1, 2], 1) // 3)
    number = (held.truth[:, 0] // 3).astype(int)
    for some in (number[seen], np.unique(number[~seen])):
        assert (np.bincount(some // 2000, minlength=4) > len(some) / 6).all()
    assert len(np.unique(number[seen])) <= MOST_ROWS
    assert len(np.unique(number[~seen])) <= MOST_ROWS // N_FOLDS
    new = held.hidden[~seen]
    assert new.sum() == pytest.approx(3 * len(np.unique(number[~seen])), rel=0.02)  # each once
    again = hold_out(X, 0)
    np.testing.assert_array_equal(held.hidden, again.hidden)


def test_held_out_cells_are_not_seen():
    X = holed(np.random.default_rng(0).normal(size=(300, 3)))
    X = X[~np.isnan(X).all(1)]
    held = hold_out(X, 1)
    hidden = held.truth[held.hidden]
    assert not np.isnan(hidden).any()
    assert not np.isin(hidden, held.seen).any()
    assert (~held.hidden & ~np.isnan(held.truth)).any(1).all()  # something is known of each
    values = X[~np.isnan(X)]
    gone = ~np.isin(values, held.seen)
    assert gone.mean() == pytest.approx(0.19, abs=0.03)
    assert np.isin(hidden, values[gone]).all()
    assert hold_out(X[:20], 0) is None
