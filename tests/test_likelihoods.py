"""Contracts and closed forms of p(x | z), every likelihood in every test that fits it."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from skvae import VAE, distributions, families, rng
from skvae.data import Transform, check_support
from skvae.exceptions import DataError, ParameterError
from skvae.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogisticMixture,
    Gaussian,
    Laplace,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    StudentT,
    Support,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
    bits_per_dim,
    bounded,
)
from skvae.spec import Spec

DTYPE = torch.float64
LINE = torch.linspace(-16, 16, 8001, dtype=DTYPE)


def whole(n):
    return torch.arange(n, dtype=DTYPE), torch.ones(n, dtype=DTYPE)


def real_line():
    return LINE.sinh(), LINE.cosh() * (LINE[1] - LINE[0])


def half_line():
    t = 4 * LINE
    return t.exp(), t.exp() * (t[1] - t[0])


def unit_interval():
    t = 2 * LINE
    x = t.sigmoid()
    return x, x * (-t).sigmoid() * (t[1] - t[0])


@dataclass(frozen=True)
class Case:
    """A likelihood, a quadrature over its support, and the hardest values there."""

    likelihood: Likelihood
    quadrature: object
    extremes: tuple[float, ...]

    def __repr__(self) -> str:
        return repr(self.likelihood)


REAL = (-1e6, 1e6)
COUNTS = (1.0, 1e6)
CASES = [
    Case(Bernoulli(), lambda: whole(2), (1.0,)),
    *(
        Case(Gaussian(scale=s), real_line, REAL)
        for s in ("unit", "global", "per_feature", "per_cell", "optimal")
    ),
    Case(StudentT(), real_line, REAL),
    Case(StudentT("per_cell"), real_line, REAL),
    Case(Laplace(), real_line, REAL),
    Case(LogNormal(), half_line, (1e-30, 1e30)),
    Case(ContinuousBernoulli(), unit_interval, (1e-30, 1.0)),
    Case(Beta(), unit_interval, (1e-30, 1.0)),
    Case(Poisson(), lambda: whole(400), COUNTS),
    Case(NegativeBinomial(), lambda: whole(4000), COUNTS),
    Case(ZeroInflatedPoisson(), lambda: whole(400), COUNTS),
    Case(ZeroInflatedNegativeBinomial(), lambda: whole(4000), COUNTS),
    Case(Categorical(n_categories=4), lambda: whole(4), (3.0,)),
    Case(Categorical(n_categories=4, rank=2), lambda: whole(4), (3.0,)),
    Case(Ordinal(n_categories=3), lambda: whole(3), (1.0, 2.0)),
    Case(Ordinal(n_categories=6), lambda: whole(6), (1.0, 5.0)),
    Case(DiscretizedLogisticMixture(), lambda: whole(256), (1.0, 254.0, 255.0)),
    Case(DiscretizedLogisticMixture(n_mixtures=1), lambda: whole(256), (255.0,)),
]
each = pytest.mark.parametrize("case", CASES, ids=repr)


def randn(*shape, seed=0, dtype=DTYPE):
    return torch.randn(shape, generator=rng.generator(seed), dtype=dtype)


def sequential(seed=0):
    return rng.Sequential(rng.generator(seed))


def built(likelihood, event, seed=5):
    """A module with random parameters."""
    with rng.isolated(seed):
        module = likelihood.build(event).double()
    with torch.no_grad():
        for i, parameter in enumerate(module.parameters()):
            parameter.copy_(0.4 * randn(*parameter.shape, seed=seed + i))
    return module


def rows_of(p, x: Tensor) -> Tensor:
    """log p at points (n,) for batch shape (*b), as (n, *b)."""
    return p.log_prob(x.view(-1, *[1] * len(p.batch_shape)))


# -- contracts ------------------------------------------------------------------------------------


def test_every_likelihood_is_here():
    own = {n for n, c in Likelihood._registry.items() if c.__module__.startswith("skvae.")}
    # Made of others, in test_sequences.py and test_columns.py
    cells = own - {"sequence", "columns"}
    assert {case.likelihood.name for case in CASES} == cells


@each
def test_json_and_names(case):
    spec = case.likelihood
    assert Spec.from_json(spec.to_json()) == spec
    assert type(Likelihood.resolve(spec.name)) is type(spec)
    assert hash(spec.replace()) == hash(spec)


@pytest.mark.parametrize("event", [(3,), (2, 3), (1, 2, 3)], ids=str)
@each
def test_shapes_and_gradients(case, event):
    module = built(case.likelihood, event)
    assert module.event_shape == event
    assert module.param_shape[-len(event) :] == event
    assert len(module.param_shape) <= len(event) + 1
    h = randn(4, 5, *module.param_shape).requires_grad_()
    p = module(h)
    assert p.batch_shape == (4, 5, *event)
    assert p.event_shape == ()
    assert p.mean.shape == (4, 5, *event)
    x = distributions.draw(p, (2,), sequential()).detach()
    assert x.shape == (2, 4, 5, *event)
    assert x.dtype == DTYPE
    log_prob = p.log_prob(x)
    assert log_prob.shape == x.shape
    log_prob.sum().backward()
    of_each_number = h.grad.flatten(0, 1).flatten(-len(event)).transpose(0, -1)  # (cells, k?, n)
    if case.likelihood == DiscretizedLogisticMixture(n_mixtures=1):
        of_each_number = of_each_number[:, 1:]  # there is nothing to choose from
    assert (of_each_number != 0).any(-1).all()
    for parameter in module.parameters():
        assert (parameter.grad != 0).all()


@each
def test_cells_are_independent(case):
    """One cell's parameters and value reach that cell's log-probability and no other."""
    event = (2, 3)
    module = built(case.likelihood, event)
    h = randn(4, *module.param_shape)
    x = distributions.draw(module(h), (), sequential())
    log_prob = module(h).log_prob(x)
    changed = h.clone()
    extra = module.param_shape[: len(module.param_shape) - 2]
    changed[2, ..., 1, 0] += randn(*extra, seed=3)
    differs = module(changed).log_prob(x) != log_prob
    expected = torch.zeros_like(differs)
    expected[2, 1, 0] = True
    assert torch.equal(differs, expected)
    other = x.clone()
    points, _ = case.quadrature()
    other[2, 1, 0] = points[len(points) // 2 if x[2, 1, 0] == points[0] else 0]
    assert torch.equal(module(h).log_prob(other) != log_prob, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@each
def test_extremes_stay_finite(case, dtype):
    """Also at x = 0, which hidden cells hold, whether or not the support has it."""
    event = (2,)
    module = built(case.likelihood, event).to(dtype)
    shape = module.param_shape
    several = [
        torch.full(shape, 1e4, dtype=dtype),
        torch.full(shape, -1e4, dtype=dtype),
        1e4 * randn(*shape, dtype=dtype).sign(),
        torch.zeros(shape, dtype=dtype),
    ]
    h = torch.stack(several).requires_grad_()
    p = module(h)
    assert torch.isfinite(p.mean).all()
    log_prob = rows_of(p, torch.tensor([0.0, *case.extremes], dtype=dtype))
    assert log_prob.dtype == dtype
    assert torch.isfinite(log_prob).all()
    log_prob.sum().backward()
    assert torch.isfinite(h.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())
    x = distributions.draw(p, (50,), sequential()).detach()
    assert torch.isfinite(x).all()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(1e4 * randn(*parameter.shape, dtype=dtype).sign())
    p = module(h)
    assert torch.isfinite(rows_of(p, torch.tensor([0.0, *case.extremes], dtype=dtype))).all()
    assert torch.isfinite(p.mean).all()
    assert torch.isfinite(distributions.draw(p, (50,), sequential())).all()


def quadrature_of(case, p):
    x, weight = case.quadrature()
    return x, weight[:, None] * rows_of(p, x).exp()  # (n, 2)


@each
def test_it_sums_to_one_and_has_its_mean(case):
    module = built(case.likelihood, (2,))
    p = module(0.5 * randn(*module.param_shape, seed=2))
    x, mass = quadrature_of(case, p)
    one = torch.ones(2, dtype=DTYPE)
    tolerance = 2e-5 if case.likelihood.name == "laplace" else 1e-9  # |x| has a corner
    assert torch.allclose(mass.sum(0), one, atol=tolerance)
    assert torch.allclose((x[:, None] * mass).sum(0), p.mean, atol=2e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", ["sequential", "per_row"])
@each
def test_draws_follow_log_prob(case, kind):
    """Kolmogorov's distance between draws and the cdf; 0.0138 would be a one in 1,000 event."""
    n = 20000
    module = built(case.likelihood, (2,))
    h = randn(*module.param_shape, seed=2)
    if kind == "sequential":
        draws = distributions.draw(module(h), (n,), sequential())
    else:
        noise = rng.PerRow(torch.arange(float(n))[:, None], 0)
        draws = distributions.draw(module(h.expand(n, *h.shape)), (), noise)
    draws, rule = draws.detach(), case.likelihood.support
    assert not (rule if isinstance(rule, Support) else Support(*rule)).forbids(draws.numpy()).any()
    x, mass = quadrature_of(case, module(h))
    mass = mass.detach()
    for cell in (0, 1):
        cumulative = mass[:, cell].cumsum(0)
        sorted_draws = draws[:, cell].contiguous().sort().values
        empirical = torch.searchsorted(sorted_draws, x.contiguous(), right=True) / n
        assert (empirical - cumulative).abs().max() < 0.0138
    assert abs(np.corrcoef(draws.numpy().T)[0, 1]) < 0.05


