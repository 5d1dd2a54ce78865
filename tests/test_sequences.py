"""Sequences: p(x | z) step by step, networks that read and write them, and missing steps."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch.distributions import Normal

from skvae import distributions, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import (
    Categorical,
    DiscretizedLogisticMixture,
    Gaussian,
    NegativeBinomial,
    Ordinal,
    Poisson,
    Sequence,
)
from skvae.models import Assembly
from skvae.networks import MLP
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
    rows = ragged([[1.0, 0.0]], [[3.0, 2.0], [8.0, 4.0]], [[0.0, 6.0]] * 3, length=4)
    rows[2, 0, 0] = torch.nan
    module.calibrate(rows.mean(0), torch.ones(4, 3, dtype=F64), rows)
    values = torch.tensor([[1.0, 3, 8, 0, 0], [0, 2, 4, 6, 6]], dtype=F64)
    assert torch.allclose(module.step.base, torch.stack([values[0], values[1, :]]).new_tensor(
        [12 / 5, (0 + 2 + 4 + 18) / 6]).log())  # fmt: skip
    assert math.isclose(torch.sigmoid(module.base), 3.5 / 7, rel_tol=1e-6)
    logs = values[0].log1p()
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


def assembled(likelihood, event_shape, network, d=2, seed=0):
    spec = Assembly(event_shape, d, likelihood, Diagonal(), Standard(), network)
    assert Assembly.from_json(spec.to_json()) == spec
    return spec.build(seed).double()


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
    evidence = module.evidence(Batch(rows), 2, sequential())
    evidence.elbo.sum().backward()
    assert all(p.grad is not None for p in module.parameters())
    assert dataclasses.is_dataclass(module.spec)
