"""Discrete latent variables against enumeration of all their values."""

import itertools
import math
import re

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Categorical, Independent, Normal, OneHotCategorical, kl_divergence

from skvae import conditional, distributions, importance, posteriors, priors, rng
from skvae.discrete import Autoregressive, OneHot, PointMass, RelaxedOneHot
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.gradients import leave_one_out, without_path
from skvae.latent import Latent
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE
from skvae.training import Plan

ENCODER = ("encoder", "posterior")


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng.generator(seed), dtype=torch.float64)


def every(n, k):
    """All values of n variables with k categories, (k^n, n · k)."""
    codes = torch.tensor(list(itertools.product(range(k), repeat=n)))
    return nn.functional.one_hot(codes, k).flatten(1).double()


def model_of(posterior=None, prior=None, n=2, seed=0):
    posterior = posterior or posteriors.Categorical(3)
    spec = Assembly((4,), n, Bernoulli(), posterior, prior or priors.Categorical(), MLP((5,)))
    model = spec.build(seed).double()
    with torch.no_grad():  # far from uniform
        for i, parameter in enumerate(model.parameters()):
            parameter.add_(0.7 * normal(*parameter.shape, seed=i))
    return model


X = torch.tensor([[1.0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]]).double()


def exact(model, batch, z):
    """log p(x, z) and log q(z | x) for all z, each (Z, B)."""
    log_joint = torch.add(*model.log_joint(batch, z.unsqueeze(1).expand(-1, len(batch.x), -1)))
    return log_joint, model.infer(batch).log_prob(z.unsqueeze(1))


def frequencies_match(z, values, p, least=1e-3):
    """A chi-square test of draws (N, d) against probabilities p of the values (V, d)."""
    counts = (z.unsqueeze(1) == values).all(-1).sum(0).double()
    assert counts.sum() == len(z)
    return stats.chisquare(counts, len(z) * p).pvalue > least


# -- laws -----------------------------------------------------------------------------------------


def test_the_one_hot_law_is_that_of_torch():
    logits, other = normal(5, 2, 3, seed=1), normal(2, 3, seed=2)
    q, p = OneHot(logits), OneHot(other)
    assert (q.batch_shape, q.event_shape) == ((5,), (6,))
    reference = Independent(OneHotCategorical(logits=logits), 1)
    z = every(2, 3).unsqueeze(1)
    assert torch.allclose(q.log_prob(z), reference.log_prob(z.unflatten(-1, (2, 3))))
    assert torch.allclose(q.log_prob(z).exp().sum(0), torch.ones(5).double())
    assert torch.allclose(q.mean, reference.mean.flatten(1))
    assert torch.allclose(q.entropy(), reference.entropy())
    expected = kl_divergence(Categorical(logits=logits), Categorical(logits=other))  # (5, 2)
    assert torch.allclose(distributions.kl_per_dimension(q, p), expected)
    wide = p.expand(torch.Size([4]))
    assert wide.batch_shape == (4,)
    assert torch.equal(wide.log_prob(every(2, 3)[:4]), p.log_prob(every(2, 3)[:4]))
    assert distributions.kl_per_dimension(q, Independent(Normal(torch.zeros(6), 1.0), 1)) is None


def test_categories_and_variables_are_not_mixed_up():
    """Two variables of three categories: each variable's probabilities add up to 1."""
    with rng.isolated(0):
        module = posteriors.Categorical(3).build(2, 7).double()
    for mode in (True, False):
        q = module.train(mode)(normal(5, 7))
        assert torch.allclose(q.mean.unflatten(-1, (2, 3)).sum(-1), torch.ones(5, 2).double())
        scores = module.head(normal(5, 7))
        second = torch.softmax(scores[:, 3:], -1)  # variables side by side, categories within
        assert torch.allclose(q.mean[:, 3:], second)
    soft = posteriors.Categorical(3, straight_through=False).build(2, 7).double()
    z = distributions.draw(soft(normal(5, 7)), (4,), noise())
    assert torch.allclose(z.unflatten(-1, (2, 3)).sum(-1), torch.ones(4, 5, 2).double())


