"""Labels of which few are known: from what users have to what q(y | x) learns of them."""

import numpy as np
import pandas as pd
import pytest
import torch

from skvae import rng
from skvae.data import Source
from skvae.estimators._core import Core
from skvae.estimators._fit_rows import InMemory
from skvae.estimators._labels import class_number, encode_labels
from skvae.evidence import Batch
from skvae.exceptions import DataError, ParameterError
from skvae.guides import SIZE, Guided
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import M2
from skvae.networks import MLP
from skvae.objectives import ELBO, Supervised
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.training import Plan

CPU = torch.device("cpu")

# -- what users have ----


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        ([3, 7, -1, 3], [3, 7], [0, 1, -1, 0]),
        ([2.0, np.nan, 1.0, -1.0], [1, 2], [1, -1, 0, -1]),
        (np.array(["b", None, "a", np.nan], object), ["a", "b"], [1, -1, 0, -1]),
        (np.array(["b", -1, "a"], object), ["a", "b"], [1, -1, 0]),
        (pd.Series(["x", pd.NA, "y"]), ["x", "y"], [0, -1, 1]),
        (pd.Series([4, pd.NA, 5], dtype="Int64"), [4, 5], [0, -1, 1]),
        (np.where([True, False, True], np.array([3, 3, 7], np.uint8), -1), [3, 7], [0, -1, 1]),
        (["-1", "1", "1"], ["-1", "1"], [0, 1, 1]),
        ([True, False, True], [False, True], [1, 0, 1]),
        ([-1, 1, 1, -1], [-1, 1], [0, 1, 1, 0]),  # with one other value, it is a class
    ],
)
def test_labels_become_numbers_of_classes(y, classes, codes):
    found, numbers = encode_labels(y, "VAEClassifier")
    assert found.tolist() == classes
    assert numbers.tolist() == codes
    assert class_number(classes[1], found) == 1
    with pytest.raises(DataError, match="none of the classes"):
        class_number("?", found)


def test_too_few_classes_and_numbers_are_refused():
    with pytest.raises(DataError, match="y has 1 class among 2 labelled rows"):
        encode_labels(np.array(["a", None, "a"], object), "VAEClassifier")
    with pytest.raises(DataError, match="y has 0 classes among 0"):
        encode_labels([np.nan, np.nan], "VAEClassifier")
    with pytest.raises(ValueError, match="continuous"):
        encode_labels([0.5, 1.2, 0.1], "VAEClassifier")
    with pytest.raises(ValueError, match="infinity"):
        encode_labels([np.inf, 1.0, 0.0], "VAEClassifier")
    with pytest.raises(ValueError, match="1d"):
        encode_labels(np.ones((3, 2)), "VAEClassifier")


# -- batches ----


def test_batches_keep_rows_and_classes_together():
    y = torch.arange(50) % 4 - 1
    source = Source(torch.arange(50.0)[:, None], y=y, seed=2)
    for batch in [*source.batches(1, 16, CPU), *source.in_order(16, CPU)]:
        assert batch.y.tolist() == y[batch.x[:, 0].long()].tolist()
    rows = InMemory(np.arange(50.0)[:, None], 0, y.numpy())
    for part in rows.hold_out(10):
        assert part.y.tolist() == y[part.X[:, 0].astype(int)].tolist()
    assert Source(torch.zeros(3, 1), y=y[:3]).identity()[1].tolist() == [-1, 0, 1]
    some = Batch(torch.zeros(4, 1), y=y[:4]).rows(slice(1, 3)).to(CPU)
    assert some.y.tolist() == [0, 1]