@each
def test_draws_of_a_row_do_not_depend_on_its_company(case):
    module = built(case.likelihood, (2,))
    h, rows = randn(6, *module.param_shape), randn(6, 2, seed=1)
    together = distributions.draw(module(h), (40,), rng.PerRow(rows, 0))
    alone = distributions.draw(module(h[4:5]), (40,), rng.PerRow(rows[4:5], 0))
    assert torch.equal(together[:, 4], alone[:, 0])
    second = rng.PerRow(rows, 0)
    distributions.draw(module(h), (), second)
    first = rng.PerRow(rows[4:5], 0)
    distributions.draw(module(h[4:5]), (), first)
    assert first.used == second.used
    assert not torch.equal(together[0], together[1])


# -- closed forms ---------------------------------------------------------------------------------


def agrees(p, x, expected, atol=1e-9):
    assert np.allclose(
        p.log_prob(torch.tensor(x, dtype=DTYPE)).detach().numpy(), expected, rtol=0, atol=atol
    )


def test_student_t():
    module = built(StudentT(), (3,))
    h, x = randn(5, 3), 3 * randn(5, 3, seed=1).numpy()
    df = 2 + 8 * np.exp(bounded(module.raw_df, math.log(100)).detach().numpy())
    scale = np.exp(bounded(module.raw_scale, math.log(1e3)).detach().numpy())
    agrees(module(h), x, stats.t(df, h.numpy(), scale).logpdf(x))
    with torch.no_grad():
        module.raw_df.fill_(-1e4)
        assert (module(h).df > 2).all()


