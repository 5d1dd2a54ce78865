"""Missing cells on their way to a model: masks, scaling, and hiding in training."""

import numpy as np
import pytest
import torch

from skvae import rng
from skvae.data import Source, Transform
from skvae.evidence import Batch
from skvae.hiding import Hiding
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.posteriors import Diagonal
from skvae.priors import Standard

CPU = torch.device("cpu")


def with_holes(n=40, d=5, share=0.3, seed=0):
    x = torch.randn(n, d, generator=rng.generator(seed))
    return torch.where(torch.rand(n, d, generator=rng.generator(seed, 1)) < share, torch.nan, x)


def test_a_missing_cell_is_false_in_the_mask_and_a_number_in_x():
    x = with_holes()
    (batch,) = Source(x).in_order(100, CPU)
    assert torch.equal(batch.mask, ~x.isnan())
    assert torch.equal(batch.x[batch.mask], x[batch.mask])
    assert torch.isfinite(batch.x).all()


def test_complete_rows_have_no_mask():
    (batch,) = Source(torch.ones(3, 2)).in_order(100, CPU)
    assert batch.mask is None
    assert batch.shown is None


def test_scaling_counts_observed_cells_only():
    X = with_holes().double().numpy() * 7 + 3
    found = Transform.fit(X, "per_feature")
    np.testing.assert_allclose(found.shift, np.nanmean(X, 0), rtol=1e-12)
    np.testing.assert_allclose(found.unit, np.nanstd(X, 0), rtol=1e-12)
    positive = np.exp(X / 7)
    geometric = np.exp(np.nanmean(np.log(positive), 0))
    np.testing.assert_allclose(Transform.fit(positive, "scale").unit, geometric, rtol=1e-12)


def test_scaling_leaves_a_column_without_values_as_it_is():
    X = np.column_stack([np.full(4, np.nan), np.arange(4.0)])
    found = Transform.fit(X, "per_feature")
    assert (found.shift[0], found.unit[0]) == (0, 1)
    assert found.shift[1] == 1.5


def test_hidden_cells_are_observed_ones_and_the_likelihood_keeps_them():
    source = Source(with_holes(400))
    for whole, batch in zip(
        source.batches(0, 64, CPU), Hiding(source, 0.8).batches(0, 64, CPU), strict=True
    ):
        assert torch.equal(batch.mask, whole.mask)
        assert torch.equal(batch.shown, batch.seen)
        assert not (batch.seen & ~batch.mask).any()
        assert (batch.mask & ~batch.seen).any()


@pytest.mark.parametrize("most", [0.0, 0.5, 1.0])
def test_the_hidden_share_is_uniform_up_to_the_limit(most):
    source = Hiding(Source(torch.zeros(2000, 200)), most)
    hidden = torch.cat([(~b.seen).float().mean(1) for b in source.batches(3, 500, CPU)])
    assert abs(float(hidden.mean()) - most / 2) <= 0.025 * most
    assert abs(float(hidden.std()) - most / 12**0.5) <= 0.025 * most


def test_what_is_hidden_follows_from_seed_epoch_and_step():
    def seen(seed, epoch, skip=0):
        source = Hiding(Source(torch.zeros(60, 9), seed=seed), 0.7)
        return [b.seen for b in source.batches(epoch, 20, CPU, skip=skip)]

    assert all(map(torch.equal, seen(0, 1), seen(0, 1)))
    assert torch.equal(seen(0, 1)[2], seen(0, 1, skip=2)[0])
    assert not torch.equal(seen(0, 1)[0], seen(0, 2)[0])
    assert not torch.equal(seen(0, 1)[0], seen(0, 1)[1])
    assert not torch.equal(seen(0, 1)[0], seen(1, 1)[0])


def test_rows_in_order_hide_the_same_cells_every_time():
    source = Hiding(Source(torch.zeros(30, 9)), 0.7)
    (first,), (second,) = (list(source.in_order(30, CPU)) for _ in range(2))
    assert torch.equal(first.seen, second.seen)
    assert not first.seen.all()


def test_the_encoder_does_not_see_hidden_cells_but_the_likelihood_does():
    module = Assembly((4,), 2, Gaussian(), Diagonal(), Standard(), MLP((8,))).build(0)
    x = torch.randn(3, 4, generator=rng.generator(1))
    seen = torch.tensor([[True, False, True, True]] * 3)
    other = torch.where(seen, x, x + 5)
    hidden = module.infer(Batch(x, seen=seen)).mean
    assert torch.equal(hidden, module.infer(Batch(other, seen=seen)).mean)
    assert torch.equal(hidden, module.infer(Batch(x, mask=seen)).mean)
    assert not torch.equal(hidden, module.infer(Batch(x)).mean)
    scores = [
        module.evidence(Batch(values, seen=seen), 2, rng.Sequential(rng.generator(2))).log_px
        for values in (x, other)
    ]
    assert (scores[0] != scores[1]).all()
    assert torch.equal(
        scores[0],
        module.log_joint(
            Batch(x),
            module.evidence(Batch(x, seen=seen), 2, rng.Sequential(rng.generator(2))).draws[0],
        )[0],
    )


def test_parts_of_a_batch_keep_their_masks():
    mask = torch.tensor([[True], [False], [True]])
    batch = Batch(torch.arange(3.0).view(3, 1), mask, seen=~mask)
    part = batch.map(lambda rows: rows[1:])
    assert part.x.flatten().tolist() == [1, 2]
    assert part.mask.flatten().tolist() == [False, True]
    assert part.seen.flatten().tolist() == [True, False]
    assert Batch(batch.x).map(lambda rows: rows[:1]).mask is None
