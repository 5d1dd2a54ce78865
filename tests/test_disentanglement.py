"""Disentanglement scores against perfect, mixed and hand-made codes; sprites."""

import math

import numpy as np
import pytest

from skvae import datasets, evaluation
from skvae.evaluation import (
    beta_vae_score,
    dci_scores,
    disentanglement,
    factor_vae_score,
    mutual_information,
)
from skvae.exceptions import DataError, ParameterError

BEST = ("mig", "sap", "disentanglement", "completeness", "factor_vae", "beta_vae")


@pytest.fixture(scope="module")
def sprites():
    return datasets.make_sprites(5)


def judged(codes, sprites, **parameters):
    return disentanglement(
        codes, sprites.factors, categorical=sprites.categorical, n_votes=200, **parameters
    )


# -- sprites ----


def test_sprites_are_all_combinations_of_their_factors_and_differ(sprites):
    n = 25 * 27
    assert sprites.X.shape == (n, math.prod(sprites.event_shape))
    assert sprites.X.dtype == np.uint8
    assert len(np.unique(sprites.factors, axis=0)) == n
    assert sprites.factors.max(0).tolist() == [4, 4, 2, 2, 2]
    assert len(np.unique(sprites.X, axis=0)) == n
    assert sprites.X.max() == sprites.max_value
    assert len(sprites.names) == sprites.factors.shape[1]


def test_sprites_show_what_their_factors_say(sprites):
    images = sprites.X.reshape(-1, 16, 16) / 255.0
    x, y, size, shade, kind = sprites.factors.T
    total = images.sum((1, 2))
    across = (images.sum(1) @ (np.arange(16) + 0.5)) / total
    down = (images.sum(2) @ (np.arange(16) + 0.5)) / total
    places = np.linspace(4.5, 11.5, 5)
    assert across == pytest.approx(places[x], abs=0.05)
    assert down == pytest.approx(places[y], abs=0.05)
    others = np.lexsort((shade, kind, size, y, x))
    weak, middle, strong = images[others].reshape(-1, 3, 16, 16).swapaxes(0, 1)
    assert weak == pytest.approx(0.4 * strong, abs=0.004)
    assert middle == pytest.approx(0.7 * strong, abs=0.004)
    ink = total / np.array([0.4, 0.7, 1.0])[shade]
    radius = np.array([2.0, 3.0, 4.0])[size]
    areas = np.stack([(1.7 * radius) ** 2, np.pi * radius**2, (2.4 - 0.36) * radius**2])
    assert ink == pytest.approx(areas[kind, np.arange(len(ink))], rel=0.2)


def test_sprites_are_a_function_of_the_seed():
    one, same, other = (datasets.make_sprites(3, random_state=s) for s in (1, 1, 2))
    plain = datasets.make_sprites(3, random_state=None)
    assert np.array_equal(one.X, same.X)
    assert not np.array_equal(one.X, other.X)
    order = np.lexsort(one.factors.T[::-1])
    assert np.array_equal(one.X[order], plain.X)
    assert np.array_equal(one.factors[order], plain.factors)
    for bad in (1, 65, 2.5):
        with pytest.raises(ParameterError, match="n_positions must be an int from 2 to 64"):
            datasets.make_sprites(bad)
    with pytest.raises(ParameterError, match="random_state"):
        datasets.make_sprites(3, random_state=-1)


# -- all scores ----


def test_factors_themselves_are_the_best_code_however_sorted_and_scaled(sprites):
    scaled = sprites.factors[:, [3, 0, 4, 1, 2]] * [1.0, -7, 0.1, 3, 1] + 5
    for codes in (sprites.factors, scaled, np.c_[scaled, np.zeros(len(scaled))]):
        report = judged(codes, sprites)
        assert [getattr(report, name) for name in BEST] == pytest.approx([1] * 6)
        assert report.informativeness == 1


