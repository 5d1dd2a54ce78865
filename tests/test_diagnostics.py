"""Pareto-k̂, the two parts of the KL, and the warnings that rest on them."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from skvae import VAE, aggregate, cli, distributions, evaluation, importance, objectives, rng
from skvae.aggregate import KLSplit, split_kl
from skvae.distributions import DiagonalMixture
from skvae.evaluation import LikelihoodReport, likelihood_bounds, likelihood_report
from skvae.evidence import Batch
from skvae.exceptions import (
    PosteriorCollapseWarning,
    SkvaeWarning,
    UnreliableEstimateWarning,
)
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.pareto import Tail, pareto_shape, tail_size
from skvae.posteriors import Diagonal, Flow, FullCovariance
from skvae.priors import Standard, Vamp
from test_ground_truth import linear_vae, ppca  # noqa: F401  a fixture


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


# -- Pareto-k̂ -------------------------------------------------------------------------------------


def slow_k(log_w):
    """k̂ of one row, as the papers write it, number by number."""
    n = len(log_w)
    m = math.ceil(min(0.2 * n - 1e-9, 3 * math.sqrt(n)))
    order = np.sort(log_w - np.max(log_w))
    cut = math.exp(order[-m - 1])
    x = [math.exp(v) - cut for v in order[-m:]]
    grid = 30 + int(math.sqrt(m))
    b, k, length = [], [], []
    for j in range(1, grid + 1):
        b.append(1 / x[-1] + (1 - math.sqrt(grid / (j - 0.5))) / (3 * x[int(m / 4 + 0.5) - 1]))
        k.append(sum(math.log(1 - b[-1] * v) for v in x) / m)
        length.append(m * (math.log(-b[-1] / k[-1]) - k[-1] - 1))
    weights = [1 / sum(math.exp(other - own) for other in length) for own in length]
    best = sum(w * v for w, v in zip(weights, b, strict=True)) / sum(weights)
    shape = sum(math.log(1 - best * v) for v in x) / m
    return (m * shape + 10 * 0.5) / (m + 10)


def k_of(log_w, chunk=7):
    """k̂ of the columns of (K, B), in chunks as they come."""
    tail = Tail(len(log_w))
    for part in torch.as_tensor(log_w).split(chunk):
        tail.add(part)
    return tail.k()


@pytest.mark.parametrize("n", [25, 31, 100, 500, 2000])
@pytest.mark.parametrize("chunk", [1, 60, 5000])
def test_k_is_that_of_the_papers(n, chunk):
    log_w = np.random.default_rng(n).normal(size=(n, 6)) * [0.1, 0.5, 1, 2, 4, 30] - 700
    expected = [slow_k(column) for column in log_w.T]
    assert np.allclose(k_of(log_w, chunk), expected, atol=1e-7)
    shuffled = np.random.default_rng(0).permutation(log_w)
    assert torch.equal(k_of(shuffled + 0.0, chunk), k_of(log_w, chunk))


def test_how_many_weights_make_the_tail():
    assert [tail_size(n) for n in (25, 26, 35, 100, 225, 500, 10_000)] == [
        5, 6, 7, 20, 45, 68, 300,
    ]  # fmt: skip


@pytest.mark.parametrize("k", [-0.3, 0.2, 0.7, 1.2])
def test_k_of_generalised_pareto_draws(k):
    """Bias and spread are those of n = 300 draws and a prior that weighs as much as ten."""
    x = stats.genpareto(k).rvs((300, 400), random_state=np.random.default_rng(1))
    found = pareto_shape(torch.tensor(np.sort(x, 0)))
    shrunk = (300 * k + 5) / 310
    assert found.mean().item() == pytest.approx(shrunk, abs=0.015)
    spread = (1 + k) / math.sqrt(300)  # of the maximum likelihood estimate, for k > −0.5
    assert found.std().item() == pytest.approx(spread, rel=0.2)
    assert torch.allclose(pareto_shape(torch.tensor(np.sort(x, 0)) * 1e-30), found, atol=1e-9)


def test_k_of_awkward_weights():
    n = 200
    log_w = torch.randn(n, 8, generator=rng.generator(0), dtype=torch.float64)
    log_w[:, 0] = -123.0  # all equal: no tail
    log_w[:, 1] = (torch.arange(n) < 3) * 0.1  # nearly all equal to the cut
    log_w[:, 2] = (torch.arange(n) < 150) * 1.0  # the whole tail is one value
    log_w[:, 3] = torch.where(torch.arange(n) == 7, 5000.0, 0.0)  # one weight is all there is
    log_w[:, 4] = torch.linspace(-9000, 0, n)  # beyond what exp can hold
    log_w[:, 5] = -torch.inf
    log_w[:, 6] = -700.0 + 1e-13 * log_w[:, 6]  # rounding
    k = k_of(log_w)
    assert k[0] == -torch.inf
    assert k[2] == -torch.inf
    assert k[5].isnan()
    assert torch.isfinite(k[[1, 3, 4, 6, 7]]).all()
    assert k[3] > 1
    assert k[4] > 1
    # Equal exceedances that are above the cut, on a grid where b = −k / σ hits 0.
    assert torch.isfinite(pareto_shape(torch.ones(100, 1, dtype=torch.float64))).all()
    assert k_of(log_w[:24]).isnan().all()
    assert torch.isfinite(k_of(log_w[:25, 7:])).all()


def test_k_of_a_proposal_that_is_too_narrow(ppca):  # noqa: F811
    """Of variance v times the posterior's, the weights have a Pareto tail with k = 1 − v."""
    W, b, X = ppca
    x = torch.tensor(X[:20])
    found = []
    for v in (1.0, 0.6, 0.25, 1.7):
        module = linear_vae(W, b)
        bound = 14.0
        with torch.no_grad():
            raw = module.posterior.head.bias[2:]
            log_variance = bound * torch.tanh(raw / bound) + math.log(v)
            raw.copy_(bound * torch.atanh(log_variance / bound))
        marginal = importance.log_marginal(module, Batch(x), 5000, rng.PerRow(x, 0))
        assert marginal.pareto_k.shape == (20,)
        found.append(marginal.pareto_k.mean().item())
    assert math.isfinite(found[0])  # rounding is all that is left of the weights' spread
    assert found[1] == pytest.approx(0.4, abs=0.08)
    assert found[2] == pytest.approx(0.75, abs=0.08)
    assert found[3] < -0.5  # bounded weights
    few = importance.log_marginal(module, Batch(x), 24, rng.PerRow(x, 0))
    assert few.pareto_k.isnan().all()


