"""The imputer against laws that are known: a linear Gaussian table, and codes that are few."""

import copy
import functools
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from skvae import VAEImputer, rng
from skvae.conditional import searched_posterior
from skvae.evidence import Batch
from skvae.exceptions import UnreliableEstimateWarning
from skvae.likelihoods import Categorical, Gaussian, Laplace
from skvae.likelihoods.base import bounded_scale
from skvae.networks import Table
from skvae.posteriors import Categorical as CategoricalPosterior

DTYPE = torch.float64
NAN = math.nan

WEIGHT = torch.tensor([[1.2, 0.3], [-0.7, 1.0], [0.9, 0.9], [0.4, -1.3]], dtype=DTYPE)
BIAS = torch.tensor([0.5, -1.0, 0.0, 0.7], dtype=DTYPE)
RAW = torch.tensor([-0.1, -0.4, -0.2, 0.3])
N = 4096
LIKELIHOOD = {"real": Gaussian("per_feature")}


class Searched:
    """The proposals that the chains of `searched_posterior` have found, for all rows."""

    def samples(self, module, batch, noise_of):
        rows = torch.arange(len(batch.x))
        yield rows, searched_posterior(module, batch, N, noise_of(rows, 0))


class SearchedImputer(VAEImputer):
    _sampler = Searched()


def table(n=40):
    """Columns of different units."""
    x = np.random.default_rng(0).normal(size=(n, 4)).clip(-1.5, 1.5)
    return x * [1.0, 0.2, 30.0, 5.0] + [0, 5.0, -40.0, 1.0]


def set_weights(core, bias=BIAS, exact=True):
    """Make a core factor analysis, with the posterior of complete rows for an encoder, or not.

    In model units, x = W z + b + σ ε.
    """
    core.module = module = core.spec.build(0).eval()
    module.log_unit.copy_(torch.from_numpy(np.log(core.transform.unit)))
    sigma = bounded_scale(RAW.double())
    values, turn = torch.linalg.eigh(WEIGHT.T @ (WEIGHT / sigma[:, None] ** 2))
    weight = WEIGHT @ turn  # z may be turned so that its posterior has independent coordinates
    precision = 1 + values
    gain = (weight / sigma[:, None] ** 2).T / precision[:, None]
    log_variance = -precision.log() + (0 if exact else 0.5)
    with torch.no_grad():
        module.likelihood.groups[0].cells.raw_scale.copy_(RAW)
        module.decoder[1].weight.copy_(weight)
        module.decoder[1].bias.copy_(bias)
        head = module.posterior.head  # reads x, and whether it is observed
        head.weight.zero_()
        head.weight[:2, :4] = gain
        head.bias[:2] = -gain @ bias + (0 if exact else 0.25)
        head.bias[2:] = 14 * torch.atanh(log_variance / 14)


def law(imputer, member=0, bias=BIAS):
    """Mean (4,) and covariance (4, 4) of a row in data units."""
    transform = imputer._members.cores[member].transform
    sigma = bounded_scale(RAW.double())
    covariance = (WEIGHT @ WEIGHT.T + torch.diag(sigma**2)).numpy()
    unit = transform.unit
    return transform.shift + unit * bias.numpy(), covariance * np.outer(unit, unit)


def conditional(law, row):
    """Mean and covariance of the missing cells of a row given the others."""
    (mean, covariance), hidden = law, np.isnan(row)
    gain = covariance[np.ix_(hidden, ~hidden)] @ np.linalg.inv(
        covariance[np.ix_(~hidden, ~hidden)]
    )
    own = covariance[np.ix_(hidden, hidden)]
    return (
        mean[hidden] + gain @ (row - mean)[~hidden],
        own - gain @ covariance[np.ix_(~hidden, hidden)],
    )