def test_a_code_that_is_turned_is_worse_and_one_of_noise_knows_nothing(sprites):
    v = sprites.factors
    v = (v - v.mean(0)) / v.std(0)
    random = np.random.default_rng(0)
    turned = judged(v @ np.linalg.qr(random.normal(size=(5, 5)))[0], sprites)
    noise = judged(random.normal(size=v.shape), sprites)
    for name in (*BEST, "informativeness"):
        assert getattr(noise, name) < getattr(turned, name) < 0.95, name
    assert turned.mig < 0.3
    assert turned.disentanglement < 0.4
    for name, value in noise.unrelated.items():
        assert getattr(noise, name) == pytest.approx(value, abs=0.08)


def test_a_doubled_dimension_has_no_gap_but_all_the_information(sprites):
    twice = np.c_[sprites.factors, sprites.factors]
    report = judged(twice, sprites)
    assert (report.mig, report.sap) == (pytest.approx(0, abs=1e-12), pytest.approx(0, abs=1e-12))
    assert report.disentanglement == pytest.approx(1)
    assert report.completeness < 0.8
    assert (report.informativeness, report.factor_vae) == (1, 1)


def test_two_factors_in_one_dimension_are_complete_but_not_apart():
    v = np.stack(np.meshgrid(np.arange(4), np.arange(4), np.arange(20)), -1).reshape(-1, 3)
    z = np.c_[4 * v[:, 0] + v[:, 1], v[:, 2]]
    report = disentanglement(z, v, n_votes=100, random_state=1)
    assert report.disentanglement < 0.9
    assert report.completeness > 0.95
    assert report.informativeness == 1


def test_figures_are_a_function_of_the_seed_and_can_be_read(sprites):
    z = sprites.factors + np.random.default_rng(0).normal(size=sprites.factors.shape)
    one = judged(z, sprites, max_rows=300)
    assert one == judged(z, sprites, max_rows=300)
    assert one != judged(z, sprites, max_rows=300, random_state=1)
    assert (one.n_rows, one.n_codes, one.n_factors) == (300, 5, 5)
    assert set(BEST) < set(one.to_dict())
    assert "300 rows, 5 latent dimensions, 5 factors" in str(one)


def test_continuous_factors_are_cut_into_bins():
    v = np.random.default_rng(0).random((2000, 2))
    report = disentanglement(v, v, n_bins=5, n_votes=100)
    assert report.mig == pytest.approx(1, abs=0.1)  # bins of equal width, and of equal number
    assert report.sap == pytest.approx(1, abs=0.01)
    assert (report.factor_vae, report.beta_vae) == (1, 1)
    assert report.informativeness > 0.98


# -- each score ----


def test_information_of_small_tables():
    a = [0, 0, 1, 1]
    assert mutual_information(a, ["x", "x", "y", "y"]) == pytest.approx(math.log(2))
    assert mutual_information(a, [0, 1, 0, 1]) == 0
    with pytest.raises(DataError, match=r"one length; received \(4,\) and \(3,\)"):
        mutual_information(a, a[1:])
    # p(0, 0) = 1/2, p(0, 1) = p(1, 1) = 1/4
    expected = 0.5 * math.log(0.5 / (0.75 * 0.5)) + 0.25 * math.log(0.25 / (0.75 * 0.5))
    expected += 0.25 * math.log(0.25 / (0.25 * 0.5))
    assert mutual_information([0, 0, 0, 1], [0, 0, 1, 1]) == pytest.approx(expected)


def test_the_gap_of_information_by_hand():
    """One factor of two bits; one dimension has both bits, another one of them."""
    bits = np.stack(np.meshgrid([0, 1], [0, 1], np.arange(8)), -1).reshape(-1, 3)
    v = np.c_[2 * bits[:, 0] + bits[:, 1], bits[:, 2]]
    z = np.c_[v[:, 0], bits[:, 0], np.zeros(len(v))]
    # Of the first factor: 1 and 1/2 of its entropy; of the second one nothing is known.
    assert disentanglement(z, v, n_votes=50).mig == pytest.approx((0.5 + 0) / 2)