# -- the two parts of the KL ----------------------------------------------------------------------


def small(posterior=None, prior=None, d=1):
    parts = (Gaussian(), posterior or Diagonal(), prior or Standard(), MLP(()))
    module = Assembly((2,), d, *parts).build(0).double().eval()
    with torch.no_grad():
        module.posterior.head.weight[:d].mul_(2)
        module.posterior.head.weight[d:].mul_(0.5)
    return module


ROWS = torch.tensor([[0.0, 1], [2, -1], [-1.5, 0.5], [0.3, 0.2], [1, 2.5]], dtype=torch.float64)


@pytest.mark.parametrize("posterior", [Diagonal(), FullCovariance()], ids=repr)
def test_the_parts_against_quadrature(posterior):
    module = small(posterior)
    q = module.infer(Batch(ROWS))
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64)
    log_q = q.log_prob(z.view(-1, 1, 1).expand(-1, 5, 1)).detach()  # (points, rows)
    log_whole = torch.logsumexp(log_q, 1) - math.log(5)
    log_prior = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
    gap = (log_whole.exp() * (log_whole - log_prior)).sum() * 1e-3
    information = (log_q.exp() * (log_q - log_whole[:, None])).sum(0).mean() * 1e-3
    kl = distributions.kl_per_dimension(q, module.prior_distribution()).mean()
    assert (information + gap).item() == pytest.approx(kl.item(), abs=1e-6)  # the identity
    found = split_kl(module, Batch(ROWS), rng.PerRow(ROWS, 0), n_samples=20_000)
    assert found.mutual_information == pytest.approx(information.item(), abs=0.02)
    assert found.aggregate_kl == pytest.approx(gap.item(), abs=0.03)
    assert information > 0.1
    assert gap > 0.1


