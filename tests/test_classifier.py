"""VAEClassifier on digits of which few have labels."""

import numpy as np
import pandas as pd
import pytest

from skvae import files
from skvae.estimators.classifier import VAEClassifier
from skvae.exceptions import DataError
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