def fitted(method="auto", *, exact=True, biases=(BIAS,), n=N, kind=VAEImputer):
    imputer = kind(
        2,
        likelihoods=LIKELIHOOD,
        n_members=len(biases),
        network=Table(()),
        method="auto" if method == "searched" else method,
        n_samples=n,
        max_samples=n,
        max_epochs=1,
        calibrate=False,
        device="cpu",
        random_state=0,
    ).fit(table())
    for core, bias in zip(imputer._members.cores, biases, strict=True):
        set_weights(core, bias, exact)
    return imputer


CASES = {"importance": False, "searched": False, "gibbs": True, "metropolis": False}


@functools.cache
def case(method):
    """One imputer for each method; with a bad encoder, but for pseudo-Gibbs."""
    kind = SearchedImputer if method == "searched" else VAEImputer
    return fitted(method, exact=CASES[method], kind=kind)


METHODS = pytest.mark.parametrize("method", CASES)


def holes():
    """Rows with holes: one cell, two, three, all, and none."""
    X = table(5)
    X[0, 1] = X[1, [0, 2]] = X[2, [0, 1, 3]] = X[3] = NAN
    return X


def closed_form(imputer, X):
    """Means and standard deviations of the missing cells, 0 where observed."""
    mean, sd = X.copy(), np.zeros_like(X)
    for i, row in enumerate(X):
        hidden = np.isnan(row)
        mean[i, hidden], covariance = conditional(law(imputer), row)
        sd[i, hidden] = np.sqrt(np.diag(covariance))
    return mean, sd


@functools.cache
def told(method):
    """What a method makes of the holes, and its figures."""
    figures = case(method).reliability(holes())
    if method == "importance":  # a quarter of the draws is enough for means
        figures["effective_sample_size"] /= 4
    return case(method).transform(holes()), figures


def off(imputer, X, found, figures):
    """How many standard errors the means are off, at most."""
    expected, sd = closed_form(imputer, X)
    error = sd / np.sqrt(figures["effective_sample_size"])[:, None]
    hidden = np.isnan(X)
    return float((np.abs(found - expected)[hidden] / error[hidden]).max())


# -- means ----


@METHODS
def test_what_is_filled_in_is_the_conditional_mean(method):
    X = holes()
    imputer = case(method)
    found, figures = told(method)
    assert off(imputer, X, found, figures) < 4.5
    expected, sd = closed_form(imputer, X)
    scaled = (found - expected)[:4] / sd.max(0)
    assert np.abs(scaled).max() < 0.2  # the standard errors are no excuse