def test_a_vamp_prior_of_the_data_has_no_gap():
    module = small(prior=Vamp(5, learned=False), d=2)
    module.prior.calibrate(ROWS)
    found = split_kl(module, Batch(ROWS), rng.PerRow(ROWS, 0), n_samples=30)
    assert found.aggregate_kl == pytest.approx(0, abs=1e-10)
    evidence = module.evidence(Batch(ROWS), 30, rng.PerRow(ROWS, 0))
    assert found.mutual_information == pytest.approx(evidence.kl_rows.mean().item(), abs=1e-10)
    assert found.mutual_information > 0.1


def test_the_information_reaches_from_nothing_to_log_n():
    module = small(d=2)
    with torch.no_grad():
        module.posterior.head.weight[:2].mul_(1e3)
    apart = split_kl(module, Batch(ROWS), rng.PerRow(ROWS, 0))
    assert apart.mutual_information == pytest.approx(math.log(5), abs=1e-9)
    with torch.no_grad():
        module.posterior.head.weight.zero_()
        module.posterior.head.bias.copy_(torch.tensor([0.5, 0, 0, 0]))
    same = split_kl(module, Batch(ROWS), rng.PerRow(ROWS, 0), n_samples=20_000)
    assert same.mutual_information == pytest.approx(0, abs=1e-9)
    assert same.aggregate_kl == pytest.approx(0.125, abs=0.005)


def test_narrow_posteriors_do_not_cancel_in_single_precision():
    module = small(d=2)
    with torch.no_grad():
        module.posterior.head.weight[2:].zero_()
        module.posterior.head.bias[2:].fill_(-30)  # σ near e^−6.9
    double = split_kl(module, Batch(ROWS), rng.PerRow(ROWS, 0))
    single = split_kl(module.float(), Batch(ROWS.float()), rng.PerRow(ROWS, 0))
    assert double.mutual_information == pytest.approx(math.log(5), abs=1e-9)
    assert single.mutual_information == pytest.approx(math.log(5), abs=1e-6)
    assert single.aggregate_kl == pytest.approx(double.aggregate_kl, abs=1e-3)


def test_the_mixture_of_any_posterior(monkeypatch):
    """The general way, in several calls, against the fast one for diagonal Gaussians."""
    q = small(d=3).infer(Batch(ROWS))
    mixture = DiagonalMixture(torch.zeros(5), q.mean, q.stddev)
    z = torch.randn(40, 3, generator=rng.generator(0), dtype=torch.float64)
    for pairs in (1, 35, 1 << 16):
        monkeypatch.setattr(aggregate, "PAIRS_PER_CALL", pairs)
        assert torch.allclose(aggregate._mixture_log_prob(q, z), mixture.log_prob(z), atol=1e-10)


def test_how_many_rows_are_looked_at():
    for posterior, limit in ((Diagonal(), 1000), (FullCovariance(), 1000)):
        assert aggregate.row_limit(small(posterior).infer(Batch(ROWS))) == limit
    flow = Assembly(
        (2,), 2, Gaussian(), Flow("coupling", 1, (4,)), Standard(), MLP(())
    ).build(0).double()  # fmt: skip
    assert aggregate.row_limit(flow.infer(Batch(ROWS))) == 200
    found = split_kl(flow, Batch(ROWS), rng.PerRow(ROWS, 0), n_samples=400)
    evidence = flow.evidence(Batch(ROWS), 400, rng.PerRow(ROWS, 0))
    total = found.mutual_information + found.aggregate_kl
    assert total == pytest.approx(evidence.kl_rows.mean().item(), abs=1e-8)


