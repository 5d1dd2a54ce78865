"""The von Mises–Fisher law against Bessel functions, quadrature, and closed forms on S²."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, special, stats

from skvae import VAE, distributions, load, posteriors, priors, rng, sphere
from skvae.distributions import unit
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE
from skvae.sphere import PolarAngle, UniformSphere, VonMisesFisher, log_area

DIMENSIONS = [2, 3, 4, 5, 10, 50, 200]
KAPPAS = torch.cat([torch.zeros(1), torch.logspace(-3, 5, 33)]).double()


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=rng.generator(seed), dtype=torch.float64)


def law(d, kappa, rows=None, seed=0):
    kappa = torch.as_tensor(kappa, dtype=torch.float64)
    kappa = kappa.expand(rows) if rows else kappa
    return VonMisesFisher(unit(normal(*kappa.shape, d, seed=seed)), kappa)


def bessel(d, kappa):
    """log C_d(κ) and A_d(κ), nan where scipy's Bessel functions run out of range."""
    order = d / 2 - 1
    with np.errstate(all="ignore"):
        low, high = special.ive(order, kappa), special.ive(order + 1, kappa)
        log_c = order * np.log(kappa) - d / 2 * math.log(2 * math.pi) - np.log(low) - kappa
        log_c[low < 1e-250] = np.nan
        ratio = high / low
        ratio[high < 1e-250] = np.nan
    return log_c, ratio


# -- numbers that do not depend on the direction --------------------------------------------------


@pytest.mark.parametrize(
    ("d", "area"), [(1, 2.0), (2, 2 * math.pi), (3, 4 * math.pi), (4, 2 * math.pi**2)]
)
def test_area(d, area):
    assert log_area(d) == pytest.approx(math.log(area), abs=1e-14)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_normaliser_and_mean_are_those_of_bessel_functions(d):
    q = law(d, KAPPAS)
    at_mean = q.log_prob(q.direction).numpy()  # κ + log C_d(κ)
    log_c, ratio = bessel(d, KAPPAS.numpy())
    known = np.isfinite(log_c)
    assert known.sum() > 10
    assert np.abs(at_mean - KAPPAS.numpy() - log_c)[known].max() < 1e-9
    length = q.mean.norm(dim=-1).numpy()
    known = np.isfinite(ratio)
    assert np.abs(length - ratio)[known].max() < 1e-12
    # κ → 0: uniform, with mean κ / d.
    assert at_mean[0] == pytest.approx(-log_area(d), abs=1e-11)
    assert length[0] == pytest.approx(0, abs=1e-12)
    assert length[1] == pytest.approx(KAPPAS[1].item() / d, rel=1e-6)
    assert torch.allclose(unit(q.mean[1:]), q.direction[1:], atol=1e-9)


def test_the_sphere_in_three_dimensions_in_closed_form():
    """C_3(κ) = κ / (4π sinh κ), A_3(κ) = coth κ − 1/κ."""
    kappa = np.array([0.01, 0.5, 3.0, 40.0])
    q = law(3, kappa)
    z = unit(normal(4, 3, seed=5))
    cosine = (z * q.direction).sum(-1).numpy()
    expected = kappa * cosine + np.log(kappa / (4 * np.pi * np.sinh(kappa)))
    assert np.allclose(q.log_prob(z), expected, atol=1e-11)
    assert np.allclose(q.mean.norm(dim=-1), 1 / np.tanh(kappa) - 1 / kappa, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 20])
def test_normaliser_and_mean_can_be_differentiated(d):
    """∂ log ∫ exp(κ (cos θ − 1)) = A − 1, and A' = 1 − A² − (d − 1) A / κ."""
    kappa = torch.logspace(-2, 4, 13).double().requires_grad_()
    angle = PolarAngle(kappa, d)
    (slope,) = torch.autograd.grad(angle.log_mass.sum(), kappa, create_graph=True)
    assert torch.allclose(slope, -angle.deficit, atol=1e-13, rtol=1e-10)
    (ours,) = torch.autograd.grad(-angle.deficit.sum(), kappa, retain_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), kappa)
    assert torch.allclose(second, ours, rtol=1e-9)
    small = kappa.detach() < 100  # the formula cancels elsewhere
    A = (1 - angle.deficit).detach()
    expected = 1 - A**2 - (d - 1) * A / kappa.detach()
    assert torch.allclose(ours[small], expected[small], atol=1e-10)


