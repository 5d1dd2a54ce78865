"""Scores of maps against scikit-learn, small cases by hand, and what they must not depend on."""

import subprocess
import sys
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import special_ortho_group
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from skvae import evaluation
from skvae.evaluation import _neighbors, embedding
from skvae.evaluation._neighbors import kth_distances, nearest, squared_distances, vote
from skvae.exceptions import DataError, ParameterError

FIGURES = (
    "trustworthiness",
    "continuity",
    "random_triplets",
    "knn_accuracy",
    "neighborhood_hit",
    "silhouette",
    "nmi",
    "centroid_triplets",
)


def rows(n=300, d=4, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(5, size=n)
    return generator.normal(size=(n, d)) + 2 * generator.normal(size=(5, d))[y], y


def figures(report, names=FIGURES):
    return [getattr(report, name) for name in names]


# -- neighbours ----


def test_distances_are_exact_where_differences_of_squares_are_not():
    generator = np.random.default_rng(0)
    a = 1e6 + generator.normal(size=(7, 3))
    b = np.concatenate([a[2:5], a[:1] + 1e-7, 1e6 + generator.normal(size=(4, 3))])
    expected = ((a[:, None] - b) ** 2).sum(-1)
    found = squared_distances(a, b)
    assert (found[[2, 3, 4], [0, 1, 2]] == 0).all()
    assert np.allclose(found, expected, rtol=1e-6, atol=0)
    bytes_apart = squared_distances(np.array([[0, 255]], np.uint8), np.array([[255, 0]], np.uint8))
    assert bytes_apart == pytest.approx(2 * 255**2)


@pytest.mark.parametrize("block", [1, 50, 4_000_000])
def test_neighbours_are_found_block_by_block(block, monkeypatch):
    monkeypatch.setattr(_neighbors, "BLOCK", block)
    X = np.random.default_rng(1).integers(5, size=(40, 2))  # many are equally near
    among = np.random.default_rng(2).integers(5, size=(30, 2))
    full = ((X[:, None] - among) ** 2).sum(-1)
    places, distances = nearest(X, among, 4)
    assert np.array_equal(places, np.argsort(full, 1, kind="stable")[:, :4])
    assert np.allclose(distances**2, np.sort(full, 1)[:, :4])
    within = ((X[:, None] - X) ** 2).sum(-1).astype(float)
    np.fill_diagonal(within, np.inf)
    assert np.allclose(kth_distances(X, 3), np.sort(within, 1)[:, 2])


def test_neighbours_among_more_rows_than_are_looked_at_once():
    among = np.random.default_rng(0).normal(size=(23_000, 1)).astype(np.float32)
    places, distances = nearest(among[[5, 15_000, 22_999]] + 1e-3, among, 3)
    full = np.abs(among[[5, 15_000, 22_999]] + 1e-3 - among.T)
    assert np.array_equal(places, np.argsort(full, 1)[:, :3])
    assert np.allclose(distances, np.sort(full, 1)[:, :3], rtol=1e-3)


def test_votes():
    assert vote(np.array([[0, 2, 2], [1, 0, 2], [2, 2, 1]]), 3).tolist() == [2, 0, 2]


# -- maps ----


@pytest.mark.parametrize("k", [1, 5, 40])
def test_trustworthiness_is_that_of_scikit_learn(k, monkeypatch):
    monkeypatch.setattr(_neighbors, "BLOCK", 7000)
    X, _ = rows()
    for Z in (X[:, :2], X[:, :1] ** 2, np.random.default_rng(3).normal(size=(300, 2))):
        report = embedding(X, Z, n_neighbors=k)
        assert report.trustworthiness == pytest.approx(
            trustworthiness(X, Z, n_neighbors=k), abs=1e-13
        )
        assert report.continuity == pytest.approx(trustworthiness(Z, X, n_neighbors=k), abs=1e-13)


def test_trustworthiness_by_hand():
    """Four places on a line, of which the map swaps two."""
    X, Z = np.array([[0.0], [1], [2.1], [3.3]]), np.array([[0.0], [2.1], [1], [3.3]])
    # Nearest on the map: 2, 2, 0, 1; their ranks among the rows: 2, 2, 3, 2.
    # Nearest rows: 1, 0, 1, 2; their ranks on the map: 2, 3, 2, 2.
    report = embedding(X, Z, n_neighbors=1)
    assert report.trustworthiness == pytest.approx(1 - 2 / (4 * 1 * 4) * 5)
    assert report.continuity == pytest.approx(1 - 2 / (4 * 1 * 4) * 5)


def test_the_rows_themselves_are_the_best_map_however_turned_scaled_and_sorted():
    X, y = rows(d=3)
    own = embedding(X, X, y)
    assert figures(own, FIGURES[:3]) == [1, 1, 1]
    assert own.centroid_triplets == 1
    turned = 7 * X @ special_ortho_group.rvs(3, random_state=np.random.default_rng(0)) - 5
    assert figures(embedding(X, turned, y)) == pytest.approx(figures(own), abs=1e-9)
    Z = X[:, :2]
    report = embedding(X, Z, y)
    order = np.random.default_rng(1).permutation(len(X))
    exact = [name for name in FIGURES if name not in ("random_triplets", "nmi")]
    other = embedding(X[order], Z[order], y[order])
    assert figures(other, exact) == pytest.approx(figures(report, exact), abs=1e-12)
    assert other.random_triplets == pytest.approx(report.random_triplets, abs=0.03)
    named = embedding(X, Z, np.array(list("edcba"))[y])
    assert figures(named) == pytest.approx(figures(report), abs=0.02)


def test_an_unrelated_map_has_what_is_said_of_it():
    X, y = rows(n=120)
    generator = np.random.default_rng(0)
    reports = [embedding(X, generator.permutation(X[:, :2]), y, random_state=i) for i in range(60)]
    for name in (*FIGURES[:3], "neighborhood_hit", "centroid_triplets"):
        values = [getattr(report, name) for report in reports]
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        assert abs(np.mean(values) - reports[0].unrelated[name]) < 4 * error, name
    assert set(reports[0].unrelated) == {*FIGURES[:3], "neighborhood_hit", "centroid_triplets"}


def test_what_is_said_of_an_unrelated_map_is_the_mean_over_all_orders_of_the_rows():
    X, y = np.random.default_rng(5).normal(size=(5, 3)), np.array([0, 1, 0, 1, 1])
    reports = [embedding(X, X[list(order)], y, n_neighbors=1) for order in permutations(range(5))]
    for name in ("trustworthiness", "continuity", "neighborhood_hit"):
        mean = np.mean([getattr(report, name) for report in reports])
        assert mean == pytest.approx(reports[0].unrelated[name]), name
    assert np.mean([r.random_triplets for r in reports]) == pytest.approx(0.5, abs=0.03)


def test_labels_are_judged_as_scikit_learn_does():
    X, y = rows()
    Z, (more, truth) = X[:, :2], rows(seed=0, n=500)
    report = embedding(X, Z, y, n_neighbors=7)
    neighbors = KNeighborsClassifier(7)
    assert report.knn_accuracy == cross_val_score(neighbors, Z, y, cv=LeaveOneOut()).mean()
    assert report.n_test is None
    assert report.silhouette == pytest.approx(silhouette_score(Z, y))
    tested = embedding(X, Z, y, Z_test=more[:, 1:3], y_test=truth, n_neighbors=7, max_rows=100)
    assert tested.knn_accuracy == neighbors.fit(Z, y).score(more[:, 1:3], truth)
    assert (tested.n_test, tested.n_rows) == (500, 100)
    strange = truth.copy()
    strange[:250] = 9
    half = embedding(X, Z, y, Z_test=more[:, :2], y_test=strange)
    assert half.knn_accuracy <= 0.5


def test_separate_classes_are_seen_and_labels_of_two_have_no_triplets_of_means():
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1], 50)
    Z = generator.normal(size=(100, 2)) * 1e-6 + y[:, None]
    report = embedding(Z, Z, y)
    assert (report.knn_accuracy, report.neighborhood_hit, report.nmi) == (1, 1, pytest.approx(1))
    assert report.silhouette == pytest.approx(1, abs=1e-4)
    assert report.centroid_triplets is None
    plain = embedding(Z, Z)
    assert figures(plain, FIGURES[3:]) == [None] * 5


