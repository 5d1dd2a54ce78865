"""Annealed importance sampling against closed forms and quadrature."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from skvae import VAE, annealing, distributions, importance, rng
from skvae.annealing import Annealing, annealed_weights, bidirectional
from skvae.evaluation import LikelihoodBounds
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.posteriors import Diagonal, Flow, FullCovariance
from skvae.priors import Flow as FlowPrior
from skvae.priors import GaussianMixture, Standard
from test_ground_truth import linear_vae, log_density, ppca  # noqa: F401  a fixture

D, d, SIGMA = 3, 2, 0.8


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


W = torch.tensor([[1.0, 0.6], [-0.5, 1.2], [0.8, 0.3]], dtype=torch.float64)
b = torch.tensor([0.3, -0.7, 0.1], dtype=torch.float64)
X = torch.tensor([[1.0, -1.0, 0.5], [-0.2, 0.4, 1.5], [0.0, 2.0, 0.0]], dtype=torch.float64)


@pytest.fixture
def model():
    """x ~ N(W z + b, σ² I), z ~ N(0, I), with an encoder that knows next to nothing."""
    spec = Assembly((D,), d, Gaussian(scale="global"), Diagonal(), Standard(), MLP(()))
    module = spec.build(0).double()
    with torch.no_grad():
        module.decoder[0].weight.copy_(W)
        module.decoder[0].bias.copy_(b)
        module.posterior.head.weight.mul_(0.3)
        limit = math.log(1e3)
        module.likelihood.raw_scale.fill_(limit * math.atanh(math.log(SIGMA) / limit))
    return module.eval()


def log_p(x):
    covariance = W @ W.T + SIGMA**2 * torch.eye(D)
    return torch.as_tensor(
        np.atleast_1d(stats.multivariate_normal(b.numpy(), covariance.numpy()).logpdf(x.numpy()))
    )


def between(module, x, t, start):
    """Mean (d,) and covariance of f_t ∝ start^(1 − t) · p(x, z)^t for one row x."""
    eye = torch.eye(d, dtype=torch.float64)
    precision = eye + W.T @ W / SIGMA**2
    shift = W.T @ (x - b) / SIGMA**2
    q = module.infer(Batch(x[None]))
    mean, first = q.mean[0], torch.diag(q.variance[0] ** -1)
    if start == "prior":
        mean, first = torch.zeros_like(mean), eye
    covariance = torch.linalg.inv((1 - t) * first + t * precision)
    return (covariance @ ((1 - t) * first @ mean + t * shift)).detach(), covariance.detach()


# -- transitions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["posterior", "prior"])
@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_the_path_has_the_right_densities_and_gradients(model, start, t):
    path = annealing._Path(model, Batch(X), start)
    z = distributions.draw(model.infer(Batch(X)), (4,), noise()).detach()
    log_f, log_w, gradient = path.at(z, t)
    for i in range(len(X)):
        mean, covariance = between(model, X[i], t, start)
        law = torch.distributions.MultivariateNormal(mean, covariance)
        # Equal up to a constant, so differences between points must be equal.
        expected = law.log_prob(z[:, i])
        assert torch.allclose(log_f[:, i].diff(dim=0), expected.diff(dim=0), atol=1e-9)
        slope = -torch.linalg.solve(covariance, (z[:, i] - mean).T).T
        assert torch.allclose(gradient[:, i], slope, atol=1e-9)
    log_px, log_pz = model.log_joint(Batch(X), z)
    log_start = log_pz if start == "prior" else model.infer(Batch(X)).log_prob(z)
    assert torch.allclose(log_w, log_px + log_pz - log_start, atol=1e-12)
    assert not gradient.requires_grad
    assert not log_f.requires_grad
    assert not log_w.requires_grad
    assert all(p.grad is None for p in model.parameters())


def test_energy_is_conserved_to_second_order(model):
    """Half the step over the same time makes a quarter of the error."""
    path = annealing._Path(model, Batch(X), "prior")
    z = path.draw(2000, noise())
    errors = []
    for step, n in ((0.2, 5), (0.1, 10), (0.05, 20)):
        move = annealing._transition(path, z, 1.0, torch.full((3,), step), n, noise(1))
        errors.append(-move.acceptance.log().mean().item())
    assert errors[0] < 0.05
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)


@pytest.mark.parametrize(("t", "start"), [(1.0, "posterior"), (0.4, "posterior"), (0.6, "prior")])
def test_transitions_leave_the_target_invariant(model, t, start):
    """From exact draws, with steps so large that a third of the proposals must be refused."""
    n = 20000
    path = annealing._Path(model, Batch(X), start)
    laws = [between(model, x, t, start) for x in X]
    eps = noise().normal((n, 3), torch.empty(d, dtype=torch.float64))
    z = torch.stack(
        [m + eps[:, i] @ torch.linalg.cholesky(c).T for i, (m, c) in enumerate(laws)], 1
    )
    step = torch.tensor([0.7, 0.75, 0.8])
    refused = []
    for i in range(4):
        move = annealing._transition(path, z, t, step, 3, noise(i + 1))
        same = (move.z == z).all(-1)
        refused.append(same.double().mean().item())
        assert refused[-1] == pytest.approx(1 - move.acceptance.mean().item(), abs=0.01)
        z = move.z
        assert torch.allclose(move.log_w, path.at(z, t)[1], atol=1e-10)
    assert 0.03 < np.mean(refused) < 0.6
    for i, (mean, covariance) in enumerate(laws):
        error = (covariance.diagonal() / n).sqrt()
        assert ((z[:, i].mean(0) - mean).abs() < 4.5 * error).all()
        ratio = torch.linalg.solve(covariance, torch.cov(z[:, i].T))
        assert torch.allclose(ratio, torch.eye(d, dtype=torch.float64), atol=0.05)


def test_transitions_find_the_target_from_afar(model):
    path = annealing._Path(model, Batch(X), "posterior")
    z = torch.full((3000, 3, d), 3.0, dtype=torch.float64)
    source = noise()
    for _ in range(20):
        z = annealing._transition(path, z, 1.0, torch.full((3,), 0.35), 4, source).z
    for i, x in enumerate(X):
        mean, covariance = between(model, x, 1.0, "posterior")
        assert torch.allclose(z[:, i].mean(0), mean, atol=0.05)
        assert torch.allclose(torch.cov(z[:, i].T), covariance, atol=0.05)


def test_each_row_has_its_own_steps_and_they_aim_at_two_thirds(model):
    """A row whose posterior is narrow needs small steps; the company must not matter."""
    with torch.no_grad():
        model.likelihood.raw_scale.fill_(math.log(0.05))
        model.decoder[0].weight.mul_(0.2)
    mask = torch.ones_like(X, dtype=torch.bool)
    mask[1] = False  # nothing is seen: the target is the prior
    settings = Annealing(60, 64, start="prior")
    path = annealing._Path(model, Batch(X, mask), "prior")
    steps = annealing._step_sizes(path, settings, settings.temperatures(), noise())
    assert steps.shape == (61, 3)
    assert (steps[-1, [0, 2]] < 0.4 * steps[-1, 1]).all()
    assert (steps[0] / steps[0, 1]).sub(1).abs().max() < 0.5
    weights = annealed_weights(model, Batch(X, mask), settings, noise())
    assert ((weights.acceptance > 0.5) & (weights.acceptance < 0.8)).all()


def test_divergent_proposals_are_refused(model):
    path = annealing._Path(model, Batch(X), "prior")
    z = path.draw(5, noise())
    move = annealing._transition(path, z, 1.0, torch.full((3,), 1e30), 2, noise())
    assert torch.equal(move.z, z)
    assert (move.acceptance == 0).all()


# -- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["sigmoid", "linear"])
@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_the_mean_weight_is_unbiased(model, start, schedule):
    settings = Annealing(12, 3000, start=start, schedule=schedule, n_leapfrog=2)
    weights = annealed_weights(model, Batch(X), settings, rng.PerRow(X, 0))
    ratio = torch.exp(weights.log_w - log_p(X))  # (K, B), expectation 1
    error = ratio.std(0) / math.sqrt(3000)
    assert (error < 0.05).all()
    assert ((ratio.mean(0) - 1).abs() < 4 * error).all()
    assert torch.allclose(weights.log_likelihood, log_p(X) + ratio.mean(0).log())
    assert (weights.log_w.mean(0) < log_p(X) - 0.01).all()  # Jensen


def test_one_temperature_is_importance_sampling(model):
    batch = Batch(X)
    weights = annealed_weights(model, batch, Annealing(1, 50), rng.PerRow(X, 0))
    reference = importance.log_marginal(model, batch, 50, rng.PerRow(X, 0))
    assert torch.allclose(weights.log_likelihood, reference.log_likelihood, atol=1e-12)
    assert torch.allclose(
        weights.log_w, model.evidence(batch, 50, rng.PerRow(X, 0)).log_w, atol=1e-12
    )
    assert weights.acceptance.isnan().all()


@pytest.mark.parametrize("n_temperatures", [1, 7])
def test_from_the_exact_posterior_every_weight_is_p(ppca, n_temperatures):  # noqa: F811
    W, b, X = ppca
    module, x = linear_vae(W, b), torch.tensor(X[:5])
    weights = annealed_weights(module, Batch(x), Annealing(n_temperatures, 3), noise())
    expected = torch.tensor(log_density(W, b, X[:5]))
    assert torch.allclose(weights.log_w, expected.expand(3, -1), atol=1e-9)


def test_rows_do_not_depend_on_their_company(model):
    settings = Annealing(6, 4)
    together = annealed_weights(model, Batch(X), settings, rng.PerRow(X, 3))
    alone = annealed_weights(model, Batch(X[1:2]), settings, rng.PerRow(X[1:2], 3))
    assert torch.allclose(together.log_w[:, 1:2], alone.log_w, atol=1e-9)
    assert torch.allclose(together.acceptance[1:2], alone.acceptance, atol=1e-9)


def test_hidden_cells_are_left_out(model):
    mask = torch.tensor([[True, False, True]]).expand(3, D)
    x = torch.where(mask, X, torch.nan)
    settings = Annealing(60, 64, start="prior", n_leapfrog=4)
    weights = annealed_weights(model, Batch(x, mask), settings, noise())
    covariance = (W @ W.T + SIGMA**2 * torch.eye(D))[[0, 2]][:, [0, 2]]
    law = stats.multivariate_normal(b[[0, 2]].numpy(), covariance.numpy())
    expected = torch.tensor(law.logpdf(X[:, [0, 2]].numpy()))
    assert torch.allclose(weights.log_likelihood, expected, atol=0.15)


@pytest.mark.parametrize(
    ("posterior", "prior", "start"),
    [
        (Diagonal(), Standard(), "posterior"),
        (Diagonal(), GaussianMixture(3), "prior"),
        (FullCovariance(), FlowPrior(n_transforms=1, hidden_layer_sizes=(8,)), "posterior"),
        (Flow("coupling", 1, (8,)), Standard(), "posterior"),
    ],
    ids=repr,
)
def test_any_model_against_quadrature(posterior, prior, start):
    spec = Assembly((4,), 2, Bernoulli(), posterior, prior, MLP((6,)))
    module = spec.build(0).double()
    with torch.no_grad():
        for parameter in module.decoder.parameters():
            parameter.mul_(1.7)
    x = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 1]], dtype=torch.float64)
    axis = torch.linspace(-7, 7, 141, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1).expand(-1, 2, -1)
    joint = torch.add(*module.log_joint(Batch(x), grid)).detach()
    exact = torch.logsumexp(joint, 0) + 2 * math.log(0.1)
    settings = Annealing(8, 1000, start=start, n_leapfrog=2)
    found = annealed_weights(module, Batch(x), settings, rng.PerRow(x, 0))
    assert torch.allclose(found.log_likelihood, exact, atol=0.06)
    single = annealed_weights(module.float(), Batch(x.float()), settings, rng.PerRow(x, 0))
    assert single.log_w.dtype == torch.float64
    assert torch.allclose(single.log_likelihood, exact, atol=0.06)


def test_temperatures():
    linear = Annealing(4, schedule="linear").temperatures()
    assert torch.allclose(linear, torch.tensor([0, 0.25, 0.5, 0.75, 1], dtype=torch.float64))
    t = Annealing(4).temperatures()
    s = [1 / (1 + math.exp(-v)) for v in (-4, -2, 0, 2, 4)]
    assert t.tolist() == pytest.approx([(v - s[0]) / (s[-1] - s[0]) for v in s])
    assert t[0] == 0
    assert t[-1] == 1
    assert Annealing() == Annealing(500, 16, "posterior", "sigmoid", 10)


# -- both directions ------------------------------------------------------------------------------


def simulated(module, n_rows, seed):
    """The rows that the check draws first."""
    source = noise(seed)
    z = distributions.draw(module.prior_distribution(), (n_rows,), source)
    return distributions.draw(module.generate(z), (), source).detach()


@pytest.mark.parametrize("start", ["posterior", "prior"])
def test_log_p_lies_between_the_bounds(model, start):
    n = 400
    settings = Annealing(25, 1, start=start, n_leapfrog=3)
    bounds = bidirectional(model, n, settings, noise(5))
    exact = log_p(simulated(model, n, 5))
    for error in (exact - bounds.lower, bounds.upper - exact):
        assert error.mean() > 3 * error.std() / math.sqrt(n)
        assert error.mean() < 4
    assert torch.allclose(bounds.gap, bounds.upper - bounds.lower)
    assert (bounds.gap.mean() > 0) & (bounds.gap.mean() < 6)
    # 1 / w of a reverse chain estimates 1 / p(x) without bias.
    ratio = torch.exp(exact - bounds.upper)
    assert (ratio.mean() - 1).abs() < 4 * ratio.std() / math.sqrt(n)
    assert ((bounds.acceptance > 0) & (bounds.acceptance < 1)).all()


def test_the_gap_closes_with_temperatures_and_with_samples(model):
    def gap(*settings):
        return bidirectional(model, 100, Annealing(*settings, n_leapfrog=3), noise()).gap.mean()

    few, more, many = gap(2, 4), gap(12, 4), gap(60, 4)
    assert few > 2 * more > 0
    assert more > 2 * many > 0
    assert many < 0.4
    assert gap(12, 32) < 0.6 * more


def test_the_reverse_of_one_temperature_is_the_weight_of_the_truth(model):
    bounds = bidirectional(model, 6, Annealing(1, 3), noise(2))
    source = noise(2)
    z = distributions.draw(model.prior_distribution(), (6,), source)
    x = distributions.draw(model.generate(z), (), source)
    log_px, log_pz = model.log_joint(Batch(x), z[None])
    expected = (log_px + log_pz - model.infer(Batch(x)).log_prob(z))[0].detach()
    assert torch.allclose(bounds.upper, expected, atol=1e-10)


def test_the_way_back_takes_the_same_steps(model, monkeypatch):
    seen = []
    anneal = annealing._anneal

    def spy(path, z, temperatures, steps, *rest):
        seen.append((temperatures, steps))
        return anneal(path, z, temperatures, steps, *rest)

    monkeypatch.setattr(annealing, "_anneal", spy)
    bidirectional(model, 3, Annealing(5, 2), noise())
    (temperatures, steps), (back, back_steps) = seen
    assert torch.equal(back, temperatures.flip(0))
    assert torch.equal(back_steps, steps.flip(0))
    assert not torch.equal(back_steps, steps)


# -- refusals, and the estimator ------------------------------------------------------------------


def like(space="real", *, has_density=True):
    posterior = SimpleNamespace(name="mine", has_density=has_density)
    return SimpleNamespace(spec=SimpleNamespace(posterior=posterior, latent=Latent(3, space)))


def test_models_that_cannot_be_annealed():
    for space in ("one_hot", "sphere"):
        with pytest.raises(ParameterError, match=f"posterior='mine' .*{space}.*importance"):
            Annealing().check(like(space))
    with pytest.raises(ParameterError, match=r"no density.*start='prior'"):
        Annealing().check(like(has_density=False))
    Annealing(start="prior").check(like(has_density=False))
    Annealing().check(like())
    for run in (
        lambda: annealed_weights(like("one_hot"), Batch(X), Annealing(), noise()),
        lambda: bidirectional(like("one_hot"), 3, Annealing(), noise()),
    ):
        with pytest.raises(ParameterError, match="one_hot"):
            run()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_temperatures": 0}, "Annealing: n_temperatures .* >= 1; received 0"),
        ({"n_samples": 0}, "n_samples"),
        ({"n_leapfrog": 0}, "n_leapfrog"),
        ({"start": "middle"}, "start must be one of 'posterior', 'prior'; received 'middle'"),
        ({"schedule": "cosine"}, "schedule must be one of"),
    ],
)
def test_bad_settings(fields, message):
    with pytest.raises(ParameterError, match=message):
        Annealing(**fields)


@pytest.fixture(scope="module")
def table():
    g = np.random.default_rng(0)
    return 30 * g.normal(size=(120, 2)) @ g.normal(size=(2, 4)) + g.normal(size=(120, 4)) * 10


@pytest.fixture(scope="module")
def vae(table):
    return VAE(2, hidden_layer_sizes=(8,), max_epochs=15, random_state=0).fit(table)


def test_annealed_scores_agree_with_many_importance_samples(vae, table):
    X = table[:12]
    many = vae.score_samples(X, n_samples=5000)
    annealed = vae.score_samples(X, n_samples=200, n_temperatures=6)  # blocks of ten rows
    assert annealed.dtype == np.float64
    assert np.allclose(annealed, many, atol=0.15)
    assert annealed.mean() == pytest.approx(many.mean(), abs=0.04)
    few = vae.score_samples(X[:4], n_samples=600, n_temperatures=2)  # blocks of three
    alone = vae.score_samples(X[3:4], n_samples=600, n_temperatures=2)
    assert alone == pytest.approx(few[3:], abs=1e-9)


def test_the_check_of_a_fitted_model(vae):
    options = {"n_rows": 50, "n_samples": 40, "random_state": 0}
    found = vae.bidirectional_check(n_temperatures=8, **options)
    assert isinstance(found, LikelihoodBounds)
    assert found == vae.bidirectional_check(n_temperatures=8, **options)
    assert found.gap == pytest.approx(found.upper - found.lower)
    assert -0.05 < found.gap < 0.3
    assert 0 < found.gap_standard_error < 0.1
    assert 0.4 < found.acceptance_rate < 0.9
    assert found.n_rows == 50
    assert -40 < found.lower < 0  # model units on both sides of the bounds are data units
    single = vae.bidirectional_check(n_temperatures=1, start="posterior", **options)
    assert single.acceptance_rate is None
    assert single.gap > found.gap
    # 51 rows of 40 chains fill one call; two calls are two blocks.
    assert vae.bidirectional_check(n_rows=60, n_samples=40, n_temperatures=1).n_rows == 60
    with pytest.raises(ParameterError, match="n_temperatures"):
        vae.bidirectional_check(n_temperatures=0)
    with pytest.raises(ParameterError, match="start"):
        vae.bidirectional_check(start="here")
