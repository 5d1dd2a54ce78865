"""Scores of samples against closed forms, naive computation, and what equal laws give."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import special_ortho_group

from skvae.evaluation import (
    ClassifierFeatures,
    TwoSampleTest,
    _neighbors,
    copies,
    expected_coverage,
    frechet_distance,
    frechet_distance_of_gaussians,
    generation,
    kernel_distance,
    support,
    two_sample_test,
)
from skvae.evaluation._network import Classifier
from skvae.exceptions import DataError, ParameterError, UnreliableEstimateWarning
from skvae.rng import isolated


def rng(seed=0):
    return np.random.default_rng(seed)


def within_error(values, expected):
    values = np.asarray(values)
    return abs(values.mean() - expected) < 4 * values.std(ddof=1) / math.sqrt(len(values))


# -- Fréchet ----


def test_the_frechet_distance_of_gaussians_has_closed_forms():
    assert frechet_distance_of_gaussians([1], [[4]], [3], [[9]]) == pytest.approx(4 + 1)
    a, b = np.array([1.0, 4, 0]), np.array([9.0, 1, 2])
    turn = special_ortho_group.rvs(3, random_state=rng())
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2) + 25
    for q in (np.eye(3), turn):
        found = frechet_distance_of_gaussians(
            q @ [0, 0, 0], q @ np.diag(a) @ q.T, q @ [3, 0, 4], q @ np.diag(b) @ q.T
        )
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_frechet_distance_is_that_with_a_root_of_the_product(seed):
    a, b = rng(seed).normal(size=(2, 40, 6)) @ rng(seed + 9).normal(size=(6, 6))
    a[:, 0] *= 1e-3
    c, d = np.cov(a.T), np.cov(b.T)
    difference = a.mean(0) - b.mean(0)
    expected = difference @ difference + np.trace(c + d - 2 * sqrtm(c @ d).real)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance_of_gaussians(a.mean(0), c, b.mean(0), d) == pytest.approx(
        expected, rel=1e-6
    )
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)
    turn = special_ortho_group.rvs(6, random_state=rng(seed))
    assert frechet_distance(7 * a @ turn - 3, 7 * b @ turn - 3) == pytest.approx(
        49 * expected, rel=1e-6
    )


def test_the_frechet_distance_of_equal_and_of_flat_samples():
    a = rng().normal(size=(50, 4))
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(a, a + 2) == pytest.approx(16)
    wide = rng().normal(size=(5, 30))  # fewer rows than features: covariances without full rank
    assert frechet_distance(wide, wide) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(wide, 3 * wide - 2 * wide.mean(0)) == pytest.approx(
        4 * np.trace(np.cov(wide.T))
    )
    # Rows with one thing in common only: perpendicular lines.
    line = np.array([[1.0, 0], [-1, 0]])
    assert frechet_distance(line, line[:, ::-1]) == pytest.approx(4)


def test_the_bias_of_the_frechet_distance_is_that_of_one_law():
    """In one dimension: 2σ²/n of the means, and (σ̂ − σ̂')², about 2 · σ²/2n."""
    values = [frechet_distance(*rng(s).normal(size=(2, 200, 1))) for s in range(500)]
    assert np.mean(values) == pytest.approx(3 / 200, rel=0.2)


def test_covariances_are_checked():
    good = np.eye(2)
    for bad, message in (
        ([[1, 0.5], [0, 1]], "covariance_b must be symmetric"),
        ([[1, 2], [2, 1]], "without negative"),
        (np.eye(3), r"covariance_b must have shape \(2, 2\)"),
    ):
        with pytest.raises(DataError, match=message):
            frechet_distance_of_gaussians([0, 0], good, [0, 0], bad)
    with pytest.raises(DataError, match="one shape"):
        frechet_distance_of_gaussians([0, 0], good, [0], good)


# -- kernel distance ----


@pytest.mark.parametrize("block", [1, 40, 4_000_000])
def test_the_kernel_distance_is_the_mean_over_pairs(block, monkeypatch):
    monkeypatch.setattr(_neighbors, "BLOCK", block)
    a, b = rng().normal(size=(7, 3)), rng(1).normal(size=(5, 3)) + 1

    def mean(x, y, same):
        kernel = [
            (x[i] @ y[j] / 3 + 1) ** 3
            for i in range(len(x))
            for j in range(len(y))
            if not (same and i == j)
        ]
        return np.mean(kernel)

    expected = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    mine = [
        mean(x[None], np.delete(a, i, 0), False) - mean(x[None], b, False) for i, x in enumerate(a)
    ]
    other = [
        mean(x[None], np.delete(b, j, 0), False) - mean(x[None], a, False) for j, x in enumerate(b)
    ]
    error = math.sqrt(4 * np.var(mine, ddof=1) / 7 + 4 * np.var(other, ddof=1) / 5)
    assert kernel_distance(a, b) == pytest.approx((expected, error))


def test_the_kernel_distance_of_gaussians_has_a_closed_form():
    """(x y + 1)³ compares three moments: of N(0, 1) 0, 1, 0; of N(1, 1) 1, 2, 4."""
    same, apart = [], []
    for seed in range(200):
        a, b = rng(seed).normal(size=(2, 60, 1))
        same.append(kernel_distance(a, b))
        apart.append(kernel_distance(a, b + 1))
    assert within_error([d for d, _ in same], 0)
    assert within_error([d for d, _ in apart], 3 * 1 + 3 * 1 + 16)
    assert np.mean([e for _, e in apart]) == pytest.approx(np.std([d for d, _ in apart]), rel=0.3)


# -- support ----


def test_support_by_hand():
    real, made = np.array([[0.0], [1], [3], [10]]), np.array([[0.5], [3.5], [5]])
    # Reach of real rows to their neighbour: 1, 1, 2, 7; of generated ones: 3, 1.5, 1.5.
    found = support(real, made, 1)
    # 0.5 is in the balls of 0 and 1; 3.5 in those of 3 and 10; 5 in those of 3 and 10.
    assert found.precision == 1
    assert found.density == pytest.approx((2 + 2 + 2) / 3)
    assert found.coverage == 1
    assert found.recall == 3 / 4  # not 10


@pytest.mark.parametrize("block", [1, 70, 4_000_000])
@pytest.mark.parametrize("k", [1, 4])
def test_support_is_that_of_the_definition(k, block, monkeypatch):
    monkeypatch.setattr(_neighbors, "BLOCK", block)
    a, b = rng().normal(size=(30, 2)), rng(1).normal(size=(20, 2)) + 0.7

    def distances(x, y):
        return np.linalg.norm(x[:, None] - y, axis=-1)

    reach_a = np.sort(distances(a, a), 1)[:, k]  # the nearest is the row itself
    reach_b = np.sort(distances(b, b), 1)[:, k]
    across = distances(a, b)
    inside = across <= reach_a[:, None]
    found = support(a, b, k)
    assert found.precision == inside.any(0).mean()
    assert found.density == pytest.approx(inside.sum() / (k * len(b)))
    assert found.coverage == inside.any(1).mean()
    assert found.recall == (across <= reach_b).any(1).mean()
    swapped = support(b, a, k)
    assert (swapped.precision, swapped.recall) == (found.recall, found.precision)
    turned = special_ortho_group.rvs(2, random_state=rng())
    assert support(5 * a @ turned + 1, 5 * b @ turned + 1, k) == found


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 5), (20, 60, 2), (50, 15, 3)])
@pytest.mark.parametrize("law", ["normal", "cauchy"])
def test_density_and_coverage_of_one_law_are_known(n, m, k, law):
    generator = rng(n)
    draw = generator.normal if law == "normal" else generator.standard_cauchy
    found = [support(draw(size=(n, 3)), draw(size=(m, 3)), k) for _ in range(500)]
    assert within_error([one.coverage for one in found], expected_coverage(n, m, k))
    assert within_error([one.density for one in found], 1)


