"""Sequences: p(x | z) step by step, networks that read and write them, and missing steps."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from skvae import conditional, distributions, importance, posteriors, priors, rng
from skvae.data import Transform
from skvae.estimators._core import Core
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import (
    Categorical,
    DiscretizedLogisticMixture,
    Gaussian,
    Laplace,
    NegativeBinomial,
    Ordinal,
    Poisson,
    Sequence,
    StudentT,
)
from skvae.models import Assembly, Hierarchical, Ladder
from skvae.networks import MLP, RNN, TCN
from skvae.objectives import ELBO, IWAE
from skvae.posteriors import Diagonal
from skvae.priors import Standard

F64 = torch.float64


def ragged(*sequences, length):
    """Pad sequences of steps to rows (B, length, F + 1) with "alive" behind."""
    n_features = len(sequences[0][0])
    x = torch.zeros(len(sequences), length, n_features + 1, dtype=F64)
    for row, steps in zip(x, sequences, strict=True):
        row[: len(steps), :-1] = torch.tensor(steps, dtype=F64)
        row[: len(steps), -1] = 1
    return x


def built(likelihood, event_shape):
    with rng.isolated(0):
        return likelihood.build(event_shape).double()


def random(*shape, seed=0):
    return torch.randn(*shape, generator=rng.generator(seed), dtype=F64)


def sequential(seed=0):
    return rng.Sequential(rng.generator(seed))


# -- the likelihood -------------------------------------------------------------------------------


def test_a_sequence_counts_its_steps_and_where_it_goes_on():
    module = built(Sequence(Gaussian("unit")), (4, 3))
    module.base.fill_(0.3)
    assert module.param_shape == (4, 3)
    h = random(1, 4, 3)
    x = ragged([[1.0, 2.0], [3.0, -1.0]], length=4)
    log_p = module(h).log_prob(x)
    normal = Normal(h[..., :2], 1.0).log_prob(x[..., :2])
    goes_on = torch.sigmoid(h[0, :, 2] + 0.3)
    expected = torch.zeros(4, 3, dtype=F64)
    expected[:2, :2] = normal[0, :2]
    expected[1, 2] = goes_on[1].log()
    expected[2, 2] = (1 - goes_on[2]).log()
    assert torch.allclose(log_p[0], expected, atol=1e-12)
    assert torch.equal(log_p[0] == 0, expected == 0)


def test_dead_steps_may_hold_anything_and_have_no_gradient():
    module = built(Sequence(Gaussian("per_cell")), (3, 2))
    h = random(2, 3, 3).requires_grad_()
    x = ragged([[1.0]], [[2.0], [0.5]], length=3)
    log_p = module(h).log_prob(x).sum()
    dirty = x.clone()
    dirty[0, 1:, 0] = torch.inf
    assert torch.equal(module(h).log_prob(dirty).sum(), log_p)
    (gradient,) = torch.autograd.grad(log_p, h)
    assert (gradient[0, 0, :2] != 0).all()
    assert (gradient[0, 1:, :2] == 0).all()
    assert gradient[0, 1, 2] != 0
    assert gradient[0, 2, 2] == 0  # the step before does not exist
    assert (gradient[:, 0, 2] == 0).all()  # the first one always does


def test_all_short_code_sequences_and_the_rest_sum_to_one():
    module = built(Sequence(Categorical(3)), (3, 2))
    p = module(random(1, 3, 4))
    total = torch.zeros((), dtype=F64)
    for n in (1, 2, 3):
        for codes in itertools.product(range(3), repeat=n):
            total += p.log_prob(ragged([[c] for c in codes], length=3)).sum().exp()
    assert math.isclose(total, 1, abs_tol=1e-12)


def test_draws_have_the_probabilities_of_their_density():
    module = built(Sequence(Categorical(2)), (3, 2))
    p = module(random(1, 3, 3, seed=4))
    draws = distributions.draw(p, (40_000,), sequential())[:, 0]
    for n in (1, 2, 3):
        for codes in itertools.product(range(2), repeat=n):
            x = ragged([[c] for c in codes], length=3)
            share = (draws == x).flatten(1).all(1).double().mean()
            expected = p.log_prob(x).sum().exp()
            assert math.isclose(share, expected, abs_tol=4 * math.sqrt(expected / 40_000))


def test_the_mean_ends_where_an_end_is_likelier_and_codes_are_the_most_probable_ones():
    module = built(Sequence(Categorical(3)), (4, 2))
    h = torch.zeros(1, 4, 4, dtype=F64)
    h[0, :, :3] = torch.tensor([[0.0, 1.0, 0.5], [2.0, 1.0, 1.9], [0, 0, 1], [0, 3, 0]])
    h[0, :, 3] = torch.tensor([-9.0, 0.1, -0.1, 5.0])
    expected = ragged([[1], [0]], length=4)
    assert torch.equal(module(h).mean, expected)
    later = module(h[:, 1:2], torch.tensor([1.0], dtype=F64))
    assert torch.equal(later.mean, torch.tensor([[[0.0, 1.0]]], dtype=F64))
    over = module(h[:, 1:2], torch.tensor([0.0], dtype=F64))
    assert torch.equal(over.mean, torch.zeros(1, 1, 2, dtype=F64))
    assert (over.log_prob(torch.zeros(1, 1, 2, dtype=F64)) == 0).all()


def test_steps_of_equal_number_are_the_likelihood_of_a_step():
    module = built(Sequence(Gaussian("per_cell"), ragged=False), (5, 2))
    assert module.param_shape == (5, 4)
    h, x = random(3, 5, 4), random(3, 5, 2, seed=1)
    p = module(h)
    direct = module.step(h.view(3, 5, 2, 2))
    assert torch.equal(p.log_prob(x), direct.log_prob(x))
    assert torch.equal(p.mean, h.view(3, 5, 2, 2)[..., 0, :])
    assert p.expand((2, 3, 5, 2)).batch_shape == (2, 3, 5, 2)
    assert module.counted(x, None) is None


def test_expanded_steps_are_the_same_steps():
    module = built(Sequence(Gaussian()), (3, 2))
    h, x = random(2, 3, 2), ragged([[1.0]], [[2.0], [0.5]], length=3)
    wide = module(h).expand((4, 2, 3, 2))
    assert wide.batch_shape == (4, 2, 3, 2)
    assert torch.equal(wide.log_prob(x)[3], module(h).log_prob(x))
    one = module(h[:, :1], torch.tensor([1.0, 0.0], dtype=F64)).expand((4, 2, 1, 2))
    assert (one.log_prob(x[:, :1])[:, 1, :, 1] == 0).all()
    assert (one.log_prob(x[:, :1])[:, 0] != 0).all()


def test_calibration_starts_all_steps_at_the_living_ones():
    module = built(Sequence(Poisson()), (4, 3))
    rows = ragged([[1.0, 0.0]], [[3.0, 2.0], [8.0, 4.0]], [[0.0, 6.0]] * 4, length=4)
    rows[2, 0, 0] = torch.nan
    module.calibrate(rows.mean(0), torch.ones(4, 3, dtype=F64), rows)
    first = torch.tensor([1.0, 3, 8, 0, 0, 0], dtype=F64)
    mean = torch.tensor([12 / 6, (0 + 2 + 4 + 24) / 7], dtype=F64)
    assert torch.allclose(module.step.base, mean.log())
    assert math.isclose(torch.sigmoid(module.base), 4.5 / 8, rel_tol=1e-6)
    logs = first.log1p()
    assert torch.allclose(module.reader.center[0], logs.mean())
    assert torch.allclose(module.reader.spread[0], logs.var(correction=0).sqrt())


def test_the_unit_of_the_data_reaches_the_steps():
    module = built(Sequence(Gaussian("unit")), (3, 3))
    unit = torch.tensor([2.0, 5.0, 1.0], dtype=F64).expand(3, 3)
    rows = ragged([[1.0, 0.0]], [[3.0, 2.0], [8.0, 4.0]], length=3)
    module.calibrate(rows.mean(0), unit, rows)
    assert torch.equal(module.step.sigma, torch.tensor([0.5, 0.2], dtype=F64))


def test_the_optimal_scale_is_that_of_the_living_observed_cells():
    x = ragged([[1.0], [3.0]], [[2.0]], length=3)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 1, 0] = False
    for shown, expected in ((None, (1 + 9 + 4) / 3), (mask, (1 + 4) / 2)):
        module = built(Sequence(Gaussian("optimal")), (3, 2))
        p = module.adapt(module(torch.zeros(1, 2, 3, 2, dtype=F64)), x, shown)
        assert math.isclose(p.cells.variance.max(), expected)
    fixed = built(Sequence(Gaussian("optimal"), ragged=False), (3, 1))
    p = fixed.adapt(fixed(torch.zeros(1, 2, 3, 1, dtype=F64)), x[..., :1], None)
    assert math.isclose(p.cells.variance.max(), 14 / 6)


def test_numbers_are_shown_scaled_and_hidden_ones_as_zero():
    module = built(Sequence(Gaussian()), (3, 3))
    module.reader.center.copy_(torch.tensor([1.0, -1.0]))
    module.reader.spread.copy_(torch.tensor([2.0, 4.0]))
    x = ragged([[5.0, 7.0], [3.0, -1.0]], length=3)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 0, 1] = False
    shown, seen = module.represent(torch.where(mask, x, torch.nan), mask)
    expected = torch.tensor([[[2.0, 0, 1], [1, 0, 1], [0, 0, 0]]], dtype=F64)
    assert torch.equal(shown, expected)
    assert torch.equal(seen, mask)
    assert torch.equal(module.represent(x, None)[0][0, 0], torch.tensor([2.0, 2, 1], dtype=F64))
    assert module.input_shape == (3, 3)


@pytest.mark.parametrize("step", [Poisson(), NegativeBinomial()])
def test_counts_are_shown_by_their_logarithm_and_other_numbers_are_not(step):
    x = torch.tensor([[[0.0], [math.e - 1], [99.0]]], dtype=F64)
    shown, _ = built(Sequence(step, ragged=False), (3, 1)).represent(x, None)
    assert torch.allclose(shown[0, :, 0], torch.tensor([0, 1, math.log(100)], dtype=F64))
    assert (shown[..., 1] == 1).all()
    for other in (Gaussian(), Ordinal(100), DiscretizedLogisticMixture()):
        shown, _ = built(Sequence(other, ragged=False), (3, 1)).represent(x, None)
        assert torch.equal(shown[..., :1], x)


def test_codes_are_shown_as_vectors_of_their_feature():
    module = built(Sequence(Categorical(5)), (3, 3))
    width = round(1.6 * 5**0.56)
    assert module.input_shape == (3, 2 * width + 1)
    x = ragged([[4.0, 4.0], [0.0, 3.0]], length=3)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 1, 0] = False
    shown, seen = module.represent(x, mask)
    table = module.reader.vectors.weight
    assert torch.equal(shown[0, 0, :-1], torch.cat([table[4], table[9]]))
    assert torch.equal(shown[0, 1, :-1], torch.cat([torch.zeros_like(table[0]), table[8]]))
    assert (shown[0, 2] == 0).all()
    assert shown[0, :, -1].tolist() == [1, 1, 0]
    assert seen.shape == shown.shape
    assert seen[0, 1].tolist() == [False] * width + [True] * (width + 1)
    assert built(Sequence(Categorical(10_000)), (2, 2)).reader.out_features == 64


def test_values_are_pooled_by_weight_and_codes_by_vote():
    weights = torch.tensor([[0.5], [0.3], [0.2]], dtype=F64).view(3, 1, 1, 1)
    xs = torch.stack([ragged([[2.0]], length=3), *[ragged([[1.0], [1.0]], length=3)] * 2])
    pairs = list(
        zip(xs, weights * torch.tensor([0.8, 1.2, 1.2])[:, None, None, None], strict=True)
    )
    codes = built(Sequence(Categorical(3)), (3, 2))
    assert torch.equal(codes.pool(iter(pairs)), ragged([[1.0], [1.0]], length=3))
    numbers = built(Sequence(Gaussian()), (3, 2))
    expected = ragged([[0.4 * 2 + 0.6], [0.6]], length=3)
    assert torch.allclose(numbers.pool(iter(pairs)), expected, atol=1e-12)
    fixed = built(Sequence(Gaussian(), ragged=False), (3, 2))
    mean = sum(x * w for x, w in pairs)
    assert torch.allclose(fixed.pool(iter(pairs)), mean)


def test_shapes_and_steps_that_make_no_sequence_are_refused():
    for shape in ((3,), (1, 2), (3, 1), (2, 2, 2)):
        with pytest.raises(ParameterError, match="event_shape must be"):
            built(Sequence(), shape)
    assert built(Sequence(ragged=False), (1, 1)).param_shape == (1, 1)
    with pytest.raises(ParameterError, match="step must be"):
        Sequence("gaussian")
    with pytest.raises(ParameterError, match="step must be"):
        Sequence(Sequence())
    with pytest.raises(ParameterError, match="ragged must be"):
        Sequence(ragged=1)
    assert Sequence(Gaussian("unit")).standardize == "shared"


# -- models of any network ------------------------------------------------------------------------


def assembled(likelihood, event_shape, network, d=2, seed=0, loud=1.0, **parts):
    parts = {"posterior": Diagonal(), "prior": Standard(), **parts}
    spec = Assembly(
        event_shape=event_shape, n_components=d, likelihood=likelihood, network=network, **parts
    )
    assert Assembly.from_json(spec.to_json()) == spec
    module = spec.build(seed).double()
    with torch.no_grad():  # far from the start, where all steps are nearly alike
        for parameter in module.decoder.parameters():
            parameter.mul_(loud)
        if hasattr(module.decoder, "unknown"):
            module.decoder.unknown.copy_(random(*module.decoder.unknown.shape, seed=9))
    return module.eval()


def test_an_mlp_decodes_all_steps_at_once_and_densities_are_in_data_units():
    module = assembled(Sequence(Gaussian("unit")), (3, 2), MLP((8,)))
    rows = ragged([[1.0], [0.5]], [[-1.0]], length=3)
    module.calibrate(rows.mean(0), torch.tensor([4.0, 1.0], dtype=F64).expand(3, 2), rows)
    z = random(1, 2, 2)
    log_px, _ = module.log_joint(Batch(rows), z)
    cells = module.generate(z).log_prob(rows)[0].flatten(1).sum(1)
    steps = torch.tensor([2.0, 1.0], dtype=F64)
    assert torch.allclose(log_px[0], cells - steps * math.log(4))
    mask = torch.ones_like(rows, dtype=torch.bool)
    mask[0, 1, 0] = False
    log_px, _ = module.log_joint(Batch(torch.where(mask, rows, torch.nan), mask), z)
    cells = module.generate(z).log_prob(rows)[0, 0]
    hidden = cells.sum() - cells[1, 0] - math.log(4)
    assert torch.allclose(log_px[0, 0], hidden)


def test_the_encoder_is_calibrated_on_what_it_sees():
    module = assembled(Sequence(Categorical(3)), (3, 2), MLP((8,)))
    rows = ragged([[1.0], [0.0]], [[2.0]], length=3)
    module.calibrate(rows.mean(0), torch.ones(3, 2, dtype=F64), rows)
    shown, _ = module.likelihood.represent(rows, None)
    assert torch.allclose(module.encoder.center, shown.mean(0), atol=1e-6)
    assert not module.encoder.center.requires_grad
    rows[1, 0, 0] = torch.nan
    module.calibrate(rows.mean(0), torch.ones(3, 2, dtype=F64), rows)
    half = module.likelihood.reader.vectors.weight[1] / 2
    assert torch.allclose(module.encoder.center[0, :-1], half, atol=1e-6)


def test_hidden_cells_of_living_steps_are_filled_as_living_ones():
    module = assembled(Sequence(Gaussian("unit")), (3, 2), MLP((8,)))
    x = ragged([[1.0], [0.5]], length=3)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 1, 0] = False
    module.likelihood.base.fill_(-50.0)  # the model takes the second step for dead
    batch, z = Batch(torch.where(mask, x, torch.nan), mask), random(1, 1, 2)
    assert module.generate(z).mean[0, 0, 1, 0] == 0
    cells = module.generate(z).cells.mean
    assert torch.equal(module.hidden(batch, z).mean[0, 0, 1, 0], cells[0, 0, 1, 0])
    filled = module.complete(batch, z.expand(3000, 1, 2), sequential()).detach()
    assert torch.equal(filled[:, 0, 0], x[0, 0].expand(3000, 2))
    assert (filled[..., 1, 1] == 1).all()
    assert math.isclose(filled[..., 1, 0].mean(), cells[0, 0, 1, 0].detach(), abs_tol=0.08)
    assert math.isclose(filled[..., 1, 0].std(), 1, abs_tol=0.06)
    alive = module.hidden(Batch(ragged([[1.0]], length=3)), z).mean[..., 1]
    assert alive.flatten().tolist() == [1, 0, 0]


# -- steps that depend on those before ------------------------------------------------------------

NETWORKS = [
    RNN(hidden_size=6),
    RNN("lstm", 5, n_layers=2, bidirectional=False),
    TCN(channels=6, n_layers=2),
    TCN(channels=5, n_layers=1, kernel_size=2),
]
CODES = Sequence(Categorical(2))


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_all_sequences_sum_to_one_given_z(network):
    module = assembled(CODES, (4, 2), network, loud=3.0)
    p = module.generate(random(1, 2))
    total = torch.zeros((), dtype=F64)
    for n in (1, 2, 3, 4):
        for codes in itertools.product(range(2), repeat=n):
            total += p.log_prob(ragged([[c] for c in codes], length=4)).detach().sum().exp()
    assert math.isclose(total, 1, abs_tol=1e-12)
    first = [p.log_prob(ragged([[c], [0.0], [0.0]], length=4))[0, 1:] for c in (0.0, 1.0)]
    assert not torch.allclose(*first, atol=1e-3)


@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=repr)
def test_draws_follow_the_density_step_by_step(network):
    module = assembled(CODES, (3, 2), network, loud=3.0)
    module.likelihood.base.fill_(1.0)
    p = module.generate(random(1, 2, seed=3))
    draws = distributions.draw(p, (20_000,), sequential())[:, 0]
    assert draws.shape == (20_000, 3, 2)
    for n in (1, 2, 3):
        for codes in itertools.product(range(2), repeat=n):
            x = ragged([[c] for c in codes], length=3)
            share = (draws == x).flatten(1).all(1).double().mean()
            expected = p.log_prob(x).detach().sum().exp()
            error = math.sqrt(expected * (1 - expected) / 20_000)
            assert math.isclose(share, expected, abs_tol=4 * error + 1e-4)


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_a_step_depends_on_earlier_steps_and_z_and_on_no_later_ones(network):
    module = assembled(Sequence(Gaussian()), (6, 3), network, loud=2.0)
    x = torch.cat([random(1, 6, 2), torch.ones(1, 6, 1, dtype=F64)], -1)
    p = module.generate(random(1, 2))
    means = p.given(x).cells.mean
    for t in range(6):
        other = x.clone()
        other[:, t, 0] += 1
        changed = (p.given(other).cells.mean != means).any(-1)[0].tolist()
        assert not any(changed[: t + 1])
        assert all(changed[t + 1 : t + 3])
    other = module.generate(random(1, 2, seed=1)).given(x).cells.mean
    assert (other != means).all()


def test_a_decoder_of_convolutions_sees_as_far_as_it_says():
    network = TCN(channels=4, n_layers=2, kernel_size=2)  # 1 + 2 · 1 · 3 steps
    module = assembled(Sequence(Gaussian(), ragged=False), (12, 1), network, loud=2.0)
    p, x = module.generate(random(1, 2)), random(1, 12, 1)
    other = x.clone()
    other[:, 2] += 1
    change = p.given(other).cells.mean != p.given(x).cells.mean
    assert change.flatten().tolist() == [3 <= t < 3 + 7 for t in range(12)]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_nothing_depends_on_padding_or_company(network):
    module = assembled(Sequence(Gaussian()), (7, 3), network, loud=2.0)
    rows = [random(n, 2, seed=n).tolist() for n in (2, 5, 3)]
    z = random(4, 3, 2)

    def results(x, z):
        batch = Batch(x)
        q = module.infer(batch)
        return torch.cat([q.mean, q.stddev, module.log_joint(batch, z)[0].T], -1)

    whole = results(ragged(*rows, length=7), z)
    for length in (6, 9, 30):  # shorter than the model's, and longer than any it was made for
        assert torch.allclose(results(ragged(*rows, length=length), z), whole, atol=1e-12)
    for i, row in enumerate(rows):
        alone = results(ragged(row, length=len(row) + 1), z[:, i : i + 1])
        assert torch.allclose(alone[0], whole[i], atol=1e-12)
    mask = torch.ones(3, 7, 3, dtype=torch.bool)
    mask[1, 2, 0] = False
    noise = [rng.PerRow(ragged(*rows, length=7), 0) for _ in "ab"]
    x = ragged(*rows, length=7)
    long = module.evidence(Batch(x, mask), 4, noise[0])
    short = module.evidence(Batch(x[:, :6], mask[:, :6]), 4, noise[1])
    assert torch.allclose(long.log_w, short.log_w, atol=1e-12)
    assert noise[0].used == noise[1].used


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_the_encoder_reads_every_living_step_and_what_is_hidden(network):
    module = assembled(Sequence(Gaussian()), (5, 2), network)
    x = ragged([[0.5], [1.0], [-0.4], [0.3]], length=5)
    features = module._features(Batch(x))
    assert features.shape == (1, module.encoder.out_features)
    for t in range(4):
        other = x.clone()
        other[0, t, 0] += 1
        assert not torch.allclose(module._features(Batch(other)), features, atol=1e-6)
        mask = torch.ones_like(x, dtype=torch.bool)
        mask[0, t, 0] = False
        hidden = module._features(Batch(torch.where(mask, x, torch.nan), mask))
        assert torch.equal(hidden, module._features(Batch(torch.where(mask, x, 3.0), mask)))
        zero = x.clone()
        zero[0, t, 0] = 0
        assert not torch.allclose(hidden, module._features(Batch(zero)), atol=1e-6)
    seen = torch.ones_like(x, dtype=torch.bool)
    assert torch.equal(module._features(Batch(x, seen)), features)


def test_a_layer_in_both_directions_is_that_of_torch():
    network = RNN(hidden_size=3, n_layers=2)
    module = assembled(Sequence(Gaussian(), ragged=False), (4, 2), network)
    with rng.isolated(0):
        reference = torch.nn.GRU(5, 3, num_layers=2, bidirectional=True, batch_first=True).double()
    weights = module.encoder.layers.state_dict()
    names = [f"{i}.{way}" for i in range(2) for way in range(2)]
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    flat = [weights[f"{name}.{kind}_l0"] for name in names for kind in kinds]
    with torch.no_grad():
        for parameter, value in zip(reference.parameters(), flat, strict=True):
            parameter.copy_(value)
    x = random(3, 4, 2)
    read = torch.cat([x, torch.ones(3, 4, 3, dtype=F64)], -1)
    out, last = reference(read)
    expected = torch.cat([last[2], last[3], out.mean(1)], -1)
    assert torch.allclose(module._features(Batch(x)), expected, atol=1e-12)


def test_the_mean_feeds_each_typical_step_back():
    module = assembled(CODES, (5, 2), RNN(hidden_size=6), loud=3.0, seed=1)
    module.likelihood.base.fill_(2.0)
    z = random(8, 2)
    found = module.generate(z).mean
    x = torch.zeros(8, 5, 2, dtype=F64)
    for t in range(5):  # what the first t + 1 steps say does not depend on those after them
        p = module.generate(z).given(x)
        going_on = (p.alive[:, t] >= 0) & (x[:, t - 1, 1] > 0) if t else torch.tensor([True] * 8)
        x[:, t, 1] = going_on.to(x)
        x[:, t, 0] = p.cells.logits[:, t, 0].argmax(-1) * x[:, t, 1]
    assert torch.equal(found, x)
    assert len({tuple(row.flatten().tolist()) for row in found}) > 1
    wide = module.generate(z).expand((3, 8, 5, 2))
    assert wide.batch_shape == (3, 8, 5, 2)
    assert torch.equal(wide.mean[2], found)


def test_drawing_stops_when_all_have_ended_and_a_row_does_not_notice():
    module = assembled(Sequence(Gaussian()), (40, 2), RNN(hidden_size=4))
    module.likelihood.base.fill_(0.0)
    rows, z = random(6, 3), random(6, 2)
    count = 0
    advance = module.decoder.advance

    def counting(*arguments):
        nonlocal count
        count += 1
        return advance(*arguments)

    module.decoder.advance = counting
    noise = rng.PerRow(rows, 0)
    drawn = distributions.draw(module.generate(z), (3,), noise)
    longest = int(drawn[..., 1].sum(-1).max())
    assert count == longest + 1 < 40
    after = noise.uniform((2,), z)
    lone = rng.PerRow(rows[2:3], 0)
    alone = distributions.draw(module.generate(z[2:3]), (3,), lone)
    assert torch.allclose(alone[:, 0], drawn[:, 2], atol=1e-12)
    assert torch.equal(lone.uniform((2,), z[2:3])[:, 0], after[:, 2])
    assert drawn[..., 1].sum(-1).unique().numel() > 2
    assert (drawn[..., 0][drawn[..., 1] == 0] == 0).all()


# -- training -------------------------------------------------------------------------------------

STEPS = [
    Gaussian("per_cell"),
    Gaussian("optimal"),
    StudentT(),
    Laplace(),
    Poisson(),
    NegativeBinomial(),
    Ordinal(3),
    Categorical(3),
]


@pytest.mark.parametrize("step", STEPS, ids=repr)
@pytest.mark.parametrize("ends", [True, False])
def test_gradients_reach_every_weight_for_every_kind_of_step(step, ends):
    network = RNN(hidden_size=4, word_dropout=0.3) if ends else TCN(4, 2, word_dropout=0.3)
    module = assembled(Sequence(step, ragged=ends), (5, 2 + ends), network).float().train()
    x = torch.randint(0, 3, (3, 5, 2), generator=rng.generator(0)).float()
    if ends:
        alive = (torch.arange(5) < torch.tensor([[1], [3], [4]])).unsqueeze(-1).float()
        x = torch.cat([x * alive, alive], -1)
    module.calibrate(x.mean(0), torch.ones(x.shape[1:]), x)
    loss = ELBO()(module, Batch(x), step=0, noise=sequential()).loss
    assert torch.isfinite(loss)
    loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert (parameter.grad != 0).any(), name
    huge = module.eval().evidence(Batch(x), 2, sequential())
    assert torch.isfinite(huge.log_w).all()
    far = 1e4 * torch.randn(4, 2, generator=rng.generator(1))
    drawn = distributions.draw(module.generate(far), (), sequential())
    assert torch.isfinite(drawn).all()
    assert drawn.dtype == torch.float32


@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=repr)
def test_dropped_steps_are_shown_as_unknown_ones_in_training_only(network):
    dropping = assembled(CODES, (6, 2), network.replace(word_dropout=0.4), loud=3.0)
    keeping = assembled(CODES, (6, 2), network, loud=3.0)
    x = ragged([[1.0], [0.0], [1.0], [1.0]], [[0.0], [1.0]], length=6)
    z = random(3, 2, 2)
    p, plain = dropping.generate(z), keeping.generate(z)
    held_out = p.given(x, noise=sequential())
    assert torch.equal(held_out.log_prob(x), plain.log_prob(x))
    dropping.train()
    assert torch.equal(p.given(x).log_prob(x), plain.log_prob(x))
    found = p.given(x, noise=sequential()).log_prob(x)
    kept = sequential().uniform((3,), x[..., 0]) >= 0.4  # (3, 2, 6)
    assert 0.3 < kept.double().mean() < 0.9
    for k in range(3):
        mask = kept[k].unsqueeze(-1) | (torch.arange(2) == 1)
        expected = keeping.generate(z[k]).given(x, mask).log_prob(x)
        assert torch.allclose(found[k], expected, atol=1e-12)
    assert not torch.allclose(found, plain.log_prob(x))
    first = p.given(x, noise=sequential()).log_prob(x)
    assert torch.equal(found, first)


def test_unknown_is_what_the_decoder_learned_and_alive_is_always_known():
    module = assembled(Sequence(Gaussian()), (3, 2), RNN(hidden_size=4))
    steps = torch.tensor([[[5.0, 1.0], [6.0, 1.0], [0.0, 0.0]]], dtype=F64)
    known = torch.tensor([[[True, True], [False, False], [False, False]]])
    unknown = module.decoder.unknown[0].detach()
    expected = torch.tensor([[[5.0, 1.0], [float(unknown), 1.0], [0.0, 0.0]]], dtype=F64)
    assert torch.equal(module.decoder.show(steps, known), expected)
    assert torch.equal(module.decoder.show(steps), steps)


def test_training_uses_the_noise_of_the_step():
    module = assembled(CODES, (4, 2), RNN(hidden_size=4, word_dropout=0.5), loud=3.0).train()
    x = ragged([[1.0], [0.0], [1.0]], length=4)
    losses = [
        float(IWAE(3)(module, Batch(x), step=0, noise=sequential(seed)).loss.detach())
        for seed in (0, 0, 1)
    ]
    assert losses[0] == losses[1] != losses[2]
    module.eval()
    z = random(2, 1, 2)
    whole, _ = module.log_joint(Batch(x), z)
    q = module.evidence(Batch(x), 2, sequential())
    again, _ = module.log_joint(Batch(x), q.draws[0])
    assert torch.equal(q.log_px, again)
    assert torch.allclose(whole, module.generate(z).log_prob(x).sum((-1, -2)), atol=1e-12)


@pytest.mark.parametrize("model", [Ladder((2,)), Hierarchical()], ids=repr)
@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=repr)
def test_models_of_several_levels_take_sequences(model, network):
    module = assembled(CODES, (4, 2), network, model=model)
    x = ragged([[1.0], [0.0]], [[1.0], [0.0], [1.0]], length=4)
    evidence = module.evidence(Batch(x), 3, sequential())
    seen = evidence.draws[0][..., : module.decoder.last.in_features - 6]
    expected = module._emit(seen).log_prob(x).sum((-1, -2))
    assert torch.allclose(evidence.log_px, expected, atol=1e-12)
    assert module.generate(evidence.draws[0]).mean.shape == (3, 2, 4, 2)


def test_a_network_for_sequences_needs_a_likelihood_for_sequences():
    with pytest.raises(ParameterError, match=r"network='rnn' reads sequences.*Sequence\("):
        assembled(Gaussian(), (4, 2), RNN())
    for network in (RNN(), TCN()):
        with pytest.raises(ParameterError, match="shape \\(steps, features\\)"):
            network.build_encoder((4,))
    for bad in ({"cell": "gruu"}, {"hidden_size": 0}, {"n_layers": 0}, {"bidirectional": 1}):
        with pytest.raises(ParameterError, match=f"RNN: {next(iter(bad))}"):
            RNN(**bad)
    for bad in ({"channels": 0}, {"n_layers": 0}, {"kernel_size": 1}):
        with pytest.raises(ParameterError, match=f"TCN: {next(iter(bad))}"):
            TCN(**bad)
    for bad in (1.0, -0.1, True, "half", float("nan")):
        for network in (RNN, TCN):
            with pytest.raises(ParameterError, match=f"{network.__name__}: word_dropout"):
                network(word_dropout=bad)
    assert RNN(word_dropout=0).word_dropout == 0


@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=repr)
def test_a_model_of_sequences_survives_its_file(network):
    module = assembled(Sequence(Categorical(3)), (4, 2), network).float()
    transform = Transform.fit(torch.zeros(2, 8).numpy(), "none")
    core = Core(module.spec, module, transform, None, 0, torch.device("cpu"))
    again = Core.from_state(*core.state(), torch.device("cpu"))
    X = ragged([[1.0], [2.0]], [[0.0]], length=4).flatten(1).float().numpy()
    assert (again.posterior_mean(X) == core.posterior_mean(X)).all()
    one, two = (c.sample(5, seed=1, kind="draw", dtype=X.dtype) for c in (core, again))
    assert (one == two).all()
    assert one.shape == (5, 8)


# -- missing steps --------------------------------------------------------------------------------


def tiny(network=None, likelihood=CODES, shape=(4, 2)):
    """A model whose z takes three values, so that everything can be enumerated."""
    network = network or RNN(hidden_size=6)
    module = assembled(
        likelihood, shape, network, d=1, loud=3.0, seed=3,
        posterior=posteriors.Categorical(3), prior=priors.Categorical(),
    )  # fmt: skip
    with torch.no_grad():
        module.prior.logits.copy_(random(*module.prior.logits.shape, seed=5))
    return module


def joint(module, x):
    """Log p(x, z) of complete rows (n, *event) for every z, (3, n)."""
    z = torch.eye(3, dtype=F64).unsqueeze(1).expand(3, len(x), 3)
    return torch.add(*module.log_joint(Batch(x), z)).detach()


@pytest.mark.parametrize("network", NETWORKS[:3:2], ids=repr)
@pytest.mark.parametrize("gaps", [(0,), (1, 2), (0, 2)])
def test_hidden_steps_are_filled_with_regard_to_later_ones(network, gaps):
    module = tiny(network)
    x = ragged([[1.0], [0.0], [1.0]], length=4)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, list(gaps), 0] = False
    batch = Batch(torch.where(mask, x, torch.nan), mask)
    options = []
    for codes in itertools.product((0.0, 1.0), repeat=len(gaps)):
        option = x[0].clone()
        option[list(gaps), 0] = torch.tensor(codes, dtype=F64)
        options.append(option)
    options = torch.stack(options)  # (n, 4, 2)
    log_joint = joint(module, options)
    wanted = torch.softmax(torch.logsumexp(log_joint, 0), 0)
    found = conditional.searched_posterior(module, batch, 8_000, sequential())
    share = ((found.x == options).flatten(2).all(-1) * found.weight).sum(0)
    assert torch.allclose(found.weight.sum(0), torch.ones(1, dtype=F64))
    assert torch.allclose(share, wanted, atol=0.025)
    assert torch.equal(found.x[mask.expand_as(found.x)].view(len(found.x), -1)[7], x[mask])
    best = options[wanted.argmax()]
    assert torch.equal(found.mean(module, batch)[0], best)
    z, values = found.draws(4000, sequential(1))
    of_z = torch.softmax(torch.logsumexp(log_joint, 1), 0)
    assert torch.allclose(z.mean((0, 1)), of_z, atol=0.04)
    drawn = (values == options).flatten(2).all(-1).double().mean(0)
    assert torch.allclose(drawn, wanted, atol=0.04)
    blind = (found.x == options).flatten(2).all(-1).double().mean(0)  # without the weights
    assert (blind - wanted).abs().max() > 0.04


def test_the_density_of_what_is_observed_is_that_of_enumeration():
    module = tiny()
    x = ragged([[1.0], [0.0], [1.0]], [[0.0], [1.0]], length=4)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[0, 0, 0] = mask[0, 1, 0] = mask[1, 0, 0] = False
    batch = Batch(torch.where(mask, x, torch.nan), mask)
    wanted = []
    for row, seen in zip(x, mask, strict=True):
        gaps = torch.nonzero(~seen[:, 0]).flatten()
        options = row.repeat(2 ** len(gaps), 1, 1)
        codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=F64)] * len(gaps))
        options[:, gaps, 0] = codes.view(-1, len(gaps))
        wanted.append(torch.logsumexp(joint(module, options).flatten(), 0))
    found = importance.log_marginal(module, batch, 20_000, rng.PerRow(x, 0))
    assert torch.allclose(found.log_likelihood, torch.stack(wanted), atol=0.02)
    assert (found.elbo < found.log_likelihood).all()
    module.train()
    told = module.evidence(batch, 4, sequential())
    p = module._emit(module.posterior.embed(told.draws[0], None))
    hidden = torch.where(mask, x, 0.0)
    unknown = p.given(hidden, mask).log_prob(hidden)
    assert torch.allclose(told.log_px, torch.where(mask, unknown, 0.0).sum((-1, -2)))


def test_gaps_in_numbers_are_filled_towards_what_comes_after():
    module = tiny(likelihood=Sequence(Gaussian("unit"), ragged=False), shape=(3, 1))
    unit = torch.full((3, 1), 2.0, dtype=F64)
    rows = random(5, 3, 1)
    module.calibrate(rows.mean(0), unit, rows)
    x = torch.tensor([[[0.3], [0.0], [-0.5]]], dtype=F64)
    mask = torch.tensor([[[True], [False], [True]]])
    grid = torch.linspace(-6, 6, 2001, dtype=F64)
    rows = x.repeat(2001, 1, 1)
    rows[:, 1, 0] = grid
    weight = torch.softmax(torch.logsumexp(joint(module, rows), 0), 0)
    found = conditional.searched_posterior(module, Batch(x, mask), 20_000, sequential())
    mean = found.mean(module, Batch(x, mask))
    assert math.isclose(mean[0, 1, 0], (weight * grid).sum(), abs_tol=0.02)
    assert math.isclose(mean[0, 0, 0], 0.3, abs_tol=1e-9)
    total = torch.logsumexp(joint(module, rows), (0, 1)) + math.log(2 * 12 / 2000)
    marginal = importance.log_marginal(module, Batch(x, mask), 20_000, sequential())
    assert math.isclose(marginal.log_likelihood, total, abs_tol=0.02)


def test_what_fills_a_row_does_not_depend_on_its_company():
    module = tiny()
    x = ragged([[1.0], [0.0], [1.0]], [[0.0], [1.0]], [[0.0]], length=4)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:2, 0, 0] = mask[0, 2, 0] = False
    found = conditional.searched_posterior(module, Batch(x, mask), 90, rng.PerRow(x, 0))
    assert torch.equal(found.x[:, 2], x[2].expand(90, 4, 2))
    for i in range(3):
        one = slice(i, i + 1)
        alone = conditional.searched_posterior(
            module, Batch(x[one], mask[one]), 90, rng.PerRow(x[one], 0)
        )
        assert torch.equal(alone.x, found.x[:, one])
        assert torch.allclose(alone.weight, found.weight[:, one], atol=1e-12)