def test_student_t_with_a_scale_for_each_cell():
    module = built(StudentT("per_cell"), (3,))
    h, x = randn(5, 2, 3), 3 * randn(5, 3, seed=1).numpy()
    df = 2 + 8 * np.exp(bounded(module.raw_df, math.log(100)).detach().numpy())
    raw = module.raw_scale + h[:, 1]
    scale = np.exp(bounded(raw, math.log(1e3)).detach().numpy())
    expected = stats.t(df, h[:, 0].numpy(), scale)
    agrees(module(h), x, expected.logpdf(x))
    assert np.allclose(module(h).mean, expected.mean())
    assert np.allclose(module(h).variance.detach(), expected.var())


def test_the_scale_of_student_t_is_one_of_two():
    with pytest.raises(ParameterError, match="StudentT: scale='global'"):
        StudentT("global")


def test_laplace():
    module = built(Laplace(), (3,))
    h, x = randn(5, 3), 3 * randn(5, 3, seed=1).numpy()
    scale = np.exp(bounded(module.raw_scale, math.log(1e3)).detach().numpy())
    agrees(module(h), x, stats.laplace(h.numpy(), scale).logpdf(x))


def test_log_normal():
    module = built(LogNormal(), (3,))
    h, x = randn(5, 3), np.exp(randn(5, 3, seed=1).numpy())
    p = module(h)
    loc, scale = p.loc.numpy(), p.scale.detach().numpy()
    agrees(p, x, stats.lognorm(scale, scale=np.exp(loc)).logpdf(x))
    assert np.allclose(loc, 40 * np.tanh(h.numpy() / 40))
    assert np.allclose(p.mean.detach(), stats.lognorm(scale, scale=np.exp(loc)).mean())


def test_beta():
    module = built(Beta(), (3,))
    h, x = randn(5, 3), randn(5, 3, seed=1).sigmoid().numpy()
    p = module(h)
    mean = 1 / (1 + np.exp(-10 * np.tanh(h.numpy() / 10)))
    precision = p.precision.detach().numpy()
    agrees(p, x, stats.beta(mean * precision, (1 - mean) * precision).logpdf(x))
    assert (Beta().build((3,))(h).precision == 2).all()


def test_continuous_bernoulli_is_the_bernoulli_times_its_constant():
    logits = torch.tensor([-9.0, -3.0, -0.21, -0.19, -1e-6, 0.0, 1e-9, 0.1, 2.0], dtype=DTYPE)
    lam = torch.sigmoid(logits)
    x = torch.linspace(0, 1, 5, dtype=DTYPE)[:, None]
    away = (lam - 0.5).abs() > 1e-3
    odd = torch.where(away, 1 - 2 * lam, 0.5)
    constant = torch.where(away, 2 * torch.atanh(odd) / odd, 2.0)
    bernoulli = x * lam.log() + (1 - x) * (-logits).sigmoid().log()
    p = families.ContinuousBernoulli(logits)
    assert torch.allclose(p.log_prob(x), bernoulli + constant.log(), atol=1e-5)
    exact = p.log_prob(x)[:, away] - (bernoulli + constant.log())[:, away]
    assert exact.abs().max() < 1e-11
    assert p.log_prob(x)[:, 5].abs().max() < 1e-12  # uniform, and 2 × ½ is its density
    truth = torch.where(away, lam / (2 * lam - 1) + 1 / (2 * torch.atanh(odd)), 0.5)
    assert torch.allclose(p.mean, truth, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.05, 0.0999, 0.1001, 0.3, 4.0, -0.0999, -0.1001])