def test_the_expected_coverage_of_small_samples():
    # Of three others, of which two are generated, the nearest is a generated one.
    assert expected_coverage(2, 2, 1) == pytest.approx(2 / 3)
    assert expected_coverage(10_000, 10_000, 5) == pytest.approx(1 - 2**-5, abs=1e-3)
    assert expected_coverage(5, 0, 3) == 0
    with pytest.raises(ParameterError, match="n_real must be an int >= 6; received 5"):
        expected_coverage(5, 10, 5)


def test_what_is_far_and_what_has_collapsed():
    real = rng().normal(size=(200, 2))
    far = support(real, real + 100)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    narrow = support(real, 0.05 * rng(1).normal(size=(200, 2)))
    assert narrow.precision == 1
    assert narrow.density == pytest.approx(1, abs=0.2)
    assert narrow.recall < 0.1 > narrow.coverage


# -- classifiers ----


def test_right_answers_are_counted_against_a_coin():
    found = TwoSampleTest.of(8, 10)
    assert found.p_value == pytest.approx((45 + 10 + 1) / 1024)
    assert found.accuracy == 0.8
    assert found.standard_error == pytest.approx(math.sqrt(0.8 * 0.2 / 10))
    assert TwoSampleTest.of(0, 10).p_value == 1
    assert TwoSampleTest.of(10, 10).p_value == pytest.approx(2**-10)