@pytest.mark.parametrize("n", [7, 250])
def test_a_guide_goes_round_and_its_place_follows_from_the_update(n):
    source = Source(torch.zeros(64, 1), seed=1)
    guide = Source(torch.arange(float(n))[:, None], y=torch.arange(n), seed=5)
    guided = Guided(source, guide)
    batches = [b.guide for epoch in (0, 1, 2) for b in guided.batches(epoch, 16, CPU)]
    assert all(len(b.x) <= SIZE for b in batches)
    per_turn = -(-n // SIZE)
    turns = [torch.cat([b.y for b in batches[i : i + per_turn]]) for i in range(0, 12, per_turn)]
    assert all(sorted(turn.tolist()) == list(range(n)) for turn in turns)
    assert turns[0].tolist() != turns[1].tolist()
    late = [b.guide.y.tolist() for b in guided.batches(1, 16, CPU, skip=2)]
    assert late == [b.y.tolist() for b in batches[6:8]]
    assert len(guided) == 64
    assert [b.guide for b in guided.in_order(16, CPU)] == [None] * 4
    assert len(guided.identity()) == 3


# -- what is learned ----


def core_of(rows, model, likelihood):
    return Core.create(
        rows,
        event_shape=(rows.X.shape[1],),
        n_components=2,
        likelihood=likelihood,
        posterior=Diagonal(),
        prior=Standard(),
        network=MLP((32,)),
        model=model,
        binarize=None,
        device=CPU,
    )


def two_moons(n=600):
    generator = np.random.default_rng(0)
    y = generator.integers(2, size=n)
    angle = np.pi * generator.random(n) + np.pi * y
    X = np.stack([np.cos(angle) + y, np.sin(angle) + 0.5 * y], 1)
    return X + 0.1 * generator.normal(size=X.shape), y


def test_supervised_is_the_mean_over_what_is_known():
    rows = InMemory(two_moons(40)[0], 0)
    module = core_of(rows, M2(2), Gaussian("global")).module
    x = torch.from_numpy(rows.X).float()
    y = torch.arange(40) % 3 - 1
    module.verdict.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    batch = Batch(x, y=y)
    penalty = Supervised(0.7)
    evidence = module.evidence(batch, 1, rng.Sequential(rng.generator(0)))

    def value(batch):
        return penalty(module, batch, evidence, step=0, noise=None).item()

    log_q = module.log_class(Batch(x))
    known = (y >= 0).nonzero()[:, 0]
    expected = -0.7 * log_q[known, y[known]].mean().item()
    assert value(batch) == pytest.approx(expected)
    assert value(Batch(x)) == 0
    assert value(Batch(x, y=torch.full((40,), -1))) == 0
    guide = Batch(x[:3], y=torch.tensor([0, 1, 1]))
    assert value(Batch(x, y=y, guide=guide)) == pytest.approx(
        -0.7 * log_q[[0, 1, 2], [0, 1, 1]].mean().item()
    )
    plain = core_of(rows, "vae", Gaussian("global")).module
    with pytest.raises(ParameterError, match="Supervised needs a model with classes"):
        penalty(plain, batch, evidence, step=0, noise=None)


def test_few_labels_and_many_rows_are_better_than_few_labels():
    X, truth = two_moons()
    generator = np.random.default_rng(1)
    known = np.concatenate(
        [generator.choice(np.flatnonzero(truth == c), 5, replace=False) for c in (0, 1)]
    )
    y = np.full(len(X), -1)
    y[known] = truth[known]
    all_rows = InMemory(X, 0, y)
    core = core_of(all_rows, M2(2), Gaussian("global"))
    plan = Plan(max_epochs=150, batch_size=64, learning_rate=0.003, seed=0)
    objective = ELBO() + Supervised(5.0)
    core.train(all_rows, None, objective, plan, [], 0, guide=all_rows.subset(known))
    log_q = core.log_class(X)
    assert log_q.shape == (600, 2)
    accuracy = np.mean(log_q.argmax(1) == truth)
    assert np.allclose(np.exp(log_q).sum(1), 1)
    assert accuracy > 0.85
    assert core.n_classes == 2
    dtype = np.dtype("float64")
    drawn = [core.sample(300, seed=0, kind="draw", dtype=dtype, y=c) for c in (0, 1)]
    near = [X[truth == c].mean(0) for c in (0, 1)]
    for c in (0, 1):
        own, other = (np.linalg.norm(drawn[c].mean(0) - near[k]) for k in (c, 1 - c))
        assert own < other


def test_a_model_of_bits_with_all_labels_is_trained_without_q_of_y():
    generator = np.random.default_rng(0)
    y = generator.integers(3, size=300)
    X = (generator.random((300, 6)) < np.eye(6)[[0, 2, 4]][y] * 0.8 + 0.1).astype(float)
    rows = InMemory(X, 0, y)
    core = core_of(rows, M2(3), Bernoulli())
    plan = Plan(max_epochs=30, batch_size=32, learning_rate=0.003, seed=0)
    core.train(rows, None, ELBO(), plan, [], 0)
    assert np.allclose(core.log_class(X), -np.log(3))
    core.train(rows, None, ELBO() + Supervised(1.0), plan, [], 0)
    assert np.mean(core.log_class(X).argmax(1) == y) > 0.8


@pytest.mark.parametrize("bad", [-1.0, np.inf, np.nan])
def test_a_weight_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ParameterError, match="weight must be finite and >= 0"):
        Supervised(bad)
