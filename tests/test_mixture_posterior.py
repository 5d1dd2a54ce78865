"""The mixture of encoders against torch's mixture, enumeration and quadrature."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from skvae import VAE, distributions, load, posteriors, priors, rng
from skvae.distributions import EqualMixture
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=rng.generator(seed), dtype=torch.float64)


@pytest.fixture
def mixture():
    return EqualMixture(3 * normal(4, 5, 2), normal(4, 5, 2, seed=1).exp())


def reference(q):
    weights = torch.ones(q.means.shape[:2], dtype=torch.float64)
    return MixtureSameFamily(Categorical(weights), Independent(Normal(q.means, q.scales), 1))


def model_of(posterior, d=2):
    spec = Assembly((3,), d, Gaussian(scale="global"), posterior, priors.Standard(), MLP((6,)))
    return spec.build(0).double()


def test_density_and_mean_are_those_of_torch(mixture):
    z = 4 * normal(7, 4, 2, seed=2)
    assert torch.allclose(mixture.log_prob(z), reference(mixture).log_prob(z), atol=1e-12)
    assert torch.allclose(mixture.mean, reference(mixture).mean, atol=1e-12)
    assert (mixture.batch_shape, mixture.event_shape) == ((4,), (2,))
    wide = EqualMixture(mixture.means[1], mixture.scales[1]).expand([4])
    assert torch.allclose(wide.log_prob(z)[:, 1], mixture.log_prob(z)[:, 1])
    assert wide.batch_shape == (4,)


def test_draws_are_those_of_the_mixture(mixture):
    z = distributions.draw(mixture, (40000,), noise())
    exact = reference(mixture)
    assert torch.allclose(z.mean(0), exact.mean, atol=0.08)
    assert torch.allclose(z.var(0), exact.variance, rtol=0.05)
    # Each component gets its share: one is far from the others.
    far = EqualMixture(torch.tensor([[[0.0], [0.0], [100.0]]]).double(), torch.ones(1, 3, 1))
    z = distributions.draw(far, (9000,), noise())
    assert (z > 50).double().mean().item() == pytest.approx(1 / 3, abs=0.015)


def test_a_draw_does_not_depend_on_its_company(mixture):
    rows = torch.arange(4.0)[:, None]
    z = distributions.draw(mixture, (6,), rng.PerRow(rows, 0))
    alone = EqualMixture(mixture.means[2:3], mixture.scales[2:3])
    assert torch.equal(distributions.draw(alone, (6,), rng.PerRow(rows[2:3], 0))[:, 0], z[:, 2])


def test_equal_components_are_one_gaussian():
    """MISELBO of A equal components is the ELBO, draw by draw."""
    module, plain = model_of(posteriors.Mixture(3)), model_of(posteriors.Diagonal())
    with torch.no_grad():
        head = plain.posterior.head
        for name in ("weight", "bias"):
            one = (
                getattr(head, name)
                .unflatten(0, (2, 1, 2))
                .expand(2, 3, 2, *[-1] * (getattr(head, name).ndim - 1))
            )
            getattr(module.posterior.head, name).copy_(one.flatten(0, 2))
        module.encoder.load_state_dict(plain.encoder.state_dict())
        module.decoder.load_state_dict(plain.decoder.state_dict())
    batch = Batch(normal(4, 3))
    q, z = plain.infer(batch), normal(5, 4, 2)
    assert torch.allclose(module.infer(batch).log_prob(z), q.log_prob(z), atol=1e-12)
    assert torch.allclose(module.infer(batch).mean, q.mean, atol=1e-12)
    ours = module.evidence(batch, 20000, noise()).elbo
    exact = plain.evidence(batch, 20000, noise()).elbo
    assert torch.allclose(ours, exact, atol=0.05)


def test_components_differ_from_the_start():
    q = model_of(posteriors.Mixture()).infer(Batch(normal(4, 3)))
    assert q.means.shape == q.scales.shape == (4, 4, 2)
    spread = q.means.std(1)
    assert (spread > 0.05).all()
    assert (q.scales.std(1) > 0.01).all()


def test_log_variances_are_bounded():
    module = posteriors.Mixture(2).build(3, 1).double()
    with torch.no_grad():
        module.head.weight.fill_(1e6)
    q = module(torch.tensor([[1.0], [-1.0]]).double())
    assert q.scales[0].max().item() == pytest.approx(math.exp(7), rel=1e-6)
    assert q.scales[1].min().item() == pytest.approx(math.exp(-7), rel=1e-6)


@pytest.mark.parametrize("path_only", [False, True])
def test_the_gradient_is_right_on_average(path_only):
    """E_q[f(z) − log q(z)] by quadrature in one dimension, and the mean gradient of the draws.

    With ``path_only`` the score term is left out, whose expectation is 0.
    """
    means = torch.tensor([[[-1.0], [0.5], [2.0]]], dtype=torch.float64, requires_grad=True)
    raw = torch.tensor([[[-0.3], [0.2], [-0.8]]], dtype=torch.float64, requires_grad=True)

    def f(z):
        return torch.sin(2 * z) - 0.3 * z**2

    q = EqualMixture(means, raw.exp())
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)[:, None, None]
    log_q = q.log_prob(grid)[:, 0]
    exact = (log_q.exp() * (f(grid[:, 0, 0]) - log_q)).sum() * 24 / 20000
    expected = torch.autograd.grad(exact, (means, raw), retain_graph=True)
    z = distributions.draw(q, (400000,), noise())
    density = EqualMixture(means.detach(), raw.detach().exp()) if path_only else q
    estimate = (f(z[..., 0]) - density.log_prob(z)).mean()
    assert estimate.item() == pytest.approx(exact.item(), abs=5e-3)
    found = torch.autograd.grad(estimate, (means, raw))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=6e-3)
    assert max(e.abs().max() for e in expected) > 0.1


def test_given_the_choice_the_gradient_is_that_of_the_component(mixture):
    means = mixture.means.clone().requires_grad_()
    z = distributions.draw(EqualMixture(means, mixture.scales), (), noise())
    (slope,) = torch.autograd.grad(z.sum(), means)
    assert torch.equal(slope.sum(1), torch.ones(4, 2).double())
    assert ((slope == 0) | (slope == 1)).all()
    chosen = slope[..., 0].argmax(1)
    eps = (z - mixture.means[range(4), chosen]) / mixture.scales[range(4), chosen]
    assert (eps.abs() < 5).all()


def test_a_mixture_is_closer_to_a_posterior_with_two_modes():
    """x = z² + noise: with z ~ N(0, 1), p(z | x = 4) has modes at ±2."""

    def bound(q, n=4000):
        z = distributions.draw(q, (n,), noise())
        log_joint = -0.5 * z**2 - 0.5 * ((4 - z**2) / 0.5) ** 2
        return (log_joint.sum(-1) - q.log_prob(z)).mean()

    grid = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    exact = torch.logsumexp(-0.5 * grid**2 - 2 * (4 - grid**2) ** 2, 0) + math.log(16 / 16000)
    gaps = []
    for n in (1, 2):
        means = torch.tensor([-1.0, 1.0]).double()[:n].view(1, n, 1).requires_grad_()
        log_scales = torch.full((1, n, 1), -1.0).double().requires_grad_()
        optimizer = torch.optim.Adam([means, log_scales], 0.05)
        for _ in range(200):
            loss = -bound(EqualMixture(means, log_scales.exp()), 200)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        gaps.append((exact - bound(EqualMixture(means, log_scales.exp()))).item())
    assert 0 < gaps[1] < 0.05
    assert gaps[0] == pytest.approx(gaps[1] + math.log(2), abs=0.05)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(3)])
def test_training_raises_the_bound(objective, digits):
    X = (digits[0][:200] > 0.5).astype(float)
    vae = VAE(
        2, likelihood="bernoulli", posterior="mixture", objective=objective,
        hidden_layer_sizes=(16,), max_epochs=20, learning_rate=0.01, early_stopping=False,
        random_state=0,
    ).fit(X)  # fmt: skip
    history = vae.history_["train_elbo"]
    assert history[-1] > history[0] + 1.5


def test_through_the_estimator(digits, tmp_path):
    X = digits[0][:100]
    options = {"likelihood": "bernoulli", "hidden_layer_sizes": (16,), "max_epochs": 2}
    vae = VAE(2, posterior="mixture", random_state=0, **options).fit(X)
    assert vae._core.spec.posterior == posteriors.Mixture(4)
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.score_samples(X[:5]), vae.score_samples(X[:5]))
    assert np.array_equal(vae.score_samples(X[:5])[2:3], vae.score_samples(X[2:3]))
    holes = X[:3].copy()
    holes[:, ::2] = np.nan
    assert np.isfinite(again.impute(holes)).all()
    with pytest.raises(ParameterError, match="must be diagonal Gaussians"):
        VAE(2, posterior="mixture", prior="vamp", **options).fit(X)
    with pytest.raises(ParameterError, match="Mixture: n_components must be an integer >= 1"):
        posteriors.Mixture(0)