def test_density_integrates_to_one_on_the_circle_and_the_sphere():
    turn = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)[:-1]
    circle = torch.stack([turn.cos(), turn.sin()], -1)
    for kappa in (0.0, 0.7, 9.0, 200.0):
        mass = law(2, kappa).log_prob(circle).exp().mean() * 2 * math.pi
        assert mass.item() == pytest.approx(1, abs=1e-12)
    height, weight = np.polynomial.legendre.leggauss(200)
    z = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    radius = np.sqrt(1 - height**2)[:, None]
    points = [radius * np.cos(z), radius * np.sin(z), height[:, None] + 0 * z]
    grid = torch.tensor(np.stack(points, -1))
    for kappa in (0.0, 0.7, 9.0, 60.0):
        density = law(3, kappa).log_prob(grid).exp().numpy()
        assert (density.mean(1) * weight).sum() * 2 * np.pi == pytest.approx(1, abs=1e-10)


# -- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", DIMENSIONS)
def test_quantiles_against_adaptive_quadrature(d):
    for kappa in (0.0, 0.3, 25.0, 4000.0):
        angle = PolarAngle(torch.tensor(kappa).double(), d)
        u = torch.tensor([1e-6, 0.01, 0.3, 0.5, 0.8, 0.999]).double()
        theta = angle.quantile(u).numpy()
        mode = theta[2]
        peak = -2 * kappa * math.sin(mode / 2) ** 2 + (d - 2) * math.log(math.sin(mode))

        def density(t, kappa=kappa, peak=peak):
            power = np.sin(t) ** (d - 2) if d < 50 else np.exp((d - 2) * np.log(np.sin(t)))
            return power * np.exp(-2 * kappa * np.sin(t / 2) ** 2 - peak)

        cuts = [1e-300, *theta]
        parts = [
            integrate.quad(density, a, b, epsabs=0, epsrel=1e-11, limit=200)[0]
            for a, b in itertools.pairwise(cuts)
        ]
        end = min(theta[-1] + 2 * (theta[-1] - theta[0]), math.pi - 1e-15)
        rest = integrate.quad(density, theta[-1], end, limit=200)[0]
        share = np.cumsum(parts) / (sum(parts) + rest)
        assert share == pytest.approx(u.numpy(), rel=1e-7), kappa


@pytest.mark.parametrize("u", [1e-12, 1e-6, 0.1, 0.5, 0.75, 1 - 1e-6])
def test_quantiles_and_their_gradients_in_closed_form(u):
    """On S², 1 − cos θ = −log(1 − u (1 − exp(−2κ))) / κ."""
    kappa = torch.logspace(-1, 5, 25).double().requires_grad_()
    u = torch.full((25,), u, dtype=torch.float64)
    height = 2 * torch.sin(PolarAngle(kappa, 3).quantile(u) / 2) ** 2
    expected = -torch.log1p(u * torch.expm1(-2 * kappa)) / kappa
    assert torch.allclose(height, expected, rtol=1e-9, atol=0)
    ours, theirs = (torch.autograd.grad(x.sum(), kappa)[0] for x in (height, expected))
    assert torch.allclose(ours, theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("d", [2, 4, 30])
def test_gradients_of_quantiles_are_finite_differences(d):
    kappa = torch.tensor([0.05, 1.0, 30.0, 2000.0]).double()
    u = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)[:, None].expand(25, 4)
    grown = kappa.clone().requires_grad_()
    theta = PolarAngle(grown, d).quantile(u)
    ours = torch.stack([torch.autograd.grad(t.sum(), grown, retain_graph=True)[0] for t in theta])
    step = 1e-5 * kappa
    ends = [PolarAngle(kappa + s * step, d).quantile(u) for s in (1, -1)]
    expected = (ends[0] - ends[1]) / (2 * step)
    assert torch.allclose(ours, expected, rtol=1e-5, atol=1e-9)
    assert (ours < 0).all()  # a larger κ draws nearer to the mean direction


@pytest.mark.parametrize("d", DIMENSIONS)
def test_extreme_uniforms_and_concentrations_stay_finite(d):
    kappa = KAPPAS.clone().requires_grad_()
    ends = [0.0, 1e-16, 1e-13, 1 - 1e-13, 1 - 1e-16]
    u = torch.tensor(ends, dtype=torch.float64)[:, None].expand(5, len(KAPPAS))
    theta = PolarAngle(kappa, d).quantile(u)
    assert torch.isfinite(theta).all()
    assert (theta.diff(dim=0) >= 0).all()
    assert (theta[3] > theta[2]).all()
    (slope,) = torch.autograd.grad(theta.sum(), kappa)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize(("d", "kappa"), [(2, 0.5), (2, 30.0), (3, 2.0), (10, 8.0), (10, 900.0)])