def test_continuous_bernoulli_is_smooth_around_a_half(value):
    """Where the series takes over; the normaliser (eˡ − 1) / l is Σ lᵏ⁻¹ / k!."""
    logit = torch.tensor(2 * value, dtype=DTYPE, requires_grad=True)
    p = families.ContinuousBernoulli(logit)
    p.log_prob(torch.tensor(1.0, dtype=DTYPE)).backward()
    assert logit.grad.item() == pytest.approx(1 - p.mean.item(), abs=1e-12)
    k = np.arange(1, 60)  # log-density at 0 is −log Σ lᵏ⁻¹ / k!
    series = np.cumprod(np.r_[1.0, 2 * value / (k[:-1] + 1)]).sum()
    zero = p.log_prob(torch.tensor(0.0, dtype=DTYPE)).item()
    assert zero == pytest.approx(-math.log(series), abs=1e-13)


def test_poisson_and_negative_binomial():
    x = np.array([0.0, 1, 2, 7, 15, 16, 17, 40, 300])[:, None]
    mean = np.array([0.01, 0.8, 15.9, 250.0])
    log_mean = torch.tensor(np.log(mean))
    agrees(families.Poisson(log_mean), x, stats.poisson(mean).logpmf(x))
    for shape in (0.02, 1.0, 15.5, 800.0):
        p = families.NegativeBinomial(log_mean, torch.tensor(math.log(shape), dtype=DTYPE))
        agrees(p, x, stats.nbinom(shape, shape / (shape + mean)).logpmf(x))


def test_the_parameters_of_count_models():
    module = built(ZeroInflatedNegativeBinomial(), (3,))
    module.calibrate(torch.tensor([2.0, 50.0, 0.3]), torch.ones(3))
    h = randn(5, 2, 3)
    start = 1 / (1 + math.exp(2))
    rate = h[:, 0].numpy()
    rate = np.where(rate < 0, 15 * np.tanh(rate / 15), rate)
    mean = np.array([2.0, 50.0, 0.3]) / (1 - start) * np.log1p(np.exp(rate)) / math.log(2)
    zero = 1 / (1 + np.exp(2 - h[:, 1].numpy()))
    r = np.exp(bounded(module.raw_shape, math.log(1e3)).detach().numpy())
    for x in (0.0, 1.0, 9.0):
        pmf = (1 - zero) * stats.nbinom(r, r / (r + mean)).pmf(x) + zero * (x == 0)
        agrees(module(h), x, np.log(pmf), atol=1e-6)
    assert np.allclose(module(h).mean.detach(), (1 - zero) * mean, rtol=1e-6)


def test_zero_inflated_poisson_by_hand():
    p = families.ZeroInflated(
        families.Poisson(torch.tensor(math.log(3.0), dtype=DTYPE)),
        torch.tensor(math.log(0.25 / 0.75), dtype=DTYPE),
    )
    agrees(p, 0.0, math.log(0.25 + 0.75 * math.exp(-3)))
    agrees(p, 2.0, math.log(0.75 * 4.5 * math.exp(-3)))


def test_large_counts_are_accurate_in_float32():
    """log Γ of a million is 1.3e7, of which float32 keeps whole numbers."""
    mean = np.array([1e3, 1e5, 1e6])
    x = mean + 2 * np.sqrt(mean)
    rate = torch.tensor(mean, dtype=torch.float32).log()
    true_mean = rate.double().exp().numpy()
    x32 = torch.tensor(np.round(x), dtype=torch.float32)
    poisson = families.Poisson(rate).log_prob(x32)
    assert np.allclose(poisson, stats.poisson(true_mean).logpmf(np.round(x)), atol=0.01)
    shape = torch.full((3,), math.log(500.0))
    negative = families.NegativeBinomial(rate, shape).log_prob(x32)
    r = shape.double().exp().numpy()
    exact = stats.nbinom(r, r / (r + true_mean)).logpmf(np.round(x))
    assert np.allclose(negative, exact, atol=0.01)


def test_poisson_draws_invert_the_cdf():
    u = torch.tensor([0.0, 1e-11, 1e-6, 0.3, 0.5, 0.97, 1 - 1e-6, 1 - 1e-11], dtype=DTYPE)[:, None]
    rate = torch.tensor([1e-9, 0.02, 1.3, 25.0, 1e4], dtype=DTYPE)
    x = families.draw_poisson(rate, u.expand(8, 5))
    assert (x[0, :4] == 0).all()
    assert np.array_equal(x[1:], stats.poisson(rate.numpy()).ppf(u[1:].numpy()))
    large = families.draw_poisson(torch.full((1,), 3e4, dtype=DTYPE), u[1:])
    assert np.abs(large.numpy() - stats.poisson(3e4).ppf(u[1:].numpy())).max() <= 1
    huge = families.draw_poisson(torch.full((1,), 1e8, dtype=DTYPE), u[1:])
    assert np.abs(huge.numpy() - stats.norm(1e8, 1e4).ppf(u[1:].numpy())).max() < 10
    assert torch.equal(huge, huge.round())