def test_classifiers_tell_what_can_be_told_and_no_more():
    p_values = []
    for seed in range(60):
        a, b = rng(seed).normal(size=(2, 80, 2))
        found = two_sample_test(a, b[:70], random_state=seed)
        assert found.n_test == 70
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) < 0.05) < 0.15
    assert 0.3 < np.mean(p_values) < 0.7
    a, b = rng().normal(size=(2, 600, 2))
    shifted = two_sample_test(a, b + 1)
    # The best rule is the side of the line between the means, √2 apart.
    assert shifted.accuracy == pytest.approx(0.76, abs=0.05)
    assert shifted.p_value < 1e-10
    assert two_sample_test(a, 3 * b).p_value > 1e-3  # no line tells them
    assert two_sample_test(a, 3 * b, "trees").p_value < 1e-10
    assert two_sample_test(a, 3 * b, "trees", 1) == two_sample_test(a, 3 * b, "trees", 1)
    with pytest.raises(ParameterError, match=r"classifier='tree' is not known.*'trees'"):
        two_sample_test(a, b, "tree")


# -- copies ----


def test_copies_by_hand():
    train = np.array([[0, 0], [10, 0], [0, 10]], np.uint8)
    found = copies(train, [[3, 4], [0, 9], [10, 0]], [[0, 0], [0, 2], [10, 0], [6, 8]])
    # Real rows are 5, 1 and 0 away; generated ones 0, 2, 0, and √(16 + 64) or √(36 + 4).
    assert (found.distance, found.distance_of_real) == (1, 1)
    assert found.ratio == 1
    assert found.duplicates == 0.5
    assert found.duplicates_of_real == pytest.approx(1 / 3)
    # Pairs of which the generated one is nearer: 3 of (5), 2 of (1), and two ties with (0).
    assert found.nearer_than_real == pytest.approx((3 + 2 + 1) / 12)
    assert copies(train, train, train + 1).ratio is None


def test_copies_are_found_and_fresh_rows_are_none():
    train, real, fresh = rng().normal(size=(3, 400, 5))
    good = copies(train, real, fresh)
    assert good.nearer_than_real == pytest.approx(0.5, abs=0.06)
    assert good.ratio == pytest.approx(1, abs=0.1)
    assert good.duplicates == 0
    near = copies(train, real, train + 1e-3 * fresh)
    assert near.nearer_than_real > 0.999
    assert near.ratio < 0.01
    assert near.duplicates == 0


# -- a classifier's features ----


@pytest.fixture(scope="module")
def features(digits):
    return ClassifierFeatures(event_shape=(1, 8, 8), n_updates=200).fit(*digits)


def test_a_classifier_learns_the_digits_and_gives_its_last_layer(digits, features):
    X, y = digits
    found = features(X)
    assert found.shape == (len(X), 128)
    assert features.accuracy_ > 0.95
    assert features.score(X, y) > 0.97
    assert features.score(X[:100], y[:100]) == np.mean(features.predict(X[:100]) == y[:100])
    assert (found.std(0) > 0).all()
    # The labels follow linearly from the features.
    top = features._model.top
    logits = found @ top.weight.detach().numpy().T + top.bias.detach().numpy()
    assert np.array_equal(features.classes_[logits.argmax(1)], features.predict(X))
    assert np.allclose(features(X[:3]), found[:3], atol=1e-4)