# -- the report -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rows():
    g = np.random.default_rng(0)
    return g.normal(size=(1500, 2)) @ g.normal(size=(2, 4)) + 0.3 * g.normal(size=(1500, 4))


@pytest.fixture(scope="module")
def vae(rows):
    return VAE(2, hidden_layer_sizes=(16,), max_epochs=10, random_state=0).fit(rows)


def test_the_report_has_the_figures(vae, rows):
    report = vae.evaluate(rows, n_samples=60)
    k = vae._core.marginal(rows, 60)["pareto_k"]
    assert report.pareto_k == pytest.approx(np.median(k))
    assert report.pareto_k_above == pytest.approx(np.mean(k > 0.7))
    module, dtype = vae._core._module_for(rows)
    some = rows[np.round(np.linspace(0, 1499, 1000)).astype(int)]
    batch = vae._core._batch(some, dtype)
    split = split_kl(module, batch, rng.PerRow(batch.x, vae._core.seed))
    assert report.mutual_information == pytest.approx(split.mutual_information)
    assert report.aggregate_kl == pytest.approx(split.aggregate_kl)
    assert 0.5 < report.mutual_information < math.log(1000)
    total = report.mutual_information + report.aggregate_kl
    assert total == pytest.approx(report.kl, abs=0.15)
    few = vae.evaluate(rows[:50], n_samples=24)
    assert few.pareto_k is None
    assert few.pareto_k_above is None
    assert few.mutual_information < math.log(50)


def summary(k, kl=1.0, split=None):
    k = np.asarray(k, dtype=float)
    one = np.ones(len(k))
    return likelihood_report(
        -one,
        -one,
        kl * one,
        one,
        30,
        posterior_mean=one[:, None],
        kl_per_dimension=None,
        pareto_k=k,
        kl_split=split,
    )


def test_plain_numbers():
    report = summary([0.1, 0.7, 0.9, np.nan, 2.0], split=KLSplit(0.25, 0.75))
    assert isinstance(report, LikelihoodReport)
    assert report.pareto_k == pytest.approx(0.8)
    assert report.pareto_k_above == pytest.approx(0.5)
    assert (report.mutual_information, report.aggregate_kl) == (0.25, 0.75)
    assert report.standard_error == 0
    bounded = summary([-np.inf])
    assert bounded.pareto_k == -np.inf
    assert bounded.pareto_k_above == 0
    content = bounded.to_dict()
    assert content["pareto_k"] is None
    assert content["standard_error"] is None
    assert content["mutual_information"] is None
    assert content["n_rows"] == 1
    assert content["kl"] == 1.0
    json.dumps(content, allow_nan=False)


def test_bounds():
    lower, upper = np.array([-3.0, -5.0]), np.array([-2.0, -1.0])
    found = likelihood_bounds(lower, upper, np.array([0.6, 0.7]))
    assert (found.lower, found.upper, found.gap) == (-4.0, -1.5, 2.5)
    assert found.gap_standard_error == pytest.approx(1.5)
    assert found.acceptance_rate == pytest.approx(0.65)
    assert found.n_rows == 2
    alone = likelihood_bounds(lower[:1], upper[:1], np.array([np.nan]))
    assert alone.acceptance_rate is None
    assert math.isnan(alone.gap_standard_error)


# -- warnings -------------------------------------------------------------------------------------


def test_heavy_tails_are_said():
    report = summary([0.9] * 3 + [0.1] * 7)
    with pytest.warns(UnreliableEstimateWarning, match=r"0\.7 in 30% of 10 rows") as caught:
        evaluation.warn_of_heavy_tails(report, stacklevel=2)
    message = str(caught[0].message)
    assert "30 importance weights" in message
    assert "n_temperatures=500" in message
    assert caught[0].filename == __file__
    for quiet in ([0.9, 0.9] + [0.1] * 8, [np.nan, np.nan], [0.7] * 10):
        evaluation.warn_of_heavy_tails(summary(quiet), stacklevel=2)