class Fixed:
    """Noise that is given."""

    def __init__(self, u):
        self.u = u

    def uniform(self, shape, like):
        return self.u.expand(*shape, *like.shape)


@pytest.mark.parametrize("logit", [-1e3, -20.0, -2.0, -9e-4, 0.0, 9e-4, 1.1e-3, 3.0, 50.0, 1e3])
def test_continuous_bernoulli_draws_invert_the_cdf(logit):
    for u in (0.0, 1e-9, 0.25, 0.5, 1 - 1e-6):
        p = families.ContinuousBernoulli(torch.tensor([logit], dtype=DTYPE))
        x = distributions.draw(p, (), Fixed(torch.tensor(u, dtype=DTYPE))).item()
        if logit == 0:
            cdf = x
        elif logit > 0:  # (e^{lx} − 1) / (e^l − 1), without overflow
            cdf = math.exp(logit * (x - 1)) * math.expm1(-logit * x) / math.expm1(-logit)
        else:
            cdf = math.expm1(logit * x) / math.expm1(logit)
        assert cdf == pytest.approx(u, abs=1e-6)


@pytest.mark.parametrize("shape", [0.01, 0.7, 1.0, 30.0])
def test_gamma_draws(shape):
    logs = families.draw_log_gamma(torch.tensor([shape], dtype=DTYPE), (20000,), sequential())
    law = stats.gamma(shape) if shape > 0.05 else stats.loggamma(shape)
    values = logs.exp() if shape > 0.05 else logs
    assert stats.kstest(values[:, 0].numpy(), law.cdf).statistic < 0.0138


def test_categorical():
    module = Categorical(n_categories=3).build((2,)).double()
    h = randn(5, 3, 2)
    p = np.exp(h.numpy()) / np.exp(h.numpy()).sum(1, keepdims=True)
    agrees(module(h), np.array([2.0, 0.0]), np.log(np.stack([p[:, 2, 0], p[:, 0, 1]], 1)))
    assert np.allclose(module(h).mean, p[:, 1] + 2 * p[:, 2])


def test_ordinal_by_hand():
    module = built(Ordinal(n_categories=4), (2,))
    h = randn(5, 2)
    gaps = module.log_gaps + bounded(module.raw_gaps, math.log(1e3))
    cuts = torch.cat([module.first[None], gaps.exp()]).cumsum(0).detach()  # (3, 2)
    assert (cuts.diff(dim=0) > 0).all()
    below = torch.sigmoid(cuts[:, None] - h)  # (3, 5, 2)
    ends = torch.zeros(1, 5, 2, dtype=DTYPE)
    probability = torch.cat([ends, below, ends + 1]).diff(dim=0)
    for k in range(4):
        agrees(module(h), float(k), probability[k].log().numpy())
    higher = module(h + 1).mean
    assert (higher > module(h).mean).all()


def test_discretized_logistic_by_hand():
    logits, loc, scale = randn(2, 3), randn(2, 3, seed=1), 0.3 * randn(2, 3, seed=2).exp()
    p = families.DiscretizedLogisticMixture(logits, loc, scale)
    weight = torch.softmax(logits, -1).numpy()
    law = stats.logistic(loc.numpy(), scale.numpy())
    for x in (0.0, 1.0, 128.0, 254.0, 255.0):
        center = x / 127.5 - 1
        high = 1.0 if x == 255 else law.cdf(center + 1 / 255)
        low = 0.0 if x == 0 else law.cdf(center - 1 / 255)
        agrees(p, x, np.log((weight * (high - low)).sum(-1)), atol=1e-9)


def test_discretized_logistic_layout_and_narrow_scales():
    module = DiscretizedLogisticMixture(n_mixtures=2).build((2,)).double()
    assert module.param_shape == (6, 2)
    h = torch.zeros(6, 2, dtype=DTYPE)
    h[0] = 9.0  # all weight on the first
    h[2] = 3 * math.atanh((0.2 + 0.5) / 3)  # which starts at −0.5
    h[4] = -1e4  # and is as narrow as can be
    p = module(h)
    assert torch.allclose(p.loc[..., 0], torch.tensor(0.2, dtype=DTYPE))
    assert torch.allclose(p.scale, torch.exp(torch.tensor([-7.0, -2.0], dtype=DTYPE)))
    x, mass = torch.arange(256, dtype=DTYPE), rows_of(p, torch.arange(256, dtype=DTYPE)).exp()
    assert x[mass[:, 0].argmax()] == round(1.2 * 127.5)
    assert torch.allclose(mass.sum(0), torch.ones(2, dtype=DTYPE))
    narrow = module.float()(h.float())
    assert torch.allclose(rows_of(narrow, x.float()).exp().sum(0), torch.ones(2), atol=1e-3)


def test_bits_per_dim():
    assert bits_per_dim(-10 * math.log(2), (1, 5)) == pytest.approx(2.0)
    uniform = torch.full((3,), -12 * math.log(256))
    assert torch.allclose(bits_per_dim(uniform, (3, 2, 2)), torch.tensor(8.0))


