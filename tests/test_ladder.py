"""Ladders and two-level models: densities, KL, gradients and batch normalisation."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Independent, Normal, kl_divergence

from skvae import VAE, distributions, load, models, posteriors, priors, rng
from skvae.callbacks import EarlyStopping, Epoch
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import Assembly
from skvae.models.chain import gaussian
from skvae.models.ladder import product
from skvae.networks import MLP, BatchNorm, running_statistics
from skvae.objectives import ELBO, IWAE
from skvae.testing import check_network

LADDER = models.Ladder(upper=(3, 2), hidden_layer_sizes=(6, 5), batch_norm=False)
HIERARCHICAL = models.Hierarchical(upper=2, hidden_layer_sizes=(6,))
WIRINGS = [LADDER, HIERARCHICAL]
NAMES = ["ladder", "hierarchical"]
PRIORS = [
    priors.Standard(),
    priors.GaussianMixture(3),
    priors.Vamp(4),
    priors.Flow(n_transforms=2, hidden_layer_sizes=(8,)),
]
CENTRE = torch.full((5,), 0.5)


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def binary(n=4):
    return (torch.rand(n, 5, generator=rng.generator(5)) < 0.5).double()


def model_of(wiring, prior=PRIORS[0], d=4, size=1.5):
    spec = Assembly((5,), d, Bernoulli(), posteriors.Diagonal(), prior, MLP((7,)), wiring)
    module = spec.build(0)
    module.calibrate(CENTRE, torch.ones(5), binary().float())
    module.double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "prior" not in name:
                parameter.mul_(size)
    return module


# -- the product of two Gaussians -----------------------------------------------------------------


def test_the_merge_is_the_normalised_product_of_the_densities():
    g = rng.generator(0)
    locs = torch.randn(2, 6, generator=g, dtype=torch.float64)
    scales = torch.exp(torch.randn(2, 6, generator=g, dtype=torch.float64))
    a, b = (Normal(loc, scale) for loc, scale in zip(locs, scales, strict=True))
    z = torch.randn(9, 6, generator=g, dtype=torch.float64)
    overlap = Normal(b.loc, (a.variance + b.variance).sqrt()).log_prob(a.loc)
    expected = (a.log_prob(z) + b.log_prob(z) - overlap).sum(-1)
    assert torch.allclose(product(Independent(a, 1), Independent(b, 1)).log_prob(z), expected)


def test_the_merge_stands_extreme_precisions():
    sure, vague = math.exp(-7), math.exp(7)
    ones = torch.ones(1)
    q = product(gaussian(3 * ones, sure * ones), gaussian(-2 * ones, vague * ones))
    assert q.mean.item() == pytest.approx(3, abs=1e-5)
    assert q.stddev.item() == pytest.approx(sure, rel=1e-5)
    q = product(gaussian(3 * ones, vague * ones), gaussian(-2 * ones, vague * ones))
    assert q.mean.item() == pytest.approx(0.5)
    assert q.stddev.item() == pytest.approx(vague / math.sqrt(2), rel=1e-5)


# -- linear Gaussian chains, where everything is known --------------------------------------------


def _set(head, weight, bias, variance):
    """Make a head linear, with a constant variance."""
    bound = posteriors.gaussian.LOG_VAR_BOUND
    variance = np.asarray(variance)
    d = len(variance)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[:d] = torch.tensor(weight)
        head.bias[:d] = torch.tensor(bias)
        head.bias[d:] = torch.tensor(bound * np.arctanh(np.log(variance) / bound))


def _linear(wiring, W, b, sigma):
    spec = Assembly(
        (len(b),),
        2,
        Gaussian(scale="global"),
        posteriors.Diagonal(),
        priors.Standard(),
        MLP(()),
        wiring,
    )
    module = spec.build(0).double()
    limit = math.log(1e3)
    with torch.no_grad():
        module.decoder[0].weight.copy_(torch.tensor(W))
        module.decoder[0].bias.copy_(torch.tensor(b))
        module.likelihood.raw_scale.fill_(limit * math.atanh(math.log(sigma) / limit))
    return module


def exact_ladder():
    """Three levels whose posterior the ladder can be: x speaks of each coordinate alone."""
    g = np.random.default_rng(0)
    W = np.linalg.qr(g.normal(size=(6, 2)))[0] * [0.8, 1.7]
    b, sigma = g.normal(size=6), 0.6
    A, a = [np.array([0.7, -1.3]), np.array([1.2, 0.4])], g.normal(size=(2, 2))
    S = [np.array([0.3, 0.9]), np.array([1.4, 0.2])]
    module = _linear(
        models.Ladder(upper=(2, 2), hidden_layer_sizes=(), batch_norm=False), W, b, sigma
    )
    # What x says of z_1, z_2, z_3: Gaussians with mean to_z x + shift, from the bottom up.
    to_z = W.T / (W**2).sum(0)[:, None]
    shift, variance = -to_z @ b, sigma**2 / (W**2).sum(0)
    mean, covariance = np.zeros(2), np.eye(2)  # of z_3, from the top down below
    for i in range(2):
        _set(module.evident[i].head, to_z, shift, variance)
        _set(module.generative[i][-1].head, np.diag(A[i]), a[i], S[i])
        to_z, shift = to_z / A[i][:, None], (shift - a[i]) / A[i]
        variance = (variance + S[i]) / A[i] ** 2
    top = 1 / (1 + 1 / variance)
    _set(module.evident[2].head, (top / variance)[:, None] * to_z, top / variance * shift, top)
    for i in (1, 0):
        mean = A[i] * mean + a[i]
        covariance = np.diag(A[i]) @ covariance @ np.diag(A[i]) + np.diag(S[i])
    return module, stats.multivariate_normal(
        W @ mean + b, W @ covariance @ W.T + sigma**2 * np.eye(6)
    )


def exact_hierarchical():
    """Two levels, orthogonal columns: the posterior's conditionals are diagonal."""
    g = np.random.default_rng(1)
    W = np.linalg.qr(g.normal(size=(6, 4)))[0] * [0.8, 1.7, 1.1, 0.5]
    W1, W2, b, sigma = W[:, :2], W[:, 2:], g.normal(size=6), 0.6
    A, a, S = np.diag([0.7, -1.3]), g.normal(size=2), np.array([0.3, 0.9])
    wiring = models.Hierarchical(upper=2, hidden_layer_sizes=())
    module = _linear(wiring, W, b, sigma)
    _set(module.generative[0][-1].head, A, a, S)
    M, C = W1 @ A + W2, W1 @ np.diag(S) @ W1.T + sigma**2 * np.eye(6)  # of x given z_2
    covariance = np.linalg.inv(np.eye(2) + M.T @ np.linalg.inv(C) @ M)
    to_top = covariance @ M.T @ np.linalg.inv(C)
    _set(module.top.head, to_top, -to_top @ (b + W1 @ a), np.diag(covariance))
    lower = 1 / (1 / S + (W1**2).sum(0) / sigma**2)
    from_x = lower[:, None] * W1.T / sigma**2
    from_z = lower[:, None] * (A / S[:, None]) - from_x @ W2
    _set(module.lower[-1].head, np.hstack([from_x, from_z]), lower * a / S - from_x @ b, lower)
    return module, stats.multivariate_normal(b + W1 @ a, C + M @ M.T)