def test_features_are_a_function_of_the_seed_and_not_of_the_container(digits):
    X, y = digits[0][:300], digits[1][:300]

    def fitted(X, y, seed=0, **parameters):
        return ClassifierFeatures(n_updates=20, random_state=seed, **parameters).fit(X, y)

    one = fitted(X, y, event_shape=(1, 8, 8))(X)
    with torch.no_grad():
        assert np.array_equal(fitted(X, y, event_shape=(8, 8))(X), one)
    images = X.reshape(-1, 1, 8, 8)
    assert np.array_equal(fitted(images, y)(images), one)
    named = fitted(images, np.array(list("abcdefghij"))[y])
    assert np.array_equal(named(images), one)
    assert named.classes_.tolist() == list("abcdefghij")
    assert not np.allclose(fitted(X, y, 1, event_shape=(1, 8, 8))(X), one)
    grey = np.rint(16 * images).astype(np.uint8)
    assert np.allclose(fitted(grey, y)(grey), fitted(16 * images, y)(16 * images), atol=1e-5)


def test_units_of_columns_do_not_matter():
    y = rng().integers(3, size=400)
    X = rng(1).normal(size=(400, 4)) + y[:, None] * [1, 2, 0, 3]
    X[:, 2] = 7
    one = ClassifierFeatures(n_updates=100).fit(X, y)
    other = ClassifierFeatures(n_updates=100).fit(X * [1, 1e4, 1, 1e-3] + [0, 5, 1, 0], y)
    assert one.accuracy_ > 0.85
    assert other.accuracy_ == pytest.approx(one.accuracy_, abs=0.03)
    assert one.event_shape_ == (4,)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 5, 9), (1, 28, 28), (2, 64, 40)])
def test_images_of_any_size(shape):
    with isolated(0):
        model = Classifier(shape, 3, torch.zeros(shape), torch.ones(()))
    x = torch.zeros(2, math.prod(shape))
    assert model.features(x).shape == (2, 128)
    assert model(x).shape == (2, 3)


def test_what_a_classifier_cannot_be_trained_on_is_refused(features):
    X, y = rng().random((40, 4)), np.arange(40) % 2
    for arguments, message in (
        ((X[:10], y[:10]), "X has 10 rows .* at least 20"),
        ((np.ones((40, 4)), y), "X is constant"),
        ((X, y[:30]), "y must hold one label"),
        ((X, 0 * y), "y has one class"),
        ((np.where(X > 0.9, np.nan, X), y), "X holds NaN"),
        ((X.reshape(40, 1, 1, 2, 2), y), "Rows must be flat or images"),
    ):
        with pytest.raises(DataError, match=message):
            ClassifierFeatures(n_updates=1).fit(*arguments)
    with pytest.raises(
        DataError, match=r"Rows of shape \(4,\) are no images of shape \(1, 3, 3\)"
    ):
        ClassifierFeatures(event_shape=(1, 3, 3)).fit(X, y)
    for bad in ({"event_shape": (4,)}, {"n_updates": 0}, {"random_state": "a"}):
        with pytest.raises(ParameterError, match=next(iter(bad))):
            ClassifierFeatures(**bad).fit(X, y)
    with pytest.raises(ParameterError, match="not been fitted"):
        ClassifierFeatures()(X)
    with pytest.raises(DataError, match=r"X has 4 values in each row.*fitted to 64"):
        features(X)


# -- the report ----


