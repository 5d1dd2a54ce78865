"""Full covariance, flows, mixtures and VampPrior against what must hold exactly."""

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.func import jacrev, vmap

from skvae import VAE, distributions, importance, load, posteriors, priors, rng
from skvae.distributions import DiagonalMixture, draw
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.flows import FlowDistribution, build_flow
from skvae.latent import Latent
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO

POSTERIORS = [
    posteriors.Diagonal(),
    posteriors.FullCovariance(),
    *(posteriors.Flow(kind=k, hidden_layer_sizes=(8,)) for k in ("coupling", "iaf", "spline")),
    *(posteriors.Flow(kind=k, hidden_layer_sizes=()) for k in ("planar", "radial", "sylvester")),
    posteriors.Flow(kind="householder", hidden_layer_sizes=(8,)),
    posteriors.Mixture(3),
    posteriors.VonMisesFisher(),
]
PRIORS = [
    priors.Standard(),
    priors.GaussianMixture(3),
    priors.GaussianMixture(1),
    priors.GaussianMixture(3, "full"),
    priors.Vamp(4),
    *(priors.Flow(kind=k, n_transforms=2, hidden_layer_sizes=(8,)) for k in ("coupling", "maf")),
    *(priors.Flow(kind=k, n_transforms=2) for k in ("planar", "radial", "sylvester")),
    priors.Sphere(),
]
KINDS = ["coupling", "iaf", "maf", "spline"]


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def model_of(posterior=POSTERIORS[0], prior=PRIORS[0], likelihood=Bernoulli(), d=3):  # noqa: B008
    spec = Assembly((5,), d, likelihood, posterior, prior, MLP((6,)))
    return spec.build(0).double()


def rows(n=4):
    return (torch.rand(n, 5, generator=rng.generator(5)) < 0.5).double()


# -- every posterior with every prior -------------------------------------------------------------


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
@pytest.mark.parametrize("posterior", POSTERIORS, ids=repr)
def test_every_combination_is_a_bound_and_trains(posterior, prior):
    if prior.name == "vamp" and posterior.name != "diagonal":
        with pytest.raises(ParameterError, match=r"'vamp' does not go with .*must be diagonal"):
            model_of(posterior, prior)
        return
    if prior.space != posterior.space:
        with pytest.raises(ParameterError, match="does not go with"):
            model_of(posterior, prior)
        return
    module = model_of(posterior, prior)
    module.calibrate(torch.full((5,), 0.5), torch.ones(5), rows().float())
    evidence = module.evidence(Batch(rows()), 7, noise())
    assert evidence.log_w.shape == (7, 4)
    z = evidence.draws[0]
    assert z.shape == (7, 4, 3)
    q = module.infer(Batch(rows()))
    assert torch.allclose(evidence.log_qz, q.log_prob(z), atol=1e-6)
    assert torch.allclose(evidence.log_pz, module.prior_distribution().log_prob(z))
    ELBO()(module, Batch(rows()), step=0, noise=noise()).loss.backward()
    for name, parameter in module.named_parameters():
        if "posterior" in name or "prior" in name:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
    fixed = module.evidence(Batch(rows()), 7, noise(), path_only=True)
    assert torch.allclose(fixed.log_w, evidence.log_w, atol=1e-6)


@pytest.mark.parametrize("prior", [p for p in PRIORS[1:] if p.space == "real"], ids=repr)
def test_the_exact_likelihood_is_found_by_quadrature(prior):
    """log p(x) of a model with one latent dimension, by importance sampling and by a sum."""
    module = model_of(prior=prior, d=1)
    module.calibrate(torch.full((5,), 0.5), torch.ones(5), rows().float())
    grid = torch.linspace(-15, 15, 20001, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        log_px, log_pz = module.log_joint(Batch(rows()), grid.expand(-1, 4, 1))
        assert torch.exp(log_pz[:, 0]).sum() * 30 / 20000 == pytest.approx(1, abs=1e-3)
        exact = torch.logsumexp(log_px + log_pz, 0) + math.log(30 / 20000)
    batch = Batch(rows())
    marginal = importance.log_marginal(module, batch, 4000, rng.PerRow(batch.x, 0))
    assert torch.allclose(marginal.log_likelihood, exact, atol=0.03)


@pytest.mark.parametrize("name", ["full_covariance", "flow", "mixture", "von_mises_fisher"])
def test_posteriors_by_name_through_the_estimator(digits, tmp_path, name):
    X = digits[0][:100]
    vae = VAE(
        n_components=2, likelihood="bernoulli", posterior=name, max_epochs=2, random_state=0
    ).fit(X)
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.score_samples(X[:5]), vae.score_samples(X[:5]))
    assert np.isfinite(again.transform(X[:5])).all()