EXACT = {"ladder": exact_ladder, "hierarchical": exact_hierarchical}


@pytest.fixture(params=NAMES)
def exact(request):
    module, law = EXACT[request.param]()
    x = np.random.default_rng(2).normal(size=(5, 6))
    return module, Batch(torch.tensor(x)), torch.tensor(law.logpdf(x))


def test_with_the_exact_posterior_every_draw_has_the_weight_of_the_marginal(exact):
    module, batch, log_px = exact
    evidence = module.evidence(batch, 9, noise())
    assert evidence.draws[0].std(0).min() > 0.05
    assert torch.allclose(evidence.log_w, log_px.expand(9, 5), atol=1e-10)
    fixed = module.evidence(batch, 9, noise(), path_only=True)
    assert torch.allclose(fixed.log_w, log_px.expand(9, 5), atol=1e-10)
    anywhere = 3 * torch.randn(4, 5, evidence.draws[0].shape[-1], generator=rng.generator(0))
    anywhere = anywhere.double()
    log_q = module.infer(batch).log_prob(anywhere)
    assert torch.allclose(
        torch.add(*module.log_joint(batch, anywhere)) - log_q, log_px.expand(4, 5), atol=1e-9
    )


def test_with_the_exact_posterior_nothing_is_left_of_the_path_gradient(exact):
    """Sticking the landing: ∂ log w / ∂z = 0, so only p's own gradient remains in p."""
    module, batch, _ = exact
    evidence = module.evidence(batch, 9, noise(), path_only=True)
    evidence.log_w.sum().backward()
    for name, parameter in module.named_parameters():
        if name.startswith(("evident", "top", "lower")):
            assert parameter.grad.abs().max() < 1e-8, name
    found = [p.grad.clone() for p in module.generative.parameters()]
    module.zero_grad()
    module.prior_distribution().log_prob(evidence.draws[0].detach()).sum().backward()
    for mine, expected in zip(found, module.generative.parameters(), strict=True):
        assert torch.allclose(mine, expected.grad, atol=1e-8)
        assert expected.grad.abs().max() > 0.1


