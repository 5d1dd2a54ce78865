"""Data that are not missing at random: quadrature, the model of the mask, and the δ-shift."""

import math
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from scipy.special import expit, log_expit, logit
from torch import tensor
from torch.distributions import Gamma, Laplace, Normal
from torch.nn import functional as F

from skvae import VAEImputer, distributions, families, load, networks, rng
from skvae.evidence import Batch
from skvae.exceptions import ModelFileError, NotIdentifiedWarning, ParameterError
from skvae.importance import log_marginal
from skvae.likelihoods import Bernoulli, Columns, Gaussian, Poisson, StudentT
from skvae.likelihoods import Laplace as LaplaceCells
from skvae.missingness import Missingness, SelfMasking
from skvae.models import Assembly
from skvae.networks import Table
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.quadrature import COARSE, FINE, Nodes, Tilted, nodes

F64 = torch.float64

LOC = tensor([[0.3, -1.2, 0.0], [2.0, 0.1, -0.4]], dtype=F64)
SCALE = tensor([0.5, 1.3, 0.8], dtype=F64)
DF = tensor([2.6, 5.0, 40.0], dtype=F64)
SLOPE = tensor([2.5, -1.7, 0.6], dtype=F64)
INTERCEPT = tensor([0.4, -1.1, 0.8], dtype=F64)

FAMILIES = {
    "normal": (
        Normal(LOC, SCALE, validate_args=False),
        lambda i, j: stats.norm(float(LOC[i, j]), float(SCALE[j])),
    ),
    "student_t": (
        families.StudentT(DF, LOC, SCALE),
        lambda i, j: stats.t(float(DF[j]), float(LOC[i, j]), float(SCALE[j])),
    ),
    "laplace": (
        Laplace(LOC, SCALE, validate_args=False),
        lambda i, j: stats.laplace(float(LOC[i, j]), float(SCALE[j])),
    ),
}
TOLERANCE = {"normal": 1e-6, "student_t": 1e-5, "laplace": 2e-3}


def log_missing(x):
    return F.logsigmoid(SLOPE * x + INTERCEPT)


def p_missing(x, j):
    return expit(float(SLOPE[j]) * x + float(INTERCEPT[j]))


def integral(function, law, end=np.inf):
    """Integrate from minus infinity, cut at the median, where a density may have a kink."""
    middle, width = law.median(), law.ppf(0.75) - law.median()
    cuts = [-np.inf, *(middle + width * np.array([-30, -3, 0, 3, 30])), np.inf]
    return sum(
        integrate.quad(function, low, min(high, end), epsabs=1e-12, limit=200)[0]
        for low, high in pairwise(cuts)
        if low < end
    )