# -- the start ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "mean"),
    [
        (Bernoulli(), [0.2, 0.7]),
        (ContinuousBernoulli(), [0.2, 0.95]),
        (Beta(), [0.2, 0.7]),
        (Poisson(), [0.02, 3e5]),
        (NegativeBinomial(), [0.02, 3e5]),
        (ZeroInflatedPoisson(), [0.02, 3e5]),
        (ZeroInflatedNegativeBinomial(), [0.02, 3e5]),
        (DiscretizedLogisticMixture(n_mixtures=1), [100.0, 128.0]),
        (DiscretizedLogisticMixture(n_mixtures=4), [127.5, 127.5]),
    ],
    ids=repr,
)
def test_training_starts_at_the_mean_of_the_data(likelihood, mean):
    module = likelihood.build((2,))
    module.calibrate(torch.tensor(mean), torch.ones(2))
    module.double()
    p = module(torch.zeros(3, *module.param_shape, dtype=DTYPE))
    expected = torch.tensor(mean, dtype=DTYPE).expand(3, 2)
    tolerance = 2e-2 if likelihood.name.startswith("disc") else 1e-5
    assert torch.allclose(p.mean, expected, rtol=tolerance)


@pytest.mark.parametrize("likelihood", [Categorical(n_categories=4), Ordinal(n_categories=4)])
def test_codes_start_at_the_frequencies_of_the_rows(likelihood):
    rows = torch.tensor([[0.0, 3.0], [0.0, 3.0], [1.0, 3.0], [3.0, math.nan]])
    module = likelihood.build((2,))
    zero = torch.zeros(module.param_shape)
    x = torch.arange(4.0)
    assert torch.allclose(rows_of(module(zero), x).exp(), torch.tensor(0.25))
    module.calibrate(rows.nanmean(0), torch.ones(2))  # without rows there is nothing to learn
    assert torch.allclose(rows_of(module(zero), x).exp(), torch.tensor(0.25))
    module.calibrate(rows.nanmean(0), torch.ones(2), rows)
    expected = torch.tensor([[2.25, 1.25, 0.25, 1.25], [0.25, 0.25, 0.25, 3.25]])
    expected = expected / expected.sum(1, keepdim=True)
    assert torch.allclose(rows_of(module(zero), x).exp(), expected.T, atol=1e-6)


def test_the_optimal_scale_is_the_mean_squared_error():
    module = Gaussian(scale="optimal").build((3,)).double()
    h, x = randn(7, 5, 3).requires_grad_(), 2 * randn(5, 3, seed=1)
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[1, 2] = mask[4, 0] = False
    module.train()
    p = module.adapt(module(h), x, mask)
    square = (x - h.detach()) ** 2
    expected = square[:, mask].mean()
    assert torch.allclose(p.variance, expected.expand(7, 5, 3))
    assert module.variance.item() == pytest.approx(0.95 + 0.05 * expected.item())
    best = p.log_prob(x)[:, mask].sum()
    for factor in (0.9, 1.1):
        worse = torch.distributions.Normal(h, factor * expected.sqrt(), validate_args=False)
        assert worse.log_prob(x)[:, mask].sum() < best
    # The gradient is that of the profile likelihood −n/2 log Σ r².
    best.backward()
    other = h.detach().clone().requires_grad_()
    (-0.5 * mask.sum() * 7 * ((x - other) ** 2)[:, mask].sum().log()).backward()
    assert torch.allclose(h.grad, other.grad * mask)
    whole_batch = module.adapt(module(h), x, None)
    assert torch.allclose(whole_batch.variance, square.mean().expand(7, 5, 3))
    module.adapt(module(h), x * math.inf, None)
    assert torch.isfinite(module.variance)
    exact = module.adapt(module(x.expand(7, 5, 3)), x, None)
    assert torch.allclose(exact.stddev, torch.tensor(1e-3, dtype=DTYPE))
    module.eval()
    before = module.variance.clone()
    q = module(h)
    assert module.adapt(q, x, mask) is q
    assert torch.allclose(q.variance, before)
    assert torch.equal(module.variance, before)


def test_other_likelihoods_do_not_adapt():
    module = Gaussian().build((3,)).train()
    p = module(torch.zeros(2, 3))
    assert module.adapt(p, torch.ones(2, 3), None) is p


def test_bounded():
    raw = torch.tensor([-1e6, -1e-3, 0.0, 1e-3, 1e6], dtype=DTYPE)
    assert torch.allclose(bounded(raw, 3.0, 2.0), torch.tensor([-2, -1e-3, 0, 1e-3, 3]).to(DTYPE))
    assert torch.allclose(bounded(raw, 3.0)[[0, 4]], torch.tensor([-3.0, 3.0]).to(DTYPE))