@pytest.mark.parametrize("relaxed", [False, True])
def test_draws_follow_the_probabilities(relaxed):
    logits = normal(2, 3, seed=1)
    p = RelaxedOneHot(logits, 0.7, True) if relaxed else OneHot(logits)
    z = distributions.draw(p, (20000,), noise())
    values = every(2, 3)
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert frequencies_match(z, values, p.log_prob(values).exp())
    assert not frequencies_match(z, values, OneHot(logits.flip(0)).log_prob(values).exp())


def test_draws_of_a_row_do_not_depend_on_its_company():
    logits, rows = normal(6, 2, 3), torch.arange(6.0)[:, None]
    for make in (OneHot, lambda v: RelaxedOneHot(v, 0.5, False)):
        together = distributions.draw(make(logits), (50,), rng.PerRow(rows, 0))
        alone = distributions.draw(make(logits[4:5]), (50,), rng.PerRow(rows[4:5], 0))
        assert torch.equal(together[:, 4:5], alone)
        assert len(together.flatten(1).unique(dim=0)) > 1


class Fixed:
    """Noise that is known."""

    def __init__(self, value):
        self.value = value

    def uniform(self, shape, like):
        return torch.full((*shape, *like.shape), self.value, dtype=like.dtype)


@pytest.mark.parametrize(
    ("u", "expected"),
    [(0.0, 1), (0.2499, 1), (0.2501, 2), (0.7499, 2), (0.7501, 3), (1 - 2**-24, 3)],
)
def test_impossible_categories_are_never_drawn(u, expected):
    logits = torch.tensor([[-1e4, 0.25, 0.5, 0.25, -1e4]])
    logits[0, 1:4] = logits[0, 1:4].log() + 1e-4
    z = distributions.draw(OneHot(logits), (), Fixed(u))
    assert z.argmax().item() == expected
    assert z.sum() == 1
    assert OneHot(logits).log_prob(z) > -2


def test_rounding_of_the_cumulative_sum_selects_nothing_impossible():
    short = 0
    for k in range(2, 60):
        logits = torch.cat([torch.zeros(k), torch.tensor([-1e4])]).unsqueeze(0)
        p = OneHot(logits)
        short += p.mean.cumsum(-1)[-1] < 1 - 2**-24  # in float32, the sum may fall short of 1
        assert distributions.draw(p, (), Fixed(1 - 2**-24)).argmax() == k - 1
    assert short > 0


def test_relaxed_draws_are_the_softmax_with_gumbel_noise():
    logits = normal(4, 2, 3).requires_grad_()
    u = noise(3).uniform((5,), logits)
    log_p = torch.log_softmax(logits, -1)
    soft = torch.softmax((log_p - torch.log(-torch.log(u))) / 0.4, -1).flatten(-2)
    z = distributions.draw(RelaxedOneHot(logits, 0.4, False), (5,), noise(3))
    assert torch.allclose(z, soft)
    hard = distributions.draw(RelaxedOneHot(logits, 0.4, True), (5,), noise(3))
    assert torch.equal(
        hard.unflatten(-1, (2, 3)).argmax(-1), soft.unflatten(-1, (2, 3)).argmax(-1)
    )
    assert torch.equal(hard * (1 - hard), torch.zeros_like(hard))
    weight = normal(5, 4, 6, seed=9)
    slopes = [torch.autograd.grad((v * weight).sum(), logits)[0] for v in (z, hard)]
    assert torch.equal(*slopes)
    assert slopes[0].norm() > 0.1


def test_noise_of_exactly_zero_is_finite():
    z = distributions.draw(RelaxedOneHot(torch.zeros(2, 3), 0.5, False), (4,), Fixed(0.0))
    assert torch.allclose(z, torch.full((4, 6), 1 / 3))


