"""Closed forms decide: the linear VAE is probabilistic PCA, where everything is known.

References: Tipping and Bishop (1999); Lucas et al., "Don't Blame the ELBO!", 2019,
arXiv:1911.02469.
"""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_iris

from skvae import VAE, conditional, distributions, importance, posteriors, rng
from skvae.evidence import Batch
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO
from skvae.posteriors import Diagonal
from skvae.priors import Standard

D, d, SIGMA = 5, 2, 0.4


@pytest.fixture
def ppca():
    """Parameters of a pPCA model with orthogonal axes, and rows drawn from it."""
    g = np.random.default_rng(0)
    axes = np.linalg.qr(g.normal(size=(D, d)))[0]
    W, b = axes * np.array([2.0, 0.7]), g.normal(size=D)
    X = g.normal(size=(50, d)) @ W.T + b + SIGMA * g.normal(size=(50, D))
    return W, b, X


def linear_vae(W, b, *, exact=True):
    """The same model as a VAE; with ``exact`` its q(z | x) is the posterior itself."""
    spec = Assembly((D,), d, Gaussian(scale="global"), Diagonal(), Standard(), MLP(()))
    module = spec.build(0).double()
    M = W.T @ W + SIGMA**2 * np.eye(d)  # diagonal, since the axes are orthogonal
    precision = np.diag(M) / SIGMA**2
    with torch.no_grad():
        module.decoder[0].weight.copy_(torch.tensor(W))
        module.decoder[0].bias.copy_(torch.tensor(b))
        limit = math.log(1e3)
        module.likelihood.raw_scale.fill_(limit * math.atanh(math.log(SIGMA) / limit))
        if exact:
            to_mean = np.linalg.inv(M) @ W.T
            bound = posteriors.gaussian.LOG_VAR_BOUND
            raw = bound * np.arctanh(-np.log(precision) / bound)
            weight = np.vstack([to_mean, np.zeros((d, D))])
            bias = np.concatenate([-to_mean @ b, raw])
            module.posterior.head.weight.copy_(torch.tensor(weight))
            module.posterior.head.bias.copy_(torch.tensor(bias))
    return module


def by_row(X):
    return rng.PerRow(torch.tensor(X), 0)


def log_density(W, b, X):
    covariance = W @ W.T + SIGMA**2 * np.eye(D)
    return stats.multivariate_normal(b, covariance).logpdf(X)


def test_exact_posterior_gives_log_p_with_no_variance(ppca):
    W, b, X = ppca
    module = linear_vae(W, b)
    batch = Batch(torch.tensor(X))
    evidence = module.evidence(batch, 7, rng.Sequential(rng.generator(1)))
    expected = torch.tensor(log_density(W, b, X))
    assert torch.allclose(evidence.log_w, expected.expand(7, -1), atol=1e-10)
    marginal = importance.log_marginal(module, batch, 3, by_row(X))
    assert torch.allclose(marginal.log_likelihood, expected, atol=1e-10)
    assert torch.allclose(marginal.effective_sample_size, torch.tensor(3.0, dtype=torch.float64))
    # ELBO with the analytic KL: unbiased, and here its expectation is log p itself.
    many = importance.log_marginal(module, batch, 4000, by_row(X))
    assert torch.allclose(many.elbo, expected, atol=0.15)
    assert abs((many.elbo - expected).mean()) < 0.02
    assert torch.allclose(many.reconstruction - many.kl, many.elbo)


def test_bounds_rise_to_log_p_when_q_is_wrong(ppca):
    W, b, X = ppca
    module = linear_vae(W, b)
    with torch.no_grad():
        module.posterior.head.bias[d:] += 1.5  # too wide
        module.posterior.head.bias[:d] += 0.2  # and off the centre
    expected = log_density(W, b, X).mean()
    values = []
    for k in (1, 5, 50, 2000):
        marginal = importance.log_marginal(module, Batch(torch.tensor(X)), k, by_row(X))
        values.append(marginal.log_likelihood.mean().item())
        assert (marginal.effective_sample_size <= k + 1e-9).all()
    assert values == sorted(values)
    assert values[0] < expected - 0.3
    assert values[-1] == pytest.approx(expected, abs=0.02)


def test_the_gap_of_the_elbo_is_the_kl_to_the_true_posterior(ppca):
    W, b, X = ppca
    module = linear_vae(W, b)
    with torch.no_grad():
        module.posterior.head.bias[:d] += torch.tensor([0.3, 0.0], dtype=torch.float64)
    evidence = module.evidence(Batch(torch.tensor(X)), 20000, rng.Sequential(rng.generator(0)))
    gap = log_density(W, b, X) - evidence.elbo.detach().numpy()
    variance = SIGMA**2 / (W.T @ W + SIGMA**2 * np.eye(d))[0, 0]
    assert np.allclose(gap, 0.3**2 / (2 * variance), atol=0.1)
    assert gap.mean() == pytest.approx(0.3**2 / (2 * variance), abs=0.02)