def test_features_that_are_given_give_the_figures_of_these_features():
    a, b = rng().normal(size=(300, 3)), rng(1).normal(size=(200, 3)) + 0.3
    report = generation(a, b, features=lambda X: X[:, :2])
    assert report.frechet_distance == pytest.approx(frechet_distance(a[:, :2], b[:, :2]))
    found = (report.kernel_distance, report.kernel_standard_error)
    assert found == pytest.approx(kernel_distance(a[:, :2], b[:, :2]))
    own = support(a[:, :2], b[:, :2])
    assert (report.precision, report.recall) == (own.precision, own.recall)
    assert (report.density, report.coverage) == (pytest.approx(own.density), own.coverage)
    assert report.one_law["coverage"] == expected_coverage(300, 200, 5)
    assert (report.n_real, report.n_generated, report.n_features) == (300, 200, 2)
    pair = generation(a, b, features=(a[:, :2], b[:, :2]))
    assert pair == report
    assert (report.copies, report.synthetic_accuracy, report.features) == (None, None, "given")


def test_one_law_has_what_is_said_of_it():
    """Judged and expected figures of samples of one law agree on average."""
    reports = [
        generation(*np.split(rng(s).normal(size=(700, 4)), [400]), random_state=s)
        for s in range(25)
    ]
    for name in ("frechet_distance", "kernel_distance", "density", "coverage"):
        values = [getattr(r, name) - r.one_law[name] for r in reports]
        assert within_error(values, 0), name
    for name in ("precision", "recall"):
        found, expected = (
            np.mean([getattr(r, name) for r in reports]),
            np.mean([r.one_law[name] for r in reports]),
        )
        assert found == pytest.approx(expected, abs=0.03)
    values = [r.two_sample["logistic"].accuracy for r in reports]
    assert within_error(values, reports[0].one_law["two_sample.logistic"])


def test_units_of_columns_do_not_matter_where_rows_are_the_features():
    a, b = rng().normal(size=(2, 200, 3))
    a[:, 2] = b[:, 2] = 5.0
    b[0, 2] = 6
    scale = [1e5, 1e-2, 1]
    one, other = generation(a, b), generation(a * scale, b * scale)
    assert one.features == "rows"
    assert other.frechet_distance == pytest.approx(one.frechet_distance)
    assert other.precision == one.precision
    images = generation(a.reshape(-1, 1, 1, 3), b.reshape(-1, 1, 1, 3))
    flat = generation(a, b, event_shape=(1, 1, 3))
    assert images == flat
    assert images.frechet_distance == pytest.approx(frechet_distance(a / a.std(), b / a.std()))


def test_a_good_sample_of_digits_beside_bad_ones(digits):
    X, y = digits
    train, real, good = X[:500], X[500:900], X[900:1300]
    labels = {"y_real": y[500:900], "train": train, "y_train": y[:500], "event_shape": (1, 8, 8)}
    settings = ClassifierFeatures(event_shape=(1, 8, 8), n_updates=150)
    fine = generation(real, good, features=settings, y_generated=y[900:1300], **labels)
    assert fine.features == "classifier"
    assert settings.accuracy_ == fine.features_accuracy > 0.85
    assert fine.frechet_distance < 1.5 * fine.one_law["frechet_distance"]
    assert fine.synthetic_accuracy == pytest.approx(fine.real_accuracy, abs=0.06)
    assert fine.synthetic_accuracy > 0.85
    assert fine.copies.nearer_than_real == pytest.approx(0.5, abs=0.08)
    same = generation(real, train[:400], features=settings, **labels)
    assert same.copies.duplicates == 1
    assert same.synthetic_accuracy is None
    noise = np.clip(good + 0.3 * rng().normal(size=good.shape), 0, 1)
    wrong = generation(
        real, noise, features=settings, y_generated=y[rng().permutation(400)], **labels
    )
    assert wrong.frechet_distance > 3 * fine.frechet_distance
    assert abs(fine.kernel_distance) < 2 * fine.kernel_standard_error
    assert wrong.kernel_distance > 2 * wrong.kernel_standard_error
    assert wrong.precision < fine.precision
    assert wrong.two_sample["trees"].p_value < 1e-6
    assert wrong.synthetic_accuracy < 0.4 < wrong.real_accuracy
    assert wrong.one_law["synthetic_accuracy"] == wrong.real_accuracy
    text = str(wrong)
    for name in ("frechet_distance", "coverage", "synthetic_accuracy", "copies.duplicates"):
        assert name in text
    assert "400 generated and 400 real rows; 128 features: classifier" in text
    assert wrong.to_dict()["two_sample"]["trees"]["n_test"] == 400