def test_draws_have_the_density(d, kappa):
    q = law(d, kappa, rows=2)
    z = distributions.draw(q, (4000,), noise())
    assert torch.allclose(z.norm(dim=-1), torch.ones(4000, 2).double(), atol=1e-12)
    cosine = (z * q.direction).sum(-1)[:, 0].clamp(-1, 1)
    angle = PolarAngle(torch.tensor(kappa).double(), d)
    grid = torch.linspace(0.0005, 0.9995, 2000).double()
    cdf = np.interp(cosine.acos(), angle.quantile(grid), grid)
    assert stats.kstest(cdf, "uniform").pvalue > 1e-3
    spread = (z - z.mean(0)).norm(dim=-1).mean() / math.sqrt(4000)
    assert torch.allclose(z.mean(0), q.mean, atol=5 * spread.item())
    # What is orthogonal to the mean direction points everywhere alike.
    tangent = unit(z - (z * q.direction).sum(-1, keepdim=True) * q.direction)[:, 0]
    moment = tangent.T @ tangent / len(tangent)
    flat = torch.eye(d).double() - torch.outer(q.direction[0], q.direction[0])
    assert torch.allclose(moment, flat / (d - 1), atol=5 / math.sqrt(4000))
    assert tangent.mean(0).norm() < 5 / math.sqrt(4000)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_mean_direction_may_be_an_axis(sign):
    direction = torch.zeros(1, 3).double()
    direction[0, 0] = sign
    direction.requires_grad_()
    q = VonMisesFisher(direction, torch.tensor([50.0]).double())
    z = distributions.draw(q, (2000,), noise())
    assert z.mean(0)[0, 0].item() == pytest.approx(sign * (1 - 1 / 50), abs=0.003)
    (slope,) = torch.autograd.grad(z.sum(), direction)
    assert torch.isfinite(slope).all()


def test_draws_are_differentiable_in_the_parameters():
    """The gradient of E[f(z)], by drawing and by quadrature on the circle."""
    turn = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:-1]
    circle = torch.stack([turn.cos(), turn.sin()], -1)
    raw = torch.tensor([0.8, -0.3], dtype=torch.float64, requires_grad=True)
    log_kappa = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)

    def f(z):
        return z[..., 0] ** 3 + torch.sin(2 * z[..., 1])

    q = VonMisesFisher(unit(raw), log_kappa.exp())
    exact = (q.log_prob(circle).exp() * f(circle)).mean() * 2 * math.pi
    estimate = f(distributions.draw(q, (200000,), noise())).mean()
    assert estimate.item() == pytest.approx(exact.item(), abs=5e-3)
    expected = torch.autograd.grad(exact, (raw, log_kappa), retain_graph=True)
    found = torch.autograd.grad(estimate, (raw, log_kappa))
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=8e-3)
    assert abs(expected[1]) > 0.05
    assert expected[0].abs().max() > 0.05


def test_a_draw_does_not_depend_on_its_company():
    q, rows = law(4, [0.5, 3.0, 1e3, 1e5]), torch.arange(4.0)[:, None]
    z = distributions.draw(q, (6,), rng.PerRow(rows, 0))
    assert z.shape == (6, 4, 4)
    alone = VonMisesFisher(q.direction[2:3], q.concentration[2:3])
    one = distributions.draw(alone, (6,), rng.PerRow(rows[2:3], 0))
    assert torch.allclose(one[:, 0], z[:, 2], atol=1e-14)
    wide = VonMisesFisher(q.direction[2], q.concentration[2]).expand([4])
    assert wide.batch_shape == (4,)
    assert torch.allclose(wide.log_prob(z)[:, 2], q.log_prob(z)[:, 2])


def test_float32_keeps_the_density():
    q = law(20, [0.5, 30.0, 1e3, 1e5])
    single = VonMisesFisher(q.direction.float(), q.concentration.float())
    z = distributions.draw(single, (50,), noise())
    assert z.dtype == single.mean.dtype == torch.float32
    ours = single.log_prob(z)
    assert ours.dtype == torch.float32
    exact = VonMisesFisher(single.direction.double(), single.concentration.double())
    assert torch.allclose(ours.double(), exact.log_prob(z.double()), atol=2e-3)
    assert torch.allclose(single.mean.double(), exact.mean, atol=1e-6)