def test_extreme_features_stay_finite():
    with rng.isolated(0):
        module = posteriors.Categorical(3).build(2, 4)
    features = torch.tensor([[1e6, -1e6, 1e5, 3.0]]).requires_grad_()
    q = module(features)
    z = distributions.draw(q, (7,), noise())
    p = OneHot(torch.tensor([[0.0, 1.0, 2.0]]).expand(2, 3))
    kl = distributions.kl_per_dimension(q, p)
    (q.log_prob(z).sum() + kl.sum() + q.entropy().sum() + z.sum()).backward()
    for value in (z, q.log_prob(z), kl, q.entropy(), features.grad):
        assert torch.isfinite(value).all()
    certain = distributions.kl_per_dimension(q, p)[0].sum()
    assert certain.item() == pytest.approx(-p.log_prob(q.mean).item(), abs=1e-4)


def test_a_point_mass():
    z = every(2, 3)
    q = PointMass(z[[4, 7]].unflatten(-1, (2, 3)))
    log_q = q.log_prob(z.unsqueeze(1))  # (9, 2)
    expected = torch.full((9, 2), -torch.inf).double()
    expected[4, 0] = expected[7, 1] = 0
    assert torch.equal(log_q, expected)
    assert torch.equal(q.mean, z[[4, 7]])
    assert torch.equal(q.entropy(), torch.zeros(2).double())
    assert torch.equal(distributions.draw(q, (3,), noise()), z[[4, 7]].expand(3, 2, 6))
    p = OneHot(normal(2, 3))
    kl = distributions.kl_per_dimension(q, p)
    rows = p.logits.log_softmax(-1)
    assert torch.allclose(kl, -torch.stack([rows[[0, 1], [1, 1]], rows[[0, 1], [2, 1]]]))
    whole = Independent(Normal(torch.zeros(6).double(), 1.0), 1)
    assert torch.allclose(
        distributions.kl_per_dimension(q, whole)[:, 0], -whole.log_prob(z[[4, 7]])
    )


# -- the autoregressive law -----------------------------------------------------------------------


def made(n=3, k=2, hidden=(8,), scale=1.5):
    with rng.isolated(0):
        module = priors.Autoregressive(hidden).build(Latent(n, "one_hot", k), (4,)).double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.add_(scale * normal(*parameter.shape, seed=i))
    return module


@pytest.mark.parametrize(
    ("n", "k", "hidden"), [(3, 2, (8,)), (4, 3, (7, 5)), (2, 3, ()), (1, 3, (4,)), (3, 2, (1,))]
)
def test_a_variable_depends_on_those_before_it_alone(n, k, hidden):
    module = made(n, k, hidden)
    z = every(n, k)[:7].clone()
    jacobian = torch.autograd.functional.jacobian(lambda v: module._logits(v).sum(0), z)
    slopes = jacobian.unflatten(-1, (n, k)).abs().amax((1, 2, 4))  # (n, n) of (n, k, 7, n, k)
    before = torch.ones(n, n).tril(-1).bool()
    assert torch.equal(slopes[~before], torch.zeros((~before).sum()).double())
    if len(hidden) == 0 or min(hidden) >= n - 1:  # then all that may be is
        assert (slopes[before] > 1e-4).all()


