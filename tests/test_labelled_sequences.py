"""Classes and targets of sequences, of which few are known."""

import numpy as np
import pytest
import torch

from skvae import VAEClassifier, VAERegressor, load
from skvae.buckets import SequenceSource
from skvae.data import Transform
from skvae.exceptions import DataError
from skvae.sequences import Ragged

SHORT = {"n_components": 2, "hidden_layer_sizes": (32,), "max_epochs": 12, "random_state": 0}
N = 200


def numbers(seed=0):
    """Series of different lengths around −1 and 1."""
    source = np.random.default_rng(seed)
    y = source.integers(2, size=N)
    X = [
        (2 * c - 1 + 0.5 * source.normal(size=source.integers(4, 9))).astype(np.float32) for c in y
    ]
    return X, y, np.where(np.arange(N) < 30, y, -1)


def words(seed=0):
    source = np.random.default_rng(seed)
    y = source.integers(2, size=N)
    X = ["".join(source.choice(list("xyz" if c else "abc"), source.integers(3, 8))) for c in y]
    return X, y, np.where(np.arange(N) < 30, y, -1)


def test_labels_stay_with_their_sequences():
    lengths = [3, 1, 5, 2, 4, 4, 2]
    parts = [np.full((n, 1), i, np.float32) for i, n in enumerate(lengths)]
    y = torch.arange(len(parts))
    same = Transform(np.zeros(6), np.ones(6))
    source = SequenceSource(Ragged.of(parts), same, seed=3, y=y)
    device = torch.device("cpu")
    for batches in (source.batches(0, 2, device), source.in_order(3, device)):
        found = [pair for b in batches for pair in zip(b.x[:, 0, 0].tolist(), b.y.tolist())]  # noqa: B905
        assert sorted(found) == [(float(i), i) for i in range(len(parts))]
    assert torch.equal(source.identity()[-1], y)


@pytest.mark.parametrize("model", ["auto", "m1", "m2", "m1+m2", "adgm", "sdgm"])
def test_classes_of_series(model, tmp_path):
    X, y, some = numbers()
    # The VAE below has to use its z, and the one above learns nothing by its bound in this time.
    more = {"max_epochs": 40, "pseudo_labels": 0.7} if model == "m1+m2" else {}
    classifier = VAEClassifier(model=model, **SHORT | more).fit(X, some)
    assert classifier.score(X, y) > 0.9
    path = tmp_path / "m.safetensors"
    classifier.save(path)
    np.testing.assert_allclose(
        load(path).predict_proba(X[:5]), classifier.predict_proba(X[:5]), atol=1e-5
    )
    if model != "m1":
        high = np.concatenate(classifier.sample(30, y=1, random_state=0))
        low = np.concatenate(classifier.sample(30, y=0, random_state=0))
        assert high.mean() > low.mean() + 0.5


def test_series_of_one_length_have_classes_too():
    X, y, some = numbers()
    table = np.stack([x[:4] for x in X])
    classifier = VAEClassifier(network="rnn", **SHORT).fit(table, some)
    assert classifier.score(table, y) > 0.9


def test_classes_of_words():
    X, y, some = words()
    classifier = VAEClassifier(**SHORT).fit(X, some)
    assert "sequences" not in classifier.choice_
    assert classifier.score(X, y) > 0.95
    made = "".join(classifier.sample(30, y=1, random_state=0))
    assert sum(letter in "xyz" for letter in made) > 0.8 * len(made)
    swapped = classifier.analogies([X[int(np.argmax(y))]])
    assert all(isinstance(rows[0], str) for rows in swapped)


def test_targets_of_words():
    X, _, _ = words()
    length = np.array([len(word) for word in X], float)
    t = np.where(np.arange(N) < 60, length, np.nan)
    assert VAERegressor(**SHORT).fit(X, t).score(X, length) > 0.7


@pytest.mark.parametrize("estimator", [VAEClassifier, VAERegressor])
def test_labels_must_be_as_many_as_sequences(estimator):
    X, _, some = numbers()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        estimator(**SHORT).fit(X, some[:-1].astype(float))


@pytest.mark.parametrize("estimator", [VAEClassifier, VAERegressor])
def test_streams_are_refused(estimator, tmp_path):
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).normal(size=(10, 3)))
    with pytest.raises(DataError, match=r"rows in memory.*Read them first"):
        estimator(**SHORT).fit(tmp_path, np.tile([0.0, 1.0], 10))