# -- the uniform law and the KL -------------------------------------------------------------------


def test_uniform():
    p = UniformSphere(torch.zeros(3).double())
    z = distributions.draw(p.expand([5]), (8000,), noise())
    assert z.shape == (8000, 5, 3)
    assert torch.allclose(z.norm(dim=-1), torch.ones(8000, 5).double())
    assert z.mean(0).abs().max() < 0.03
    moment = z[:, 0].T @ z[:, 0] / 8000
    assert torch.allclose(moment, torch.eye(3).double() / 3, atol=0.02)
    assert torch.allclose(p.log_prob(z), torch.tensor(-math.log(4 * math.pi)).double())
    assert p.log_prob(z).shape == (8000, 5)
    assert torch.equal(p.expand([5]).mean, torch.zeros(5, 3).double())
    rows = torch.arange(5.0)[:, None]
    wide = distributions.draw(p.expand([5]), (2,), rng.PerRow(rows, 0))
    alone = distributions.draw(p.expand([1]), (2,), rng.PerRow(rows[3:4], 0))
    assert torch.equal(wide[:, 3], alone[:, 0])


@pytest.mark.parametrize("d", [2, 3, 10, 50])
def test_kl_to_the_uniform_law(d):
    """κ A_d(κ) + log C_d(κ) + log area."""
    kappa = np.array([0.5, 4.0, 60.0, 300.0])
    q, p = law(d, kappa), UniformSphere(torch.zeros(d).double())
    kl = distributions.kl_per_dimension(q, p)
    assert kl.shape == (4, 1)
    log_c, ratio = bessel(d, kappa)
    expected = kappa * ratio + log_c + log_area(d)
    assert np.abs(kl[:, 0].numpy() - expected).max() < 1e-9
    z = distributions.draw(q, (20000,), noise())
    average = (q.log_prob(z) - p.log_prob(z)).mean(0)
    assert torch.allclose(average, kl[:, 0], atol=0.1)
    grown = torch.tensor(kappa).requires_grad_()
    value = distributions.kl_per_dimension(VonMisesFisher(q.direction, grown), p).sum()
    (slope,) = torch.autograd.grad(value, grown)
    assert torch.allclose(slope, torch.tensor(kappa * (1 - ratio**2) - (d - 1) * ratio), atol=1e-8)
    nothing = distributions.kl_per_dimension(law(d, [0.0]), p)
    assert nothing.item() == pytest.approx(0, abs=1e-12)


# -- posterior and prior --------------------------------------------------------------------------


def model_of(d=3):
    spec = Assembly((5,), d, Bernoulli(), posteriors.VonMisesFisher(), priors.Sphere(), MLP((6,)))
    return spec.build(0).double()


def rows(n=4):
    return (normal(n, 5, seed=5) < 0).double()


def test_the_posterior_starts_moderately_and_is_bounded():
    module = posteriors.VonMisesFisher().build(3, 2).double()
    q = module(normal(6, 2))
    assert torch.allclose(q.direction.norm(dim=-1), torch.ones(6).double())
    assert (q.concentration > 0.5).all()
    assert (q.concentration < 200).all()
    with torch.no_grad():
        module.head.weight.zero_()
        module.head.bias.zero_()
    q = module(normal(6, 2))
    assert torch.allclose(q.concentration, torch.tensor(3.0).double())
    assert torch.isfinite(q.direction).all()
    with torch.no_grad():
        module.head.weight[-1].fill_(1e9)
        module.head.bias[0] = 1.0
    q = module(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]).double())
    assert q.concentration.tolist() == pytest.approx([1e5, 1e-3], rel=1e-9)
    z = distributions.draw(q, (5,), noise())
    assert torch.isfinite(q.log_prob(z)).all()


def test_the_decoder_sees_the_sphere():
    module = model_of()
    batch = Batch(rows())
    evidence = module.evidence(batch, 6, noise())
    (z,) = evidence.draws
    assert torch.allclose(z.norm(dim=-1), torch.ones(6, 4).double())
    assert torch.allclose(module.posterior.embed(z, None), z, atol=1e-14)
    mean = module.infer(batch).mean
    assert (mean.norm(dim=-1) < 0.99).all()
    assert torch.allclose(
        module.generate(mean).mean, module.generate(mean / mean.norm(dim=-1)[:, None]).mean
    )
    assert torch.allclose(evidence.log_pz, torch.tensor(-math.log(4 * math.pi)).double())
    exact = distributions.kl_per_dimension(evidence.posterior, module.prior_distribution())
    assert torch.equal(evidence.kl, exact)
    fixed = module.evidence(batch, 6, noise(), path_only=True)
    assert torch.allclose(fixed.log_w, evidence.log_w)


