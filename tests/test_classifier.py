"""VAEClassifier on digits of which few have labels."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading

from skvae import VAE, VAEClassifier, files, load, serialization
from skvae.estimators._fit_rows import InMemory
from skvae.estimators._recipes import guessed
from skvae.estimators._spreading import Spreading, judge_by_held_out
from skvae.exceptions import DataError, ModelFileError, ParameterError
from skvae.few_labels import draw_labels

SMALL = {"likelihood": "bernoulli", "hidden_layer_sizes": (64,), "random_state": 0}


@pytest.fixture(scope="module")
def labelled(digits):
    X, y = digits
    return X, y, draw_labels(y, 10, 0)


@pytest.fixture(scope="module")
def fitted(labelled):
    X, _, y = labelled
    return VAEClassifier(8, max_epochs=40, learning_rate=0.005, **SMALL).fit(X, y)


def test_unlabelled_rows_help(fitted, labelled):
    X, truth, y = labelled
    unknown = y == -1
    assert fitted.classes_.tolist() == list(range(10))
    assert fitted.score(X[unknown], truth[unknown]) > 0.85
    p = fitted.predict_proba(X[:50])
    assert p.sum(1) == pytest.approx(1)
    np.testing.assert_allclose(np.log(p), fitted.predict_log_proba(X[:50]))
    np.testing.assert_array_equal(fitted.predict(X[:50]), p.argmax(1))


def test_it_generates_by_class(fitted, labelled):
    X, truth, _ = labelled
    for c in (0, 3):
        rows = fitted.sample(200, y=c, kind="mean", random_state=0)
        distance = [np.linalg.norm(rows.mean(0) - X[truth == k].mean(0)) for k in range(10)]
        assert np.argmin(distance) == c
    assert fitted.sample(7, random_state=0).shape == (7, 64)
    with pytest.raises(DataError, match="y=11 is none of the classes"):
        fitted.sample(1, y=11)


def test_the_class_changes_and_z_stays(fitted, labelled):
    X, truth, _ = labelled
    Z = fitted.transform(X[:30])
    assert Z.shape == (30, 8)
    variants = fitted.analogies(X[:30])
    assert len(variants) == 10
    np.testing.assert_allclose(variants[4], fitted.inverse_transform(Z, y=4))
    own = np.stack(variants)[truth[:30], np.arange(30)]
    other = np.stack(variants)[(truth[:30] + 5) % 10, np.arange(30)]
    assert np.square(own - X[:30]).mean() < np.square(other - X[:30]).mean()
    p = np.array(fitted._core.class_prior())
    mean = np.tensordot(p, np.stack(variants), 1)
    np.testing.assert_allclose(fitted.inverse_transform(Z), mean, rtol=1e-5, atol=1e-7)
    with pytest.raises(DataError, match="Z has 3 columns"):
        fitted.inverse_transform(Z[:, :3])


def test_what_a_vae_does_it_does_too(fitted, labelled):
    X = labelled[0][:20]
    assert np.isfinite(fitted.score_samples(X)).all()
    holes = np.where(np.arange(64) % 4 == 0, np.nan, X)
    filled = fitted.impute(holes)
    assert np.square(filled - X).mean() < np.square(X - X.mean(0)).mean() / 3
    assert fitted.interpolate(X[0], X[1], 3).shape == (3, 64)
    assert fitted.get_feature_names_out().shape == (8,)
    assert not hasattr(fitted, "partial_fit")


def test_names_and_frames(labelled):
    X, _, y = labelled
    names = np.array(["a", "b", "c"], object)
    some = (y < 3) & (np.arange(len(y)) < 1000)
    frame = pd.DataFrame(X[some]).add_prefix("x")
    given = pd.Series([None if k < 0 else names[k] for k in y[some]])
    clf = VAEClassifier(2, max_epochs=2, class_prior=[0.2, 0.3, 0.5], **SMALL).fit(frame, given)
    assert clf.classes_.tolist() == ["a", "b", "c"]
    assert set(clf.predict(frame)) <= {"a", "b", "c"}
    assert clf._core.class_prior() == pytest.approx([0.2, 0.3, 0.5])
    assert list(clf.sample(2, y="b", random_state=0)) == list(frame)
    counted = VAEClassifier(2, max_epochs=1, **SMALL).fit(frame, given)
    often = np.bincount(y[some & (y >= 0)]) + 1
    assert counted._core.class_prior() == pytest.approx((often / often.sum()).tolist())


def test_all_labels_and_bad_ones(labelled, tmp_path):
    X, truth, _ = labelled
    full = VAEClassifier(2, max_epochs=20, alpha=1.0, **SMALL).fit(X[:500], truth[:500])
    assert full.score(X[:500], truth[:500]) > 0.9
    with pytest.raises(ValueError, match="requires y to be passed"):
        full.fit(X)
    with pytest.raises(ValueError, match="inconsistent"):
        full.fit(X, truth[:-1])
    with pytest.raises(DataError, match="at least 2 classes"):
        full.fit(X, np.where(truth == 4, np.nan, np.nan))
    assert full.score(X[:500], truth[:500]) > 0.9  # a failed fit leaves it as it was
    np.save(tmp_path / "rows.npy", X)
    with pytest.raises(DataError, match="in memory"):
        full.fit(files.open_rows(tmp_path / "rows.npy"), truth)


# -- the other models ----


def small(model, **kw):
    return VAEClassifier(
        8, model=model, **({"max_epochs": 15, "learning_rate": 0.005} | SMALL | kw)
    )


@pytest.mark.parametrize("model", ["m1", "m2", "m1+m2", "ladder", "auto"])
def test_every_model_learns_and_is_kept(model, labelled, tmp_path):
    X, truth, y = labelled
    more = {"pseudo_labels": 0.7, "alpha": 1.0} if model == "m1+m2" else {}
    classifier = small(model, **more).fit(X, y)
    unknown = y == -1
    assert classifier.score(X[unknown], truth[unknown]) > 0.75
    p = classifier.predict_proba(X[:20])
    assert p.sum(1) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(classifier.score_samples(X[:5])).all()
    Z = classifier.transform(X[:5])
    assert classifier.get_feature_names_out().shape == (Z.shape[1],)
    assert classifier.inverse_transform(Z).shape == (5, 64)
    assert classifier.sample(3, random_state=0).shape == (3, 64)
    holes = X[:5].copy()
    holes[:, 20:24] = np.nan
    filled = classifier.impute(holes)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[:, :20], X[:5, :20])
    classifier.save(tmp_path / "c.safetensors")
    again = load(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(again.predict_proba(X[:20]), p)
    np.testing.assert_array_equal(again.classes_, classifier.classes_)
    if model != "m1":
        np.testing.assert_array_equal(
            again.sample(3, y=4, random_state=1), classifier.sample(3, y=4, random_state=1)
        )


def test_labels_of_any_type_come_back_from_a_file(labelled, tmp_path):
    X, _, y = labelled
    names = np.array(
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    )
    words = np.where(y >= 0, names[y], None).astype(object)
    classifier = small("m1").fit(X, words)
    classifier.save(tmp_path / "c.safetensors")
    again = load(tmp_path / "c.safetensors")
    assert again.classes_.tolist() == sorted(names)
    assert set(again.predict(X[:50])) <= set(names)


def test_m1_takes_any_classifier_and_says_what_it_cannot(labelled, tmp_path):
    X, truth, y = labelled
    base = VAE(8, max_epochs=15, learning_rate=0.005, **SMALL).fit(X)
    before = {k: v.clone() for k, v in base._core.module.state_dict().items()}
    classifier = small("m1", base=base, classifier=LogisticRegression(max_iter=500)).fit(X, y)
    assert classifier.base_ is base
    known = y >= 0
    direct = LogisticRegression(max_iter=500).fit(base.transform(X[known]), y[known])
    np.testing.assert_allclose(
        classifier.predict_proba(X[:30]), direct.predict_proba(base.transform(X[:30])), atol=1e-6
    )
    assert not hasattr(classifier.classifier, "coef_")  # a copy was fitted
    assert all((v == before[k]).all() for k, v in base._core.module.state_dict().items())
    with pytest.raises(ParameterError, match="LogisticRegression has no form that is safe"):
        classifier.save(tmp_path / "c.safetensors")
    for call in (lambda: classifier.sample(2, y=3), lambda: classifier.analogies(X[:2])):
        with pytest.raises(ParameterError, match="without regard to classes"):
            call()
    classifier.fit_prior(X, n_steps=2)
    assert type(base._core.spec.prior).__name__ == "Standard"  # that is still its own
    classifier.set_params(classifier=None).fit(X, y).save(tmp_path / "c.safetensors")
    # one that knows what −1 means is given all rows
    spread = small("m1", base=base, classifier=LabelSpreading("rbf", gamma=2.0)).fit(X, y)
    assert len(spread.classifier_.transduction_) == len(X)
    assert spread.score(X[~known], truth[~known]) > 0.75
    assert spread.predict_proba(X[:5]).shape == (5, 10)


def test_a_base_must_fit_and_an_unfitted_one_is_copied(labelled):
    X, _, y = labelled
    other = VAE(2, max_epochs=1, **SMALL).fit(X[:, :32])
    with pytest.raises(DataError, match="base was fitted to rows of shape"):
        small("m1", base=other).fit(X, y)
    fresh = VAE(3, max_epochs=2, **SMALL)
    classifier = small("m1", base=fresh).fit(X, y)
    assert not hasattr(fresh, "_core")
    assert classifier.transform(X[:2]).shape == (2, 3)


def test_what_auto_does_is_said(labelled, capsys):
    X, _, y = labelled
    flat = small("auto", max_epochs=2, verbose=1).fit(X, y)
    assert flat.choice_.startswith("model='m2'")
    assert "of labels that were held out" in flat.choice_
    assert flat.choice_ in capsys.readouterr().err
    images = small("auto", max_epochs=6, event_shape=(1, 8, 8)).fit(X, y)
    assert "convolutional" in images.choice_
    kinds = {type(m).__name__ for m in images._core.module.judge.modules()}
    assert "Conv2d" in kinds
    assert "Conv2d" not in {type(m).__name__ for m in images._core.module.encoder.modules()}
    assert all(p.requires_grad for p in images._core.judge())
    assert images.score(X[y == -1], labelled[1][y == -1]) > 0.6


def test_auto_takes_a_regression_where_classes_are_no_clusters():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 6))  # one cloud, cut in two by a plane
    truth = (X @ np.array([1, -1, 0.5, 0, 0, 0]) > 0).astype(int)
    y = np.where(np.arange(600) < 80, truth, -1)
    classifier = VAEClassifier(2, hidden_layer_sizes=(16,), max_epochs=5, random_state=0).fit(X, y)
    assert "logistic regression of the labelled rows as q(y | x)" in classifier.choice_
    Z = (X - X.mean(0)) / X.std(0)
    direct = LogisticRegression(max_iter=1000).fit(Z[:80], y[:80])
    np.testing.assert_allclose(classifier.predict_proba(X), direct.predict_proba(Z), atol=2e-3)
    assert classifier.sample(5, y=1, random_state=0).shape == (5, 6)
    three = np.where(y < 0, -1, truth + (X[:, 0] > 1))
    three = VAEClassifier(2, hidden_layer_sizes=(16,), max_epochs=2, random_state=0).fit(X, three)
    assert three.predict_proba(X[:3]).shape == (3, 3)


def test_held_out_labels_are_found_by_whom_they_should():
    rng = np.random.default_rng(0)
    y = np.arange(300) % 2
    Z = rng.normal(size=(300, 2)) + 10 * y[:, None]
    for n in (4, 40):  # fewer than there are folds, and more
        codes = np.where(np.arange(300) < n, y, -1)
        found = judge_by_held_out(Z, Z, codes, 2)
        assert [one.accuracy for one in found] == [1, 1]
        assert found[0].log_loss < 0.3
    by_spreading, by_regression = judge_by_held_out(Z, rng.normal(size=(300, 2)), codes, 2)
    assert by_spreading.accuracy == 1
    assert by_regression.accuracy < 0.8
    assert by_regression.log_loss > 0.5
    assert str(by_spreading) == f"100% (log loss {by_spreading.log_loss:.2f} nats)"
    assert judge_by_held_out(Z, Z, np.where(np.arange(300) < 3, y, -1), 2) is None


def test_auto_does_not_count_right_labels_where_classes_are_no_clusters():
    """As many may be found by chance; what spreads them is far surer where it is wrong."""
    rng = np.random.default_rng(2)
    X = rng.normal(size=(600, 6))
    odds = 1.5 * X @ np.array([1, -1, 0.5, 0, 0, 0])
    truth = (rng.uniform(size=600) < 1 / (1 + np.exp(-odds))).astype(int)
    codes = np.where(np.arange(600) < 60, truth, -1)
    by_spreading, by_regression = judge_by_held_out(X, X, codes, 2)
    assert by_regression.log_loss < by_spreading.log_loss


def test_guesses_are_the_surest_and_all_labels(labelled):
    X, truth, y = labelled
    spreading = Spreading.fit(X, y.astype(np.int64), 10)
    rows = guessed(InMemory(X, 0, y.astype(np.int64)), spreading, 0.6)
    known = y >= 0
    assert (rows.guess[known] == y[known]).all()
    share = np.mean(rows.guess >= 0)
    assert 0.59 < share < 0.72
    sure = (rows.guess >= 0) & ~known
    every = spreading.shares.argmax(1)
    assert (rows.guess[sure] == every[sure]).all()
    assert np.mean(rows.guess[sure] == truth[sure]) > np.mean(every[~known] == truth[~known])
    assert (rows.y == y).all()
    part = rows.subset(np.arange(50)[::-1])
    assert (part.guess == rows.guess[:50][::-1]).all()


def test_files_that_do_not_fit_are_refused(labelled, tmp_path):
    X, _, y = labelled
    small("m1", max_epochs=1).fit(X, y).save(tmp_path / "c.safetensors")
    manifest, tensors = serialization.read(tmp_path / "c.safetensors")
    own = {k: manifest[k] for k in manifest if k not in ("tensors",)}
    wrong = [
        ({"classes": [1, 2]}, {}),
        ({"kind_of_classes": "|O"}, {}),
        ({"classes": [[0, 1], [2, 3]]}, {}),
        ({}, {"spreading.Z": tensors["spreading.Z"][:, :3].contiguous()}),
        ({}, {"spreading.shares": -tensors["spreading.shares"]}),
        ({}, {"spreading.shares": tensors["spreading.shares"].double()}),
    ]
    for i, (said, held) in enumerate(wrong):
        path = tmp_path / f"{i}.safetensors"
        serialization.write(path, own | said, tensors | held)
        with pytest.raises(ModelFileError):
            load(path)


def test_few_labels_are_not_held_out_and_many_are():
    y = np.where(np.arange(1000) < 400, np.arange(1000) % 2, -1)
    rows = InMemory(np.zeros((1000, 1)), 0, y)
    few = rows.labelled(np.where(np.arange(1000) < 60, y, -1))
    for own, held in ((few, 0), (rows, 200)):
        train, valid = own.hold_out(500)
        assert len(train) == len(valid) == 500
        assert abs((valid.y >= 0).sum() - held) <= held / 4
    targets = np.where(np.arange(1000) < 100, 1.0, np.nan)[:, None]
    assert np.isnan(rows.labelled(targets).hold_out(500)[1].y).all()
    assert not np.isnan(rows.labelled(np.ones((1000, 1))).hold_out(500)[1].y).any()
    every = rows.labelled(np.zeros(1000, int)).hold_out(300)[1]
    assert len(every) == 300