@pytest.mark.parametrize(("n", "k"), [(3, 2), (2, 3), (1, 4)])
def test_the_autoregressive_law_adds_up_and_is_drawn(n, k):
    p = made(n, k)(None)
    z = every(n, k)
    assert isinstance(p, Autoregressive)
    assert (p.batch_shape, p.event_shape) == ((), (n * k,))
    probability = p.log_prob(z).exp()
    assert probability.sum().item() == pytest.approx(1)
    assert probability.max() / probability.min() > 1.5
    drawn = distributions.draw(p, (20000,), noise())
    assert frequencies_match(drawn, z, probability.detach())
    wide = p.expand(torch.Size([5]))
    rows = torch.arange(5.0)[:, None]
    together = distributions.draw(wide, (400,), rng.PerRow(rows, 0))
    alone = distributions.draw(p.expand([1]), (400,), rng.PerRow(rows[3:4], 0))
    assert torch.equal(together[:, 3:4], alone)
    assert frequencies_match(together.flatten(0, 1), z, probability.detach())
    assert not torch.equal(together[:, 0], together[:, 1])
    assert not drawn.requires_grad


def test_conditional_probabilities_are_ratios_of_marginals():
    p = made(3, 2)(None)
    z = every(3, 2)
    probability = p.log_prob(z).exp()
    factors = p.log_factors(z).exp()
    for i in range(3):
        same = (z.unsqueeze(1) == z)[..., : 2 * i].all(-1).double()  # agree before i
        up_to = (z.unsqueeze(1) == z)[..., : 2 * i + 2].all(-1).double()
        assert torch.allclose(factors[:, i], up_to @ probability / (same @ probability))


def test_the_autoregressive_prior_starts_near_uniform():
    with rng.isolated(0):
        module = priors.Autoregressive().build(Latent(4, "one_hot", 3), (2,))
    log_prob = module(None).log_prob(every(4, 3).float())
    assert torch.allclose(log_prob, torch.tensor(-4 * math.log(3)), atol=0.05)
    uniform = priors.Categorical().build(Latent(4, "one_hot", 3), (2,))(None)
    assert torch.allclose(uniform.log_prob(every(4, 3).float()), torch.tensor(-4 * math.log(3)))


def test_only_a_learned_categorical_prior_has_weights():
    for learned in (True, False):
        module = priors.Categorical(learned).build(Latent(2, "one_hot", 3), (4,))
        assert module.logits.requires_grad is learned
        assert module.logits.shape == (2, 3)


def test_the_autoregressive_prior_learns_what_an_independent_one_cannot():
    """Second variable = first, third is independent of both: the entropy is known."""
    p_first, p_third = torch.tensor([0.7, 0.3]), torch.tensor([0.1, 0.9])
    n = 2000
    first = (torch.arange(n) >= 0.7 * n).long()
    third = (torch.arange(n) % 10 > 0).long()
    z = nn.functional.one_hot(torch.stack([first, first, third], 1), 2).flatten(1).float()
    entropy = [-(p * p.log()).sum().item() for p in (p_first, p_third)]
    limits = {
        priors.Autoregressive((16,)): entropy[0] + entropy[1],
        priors.Categorical(): 2 * entropy[0] + entropy[1],
    }
    for prior, limit in limits.items():
        with rng.isolated(0):
            module = prior.build(Latent(3, "one_hot", 2), (4,))
        optimizer = torch.optim.Adam(module.parameters())
        plan = Plan(1, n, 0.05, 0)
        for step in range(300):
            optimizer.zero_grad()
            loss = -module(None).log_prob(z).mean()
            loss.backward()
            optimizer.param_groups[0]["lr"] = plan.rate(step, 300)
            optimizer.step()
        assert limit <= loss.item() + 1e-6
        assert loss.item() == pytest.approx(limit, abs=0.01)


# -- the whole model, by enumeration --------------------------------------------------------------


PRIORS = [priors.Categorical(), priors.Categorical(learned=False), priors.Autoregressive((6,))]