def test_with_a_bad_encoder_pseudo_gibbs_is_wrong():
    imputer = fitted("gibbs", exact=False, n=N // 2)
    X = holes()
    assert off(imputer, X, imputer.transform(X), imputer.reliability(X)) > 15


def test_observed_cells_and_complete_rows_come_back_as_they_are():
    X = holes()
    imputer = case("importance")
    seen = ~np.isnan(X)
    assert np.array_equal(imputer.transform(X)[seen], X[seen])
    for one in imputer.sample(X, 2, random_state=0):
        assert np.array_equal(one[seen], X[seen])
        assert np.isfinite(one).all()
    for end in imputer.interval(X):
        assert np.array_equal(end[seen], X[seen])


# -- draws ----


@METHODS
def test_the_cells_of_a_row_are_drawn_together(method):
    X = holes()[:4]
    imputer = case(method)
    m = 800
    draws = np.stack(imputer.sample(X, m, random_state=1))
    for i, row in enumerate(X):
        hidden = np.isnan(row)
        mean, covariance = conditional(law(imputer), row)
        sd = np.sqrt(np.diag(covariance))
        scaled = (draws[:, i, hidden] - mean) / sd
        size = 1 / (1 / m + 1 / 300)  # of what is drawn from, and of the draws
        assert np.abs(scaled.mean(0)).max() < 4.5 / math.sqrt(size)
        found = np.atleast_2d(np.cov(scaled.T))
        assert np.abs(found - covariance / np.outer(sd, sd)).max() < 0.3
    # The last row has all cells, of which these two are far from independent.
    assert abs(np.corrcoef(draws[:, 3, 1], draws[:, 3, 3])[0, 1]) > 0.5


def test_equal_rows_get_equal_means_and_different_draws():
    X = np.repeat(holes()[2:3], 2, 0)
    for method in ("importance", "metropolis"):
        imputer = copy.copy(case(method)).set_params(n_samples=256, max_samples=256)
        first, second = imputer.transform(X)
        assert np.array_equal(first, second)
        (draws,) = imputer.sample(X, 1, random_state=0)
        assert (draws[0, [0, 1, 3]] != draws[1, [0, 1, 3]]).all()


@METHODS
def test_a_row_depends_neither_on_its_place_nor_on_its_company(method):
    X = holes()
    imputer = copy.copy(case(method)).set_params(n_samples=256, max_samples=256)
    turned = [3, 1, 0, 4, 2]
    assert np.array_equal(imputer.transform(X[turned]), imputer.transform(X)[turned])
    np.testing.assert_allclose(imputer.transform(X[1:2]), imputer.transform(X)[1:2], rtol=1e-5)
    for alone, every in zip(imputer.interval(X[2:3]), imputer.interval(X), strict=True):
        np.testing.assert_allclose(alone, every[2:3], rtol=1e-5)


def test_how_draws_are_cut_into_parts_does_not_matter():
    # With 256 rows, the draws of a row are decoded in two parts; columns have their noise in turn.
    X = np.concatenate([holes()[2:3], table(255)])
    X[1:, 0] = NAN
    imputer = VAEImputer(
        2,
        likelihoods={**LIKELIHOOD, 1: Laplace()},
        network=Table(()),
        n_samples=2048,
        max_samples=2048,
        max_epochs=1,
        calibrate=False,
        device="cpu",
        random_state=0,
    ).fit(table())
    for alone, every in zip(imputer.interval(X[:1]), imputer.interval(X), strict=True):
        np.testing.assert_allclose(alone[0], every[0], rtol=1e-5)


def test_no_two_steps_share_their_noise(monkeypatch):
    imputer = fitted("importance", n=32).set_params(max_samples=512)
    with torch.no_grad():
        imputer._members.cores[0].module.posterior.head.bias[:2] += 5
    seeds = []
    per_row = rng.PerRow
    monkeypatch.setattr(rng, "PerRow", lambda x, seed: seeds.append(seed) or per_row(x, seed))
    imputer.interval(holes()[:1])
    assert len(seeds) == 4  # three rounds, and the cells
    assert len(set(seeds)) == 4


# -- laws of cells ----


@METHODS
def test_the_ends_of_intervals_are_quantiles_of_the_law(method):
    X = holes()[:4]
    imputer = case(method)
    mean, sd = closed_form(imputer, X)
    size = told(method)[1]["effective_sample_size"][:4]
    hidden = np.isnan(X)
    for coverage in (0.9, 0.5) if method in ("importance", "searched") else (0.8,):
        ends = imputer.interval(X, coverage)
        for end, p in zip(ends, ((1 - coverage) / 2, (1 + coverage) / 2), strict=True):
            q = stats.norm.ppf(p)
            error = math.sqrt(p * (1 - p)) / stats.norm.pdf(q) / np.sqrt(size)[:, None]
            found = np.divide(end - mean, sd, out=np.zeros_like(X), where=hidden)
            assert (
                np.abs(found - q)[hidden] < np.broadcast_to(4.5 * error, X.shape)[hidden]
            ).all()


def test_what_is_said_of_a_cell_is_its_law():
    X = holes()[:4]
    imputer = case("importance")
    cells = imputer.cell_distribution(X, quantiles=(0.5,))
    mean, sd = closed_form(imputer, X)
    at = cells.row, cells.column.astype(int)
    assert np.array_equal(at, np.nonzero(np.isnan(X)))
    assert np.abs((cells.mean - mean[at]) / sd[at]).max() < 0.15
    assert np.abs(cells.std / sd[at] - 1).max() < 0.1
    assert np.abs((cells.quantile[:, 0] - mean[at]) / sd[at]).max() < 0.2
    assert cells.probability.tolist() == [None] * len(cells)


def exact_scores(law, X, hidden):
    """log p(hidden | the others) of each row."""
    out = []
    for row, gone in zip(X, hidden, strict=True):
        if not gone.any():
            out.append(0.0)
            continue
        mean, covariance = conditional(law, np.where(gone, NAN, row))
        out.append(stats.multivariate_normal(mean, covariance).logpdf(row[gone]))
    return np.array(out)


@METHODS
def test_the_score_is_the_density_of_what_was_hidden(method):
    X = table(6)
    imputer = case(method)
    hidden = imputer._members.chosen(X, 0.4, imputer._seed)
    assert hidden.any(1).sum() > 3
    expected = exact_scores(law(imputer), X, hidden)
    found = imputer.score_samples(X, rate=0.4)
    some = hidden.any(1)
    assert np.isnan(found[~some]).all()
    assert np.abs(found - expected / hidden.sum(1).clip(1))[some].max() < 0.12
    if method != "importance":
        return
    hidden = imputer._members.chosen(X, 0.2, imputer._seed)
    expected = exact_scores(law(imputer), X, hidden).sum() / hidden.sum()
    assert imputer.score(X) == pytest.approx(expected, abs=0.1)


# -- members ----


def test_several_members_are_their_mixture():
    biases = (BIAS, BIAS + torch.tensor([0.0, 2.0, -1.0, 1.0], dtype=DTYPE))
    imputer = fitted("importance", biases=biases)
    laws = [law(imputer, m, bias) for m, bias in enumerate(biases)]
    X = holes()[1:3]
    found = imputer.transform(X)
    cells = imputer.cell_distribution(X, quantiles=(0.5,))
    draws = np.stack(imputer.sample(X, 401, random_state=0))
    for i, row in enumerate(X):
        hidden = np.isnan(row)
        means, covariances = zip(*(conditional(one, row) for one in laws), strict=True)
        spread = np.sqrt(np.mean([np.diag(c) for c in covariances], 0) + np.var(means, 0))
        assert np.abs((found[i, hidden] - np.mean(means, 0)) / spread).max() < 0.15
        own = cells.row == i
        assert np.abs((cells.mean[own] - np.mean(means, 0)) / spread).max() < 0.1
        assert np.abs(cells.std[own] / spread - 1).max() < 0.1
        for m in range(2):
            own_mean = draws[m::2, i][:, hidden].mean(0)
            assert np.abs((own_mean - means[m]) / spread).max() < 0.3
    assert np.abs((np.subtract(*means)) / spread).max() > 0.8  # the members do differ
    X = table(6)
    hidden = imputer._members.chosen(X, 0.4, imputer._seed)
    expected = np.logaddexp(*(exact_scores(one, X, hidden) for one in laws)) - math.log(2)
    some = hidden.any(1)
    found = imputer.score_samples(X, rate=0.4)
    assert np.abs(found - expected / hidden.sum(1).clip(1))[some].max() < 0.1


# -- how far to trust it ----


def test_what_can_be_told_of_the_draws():
    weights = told("importance")[1]
    assert list(weights) == ["effective_sample_size", "pareto_k"]
    assert ((weights["effective_sample_size"] > 50) & (weights["pareto_k"] < 0.7)).all()
    chains = told("metropolis")[1]
    assert list(chains) == ["effective_sample_size", "pareto_k", "acceptance", "r_hat"]
    assert np.isnan(chains["pareto_k"]).all()
    assert ((chains["acceptance"] > 0.1) & (chains["acceptance"] < 0.9)).all()
    assert ((chains["r_hat"] > 0.99) & (chains["r_hat"] < 1.1)).all()
    assert (told("gibbs")[1]["acceptance"] == 1).all()


def test_the_worst_of_the_members_counts():
    imputer = fitted("metropolis", biases=(BIAS, BIAS), n=256)
    set_weights(imputer._members.cores[1], exact=False)
    good, bad = (copy.copy(imputer) for _ in range(2))
    for one, core in zip((good, bad), imputer._members.cores, strict=True):
        one._members = type(imputer._members)([core])
    X = holes()[:3]
    with pytest.warns(UnreliableEstimateWarning):
        first, second, both = (one.reliability(X) for one in (good, bad, imputer))
    assert (first["acceptance"] > second["acceptance"]).all()
    for name, worse in (
        ("acceptance", np.minimum),
        ("effective_sample_size", np.minimum),
        ("r_hat", np.maximum),
    ):
        assert np.array_equal(both[name], worse(first[name], second[name]))


def test_chains_that_do_not_agree_are_told():
    imputer = fitted("metropolis", n=32)
    with torch.no_grad():
        imputer._members.cores[0].module.posterior.head.bias[:2] += 4
    with pytest.warns(UnreliableEstimateWarning, match="R̂ is above 1.1 in 100%"):
        imputer.reliability(table(3))


def test_weights_with_a_heavy_tail_are_told():
    imputer = fitted("importance", n=64)
    with torch.no_grad():
        imputer._members.cores[0].module.posterior.head.bias[:2] += 5
    with pytest.warns(UnreliableEstimateWarning, match="Pareto-k̂ is above 0.7"):
        imputer.reliability(table(3))


# -- codes ----


@pytest.mark.parametrize("method", ["importance", "metropolis"])
def test_probabilities_of_codes_are_those_of_enumeration(method):
    n = N if method == "importance" else N // 4
    generator = np.random.default_rng(0)
    X = np.stack([generator.integers(3, size=40), generator.integers(4, size=40)], 1).astype(float)
    imputer = VAEImputer(
        1,
        calibrate=False,
        kinds={0: "categorical", 1: "categorical"},
        likelihoods={"categorical": Categorical(4), 0: Categorical(3)},
        network=Table(()),
        posterior=CategoricalPosterior(3),
        objective="elbo",
        hide=0,
        method=method,
        n_samples=n,
        max_samples=n,
        max_epochs=1,
        device="cpu",
        random_state=0,
    ).fit(X)
    module = imputer._members.cores[0].module
    with torch.no_grad():
        for p in (*module.decoder.parameters(), *module.prior.parameters()):
            p.copy_(1.5 * torch.randn(p.shape, generator=rng.generator(3)))
    joint = np.empty((3, 4))  # of the two columns
    z = torch.eye(3).unsqueeze(1)  # (3, 1, 3)
    for a, b in itertools.product(range(3), range(4)):
        log_px, log_pz = module.log_joint(Batch(torch.tensor([[float(a), float(b)]])), z)
        joint[a, b] = (log_px + log_pz).exp().sum().item()
    assert joint.sum() == pytest.approx(1, abs=1e-5)
    rows = np.array([[1.0, NAN], [NAN, 2.0], [NAN, NAN]])
    laws = [joint[1], joint[:, 2], joint.sum(1), joint.sum(0)]
    cells = imputer.cell_distribution(rows)
    assert list(zip(cells.row, cells.column, strict=True)) == [(0, 1), (1, 0), (2, 0), (2, 1)]
    for found, one in zip(cells.probability, laws, strict=True):
        assert np.abs(np.array(list(found.values())) - one / one.sum()).max() < 0.06
    hidden = np.array([[False, True]])
    score, _ = imputer._members.log_scores(
        np.array([[1.0, 3.0]]), hidden, imputer._sampler, imputer._seed
    )
    assert score[0] == pytest.approx(math.log(joint[1, 3] / joint[1].sum()), abs=0.1)
    if method == "metropolis":
        return  # the rest follows from the same draws
    filled = imputer.transform(rows)
    assert filled[[0, 1, 2, 2], [1, 0, 0, 1]].tolist() == [one.argmax() for one in laws]
    draws = np.stack(imputer.sample(rows[2:], 800, random_state=0))[:, 0].astype(int)
    shares = np.zeros((3, 4))
    np.add.at(shares, (draws[:, 0], draws[:, 1]), 1 / 800)
    assert np.abs(shares - joint).max() < 0.06