def test_fields_are_checked():
    for make in (
        lambda: Categorical(n_categories=1),
        lambda: Ordinal(n_categories=2),
        lambda: Categorical(n_categories=2.0),
        lambda: DiscretizedLogisticMixture(n_mixtures=0),
        lambda: DiscretizedLogisticMixture(n_mixtures=True),
    ):
        with pytest.raises(ParameterError, match=r"must be an integer >= .; received"):
            make()
    with pytest.raises(TypeError, match="n_categories"):
        Poisson(n_categories=3)


# -- data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likelihood", "value", "message"),
    [
        (
            ContinuousBernoulli(),
            1.5,
            r"X\[1, 2\] = 1.5, .*'continuous_bernoulli'.*\[0, 1\].*Divide",
        ),
        (Beta(), 0.0, r"X\[1, 2\] = 0, .*'beta'.*values in \(0, 1\).*continuous_bernoulli"),
        (Beta(), 1.0, r"X\[1, 2\] = 1, .*values in \(0, 1\).*\* \(n - 1\)"),
        (LogNormal(), 0.0, r"X\[1, 2\] = 0, .*values in \(0, inf\).*logarithm"),
        (LogNormal(), -2.0, r"Negative values in data.*X\[1, 2\] = -2, .*Shift"),
        (Poisson(), 0.5, r"X\[1, 2\] = 0.5, .*'poisson'.*whole numbers in \[0, inf\).*Round"),
        (NegativeBinomial(), -1.0, r"Negative values in data.*whole numbers"),
        (ZeroInflatedPoisson(), 1.5, r"'zero_inflated_poisson'.*whole numbers"),
        (ZeroInflatedNegativeBinomial(), 1.5, "whole numbers"),
        (Categorical(n_categories=3), 3.0, r"X\[1, 2\] = 3, .*whole numbers in \[0, 2\].*found 1"),
        (Categorical(n_categories=3), 0.5, r"from 0 to n_categories - 1 = 2"),
        (Ordinal(n_categories=4), 4.0, r"'ordinal'.*\[0, 3\].*n_categories - 1 = 3"),
        (DiscretizedLogisticMixture(), 256.0, r"X\[1, 2\] = 256, .*\[0, 255\].*Give bytes"),
        (DiscretizedLogisticMixture(), 0.5, "whole numbers"),
    ],
)
def test_data_outside_the_support_are_refused(likelihood, value, message):
    inside = 0.5 if not likelihood.support.integral else 1.0
    X = np.full((3, 4), inside)
    X[2, 0] = np.nan  # a missing cell breaks no rule
    check_support(X, likelihood.support, likelihood.name)
    X[1, 2] = value
    with pytest.raises(DataError, match=message):
        check_support(X, likelihood.support, likelihood.name)


def test_geometric_mean_as_unit():
    X = np.exp(np.random.default_rng(0).normal(size=(20000, 2))) * [1e12, 1e-280]
    transform = Transform.fit(X, "scale")
    assert np.allclose(np.log(transform.unit), np.log(X).mean(0))
    assert transform.shift.tolist() == [0, 0]
    assert np.allclose(transform.decode(transform.encode(X, DTYPE)), X, rtol=1e-14)


# -- through the estimator ------------------------------------------------------------------------


def table(case):
    """60 rows of 4 cells that suit the likelihood."""
    g = np.random.default_rng(0)
    name = case.likelihood.name
    level = g.normal(size=(60, 1)) + 0.3 * g.normal(size=(60, 4))
    if name in ("gaussian", "student_t", "laplace"):
        return 1e3 * level + [1e6, 0, 0, 0]
    if name == "log_normal":
        return np.exp(level) * [1e9, 1, 1e-9, 1e-30]
    if name in ("beta", "continuous_bernoulli"):
        return 1 / (1 + np.exp(-level))
    if name == "bernoulli":
        return (level > 0).astype(float)
    if name == "categorical":
        return np.clip(np.round(level + 1.5), 0, 3)
    if name == "ordinal":
        return np.clip(np.round(level + 1.5), 0, case.likelihood.n_categories - 1)
    if name == "discretized_logistic_mixture":
        return np.clip(np.round(60 * level + 128), 0, 255)
    return g.poisson(np.exp(level) * [1, 3, 7, 150]).astype(float)


def fitted(case, X):
    return VAE(
        n_components=2,
        likelihood=case.likelihood,
        hidden_layer_sizes=(8,),
        max_epochs=2,
        random_state=0,
    ).fit(X)


@each
def test_a_short_fit(case):
    X = table(case)
    vae = fitted(case, X)
    assert vae.likelihood_ == case.likelihood
    scores = vae.score_samples(X, n_samples=5)
    assert np.isfinite(scores).all()
    assert np.isfinite(vae.history_["train_elbo"]).all()
    sample = vae.sample(200, random_state=1)
    check_support(sample, case.likelihood.support, "a sample")
    assert np.isfinite(sample).all()
    assert (sample.std(0) > 0).all()
    assert np.isfinite(vae.inverse_transform(vae.transform(X))).all()
    # Two passes do not learn much, but the start is already of the data's size.
    middle = vae.inverse_transform(np.zeros((1, 2)))[0]
    assert (np.abs(middle - np.median(X, 0)) < 2 * X.std(0)).all()