def test_real_rows_alone_serve_to_learn_features_and_to_compare_accuracies():
    y = rng().integers(2, size=240)
    X = rng(1).normal(size=(240, 3)) + 3 * y[:, None]
    settings = ClassifierFeatures(n_updates=40)
    with pytest.warns(UnreliableEstimateWarning, match="too few for the Fréchet distance in 128"):
        report = generation(
            X[:120], X[120:], y_real=y[:120], y_generated=y[120:], features=settings
        )
    assert report.features == "classifier"
    assert report.synthetic_accuracy > 0.9 < report.real_accuracy
    assert report == _quiet(
        X[:120], X[120:], y_real=y[:120], y_generated=y[120:], features=settings.like()
    )


def _quiet(*arguments, **parameters):
    with pytest.warns(UnreliableEstimateWarning):
        return generation(*arguments, **parameters)


def test_at_most_so_many_rows_are_compared():
    a, b = rng().normal(size=(2, 300, 2))
    shapes = []
    report = generation(a, b[:50], features=lambda X: shapes.append(X.shape) or X, max_rows=80)
    assert shapes == [(80, 2), (50, 2)]
    assert (report.n_real, report.n_generated) == (80, 50)
    pair = generation(a, b[:50], features=[a, b[:50]], max_rows=80)
    assert pair == generation(a, b[:50], features=lambda X: X, max_rows=80)
    with pytest.raises(ParameterError, match="max_rows must be at least 20 here"):
        generation(a, b, max_rows=19)


A, B = rng().normal(size=(2, 60, 2))
Y = np.arange(60) % 2


@pytest.mark.parametrize(
    ("arguments", "parameters", "message"),
    [
        ((A[:19], B), {}, "real has 19 rows .* at least 20"),
        ((A, B[:30]), {"n_neighbors": 20}, "generated has 30 rows .* at least 42"),
        ((A, B[:, :1]), {}, r"real has rows of shape \(2,\) and generated of \(1,\)"),
        ((A, B), {"train": A[:, :1]}, r"and train of \(1,\)"),
        ((A, np.where(B > 1, np.nan, B)), {}, "generated holds NaN"),
        ((A, B), {"train": np.where(B > 1, np.inf, B)}, "train holds NaN or infinity"),
        ((np.ones((60, 2)), B), {}, "real is constant"),
        ((A, np.ones((60, 2))), {}, "generated is constant.*collapsed"),
        ((A, B), {"y_real": Y[:9]}, r"y_real must hold one label for each row of real"),
        ((A, B), {"y_generated": 0 * Y}, "y_generated has one class"),
        ((A, B), {"y_train": Y}, "y_train was given without train"),
        ((A, B), {"features": "classifier"}, "need labels"),
        ((A, B), {"features": (A, B[:9])}, "features of generated have 9 rows, but .* 60"),
        ((A, B), {"features": lambda X: X[:30]}, "one row of equal width for each row"),
        ((A, B), {"features": lambda X: X * np.nan}, "features of real holds NaN"),
        ((A, B), {"features": lambda X: 0 * X}, "features of real is constant"),
        ((A, B), {"event_shape": (1, 3, 3)}, "are no images of shape"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, parameters, message):
    with pytest.raises(DataError, match=message):
        generation(*arguments, **parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"features": "inception"}, "features='inception' is not known"),
        ({"features": 3}, "features must be 'classifier'.*received int"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"max_rows": None}, "max_rows"),
        ({"random_state": 0.5}, "random_state"),
    ],
)
def test_parameters_are_checked(parameters, message):
    with pytest.raises(ParameterError, match=message):
        generation(A, B, **parameters)


def test_measures_refuse_what_they_cannot_compare():
    for measure in (frechet_distance, kernel_distance, support, two_sample_test):
        with pytest.raises(DataError, match="real has 2 values in each row and generated has 1"):
            measure(A, B[:, :1])
        with pytest.raises(DataError, match="generated has 1 rows"):
            measure(A, B[:1])
    with pytest.raises(DataError, match="at least 8"):
        support(A[:7], B, 7)
