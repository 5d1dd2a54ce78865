"""Samples of a model: with cells given, and of another temperature."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from skvae import VAE, VAEClassifier, VAERegressor, rng
from skvae.exceptions import DataError, ParameterError
from skvae.likelihoods import Gaussian

SHORT = {"n_components": 2, "max_epochs": 3, "batch_size": 64, "random_state": 0}


def table(n=400, seed=0):
    """Rows of one factor and noise."""
    source = np.random.default_rng(seed)
    return source.normal(size=(n, 1)) @ np.ones((1, 4)) + 0.3 * source.normal(size=(n, 4)) + 5


@pytest.fixture(scope="module")
def linear():
    own = {"hidden_layer_sizes": (), "likelihood": Gaussian(scale="per_feature")}
    return VAE(1, max_epochs=80, random_state=0, **own).fit(table())


def test_a_given_cell_stays_and_the_others_have_their_conditional_law(linear):
    row = np.array([6.5, np.nan, np.nan, np.nan])
    draws = linear.sample(4000, given=row, random_state=0)
    assert (draws[:, 0] == 6.5).all()
    joint = linear.sample(200_000, random_state=1)
    mean, covariance = joint.mean(0), np.cov(joint.T)
    slope = covariance[1:, 0] / covariance[0, 0]
    expected = mean[1:] + slope * (6.5 - mean[0])
    conditional = covariance[1:, 1:] - np.outer(slope, covariance[0, 1:])
    np.testing.assert_allclose(draws[:, 1:].mean(0), expected, atol=0.05)
    np.testing.assert_allclose(np.cov(draws[:, 1:].T), conditional, atol=0.04)


def test_nothing_given_is_the_model_and_zero_rows_are_none(linear):
    empty = linear.sample(3000, given=np.full(4, np.nan), random_state=0)
    plain = linear.sample(3000, random_state=1)
    np.testing.assert_allclose(empty.mean(0), plain.mean(0), atol=0.1)
    assert linear.sample(0, given=np.full(4, np.nan)).shape == (0, 4)


def test_temperature_scales_the_spread_of_z(linear):
    cold = linear.sample(5, kind="mean", temperature=0.0, random_state=0)
    middle = linear.inverse_transform(np.zeros((1, 1)))
    np.testing.assert_allclose(cold, np.repeat(middle, 5, 0), rtol=1e-6)
    one, half = (
        linear.sample(2000, kind="mean", temperature=t, random_state=0) for t in (1.0, 0.5)
    )
    np.testing.assert_allclose(half - cold[0], 0.5 * (one - cold[0]), atol=1e-4)
    default = linear.sample(2000, kind="mean", random_state=0)
    np.testing.assert_array_equal(one, default)


def test_tempered_noise_leaves_uniform_numbers():
    like = torch.empty(3, 2)
    plain, warm = (rng.Sequential(rng.generator(0)) for _ in range(2))
    warm = rng.Tempered(warm, 2.0)
    torch.testing.assert_close(warm.normal((4,), like), 2 * plain.normal((4,), like))
    torch.testing.assert_close(warm.uniform((4,), like), plain.uniform((4,), like))


@pytest.mark.parametrize("prior", ["gaussian_mixture", "flow", "vamp"])
def test_every_prior_has_a_temperature(prior):
    vae = VAE(prior=prior, **SHORT).fit(table())
    spread = [
        vae.sample(500, kind="mean", temperature=t, random_state=0).std() for t in (0.1, 1.0)
    ]
    assert spread[0] < spread[1]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_cells_are_given_by_name(make):
    columns = dict(zip("abcd", table().T, strict=True))
    vae = VAE(**SHORT).fit(make(columns))
    draws = vae.sample(3, given={"b": 4.0}, random_state=0)
    assert type(draws) is make
    assert (draws["b"] == 4.0).all()
    with pytest.raises(DataError, match=r"key 'bb'.*a, b, c, d"):
        vae.sample(3, given={"bb": 4.0})


@pytest.mark.parametrize("make", [lambda df: df, pl.from_pandas])
def test_categories_are_given_by_name(make):
    source = np.random.default_rng(0)
    colour = source.choice(["red", "blue"], 300)
    x = source.normal(size=300) + 5 * (colour == "red")
    vae = VAE(2, max_epochs=40, batch_size=32, random_state=0)
    vae.fit(make(pd.DataFrame({"colour": colour, "x": x})))
    red, blue = (vae.sample(200, given={"colour": c}, random_state=0) for c in ("red", "blue"))
    assert set(red["colour"]) == {"red"}
    assert red["x"].mean() > blue["x"].mean() + 3


def test_names_need_names(linear):
    with pytest.raises(DataError, match="no names: pass a row with NaN"):
        linear.sample(3, given={"b": 4.0})


def test_sequences_are_given_in_part():
    X = [np.arange(n, dtype=float) for n in (3, 5, 4, 6) * 10]
    vae = VAE(**SHORT).fit(X)
    draws = vae.sample(3, given=np.array([0.0, np.nan, 2.0]), random_state=0)
    assert [(d[0], d[2], len(d)) for d in draws] == [(0.0, 2.0, 3)] * 3


@pytest.mark.parametrize(
    "more",
    [{"temperature": -1.0}, {"temperature": "hot"}, {"temperature": 2.0, "given": [1.0] * 4}],
)
def test_what_makes_no_sense_is_refused(linear, more):
    with pytest.raises(ParameterError, match="temperature"):
        linear.sample(2, **more)


@pytest.mark.parametrize("estimator", [VAEClassifier, VAERegressor])
def test_a_label_or_cells_but_not_both(estimator):
    X, y = table(60), np.arange(60) % 2
    model = estimator(model="m2", **SHORT).fit(X, y)
    row = [1.0, np.nan, np.nan, np.nan]
    assert (model.sample(4, given=row, random_state=0)[:, 0] == 1).all()
    assert model.sample(4, y=1, temperature=0.5, random_state=0).shape == (4, 4)
    with pytest.raises(ParameterError, match="given does not go with"):
        model.sample(4, given=row, y=1)