@pytest.mark.parametrize("name", ["gaussian_mixture", "vamp", "flow"])
def test_priors_by_name_through_the_estimator(digits, tmp_path, name):
    X = digits[0][:100]
    vae = VAE(n_components=2, likelihood="bernoulli", prior=name, max_epochs=2, random_state=0)
    vae.fit(X).save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.score_samples(X[:5]), vae.score_samples(X[:5]))
    assert again.sample(3, random_state=0).shape == (3, 64)
    holes = X[:4].copy()
    holes[:, ::2] = np.nan
    assert np.isfinite(again.impute(holes)).all()


# -- full covariance ------------------------------------------------------------------------------


def test_kl_of_a_full_covariance_to_a_product_with_other_scales():
    g = rng.generator(3)
    factor = torch.randn(4, 3, 3, generator=g, dtype=torch.float64).tril()
    factor.diagonal(dim1=-2, dim2=-1).abs_().add_(0.1)
    loc, centre = torch.randn(2, 4, 3, generator=g, dtype=torch.float64)
    scale = torch.rand(3, generator=g, dtype=torch.float64) + 0.5
    q = MultivariateNormal(loc, scale_tril=factor)
    p = Independent(Normal(centre, scale), 1)
    exact = kl_divergence(q, MultivariateNormal(centre, scale_tril=torch.diag(scale)))
    found = distributions.kl_per_dimension(q, p)
    assert torch.allclose(found, exact.unsqueeze(-1), rtol=1e-12)


def test_a_full_covariance_keeps_nothing_but_weights():
    module = posteriors.FullCovariance().build(3, 5)
    assert module.state_dict().keys() == {"head.weight", "head.bias"}


def test_full_covariance_is_exact_for_a_rotated_linear_model():
    """The posterior of a linear Gaussian model whose axes are not orthogonal is not diagonal."""
    g = np.random.default_rng(0)
    W, b, sigma = g.normal(size=(5, 2)), g.normal(size=5), 0.5
    spec = Assembly(
        (5,), 2, Gaussian(scale="global"), posteriors.FullCovariance(), priors.Standard(), MLP(())
    )
    module = spec.build(0).double()
    covariance = sigma**2 * np.linalg.inv(W.T @ W + sigma**2 * np.eye(2))
    to_mean = covariance @ W.T / sigma**2
    factor = np.linalg.cholesky(covariance)
    bound, limit = posteriors.gaussian.LOG_VAR_BOUND, math.log(1e3)
    raw = bound * np.arctanh(2 * np.log(np.diag(factor)) / bound)
    below = factor[1, 0] * math.sqrt(2) / factor[1, 1]
    with torch.no_grad():
        module.decoder[0].weight.copy_(torch.tensor(W))
        module.decoder[0].bias.copy_(torch.tensor(b))
        module.likelihood.raw_scale.fill_(limit * math.atanh(math.log(sigma) / limit))
        weight = np.vstack([to_mean, np.zeros((3, 5))])
        module.posterior.head.weight.copy_(torch.tensor(weight))
        module.posterior.head.bias.copy_(torch.tensor([*(-to_mean @ b), *raw, below]))
    X = g.normal(size=(6, 5))
    evidence = module.evidence(Batch(torch.tensor(X)), 4, noise())
    expected = stats.multivariate_normal(b, W @ W.T + sigma**2 * np.eye(5)).logpdf(X)
    assert np.allclose(evidence.log_w.detach(), expected, atol=1e-10)