def test_triplets_of_means_by_hand():
    """Means at 0, 1 and 3, whose map has them at 0, 3 and 1: only the view from 0 is wrong."""
    X = np.repeat([0.0, 1, 3], 4)[:, None] + np.tile([-1e-3, 1e-3], 6)[:, None]
    Z = np.repeat([0.0, 3, 1], 4)[:, None] + np.tile([-1e-3, 1e-3], 6)[:, None]
    y = np.repeat([0, 1, 2], 4)
    # Nearer of the others, among rows and on the map: to 0: 1, 2; to 1: 0, 2; to 2: 1, 0.
    assert embedding(X, Z, y).centroid_triplets == 0
    Z = np.repeat([0.0, -1, 3], 4)[:, None] + np.tile([-1e-3, 1e-3], 6)[:, None]
    # To 0: 1, 1; to 1: 0, 0; to 2: 1, 0.
    assert embedding(X, Z, y).centroid_triplets == pytest.approx(2 / 3)


def test_figures_are_a_function_of_the_seed_and_images_are_rows():
    X, y = rows(d=4)
    one = embedding(X, X[:, :2], y, max_rows=80, random_state=3)
    assert one == embedding(X.reshape(-1, 1, 2, 2), X[:, :2], y, max_rows=80, random_state=3)
    assert one != embedding(X, X[:, :2], y, max_rows=80, random_state=4)
    assert one.n_rows == 80
    assert one.to_dict()["unrelated"]["random_triplets"] == 0.5
    assert "80 rows, 5 neighbours" in str(one)
    assert all(name in str(one) for name in FIGURES)


