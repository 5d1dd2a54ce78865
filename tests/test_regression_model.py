"""Targets beside the latent vector, against closed forms and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from skvae import distributions, posteriors, priors, rng
from skvae.conditional import Accuracy, Importance
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.importance import log_marginal
from skvae.likelihoods import Gaussian
from skvae.models import Assembly, M2Regression
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Supervised

WIDTH, N = 4, 6
NAN = math.nan


def built(posterior=None, prior=None, d=1, n_targets=1, network=None, seed=0, **model):
    spec = Assembly(
        (WIDTH,),
        d,
        Gaussian("unit"),
        posterior or posteriors.Diagonal(),
        prior or priors.Standard(),
        network or MLP((7,), activation="tanh"),
        M2Regression(n_targets, **{"hidden_size": 6, **model}),
    )
    module = spec.build(seed).double()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # q(y | x) is p(y) at the start
        for p in module.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return module.eval()


def rows(n=N, seed=5):
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed)).double()


def targets(*y):
    return torch.tensor(y, dtype=torch.float64)[:, None]


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


class Silent:
    """Noise that is none, so that every draw is the mean."""

    def normal(self, shape, like):
        return like.new_zeros((*shape, *like.shape))


class Grid:
    """The nodes of Gauss and Hermite as noise, for y and z in turn, in place of random draws."""

    def __init__(self, n=60):
        nodes, weights = np.polynomial.hermite_e.hermegauss(n)
        self.points = iter(np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).ravel())
        self.weight = torch.from_numpy(np.outer(weights, weights).ravel() / (2 * math.pi))
        self.n_samples = n * n

    def normal(self, shape, like):
        return like.new_full((*shape, *like.shape), next(self.points))


def by_quadrature(module, batch):
    """ELBO and log-likelihood, with expectations over q(z, y | x) in place of draws."""
    grid = Grid()
    with torch.no_grad():
        log_w = module.evidence(batch, grid.n_samples, grid).log_w
    weight = grid.weight[:, None]
    return (weight * log_w).sum(0), torch.logsumexp(log_w + weight.log(), 0)


def normal(x, mean=0.0, scale=1.0):
    return -0.5 * ((x - mean) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)


AXIS = np.linspace(-9, 9, 361)


def brute_force(module, x, y=None):
    """ELBO and log p(x), or log p(x, y), of one row: sums over a grid, densities written out."""
    step = AXIS[1] - AXIS[0]
    axis, width = (AXIS, step) if y is None else (np.array([y]), 1.0)
    Y, Z = np.meshgrid(axis, AXIS, indexing="ij")
    with torch.no_grad():
        code = torch.from_numpy(np.stack([Z, Y], -1))
        mean = module.decoder(code).squeeze(-1).numpy().reshape(*Z.shape, WIDTH)
        log_p = normal(x.numpy(), mean).sum(-1) + normal(Y) + normal(Z)
        inner = module.recognition
        head = inner.target.head(module.judge(x[None]))[0]
        context = torch.tanh(
            inner.from_features(module.encoder(x[None]))
            + inner.from_target(torch.from_numpy(axis)[:, None])
        )
        of_z = inner.posterior.head(context)
    log_q = np.zeros_like(Z)
    if y is None:
        log_q += normal(Y, head[0].item(), scale_of(head[1]).item())
    log_q += normal(Z, of_z[:, :1].numpy(), scale_of(of_z[:, 1:]).numpy())
    area = step * width
    elbo = area * (np.exp(log_q) * (log_p - log_q)).sum()
    return elbo, math.log(area * np.exp(log_p).sum())


def scale_of(raw):
    return torch.exp(0.5 * 14 * torch.tanh(raw / 14))


# -- the bounds ----


def test_bounds_are_those_of_brute_force():
    module, x = built(activation="tanh"), rows(4)
    y = targets(0.7, NAN, NAN, -1.2)
    elbo, log_p = by_quadrature(module, Batch(x, y=y))
    for i in range(4):
        known = None if y[i].isnan() else y[i].item()
        expected = brute_force(module, x[i], known)
        assert (elbo[i].item(), log_p[i].item()) == pytest.approx(expected, abs=1e-6)
        assert elbo[i] < log_p[i]


def test_the_bound_of_draws_has_that_mean():
    module, x = built(), rows(3)
    batch = Batch(x, y=targets(NAN, 0.3, NAN))
    expected = by_quadrature(module, batch)[0]
    with torch.no_grad():
        found = torch.stack([module.evidence(batch, 1, noise(i)).elbo for i in range(2000)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - expected).abs() < 4 * error).all()
    with torch.no_grad():
        one = module.evidence(batch, 500, noise())
    assert ((one.elbo - expected).abs() < 4 * one.log_w.std(0) / math.sqrt(500)).all()
    assert one.kl.shape == (3, 2)


def linear(d=1, n_targets=1):
    """A linear-Gaussian model x = W [z, y] + b + ε."""
    module = built(d=d, n_targets=n_targets, network=MLP(()), activation="relu", hidden_size=2)
    layer = next(m for m in module.decoder.modules() if isinstance(m, torch.nn.Linear))
    return module, layer.weight.detach().numpy(), layer.bias.detach().numpy()


def test_with_the_exact_posterior_every_draw_has_the_weight_p_of_x():
    module, W, b = linear()
    w_z, w_y = W.T
    precision = np.eye(2) + W.T @ W
    own = np.linalg.inv(precision)
    s = 1 / precision[0, 0]

    def raw(variance):
        return 14 * math.atanh(math.log(variance) / 14)

    inner = module.recognition
    with torch.no_grad():  # relu(h) − relu(−h) is h
        to_y = (own @ W.T)[1]
        inner.target.head.weight.copy_(torch.tensor(np.stack([to_y, 0 * to_y])))
        inner.target.head.bias.copy_(torch.tensor([-to_y @ b, raw(own[1, 1])]))
        inner.from_features.weight.copy_(torch.tensor(np.stack([s * w_z, -s * w_z])))
        inner.from_features.bias.copy_(torch.tensor([-s * w_z @ b, s * w_z @ b]))
        inner.from_target.weight.copy_(torch.tensor([[-s * w_z @ w_y], [s * w_z @ w_y]]))
        inner.posterior.head.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
        inner.posterior.head.bias.copy_(torch.tensor([0.0, raw(s)]))
    x, y = rows(), targets(NAN, 0.4, NAN, -2.0, NAN, 1.0)
    evidence = module.evidence(Batch(x, y=y), 5, noise())
    p_x = multivariate_normal(b, W @ W.T + np.eye(WIDTH))
    joint = np.block([[W @ W.T + np.eye(WIDTH), w_y[:, None]], [w_y[None], np.ones((1, 1))]])
    p_xy = multivariate_normal([*b, 0], joint)
    expected = [
        p_x.logpdf(one) if math.isnan(t) else p_xy.logpdf([*one, t])
        for one, t in zip(x.numpy(), y[:, 0].tolist(), strict=True)
    ]
    np.testing.assert_allclose(evidence.log_w.detach(), np.tile(expected, (5, 1)), atol=1e-9)


def test_of_several_targets_some_may_be_known():
    module, W, b = linear(n_targets=2)
    x = rows(4)
    y = torch.tensor([[0.5, NAN], [NAN, -1.0], [NAN, 0.2], [1.5, NAN]], dtype=torch.float64)
    log_p = by_quadrature(module, Batch(x, y=y))[1]
    cov = np.eye(WIDTH + 2)
    cov[:WIDTH, :WIDTH] += W @ W.T
    cov[:WIDTH, WIDTH:], cov[WIDTH:, :WIDTH] = W[:, 1:], W[:, 1:].T
    for i in range(4):
        j = int(y[i, 0].isnan())
        keep = [*range(WIDTH), WIDTH + j]
        law = multivariate_normal([*b, 0], cov[np.ix_(keep, keep)])
        assert log_p[i].item() == pytest.approx(law.logpdf([*x[i], y[i, j]]), abs=1e-6)
    # and of none or all
    none = multivariate_normal(b, W @ W.T + np.eye(WIDTH)).logpdf(x)
    both = Batch(x, y=y.nan_to_num(0.1))
    found = log_marginal(module, both, 5000, rng.PerRow(x, 0)).log_likelihood
    law = multivariate_normal([*b, 0, 0], cov)
    np.testing.assert_allclose(found, law.logpdf(np.hstack([x, both.y])), atol=0.05)
    with torch.no_grad():  # the random q is too narrow for both; this one is the prior
        for p in module.recognition.parameters():
            p.zero_()
    found = log_marginal(module, Batch(x), 5000, rng.PerRow(x, 0)).log_likelihood
    np.testing.assert_allclose(found, none, atol=0.1)


def test_rows_with_and_without_a_target_stand_beside_each_other():
    module, x, y = built(), rows(), targets(0.0, NAN, 2.0, NAN, NAN, 1.0)
    both = module.evidence(Batch(x, y=y), 1, Silent())
    none = module.evidence(Batch(x), 1, Silent())
    known = module.evidence(Batch(x, y=y.nan_to_num(0.5)), 1, Silent())
    for name in ("elbo", "log_likelihood", "kl_rows"):
        expected = torch.where(y[:, 0].isnan(), getattr(none, name), getattr(known, name))
        torch.testing.assert_close(getattr(both, name), expected)
    hidden = module.evidence(Batch(x, y=torch.full_like(y, NAN)), 1, Silent())
    torch.testing.assert_close(hidden.elbo, none.elbo)


def test_q_of_y_learns_from_the_bound_where_the_target_is_unknown_and_only_there():
    x = rows()
    for y, learns in ((targets(*range(N)), False), (targets(*[0.3] * (N - 1), NAN), True)):
        module = built()
        module.evidence(Batch(x, y=y), 1, noise()).elbo.sum().backward()
        parts = [*module.judge.parameters(), *module.recognition.target.parameters()]
        assert all((p.grad is not None and bool(p.grad.any())) == learns for p in parts)
        assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_before_the_first_update_q_of_y_is_its_prior():
    parts = (Gaussian("unit"), posteriors.Diagonal(), priors.Standard(), MLP((7,)))
    module = Assembly((WIDTH,), 2, *parts, M2Regression(3)).build(0)
    x = rows().float()
    assert module.target(Batch(x)).mean.eq(0).all()
    assert module.target(Batch(x)).stddev.eq(1).all()
    assert module.evidence(Batch(x), 1, noise()).kl[:, 2:].eq(0).all()
    y = torch.full((N, 3), 2.0)
    kl = module.evidence(Batch(x, y=y), 1, noise()).kl[:, 2:]
    torch.testing.assert_close(kl, torch.full((N, 3), 2 + 0.5 * math.log(2 * math.pi)))


# -- what must not matter ----


def test_hidden_cells_never_matter():
    module, x = built(), rows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    y = targets(0.0, NAN, 2.0, NAN, NAN, 1.0)
    one, two = (
        module.evidence(Batch(torch.where(mask, x, other), mask, y), 2, noise())
        for other in (0.0, NAN)
    )
    torch.testing.assert_close(one.elbo, two.elbo)
    two.elbo.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_neither_order_nor_company_matters():
    module, x = built(d=2, n_targets=2), rows()

    def likelihood(some):
        # many draws, so that the number of those in one call depends on the number of rows
        return log_marginal(module, Batch(some), 900, rng.PerRow(some, 0)).log_likelihood

    every = likelihood(x)
    torch.testing.assert_close(likelihood(x.flip(0)), every.flip(0))
    torch.testing.assert_close(likelihood(x[2:3]), every[2:3])


# -- the laws ----

PARTS = {
    "diagonal": {"d": 2},
    "full covariance": {"d": 2, "posterior": posteriors.FullCovariance()},
    "flow": {"d": 2, "posterior": posteriors.Flow(kind="planar", n_transforms=2)},
    "mixture": {"d": 2, "posterior": posteriors.Mixture(3)},
    "sphere": {"d": 3, "posterior": posteriors.VonMisesFisher(), "prior": priors.Sphere()},
    "mixture prior": {"d": 2, "prior": priors.GaussianMixture(n_components=4)},
    "two targets": {"d": 1, "n_targets": 2},
}


@pytest.fixture(params=PARTS)
def module(request):
    return built(**PARTS[request.param])


def test_weights_are_those_of_the_joint_laws(module):
    x = rows()
    y = torch.full((N, module.n_targets), NAN, dtype=torch.float64)
    evidence = module.evidence(Batch(x, y=y), 3, noise())
    (z,) = evidence.draws
    assert z.shape == (3, N, module.d + module.n_targets)
    log_px, log_p = module.log_joint(Batch(x), z)
    torch.testing.assert_close(evidence.log_w, log_px + log_p - module.infer(Batch(x)).log_prob(z))
    # points that all rows share
    point = z[:, :1]
    shared = module.infer(Batch(x)).log_prob(point)
    torch.testing.assert_close(shared[:, 0], module.infer(Batch(x)).log_prob(z)[:, 0])
    assert shared.shape == (3, N)


def test_draws_have_their_moments_and_their_entropy():
    module, x = built(d=2), rows(3)
    batch = Batch(x, y=targets(NAN, 0.7, NAN))
    with torch.no_grad():
        q = module.infer(batch)
        z = distributions.draw(q, (4000,), noise())
        law = module.target(batch)
        assert (z[:, 1, 2] == 0.7).all()
        torch.testing.assert_close(z[:, ::2, 2].mean(0), law.mean[::2, 0], atol=0.07, rtol=0)
        torch.testing.assert_close(z[:, ::2, 2].std(0), law.stddev[::2, 0], atol=0.07, rtol=0)
        torch.testing.assert_close(q.mean[::2, 2], law.mean[::2, 0])
        assert q.mean[1, 2] == 0.7
        entropy = q.given(z[..., 2:]).entropy().view(4000, 3).mean(0)
        entropy[::2] += law.entropy()[::2]
        torch.testing.assert_close(-q.log_prob(z).mean(0), entropy, atol=0.1, rtol=0)
        prior = distributions.draw(module.prior_distribution(), (4000,), noise())
    assert prior.mean(0).tolist() == pytest.approx([0, 0, 0], abs=0.06)
    assert prior.std(0).tolist() == pytest.approx([1, 1, 1], abs=0.06)


def test_the_path_and_the_score_are_the_gradient(module):
    x = rows()
    weights = dict(module.named_parameters())

    def gradient(value):
        found = torch.autograd.grad(value.sum(), [*weights.values()], allow_unused=True)
        return [
            torch.zeros_like(p) if g is None else g
            for g, p in zip(found, weights.values(), strict=True)
        ]

    whole = gradient(module.evidence(Batch(x), 2, noise()).log_qz)
    path = module.evidence(Batch(x), 2, noise(), path_only=True)
    score = gradient(module.infer(Batch(x)).log_prob(path.draws[0].detach()))
    for name, one, two, all_ in zip(weights, gradient(path.log_qz), score, whole, strict=True):
        torch.testing.assert_close(one + two, all_, msg=name)


def test_missing_cells_have_their_conditional_mean():
    module, W, b = linear()
    x = rows(3)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 0] = False
    sampler = Importance(Accuracy(4000, 100.0, 4000))
    with torch.no_grad():
        ((_, sample),) = sampler.samples(
            module, Batch(x, mask), lambda some, turn: rng.PerRow(x[some], turn)
        )
        found = sample.mean(module, Batch(x, mask))[:, 0]
    cov = W @ W.T + np.eye(WIDTH)
    slope = np.linalg.solve(cov[1:, 1:], cov[1:, 0])
    np.testing.assert_allclose(found, b[0] + (x.numpy()[:, 1:] - b[1:]) @ slope, atol=0.08)


# -- training ----


@pytest.mark.parametrize(
    "objective", [ELBO(), ELBO(free_bits=0.1), IWAE(3), IWAE(3, gradient="plain"), IWAE(3, 2)]
)
def test_objectives_reach_every_weight(objective, module):
    batch = Batch(rows(), y=torch.full((N, module.n_targets), NAN, dtype=torch.float64))
    batch.y[::2] = 0.5
    objective(module.train(), batch, step=0, noise=noise()).loss.backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name


def test_supervised_is_the_mean_over_what_is_known():
    module, x = built(n_targets=2), rows()
    y = torch.tensor(
        [[0.5, NAN], [NAN, NAN], [1.0, -2.0], [NAN, 0.0], [NAN, NAN], [3.0, 1.0]]
    ).double()
    evidence = module.evidence(Batch(x), 1, noise())

    def value(batch):
        return Supervised(0.7)(module, batch, evidence, step=0, noise=noise()).item()

    law = module.target(Batch(x))
    log_n = normal(y.numpy(), law.mean.detach().numpy(), law.stddev.detach().numpy())
    expected = -0.7 * np.nansum(log_n, 1)[[0, 2, 3, 5]].mean()
    assert value(Batch(x, y=y)) == pytest.approx(expected, rel=1e-12)
    assert value(Batch(x)) == value(Batch(x, y=torch.full_like(y, NAN))) == 0
    guide = Batch(x[2:4], y=y[2:4])
    assert value(Batch(x, y=y, guide=guide)) == pytest.approx(
        -0.7 * np.nansum(log_n, 1)[[2, 3]].mean(), rel=1e-12
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prior": priors.Vamp()}, "vamp"),
        ({"posterior": posteriors.Deterministic()}, "deterministic"),
        ({"posterior": posteriors.Categorical(3), "prior": priors.Categorical()}, "categorical"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    with pytest.raises(ParameterError, match=f"'m2_regression' does not go with .*{message}"):
        built(**change)


@pytest.mark.parametrize("wrong", [{"n_targets": 0}, {"hidden_size": 0}, {"activation": "sine"}])
def test_fields_are_checked(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        M2Regression(**wrong)