def test_importance_by_hand():
    separate, complete = dci_scores([[3, 1], [0, 4]])
    first = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    assert separate == pytest.approx((4 * first + 4) / 8)
    second = 1 + 0.2 * math.log2(0.2) + 0.8 * math.log2(0.8)
    assert complete == pytest.approx((3 + 5 * second) / 8)
    assert dci_scores(np.ones((3, 4))) == pytest.approx((0, 0))
    assert dci_scores(np.eye(3) * [1, 5, 2]) == (1, 1)
    for bad in ([[1, -1], [0, 1]], np.zeros((2, 2)), [[1], [1]]):
        with pytest.raises(DataError, match="importance must hold numbers >= 0"):
            dci_scores(bad)


def test_votes_for_a_code_of_one_factor_alone():
    """The one dimension that varies wins each vote, and stands for one of the two factors."""
    v = np.stack(np.meshgrid(np.arange(10), np.arange(10), [0, 1]), -1).reshape(-1, 3)[:, :2]
    z = np.c_[v[:, 0], np.zeros(len(v))]
    score = factor_vae_score(z, v, n_votes=2000)
    assert score == pytest.approx(0.5, abs=0.05)
    noisy = np.c_[v[:, 0], np.random.default_rng(0).normal(size=len(v))]
    assert factor_vae_score(noisy, v, n_votes=400) > 0.5 + 0.1
    # Which factor is fixed can be seen from how far the code is from that of the other row.
    assert beta_vae_score(z, v, n_votes=400) == 1


def test_scores_of_groups_do_not_depend_on_scale():
    random = np.random.default_rng(0)
    v = random.integers(4, size=(500, 3))
    z = v @ random.normal(size=(3, 4)) + random.normal(size=(500, 4))
    for score in (factor_vae_score, beta_vae_score):
        own = score(z, v, n_votes=200)
        assert 1 / 3 < own < 1
        assert score(z * [1000, 1, 1e-3, 7] - 3, v, n_votes=200) == pytest.approx(own, abs=0.01)


V = np.random.default_rng(0).integers(3, size=(60, 2))


@pytest.mark.parametrize(
    ("codes", "factors", "message"),
    [
        (V, V[:30], "codes has 60 rows, but factors has 30"),
        (V[:10], V[:10], "codes has 10 rows .* at least 20"),
        (V[:, :1], V, "codes has 1 column"),
        (V, V[:, :1], "factors has 1 column"),
        (np.zeros((60, 2)), V, "collapsed"),
        (V, np.c_[V, np.ones(60)], "Factor 2 is constant"),
        (np.where(V > 1, np.nan, V), V, "codes holds NaN"),
        (V, np.where(V > 1, np.inf, V), "factors holds NaN or infinity"),
        (V, V[:, 0], r"factors must have shape"),
    ],
)
def test_what_cannot_be_judged_is_refused(codes, factors, message):
    for score in (disentanglement, factor_vae_score, beta_vae_score):
        with pytest.raises(DataError, match=message):
            score(codes, factors)


def test_factors_that_rows_do_not_share_are_refused_and_parameters_checked():
    continuous = np.random.default_rng(0).random((60, 2))
    for score in (factor_vae_score, beta_vae_score):
        with pytest.raises(DataError, match=r"Factor 0 has 60 values in 60 rows.*bins"):
            score(V, continuous)
    with pytest.raises(ParameterError, match=r"categorical names columns \[2\]"):
        disentanglement(V, V, categorical=(2,))
    for parameter in ({"n_bins": 1}, {"n_votes": 49}, {"max_rows": 3}, {"random_state": None}):
        with pytest.raises(ParameterError, match=next(iter(parameter))):
            disentanglement(V, V, **parameter)


def test_the_reports_are_public():
    assert evaluation.disentanglement is disentanglement