X, Y = rows(n=40)
Z = X[:, :2]
HOLE = X.copy()
HOLE[7, 1] = np.nan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[:10], Z[:10]), r"10 rows are too few for 5 neighbours: more than 10"),
        ((X, Z[:30]), "X has 40 rows and Z has 30"),
        ((HOLE, Z), "X holds NaN or infinity in 1 of 40 rows, the first of them row 7"),
        ((X, HOLE), "Z holds NaN"),
        ((X, Z[:, 0]), r"Z must have shape .*reshape\(-1, 1\)"),
        ((X, np.ones((40, 2))), "Z is constant.* collapsed"),
        ((np.ones((40, 2)), Z), "X is constant"),
        ((np.full((40, 2), "a"), Z), "X must hold numbers"),
        (([[1, 2], [3]], Z), "X must be rows of equal shape"),
        ((X, Z, Y[:39]), r"y must hold one label for each row of X, shape \(40,\)"),
        ((X, Z, np.zeros(40)), "y has one class"),
        ((X, Z, np.where(Y > 2, np.nan, Y)), "y has no label for"),
        ((X, Z, np.array([None, *Y[1:]], object)), "first of them row 0"),
        ((X, Z, np.array(["a", *Y[1:]], object)), "no order"),
        ((X, Z, np.arange(40)), "y has 40 classes"),
    ],
)
def test_what_cannot_be_judged_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        embedding(*arguments)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ({"Z_test": Z}, "y, Z_test and y_test together"),
        ({"y_test": Y}, "together"),
        ({"Z_test": X, "y_test": Y}, "Z_test has 4 columns, but Z has 2"),
        ({"Z_test": Z, "y_test": Y[:3]}, "y_test must hold one label"),
        ({"Z_test": Z, "y_test": Y.astype(str)}, "no label in common with y"),
    ],
)
def test_test_rows_must_fit(test, message):
    with pytest.raises(DataError, match=message):
        embedding(X, Z, Y, **test)
    with pytest.raises(DataError, match="together"):
        embedding(X, Z, Z_test=Z, y_test=Y)


@pytest.mark.parametrize(
    "parameter", [{"n_neighbors": 0}, {"max_rows": 2.5}, {"random_state": -1}]
)
def test_parameters_are_checked(parameter):
    with pytest.raises(ParameterError, match=f"{next(iter(parameter))} must be an int >= "):
        embedding(X, Z, **parameter)


def test_figures_of_numbers_need_no_torch():
    code = (
        "import sys; from skvae import evaluation, datasets\n"
        "import numpy as np; X = np.random.default_rng(0).normal(size=(30, 2))\n"
        "evaluation.embedding(X, X); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_all_that_was_there_is_there():
    names = {"CellScores", "ImputationReport", "LikelihoodReport", "likelihood_report"}
    assert names <= set(evaluation.__all__)