def test_the_exact_likelihood_is_found_by_quadrature():
    module = model_of(d=2)
    with torch.no_grad():
        module.posterior.head.weight[-1] = 0.0  # so broad that it covers the circle
        module.posterior.head.bias[-1] = -1.0
    batch = Batch(rows())
    turn = torch.linspace(0, 2 * math.pi, 4001, dtype=torch.float64)[:-1]
    circle = torch.stack([turn.cos(), turn.sin()], -1)[:, None].expand(-1, 4, -1)
    with torch.no_grad():
        log_px, _ = module.log_joint(batch, circle)
        exact = distributions.log_mean_exp(log_px)
        evidence = module.evidence(batch, 20000, noise())
    assert torch.allclose(evidence.log_likelihood, exact, atol=0.01)
    assert (evidence.elbo < exact).all()


@pytest.mark.parametrize("objective", [ELBO(), IWAE(4, gradient="dreg")])
def test_gradients_reach_every_weight(objective):
    module = model_of()
    objective(module, Batch(rows()), step=0, noise=noise()).loss.backward()
    for name, parameter in module.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


def test_dreg_has_the_expectation_of_the_plain_gradient():
    """Score terms turn into path terms only if draws are exactly reparameterised."""
    module = model_of(d=2)
    batch = Batch(rows(1).expand(4000, -1))
    found = []
    for kind in ("plain", "dreg"):
        module.zero_grad()
        IWAE(3, gradient=kind)(module, batch, step=0, noise=noise()).loss.backward()
        found.append(module.posterior.head.weight.grad.clone())
    scale = found[0].abs().max()
    assert torch.allclose(found[0], found[1], atol=0.1 * scale)


def test_end_to_end(digits, tmp_path):
    X = (digits[0][:200] > 0.5).astype(float)
    options = {"likelihood": "bernoulli", "hidden_layer_sizes": (16,), "random_state": 0}
    vae = VAE(
        3,
        posterior="von_mises_fisher",
        max_epochs=12,
        learning_rate=0.02,
        batch_size=64,
        **options,
    ).fit(X)
    assert vae._core.spec.prior == priors.Sphere()
    history = vae.history_["train_elbo"]
    assert history[-1] > history[0] + 1.5
    Z = vae.transform(X)
    assert Z.shape == (200, 3)
    assert (np.linalg.norm(Z, axis=1) < 1).all()
    scores = vae.score_samples(X[:5])
    assert np.isfinite(scores).all()
    assert np.array_equal(vae.score_samples(X[3:4]), scores[3:4])
    report = vae.evaluate(X[:20], n_samples=50)
    assert report.log_likelihood > report.elbo
    assert vae.sample(4, random_state=0).shape == (4, 64)
    holes = X[:4].copy()
    holes[:, ::2] = np.nan
    filled = vae.impute(holes)
    assert np.isfinite(filled).all()
    assert np.array_equal(filled[:, 1::2], X[:4, 1::2])
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.score_samples(X[:5]), scores)
    assert np.array_equal(again.transform(X), Z)


def test_what_does_not_go_together(digits):
    X = digits[0][:50]
    options = {"likelihood": "bernoulli", "max_epochs": 1, "hidden_layer_sizes": (4,)}
    with pytest.raises(
        ParameterError,
        match=r"prior='standard' does not go with posterior='von_mises_fisher': the one is for "
        "real numbers, the other makes points on a sphere",
    ):
        VAE(3, posterior="von_mises_fisher", prior="standard", **options).fit(X)
    with pytest.raises(ParameterError, match="for points on a sphere, the other makes real"):
        VAE(3, prior="sphere", **options).fit(X)
    for prior in ("vamp", "flow", "gaussian_mixture"):
        with pytest.raises(ParameterError, match="does not go with"):
            VAE(3, posterior="von_mises_fisher", prior=prior, **options).fit(X)
    with pytest.raises(
        ParameterError, match=r"VonMisesFisher: n_components .* at least 2; received 1\."
    ):
        VAE(1, posterior="von_mises_fisher", **options).fit(X)
    vae = VAE(2, posterior="von_mises_fisher", **options).fit(X)
    assert sphere.log_area(2) == pytest.approx(math.log(2 * math.pi))
    assert vae.transform(X).shape == (50, 2)