def test_the_bound_rises_with_the_samples_to_the_marginal(exact):
    module, batch, log_px = exact
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.startswith(("evident", "top", "lower")) and name.endswith("bias"):
                parameter += 0.3
        log_w = module.evidence(batch, 20000, noise()).log_w  # (K, B)
    bounds = [distributions.log_mean_exp(log_w.view(k, -1, 5)).mean(0) for k in (1, 10, 20000)]
    assert (bounds[1] > bounds[0] + 0.1).all()
    assert (bounds[2] > bounds[1] + 0.005).all()
    assert (log_px > bounds[1] + 0.005).all()
    assert torch.allclose(bounds[2], log_px, atol=0.06)


# -- densities ------------------------------------------------------------------------------------


def by_hand(module, batch, z):
    """Level by level: log p(z), log q(z | x) and the KL of the conditionals, as written down."""
    f = module.encoder(batch.x)
    if isinstance(module, models.ladder.LadderModule):
        z1, z2, z3 = z[..., :4], z[..., 4:7], z[..., 7:]
        f2 = module.upward[1](f)
        m1, m2, m3 = (
            module.evident[0](f),
            module.evident[1](f2),
            module.evident[2](module.upward[2](f2)),
        )
        p1, p2, p3 = module.generative[0](z2), module.generative[1](z3), Normal(0 * z3, 1)
        q = []
        for m, p in ((m1, p1), (m2, p2)):
            precision = 1 / m.variance + 1 / p.variance
            loc = (m.mean / m.variance + p.mean / p.variance) / precision
            q.append(Normal(loc, precision**-0.5))
        q = [*q, Normal(m3.mean, m3.stddev)]
        p = [Normal(p1.mean, p1.stddev), Normal(p2.mean, p2.stddev), p3]
        levels = [z1, z2, z3]
    else:
        z1, z2 = z[..., :4], z[..., 4:]
        q2 = module.top(f)
        joint = torch.cat([f.expand(*z2.shape[:-1], -1), z2], -1)
        q1, p1 = module.lower(joint), module.generative[0](z2)
        q = [Normal(q1.mean, q1.stddev), Normal(q2.mean, q2.stddev)]
        p = [Normal(p1.mean, p1.stddev), Normal(0 * z2, 1)]
        levels = [z1, z2]
    log_p = sum(law.log_prob(z).sum(-1) for law, z in zip(p, levels, strict=True))
    log_q = sum(law.log_prob(z).sum(-1) for law, z in zip(q, levels, strict=True))
    kl = [kl_divergence(a, b) for a, b in zip(q, p, strict=True)]
    kl = torch.cat([k.mean(0) if k.ndim == 3 else k for k in kl], -1)
    return (
        log_p,
        log_q,
        kl,
        torch.cat([law.mean + 0 * z for law, z in zip(q, levels, strict=True)], -1),
    )


