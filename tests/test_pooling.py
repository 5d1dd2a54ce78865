"""Rubin's rules against numbers worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from skvae import fit_pool, pool
from skvae.exceptions import ParameterError


def test_the_rules_on_an_example_worked_out_by_hand():
    # Q̄ = 2, Ū = 1/2, B = 1, T = 1/2 + 4/3 = 11/6, λ = 8/11, r = 8/3.
    found = pool([1.0, 2.0, 3.0], [0.25, 0.5, 0.75], dfcom=20)
    assert found.estimate == 2
    assert found.within == 0.5
    assert found.between == 1
    assert np.isclose(found.variance, 11 / 6)
    assert np.isclose(found.relative_increase, 8 / 3)
    old = 2 / (8 / 11) ** 2  # 3.78125
    observed = 21 / 23 * 20 * 3 / 11  # 4.98023...
    assert np.isclose(found.df, old * observed / (old + observed))
    df = found.df
    assert np.isclose(found.fraction_missing_information, (8 / 3 + 2 / (df + 3)) / (8 / 3 + 1))
    assert found.n_imputations == 3


def test_large_tables_have_rubins_own_degrees_of_freedom():
    found = pool([1.0, 2.0, 3.0], [0.25, 0.5, 0.75])
    assert np.isclose(found.df, 2 / (8 / 11) ** 2)


def test_without_variance_between_imputations_the_data_alone_count():
    found = pool([2.0, 2.0, 2.0], [0.4, 0.5, 0.6], dfcom=20)
    assert np.isclose(found.variance, 0.5)
    assert np.isclose(found.df, 21 / 23 * 20)
    assert found.relative_increase == 0
    assert np.isclose(found.fraction_missing_information, 2 / (found.df + 3))
    assert np.isinf(pool([2.0, 2.0], [0.4, 0.6]).df)
    assert pool([2.0, 2.0], [0.4, 0.6]).fraction_missing_information == 0


def test_without_variance_within_all_information_is_missing():
    found = pool([1.0, 3.0], [0.0, 0.0])
    assert np.isclose(found.variance, 1.5 * 2)
    assert found.df == 1
    assert found.fraction_missing_information == 1


def test_intervals_and_p_values_are_those_of_t():
    found = pool([1.0, 2.0, 3.0], [0.25, 0.5, 0.75], dfcom=20)
    law = stats.t(found.df, 2, math.sqrt(11 / 6))
    assert np.allclose(found.interval(0.9), law.interval(0.9))
    assert np.isclose(found.p_value(1.0), 2 * law.cdf(1.0))
    assert np.isclose(found.p_value(), 2 * law.cdf(0.0))
    low, high = found.interval()
    assert np.isclose(found.p_value(low), 0.05)
    assert np.isclose(found.p_value(high), 0.05)


def test_several_quantities_are_pooled_apart():
    q, u = np.array([[1.0, 5.0], [2.0, 5.5], [3.0, 7.0]]), np.full((3, 2), 0.5)
    both = pool(q, u, dfcom=30)
    for j in range(2):
        one = pool(q[:, j], u[:, j], dfcom=30)
        for name in ("estimate", "variance", "df", "fraction_missing_information"):
            assert getattr(both, name)[j] == getattr(one, name)


def test_coverage_of_a_mean_is_nominal_where_the_imputations_are_proper():
    """Half of a normal sample is missing, and is imputed from the posterior predictive."""
    rng = np.random.default_rng(0)
    n, hits, trials = 40, 0, 1000
    for _ in range(trials):
        seen = rng.normal(size=n // 2)
        k, tables = len(seen), []
        for _ in range(20):
            sigma = math.sqrt((k - 1) * seen.var(ddof=1) / rng.chisquare(k - 1))
            mean = rng.normal(seen.mean(), sigma / math.sqrt(k))
            tables.append(np.append(seen, rng.normal(mean, sigma, n - k)))
        pooled = fit_pool(lambda x: (x.mean(), x.var(ddof=1) / len(x)), tables, dfcom=n - 1)
        low, high = pooled.interval()
        hits += low <= 0 <= high
    assert abs(hits / trials - 0.95) < 0.022  # three standard errors


@pytest.mark.parametrize(
    ("estimates", "variances", "dfcom", "message"),
    [
        ([1.0], [1.0], 10, "at least two imputed tables; received 1"),
        (1.0, 1.0, 10, "received 0"),
        ([1.0, 2.0], [1.0], 10, "same shape"),
        ([1.0, np.nan], [1.0, 1.0], 10, r"estimates\[1\] is nan"),
        ([1.0, 2.0], [1.0, np.inf], 10, r"variances\[1\] is inf"),
        ([[1.0, 2.0], [1, 1]], [[1.0, 1], [1, -2]], 10, r"variances\[1, 1\] is -2"),
        ([1.0, 2.0], [1.0, 1.0], 0, "dfcom must be positive"),
    ],
)
def test_what_cannot_be_pooled_is_named(estimates, variances, dfcom, message):
    with pytest.raises(ParameterError, match=message):
        pool(estimates, variances, dfcom)


@pytest.mark.parametrize("coverage", [0, 1, -0.5])
def test_coverage_is_a_probability(coverage):
    with pytest.raises(ParameterError, match="coverage"):
        pool([1.0, 2.0], [1.0, 1.0]).interval(coverage)