@pytest.mark.parametrize("prior", PRIORS, ids=repr)
def test_the_elbo_is_log_p_minus_the_kl_to_the_exact_posterior(prior):
    model, batch, z = model_of(prior=prior).eval(), Batch(X), every(2, 3)
    log_joint, log_q = exact(model, batch, z)
    log_p = torch.logsumexp(log_joint, 0)  # (B,)
    elbo = (log_q.exp() * (log_joint - log_q)).sum(0)
    gap = (log_q.exp() * (log_q - (log_joint - log_p))).sum(0)
    assert torch.allclose(elbo, log_p - gap)
    assert (gap > 0.01).all()
    evidence = model.evidence(batch, 40000, noise())
    closed = isinstance(prior, priors.Categorical)
    assert (evidence.kl is not None) is closed
    error = evidence.log_w.std(0) / 200
    assert ((evidence.elbo - elbo).abs() < 4 * error).all()
    if closed:
        log_pz = model.prior_distribution().log_prob(z)
        kl = (log_q.exp() * (log_q - log_pz.unsqueeze(-1))).sum(0)
        assert torch.allclose(evidence.kl_rows, kl)
        assert evidence.kl.shape == (3, 2)
    marginal = importance.log_marginal(model, batch, 20000, rng.PerRow(X, 0))
    error = ((20000 / marginal.effective_sample_size - 1) / 20000).sqrt()
    assert ((marginal.log_likelihood - log_p).abs() < 4 * error).all()
    assert (error < 0.02).all()
    fewer = importance.log_marginal(model, batch, 1, rng.PerRow(X, 0)).log_likelihood
    assert not torch.allclose(fewer, log_p, atol=0.05)