@pytest.mark.parametrize("path_only", [False, True])
@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_the_evidence_is_that_of_the_chain_step_by_step(wiring, path_only):
    module, batch = model_of(wiring), Batch(binary())
    evidence = module.evidence(batch, 7, noise(), path_only=path_only)
    z = evidence.draws[0]
    width = 9 if wiring is LADDER else 6
    assert z.shape == (7, 4, width)
    assert module.spec.latent.width == width
    log_p, log_q, kl, _ = by_hand(module, batch, z)
    assert torch.allclose(evidence.log_pz, log_p)
    assert torch.allclose(evidence.log_qz, log_q)
    assert torch.allclose(module.prior_distribution().log_prob(z), log_p)
    assert torch.allclose(module.infer(batch).log_prob(z), log_q)
    assert evidence.kl.shape == (4, width)
    assert torch.allclose(evidence.kl, kl)
    logits = module.decoder(z[..., :4] if wiring is LADDER else z)
    log_px = -torch.nn.functional.softplus((1 - 2 * batch.x) * logits).sum(-1)
    assert torch.allclose(evidence.log_px, log_px, atol=1e-6)
    assert evidence.posterior.batch_shape == (4,)


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_draws_have_the_moments_of_their_conditionals(wiring):
    """Whitened by the laws that are written down above, draws are N(0, I)."""
    module, batch = model_of(wiring), Batch(binary())
    with torch.no_grad():
        z = distributions.draw(module.infer(batch), (20000,), noise())
        *_, means = by_hand(module, batch, z)
        residual = z - means
        laws = module.infer(batch).laws(module.infer(batch).split(z))
        scale = torch.cat([(law.stddev + 0 * law.mean).expand(20000, 4, -1) for law in laws], -1)
    eps = (residual / scale).flatten(0, 1)
    assert torch.allclose(eps.mean(0), torch.zeros(eps.shape[-1]).double(), atol=0.02)
    assert torch.allclose(torch.cov(eps.T), torch.eye(eps.shape[-1]).double(), atol=0.03)


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_the_densities_of_a_chain_integrate_to_one(wiring):
    upper = (1,) if wiring is LADDER else 1
    layers = wiring.hidden_layer_sizes[:1]
    module = model_of(wiring.replace(upper=upper, hidden_layer_sizes=layers), d=1)
    side = torch.linspace(-25, 25, 1001, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        for law in (module.prior_distribution(), module.infer(Batch(binary(1)))):
            log_prob = law.expand([1]).log_prob(grid[:, None])
            assert torch.exp(log_prob).sum().item() * 0.05**2 == pytest.approx(1, abs=1e-4)
            mean = (torch.exp(log_prob) * grid).sum(0) * 0.05**2
            draws = distributions.draw(law.expand([1]), (40000,), noise())[:, 0]
            assert torch.allclose(draws.mean(0), mean, atol=0.05)


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_the_mean_is_the_path_of_means(wiring):
    module, batch = model_of(wiring), Batch(binary())
    q, p = module.infer(batch), module.prior_distribution()
    assert torch.allclose(by_hand(module, batch, q.mean.unsqueeze(0))[3][0], q.mean)
    top = module.sizes[-1]
    assert torch.equal(p.mean[-top:], torch.zeros(top).double())
    below = module.generative[-1](torch.zeros(top).double()).mean
    assert torch.allclose(p.mean[-top - len(below) : -top], below)
    assert p.expand([3]).mean.shape == (3, sum(module.sizes))
    assert torch.equal(module.prior_part(q.mean), q.mean[:, -top:])


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_the_kl_of_the_conditionals_has_the_expectation_of_the_log_ratio(wiring, prior):
    module = model_of(wiring, prior)
    batch = Batch(binary(1).expand(20000, 5))
    with torch.no_grad():
        evidence = module.evidence(batch, 1, noise())
    kl, ratio = evidence.kl.sum(-1), (evidence.log_qz - evidence.log_pz)[0]
    assert torch.allclose(kl, evidence.kl_rows)
    difference = kl - ratio
    error = difference.std() / math.sqrt(len(kl))
    assert difference.mean().abs() < 4 * error
    assert error < 0.05 * kl.mean()
    lower, top = sum(module.sizes[:-1]), module.sizes[-1]
    closed = prior.name == "standard"
    assert evidence.kl.shape[1] == lower + (top if closed else 1)
    if closed:
        assert kl.std() < 0.8 * ratio.std()  # what the closed form is for


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_importance_weights_of_the_prior_against_the_posterior_average_to_one(wiring):
    module = model_of(wiring, size=0.7)
    batch = Batch(binary(2))
    with torch.no_grad():
        evidence = module.evidence(batch, 40000, noise())
        weights = torch.exp(evidence.log_pz - evidence.log_qz)  # (K, B)
    error = weights.std(0) / math.sqrt(40000)
    assert (error < 0.05).all()
    assert ((weights.mean(0) - 1).abs() < 4 * error).all()


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_a_row_is_drawn_the_same_in_any_company(wiring):
    module, x = model_of(wiring), binary()
    together = distributions.draw(module.infer(Batch(x)), (3,), rng.PerRow(x, 0))
    alone = distributions.draw(module.infer(Batch(x[2:3])), (3,), rng.PerRow(x[2:3], 0))
    assert torch.allclose(alone[:, 0], together[:, 2])
    p = module.prior_distribution().expand([4])
    together = distributions.draw(p, (3,), rng.PerRow(x, 0))
    alone = distributions.draw(
        module.prior_distribution().expand([1]), (3,), rng.PerRow(x[2:3], 0)
    )
    assert torch.allclose(alone[:, 0], together[:, 2])
    assert distributions.draw(p, (0,), noise()).shape == (0, 4, sum(module.sizes))


def test_the_decoder_sees_the_sample_of_q_and_not_that_of_the_prior():
    """The best-known bug of published ladders: z_1 was overwritten by a draw from p(z_1 | z_2)."""
    module, batch = model_of(LADDER), Batch(binary())
    with torch.no_grad():
        module.evident[0].head.bias[4:] = -1e3  # x is sure of z_1
        before = module.evidence(batch, 5, noise())
        module.generative[0][-1].head.bias += 3.0  # the model expects something else
        after = module.evidence(batch, 5, noise())
    assert torch.allclose(before.log_px, after.log_px, atol=0.02)
    assert (after.log_pz - before.log_pz).abs().min() > 0.5
    module = model_of(LADDER)
    evidence = module.evidence(batch, 5, noise())
    log_px = module.generate(evidence.draws[0]).log_prob(batch.x).sum(-1)
    assert torch.equal(evidence.log_px, log_px)
    for part in (*module.evident, *module.generative):
        module.zero_grad()
        module.evidence(batch, 5, noise()).log_px.sum().backward()
        assert all((p.grad != 0).any() for p in part.parameters())


# -- gradients ------------------------------------------------------------------------------------


def gradients(module, objective, batch, seed):
    module.zero_grad()
    objective(module, batch, step=0, noise=noise(seed)).loss.backward()
    return torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("plain", "other"),
    [
        (IWAE(4, gradient="plain"), IWAE(4, gradient="dreg")),
        (ELBO(), IWAE(1, gradient="stl")),
    ],
    ids=["dreg", "stl"],
)
@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_gradients_agree_in_expectation_though_p_and_q_share_parameters(wiring, plain, other):
    module = model_of(wiring.replace(hidden_layer_sizes=()), size=2.0)
    batch = Batch(binary(1).expand(100, 5))  # independent draws for one x
    means, variances = [], []
    for objective in (plain, other):
        samples = torch.stack([gradients(module, objective, batch, seed) for seed in range(200)])
        means.append(samples.mean(0))
        variances.append(samples.var(0) / 200)
    z = (means[0] - means[1]) / (variances[0] + variances[1] + 1e-20).sqrt()
    noisy = variances[0] + variances[1] > 1e-16
    assert noisy.sum() > 50
    assert z[noisy].abs().max() < 4.5
    assert z[noisy].square().mean() < 1.6
    assert torch.allclose(means[0][~noisy], means[1][~noisy], atol=1e-8)


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_path_only_leaves_out_what_reaches_q_through_its_parameters(wiring):
    module, batch = model_of(wiring), Batch(binary())
    z = module.evidence(batch, 3, noise()).draws[0].detach()
    evidence = module.evidence(batch, 3, noise(), path_only=True)
    free, there = z.requires_grad_(), evidence.draws[0]
    q, p = module.infer(batch), module.prior_distribution()
    for found, law in ((evidence.log_qz, q), (evidence.log_pz, p)):
        (slope,) = torch.autograd.grad(found.sum(), there, retain_graph=True)
        (expected,) = torch.autograd.grad(law.log_prob(free).sum(), free)
        assert torch.allclose(slope, expected)
    # Without the way through z, nothing else is left.
    evidence.draws[0].register_hook(torch.zeros_like)
    evidence.log_qz.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is None or (parameter.grad == 0).all(), name