def test_kl_of_full_covariance():
    g = rng.generator(0)
    factor = torch.randn(4, 3, 3, generator=g, dtype=torch.float64).tril()
    factor.diagonal(dim1=-2, dim2=-1).abs_().add_(0.1)
    q = MultivariateNormal(torch.randn(4, 3, generator=g).double(), scale_tril=factor)
    mean, scale = torch.tensor([0.1, 0.2, -1.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    p = Independent(Normal(mean, scale), 1)
    reference = kl_divergence(q, MultivariateNormal(mean, torch.diag(scale**2)))
    assert torch.allclose(distributions.kl_per_dimension(q, p)[:, 0], reference)


# -- flows ----------------------------------------------------------------------------------------


def flow_of(kind, d=3, context=0, n=3, size=0.3):
    spec = priors.Flow(kind=kind, n_transforms=n, hidden_layer_sizes=(8,))
    with rng.isolated(0):
        flow = build_flow(spec, d, context).double()
    with torch.no_grad():
        for parameter in flow.parameters():  # far from the identity
            parameter.add_(size * torch.randn(parameter.shape, generator=rng.generator(1)))
    return flow


def standard(d):
    return Independent(Normal(torch.zeros(d).double(), torch.ones(d).double()), 1)


@pytest.mark.parametrize("kind", KINDS)
def test_log_determinant_is_that_of_autograd(kind):
    p = flow_of(kind)(standard(3))
    u = torch.randn(6, 3, generator=rng.generator(0), dtype=torch.float64)
    z, ladj = p.transform.call_and_ladj(u)
    jacobian = vmap(jacrev(p.transform))(u)
    assert torch.allclose(ladj, torch.linalg.slogdet(jacobian)[1], atol=1e-8)
    assert torch.allclose(p.transform.inv(z), u, atol=1e-6)
    assert not torch.allclose(ladj, torch.zeros(6).double(), atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind):
    p = flow_of(kind, d=2, n=2, size=0.15)(standard(2))
    with torch.no_grad():
        side = torch.linspace(-12, 12, 601, dtype=torch.float64)
        grid = torch.cartesian_prod(side, side)
        mass = torch.exp(p.log_prob(grid)).sum() * (24 / 600) ** 2
    assert mass.item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_a_draw_is_the_density_of_that_point(kind):
    p = flow_of(kind)(standard(3).expand([2]))
    z = distributions.draw(p, (5,), noise())
    carried = p.log_prob(z)
    assert carried is p._last[1]
    computed = p.log_prob(z.clone())
    assert torch.allclose(carried, computed, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_coordinate_depends_on_others_and_on_the_context(kind):
    flow = flow_of(kind, context=2)
    context = torch.randn(1, 2, generator=rng.generator(1), dtype=torch.float64)
    u = torch.randn(30, 3, generator=rng.generator(2), dtype=torch.float64)
    p = flow(standard(3).expand([1]), context)
    jacobian = vmap(jacrev(lambda v: p.transform(v.unsqueeze(0))[0]))(u)  # (30, 3, 3)
    assert ((jacobian.abs().amax(0) > 1e-9).sum(1) >= 2).all()
    other = flow(standard(3).expand([1]), context + 1)
    assert not torch.allclose(p.transform(u), other.transform(u), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_flow_mean_is_the_mean_and_the_same_in_company(kind):
    flow = flow_of(kind, context=2, size=0.1)
    context = torch.randn(3, 2, generator=rng.generator(1), dtype=torch.float64)
    p = flow(standard(3).expand([3]), context)
    with torch.no_grad():
        average = distributions.draw(p, (20000,), noise()).mean(0)
        assert torch.allclose(p.mean, average, atol=0.15)
        alone = flow(standard(3).expand([1]), context[1:2])
        assert torch.allclose(alone.mean[0], p.mean[1], atol=1e-9)


@pytest.mark.parametrize("kind", ["iaf", "maf"])
def test_autoregressive_order(kind):
    """One transform: the Jacobian is triangular."""
    p = flow_of(kind, n=1)(standard(3))
    u = torch.randn(3, generator=rng.generator(2), dtype=torch.float64)
    jacobian = jacrev(p.transform)(u)
    assert torch.equal(jacobian.triu(1), torch.zeros(3, 3).double())
    assert (jacobian.tril(-1).abs() > 0).any()


def test_flow_parameters():
    with pytest.raises(ParameterError, match="Did you mean 'spline'"):
        priors.Flow(kind="splin")
    with pytest.raises(ParameterError, match="n_transforms must be an integer >= 1"):
        posteriors.Flow(n_transforms=0)
    for make in (priors.Flow, posteriors.Flow, priors.Autoregressive):
        with pytest.raises(ParameterError, match="hidden_layer_sizes must hold integers >= 1"):
            make(hidden_layer_sizes=(8, 0))
    for make in (priors.GaussianMixture, priors.Vamp):
        with pytest.raises(ParameterError, match="n_components"):
            make(0)
    assert isinstance(flow_of("iaf")(standard(3)).expand([7]), FlowDistribution)


def test_loading_zuko_leaves_torch_as_it_was():
    code = """
import warnings; warnings.simplefilter("error")
import torch
from torch.distributions import Distribution, Normal
before = (Distribution._validate_args, Distribution.__dict__["arg_constraints"])
from skvae._zuko import load_zuko
zuko = load_zuko()
assert (Distribution._validate_args, Distribution.__dict__["arg_constraints"]) == before
try:
    Normal(0.0, -1.0)
except ValueError:
    print("validated")
zuko.distributions.DiagNormal(torch.zeros(2), torch.ones(2))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.stdout == "validated\n", done.stderr
    assert done.returncode == 0


# -- mixtures -------------------------------------------------------------------------------------


@pytest.fixture
def mixture():
    g = rng.generator(0)
    logits = torch.randn(5, generator=g).double()
    means = 3 * torch.randn(5, 2, generator=g).double() + 4
    scales = torch.rand(5, 2, generator=g).double() + 0.05
    reference = MixtureSameFamily(
        Categorical(logits=logits), Independent(Normal(means, scales), 1)
    )
    return DiagonalMixture(logits, means, scales), reference


def test_mixture_density(mixture):
    ours, reference = mixture
    z = 5 * torch.randn(7, 6, 2, generator=rng.generator(1)).double()
    assert torch.allclose(ours.log_prob(z), reference.log_prob(z), atol=1e-9)
    assert torch.allclose(ours.mean, reference.mean)
    single = DiagonalMixture(ours.logits.float(), ours.means.float(), ours.scales.float())
    assert torch.allclose(single.log_prob(z.float()), reference.log_prob(z).float(), rtol=1e-3)


def test_mixture_draws(mixture):
    ours, reference = mixture
    z = distributions.draw(ours, (40000,), noise())
    assert torch.allclose(z.mean(0), reference.mean, atol=0.05)
    assert torch.allclose(z.var(0), reference.variance, rtol=0.05)
    rows_ = torch.arange(6.0)[:, None]
    batch = ours.expand([6])
    z = distributions.draw(batch, (3,), rng.PerRow(rows_, 0))
    assert z.shape == (3, 6, 2)
    assert torch.equal(
        distributions.draw(ours.expand([1]), (3,), rng.PerRow(rows_[4:5], 0))[:, 0], z[:, 4]
    )


def test_vamp_with_the_data_as_inputs_is_the_aggregate_posterior():
    """Then KL(q(z) || p(z)) = 0: the prior is the mean of the posteriors (Tomczak and Welling)."""
    module = model_of(prior=priors.Vamp(4, learned=False))
    module.calibrate(torch.full((5,), 0.5), torch.ones(5), rows().float())
    module.double()
    assert torch.equal(module.prior.inputs, rows())
    assert not module.prior.inputs.requires_grad
    q = module.infer(Batch(rows()))
    z = distributions.draw(q, (50,), noise())  # (50, 4, 3)
    aggregate = torch.logsumexp(q.log_prob(z.unsqueeze(2)), -1) - math.log(4)
    assert torch.allclose(module.prior_distribution().log_prob(z), aggregate, atol=1e-8)


def test_vamp_repeats_rows_where_there_are_few():
    module = model_of(prior=priors.Vamp(7))
    module.calibrate(torch.full((5,), 0.5), torch.ones(5), rows(3).float())
    assert torch.equal(module.prior.inputs[3].float(), rows(3)[0].float())


@pytest.fixture(scope="module")
def trained(digits):
    X = (digits[0] > 0.5).astype(float)
    options = {"n_components": 2, "max_epochs": 20, "hidden_layer_sizes": (32,)}
    return VAE(random_state=0, **options).fit(X[:1200]), X[:1200], X[1200:]


@pytest.mark.parametrize("prior", ["gaussian_mixture", "flow", priors.Vamp(50)], ids=str)
def test_fitting_the_prior_afterwards_raises_the_likelihood(trained, tmp_path, prior):
    vae, train, test = copy.deepcopy(trained)
    before, Z = vae.evaluate(test, n_samples=100), vae.transform(test)
    assert vae.fit_prior(train, prior, n_steps=300) is vae
    after = vae.evaluate(test, n_samples=100)
    assert after.log_likelihood > before.log_likelihood + 0.02
    assert after.elbo > before.elbo + 0.04
    assert after.reconstruction == pytest.approx(before.reconstruction, abs=1e-9)
    assert np.array_equal(vae.transform(test), Z)
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert again.evaluate(test, n_samples=100) == after
    assert again.prior == "auto"  # the parameter is what the user set; the model is what it is


def test_fit_prior_refuses_nonsense(fitted, digits):
    with pytest.raises(ParameterError, match="Did you mean 'vamp'"):
        fitted.fit_prior(digits[0], "vmap")
    with pytest.raises(ParameterError, match="n_steps"):
        fitted.fit_prior(digits[0], n_steps=0)


def test_a_mixture_of_full_gaussians_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    module = priors.GaussianMixture(3, "full").build(Latent(2), (4,)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            shape = parameter.shape
            parameter.copy_(torch.randn(shape, generator=generator, dtype=torch.float64))
    p = module(lambda x: None)
    precision = p.factors.mT @ p.factors
    exact = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=p.logits),
        torch.distributions.MultivariateNormal(p.means, precision_matrix=precision),
    )
    z = torch.randn(7, 5, 2, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(p.log_prob(z), exact.log_prob(z))
    torch.testing.assert_close(p.mean, exact.mean)
    drawn = draw(p, (200_000,), noise())
    torch.testing.assert_close(drawn.mean(0), exact.mean, atol=0.05, rtol=0)
    within = torch.softmax(p.logits, 0) @ precision.inverse().flatten(1)
    centred = p.means - exact.mean
    between = (torch.softmax(p.logits, 0)[:, None] * centred).T @ centred
    expected = within.view(2, 2) + between
    torch.testing.assert_close(torch.cov(drawn.T), expected.detach(), atol=0, rtol=0.05)


def test_one_full_gaussian_learns_the_covariance_of_codes():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 1, generator=generator) + 0.2 * torch.randn(2000, 3, generator=generator)
    best = torch.distributions.MultivariateNormal(z.mean(0), torch.cov(z.T, correction=0))
    wanted, found = best.log_prob(z).mean(), {}
    for covariance in ("diagonal", "full"):
        module = priors.GaussianMixture(1, covariance).build(Latent(3), (4,))
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        for _ in range(400):
            optimizer.zero_grad()
            loss = -module(lambda x: None).log_prob(z).mean()
            loss.backward()
            optimizer.step()
        found[covariance] = -loss.detach()
    torch.testing.assert_close(found["full"], wanted, atol=1e-2, rtol=0)
    assert found["diagonal"] < wanted - 0.5


def test_a_mixture_has_a_known_covariance():
    with pytest.raises(ParameterError, match="'diagonal' or 'full'; received 'tied'"):
        priors.GaussianMixture(3, "tied")