@pytest.mark.parametrize("case", CASES, ids=repr)
def test_holes_are_filled_with_values_of_the_support(case):
    X = table(case)
    vae = fitted(case, X)
    holes = X[:6].copy()
    holes[[0, 1, 2, 3, 3], [0, 1, 2, 0, 3]] = np.nan
    hidden = np.isnan(holes)
    mean = vae.impute(holes, n_samples=18)
    assert np.array_equal(mean[~hidden], holes[~hidden])
    assert np.isfinite(mean).all()
    draws = vae.impute(holes, n_draws=3, n_samples=18, random_state=0)
    assert draws.shape == (3, 6, 4)
    for draw in draws:
        check_support(draw, case.likelihood.support, "a draw")
        assert np.array_equal(draw[~hidden], holes[~hidden])


def test_the_optimal_scale_is_learned_in_training():
    X = np.random.default_rng(0).normal(size=(200, 1)) @ np.ones((1, 4))
    vae = VAE(
        n_components=1,
        likelihood=Gaussian(scale="optimal"),
        hidden_layer_sizes=(),
        max_epochs=60,
        learning_rate=0.02,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    residual = (vae.inverse_transform(vae.transform(X)) - X) / X.std()
    variance = vae._core.module.likelihood.variance.item()
    assert variance < 0.2
    assert variance > 0.5 * np.mean(residual**2)


def test_log_normal_scores_in_data_units():
    X = np.exp(np.random.default_rng(0).normal(size=(60, 2)))
    case = next(c for c in CASES if c.likelihood.name == "log_normal")
    c = 2.0**40
    difference = fitted(case, X).score(X) - fitted(case, c * X).score(c * X)
    assert difference == pytest.approx(2 * math.log(c), abs=1e-2)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_limits_of_scales_and_precisions(sign):
    """Lower and upper limits differ, and each is where it is meant to be."""
    beta, log_normal = Beta().build((2,)), LogNormal().build((2,))
    with torch.no_grad():
        beta.raw_precision.fill_(sign * 1e6)
        log_normal.raw_scale.fill_(sign * 1e6)
    h = torch.zeros(1, 2)
    assert torch.allclose(beta(h).precision, torch.tensor(2e3 if sign > 0 else 0.2))
    assert torch.allclose(log_normal(h).scale, torch.tensor(5.0 if sign > 0 else 1e-3))
    images = DiscretizedLogisticMixture(n_mixtures=2).build((3,))
    start, up, down = images.LOG_SCALE
    scale = images(torch.full((1, 6, 3), sign * 1e6)).scale
    limit = math.exp(start + up) if sign > 0 else math.exp(start - down)
    assert torch.allclose(scale, torch.tensor(limit))


def test_the_fast_bernoulli_is_torchs_with_gradients_of_both_orders():
    generator = torch.Generator().manual_seed(0)
    logits = (5 * torch.randn(3, 4, 6, generator=generator)).double().requires_grad_()
    x = torch.rand(4, 6, generator=generator).double().requires_grad_()
    ours = families.Bernoulli(logits)
    reference = torch.distributions.Bernoulli(logits=logits, validate_args=False)
    assert torch.allclose(ours.log_prob(x), reference.log_prob(x.expand(3, 4, 6)), atol=1e-13)
    with rng.isolated(0):  # the checks draw directions from the global generator
        torch.autograd.gradcheck(lambda a, b: families.Bernoulli(a).log_prob(b), (logits, x))
        torch.autograd.gradgradcheck(lambda a, b: families.Bernoulli(a).log_prob(b), (logits, x))
    one = families.Bernoulli(logits[0, 0])  # points may have more axes than the parameters
    assert torch.allclose(one.log_prob(x), one.log_prob(x.expand(4, 6)))
    (gradient,) = torch.autograd.grad(one.log_prob(x).sum(), logits)
    (wanted,) = torch.autograd.grad(
        torch.distributions.Bernoulli(logits=logits[0, 0], validate_args=False)
        .log_prob(x.detach())
        .sum(),
        logits,
    )
    assert torch.allclose(gradient, wanted)


@pytest.mark.parametrize("logit", [-1e4, -200.0, 0.0, 200.0, 1e4])
def test_the_fast_bernoulli_at_extreme_logits(logit):
    logits = torch.tensor([logit, logit], requires_grad=True)
    log_p = families.Bernoulli(logits).log_prob(torch.tensor([0.0, 1.0]))
    half = math.log(2) if logit == 0 else 0.0
    assert torch.allclose(log_p, torch.tensor([-max(logit, 0.0) - half, min(logit, 0.0) - half]))
    log_p.sum().backward()
    assert torch.isfinite(logits.grad).all()