# -- batch normalisation --------------------------------------------------------------------------


def test_batch_norm_of_draws_is_that_of_all_rows_at_once():
    ours, reference = BatchNorm(3).double(), torch.nn.BatchNorm1d(3).double()
    g = rng.generator(0)
    with torch.no_grad():
        for a, b in ((ours.weight, reference.weight), (ours.bias, reference.bias)):
            a.copy_(torch.randn(3, generator=g))
            b.copy_(a)
    for _ in range(3):
        x = 2 * torch.randn(4, 5, 3, generator=g, dtype=torch.float64) + 1
        assert torch.allclose(ours(x), reference(x.flatten(0, 1)).view(4, 5, 3))
    assert torch.allclose(ours.mean, reference.running_mean)
    assert torch.allclose(ours.variance, reference.running_var)
    ours.eval(), reference.eval()
    assert torch.allclose(ours(x[0]), reference(x[0]))
    assert torch.allclose(ours(x[0, 0]), reference(x[0])[0])


def test_batch_norm_of_one_row_uses_the_running_statistics():
    norm = BatchNorm(3)
    x = torch.randn(6, 3, generator=rng.generator(0))
    norm(x)
    mean, variance = norm.mean.clone(), norm.variance.clone()
    expected = (x[:1] - mean) / (variance + 1e-5).sqrt()
    assert torch.allclose(norm(x[:1]), expected, atol=1e-6)
    assert torch.allclose(norm(x[:1].expand(7, 1, 3)), expected.expand(7, 1, 3), atol=1e-6)
    assert torch.allclose(norm(x[0]), expected[0], atol=1e-6)
    norm(torch.full((4, 3), math.inf))
    assert torch.equal(norm.mean, mean)
    assert torch.equal(norm.variance, variance)
    with running_statistics(norm):
        assert torch.allclose(norm(x[:2])[:1], expected, atol=1e-6)
    assert norm.training
    norm(x[:2])
    assert not torch.equal(norm.mean, mean)


