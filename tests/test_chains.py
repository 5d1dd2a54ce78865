"""Chains for p(z, hidden cells | observed cells), against closed forms and enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch

from skvae import distributions, rng
from skvae.chains import Chains, ChainSample, chain_posterior, split_r_hat
from skvae.conditional import Accuracy, Importance, adaptive_posterior, encoded_posterior
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Categorical, Columns, Gaussian, Sequence
from skvae.models import Assembly
from skvae.networks import RNN, Table
from skvae.posteriors import Categorical as CategoricalPosterior
from skvae.posteriors import Diagonal
from skvae.priors import Categorical as CategoricalPrior
from skvae.priors import Standard

DTYPE = torch.float64
NAN = math.nan


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


# -- a linear model: x = W z + b + noise, whose laws are all known ----

WEIGHT = torch.tensor([[1.2, 0.3], [-0.5, 1.0], [0.8, 0.8], [0.2, -1.1]], dtype=DTYPE)
BIAS = torch.tensor([0.5, -1.0, 0.0, 2.0], dtype=DTYPE)


def linear_model(exact=True):
    """A VAE with decoder W z + b and σ = 1; its encoder is the posterior of complete rows.

    A bad encoder is shifted, and too wide.
    """
    parts = (Columns((Gaussian(),) * 4), Diagonal(), Standard(), Table(()))
    model = Assembly((4,), 2, *parts).build(0).double().eval()
    # z may be turned so that its posterior has independent coordinates.
    values, turn = torch.linalg.eigh(WEIGHT.T @ WEIGHT)
    weight = WEIGHT @ turn
    precision = 1 + values
    with torch.no_grad():
        model.decoder[1].weight.copy_(weight)
        model.decoder[1].bias.copy_(BIAS)
        head = model.posterior.head  # reads x and whether it is observed
        head.weight.zero_()
        head.bias.zero_()
        head.weight[:2, :4] = weight.T / precision[:, None]
        head.bias[:2] = -weight.T @ BIAS / precision + (0 if exact else 0.6)
        log_variance = -precision.log() + (0 if exact else 0.6)
        head.bias[2:] = 14 * torch.atanh(log_variance / 14)
    return model, weight


def law_of_z(weight, x, mask):
    """Mean (d,) and covariance (d, d) of z given the observed cells of one row."""
    seen = weight[mask]
    covariance = torch.linalg.inv(torch.eye(2, dtype=DTYPE) + seen.T @ seen)
    return covariance @ seen.T @ (x - BIAS)[mask], covariance


ROWS = torch.tensor([[1.5, -2.0, 0.7, 1.0], [-1.0, 0.5, 0.3, 4.0], [0.3] * 4], dtype=DTYPE)
MASK = torch.tensor([[True, False, False, True], [True, True, False, False], [False] * 4])


def check_z(sample, weight, sds=4.0):
    """Moments of z are those of its law, within some standard errors."""
    for i in range(len(ROWS)):
        mean, covariance = law_of_z(weight, ROWS[i], MASK[i])
        z = sample.z[:, i]
        error = (covariance.diagonal() / sample.effective_sample_size[i]).sqrt()
        if not bool(((z.mean(0) - mean).abs() < sds * error).all()):
            return False
        spread = (covariance.diagonal() * 2**0.5).max() * error.max() * sds
        if not bool(((z.T.cov() - covariance).abs() < spread).all()):
            return False
    return True


@pytest.mark.parametrize("metropolis", [False, True])
def test_with_the_exact_encoder_both_chains_find_the_law_of_z(metropolis):
    model, weight = linear_model()
    sample = chain_posterior(
        model,
        Batch(ROWS, MASK),
        noise(),
        metropolis=metropolis,
        n_chains=300,
        n_steps=40,
        burn_in=40,
    )
    assert sample.z.shape == (12000, 3, 2)
    assert torch.equal(sample.weight, torch.full((12000, 3), 1 / 12000, dtype=DTYPE))
    assert sample.pareto_k.isnan().all()
    assert sample.x is None
    assert torch.equal(sample.acceptance, torch.ones(3, dtype=DTYPE))
    assert (sample.r_hat < 1.25).all()
    assert sample.r_hat.argmax() == 2  # what is told by nothing mixes slowest
    assert (sample.effective_sample_size > 1000).all()
    assert check_z(sample, weight)


def test_with_a_bad_encoder_only_metropolis_does():
    model, weight = linear_model(exact=False)
    batch = Batch(ROWS, MASK)
    exact = chain_posterior(model, batch, noise(), n_chains=300, n_steps=150, burn_in=40)
    assert ((exact.acceptance > 0.2) & (exact.acceptance < 0.8)).all()
    assert (exact.r_hat < 1.25).all()
    assert check_z(exact, weight)
    gibbs = chain_posterior(
        model, batch, noise(), metropolis=False, n_chains=300, n_steps=150, burn_in=40
    )
    assert not check_z(gibbs, weight, sds=10)


def test_proposals_are_accepted_as_often_as_the_ratio_says():
    # Nothing is hidden, so the chain is an independence sampler whose rate has an integral.
    model, weight = linear_model(exact=False)
    x = ROWS[:1]
    sample = chain_posterior(model, Batch(x), noise(), n_chains=1000, n_steps=40, burn_in=20)
    mean, covariance = law_of_z(weight, x[0], torch.ones(4, dtype=torch.bool))
    p = torch.distributions.MultivariateNormal(mean, covariance)
    q = model.infer(Batch(x))
    z = distributions.draw(p.expand((1,)), (100_000,), noise(1))
    new = distributions.draw(q, (100_000,), noise(2))
    log_ratio = (p.log_prob(new) - q.log_prob(new)) - (p.log_prob(z) - q.log_prob(z))
    expected = log_ratio.exp().clamp(max=1).mean()
    assert abs(sample.acceptance.item() - expected.item()) < 0.012


def test_burn_in_is_not_kept():
    model, _ = linear_model(exact=False)
    batch = Batch(ROWS, MASK)
    long = chain_posterior(model, batch, noise(), n_chains=3, n_steps=10, burn_in=0)
    late = chain_posterior(model, batch, noise(), n_chains=3, n_steps=6, burn_in=4)
    assert torch.equal(late.z, long.z[12:])
    r_hat, n_effective = split_r_hat(late.z.unflatten(0, (6, 3)))
    assert torch.allclose(late.r_hat, r_hat.amax(-1))
    assert torch.allclose(late.effective_sample_size, n_effective.amin(-1))
    moved = (late.z[3:] != late.z[:-3]).any(-1).double().mean(0)  # of all steps but the first
    assert ((late.acceptance * 6 - moved * 5).abs() <= 1 + 1e-12).all()


def test_what_a_row_gets_depends_on_its_content_alone():
    model, _ = linear_model(exact=False)

    def run(rows):
        x = torch.where(MASK, ROWS, 0.0)[rows]
        batch = Batch(x, MASK[rows])
        return chain_posterior(model, batch, rng.PerRow(x, 5), n_steps=20, burn_in=5).z

    every = run([0, 1, 2])
    assert torch.equal(run([2, 0, 1]), every[:, [2, 0, 1]])
    assert torch.allclose(run([1]), every[:, [1]], rtol=1e-12, atol=1e-12)
    assert torch.equal(run([1, 1])[:, 0], run([1, 1])[:, 1])
    assert not torch.equal(every[0], every[1])  # chains have numbers of their own


def test_float32_chains_stay_float32():
    model, _ = linear_model(exact=False)
    sample = chain_posterior(
        model.float(), Batch(ROWS.float(), MASK), noise(), n_steps=10, burn_in=2
    )
    assert {t.dtype for t in (sample.z, sample.weight, *sample.figures.values())} == {
        torch.float32
    }


# -- codes, whose laws can be written down cell by cell ----


def discrete_model():
    """One latent variable of three values, columns of three and four codes; encoder not exact."""
    parts = (
        Columns((Categorical(3), Categorical(4))),
        CategoricalPosterior(3),
        CategoricalPrior(),
        Table(()),
    )
    model = Assembly((2,), 1, *parts).build(1).double().eval()
    generator = rng.generator(3)
    with torch.no_grad():
        for parameter in (*model.decoder.parameters(), *model.prior.parameters()):
            parameter.copy_(1.5 * torch.randn(parameter.shape, generator=generator))
    return model


def enumerated(model):
    """p(z, x_0, x_1) of shape (3, 3, 4)."""
    z = torch.eye(3, dtype=DTYPE).unsqueeze(1)  # (3, 1, 3)
    out = torch.empty(3, 3, 4, dtype=DTYPE)
    for a, b in itertools.product(range(3), range(4)):
        log_px, log_pz = model.log_joint(Batch(torch.tensor([[a, b]], dtype=DTYPE)), z)
        out[:, a, b] = (log_px + log_pz).exp().squeeze(1).detach()
    return out


def test_the_laws_of_codes_are_those_of_enumeration():
    model = discrete_model()
    joint = enumerated(model)
    assert joint.sum().item() == pytest.approx(1, abs=1e-12)
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]], dtype=DTYPE)
    mask = torch.tensor([[True, False], [False, True], [False, False]])
    laws = [joint[:, 1], joint[:, :, 2], joint.flatten(1)]
    laws = [law / law.sum() for law in laws]
    chains = chain_posterior(model, Batch(x, mask), noise(), n_chains=500, n_steps=60, burn_in=30)
    weighted = encoded_posterior(model, Batch(x, mask), 10_000, noise())
    gibbs = chain_posterior(
        model, Batch(x, mask), noise(), metropolis=False, n_chains=500, n_steps=20, burn_in=30
    )
    for row, law in enumerate(laws):
        expected = law.sum(1)
        for sample in (chains, weighted):
            found = (sample.weight[:, row, None] * sample.z[:, row]).sum(0)
            assert torch.allclose(found, expected, atol=0.02)
    wrong = [gibbs.z[:, row].mean(0) - law.sum(1) for row, law in enumerate(laws)]
    assert torch.stack(wrong).abs().max() > 0.1
    # Cells that are drawn given these z.
    both = model.complete(Batch(x[2:], mask[2:]), chains.z[:, 2:], noise(4)).squeeze(1)
    table = torch.zeros(3, 4, dtype=DTYPE)
    table.index_put_((both[:, 0].long(), both[:, 1].long()), torch.ones(()).double(), True)
    assert torch.allclose(table / len(both), joint.sum(0), atol=0.02)


# -- diagnostics ----


def test_split_r_hat_is_that_of_the_book():
    draws = torch.randn(9, 3, 2, generator=rng.generator(0), dtype=DTYPE)
    draws[:, 0] += 1
    r_hat, n_effective = split_r_hat(draws)
    for j in range(2):
        halves = [half for c in range(3) for half in (draws[:4, c, j], draws[5:, c, j])]
        means = np.array([half.mean() for half in halves])
        b = 4 / 5 * ((means - means.mean()) ** 2).sum()
        w = np.mean([half.numpy().var(ddof=1) for half in halves])
        spread = 3 / 4 * w + b / 4
        assert r_hat[j].item() == pytest.approx(math.sqrt(spread / w), rel=1e-12)
        assert n_effective[j].item() == pytest.approx(min(24, 24 * spread / b), rel=1e-12)
    assert (n_effective < 24).all()


def test_a_chain_that_is_stuck_is_told_from_one_that_agrees():
    same = torch.zeros(8, 2, 1, dtype=DTYPE)
    r_hat, n_effective = split_r_hat(same)
    assert (r_hat.item(), n_effective.item()) == (1, 16)
    same[:, 1] = 1
    r_hat, n_effective = split_r_hat(same)
    assert (r_hat.item(), n_effective.item()) == (math.inf, 4)
    drift = torch.arange(8.0, dtype=DTYPE).view(8, 1, 1)  # the halves differ
    assert split_r_hat(drift)[0].item() > 2


def test_draws_of_some_rows():
    k = torch.arange(6.0).view(3, 2)
    sample = ChainSample(
        k.unsqueeze(-1), k, k[0], acceptance=k[0] + 1, r_hat=k[0] + 2, n_effective=k[0] + 3
    )
    part = sample.of(torch.tensor([False, True]))
    assert part.z.tolist() == [[[1]], [[3]], [[5]]]
    assert part.weight.tolist() == [[1], [3], [5]]
    assert {name: figure.tolist() for name, figure in part.figures.items()} == {
        "effective_sample_size": [4],
        "pareto_k": [1],
        "acceptance": [2],
        "r_hat": [3],
    }


def test_chains_grow_until_they_suffice():
    model, _ = linear_model()
    batch = Batch(ROWS, MASK)
    turns = []

    def noise_of(rows, turn):
        turns.append((len(rows), turn))
        return rng.Sequential(rng.generator(turn, len(rows)))

    def run(*accuracy):
        turns.clear()
        return list(Chains(Accuracy(*accuracy)).samples(model, batch, noise_of))

    found = run(64, 400.0, 1024)
    assert sorted(torch.cat([rows for rows, _ in found]).tolist()) == [0, 1, 2]
    assert turns[0] == (3, 0)
    for rows, sample in found:
        n = len(sample.z)
        assert n == 1024 or (sample.effective_sample_size >= min(400, n / 2)).all()
        # These rows, and no others, were not content with less.
        assert (len(rows), n) == (3, 64) or (turns[1][0], turns[1][1]) == (3 - len(found[0][0]), 1)
    assert [len(sample.z) for _, sample in run(64, 1.0, 64)] == [64]
    # As few as asked for are too few for chains: each half must be worth ten draws.
    for _, sample in run(512, 1.0, 2048):
        assert len(sample.z) == 2048 or (sample.effective_sample_size >= 160).all()


def test_pseudo_gibbs_is_what_is_asked_for():
    model, _ = linear_model(exact=False)
    args = model, Batch(ROWS, MASK), lambda rows, turn: noise(turn)
    ((_, sample),) = Chains(Accuracy(16, 1.0, 16), metropolis=False).samples(*args)
    assert (sample.acceptance == 1).all()
    ((_, sample),) = Chains(Accuracy(16, 1.0, 16)).samples(*args)
    assert len(sample.z) == 32  # four steps of eight chains are the least
    assert (sample.acceptance < 1).any()


def test_importance_falls_back_only_if_told_to():
    model, _ = linear_model()
    with torch.no_grad():
        model.posterior.head.bias[:2] += 4  # far off
        model.posterior.head.bias[2:] -= 2
    batch, accuracy = Batch(ROWS[:1]), Accuracy(64, 1e9, 64)
    noise_of = lambda rows, turn: noise(turn)
    ((rows, plain),) = Importance(accuracy, fall_back=False).samples(model, batch, noise_of)
    assert rows.tolist() == [0]
    direct = encoded_posterior(model, batch, 64, noise(0))
    assert torch.equal(plain.z, direct.z)
    assert torch.equal(plain.weight, direct.weight)
    assert plain.pareto_k.item() > 0.7
    first, second = Importance(accuracy).samples(model, batch, noise_of)
    assert (first[0].tolist(), second[0].tolist()) == ([], [0])
    assert len(second[1].z) == 72  # nine proposals
    searched = adaptive_posterior(
        model, batch, accuracy, noise_of, draw=encoded_posterior, fall_back=None
    )
    assert torch.equal(next(searched)[1].z, direct.z)


# -- what is refused ----


@pytest.mark.parametrize(
    ("argument", "value"), [("n_chains", 0), ("n_steps", 3), ("burn_in", -1), ("n_steps", 4.0)]
)
def test_lengths_must_be_possible(argument, value):
    model, _ = linear_model()
    with pytest.raises(ParameterError, match=argument):
        chain_posterior(model, Batch(ROWS), noise(), **{argument: value})


def test_steps_that_depend_on_each_other_are_refused():
    parts = (Sequence(Gaussian()), Diagonal(), Standard(), RNN(hidden_size=8))
    model = Assembly((3, 2), 2, *parts).build(0).double().eval()
    x = torch.zeros(1, 3, 2, dtype=DTYPE)
    with pytest.raises(ParameterError, match="importance"):
        chain_posterior(model, Batch(x, x == 0), noise())


# -- noise ----


@pytest.mark.parametrize("kind", ["normal", "uniform"])
def test_repeated_rows_get_numbers_of_their_own(kind):
    like = torch.zeros(6, 3, dtype=DTYPE)  # two rows, three times
    repeated = rng.Repeated(rng.PerRow(like[:2], 1), 3)
    once = rng.PerRow(like[:2], 1)
    found = getattr(repeated, kind)((4,), like)
    expected = getattr(once, kind)((4, 3), like[:2])
    assert found.shape == (4, 6, 3)
    assert torch.equal(found.unflatten(1, (3, 2)), expected)
    assert not torch.equal(found[:, :2], found[:, 2:4])
