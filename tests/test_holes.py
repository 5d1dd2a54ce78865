"""Missing cells on their way to a model: masks, scaling, and hiding in training."""

import numpy as np
import pytest
import torch

from skvae import rng
from skvae.data import Source, Transform
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.penalties import WakePhase
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


def test_parts_of_a_batch_keep_their_masks():
    mask = torch.tensor([[True], [False], [True]])
    batch = Batch(torch.arange(3.0).view(3, 1), mask)
    part = batch.map(lambda rows: rows[1:])
    assert part.x.flatten().tolist() == [1, 2]
    assert part.mask.flatten().tolist() == [False, True]
    assert Batch(batch.x).map(lambda rows: rows[:1]).mask is None


def linear_model(d=4, latent=2):
    parts = (Gaussian(scale="per_feature"), Diagonal(), Standard(), MLP((8,)))
    return Assembly((d,), latent, *parts).build(0).double()


def wake(model, batch, penalty, seed=3):
    evidence = model.evidence(batch, 6, rng.Sequential(rng.generator(2)))
    noise = rng.Sequential(rng.generator(seed))
    return penalty(model, batch, evidence, step=0, noise=noise), evidence


def test_the_wake_phase_weighs_log_q_of_what_is_left_by_importance():
    model = linear_model()
    x = torch.randn(5, 4, generator=rng.generator(1), dtype=torch.float64)
    mask = torch.rand(5, 4, generator=rng.generator(4)) < 0.7
    value, evidence = wake(model, Batch(x, mask), WakePhase(2.0, 0.6))
    noise = rng.Sequential(rng.generator(3))
    share = 0.6 * noise.uniform((), x[:, :1])
    seen = mask & (noise.uniform((), x) >= share)
    assert (mask & ~seen).any()
    q = model.infer(Batch(x, seen))
    expected = 0.0
    for row in range(5):
        w = (evidence.log_w[:, row] - evidence.log_w[:, row].logsumexp(0)).exp()
        z = evidence.draws[0][:, row]
        log_q = torch.stack([q.log_prob(one.expand(5, -1))[row] for one in z])
        expected = expected - 2.0 * (w * log_q).sum() / 5
    assert torch.allclose(value, expected, rtol=1e-12)


def test_the_wake_phase_trains_the_encoder_alone():
    model = linear_model()
    x = torch.randn(5, 4, generator=rng.generator(1), dtype=torch.float64)
    wake(model, Batch(x), WakePhase())[0].backward()
    decoder = [p.grad for p in model.decoder.parameters()]
    encoder = [p.grad for p in model.encoder.parameters()]
    assert all(g is None or not g.any() for g in decoder)
    assert all(g is not None and g.any() for g in encoder)


def test_a_hidden_share_of_almost_nothing_hides_almost_nothing():
    model = linear_model()
    x = torch.randn(5, 4, generator=rng.generator(1), dtype=torch.float64)
    value, evidence = wake(model, Batch(x), WakePhase(1.0, 1e-9))
    w = torch.softmax(evidence.log_w, 0)
    assert torch.allclose(value, -(w * evidence.log_qz).sum(0).mean(), rtol=1e-12)


@pytest.mark.parametrize("hide", [0.0, 1.1, float("nan")])
def test_the_hidden_share_must_be_possible(hide):
    with pytest.raises(ParameterError, match="hide"):
        WakePhase(hide=hide)