def test_batch_norm_can_run_twice_before_the_gradient():
    norm = BatchNorm(3)
    x = torch.randn(6, 3, generator=rng.generator(0))
    with running_statistics(norm):
        first = norm(x)
    (first + norm(x)).sum().backward()
    assert torch.isfinite(norm.weight.grad).all()
    weights = {name: p.detach() for name, p in norm.named_parameters()}
    assert not torch.func.functional_call(norm, weights, (x,)).requires_grad


def test_a_normalised_network_has_no_bias_but_that_of_the_norm():
    network = MLP((7, 3), batch_norm=True)
    with rng.isolated(0):
        layers = [*network.build_encoder((5,)).layers, *network.build_decoder(2, (5,))]
        plain = MLP((7,)).build_encoder((5,)).layers
    names = [type(layer).__name__ for layer in layers]
    hidden = ["Linear", "BatchNorm", "SiLU"] * 2
    assert names == [*hidden, *hidden, "Linear", "Unflatten"]
    assert [layer.bias is None for layer in layers if isinstance(layer, torch.nn.Linear)] == [
        True
    ] * 4 + [False]
    assert [type(layer).__name__ for layer in plain] == ["Linear", "SiLU"]


def test_a_normalised_network_keeps_the_contract():
    check_network(MLP((6,), batch_norm=True))


