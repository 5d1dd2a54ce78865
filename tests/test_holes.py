"""Missing cells on their way to a model: masks, scaling, and hiding in training."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from skvae import VAE, VAEClassifier, VAERegressor, rng
from skvae.augmentation import Affine, Erase, Shift, changed
from skvae.data import Source, Transform, binarize_by_content
from skvae.evidence import Batch
from skvae.exceptions import DataError, ParameterError
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


@pytest.mark.parametrize("binarize", ["threshold", "stochastic"])
def test_binary_targets_keep_their_holes(binarize):
    grey = torch.rand(50, 4, generator=rng.generator(0))
    grey[::3, 1] = torch.nan
    (batch,) = Source(grey, binarize=binarize).in_order(100, CPU)
    assert torch.equal(batch.mask, ~grey.isnan())
    assert set(batch.x.unique().tolist()) == {0.0, 1.0}


def test_binarized_by_content_a_hole_stays_and_changes_no_other_row():
    grey = np.random.default_rng(0).random((20, 6)).astype(np.float32)
    holes = grey.copy()
    holes[3, 2] = np.nan
    found = binarize_by_content(holes)
    assert np.isnan(found[3, 2])
    others = np.arange(20) != 3
    assert np.array_equal(found[others], binarize_by_content(grey)[others])


def test_a_change_of_images_takes_their_holes_along():
    x = torch.arange(2 * 25.0).view(2, 1, 5, 5)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, :, 2, 2] = False
    moved, seen = changed(x, mask, (Shift(1),), rng.Sequential(rng.generator(1)))
    whole, _ = changed(x, None, (Shift(1),), rng.Sequential(rng.generator(1)))
    assert torch.equal(moved[seen], whole[seen])
    for row, values in zip(seen[:, 0], whole[:, 0], strict=True):
        assert (~row).sum() == 1
        assert values[~row].item() in (12.0, 37.0)  # what was at (2, 2)


def test_an_erased_or_blended_cell_of_a_row_with_holes_is_hidden():
    x = torch.ones(8, 1, 10, 10)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, :, 4, 4] = False
    noise = rng.Sequential(rng.generator(0))
    values, seen = changed(x, mask, (Affine(), Erase()), noise)
    torch.testing.assert_close(values[seen], torch.ones_like(values[seen]), atol=1e-3, rtol=0)
    assert not seen.all(dim=(1, 2, 3)).any()


def factor_rows(n=1500, seed=0):
    """Rows of two factors, and the same with 30 % of the cells missing."""
    source = np.random.default_rng(seed)
    W = np.array([[1.0, 0.0], [0.9, 0.3], [0.8, -0.4], [0.0, 1.0], [0.2, 0.9]])
    X = source.normal(size=(n, 2)) @ W.T + 0.3 * source.normal(size=(n, 5)) + 2.0
    return X, np.where(source.random(X.shape) < 0.3, np.nan, X)


LINEAR = {
    "n_components": 2,
    "hidden_layer_sizes": (),
    "likelihood": Gaussian(scale="per_feature"),
    "max_epochs": 60,
    "random_state": 0,
}


def joint_law(vae):
    """Mean and covariance of a linear model's rows, in data units."""
    at = vae.inverse_transform(np.vstack([np.zeros(2), np.eye(2)]))
    W = (at[1:] - at[0]).T
    sigma = vae._core.module.generate(torch.zeros(1, 2)).stddev.detach().numpy()[0]
    return at[0], W @ W.T + np.diag((sigma * vae._core.transform.unit) ** 2)


def test_rows_with_holes_are_scored_by_the_marginal_of_their_observed_cells():
    _, holes = factor_rows()
    vae = VAE(**LINEAR).fit(holes)
    mean, covariance = joint_law(vae)
    some = holes[:40].astype(np.float64)
    exact = []
    for row in some:
        seen = ~np.isnan(row)
        law = multivariate_normal(mean[seen], covariance[np.ix_(seen, seen)])
        exact.append(law.logpdf(row[seen]) if seen.any() else 0.0)
    found = vae.score_samples(some, n_samples=8000)
    np.testing.assert_allclose(found, exact, atol=0.25)


def test_a_model_of_rows_with_holes_is_nearly_that_of_the_complete_ones():
    X, holes = factor_rows()
    new, _ = factor_rows(seed=1)
    own = LINEAR | {"hidden_layer_sizes": (64,)}  # q(z | x) of rows with holes is not linear
    complete = VAE(**own).fit(X).score(new)
    assert VAE(**own).fit(holes).score(new) > complete - 0.3
    filled = np.where(np.isnan(holes), np.nanmean(holes, 0), holes)
    assert VAE(**own).fit(filled).score(new) < complete - 0.6


def test_flat_rows_with_holes_get_a_network_that_sees_them():
    X, holes = factor_rows(100)
    assert VAE(2, max_epochs=1, random_state=0).fit(holes)._core.spec.network.name == "table"
    assert VAE(2, max_epochs=1, random_state=0).fit(X)._core.spec.network.name == "mlp"


@pytest.mark.parametrize("prior", ["vamp", "gaussian_mixture"])
def test_priors_start_from_rows_with_holes(prior):
    _, holes = factor_rows(200)
    vae = VAE(2, prior=prior, max_epochs=2, random_state=0).fit(holes)
    assert np.isfinite(vae.score_samples(holes)).all()
    assert np.isfinite(vae.fit_prior(holes, n_steps=5).score(holes))


@pytest.mark.parametrize(
    "model", ["auto", "m1", "m2", "m1+m2", "adgm", "sdgm", "ladder", "mixture"]
)
def test_classes_are_learned_from_rows_with_holes(model):
    source = np.random.default_rng(0)
    y = source.integers(2, size=300)
    X = source.normal(size=(300, 6)) + 3.0 * np.where(y, 1, -1)[:, None]
    X[source.random(X.shape) < 0.3] = np.nan
    some = np.where(np.arange(300) < 40, y, -1)
    classifier = VAEClassifier(2, model=model, max_epochs=20, batch_size=32, random_state=0)
    assert classifier.fit(X, some).score(X, y) > 0.9


def test_classes_are_learned_from_images_with_holes():
    source = np.random.default_rng(0)
    y = source.integers(2, size=120)
    X = np.full((120, 1, 8, 8), 0.1)
    X[y == 1, :, :, 4:] = 0.9
    X[y == 0, :, :, :4] = 0.9
    X[source.random(X.shape) < 0.3] = np.nan
    some = np.where(np.arange(120) < 20, y, -1)
    classifier = VAEClassifier(2, likelihood="bernoulli", max_epochs=8, random_state=0)
    assert classifier.fit(X, some).score(X, y) > 0.9


def test_targets_are_learned_from_rows_with_holes():
    X, holes = factor_rows(400)
    t = np.where(np.arange(400) < 100, X[:, 0], np.nan)
    regressor = VAERegressor(2, max_epochs=40, random_state=0).fit(holes, t)
    assert regressor.score(holes, X[:, 0]) > 0.5


def test_sequences_must_be_complete():
    X = [np.arange(4.0), np.array([1.0, np.nan, 2.0])]
    with pytest.raises(DataError, match="complete sequences"):
        VAE(2, max_epochs=1).fit(X)
    with pytest.raises(DataError, match="sequences and in rows that are streamed"):
        VAE(2, network="rnn", max_epochs=1).fit(np.array([[0.0, 1.0, np.nan], [1.0, 2.0, 3.0]]))
