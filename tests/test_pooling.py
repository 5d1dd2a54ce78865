"""Rubin's rules against published figures, numbers worked out by hand, and limits."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from skvae import fit_pool, pool
from skvae.exceptions import ParameterError
from skvae.pooling import Wald

# Spread with variance 1 (ddof 1) and mean 0, to make estimates with a given mean and variance.
FIVE = np.array([-2, -1, 0, 1, 2]) / math.sqrt(2.5)

# What mice, the R package, prints for sws ~ log10(bw) + odi of its table mammalsleep, m = 5:
# estimate, ubar, b, t, df, riv, fmi, std.error, p.value; dfcom = 59.
MICE = np.array(
    [
        [10.0739157, -1.4513424, -0.5504494],
        [0.71206627, 0.10052200, 0.08902854],
        [0.83964136, 0.30175131, 0.01146902],
        [1.7196359, 0.4626236, 0.1027914],
        [7.805051, 4.277824, 40.480414],
        [1.4149942, 3.6022121, 0.1545889],
        [0.6625659, 0.8424252, 0.1737299],
        [1.3113489, 0.6801644, 0.3206109],
    ]
)
MICE_P = [6.666925e-05, 9.530451e-02, 9.364526e-02]

# Two parameters from three tables with one covariance, small enough to work out by hand.
ESTIMATES = np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 5.0]])  # mean (2, 3), B = [[1, 1.5], [1.5, 3]]
COVARIANCE = np.array([[2.0, 1.0], [1.0, 2.0]])  # inverse [[2, −1], [−1, 2]] / 3
COVARIANCES = np.stack([COVARIANCE * scale for scale in (0.5, 1.0, 1.5)])


def spread(m):
    """M estimates with mean 0 and variance 1, for a given relative increase in variance."""
    x = np.arange(m) - (m - 1) / 2
    return x / x.std(ddof=1)


def with_increase(r, m, k):
    """k uncorrelated estimates with unit variance and B = r / (1 + 1 / M) of each."""
    estimates = np.repeat(spread(m)[:, None], k, 1) * math.sqrt(r / (1 + 1 / m))
    return estimates + 0.7, np.repeat(np.eye(k)[None], m, 0)


# -- one parameter ----------------------------------------------------------------------------


def test_published_figures_of_mice_are_reproduced_for_several_parameters():
    q, u, b, t, df, riv, fmi, se = MICE
    pooled = pool(q + FIVE[:, None] * np.sqrt(b), np.tile(u, (5, 1)), dfcom=59)
    for ours, theirs in [
        (pooled.estimate, q),
        (pooled.within, u),
        (pooled.between, b),
        (pooled.variance, t),
        (pooled.df, df),
        (pooled.relative_increase, riv),
        (pooled.fraction_missing_information, fmi),
        (pooled.standard_error, se),
        (pooled.p_value(), MICE_P),
    ]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert (pooled.n_imputations, pooled.dfcom) == (5, 59.0)


@pytest.mark.parametrize("column", range(3))
def test_one_parameter_gives_plain_numbers_equal_to_those_among_several(column):
    q, u, b = MICE[:3, column]
    pooled = pool(q + FIVE * math.sqrt(b), [u] * 5, dfcom=59)
    for value, theirs in [
        (pooled.variance, MICE[3, column]),
        (pooled.df, MICE[4, column]),
        (pooled.fraction_missing_information, MICE[6, column]),
        (pooled.standard_error, MICE[7, column]),
        (pooled.p_value(), MICE_P[column]),
        (pooled.interval(0.5)[0], q - stats.t.ppf(0.75, MICE[4, column]) * MICE[7, column]),
    ]:
        assert isinstance(value, float)
        assert value == pytest.approx(theirs, rel=1e-6)


def test_each_figure_follows_from_fractions_worked_out_by_hand():
    pooled = pool([4, 5, 6], [1.5, 1.0, 0.5], dfcom=30)
    # Ū = B = 1, T = 1 + 4/3, λ = 4/7; ν_old = 2 / λ², ν_obs = 31/33 · 30 · 3/7
    old, observed = Fraction(2) * 49 / 16, Fraction(31 * 30 * 3, 33 * 7)
    df = old * observed / (old + observed)
    assert pooled.estimate == 5
    assert pooled.within == pooled.between == 1
    assert pooled.variance == pytest.approx(7 / 3, rel=1e-15)
    assert pooled.relative_increase == pytest.approx(4 / 3, rel=1e-15)
    assert pooled.df == pytest.approx(float(df), rel=1e-14)
    fmi = (Fraction(4, 3) + 2 / (df + 3)) / Fraction(7, 3)
    assert pooled.fraction_missing_information == pytest.approx(float(fmi), rel=1e-14)


def test_without_dfcom_degrees_of_freedom_are_those_of_rubin_1987():
    for dfcom in (None, math.inf):
        pooled = pool([4, 5, 6], [1, 1, 1], dfcom)
        assert pooled.dfcom == math.inf
        assert pooled.df == pytest.approx(2 * (7 / 4) ** 2, rel=1e-15)
        expected = (4 / 3 + 2 / (pooled.df + 3)) / (7 / 3)
        assert pooled.fraction_missing_information == pytest.approx(expected, rel=1e-14)
    assert pool([4, 5, 6], [1, 1, 1], 1e12).df == pytest.approx(pooled.df, rel=1e-9)


def test_imputations_that_agree_leave_the_complete_data_analysis():
    pooled = pool([2.0, 2.0], [4.0, 4.0], dfcom=10)
    assert pooled.variance == 4
    assert pooled.relative_increase == pooled.between == 0
    assert pooled.df == pytest.approx(11 / 13 * 10, rel=1e-15)
    assert pooled.fraction_missing_information == pytest.approx(2 / (110 / 13 + 3), rel=1e-14)


def test_imputations_that_agree_with_many_rows_give_the_normal_interval():
    pooled = pool([2.0, 2.0], [4.0, 4.0])
    assert pooled.df == math.inf
    assert pooled.fraction_missing_information == 0
    np.testing.assert_allclose(pooled.interval(), 2 + 2 * stats.norm.ppf([0.025, 0.975]))
    assert pooled.p_value(-2) == pytest.approx(2 * stats.norm.sf(2), rel=1e-12)
    assert pooled.wald(-2) == pytest.approx((4, 1, math.inf, 2 * stats.norm.sf(2)), rel=1e-12)


def test_estimates_far_apart_lose_nearly_all_information_without_nan():
    pooled = pool([-1e9, 0.0, 1e9], [1e-9] * 3)
    assert pooled.df == pytest.approx(2, rel=1e-12)
    assert pooled.fraction_missing_information == pytest.approx(1, rel=1e-12)
    assert np.isfinite(pool([-1e9, 0.0, 1e9], [1e-9] * 3, 20).df)
    assert 0 < pool([-1e9, 0.0, 1e9], [1e-9] * 3, 20).df < 1e-20


def test_intervals_and_p_values_are_two_faces_of_one_t_test():
    q, u, b = MICE[:3]
    pooled = pool(q + FIVE[:, None] * np.sqrt(b), np.tile(u, (5, 1)), dfcom=59)
    for coverage in (0.5, 0.9):
        low, high = pooled.interval(coverage)
        assert (low < q).all()
        np.testing.assert_allclose(pooled.p_value(low), 1 - coverage, rtol=1e-10)
        np.testing.assert_allclose(pooled.p_value(high), 1 - coverage, rtol=1e-10)
    np.testing.assert_array_equal(pooled.interval(), pooled.interval(0.95))
    np.testing.assert_allclose(pooled.p_value(pooled.estimate), 1, rtol=1e-15)


def test_intervals_of_a_normal_mean_cover_as_often_as_they_say():
    """Values missing completely at random, imputed by draws from the exact posterior."""
    rng = np.random.default_rng(0)
    n, observed, m, times = 20, 12, 10, 4000
    x = rng.normal(size=(times, observed))
    mean, square = x.mean(1), x.var(1, ddof=1)
    sigma = np.sqrt(square * (observed - 1) / rng.chisquare(observed - 1, (m, times)))
    mu = mean + sigma / math.sqrt(observed) * rng.normal(size=(m, times))
    drawn = mu[..., None] + sigma[..., None] * rng.normal(size=(m, times, n - observed))
    full = np.concatenate([np.broadcast_to(x, (m, *x.shape)), drawn], 2)
    pooled = pool(full.mean(2), full.var(2, ddof=1) / n, dfcom=n - 1)
    low, high = pooled.interval(0.9)
    covered = np.mean((low < 0) & (high > 0))
    assert covered == pytest.approx(0.9, abs=0.02)


# -- several parameters -----------------------------------------------------------------------


def test_covariances_are_pooled_as_matrices_and_their_diagonal_as_variances():
    full = pool(ESTIMATES, COVARIANCES, dfcom=40)
    between = np.array([[1, 1.5], [1.5, 3]])
    np.testing.assert_allclose(full.estimate, [2, 3], rtol=1e-15)
    np.testing.assert_allclose(full.within, COVARIANCE, rtol=1e-15)
    np.testing.assert_allclose(full.between, between, rtol=1e-15)
    np.testing.assert_allclose(full.variance, COVARIANCE + 4 / 3 * between, rtol=1e-15)
    np.testing.assert_allclose(full.standard_error, np.sqrt([10 / 3, 6]), rtol=1e-14)
    alone = pool(ESTIMATES, np.diagonal(COVARIANCES, axis1=1, axis2=2), dfcom=40)
    for name in ("df", "fraction_missing_information", "relative_increase", "standard_error"):
        assert np.shape(getattr(full, name)) == (2,)
        np.testing.assert_array_equal(getattr(full, name), getattr(alone, name))
    np.testing.assert_array_equal(full.interval(), alone.interval())
    np.testing.assert_array_equal(full.p_value(1.0), alone.p_value([1.0, 1.0]))


def test_wald_statistic_follows_from_fractions_worked_out_by_hand():
    # tr(B Ū⁻¹) = (2·1 − 1.5 − 1.5 + 2·3) / 3 = 5/3, so r̄ = 4/3 · 5/3 / 2 = 10/9, and t = 4
    pooled = pool(ESTIMATES, COVARIANCES)
    r = 10 / 9
    wald = pooled.wald()
    assert isinstance(wald, Wald)
    # Q̄' Ū⁻¹ Q̄ = (2·4 − 2·6 + 2·9) / 3 = 14/3
    assert wald.statistic == pytest.approx(14 / 3 / (2 * (1 + r)), rel=1e-14)
    assert wald.df1 == 2
    assert wald.df2 == pytest.approx(4 * 1.5 * (1 + 1 / r) ** 2 / 2, rel=1e-14)
    # F(2, ν) has the tail (1 + 2 F / ν)^(−ν/2)
    tail = (1 + 2 * wald.statistic / wald.df2) ** (-wald.df2 / 2)
    assert wald.p_value == pytest.approx(tail, rel=1e-12)
    # (1, 2)' Ū⁻¹ (1, 2) = (2 − 4 + 8) / 3 = 2
    assert pooled.wald([1.0, 1.0]).statistic == pytest.approx(2 / (2 * (1 + r)), rel=1e-14)
    assert pooled.wald(1.0) == pooled.wald([1.0, 1.0])


def test_wald_does_not_change_under_linear_maps_of_the_parameters():
    a = np.array([[2.0, 1.0], [-1.0, 3.0]])
    wald = pool(ESTIMATES, COVARIANCES, 30).wald([0.5, 1.0])
    mapped = pool(ESTIMATES @ a.T, a @ COVARIANCES @ a.T, 30).wald(a @ [0.5, 1.0])
    assert mapped == pytest.approx(wald, rel=1e-10)


@pytest.mark.parametrize(("m", "k", "r"), [(20, 2, 0.5), (6, 1, 2.0), (4, 2, 0.1)])
def test_wald_degrees_of_freedom_are_those_of_li_raghunathan_and_rubin(m, k, r):
    t = k * (m - 1)
    wald = pool(*with_increase(r, m, k)).wald()
    assert wald.df2 == pytest.approx(4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2, rel=1e-10)
    assert wald.statistic == pytest.approx(0.49 / (1 + r), rel=1e-10)
    assert wald.p_value == pytest.approx(stats.f.sf(wald.statistic, k, wald.df2), rel=1e-10)


def reiter(t, r, dfcom):
    """Equations 1 and 2 of Reiter (2007), as they are printed in most places."""
    a, star = r * t / (t - 2), (dfcom + 1) / (dfcom + 3) * dfcom
    c0, c1, c2 = 1 / (t - 4), star - 2 * (1 + a), star - 4 * (1 + a)
    z = 1 / c2 + c0 * (a**2 * c1 / ((1 + a) ** 2 * c2))
    z += c0 * (8 * a**2 * c1 / ((1 + a) * c2**2) + 4 * a**2 / ((1 + a) * c2))
    z += c0 * (4 * a**2 / (c2 * c1) + 16 * a**2 * c1 / c2**3) + c0 * 8 * a**2 / c2**2
    return 4 + 1 / z


@pytest.mark.parametrize(
    ("m", "k", "r", "dfcom"), [(20, 2, 0.5, 50), (6, 1, 2.0, 30), (4, 2, 0.1, 9), (9, 3, 1.0, 11)]
)
def test_wald_degrees_of_freedom_for_few_rows_are_those_of_reiter(m, k, r, dfcom):
    wald = pool(*with_increase(r, m, k), dfcom).wald()
    assert wald.df2 == pytest.approx(reiter(k * (m - 1), r, dfcom), rel=1e-10)
    assert wald.df2 < dfcom


def test_wald_for_few_rows_tends_to_that_for_many():
    few, many = (pool(*with_increase(0.8, 7, 2), dfcom).wald() for dfcom in (1e9, None))
    assert few == pytest.approx(many, rel=1e-6)


def test_wald_of_imputations_that_agree_is_the_complete_data_test():
    q, u = np.tile([1.0, 2.0], (4, 1)), np.tile(COVARIANCE, (4, 1, 1))
    # (1, 2)' Ū⁻¹ (1, 2) = 2
    assert pool(q, u).wald() == pytest.approx((1, 2, math.inf, math.exp(-1)), rel=1e-12)
    shrunk = 31 / 33 * 30
    p = (1 + 2 / shrunk) ** (-shrunk / 2)
    assert pool(q, u, 30).wald() == pytest.approx((1, 2, shrunk, p), rel=1e-12)


def test_wald_of_one_parameter_from_few_imputations_is_the_squared_t_test():
    pooled = pool([4.0, 5.0, 6.0, 9.0, 7.0], [1.0, 2.0, 1.0, 2.0, 1.0], dfcom=12)  # t = 4
    statistic, df1, df2, p = pooled.wald(3.0)
    assert statistic == pytest.approx((6.2 - 3) ** 2 / pooled.variance, rel=1e-12)
    assert (df1, df2) == (1, pytest.approx(pooled.df, rel=1e-12))
    assert p == pytest.approx(pooled.p_value(3.0), rel=1e-10)


def test_wald_falls_back_where_reiters_formula_is_not_defined():
    m, k, r, dfcom = 6, 2, 3.0, 10  # ν_obs = 11/13 · 10 = 8.5 < 4 (1 + a)
    t = k * (m - 1)
    large = 4 + (t - 4) * (1 + (1 - 2 / t) / r) ** 2
    expected = 1 / (1 / large + (1 + r) / (110 / 13))
    assert pool(*with_increase(r, m, k), dfcom).wald().df2 == pytest.approx(expected, rel=1e-10)


# -- tables -----------------------------------------------------------------------------------


def test_fit_pool_analyses_each_table():
    tables = [pd.DataFrame({"x": [1.0, 2.0, 3.0, x]}) for x in (2.0, 4.0, 6.0)]
    pooled = fit_pool(lambda t: (t["x"].mean(), t["x"].var() / len(t)), iter(tables), dfcom=3)
    # means 2, 2.5, 3; variances 1/6, 5/12, 7/6
    assert pooled.estimate == pytest.approx(2.5, rel=1e-15)
    assert pooled.within == pytest.approx(7 / 12, rel=1e-15)
    assert pooled.between == pytest.approx(1 / 4, rel=1e-15)
    assert (pooled.n_imputations, pooled.dfcom) == (3, 3.0)


def test_fit_pool_takes_covariance_matrices_from_frames():
    def regression(i):
        names = ["a", "b"]
        return [
            pd.Series(ESTIMATES[i], index=names),
            pd.DataFrame(COVARIANCES[i], index=names, columns=names),
        ]

    assert fit_pool(regression, range(3), 40).wald() == pool(ESTIMATES, COVARIANCES, 40).wald()


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([(1.0, 1.0), 3.0], r"\(estimate, variance\); for table 1 it returned float"),
        ([(1.0, 1.0), (1.0, 1.0, 1.0)], "for table 1 it returned tuple"),
        (
            [([1.0, 2.0], [1.0, 1.0]), ([1.0], [1.0])],
            r"shapes \(\(1,\), \(1,\)\) for table 1, but \(\(2,\), \(2,\)\) for table 0",
        ),
        ([(1.0, 1.0), ("high", 1.0)], "estimate of table 1 must be an array of numbers"),
        ([(1.0, 1.0), (1.0, None), (1.0, 1.0)], r"variances\[1\] is nan"),
        ([(1.0, 1.0)], "at least 2 imputations, .* received 1"),
        ([], r"estimates must have shape \(M,\) or \(M, k\); received shape \(0,\)"),
    ],
)
def test_fit_pool_names_the_table_whose_analysis_does_not_fit(results, message):
    with pytest.raises(ParameterError, match=message):
        fit_pool(lambda i: results[i], range(len(results)))


# -- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimates", "variances", "message"),
    [
        ([1.0], [1.0], "at least 2 imputations, .* received 1"),
        ([[1.0, 2.0]], [[1.0, 1.0]], "at least 2 imputations"),
        ([], [], r"shape \(0,\)"),
        (np.ones((3, 0)), np.ones((3, 0)), r"shape \(3, 0\)"),
        (1.0, 1.0, r"shape \(\)"),
        (np.ones((2, 2, 2)), np.ones((2, 2, 2)), r"received shape \(2, 2, 2\)"),
        ([1, 2], [1, 1, 1], r"shape \(2,\) as the estimates; received \(3,\)"),
        (np.ones((3, 2)), np.ones((3, 2, 1)), r"\(3, 2\) or \(3, 2, 2\) .* received \(3, 2, 1\)"),
        ([[1, 2], [3]], [1, 1], "estimates must be an array of numbers"),
        ([1, "a"], [1, 1], "estimates must be an array of numbers"),
        ([1, 2], [1, [2]], "variances must be an array of numbers"),
        ([1, np.nan], [1, 1], r"estimates\[1\] is nan; all must be finite"),
        ([1, 2], [np.inf, 1], r"variances\[0\] is inf; all must be finite"),
        ([[1, 2], [1, np.nan]], np.ones((2, 2)), r"estimates\[1, 1\] is nan"),
        ([1, 2], [1, -0.5], r"variances\[1\] is -0.5; variances must not be negative"),
        ([[1], [2]], [[[1]], [[-2]]], r"variances\[1, 0, 0\] is -2.0; variances must not"),
        (
            [[1, 2]] * 2,
            [np.eye(2), [[1, 0.5], [0.4, 1]]],
            r"variances\[1, 0, 1\] is 0.5; covariance matrices must be symmetric",
        ),
        ([[1, 2]] * 2, [1e-6 * np.array([[1, 0.5], [0.4, 1]])] * 2, "must be symmetric"),
        ([[1, 2], [1, 3]], [[1, 0], [1, 0]], "variance of parameter 1 is 0 in all"),
    ],
)
def test_input_that_makes_no_sense_is_refused_by_name_and_place(estimates, variances, message):
    with pytest.raises(ParameterError, match=message):
        pool(estimates, variances)


def test_negative_covariances_and_a_variance_of_zero_in_one_table_are_fine():
    assert pool([[1, 2]] * 2, [[[2, -1], [-1, 2]]] * 2).wald().statistic == pytest.approx(7 / 3)
    assert pool([1, 2], [0, 1]).within == 0.5


def test_rounding_does_not_make_a_covariance_asymmetric():
    pooled = pool([[1, 2]] * 2, [[[1e12, 1e11], [1e11 + 1, 1e12]]] * 2)
    assert pooled.wald().df1 == 2


@pytest.mark.parametrize("dfcom", [0, -1, math.nan, True, "many"])
def test_degrees_of_freedom_must_be_positive(dfcom):
    with pytest.raises(ParameterError, match=f"dfcom must be a number > 0 .* received {dfcom!r}"):
        pool([1, 2], [1, 1], dfcom)


@pytest.mark.parametrize("coverage", [0, 1, 95, math.nan, "wide"])
def test_coverage_must_be_a_share(coverage):
    with pytest.raises(ParameterError, match=f"between 0 and 1; received {coverage!r}"):
        pool([1, 2], [1, 1]).interval(coverage)


def test_null_values_must_fit_the_parameters():
    pooled = pool(ESTIMATES, COVARIANCES)
    for test in (pooled.p_value, pooled.wald):
        with pytest.raises(ParameterError, match=r"shape \(2,\); received shape \(3,\)"):
            test([0.0, 0.0, 0.0])


def test_wald_says_what_it_lacks():
    with pytest.raises(ParameterError, match=r"covariance of the 2 .* shape \(M, 2, 2\)"):
        pool(ESTIMATES, np.ones((3, 2))).wald()
    with pytest.raises(ParameterError, match="positive definite"):
        pool(ESTIMATES, np.ones((3, 2, 2))).wald()