def test_a_batch_is_counted_once_and_pseudo_inputs_never():
    wiring = models.Ladder(upper=(3, 2), hidden_layer_sizes=(6, 5))
    spec = Assembly(
        (5,), 4, Bernoulli(), posteriors.Diagonal(), PRIORS[2], MLP((7,), batch_norm=True), wiring
    )
    module, batch = spec.build(0).double().train(), Batch(binary())
    evidence = module.evidence(batch, 2, noise())
    first = module.encoder.layers[0](batch.x)  # (B, 7)
    norm = module.encoder.layers[1]
    assert torch.allclose(norm.mean, 0.1 * first.mean(0))
    top_down = module.generative[1][0](evidence.draws[0][..., 7:]).flatten(0, 1)
    norm = module.generative[1][1]
    assert torch.allclose(norm.mean, 0.1 * top_down.mean(0))
    assert torch.allclose(norm.variance, 0.9 + 0.1 * top_down.var(0))
    evidence.elbo.sum().backward()
    assert (module.prior.inputs.grad != 0).any()


def test_early_stopping_brings_back_the_running_statistics():
    norm, watcher = BatchNorm(3), EarlyStopping(None)
    norm(torch.randn(6, 3, generator=rng.generator(0)))
    best = norm.mean.clone()
    watcher.epoch_ended(norm, Epoch(1, {"valid_elbo": 0.0}))
    norm(torch.randn(6, 3, generator=rng.generator(1)))
    assert not torch.equal(norm.mean, best)
    watcher.fit_ended(norm)
    assert torch.equal(norm.mean, best)


# -- priors and what does not go together ---------------------------------------------------------


@pytest.mark.parametrize("wiring", WIRINGS, ids=NAMES)
def test_the_prior_is_that_of_the_top_level(wiring):
    module = model_of(wiring, priors.Vamp(4, learned=False))
    q, p = module.infer(Batch(binary())), module.prior_distribution()
    assert torch.allclose(p.top.means, q.mean[:, -2:])
    assert torch.allclose(p.top.scales, q.top.stddev)
    z = distributions.draw(p, (3,), noise())
    assert torch.allclose(
        p.log_prob(z) - p.top.log_prob(z[:, -2:]),
        model_of(wiring).prior_distribution().log_prob(z)
        - Normal(0, 1).log_prob(z[:, -2:]).sum(-1),
    )


@pytest.mark.parametrize("name", NAMES)
def test_other_posteriors_are_refused(name):
    with pytest.raises(ParameterError, match=f"model='{name}' does not go with .*'flow'"):
        VAE(model=name, posterior="flow", max_epochs=1).fit(np.eye(20))


def test_sizes_and_what_is_refused():
    assert models.Ladder().sizes(10) == (10, 5, 2)
    assert models.Ladder().sizes(1) == (1, 1, 1)
    assert models.Ladder(upper=[7]).upper == (7,)
    assert models.Hierarchical().sizes(3) == (3, 3)
    assert models.Hierarchical(upper=2).sizes(3) == (3, 2)
    with pytest.raises(ParameterError, match=r"at least one level; received \(\)"):
        models.Ladder(upper=())
    with pytest.raises(ParameterError, match=r"Ladder: upper must hold integers >= 1"):
        models.Ladder(upper=(3, 0))
    with pytest.raises(ParameterError, match=r"hold 2 widths.*received \(3,\)"):
        models.Ladder(hidden_layer_sizes=(3,))
    with pytest.raises(ParameterError, match="hold 1 widths"):
        models.Ladder(upper=(3,), hidden_layer_sizes=(3, 2))
    with pytest.raises(ParameterError, match="Hierarchical: upper must be an integer >= 1"):
        models.Hierarchical(upper=0)
    with pytest.raises(ParameterError, match="Hierarchical: hidden_layer_sizes must be a tuple"):
        models.Hierarchical(hidden_layer_sizes=3)
    for make in (models.Ladder, models.Hierarchical):
        with pytest.raises(ParameterError, match="Did you mean 'relu'"):
            make(activation="rellu")


def test_the_widths_halve_unless_they_are_given():
    def widths(wiring, d):
        spec = Assembly((5,), d, Bernoulli(), posteriors.Diagonal(), PRIORS[0], MLP((40,)), wiring)
        module = spec.build(0)
        up = [part[0].out_features for part in module.upward[1:]]
        assert [part[0].out_features for part in module.generative] == up
        return up

    assert widths(models.Ladder(), 8) == [20, 10]
    assert widths(models.Ladder(), 32) == [32, 16]
    assert widths(models.Ladder(hidden_layer_sizes=(6, 7)), 8) == [6, 7]


