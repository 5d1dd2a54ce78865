"""VAERegressor on rows of which few have a target."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score

from skvae import VAERegressor, files, load
from skvae.exceptions import DataError, ModelFileError, ParameterError

SMALL = {
    "hidden_layer_sizes": (16,),
    "max_epochs": 5,
    "batch_size": 64,
    "learning_rate": 0.01,
    "random_state": 0,
}


@pytest.fixture(scope="module")
def diabetes():
    """Rows, their targets, and the same of which a tenth is known."""
    X, y = load_diabetes(return_X_y=True)
    known = np.random.default_rng(0).choice(len(y), len(y) // 10, replace=False)
    few = np.full(len(y), np.nan)
    few[known] = y[known]
    return X, y, few


@pytest.fixture(scope="module")
def fitted(diabetes):
    X, _, y = diabetes
    return VAERegressor(2, **SMALL | {"max_epochs": 80}).fit(X, y)


@pytest.fixture(scope="module")
def spiral():
    """Points along a spiral, and how far along they are."""
    generator = np.random.default_rng(0)
    t = generator.uniform(size=600)
    angle = 3 * np.pi * t
    X = (1 + angle[:, None]) * np.stack([np.cos(angle), np.sin(angle)], 1) / 4
    return X + 0.1 * generator.normal(size=X.shape), 10 * t


def test_rows_without_a_target_help(spiral):
    X, truth = spiral
    known = np.argsort(truth)[np.linspace(5, 594, 10).astype(int)]
    y = np.full(len(X), np.nan)
    y[known] = truth[known]
    sizes = {"hidden_layer_sizes": (64, 64), "learning_rate": 0.003, "batch_size": 64}
    unknown = np.isnan(y)
    with_them = VAERegressor(1, max_epochs=100, random_state=0, **sizes).fit(X, y)
    alone = VAERegressor(1, max_epochs=1000, random_state=0, **sizes).fit(X[known], y[known])
    score, score_alone = (r.score(X[unknown], truth[unknown]) for r in (with_them, alone))
    assert score > 0.97
    assert score > score_alone
    # and rows of a target are where they belong
    near = X[np.abs(truth - 7) < 0.5]
    made = with_them.sample(200, y=7, kind="mean", random_state=0)
    assert np.linalg.norm(made.mean(0) - near.mean(0)) < 0.5
    assert np.linalg.norm(near.mean(0) - X.mean(0)) > 1


def test_a_tenth_of_real_targets(fitted, diabetes):
    X, truth, y = diabetes
    unknown = np.isnan(y)
    score = fitted.score(X[unknown], truth[unknown])
    assert score > 0.15  # the mean has 0, ridge regression on the known ones about 0.35
    assert score == pytest.approx(r2_score(truth[unknown], fitted.predict(X[unknown])))
    mean, std = fitted.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    assert mean.dtype == std.dtype == np.float64
    assert (std > 0).all()
    np.testing.assert_array_equal(mean, fitted.predict(X))


def test_the_units_of_targets_change_predictions_and_nothing_else(fitted, diabetes):
    X, _, y = diabetes
    other = clone(fitted).fit(X, 1000 * y - 5)
    (mean, std), (mean_2, std_2) = (r.predict(X[:50], return_std=True) for r in (fitted, other))
    np.testing.assert_allclose(mean_2, 1000 * mean - 5, rtol=1e-4)
    np.testing.assert_allclose(std_2, 1000 * std, rtol=1e-4)
    np.testing.assert_allclose(other.transform(X[:50]), fitted.transform(X[:50]), atol=1e-4)
    np.testing.assert_allclose(
        other.score_samples(X[:50]), fitted.score_samples(X[:50]), atol=1e-3
    )
    one, two = (r.sample(5, y=t, random_state=0) for r, t in ((fitted, 90), (other, 90_000 - 5)))
    np.testing.assert_allclose(two, one, atol=1e-5)


def test_neither_order_nor_company_of_rows_matters(fitted, diabetes):
    X = diabetes[0][:40]
    for method in (fitted.predict, fitted.transform, fitted.score_samples):
        np.testing.assert_allclose(method(X[::-1]), method(X)[::-1], rtol=1e-9)
        np.testing.assert_allclose(method(X[3:4]), method(X)[3:4], rtol=1e-9)


def test_it_generates_by_target(fitted, diabetes):
    X, truth, _ = diabetes
    high, low = (fitted.sample(300, y=t, kind="mean", random_state=0) for t in (250, 80))
    bmi = 2  # the feature that goes with the target most
    assert high[:, bmi].mean() - low[:, bmi].mean() > 0.3 * X[:, bmi].std()
    each = np.repeat([250, 80], 150)
    mixed = fitted.sample(300, y=each, kind="mean", random_state=0)
    np.testing.assert_allclose(mixed[:150], high[:150], atol=1e-6)
    np.testing.assert_allclose(mixed[150:], low[150:], atol=1e-6)
    assert fitted.sample(7, random_state=0).shape == (7, 10)
    Z = fitted.transform(X[:30])
    assert Z.shape == (30, 2)
    given = fitted.inverse_transform(Z, y=truth[:30])
    np.testing.assert_allclose(fitted.inverse_transform(Z[3:4], y=truth[3]), given[3:4])
    mean = np.nanmean(diabetes[2])
    np.testing.assert_allclose(fitted.inverse_transform(Z), fitted.inverse_transform(Z, y=mean))
    for wrong, message in (
        (np.ones(4), r"shape is \(4,\)"),
        (np.nan, "must be finite"),
        ("high", "must be of numbers"),
    ):
        with pytest.raises(DataError, match=message):
            fitted.sample(5, y=wrong)
    with pytest.raises(DataError, match="Z has 3 columns"):
        fitted.inverse_transform(np.ones((4, 3)))


def test_what_a_vae_does_it_does_too(fitted, diabetes):
    X = diabetes[0][:20]
    assert np.isfinite(fitted.score_samples(X)).all()
    holes = np.where(np.arange(10) % 4 == 0, np.nan, X)
    filled = fitted.impute(holes)
    np.testing.assert_array_equal(filled[~np.isnan(holes)], X[~np.isnan(holes)])
    assert np.isfinite(filled).all()
    assert fitted.interpolate(X[0], X[1], 3).shape == (3, 10)
    assert fitted.get_feature_names_out().shape == (2,)
    assert np.isfinite(fitted.evaluate(X, n_samples=20).elbo)
    assert not hasattr(fitted, "partial_fit")


def test_several_targets_of_which_each_may_be_known(diabetes, tmp_path):
    X, y, _ = diabetes
    noise = np.random.default_rng(0).normal(size=len(y))
    second = -100 * X[:, 2] + 3 + noise
    both = np.stack([y, second], 1)
    both[::2, 0], both[1::3, 1] = np.nan, np.nan
    frame = pd.DataFrame(both, columns=["a", "b"])
    reg = VAERegressor(2, **SMALL | {"max_epochs": 80}).fit(X, frame)
    assert reg.n_outputs_ == 2
    mean, std = reg.predict(X, return_std=True)
    assert mean.shape == std.shape == (len(X), 2)
    assert r2_score(second, mean[:, 1]) > 0.8
    assert r2_score(y[::2], mean[::2, 0]) > 0.2
    assert reg.sample(4, y=[150, 3], random_state=0).shape == (4, 10)
    assert reg.sample(2, y=[[150, 3], [90, 2]], random_state=0).shape == (2, 10)
    with pytest.raises(DataError, match="2 targets"):
        reg.sample(4, y=150)
    reg.save(tmp_path / "both")
    np.testing.assert_array_equal(load(tmp_path / "both").predict(X), mean)
    with pytest.raises(DataError, match=r"y\[:, 1\] has 0: it is known of 0 rows"):
        reg.fit(X, np.stack([y, np.full(len(y), np.nan)], 1))


def test_unknown_targets_have_several_names(diabetes):
    X, _, y = diabetes
    expected = VAERegressor(2, **SMALL).fit(X, y).predict(X[:5])
    none = np.array([None if np.isnan(value) else value for value in y], object)
    nullable = pd.Series(y).astype("Float64")
    assert nullable.isna().sum() == np.isnan(y).sum()
    for same in (none, nullable, list(y)):
        found = VAERegressor(2, **SMALL).fit(X, same).predict(X[:5])
        np.testing.assert_array_equal(found, expected)


def test_bad_targets(diabetes, tmp_path):
    X, truth, y = diabetes
    reg = VAERegressor(2, **SMALL).fit(X, y)
    before = reg.predict(X[:5])
    with pytest.raises(ValueError, match="requires y to be passed"):
        reg.fit(X)
    with pytest.raises(ValueError, match="inconsistent"):
        reg.fit(X, truth[:-1])
    for same, message in (
        (np.full(len(y), np.nan), "y has 0: it is known of 0 rows, n_samples=442"),
        (np.where(np.isnan(y), np.nan, 7), "y has 1: it is known of 44 rows"),
    ):
        with pytest.raises(DataError, match=f"at least 2 different known targets; {message}"):
            reg.fit(X, same)
    with pytest.raises(ValueError, match="infinity"):
        reg.fit(X, np.where(np.isnan(y), np.inf, y))
    with pytest.raises(ValueError, match="could not convert"):
        reg.fit(X, np.array(["a"] * len(y), object))
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(DataError, match="in memory"):
        reg.fit(files.open_rows(tmp_path / "rows.npy"), y)
    with pytest.raises(ParameterError, match="vamp"):
        clone(reg).set_params(prior="vamp").fit(X, y)
    np.testing.assert_array_equal(reg.predict(X[:5]), before)  # failures leave it as it was


def test_it_works_with_cross_validation(diabetes):
    X, y, _ = diabetes
    reg = VAERegressor(2, **SMALL | {"max_epochs": 40})
    assert (cross_val_score(reg, X, y, cv=3) > 0.3).all()


def test_a_saved_model_is_the_same(fitted, diabetes, tmp_path):
    X = diabetes[0]
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    again = load(path)
    assert isinstance(again, VAERegressor)
    assert again.get_params() == fitted.get_params()
    for one, two in zip(
        fitted.predict(X, return_std=True), again.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(fitted.score_samples(X[:9]), again.score_samples(X[:9]))
    np.testing.assert_array_equal(
        fitted.sample(3, y=100, random_state=0), again.sample(3, y=100, random_state=0)
    )


@pytest.mark.parametrize(
    "said",
    [
        {"shift": [0.0, 0.0]},
        {"unit": [0.0]},
        {"unit": [-1.0]},
        {"shift": ["1e999"]},
        {"one": 3},
    ],
)
def test_a_file_that_says_nonsense_of_targets_is_refused(fitted, said):
    manifest, tensors = fitted._core.state()
    manifest |= {
        "params": {}, "history": [], "feature_names": None, "container": "numpy", "flat": True,
        "dtype": "float64", "sequences": None, **fitted._own_manifest(),
    }  # fmt: skip
    VAERegressor._from_manifest(manifest, tensors, None)
    manifest["targets"] = manifest["targets"] | said
    with pytest.raises(ModelFileError, match=r"targets"):
        VAERegressor._from_manifest(manifest, tensors, None)