def test_training_draws_give_the_same_elbo_when_they_are_straight_through():
    model, batch = model_of(), Batch(X)
    straight = model.train().evidence(batch, 20000, noise())
    held_out = model.eval().evidence(batch, 20000, noise(1))
    assert straight.draws[0].requires_grad
    assert not held_out.draws[0].requires_grad
    error = (straight.log_w.std(0) + held_out.log_w.std(0)) / math.sqrt(20000)
    assert ((straight.elbo - held_out.elbo).abs() < 3 * error).all()
    relaxed = model_of(posteriors.Categorical(3, straight_through=False))
    soft = relaxed.train().evidence(batch, 20000, noise())
    assert ((soft.elbo - held_out.elbo).abs() > 3 * error).any()
    hard = relaxed.eval().evidence(batch, 3, noise())
    assert set(hard.draws[0].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("prior", PRIORS[::2], ids=repr)
def test_the_conditional_posterior_is_that_of_enumeration(prior):
    model, z = model_of(prior=prior).eval(), every(2, 3)
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    batch = Batch(torch.where(mask, X, torch.nan), mask)
    log_joint, _ = exact(model, Batch(X, mask), z)
    wanted = torch.softmax(log_joint, 0)
    found = conditional.searched_posterior(model, batch, 20000, rng.PerRow(X, 0))
    same = (found.z.unsqueeze(0) == z[:, None, None]).all(-1)  # (Z, K, B)
    share = (same * found.weight).sum(1)
    assert torch.allclose(share.sum(0), torch.ones(3).double())
    assert torch.allclose(share, wanted, atol=0.015)
    assert (wanted.amax(0) - wanted.amin(0) > 0.05).all()


# -- gradients ------------------------------------------------------------------------------------


def exact_gradient(model, k, share, x):
    """Gradient of share · ELBO + (1 − share) · (bound of k draws), by enumeration of k-tuples."""
    model.zero_grad()
    log_joint, log_q = exact(model, Batch(x), every(2, 3))
    log_w, q = (log_joint - log_q)[:, 0], log_q[:, 0].exp()
    tuples = torch.cartesian_prod(*[torch.arange(9)] * k)  # (9^k, k)
    bound = torch.logsumexp(log_w[tuples], 1) - math.log(k)
    (share * (q * log_w).sum() + (1 - share) * (q[tuples].prod(1) * bound).sum()).backward()
    return flat_gradient(model)
    return flat_gradient(model)


def flat_gradient(model, part=("",)):
    own = [p for name, p in model.named_parameters() if name.startswith(part)]
    return torch.cat([(p.grad if p.grad is not None else 0 * p.detach()).flatten() for p in own])


def mean_gradient(model, loss_of, x, repeats=60, rows=500, part=("",)):
    """Mean and standard error of a stochastic gradient, and its standard deviation for one row."""
    many = Batch(x.expand(rows, -1))
    samples = []
    for seed in range(repeats):
        model.zero_grad()
        loss_of(many, noise(seed)).backward()
        samples.append(-flat_gradient(model, part))
    stacked = torch.stack(samples)
    return stacked.mean(0), stacked.std(0) / math.sqrt(repeats)


def agrees(mean, error, wanted):
    """Whether all deviations are those of chance."""
    z = (mean - wanted) / (error + 1e-9)
    return z.abs().max() < 4.5 and z.square().mean() < 4  # many weights, few of them independent


OBJECTIVES = [
    IWAE(2, gradient="vimco"),
    IWAE(3, gradient="vimco"),
    IWAE(3, elbo_weight=1.0, gradient="vimco"),
    IWAE(2, 2, 0.4, gradient="vimco"),
]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_score_function_gradient_is_unbiased(objective, training):
    model = model_of().train(training)
    x = X[:1]
    wanted = exact_gradient(model, objective.n_samples, objective.elbo_weight, x)
    assert flat_gradient(model, ENCODER).norm() > 0.05
    mean, error = mean_gradient(model, lambda b, v: objective(model, b, step=0, noise=v).loss, x)
    assert agrees(mean, error, wanted)
    assert error.norm() < 0.1 * wanted.norm()


@pytest.mark.parametrize("share", [0.0, 1.0, 0.3])
def test_the_learning_signal_is_the_gain_over_the_other_draws(share):
    log_w, log_qz = 3 * normal(2, 4, 5), normal(2, 4, 5, seed=1).requires_grad_()
    average = IWAE(4, elbo_weight=share)._average
    term = leave_one_out(log_w, log_qz, average)
    assert torch.equal(term, torch.zeros(2, 5).double())
    (signal,) = torch.autograd.grad(term.sum(), log_qz)
    for j in range(4):
        others = [i for i in range(4) if i != j]
        baseline = log_w.clone()
        baseline[:, j] = log_w[:, others].mean(1)  # Mnih and Rezende, equation 12
        assert torch.allclose(signal[:, j], average(log_w) - average(baseline))
        if share == 1:
            assert torch.allclose(signal[:, j], (log_w[:, j] - log_w[:, others].mean(1)) / 4)


def test_the_straight_through_gradient_is_biased():
    model = model_of()
    wanted = exact_gradient(model, 2, 1.0, X[:1])
    mean, error = mean_gradient(model, lambda b, v: ELBO()(model, b, step=0, noise=v).loss, X[:1])
    bias = (mean - wanted) / (error + 1e-9)
    assert bias.abs().max() > 20
    names = torch.cat(
        [
            torch.full((p.numel(),), float(name.startswith(ENCODER)))
            for name, p in model.named_parameters()
        ]
    ).bool()
    assert bias[~names].abs().max() < 5  # decoder and prior see exact draws
    slope = torch.dot(mean[names], wanted[names]) / wanted[names].norm() ** 2
    assert 0.9 < slope < 0.98  # it points the right way, and is too short


def test_baselines_reduce_the_variance():
    model = model_of()

    def reinforce(average):
        def loss(batch, v):
            evidence = without_path(model.evidence(batch, 4, v))
            signal = average(evidence.log_w.detach())
            return -(signal * evidence.log_qz).sum(0).mean() - average(evidence.log_w).mean()

        return loss

    for objective in (IWAE(4, gradient="vimco"), IWAE(4, 1, 1.0, "vimco")):
        plain, plain_error = mean_gradient(
            model, reinforce(objective._average), X[:1], part=ENCODER
        )
        mean, error = mean_gradient(
            model,
            lambda b, v, o=objective: o(model, b, step=0, noise=v).loss,
            X[:1],
            part=ENCODER,
        )
        assert agrees(mean, (error**2 + plain_error**2).sqrt(), plain)
        assert error.norm() < 0.2 * plain_error.norm()


@pytest.mark.parametrize(
    "posterior",
    [posteriors.Diagonal(), posteriors.Flow("coupling", 1, (4,)), posteriors.Flow("iaf", 1, (4,))],
    ids=repr,
)
def test_the_score_function_agrees_with_the_path_where_there_is_one(posterior):
    model = model_of(posterior, priors.Standard())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    results = [
        mean_gradient(model, lambda b, v, o=o: o(model, b, step=0, noise=v).loss, X[:1])
        for o in (IWAE(3, gradient="plain"), IWAE(3, gradient="vimco"))
    ]
    (plain, first), (score, second) = results
    assert agrees(plain, (first**2 + second**2).sqrt(), score)
    assert plain.norm() > 0.1


def test_the_value_of_the_loss_is_the_bound():
    model, batch = model_of(), Batch(X)
    for options in ({"n_samples": 4}, {"n_samples": 2, "n_groups": 2}, {"elbo_weight": 0.3}):
        values = [
            IWAE(gradient=g, **options)(model, batch, step=0, noise=noise())
            for g in ("plain", "vimco")
        ]
        assert values[0].loss.item() == pytest.approx(values[1].loss.item(), abs=1e-12)
        assert values[0].terms.keys() == values[1].terms.keys()
        for name, term in values[0].terms.items():
            assert torch.allclose(term, values[1].terms[name]), name


def test_a_model_that_hides_its_posterior_is_refused():
    zero = torch.zeros(2, 3)
    with pytest.raises(ParameterError, match="does not say what"):
        without_path(Evidence(zero, zero, zero))


@pytest.mark.parametrize(
    ("objective", "posterior", "message"),
    [
        (IWAE(), posteriors.Categorical(), r"'dreg' needs draws .*; gradient='vimco' does not$"),
        (
            IWAE(gradient="plain"),
            posteriors.VectorQuantized(),
            "'plain' needs draws .*parameters$",
        ),
        (IWAE(gradient="vimco"), posteriors.VectorQuantized(), "'vimco' needs exact draws"),
        (IWAE(gradient="vimco"), posteriors.Categorical(straight_through=False), "exact draws"),
    ],
)
def test_gradients_that_a_posterior_does_not_have(objective, posterior, message):
    assert re.search(message, objective.objection(posterior))


def test_gradients_that_a_posterior_has():
    for posterior in (posteriors.Diagonal(), posteriors.Flow(), posteriors.Categorical()):
        assert IWAE(gradient="vimco").objection(posterior) is None
    for gradient in ("plain", "stl", "dreg"):
        assert IWAE(gradient=gradient).objection(posteriors.Diagonal()) is None
    assert IWAE(3, gradient="vimco").held_out() == IWAE(3, gradient="plain")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IWAE(1, gradient="vimco"), "n_samples with gradient='vimco' .* >= 2; received 1"),
        (lambda: posteriors.Categorical(1), "Categorical: n_categories must be .* >= 2"),
        (lambda: posteriors.Categorical(temperature=0.0), "temperature must be finite and > 0"),
        (lambda: posteriors.Categorical(temperature=math.inf), "received inf"),
        (lambda: priors.Autoregressive((0,)), "hidden_layer_sizes must hold integers >= 1"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


def test_discrete_and_real_parts_do_not_mix():
    with pytest.raises(ParameterError, match="discrete codes, the other makes real numbers"):
        model_of(posteriors.Diagonal(), priors.Autoregressive())
    with pytest.raises(ParameterError, match="real numbers, the other makes discrete codes"):
        model_of(posteriors.Categorical(3), priors.Standard())