# -- quadrature ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_expected_probability_of_a_hidden_cell_is_its_integral(name):
    p, law = FAMILIES[name]
    found = nodes(p).log_expectation(log_missing)
    for i, j in np.ndindex(2, 3):
        one = law(i, j)
        value = integral(lambda x, one=one, j=j: one.pdf(x) * p_missing(x, j), one)
        assert float(found[i, j]) == pytest.approx(math.log(value), abs=TOLERANCE[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_the_mean_of_a_hidden_cell_is_its_integral(name):
    p, law = FAMILIES[name]
    columns = tensor([2, 1])
    tilted = Tilted(p, columns, lambda x: log_missing_of(x, columns))
    for i, j in np.ndindex(2, 3):
        one = law(i, j)
        found = float(tilted.mean[i, j])
        if j == 0:
            assert found == float(LOC[i, 0])
            continue
        total = integral(lambda x, one=one, j=j: one.pdf(x) * p_missing(x, j), one)
        first = integral(lambda x, one=one, j=j: x * one.pdf(x) * p_missing(x, j), one)
        assert found == pytest.approx(first / total, abs=max(1e-4, TOLERANCE[name]))


def log_missing_of(x, columns):
    return F.logsigmoid(SLOPE[columns] * x + INTERCEPT[columns])


def test_steep_probabilities_are_right_to_what_is_documented():
    for slope, error in ((4.0, 2e-5), (10.0, 1e-3), (20.0, 5e-3)):
        for b in np.linspace(-2.5, 2.5, 11):
            p = Normal(torch.zeros(1, 1, dtype=F64), torch.ones((), dtype=F64))
            found = nodes(p).log_expectation(lambda x, a=slope, b=b: F.logsigmoid(a * (x - b)))
            z = np.linspace(-9, 9, 200_001)
            exact = integrate.trapezoid(stats.norm.pdf(z) * expit(slope * (z - b)), z)
            assert float(found.exp()) == pytest.approx(exact, abs=error)


def test_a_constant_has_its_own_mean_whatever_the_law():
    for p, _ in FAMILIES.values():
        found = nodes(p).log_expectation(lambda x: torch.full_like(x, -2.5))
        torch.testing.assert_close(found, torch.full((2, 3), -2.5, dtype=F64))
        torch.testing.assert_close(nodes(p).mean(torch.zeros_like), LOC)


def test_grids_are_equidistant_in_v_and_as_long_as_their_tails():
    for (p, _), reach in zip(FAMILIES.values(), (2.75, 6.0, 4.25), strict=True):
        for step in (COARSE, FINE):
            grid = nodes(p, step)
            half = math.ceil(reach / step)
            expected = step * torch.arange(-half, half + 1, dtype=F64)
            torch.testing.assert_close(grid.v, expected)
            assert grid.log_weight.shape == (len(expected), 3)


def test_gradients_of_the_expectation_reach_location_scale_and_tails():
    loc, scale, df = LOC.clone(), SCALE.clone(), DF.clone()
    parameters = [part.requires_grad_() for part in (df, loc, scale)]

    def value(*parts):
        return nodes(families.StudentT(*parts)).log_expectation(log_missing)

    assert torch.autograd.gradcheck(value, parameters)


def test_many_cells_are_computed_in_parts_with_the_same_result(monkeypatch):
    p, _ = FAMILIES["student_t"]
    u = torch.rand(2, 3, dtype=F64, generator=rng.generator(0))

    def results():
        grid = nodes(p)
        return [
            grid.log_expectation(log_missing),
            grid.mean(log_missing),
            grid.quantile(log_missing, u),
        ]

    whole = results()
    monkeypatch.setattr("skvae.quadrature.POINTS_PER_CALL", 1)
    for one, part in zip(whole, results(), strict=True):
        torch.testing.assert_close(one, part)


def test_cells_without_a_rule_are_refused():
    with pytest.raises(ParameterError, match=r"no quadrature for a Gamma.*nodes\.register"):
        nodes(Gamma(torch.ones(2), torch.ones(2)))


@pytest.mark.parametrize("name", FAMILIES)
def test_quantiles_invert_the_distribution_function(name):
    p, law = FAMILIES[name]
    u = tensor([0.02, 0.3, 0.5, 0.77, 0.99], dtype=F64).view(-1, 1, 1).expand(5, 2, 3)
    found = nodes(p, FINE).quantile(log_missing, u)
    assert found.shape == (5, 2, 3)
    for i, j in np.ndindex(2, 3):
        one = law(i, j)

        def density(x, one=one, j=j):
            return one.pdf(x) * p_missing(x, j)

        total = integral(density, one)
        for k in range(5):
            below = integral(density, one, float(found[k, i, j]))
            assert below / total == pytest.approx(float(u[k, i, j]), abs=2e-3)


def test_quantiles_are_finite_at_the_ends_and_for_impossible_factors():
    p, _ = FAMILIES["student_t"]
    for u in (0.0, 1 - 1e-16):
        for factor in (log_missing, lambda x: -1e6 * (x - 3).abs()):
            found = nodes(p, FINE).quantile(factor, torch.full((2, 3), u, dtype=F64))
            assert torch.isfinite(found).all()
    narrow = nodes(p, FINE).quantile(
        lambda x: -1e4 * (x - 1).abs(), torch.full((2, 3), 0.5, dtype=F64)
    )
    assert (narrow - 1).abs().max() < 0.2


def test_a_tilted_density_is_normalised_and_proportional():
    p, law = FAMILIES["student_t"]
    columns = tensor([1])
    tilted = Tilted(p, columns, lambda x: log_missing_of(x, columns))
    x = torch.linspace(-3, 3, 7, dtype=F64).view(-1, 1, 1).expand(7, 2, 3)
    found = tilted.log_prob(x)
    assert found.shape == (7, 2, 3)
    base = p.log_prob(x)
    torch.testing.assert_close(found[..., [0, 2]], base[..., [0, 2]])
    for i in range(2):
        one = law(i, 1)
        total = integral(lambda v, one=one: one.pdf(v) * p_missing(v, 1), one)
        expected = one.logpdf(x[:, i, 1]) + np.log(p_missing(x[:, i, 1].numpy(), 1) / total)
        np.testing.assert_allclose(found[:, i, 1], expected, atol=1e-5)


def test_draws_follow_the_tilted_law():
    p, _ = FAMILIES["normal"]
    columns = tensor([0, 1])
    tilted = Tilted(p, columns, lambda x: log_missing_of(x, columns))
    x = distributions.draw(tilted, (20_000,), rng.Sequential(rng.generator(3)))
    assert x.shape == (20_000, 2, 3)
    torch.testing.assert_close(x.mean(0), tilted.mean, atol=0.04, rtol=0)
    torch.testing.assert_close(x[..., 2].std(0), SCALE[[2, 2]], atol=0.02, rtol=0)
    for i, j in np.ndindex(2, 2):
        grid = np.linspace(-9, 9, 20_001)
        density = stats.norm.pdf(grid, float(LOC[i, j]), float(SCALE[j])) * p_missing(grid, j)
        cdf = integrate.cumulative_trapezoid(density, grid, initial=0)
        cdf /= cdf[-1]
        found = stats.kstest(x[:, i, j].numpy(), lambda v, c=cdf, g=grid: np.interp(v, g, c))
        assert found.statistic < 0.014  # the 0.1 % point


def test_draws_of_a_row_do_not_depend_on_its_company():
    columns = tensor([1, 2])
    rows = tensor([[1.0], [2.0]], dtype=F64)

    def drawn(keep):
        p = Normal(LOC[keep], SCALE, validate_args=False)
        tilted = Tilted(p, columns, lambda x: log_missing_of(x, columns))
        return distributions.draw(tilted, (4,), rng.PerRow(rows[keep], 5))

    torch.testing.assert_close(drawn([0, 1])[:, 1], drawn([1])[:, 0])
    assert not torch.isclose(drawn([0, 1])[0], drawn([0, 1])[1]).any()


# -- the choice ---------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [(), (1, 1), (-1,), (1.0,), (True,), 2, "0"], ids=repr)
def test_columns_that_are_no_distinct_places_are_refused(columns):
    with pytest.raises(ParameterError, match=r"SelfMasking: columns must be None or a tuple"):
        SelfMasking(columns)


def test_an_unknown_sign_is_refused_with_the_closest_one():
    with pytest.raises(ParameterError, match=r"sign='hi' is not known.*'any', 'high', 'low'"):
        SelfMasking(sign="hi")
    with pytest.raises(ParameterError, match="Did you mean 'high'"):
        SelfMasking(sign="hihg")


MIXED = Columns((Gaussian(), Bernoulli(), StudentT("per_cell"), Poisson(), LaplaceCells()))


def test_only_real_numbers_hide_themselves():
    module = SelfMasking().build(MIXED, (5,))
    assert module.column.tolist() == [0, 2, 4]
    assert SelfMasking((4, 0)).build(MIXED, (5,)).column.tolist() == [0, 4]
    assert SelfMasking().build(Gaussian(), (3,)).column.tolist() == [0, 1, 2]
    for columns in ((1,), (0, 3), (5,)):
        with pytest.raises(ParameterError, match=r"must be columns of real numbers.*\[0, 2, 4\]"):
            SelfMasking(columns).build(MIXED, (5,))
    with pytest.raises(ParameterError, match="must be columns of real numbers"):
        SelfMasking().build(Bernoulli(), (3,))
    with pytest.raises(ParameterError, match=r"columns of a table.*shape \(1, 2, 2\)"):
        SelfMasking().build(Gaussian(), (1, 2, 2))


def test_columns_of_a_table_become_those_that_are_modelled():
    places = (0, 2, 3, 5, 6)  # the table has a text column in between
    assert SelfMasking().of_table(MIXED, places, (1, 2, 4)) == SelfMasking((2, 4))
    assert SelfMasking(sign="low").of_table(MIXED, places, (0,)) == SelfMasking((0,), "low")
    assert SelfMasking().of_table(MIXED, places, (1, 3)) is None
    assert SelfMasking().of_table(MIXED, places, ()) is None
    assert SelfMasking((6, 3), "high").of_table(MIXED, places, ()) == SelfMasking((4, 2), "high")
    with pytest.raises(ParameterError, match=r"columns \[1, 2\] do not hold.*do: \[0, 3, 6\]"):
        SelfMasking((0, 2, 1)).of_table(MIXED, places, (0,))


def test_slopes_start_undecided_or_with_their_sign_and_are_bounded():
    for sign, start in (("any", 0.0), ("high", math.log(2)), ("low", -math.log(2))):
        module = SelfMasking(sign=sign).build(Gaussian(), (2,)).double()
        expected = 20 * math.tanh(start / 20)
        np.testing.assert_allclose(module.slope.detach(), [expected] * 2, atol=1e-7)
        with torch.no_grad():
            module.raw_slope.copy_(tensor([0.3, -1e4]))
        raw = {"any": (3.0, -1e5), "high": (3.0485873, 0.0), "low": (-3.0485873, 0.0)}[sign]
        np.testing.assert_allclose(module.slope.detach(), 20 * np.tanh(np.divide(raw, 20)))


def test_the_intercept_starts_from_the_share_of_missing_cells():
    module = SelfMasking((0, 2)).build(Gaussian(), (3,)).double()
    rows = torch.ones(9, 3)
    rows[:4, 2] = torch.nan
    rows[:8, 1] = torch.nan
    module.calibrate(rows)
    np.testing.assert_allclose(module.intercept.detach(), logit([0.05, 0.45]), rtol=1e-6)


# -- in a model ---------------------------------------------------------------------------


def model(likelihood, missingness, width, seed=0):
    module = Assembly(
        event_shape=(width,),
        n_components=1,
        likelihood=likelihood,
        posterior=Diagonal(),
        prior=Standard(),
        network=Table(()),
        missingness=missingness,
    ).build(seed)
    return module.double().eval()


def set_mask(module, slope, intercept):
    """Set a and c; slopes are far below their bound."""
    own = module.missingness
    with torch.no_grad():
        own.raw_slope.copy_(20 * torch.atanh(tensor(slope, dtype=F64) / 20) / own.GAIN)
        own.raw_intercept.copy_(tensor(intercept, dtype=F64) / own.GAIN)


def mixed(slope=(1.5, -0.8, 2.0), intercept=(-0.3, 0.2, 0.5)):
    module = model(MIXED, SelfMasking(), 5)
    set_mask(module, slope, intercept)
    x = tensor([[0.5, 1, -0.7, 3, 0.2], [1.5, 0, 0.3, 0, -2.0]], dtype=F64)
    mask = tensor([[True, False, True, False, True], [False, True, True, True, False]])
    z = torch.randn(3, 2, 1, dtype=F64, generator=rng.generator(1))
    return module, x, mask, z


def laws(module, z):
    """Return p(x | z) of the three columns of real numbers as SciPy's laws, by (k, b)."""
    p = module.generate(z)
    by_column = {int(j): (cells, i) for index, cells in p.parts for i, j in enumerate(index)}
    out = {}
    for k, b in np.ndindex(*z.shape[:2]):
        gaussian, student, laplace = (
            {
                name: float(getattr(cells, name).expand(*z.shape[:2], -1)[k, b, i])
                for name in ("loc", "scale", "df")
                if hasattr(cells, name)
            }
            for cells, i in (by_column[j] for j in (0, 2, 4))
        )
        out[k, b] = stats.norm(**gaussian), stats.t(**student), stats.laplace(**laplace)
    return out


def test_the_mask_adds_its_log_probability_to_that_of_the_cells():
    module, x, mask, z = mixed()
    at_random = model(MIXED, None, 5)
    at_random.load_state_dict(
        {k: v for k, v in module.state_dict().items() if not k.startswith("missingness")}
    )
    with torch.no_grad():
        full, prior = module.log_joint(Batch(x, mask), z)
        plain, plain_prior = at_random.log_joint(Batch(x, mask), z)
    torch.testing.assert_close(prior, plain_prior)
    slope, intercept = (1.5, -0.8, 2.0), (-0.3, 0.2, 0.5)
    with torch.no_grad():
        own_laws = laws(module, z)
    for (k, b), own in own_laws.items():
        expected = 0.0
        for law, j, a, c in zip(own, (0, 2, 4), slope, intercept, strict=True):
            if mask[b, j]:
                expected += log_expit(-(a * float(x[b, j]) + c))
            else:
                expected += math.log(
                    integral(lambda v, law=law, a=a, c=c: law.pdf(v) * expit(a * v + c), law)
                )
        assert float(full[k, b] - plain[k, b]) == pytest.approx(expected, abs=1e-3)


def test_what_a_hidden_cell_holds_does_not_matter():
    module, x, mask, z = mixed()
    other = torch.where(mask, x, torch.nan)
    one, two = (module.log_joint(Batch(part, mask), z)[0] for part in (x, other))
    torch.testing.assert_close(one, two)
    two.sum().backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_without_a_mask_all_cells_are_observed():
    module, x, _, z = mixed()
    without = module.log_joint(Batch(x), z)[0]
    full = module.log_joint(Batch(x, torch.ones_like(x, dtype=torch.bool)), z)[0]
    torch.testing.assert_close(without, full)
    assert without.shape == (3, 2)


def test_where_the_slope_is_zero_the_mask_only_adds_a_constant():
    module, x, mask, _ = mixed(slope=(0.0, 0.0, 0.0))
    evidence = module.evidence(Batch(x, mask), 6, rng.Sequential(rng.generator(0)))
    module.missingness = None
    plain = module.evidence(Batch(x, mask), 6, rng.Sequential(rng.generator(0)))
    missing, observed = log_expit([-0.3, 0.2, 0.5]), log_expit([0.3, -0.2, -0.5])
    own = mask[:, [0, 2, 4]].numpy()
    constant = np.where(own, observed, missing).sum(1)
    difference = (evidence.log_w - plain.log_w).detach().numpy()
    np.testing.assert_allclose(difference, np.tile(constant, (6, 1)), rtol=1e-12)


def test_gradients_reach_slope_and_intercept():
    module, x, mask, z = mixed()
    own = module.missingness
    module.log_joint(Batch(x, mask), z)[0].sum().backward()
    for parameter in (own.raw_slope, own.raw_intercept):
        for i in range(3):
            values = []
            for step in (1e-5, -1e-5):
                with torch.no_grad():
                    parameter[i] += step
                    values.append(float(module.log_joint(Batch(x, mask), z)[0].sum()))
                    parameter[i] -= step
            slope = (values[0] - values[1]) / 2e-5
            assert abs(slope) > 0.1
            assert float(parameter.grad[i]) == pytest.approx(slope, rel=1e-5)


def test_hidden_cells_follow_what_they_are_given_that_they_are_hidden():
    module, x, mask, z = mixed()
    with torch.no_grad():
        p, hidden = module.generate(z), module.hidden(Batch(x, mask), z)
        mean = hidden.mean
        statistics = module.likelihood.statistics(hidden)
        log_prob = hidden.log_prob(x)
        own_laws = laws(module, z)
    torch.testing.assert_close(mean[..., [1, 3]], p.mean[..., [1, 3]])
    slope, intercept = (1.5, -0.8, 2.0), (-0.3, 0.2, 0.5)
    for (k, b), own in own_laws.items():
        for law, j, a, c in zip(own, (0, 2, 4), slope, intercept, strict=True):
            total = integral(lambda v, law=law, a=a, c=c: law.pdf(v) * expit(a * v + c), law)
            first = integral(lambda v, law=law, a=a, c=c: v * law.pdf(v) * expit(a * v + c), law)
            assert float(mean[k, b, j]) == pytest.approx(first / total, abs=1e-3)
            at = float(x[b, j])
            density = law.logpdf(at) + log_expit(a * at + c) - math.log(total)
            assert float(log_prob[k, b, j]) == pytest.approx(density, abs=2e-3)
    assert module.likelihood.pool([(statistics[0], torch.ones(()))]).shape == (2, 5)
    target = Batch(x, ~mask)
    expected = torch.where(~mask, log_prob, 0).sum(-1)
    module.log_unit.fill_(0.3)
    scored = module.log_hidden(Batch(x, mask), z, target)
    torch.testing.assert_close(scored, expected - 0.3 * (~mask).sum(-1))


def test_one_likelihood_for_all_columns_works_alike():
    module = model(Gaussian(), SelfMasking((2, 0)), 3)
    set_mask(module, (1.0, -2.0), (0.1, 0.4))  # of columns 0 and 2
    z = tensor([[[0.4]]], dtype=F64)
    x, mask = torch.zeros(1, 3, dtype=F64), tensor([[False, False, True]])
    with torch.no_grad():
        p = module.generate(z)
        hidden = module.hidden(Batch(x, mask), z)
        both, _ = module.log_joint(Batch(x, mask), z)
    law = stats.norm(float(p.loc[0, 0, 0]), float(p.scale[0, 0, 0]))
    total = integral(lambda v: law.pdf(v) * expit(v + 0.1), law)
    expected = float(p.log_prob(x)[0, 0, 2]) + math.log(total) + log_expit(-0.4)
    assert float(both) == pytest.approx(expected, abs=1e-6)
    first = integral(lambda v: v * law.pdf(v) * expit(v + 0.1), law) / total
    assert float(hidden.mean[0, 0, 0]) == pytest.approx(first, abs=1e-5)
    assert float(hidden.mean[0, 0, 1]) == float(p.loc[0, 0, 1])


def test_the_bound_comes_to_the_integral_over_everything_that_is_hidden():
    module = model(Gaussian(), SelfMasking((0,)), 2)
    set_mask(module, (3.0,), (-0.5,))
    with torch.no_grad():
        module.decoder[1].weight.copy_(tensor([[0.9], [-0.6]]))
        module.decoder[1].bias.copy_(tensor([0.2, 0.1]))
        module.likelihood.raw_scale.copy_(tensor([-0.5, -0.9]))
    scale = module.likelihood(torch.zeros(2, dtype=F64)).scale.detach().numpy()
    x = tensor([[0.0, 0.8], [1.1, 0.8]], dtype=F64)
    mask = tensor([[False, True], [True, True]])
    z, v = np.linspace(-7, 7, 601)[:, None], np.linspace(-8, 8, 801)
    joint = stats.norm.pdf(z) * stats.norm.pdf(0.8, 0.1 - 0.6 * z, scale[1])
    hidden = joint * stats.norm.pdf(v, 0.2 + 0.9 * z, scale[0]) * expit(3 * v - 0.5)
    seen = joint[:, 0] * stats.norm.pdf(1.1, 0.2 + 0.9 * z[:, 0], scale[0]) * expit(0.5 - 3.3)
    exact = [
        math.log(integrate.trapezoid(integrate.trapezoid(hidden, v, axis=1), z[:, 0])),
        math.log(integrate.trapezoid(seen, z[:, 0])),
    ]
    found = log_marginal(module, Batch(x, mask), 20_000, rng.Sequential(rng.generator(2)))
    np.testing.assert_allclose(found.log_likelihood, exact, atol=0.02)


def test_computes_in_float32_and_at_extremes():
    module = model(MIXED, SelfMasking(), 5).float()
    with torch.no_grad():
        module.missingness.raw_slope.copy_(tensor([1e4, -1e4, 0.0]))
    x = torch.full((2, 5), 1.0)
    x[1] = 1e6
    mask = tensor([[True, False, True, False, True], [False, True, False, True, False]])
    for z in (torch.zeros(2, 2, 1), torch.full((2, 2, 1), 1e4)):
        log_px, _ = module.log_joint(Batch(x, mask), z)
        assert log_px.dtype == torch.float32
        assert torch.isfinite(log_px).all()
        log_px.sum().backward()
        noise = rng.PerRow(x, 0)
        filled = module.complete(Batch(x, mask), z[0], noise)
        assert filled.dtype == torch.float32
        assert torch.isfinite(filled).all()
    assert all(torch.isfinite(p.grad).all() for p in module.missingness.parameters())


def test_a_model_file_from_before_means_missing_at_random():
    spec = model(Gaussian(), SelfMasking((1,), "high"), 3).spec
    assert Assembly.from_json(spec.to_json()) == spec
    plain = spec.replace(missingness=None)
    assert Assembly.from_json(plain.to_json()) == plain
    old = plain.to_json()
    del old["missingness"]
    assert Assembly.from_json(old) == plain
    assert plain.build(0).missingness is None
    damaged = spec.to_json()
    damaged["missingness"]["sign"] = "up"
    with pytest.raises(ModelFileError, match="sign='up'"):
        Assembly.from_json(damaged)


# -- the imputer --------------------------------------------------------------------------


def one_factor(n, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, 1)) + 0.5 * draw.normal(size=(n, 3)), draw


def quick(**kwargs):
    given = {"max_epochs": 2, "random_state": 0, "network": networks.Table(()), "n_samples": 20}
    return VAEImputer(1, **(given | kwargs))


def silently(imputer, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotIdentifiedWarning)
        return imputer.fit(X)


def test_recovers_what_hid_the_cells_and_comes_nearer_to_them():
    X, draw = one_factor(1000)
    holes = draw.random(1000) < expit(4 * (X[:, 0] - 0.3))
    Y = X.copy()
    Y[holes, 0] = np.nan
    settings = {
        "likelihoods": {"real": "gaussian"},
        "learning_rate": 0.02,
        "batch_size": 250,
        "hide": 0,
        "n_samples": 100,
    }
    fitted = {
        mnar: silently(quick(mnar=mnar, max_epochs=60, **settings), Y)
        for mnar in (None, "self_masking")
    }
    some = np.flatnonzero(holes)[:100]
    means = {mnar: one.transform(Y[some])[:, 0].mean() for mnar, one in fitted.items()}
    truth = X[some, 0].mean()
    assert truth > 0.9
    assert means[None] < truth - 0.6
    assert means["self_masking"] == pytest.approx(truth, abs=0.2)
    core = fitted["self_masking"]._members.cores[0]
    mask, shift, unit = core.module.missingness, core.transform.shift[0], core.transform.unit[0]
    slope, intercept = mask.slope.item(), mask.intercept.item()
    assert slope / unit == pytest.approx(4, abs=1.2)
    assert shift - intercept / slope * unit == pytest.approx(0.3, abs=0.15)
    draws = fitted["self_masking"].sample(Y[some], 4, random_state=0)
    drawn = np.mean([one[:, 0].mean() for one in draws])
    assert drawn == pytest.approx(means["self_masking"], abs=0.05)
    lower, upper = fitted["self_masking"].interval(Y[some], 0.9)
    inside = (lower[:, 0] <= X[some, 0]) & (X[some, 0] <= upper[:, 0])
    assert 0.75 < inside.mean() < 0.97


def test_the_mask_is_trained_after_the_cells():
    X, draw = one_factor(200)
    X[draw.random(200) < 0.3, 0] = np.nan
    for epochs in (1, 5):
        core = silently(quick(mnar="self_masking", max_epochs=epochs), X)._members.cores[0]
        mask = core.module.missingness
        assert mask.raw_slope.item() != 0
        assert all(p.requires_grad for p in mask.parameters())


def test_the_mask_stays_as_it_is_until_then():
    from skvae.callbacks import Epoch
    from skvae.estimators._train_members import Thaw

    module = model(Gaussian(), SelfMasking(), 2)
    watcher = Thaw(2)
    weights = list(module.missingness.parameters())
    watcher.fit_started(module)
    assert not any(p.requires_grad for p in weights)
    assert all(p.requires_grad for p in module.decoder.parameters())
    watcher.epoch_ended(module, Epoch(1, {}))
    assert not any(p.requires_grad for p in weights)
    watcher.epoch_ended(module, Epoch(2, {}))
    assert all(p.requires_grad for p in weights)
    watcher.fit_started(module)
    watcher.fit_ended(module)
    assert all(p.requires_grad for p in weights)
    Thaw(0).fit_started(module)
    assert all(p.requires_grad for p in weights)


def test_fit_says_that_the_model_cannot_be_checked():
    X, _ = one_factor(60)
    X[::3, 1] = np.nan
    with pytest.warns(NotIdentifiedWarning, match=r"mnar='self_masking'.*cannot be checked"):
        imputer = quick(mnar="self_masking").fit(X)
    assert imputer._members.cores[0].spec.missingness == SelfMasking((1,))
    plain = quick().fit(X)
    assert plain._members.cores[0].spec.missingness is None


def test_columns_are_named_by_their_places_in_the_table():
    X, _ = one_factor(60)
    X = np.column_stack([np.ones(60), X])  # a constant column is not modelled
    X[::3, 1] = np.nan
    chosen = SelfMasking((3, 1), "low")
    imputer = silently(quick(mnar=chosen), X)
    assert imputer._members.cores[0].spec.missingness == SelfMasking((2, 0), "low")
    assert imputer.get_params()["mnar"] is chosen
    with pytest.raises(ParameterError, match=r"columns \[0\] do not hold real numbers"):
        silently(quick(mnar=SelfMasking((0,))), X)
    with pytest.raises(ParameterError, match=r"mnar='self_mask' is not known"):
        silently(quick(mnar="self_mask"), X)
    complete = silently(quick(mnar="self_masking"), X[1:3])
    assert complete._members.cores[0].spec.missingness is None


def test_a_saved_imputer_fills_in_the_same(tmp_path):
    X, _ = one_factor(90)
    X[::3, 1] = np.nan
    imputer = silently(quick(mnar=SelfMasking(sign="low"), n_members=2), X)
    imputer.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.mnar == SelfMasking(sign="low")
    np.testing.assert_array_equal(again.transform(X), imputer.transform(X))
    for one, two in zip(again._members.cores, imputer._members.cores, strict=True):
        assert one.spec == two.spec
        assert one.module.missingness.slope.item() < 0
        torch.testing.assert_close(one.module.missingness.slope, two.module.missingness.slope)


def test_hidden_cells_are_scored_as_the_imputer_takes_them():
    X, draw = one_factor(80)
    X[draw.random(80) < 0.3, 0] = np.nan
    imputer = silently(quick(mnar="self_masking"), X)
    before = imputer.score_samples(X, rate=0.4)
    core = imputer._members.cores[0]
    with torch.no_grad():
        core.module.missingness.raw_slope.fill_(-0.3)
    after = imputer.score_samples(X, rate=0.4)
    seed = imputer._seed
    first = imputer._members.chosen(X, 0.4, seed)
    hidden = first & ~np.isnan(X)
    changed = hidden[:, 0]
    assert (before[changed] != after[changed]).all()
    # Cells above the mean are now seldom missing, so that they are not expected.
    high = changed & (X[:, 0] > np.nanmean(X[:, 0]) + 0.5) & (hidden.sum(1) == 1)
    assert high.sum() >= 2
    assert (after[high] < before[high]).all()


# -- the δ-shift --------------------------------------------------------------------------


def test_the_mean_moves_by_the_share_of_the_cells_that_are_shifted():
    X, _ = one_factor(100)
    X[:25, 1] = np.nan
    X[90:, 2] = np.nan
    imputer = quick().fit(X)
    report = imputer.sensitivity(X)
    assert report.columns == (1, 2)
    assert report.deltas == (-1.0, -0.5, 0.0, 0.5, 1.0)
    filled = imputer.transform(X)
    for i, (j, share) in enumerate(((1, 0.25), (2, 0.1))):
        expected = filled[:, j].mean() + share * np.nanstd(X[:, j]) * np.array(report.deltas)
        np.testing.assert_allclose(report.statistic[i], expected, rtol=1e-12)
    np.testing.assert_allclose(report.missing, [0.25, 0.1])
    long = report.to_dict()
    assert list(long) == ["column", "missing", "delta", "statistic"]
    assert list(long["column"]) == [1] * 5 + [2] * 5
    assert list(long["delta"]) == [*report.deltas] * 2
    np.testing.assert_array_equal(long["missing"], np.repeat([0.25, 0.1], 5))
    np.testing.assert_array_equal(long["statistic"], report.statistic.ravel())


def test_a_statistic_of_the_table_sees_one_shifted_column_at_a_time():
    import pandas as pd

    X, _ = one_factor(80)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame.loc[:19, "a"] = np.nan
    frame.loc[70:, "c"] = np.nan
    imputer = quick().fit(frame)
    seen = []

    def slope(table):
        seen.append(table)
        return np.polyfit(table["a"], table["b"], 1)[0]

    report = imputer.sensitivity(frame, deltas=[0, 2], columns=["c", "a"], statistic=slope)
    assert report.columns == ("c", "a")
    assert report.statistic.shape == (2, 2)
    assert report.statistic[0, 0] == report.statistic[0, 1] == report.statistic[1, 0]
    assert report.statistic[1, 1] != report.statistic[1, 0]
    full = imputer.transform(frame)
    pd.testing.assert_frame_equal(seen[0], full)
    moved = seen[3]["a"] - full["a"]
    np.testing.assert_allclose(moved[:20], 2 * frame["a"].std(ddof=0))
    assert (moved[20:] == 0).all()
    pd.testing.assert_frame_equal(seen[3][["b", "c"]], full[["b", "c"]])


def test_shifted_cells_stay_in_the_domain_of_their_column():
    X, _ = one_factor(60)
    X[:, 1] = expit(X[:, 1])
    X[:30, 1] = np.nan
    imputer = quick(kinds={1: ("bounded", 0, 1)}).fit(X)
    report = imputer.sensitivity(X, deltas=(-100, 100))
    rest = np.nansum(X[:, 1]) / 60
    np.testing.assert_allclose(report.statistic[0], [rest, rest + 0.5])


def test_columns_that_are_no_numbers_are_not_shifted():
    import pandas as pd

    X, draw = one_factor(60)
    frame = pd.DataFrame({"x": X[:, 0], "y": X[:, 1], "g": draw.choice(["u", "v", "w"], 60)})
    frame.loc[::4, ["x", "g"]] = None
    imputer = quick().fit(frame)
    assert imputer.sensitivity(frame).columns == ("x",)
    with pytest.raises(ParameterError, match=r"columns has 'g'.*\['x', 'y'\]"):
        imputer.sensitivity(frame, columns=["x", "g"])
    for delta in (np.nan, np.inf, "1"):
        with pytest.raises(ParameterError, match="deltas must be finite numbers"):
            imputer.sensitivity(frame, deltas=(0, delta))
    one = imputer.sensitivity(frame[:1], columns=["x"], deltas=(0, 3))
    assert one.statistic[0, 0] == one.statistic[0, 1]  # nothing is observed to measure δ by
    assert one.missing.tolist() == [1.0]


def test_cells_outside_of_the_domain_count_neither_as_observed_nor_as_imputed():
    X, _ = one_factor(60)
    X[:, 0] = np.exp(2 * X[:, 0])
    X[:20, 0] = np.nan
    imputer = quick(kinds={0: "positive"}).fit(X)
    Y = X.copy()
    Y[59, 0] = -5.0
    with pytest.warns(UserWarning, match="row 59"):
        report = imputer.sensitivity(Y, deltas=(0, 1))
    filled = imputer.transform(X)[:59, 0]
    expected = [filled.mean(), filled.mean() + 20 / 59 * X[20:59, 0].std()]
    np.testing.assert_allclose(report.statistic[0], expected, rtol=1e-9)


def test_the_report_prints_as_a_table():
    from skvae.estimators._sensitivity import Sensitivity

    report = Sensitivity(
        ("age", "bmi"), (-0.5, 1.0), np.array([[41.25, 44.0], [5, 1e6]]), np.array([0.2, 0.035])
    )
    assert str(report) == (
        "column  missing  δ = -0.5  δ = 1\n"
        "age         20%     41.25     44\n"
        "bmi          4%         5  1e+06"
    )


def test_the_families_of_choices_know_their_names():
    assert Missingness.names() == ("self_masking",)
    assert Missingness.resolve("self_masking") == SelfMasking(None, "any")
    assert isinstance(nodes(FAMILIES["normal"][0]), Nodes)