def test_collapse_is_said_when_all_is_lost():
    with pytest.warns(PosteriorCollapseWarning, match="all 7 of 7 latent") as caught:
        evaluation.warn_of_collapse(0.0099, 7, stacklevel=2)
    message = str(caught[0].message)
    for advice in ("warmup", "free_bits", "beta", "decoder", "n_components"):
        assert advice in message
    assert caught[0].filename == __file__
    evaluation.warn_of_collapse(0.01, 7, stacklevel=2)
    assert issubclass(PosteriorCollapseWarning, SkvaeWarning)
    assert issubclass(UnreliableEstimateWarning, SkvaeWarning)


@pytest.fixture(scope="module")
def collapsed(rows):
    objective = objectives.ELBO(beta=50.0)
    vae = VAE(2, objective=objective, hidden_layer_sizes=(8,), max_epochs=8, random_state=0)
    with pytest.warns(PosteriorCollapseWarning, match="all 2 of 2") as caught:
        vae.fit(rows)
    assert [w.filename for w in caught] == [__file__]
    return vae


def test_a_collapsed_model_says_so_when_it_is_evaluated(collapsed, rows):
    with pytest.warns(PosteriorCollapseWarning, match="all 2 of 2") as caught:
        report = collapsed.evaluate(rows[:300], n_samples=40)
    assert [w.filename for w in caught] == [__file__]
    assert report.kl < 0.01
    assert report.mutual_information == pytest.approx(0, abs=0.01)
    assert report.active_units == 0


def test_a_fit_says_nothing_where_there_is_nothing_to_learn_or_hardly_begun(rows):
    options = {"hidden_layer_sizes": (8,), "objective": objectives.ELBO(beta=50.0)}
    same = np.tile([[1.0, 2.0]], (200, 1))
    VAE(2, max_epochs=30, random_state=0, batch_size=16, **options).fit(same)
    begun = VAE(2, max_epochs=3, random_state=0, batch_size=64, **options).fit(rows)
    assert begun.history_[-1]["train_kl"] < 0.2
    VAE(2, random_state=0, **options).partial_fit(rows)


def test_unreliable_scores_are_said(vae, rows):
    """A proposal that is far too narrow."""
    module = vae._core.module
    with torch.no_grad():
        module.posterior.head.bias[2:] -= 6
        try:
            with pytest.warns(UnreliableEstimateWarning, match="of 200 rows") as caught:
                report = vae.evaluate(rows[:200], n_samples=100)
        finally:
            module.posterior.head.bias[2:] += 6
    assert report.pareto_k_above > 0.2
    assert report.pareto_k > 0.7
    assert [w.filename for w in caught] == [__file__]


def test_the_command_line_says_warnings_in_one_line(collapsed, rows, tmp_path, capsys):
    model, data = str(tmp_path / "m.safetensors"), str(tmp_path / "x.npy")
    collapsed.save(model)
    np.save(data, rows[:40])
    assert cli._run(["score", model, data, "--n-samples", "30"]) == 0
    done = capsys.readouterr()
    assert done.err.startswith("skvae: The posterior has collapsed")
    assert done.err.count("\n") == 1
    assert "Pareto k" in done.out
    assert "active latent dimensions: 0; I(x; z) " in done.out
    assert cli._run(["score", model, data, "--n-samples", "5", "--json", "-q"]) == 0
    done = capsys.readouterr()
    assert done.err == ""
    content = json.loads(done.out)
    assert content["pareto_k"] is None
    assert content["mutual_information"] == pytest.approx(0, abs=0.01)
    assert cli._run(["score", model, data, "--n-samples", "5"]) == 0
    assert "Pareto" not in capsys.readouterr().out