def test_missing_cells_marginalise(ppca):
    """log p(observed) and p(missing | observed), against the conditional Gaussian."""
    W, b, X = ppca
    module = linear_vae(W, b)
    module.encoder.calibrate(torch.tensor(b), torch.tensor(b)[None])
    with torch.no_grad():  # the posterior's mean is linear in x − b now
        module.posterior.head.bias[:d] = 0
    mask = np.ones((D,), dtype=bool)
    mask[[1, 3]] = False
    S = W @ W.T + SIGMA**2 * np.eye(D)
    seen, hidden = np.flatnonzero(mask), np.flatnonzero(~mask)
    gain = S[np.ix_(hidden, seen)] @ np.linalg.inv(S[np.ix_(seen, seen)])
    expected_mean = b[hidden] + (X[:, seen] - b[seen]) @ gain.T
    expected_cov = S[np.ix_(hidden, hidden)] - gain @ S[np.ix_(seen, hidden)]

    batch = Batch(torch.tensor(X), torch.tensor(mask).expand(len(X), D))
    posterior = conditional.searched_posterior(module, batch, 4000, by_row(X))
    weights, means = posterior.weight, module.generate(posterior.z).mean[..., hidden]
    assert torch.allclose(weights.sum(0), torch.ones(len(X), dtype=torch.float64))
    mean = (weights[..., None] * means).sum(0)
    assert np.allclose(mean.detach(), expected_mean, atol=0.1)

    noise = rng.Sequential(rng.generator(3))
    z = posterior.resample(4000, noise)
    draws = distributions.draw(module.generate(z), (), noise)[..., hidden].detach()
    centred = draws.numpy() - expected_mean
    assert np.allclose(centred.mean((0, 1)), 0, atol=0.03)
    covariance = np.einsum("kbi,kbj->ij", centred, centred) / centred[..., 0].size
    assert np.allclose(covariance, expected_cov, atol=0.03)

    # The encoder was made for complete rows: widen it into a proposal that covers the posterior.
    with torch.no_grad():
        module.posterior.head.bias[d:] += 3.0
    evidence = module.evidence(batch, 20000, rng.Sequential(rng.generator(0)))
    marginal = stats.multivariate_normal(b[seen], S[np.ix_(seen, seen)]).logpdf(X[:, seen])
    assert evidence.log_likelihood.mean().item() == pytest.approx(marginal.mean(), abs=0.03)


def ppca_likelihood(X, k):
    """Mean log-likelihood of the maximum-likelihood pPCA model, in nats per row."""
    values = np.sort(np.linalg.eigvalsh(np.cov(X.T, bias=True)))[::-1]
    noise = values[k:].mean()
    D_ = X.shape[1]
    log_det = np.log(values[:k]).sum() + (D_ - k) * np.log(noise)
    return -0.5 * (D_ * math.log(2 * math.pi) + log_det + D_)


@pytest.fixture(scope="module")
def iris_linear():
    X = load_iris().data
    vae = VAE(
        n_components=2,
        likelihood=Gaussian(scale="global"),
        hidden_layer_sizes=(),
        max_epochs=600,
        batch_size=150,
        learning_rate=0.03,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    return X, vae


def test_a_trained_linear_vae_is_probabilistic_pca(iris_linear):
    X, vae = iris_linear
    exact = ppca_likelihood(X, 2)
    report = vae.evaluate(X, n_samples=500)
    assert report.log_likelihood == pytest.approx(exact, abs=0.01)
    assert report.elbo == pytest.approx(exact, abs=0.03)  # the diagonal posterior is exact here
    assert report.log_likelihood <= exact + 0.005
    assert vae.score(X) == pytest.approx(exact, abs=0.01)
    assert vae.history_["train_elbo"][-1] == pytest.approx(exact, abs=0.15)


def test_it_finds_the_principal_axes(iris_linear):
    X, vae = iris_linear
    W = (vae.inverse_transform(np.eye(2)) - vae.inverse_transform(np.zeros((1, 2)))).T  # (D, 2)
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    W = W[:, np.argsort(-np.linalg.norm(W, axis=0))]
    for i in (0, 1):
        axis = vectors[:, -1 - i]
        cosine = abs(W[:, i] @ axis) / np.linalg.norm(W[:, i])
        assert cosine > 0.98
        norm = math.sqrt(values[-1 - i] - values[:2].mean())
        assert np.linalg.norm(W[:, i]) == pytest.approx(norm, rel=0.05)


@pytest.mark.parametrize(("beta", "active"), [(1.0, 2), (2.0, 1)])
def test_a_direction_with_less_variance_than_beta_times_the_noise_collapses(beta, active):
    """At fixed σ² = 1 a dimension is active if its eigenvalue is above β; then all is known."""
    g = np.random.default_rng(0)
    X = g.normal(size=(500, 3)) * np.array([3.0, 1.25, 0.5])
    eigenvalues = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1][:2]  # about 9 and 1.5
    vae = VAE(
        n_components=2,
        likelihood="mse",
        objective=ELBO(beta=beta),
        hidden_layer_sizes=(),
        max_epochs=200,
        batch_size=100,
        learning_rate=0.02,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    expected = np.sqrt(np.maximum(0, 1 - beta / eigenvalues))
    spread = np.sort(vae.transform(X).std(0))[::-1]
    assert np.allclose(spread, expected, atol=0.05)
    report = vae.evaluate(X, n_samples=50)
    assert report.active_units == active
    kl = np.maximum(0, 0.5 * np.log(eigenvalues / beta))
    assert np.allclose(np.sort(report.kl_per_dimension)[::-1], kl, atol=0.04)


@pytest.mark.parametrize("scale", ["global", "per_feature", "per_cell"])
def test_likelihood_is_in_data_units(scale):
    """Rescaling the data by c changes log p by −D log c, and nothing else."""
    X = load_iris().data
    options = {"n_components": 1, "hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}
    c = 1024.0  # a power of two, so that not even rounding differs
    small = VAE(likelihood=Gaussian(scale=scale), **options).fit(X)
    large = VAE(likelihood=Gaussian(scale=scale), **options).fit(c * X)
    assert np.allclose(small.transform(X), large.transform(c * X), atol=1e-5)
    difference = small.evaluate(X).elbo - large.evaluate(c * X).elbo
    assert difference == pytest.approx(4 * math.log(c), abs=0.1)
    history = small.history_["train_elbo"] - large.history_["train_elbo"]
    assert np.allclose(history, 4 * math.log(c), atol=1e-3)
