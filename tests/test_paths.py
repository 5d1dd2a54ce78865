"""Paths and directions in the latent space."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skvae import VAE, VAEClassifier, paths
from skvae.exceptions import DataError, ParameterError


def circle(angles):
    return np.stack([np.cos(angles), np.sin(angles)], 1)


def test_a_straight_line_has_equal_steps():
    way = paths.linear(np.zeros(3), np.array([3.0, 0, 6]), 4)
    np.testing.assert_allclose(way, [[0, 0, 0], [1, 0, 2], [2, 0, 4], [3, 0, 6]])


def test_an_arc_keeps_its_length_and_has_equal_angles():
    z0, z1 = 5 * circle(np.array([0.2, 1.7]))
    np.testing.assert_allclose(
        paths.spherical(z0, z1, 6), 5 * circle(np.linspace(0.2, 1.7, 6)), atol=1e-12
    )
    way = paths.spherical(z0, 2 * z1, 5)
    np.testing.assert_allclose(way[[0, -1]], [z0, 2 * z1])
    assert (np.diff(np.linalg.norm(way, axis=1)) > 0).all()


@pytest.mark.parametrize("z1", [[2.0, 4.0], [-1.0, -2.0], [0.0, 0.0], [1.0, 2.0]])
def test_without_an_arc_there_is_the_straight_line(z1):
    z0, z1 = np.array([1.0, 2.0]), np.array(z1)
    np.testing.assert_allclose(paths.spherical(z0, z1, 5), paths.linear(z0, z1, 5))


def test_a_path_along_points_stays_where_they_are():
    Z = circle(np.linspace(0, np.pi, 200))
    way = paths.along(Z[0], Z[-1], 21, Z)
    np.testing.assert_allclose(way[[0, -1]], Z[[0, -1]])
    radius = np.linalg.norm(way, axis=1)
    assert radius.min() > 0.999  # a straight line would go through 0
    angles = np.arctan2(way[:, 1], way[:, 0])
    np.testing.assert_allclose(np.diff(np.abs(angles)), np.pi / 20, rtol=1e-2)


def test_a_gap_is_crossed_where_it_is_narrow():
    a, b = circle(np.linspace(0, 2, 80)), circle(np.linspace(2.3, 4.5, 80))
    way = paths.along(a[0], b[-1], 40, np.concatenate([a, b]))
    assert np.linalg.norm(way, axis=1).min() > 0.98


def test_few_and_equal_points_are_enough():
    z = np.array([1.0, 2.0])
    np.testing.assert_allclose(paths.along(z, 3 * z, 3, z[None]), [z, 2 * z, 3 * z])
    np.testing.assert_allclose(paths.along(z, z, 3, np.stack([z] * 30)), [z] * 3)
    with pytest.raises(DataError, match=r"have shape \(0, 2\), expected \(m, 2\)"):
        paths.along(z, z, 3, np.zeros((0, 2)))


def test_interpolation_takes_these_paths(fitted, digits):
    X = digits[0]
    z = fitted.transform(X)
    spherical = fitted.interpolate(X[0], X[1], 5, path="spherical")
    expected = fitted.inverse_transform(paths.spherical(z[0], z[1], 5))
    np.testing.assert_allclose(spherical, expected)
    data = fitted.interpolate(X[0], X[1], 6, path="data", along=X)
    np.testing.assert_allclose(data, fitted.inverse_transform(paths.along(z[0], z[1], 6, z)))
    assert np.abs(data - fitted.interpolate(X[0], X[1], 6)).max() > 0.05
    assert len(fitted.interpolate(X[0].astype(np.float32), X[1], path="data", along=X)) == 8


def test_paths_that_make_no_sense(fitted, digits):
    X = digits[0]
    with pytest.raises(ParameterError, match=r"'linear', 'spherical' or 'data'; received 'arc'"):
        fitted.interpolate(X[0], X[1], path="arc")
    with pytest.raises(ParameterError, match="more as along=X"):
        fitted.interpolate(X[0], X[1], path="data")
    with pytest.raises(ParameterError, match="received path='linear'"):
        fitted.interpolate(X[0], X[1], along=X)
    with pytest.raises(DataError, match="contains infinity"):
        fitted.interpolate(X[0], np.full(64, np.inf))


def test_an_attribute_is_the_difference_of_means(fitted, digits):
    X, y = digits
    z = fitted.transform(X)
    expected = z[y == 3].mean(0) - z[y != 3].mean(0)
    for has in (y == 3, (y == 3).astype(int), pd.Series(y == 3)):
        np.testing.assert_allclose(fitted.attribute(X, has), expected)
    # Added to rows that do not have it, it makes them more like those that do.
    zeros = fitted.inverse_transform(z[y == 0] + fitted.attribute(X[y < 2], y[y < 2] == 1))
    ones, zeros_before = X[y == 1].mean(0), X[y == 0].mean(0)
    assert np.linalg.norm(zeros.mean(0) - ones) < np.linalg.norm(zeros_before - ones) / 2


def test_attributes_that_make_no_sense(fitted, digits):
    X, y = digits
    for has, message in (
        (y[:5] == 3, "each of the 1437 rows of X yes or no; got 5"),
        (y, r"received \d.* attribute\(X, y == 3\)"),
        (np.ones(len(X), bool), "has is True for all 1437 rows"),
        (np.full(len(X), np.nan), "received nan"),
    ):
        with pytest.raises(DataError, match=message):
            fitted.attribute(X, has)
    with pytest.raises(NotFittedError):
        VAE().attribute(X, y == 3)


def test_directions_of_a_classifier_are_those_that_it_decodes(digits):
    X, y = digits[0][:100], digits[1][:100]
    clf = VAEClassifier(3, model="m2", hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    clf.fit(X, y)
    direction = clf.attribute(X, y > 4)
    assert clf.inverse_transform(clf.transform(X) + direction).shape == X.shape
    assert clf.interpolate(X[0], X[1], 4, path="data", along=X).shape == (4, 64)


def test_kl_per_dimension_is_that_of_evaluate(fitted, digits):
    X = digits[0]
    kl = fitted.kl_per_dimension(X)
    assert kl.shape == (4,)
    np.testing.assert_allclose(kl, fitted.evaluate(X[:1437], n_samples=2).kl_per_dimension)
    flow = VAE(2, posterior="flow", hidden_layer_sizes=(8,), max_epochs=1, random_state=0)
    assert flow.fit(X[:50]).kl_per_dimension(X[:50]) is None
