"""The ladder of maps: its laws level by level, what is exact in it, and that it learns."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from skvae import VAE, datasets, distributions, load, models, objectives, priors, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP, Conv
from skvae.posteriors import Diagonal, Flow

EVENTS = {1: (2, 11), 2: (1, 9, 6), 3: (1, 5, 6, 5)}


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def binary(n, event_shape):
    return (torch.rand(n, *event_shape, generator=rng.generator(5)) < 0.5).double()


def model_of(n_dims=2, n_levels=1, prior=None, n_maps=2, moved=True):
    event_shape = EVENTS[n_dims]
    spec = Assembly(
        event_shape,
        n_maps,
        Bernoulli(),
        Diagonal(),
        prior or priors.Standard(),
        Conv(n_dims=n_dims, channels=4),
        models.ConvLadder(n_levels),
    )
    module = spec.build(0)
    x = binary(8, event_shape).float()
    module.calibrate(x.mean(0), torch.ones(event_shape), x)
    module.double()
    if moved:  # q and p are equal at first, which would hide what they depend on
        g = rng.generator(3)
        with torch.no_grad():
            for parameter in module.parameters():
                step = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
                parameter.add_(0.15 * step)
    return module


def normal(parameters):
    mean, raw = parameters.chunk(2, -1)
    return Normal(mean, torch.exp(7 * torch.tanh(raw / 14)))


def by_hand(module, x, z):
    """Go down with the modules themselves; return laws of p and q, z_1 first, and the logits."""
    decoder, maps = module.decoder, module.encoder.maps(x)
    levels = torch.split(z, [*module.sizes], -1)
    last = len(levels) - 1
    p, q = [Normal(torch.zeros(module.sizes[-1]).double(), 1.0)], []
    q.append(normal(module.evident[last](maps[module.resolutions[last]])))
    down = decoder.descents[last](levels[last], decoder.start)
    for i in reversed(range(last)):
        p.append(normal(module.generative[i](down)))
        seen = maps[module.resolutions[i]]
        both = torch.cat(
            [seen.expand(*down.shape[: -seen.ndim], *seen.shape), down], -seen.ndim + 1
        )
        own = normal(module.evident[i](both))
        q.append(Normal(p[-1].mean + p[-1].stddev * own.mean, p[-1].stddev * own.stddev))
        down = decoder.descents[i](levels[i], down)
    return levels, p[::-1], q[::-1], decoder.last(down)


@pytest.mark.parametrize("path_only", [False, True])
@pytest.mark.parametrize(("n_dims", "n_levels"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_the_evidence_is_that_of_the_levels_one_by_one(n_dims, n_levels, path_only):
    module, x = model_of(n_dims, n_levels), binary(3, EVENTS[n_dims])
    evidence = module.evidence(Batch(x), 4, noise(), path_only=path_only)
    (z,) = evidence.draws
    levels, p, q, logits = by_hand(module, x, z)
    log_p = sum(law.log_prob(level).sum(-1) for law, level in zip(p, levels, strict=True))
    log_q = sum(law.log_prob(level).sum(-1) for law, level in zip(q, levels, strict=True))
    assert torch.allclose(evidence.log_pz, log_p)
    assert torch.allclose(evidence.log_qz, log_q)
    assert torch.allclose(module.prior_distribution().log_prob(z), log_p)
    assert torch.allclose(module.infer(Batch(x)).log_prob(z), log_q)
    log_px = module.likelihood(logits).log_prob(x).flatten(2).sum(-1)
    assert torch.allclose(evidence.log_px, log_px)
    assert torch.allclose(module.log_joint(Batch(x), z)[0], log_px)
    terms = []
    for a, b in zip(q, p, strict=True):
        kl = kl_divergence(a, b)
        kl = kl.mean(0) if kl.ndim == 3 else kl
        terms.append(kl.view(3, 2, -1).sum(-1))  # one number for each of the two maps
    assert torch.allclose(evidence.kl, torch.cat(terms, -1))


def test_levels_lie_at_every_resolution():
    module = model_of(2, 2)
    assert module.encoder.levels == [(5, 3), (3, 3)]
    assert module.sizes == (2 * 15, 2 * 15, 2 * 9, 2 * 9)
    assert module.spec.latent.width == 96
    assert module.spec.model.prior_latent(module.spec).n_components == 18
    assert distributions.draw(module.prior_distribution(), (5,), noise()).shape == (5, 96)


def test_every_level_reaches_the_data_and_is_reached_by_them():
    module, x = model_of(2, 2), binary(2, EVENTS[2])
    z = torch.randn(1, 96, generator=rng.generator(0), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: module.generate(z).mean, z)
    assert (jacobian.flatten(0, 3).abs().amax(0) > 0).all()
    laws = module.infer(Batch(x)).laws(torch.split(z.expand(2, 96), [*module.sizes], -1))
    for law in laws:
        assert (law.mean[0] != law.mean[1]).all()


def test_q_starts_equal_to_p_at_every_level():
    module = model_of(2, 2, moved=False)
    evidence = module.evidence(Batch(binary(3, EVENTS[2])), 2, noise())
    assert torch.equal(evidence.kl, torch.zeros(3, 8).double())
    loss = -evidence.elbo.mean()
    loss.backward()
    for head in module.evident:  # and yet x can make itself felt at once
        assert head.layers[-1].weight.grad.abs().max() > 1e-5


def test_the_path_gradient_leaves_out_the_score():
    """With z fixed, log q(z | x) of the path has no gradient at all in the weights of q."""
    module, batch = model_of(2, 2), Batch(binary(3, EVENTS[2]))
    evidence = module.evidence(batch, 2, noise(), path_only=True)
    (point,) = evidence.points
    weights = [*module.evident.parameters(), *module.encoder.parameters()]
    own = torch.autograd.grad(evidence.log_qz.sum(), [point, *weights], retain_graph=True)
    z = point.detach().requires_grad_()
    (expected,) = torch.autograd.grad(module.infer(batch).log_prob(z).sum(), z)
    assert torch.allclose(own[0], expected)
    # what reaches the weights does so through the point alone
    through = torch.autograd.grad(point, weights, own[0], retain_graph=True, allow_unused=True)
    for a, b in zip(own[1:], through, strict=True):
        assert torch.allclose(a, b)


@pytest.mark.parametrize("gradient", ["plain", "stl", "dreg"])
def test_importance_weighted_objectives_run(gradient):
    module = model_of(2, 1)
    objective = objectives.IWAE(n_samples=3, gradient=gradient)
    bound = objective(module, Batch(binary(3, EVENTS[2])), step=0, noise=noise())
    bound.loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_draws_of_p_have_the_density_that_is_said():
    """E over p(z) of q(z | x) / p(z) is 1 for any q."""
    module, batch = model_of(1, 1, n_maps=1), Batch(binary(1, EVENTS[1]))
    with torch.no_grad():
        q = module.infer(batch)
        z = distributions.draw(module.prior_distribution().expand([1]), (20000,), noise())
        ratio = torch.exp(q.log_prob(z) - module.prior_distribution().log_prob(z))
        back = distributions.draw(q, (20000,), noise(1))
        other = torch.exp(module.prior_distribution().log_prob(back) - q.log_prob(back))
    for r in (ratio, other):
        error = r.std().item() / math.sqrt(20000)
        assert r.mean().item() == pytest.approx(1, abs=4 * error)
        assert error < 0.05


@pytest.mark.parametrize("prior", [priors.Vamp(3), priors.GaussianMixture(3)], ids=repr)
def test_the_prior_is_that_of_the_top(prior):
    module, batch = model_of(2, 1, prior), Batch(binary(3, EVENTS[2]))
    evidence = module.evidence(batch, 2, noise())
    assert evidence.kl.shape == (3, 2 + 1)  # the top is one number by Monte Carlo
    (z,) = evidence.draws
    assert torch.allclose(module.prior_distribution().log_prob(z), evidence.log_pz)
    top = module.prior(module.infer_prior_part).log_prob(module.prior_part(z))
    assert torch.allclose(
        evidence.kl[:, -1], (module.infer(batch).top.log_prob(z[..., -18:]) - top).mean(0)
    )


def test_parts_that_cannot_stand_together_are_refused():
    good = (Bernoulli(), Diagonal(), priors.Standard(), Conv(), models.ConvLadder())
    Assembly((1, 9, 9), 2, *good)
    with pytest.raises(ParameterError, match="network='mlp': its levels are maps"):
        Assembly((1, 9, 9), 2, *good[:3], MLP(), good[4])
    with pytest.raises(ParameterError, match="posteriors of its levels are diagonal"):
        Assembly((1, 9, 9), 2, Bernoulli(), Flow(), *good[2:])
    with pytest.raises(ParameterError, match=r"events of shape \(channels, height, width\)"):
        Assembly((81,), 2, *good)
    with pytest.raises(ParameterError, match="ConvLadder: n_levels must be an integer >= 1"):
        models.ConvLadder(0)


X = datasets.load_digits().X_train.reshape(-1, 1, 8, 8).astype(np.float32) / 16


def halves(n):
    """Images of 8 x 8 whose upper or lower half is lit: one bit, once that is understood."""
    images = np.zeros((n, 1, 8, 8), np.float32)
    images[::2, :, :4] = images[1::2, :, 4:] = 1
    return images


def test_it_learns_and_is_saved(tmp_path):
    data = halves(128)
    vae = VAE(2, likelihood="bernoulli", network=Conv(channels=8), model=models.ConvLadder(2))
    vae.set_params(max_epochs=10, batch_size=16, learning_rate=0.01)
    vae.set_params(early_stopping=False, random_state=0).fit(data)
    assert -vae.history_["train_elbo"][-1] < 22  # with 64 separate pixels, 44.4
    assert vae.history_["train_kl"][-1] > 1
    vae.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.score_samples(data[:5]), vae.score_samples(data[:5]))
    holes = data[:3].copy()
    holes[:, :, 4:] = np.nan
    filled = vae.impute(holes)
    assert np.array_equal(filled[:, :, :4], holes[:, :, :4])
    assert np.isfinite(filled).all()
    assert vae.sample(2, random_state=0).shape == (2, 1, 8, 8)


def test_the_name_ladder_means_the_ladder_of_maps_for_convolutions():
    settings = {"max_epochs": 1, "random_state": 0, "model": "ladder"}
    maps = VAE(2, network=Conv(channels=2), **settings).fit(X[:40])
    assert maps._core.spec.model == models.ConvLadder()
    dense = VAE(4, network="mlp", **settings).fit(X[:40])
    assert dense._core.spec.model == models.Ladder()
    own = VAE(4, network=Conv(channels=2), **settings).set_params(model=models.Ladder())
    assert own.fit(X[:40])._core.spec.model == models.Ladder()