# -- the estimator --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def trained(request, digits):
    X = (digits[0] > 0.5).astype(np.float32)
    vae = VAE(
        4,
        model=request.param,
        network=MLP((64,), batch_norm=True),
        objective=ELBO(warmup=200),
        max_epochs=20,
        batch_size=64,
        random_state=0,
    )
    return vae.fit(X[:1200]), X[:1200], X[1200:]


def test_the_estimator_with_several_levels(trained, tmp_path):
    vae, _, test = trained
    width = {"ladder": 7, "hierarchical": 8}[vae.model]
    Z = vae.transform(test)
    assert Z.shape == (len(test), width)
    assert np.allclose(vae.transform(test[3:4]), Z[3:4], atol=1e-4)
    assert vae.get_feature_names_out().shape == (width,)
    assert np.abs(vae.inverse_transform(Z) - test).mean() < 0.2
    report = vae.evaluate(test, n_samples=50)
    assert len(report.kl_per_dimension) == width
    assert sum(report.kl_per_dimension) == pytest.approx(report.kl, rel=0.02)
    assert 2 <= report.active_units <= width
    assert report.elbo < report.log_likelihood < 0
    assert vae.score(test) > report.elbo
    assert vae.sample(3, random_state=0).shape == (3, 64)
    holes = test[:20].copy()
    holes[:, ::2] = np.nan
    filled = vae.impute(holes)
    assert np.array_equal(filled[:, 1::2], test[:20, 1::2])
    worse = np.abs(test.mean(0) - test[:20])[:, ::2].mean()
    assert np.abs(filled - test[:20])[:, ::2].mean() < 0.85 * worse
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.transform(test), Z)
    assert np.array_equal(again.score_samples(test[:9]), vae.score_samples(test[:9]))
    assert np.array_equal(again.sample(2, random_state=1), vae.sample(2, random_state=1))


@pytest.mark.parametrize("prior", ["gaussian_mixture", PRIORS[3], priors.Vamp(50)], ids=str)
def test_a_prior_is_fitted_to_the_top_level(trained, prior):
    vae, train, test = copy.deepcopy(trained)
    module = vae._core.module
    head = module.evident[-1].head if vae.model == "ladder" else module.top.head
    with torch.no_grad():  # N(0, I) is then a poor description of the top level
        head.bias[: module.sizes[-1]] += 2.0
    before, Z = vae.evaluate(test, n_samples=20).elbo, vae.transform(test)
    vae.fit_prior(train, prior, n_steps=200)
    after = vae.evaluate(test, n_samples=20)
    assert after.elbo > before + 1.0
    assert (after.kl_per_dimension is None) == (module.sizes[-1] > 1)
    assert np.array_equal(vae.transform(test), Z)


def test_levels_are_as_good_as_one(trained):
    vae, train, test = trained
    options = {"hidden_layer_sizes": (64,), "max_epochs": 20, "batch_size": 64}
    plain = VAE(4, random_state=0, **options).fit(train)
    ours, theirs = vae.evaluate(test, n_samples=50).elbo, plain.evaluate(test, n_samples=50).elbo
    assert ours > theirs + 0.1


@pytest.mark.parametrize("name", NAMES)
def test_training_goes_on_and_stands_a_last_batch_of_one_row(digits, name):
    X = digits[0][:65].astype(np.float32)
    options = {"n_components": 4, "model": name, "early_stopping": False, "random_state": 0}
    network = MLP((16,), batch_norm=True)
    vae = VAE(
        likelihood="bernoulli",
        network=network,
        objective=IWAE(3),
        batch_size=16,
        learning_rate=0.01,
        max_epochs=2,
        precision="bfloat16",
        warm_start=True,
        **options,
    ).fit(X)
    assert np.isfinite(vae.history_["train_elbo"]).all()
    first = vae.score(X)
    vae.set_params(max_epochs=20).fit(X)
    assert vae.score(X) > first + 0.5
    assert len(vae.history_) == 22
    vae.partial_fit(X[:1])
    assert np.isfinite(vae.score_samples(X)).all()
