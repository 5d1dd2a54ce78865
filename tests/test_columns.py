"""Tables: a likelihood for each column, logits of low rank, and the network that sees holes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from skvae import VAE, distributions, families, load, rng
from skvae.conditional import PosteriorSample
from skvae.data import Transform, check_support
from skvae.estimators._core import Core
from skvae.estimators._fit_rows import InMemory, Streamed
from skvae.evidence import Batch
from skvae.exceptions import DataError, ModelFileError, ParameterError
from skvae.likelihoods import (
    Bernoulli,
    Beta,
    Categorical,
    Columns,
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Ordinal,
    Poisson,
    Sequence,
    StudentT,
    Support,
)
from skvae.models import Assembly
from skvae.networks import MLP, Table
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.spec import Spec
from skvae.streams import Rows, survey
from skvae.testing import check_likelihood, check_network

DTYPE = torch.float64
NAN = math.nan

# Equal ones stand apart, and the order of the groups is not that of the columns.
MIXED = Columns(
    (Gaussian(), Categorical(3), Gaussian(), Bernoulli(), Poisson(), Categorical(3), Ordinal(4))
)
# Where their numbers are in the decoder's output: the K numbers of a group's cells stand in front.
PLACES = {0: [0], 2: [1], 1: [2, 4, 6], 5: [3, 5, 7], 3: [8], 4: [9], 6: [10]}
ROW = [0.3, 2.0, -1.1, 1.0, 4.0, 0.0, 2.0]


def tensor(values):
    return torch.tensor(values, dtype=DTYPE)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=rng.generator(seed), dtype=DTYPE)


def built(likelihood, event):
    with rng.isolated(0):
        return likelihood.build(event).double()


def count_ratio(h):
    """The mean of a count relative to that of its column."""
    return math.log1p(math.exp(15 * math.tanh(h / 15) if h < 0 else h)) / math.log(2)


def ordinal_probabilities(h, n):
    """Equal frequencies at h = 0: cut points are the log-odds of k / n."""
    cuts = [math.log(k / (n - k)) for k in range(1, n)]
    below = [0.0, *(1 / (1 + math.exp(h - c)) for c in cuts), 1.0]
    return np.diff(below)


# -- the law --------------------------------------------------------------------------------------


def test_every_cell_is_scored_by_its_own_likelihood():
    module = built(MIXED, (7,))
    assert module.param_shape == (11,)
    assert module.event_shape == (7,)
    h = randn(5, 2, 11)
    p = module(h)
    assert p.batch_shape == (5, 2, 7)
    assert p.event_shape == ()
    found = p.log_prob(tensor(ROW).expand(2, 7))
    assert found.shape == (5, 2, 7)
    for i, j in np.ndindex(5, 2):
        own = {column: h[i, j, places].numpy() for column, places in PLACES.items()}
        expected = [
            stats.norm(own[0][0], 1).logpdf(0.3),
            own[1][2] - np.logaddexp.reduce(own[1]),
            stats.norm(own[2][0], 1).logpdf(-1.1),
            -np.logaddexp(0, -own[3][0]),
            stats.poisson(count_ratio(own[4][0])).logpmf(4),
            own[5][0] - np.logaddexp.reduce(own[5]),
            math.log(ordinal_probabilities(own[6][0], 4)[2]),
        ]
        assert np.allclose(found[i, j].detach(), expected, atol=1e-6)


def test_equal_columns_are_one_group():
    module = Columns((Gaussian(),) * 30).build((30,))
    assert len(module.groups) == 1
    h = randn(4, 30)
    x = randn(4, 30, seed=1)
    assert torch.equal(module.double()(h).log_prob(x), built(Gaussian(), (30,))(h).log_prob(x))
    assert MIXED.groups == {
        Gaussian(): [0, 2],
        Categorical(3): [1, 5],
        Bernoulli(): [3],
        Poisson(): [4],
        Ordinal(4): [6],
    }


def test_the_parts_can_be_read():
    module = built(MIXED, (7,))
    h = randn(2, 11)
    parts = module(h).parts
    assert [index.tolist() for index, _ in parts] == [[0, 2], [1, 5], [3], [4], [6]]
    probabilities = torch.softmax(h[:, [3, 5, 7]], -1)
    assert torch.allclose(parts[1][1].probs[:, 1], probabilities)
    assert isinstance(parts[3][1], families.Poisson)


def test_what_follows_from_the_spec_is_not_in_the_file():
    assert list(built(Columns((Gaussian(), Poisson(), Gaussian())), (3,)).state_dict()) == [
        "groups.0.cells.raw_scale",
        "groups.0.reader.center",
        "groups.0.reader.spread",
        "groups.1.cells.base",
        "groups.1.reader.center",
        "groups.1.reader.spread",
    ]


def test_the_mean_is_a_value_that_a_cell_may_have():
    module = built(MIXED, (7,))
    h = torch.zeros(3, 11, dtype=DTYPE)
    h[0] = tensor([0.5, -2.0, 0.1, 0.0, 0.2, 0.0, 0.0, 3.0, 0.4, 1.0, -0.2])
    h[1] = tensor([1.5, 2.0, 0.0, 1.0, 0.2, 0.0, 0.9, 0.0, -0.4, -1.0, 2.0])
    h[2, 10] = -3.0
    mean = module(h).mean
    expected = tensor(
        [
            [0.5, 1.0, -2.0, 1.0, count_ratio(1.0), 2.0, 1.0],
            [1.5, 2.0, 2.0, 0.0, count_ratio(-1.0), 0.0, 3.0],
            [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        ]
    )
    assert torch.allclose(mean, expected)
    for i, height in enumerate([-0.2, 2.0, -3.0]):
        below = ordinal_probabilities(height, 4).cumsum()
        median = int(mean[i, 6])
        assert below[median] >= 0.5 - 1e-12
        assert median == 0 or below[median - 1] < 0.5


@pytest.mark.parametrize("kind", ["sequential", "per_row"])
def test_draws_are_those_of_the_parts_in_their_order(kind):
    module = built(MIXED, (7,))
    h, rows = randn(6, 11), randn(6, 7, seed=1)

    def noise():
        return rng.PerRow(rows, 3) if kind == "per_row" else rng.Sequential(rng.generator(3))

    x = distributions.draw(module(h), (50,), noise())
    assert x.shape == (50, 6, 7)
    source = noise()
    for columns, cells in module(h).parts:
        assert torch.equal(x[..., columns], distributions.draw(cells, (50,), source))
    again = distributions.draw(module(h[2:3]), (50,), rng.PerRow(rows[2:3], 3))
    assert torch.allclose(again[:, 0], x[:, 2]) == (kind == "per_row")


def test_draws_follow_the_parameters_of_each_column():
    n = 4000
    module = built(MIXED, (7,))
    h = randn(11, seed=2)
    x = distributions.draw(module(h.expand(n, 11)), (), rng.Sequential(rng.generator(0)))
    x = x.detach()
    p = torch.softmax(h[[2, 4, 6]], 0)
    q = torch.softmax(h[[3, 5, 7]], 0)
    ordinal = tensor(ordinal_probabilities(h[10].item(), 4))
    rate = tensor(count_ratio(h[9].item()))
    means = torch.stack(
        [h[0], p[1] + 2 * p[2], h[1], h[8].sigmoid(), rate, q[1] + 2 * q[2],
         (ordinal * torch.arange(4)).sum()]
    )  # fmt: skip
    assert ((x.mean(0) - means).abs() < 4 * x.std(0) / n**0.5).all()
    assert (np.corrcoef(x.numpy().T) - np.eye(7) < 0.06).all()


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        (MIXED, ROW),
        (Columns((Beta(), Gaussian(scale="per_cell"), NegativeBinomial())), [0.4, -3.0, 7.0]),
        (Columns((Categorical(40, rank=2), LogNormal(), Categorical(40, rank=2))), [39, 2.5, 0]),
    ],
)
def test_it_keeps_the_contract(spec, row):
    check_likelihood(spec, tensor([row, row, row]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(dtype):
    spec = Columns((*MIXED.columns, LogNormal(), Categorical(40, rank=2), NegativeBinomial()))
    with rng.isolated(0):
        module = spec.build((10,)).to(dtype)
    for value in (1e4, -1e4):
        h = torch.full((2, *module.param_shape), value, dtype=dtype).requires_grad_()
        p = module(h)
        x = torch.tensor([[0.0] * 10, [1e6, 2, -1e6, 1, 1e6, 2, 3, 1e30, 39, 1e6]], dtype=dtype)
        assert p.mean.dtype == dtype
        assert torch.isfinite(p.mean).all()
        p.log_prob(x).sum().backward()
        assert torch.isfinite(h.grad).all()
        shown, _ = module.represent(x, None)
        assert shown.dtype == dtype
        assert torch.isfinite(shown).all()


# -- learning from the data -----------------------------------------------------------------------


def test_each_group_is_calibrated_by_its_own_columns():
    spec = Columns((Poisson(), Bernoulli(), Gaussian(scale="unit"), Poisson(), Categorical(2)))
    rows = tensor(
        [[1, 0, 0.5, 8, 1], [3, 1, -0.5, 2, 1], [NAN, 0, 1.5, NAN, 0], [2, 0, NAN, 2, NAN]]
    ).float()
    mean, unit = rows.nanmean(0), torch.tensor([1.0, 1.0, 4.0, 1.0, 1.0])
    module = spec.build((5,))
    module.calibrate(mean, unit, rows)
    p = module(torch.zeros(2, *module.param_shape))
    assert torch.allclose(p.mean[0], torch.tensor([2.0, 0.0, 0.0, 4.0, 1.0]))
    (_, poisson), (_, bernoulli), (_, gaussian), (_, codes) = p.parts
    assert torch.allclose(poisson.mean, torch.tensor([2.0, 4.0]))
    assert torch.allclose(bernoulli.probs, torch.tensor(0.25))
    assert torch.allclose(gaussian.stddev, torch.tensor(0.25))
    assert torch.allclose(codes.probs[0, 0], torch.tensor([1.5, 2.5]) / 4)
    assert torch.allclose(module.groups[0].reader.center, rows[:, [0, 3]].log1p().nanmean(0))
    assert torch.allclose(module.groups[3].reader.share, torch.tensor([[1 / 3, 2 / 3]]))


def test_without_rows_only_the_means_are_learned():
    module = Columns((Poisson(), Categorical(2))).build((2,))
    module.calibrate(torch.tensor([3.0, 0.0]), torch.ones(()))
    p = module(torch.zeros(1, 3))
    assert p.mean[0, 0].item() == pytest.approx(3.0)
    assert torch.allclose(p.parts[1][1].probs, torch.tensor(0.5))
    assert not module.groups[0].reader.center.any()


def test_each_group_adapts_to_its_own_columns():
    module = built(Columns((Gaussian("optimal"), Bernoulli(), Gaussian("optimal"))), (3,))
    h, x = randn(4, 5, 3), randn(5, 3, seed=1)
    x[:, 1] = (x[:, 1] > 0).to(x)
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[2, 0] = mask[1, 1] = mask[4, 2] = False
    p = module.train().adapt(module(h), x, mask)
    errors = (x[:, [0, 2]] - h[..., :2]) ** 2  # the logits of column 1 come last
    variance = errors[:, mask[:, [0, 2]]].mean()
    expected = stats.norm(h[..., 1], variance.sqrt()).logpdf(x[:, 2])
    assert np.allclose(p.log_prob(x)[..., 2], expected)
    assert torch.allclose(p.log_prob(x)[..., 1], families.Bernoulli(h[..., 2]).log_prob(x[:, 1]))
    whole = module.adapt(module(h), x, None)
    assert torch.allclose(whole.parts[0][1].variance, errors.mean())
    assert p.mean.shape == (4, 5, 3)


# -- support --------------------------------------------------------------------------------------


def test_the_support_is_that_of_each_column():
    support = Columns((Gaussian(), Bernoulli(), Categorical(3))).support
    X = np.array([[-9.0, 0.5, 2.0], [1e9, 1.5, 3.0], [NAN, NAN, NAN], [0.0, -1.0, 0.5]])
    expected = [[False] * 3, [False, True, True], [False] * 3, [False, True, True]]
    assert support.forbids(X).tolist() == expected
    assert support.at(0) == Support(likelihood="gaussian")
    assert (support.at(2).low, support.at(2).high, support.at(2).integral) == (0, 2, True)
    assert (support.low, support.high, support.integral) == (-math.inf, math.inf, True)
    positive = Columns((LogNormal(), Bernoulli())).support
    assert (positive.low, positive.high, positive.integral) == (0, math.inf, False)
    assert Support(0.0).at(3) == Support(0.0)


def test_messages_name_the_likelihood_and_the_range_of_the_column():
    support = Columns((Gaussian(), Bernoulli(), Poisson())).support
    X = np.array([[-700.0, 0.0, 2.0], [900.0, 1.0, 3.0]])
    check_support(X, support, "columns")
    X[1, 1] = 4
    message = r"^X\[1, 1\] = 4, .*'bernoulli' needs values in \[0, 1\] \(found 0 to 4\).*by 4"
    with pytest.raises(DataError, match=message):
        check_support(X, support, "columns")
    X[1, 1], X[0, 2] = 1, -1
    message = r"^Negative values in data: X\[0, 2\] = -1, .*'poisson' .*found -1 to 3\)\. Round"
    with pytest.raises(DataError, match=message):
        check_support(X, support, "columns")
    with pytest.raises(DataError, match=r"'poisson'"):
        InMemory(X, 0).check(Columns((Gaussian(), Bernoulli(), Poisson())))


@pytest.mark.parametrize("shape", [(3,), (1, 2), (1,), ()])
def test_rows_of_another_shape_are_refused(shape):
    message = rf"2 likelihoods.*\(2,\); received rows of shape \({shape[0] if shape else ''}"
    with pytest.raises(ParameterError, match=message):
        Columns((Gaussian(), Poisson())).build(shape)
    if len(shape) == 1:
        with pytest.raises(ParameterError, match=message):
            Columns((Gaussian(), Poisson())).support.forbids(np.zeros((2, *shape)))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ((), r"received \(\)"),
        (Gaussian(), r"tuple with the likelihood of each column; received Gaussian"),
        ("gaussian", r"tuple with the likelihood of each column; received 'gaussian'"),
        ((Gaussian(), "poisson"), r"columns\[1\] must be .*received 'poisson'"),
        ((Sequence(),), r"columns\[0\] must be the likelihood of a cell.*received Sequence"),
        ((Gaussian(), Gaussian(), Columns()), r"columns\[2\] .*received Columns"),
    ],
)
def test_what_is_no_likelihood_of_a_cell_is_refused(columns, message):
    with pytest.raises(ParameterError, match=message):
        Columns(columns)


def test_specs():
    assert Likelihood.resolve("columns") == Columns((Gaussian(),))
    assert Columns([Gaussian(), Poisson()]) == Columns((Gaussian(), Poisson()))
    assert hash(Columns([Poisson()])) == hash(Columns((Poisson(),)))
    with pytest.raises(ParameterError, match="Sequence: step must be the likelihood of one step"):
        Sequence(MIXED)
    assert Spec.from_json(MIXED.to_json()) == MIXED
    broken = {**MIXED.to_json(), "columns": [Standard().to_json()]}
    with pytest.raises(ModelFileError, match=r"columns\[0\]"):
        Spec.from_json(broken)


# -- what networks see ----------------------------------------------------------------------------


def test_each_kind_of_column_is_shown_in_its_own_way():
    spec = Columns((Poisson(), Categorical(3), LogNormal(), Ordinal(3), Gaussian(), Bernoulli()))
    rows = tensor(
        [
            [0, 0, 1.0, 2, 1.0, 1],
            [3, 2, 8.0, 0, 2.0, 0],
            [NAN, 2, NAN, 2, 6.0, 0],
            [0, NAN, 0.5, NAN, NAN, NAN],
        ]
    )
    module = built(spec, (6,))
    module.calibrate(rows.nanmean(0), torch.ones(6), rows)
    assert module.input_shape == (8,)
    mask = ~rows.isnan()
    shown, seen = module.represent(rows, mask)

    def standardised(values):
        return (values - values.nanmean()) / (values - values.nanmean()).square().nanmean().sqrt()

    share = tensor([1 / 3, 0.0, 2 / 3])
    expected = torch.cat(
        [
            standardised(rows[:, 0].log1p())[:, None],
            torch.stack([tensor([1.0, 0, 0]), *[tensor([0, 0, 1.0])] * 2, tensor([NAN] * 3)])
            - share,
            standardised(rows[:, 2].log())[:, None],
            *(standardised(rows[:, j])[:, None] for j in (3, 4, 5)),
        ],
        -1,
    ).nan_to_num()
    assert torch.allclose(shown, expected)
    assert torch.equal(seen, mask[:, [0, 1, 1, 1, 2, 3, 4, 5]])
    whole, none = module.represent(rows[:1], None)
    assert none is None
    assert torch.allclose(whole, expected[:1])
    assert torch.isfinite(module.represent(rows, None)[0][:2]).all()
    other, _ = module.represent(torch.where(mask, rows, 1e9), mask)
    assert torch.equal(other, shown)


def test_a_column_without_any_value_is_shown_as_nothing():
    module = built(Columns((Categorical(3), Gaussian(), LogNormal())), (3,))
    rows = torch.full((4, 3), NAN, dtype=DTYPE)
    module.calibrate(torch.zeros(3), torch.ones(3), rows)
    shown, _ = module.represent(rows, ~rows.isnan())
    assert torch.equal(shown, torch.zeros(4, 5, dtype=DTYPE))
    new, _ = module.represent(tensor([[1.0, 2.0, math.e]]), None)
    assert torch.allclose(new, tensor([[0.0, 1.0, 0.0, 2.0, 1.0]]))


def test_many_categories_are_shown_as_learned_vectors():
    assert built(Columns((Categorical(32),)), (1,)).input_shape == (32,)
    module = built(Columns((Categorical(33), Categorical(33))), (2,))
    width = round(1.6 * 33**0.56)
    assert module.input_shape == (2 * width,)
    shown, _ = module.represent(tensor([[7.0, 32.0]]), None)
    vectors = module.groups[0].reader.vectors.weight
    assert torch.equal(shown[0], torch.cat([vectors[7], vectors[33 + 32]]))


def test_gradients_of_what_is_shown_are_finite_at_the_edge():
    """Of hidden cells, which hold 0, and of pseudo-inputs that have left the support."""
    module = built(Columns((Poisson(), LogNormal())), (2,))
    x = tensor([[0.0, 0.0], [-2.0, -1.0], [3.0, 2.0]]).requires_grad_()
    mask = torch.tensor([[False, False], [True, True], [True, True]])
    module.represent(x, mask)[0].sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0], [0.25, 0.5]]


# -- one value from many draws of z ---------------------------------------------------------------


def test_probabilities_are_averaged_before_a_code_is_chosen():
    spec = Columns((Categorical(3), Gaussian(), Ordinal(4), Bernoulli(), Categorical(3)))
    module = built(spec, (5,))
    # (columns 0 and 4), (1), (2), (3): codes first, each by all its probabilities
    codes = [[0.6, 0.4, 0.0], [0.0, 0.45, 0.55], [0.0, 0.45, 0.55]]
    levels = [[0.1, 0.3, 0.0, 0.6], [0.2, 0.2, 0.2, 0.4], [0.3, 0.3, 0.4, 0.0]]
    yes, number, weights = [0.9, 0.3, 0.4], [1.0, -2.0, 5.0], [0.5, 0.25, 0.25]
    second = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    weighted = [
        (tensor([[*codes[k], *second[k], number[k], *levels[k], yes[k]]]), tensor([[weights[k]]]))
        for k in range(3)
    ]
    # Votes would elect code 0; of 1.0, the third of the levels is the first to reach a half.
    mean_codes = np.average(codes, 0, weights)
    mean_levels = np.average(levels, 0, weights)
    assert mean_codes.argmax() == 1
    assert mean_levels.cumsum()[1] == pytest.approx(0.45)
    assert mean_levels.cumsum()[2] == pytest.approx(0.6)
    assert module.pool(weighted).tolist() == [[1.0, 1.25, 2.0, 1.0, 2.0]]


def test_statistics_are_means_and_probabilities():
    module = built(MIXED, (7,))
    p = module(randn(3, 2, 11))
    statistics = module.statistics(p)
    assert statistics.shape == (3, 2, 2 + 2 * 3 + 1 + 1 + 4)
    assert torch.equal(statistics[..., :2], p.mean[..., [0, 2]])
    assert torch.equal(statistics[..., 2:5], p.parts[1][1].probs[..., 0, :])
    assert torch.equal(statistics[..., 5:8], p.parts[1][1].probs[..., 1, :])
    assert torch.equal(statistics[..., 8], p.parts[2][1].probs[..., 0])
    assert torch.equal(statistics[..., 10:], p.parts[4][1].probs[..., 0, :])
    one = module.pool([(statistics[0], torch.ones(2, 1, dtype=DTYPE))])
    assert torch.equal(one, p.mean[0])
    gaussian = built(Gaussian(), (2,))
    assert torch.equal(gaussian.statistics(gaussian(randn(3, 2))), randn(3, 2))


def test_a_median_at_exactly_a_half_is_the_lower_one():
    summary = Ordinal(3).summary
    assert summary.value(tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]])).tolist() == [0, 1]
    assert summary.value(tensor([[0.0, 0.0, 1.0], [0.49, 0.51, 0.0]])).tolist() == [2, 1]
    assert Bernoulli().summary.value(tensor([[0.5], [0.51]])).tolist() == [0, 1]


def assembled(likelihood, d):
    parts = Assembly((d,), 2, likelihood, Diagonal(), Standard(), Table((8, 8)))
    return parts.build(0).double()


def test_the_posterior_mean_averages_what_the_decoder_says():
    module = assembled(MIXED, 7)
    z = randn(6, 3, 2)
    weight = torch.softmax(randn(6, 3, seed=1), 0)
    with torch.no_grad():
        sample = PosteriorSample(z, weight, torch.zeros(3))
        found = sample.mean(module, Batch(tensor(ROW).expand(3, 7)))
        p = module.generate(z)
        numbers = (weight.unsqueeze(-1) * p.mean).sum(0)
        codes = (weight[..., None, None] * p.parts[1][1].probs).sum(0).argmax(-1)
    assert torch.allclose(found[:, [0, 2, 4]], numbers[:, [0, 2, 4]])
    assert torch.equal(found[:, [1, 5]], codes.to(found))
    assert set(found[:, 3].tolist()) <= {0.0, 1.0}


# -- logits of low rank ---------------------------------------------------------------------------


@pytest.mark.parametrize("event", [(4,), (2, 3)])
def test_low_rank_with_the_identity_is_the_full_likelihood(event):
    full, low = built(Categorical(3), event), built(Categorical(3, rank=3), event)
    rows = torch.randint(0, 3, (20, *event), generator=rng.generator(0)).float()
    for module in (full, low):
        module.calibrate(rows.mean(0), torch.ones(()), rows)
    eye = torch.eye(3, dtype=DTYPE).view(3, 3, *[1] * len(event))
    with torch.no_grad():
        low.weight.copy_(eye.expand(low.weight.shape))
    h = randn(5, 2, 3, *event)
    assert low.param_shape == full.param_shape == (3, *event)
    assert torch.allclose(low(h).logits, full(h).logits)


def test_low_rank_logits_are_linear_in_what_is_decoded():
    module = built(Categorical(5, rank=2), (3,))
    assert module.param_shape == (2, 3)
    h = randn(4, 2, 3)
    p = module(h)
    logits = torch.log_softmax(torch.einsum("bed,ked->bdk", h, module.weight), -1)
    assert torch.allclose(p.logits, logits)
    rows = tensor([[0.0, 4.0, 1.0], [0.0, 4.0, 2.0]])
    module.calibrate(rows.mean(0), torch.ones(()), rows)
    start = module(torch.zeros(1, 2, 3, dtype=DTYPE)).probs[0]
    assert torch.allclose(start[0], tensor([2.2, 0.2, 0.2, 0.2, 0.2]) / 3)
    assert torch.allclose(start[2], tensor([0.2, 1.2, 1.2, 0.2, 0.2]) / 3)


def test_thousands_of_categories():
    spec = Columns((Gaussian(), Categorical(5000, rank=8)))
    module = assembled(spec, 2)
    assert module.likelihood.param_shape == (9,)
    x = tensor([[0.1, 4999.0], [-0.3, 17.0], [1.0, NAN]])
    module.calibrate(torch.zeros(2), torch.ones(2), x)
    evidence = module.evidence(Batch(x, ~x.isnan()), 2, rng.Sequential(rng.generator(0)))
    evidence.log_px.sum().backward()
    weight = module.likelihood.groups[1].cells.weight
    assert (weight.grad != 0).all(1).any()
    assert torch.isfinite(weight.grad).all()
    assert weight.square().sum(1).mean().item() == pytest.approx(1.0, abs=0.05)
    assert torch.isfinite(evidence.log_px).all()
    sizes = [parameter.numel() for parameter in module.decoder.parameters()]
    assert max(sizes) == 8 * 9


def test_the_rank_is_checked():
    for rank in (0, True, 1.5):
        with pytest.raises(ParameterError, match=r"Categorical: rank must be an integer >= 1"):
            Categorical(10, rank=rank)
    assert Categorical(10) != Categorical(10, rank=10)


# -- transforms -----------------------------------------------------------------------------------

POSITIVE = Columns((Gaussian(), Poisson(), LogNormal(), Gaussian("unit"), StudentT(), LogNormal()))


def positive_table():
    g = np.random.default_rng(0)
    X = np.exp(g.normal(size=(500, 6))) * [1, 1, 1e9, 3, 1e-9, 1]
    X[:, 1] = np.round(X[:, 1])  # with zeros, which have no logarithm
    X[:, [0, 4]] *= g.choice([-1, 1], (500, 2))
    return X


class Blocks(Rows):
    """Rows in memory, in two blocks."""

    def __init__(self, X):
        self.X, self.sizes = X, np.array([200, len(X) - 200])
        self.event_shape, self.dtype, self.columns = X.shape[1:], X.dtype, None

    def block(self, i):
        return self.X[:200] if i == 0 else self.X[200:]

    def origin(self, i):
        return "rows", 200 * i


def test_each_column_has_its_own_units():
    X = positive_table()
    assert POSITIVE.standardize == (
        "per_feature", "none", "scale", "shared", "per_feature", "scale",
    )  # fmt: skip
    transform = Transform.fit(X, POSITIVE.standardize)
    log_mean = np.exp(np.log(X[:, [2, 5]]).mean(0))
    mean, std = X.mean(0), X.std(0)
    assert np.allclose(transform.shift, [mean[0], 0, 0, mean[3], mean[4], 0], rtol=1e-12, atol=0)
    expected = [std[0], 1, log_mean[0], std[3], std[4], log_mean[1]]
    assert np.allclose(transform.unit, expected, rtol=1e-12, atol=0)
    two = Transform.fit(X, ("shared", "none", "none", "shared", "none", "none"))
    assert two.unit[0] == two.unit[3] == pytest.approx(np.sqrt(X[:, [0, 3]].var(0).mean()))
    assert two.unit[[1, 2, 4, 5]].tolist() == [1] * 4


def test_files_find_the_same_units():
    X = positive_table()
    own = survey(Blocks(X), 0)
    streamed = Streamed(Blocks(X), 0, known=own)
    there, here = streamed.transform(POSITIVE.standardize), Transform.fit(X, POSITIVE.standardize)
    assert np.allclose(there.shift, here.shift, rtol=1e-10, atol=0)
    assert np.allclose(there.unit, here.unit, rtol=1e-10, atol=0)
    assert np.isnan(own.log).tolist() == [True, True, False, False, True, False]
    streamed.check(POSITIVE)
    X[250, 5] = -1
    with pytest.raises(DataError, match=r"rows\[250, 5\] = -1, .*'log_normal'"):
        Streamed(Blocks(X), 0).check(POSITIVE)
    X[250, 5], X[3, 1] = 1, 0.5
    with pytest.raises(DataError, match=r"rows\[3, 1\] = 0.5, .*'poisson'"):
        Streamed(Blocks(X), 0).check(POSITIVE)


def created(X, likelihood):
    return Core.create(
        InMemory(X, 0),
        event_shape=(X.shape[1],),
        n_components=2,
        likelihood=likelihood,
        posterior=Diagonal(),
        prior="auto",
        network=MLP((4,)),
        model="vae",
        binarize=None,
        device=torch.device("cpu"),
    )


def test_a_model_starts_at_the_means_of_the_columns():
    X = positive_table()
    core = created(X, POSITIVE)
    module = core.module.likelihood
    with torch.no_grad():
        p = module(torch.zeros(1, *module.param_shape))
    middle = core.transform.decode(p.mean)[0]
    assert middle[[0, 3, 4]] == pytest.approx(X.mean(0)[[0, 3, 4]], rel=1e-6)
    assert middle[1] == pytest.approx(X[:, 1].mean(), rel=1e-6)
    assert np.allclose(core.module.log_unit, np.log(core.transform.unit))
    assert p.log_prob(torch.zeros(6))[0, 3].item() == pytest.approx(
        stats.norm(0, 1 / X[:, 3].std()).logpdf(0), rel=1e-5
    )
    assert created(X, Gaussian()).transform.shift == pytest.approx(X.mean(0))


# -- the network ----------------------------------------------------------------------------------


def encoder_of(spec, event=(3,)):
    with rng.isolated(0):
        return spec.build_encoder(event).double()


@pytest.mark.parametrize(
    "spec", [Table(), Table(()), Table((4,)), Table((6, 6, 5), "relu"), Table((3, 3), "tanh")]
)
@pytest.mark.parametrize("event", [(4,), (1, 2, 3)])
def test_the_network_keeps_its_contract(spec, event):
    check_network(spec, event)
    widths = (2 * math.prod(event), *spec.hidden_layer_sizes)
    assert encoder_of(spec, event).out_features == widths[-1]


def test_the_encoder_reads_values_and_whether_they_are_seen():
    encoder = encoder_of(Table(()))
    encoder.calibrate(tensor([1.0, 2.0, 3.0]), tensor([[1.0, 2.0, 3.0]]))
    with torch.no_grad():
        encoder.fill.copy_(tensor([0.1, 0.2, 0.3]))
    x = tensor([[5.0, NAN, 3.5]])
    found = encoder(x, torch.tensor([[True, False, True]]))
    assert torch.allclose(found, tensor([[4.0, 0.2, 0.5, 1.0, 0.0, 1.0]]))
    whole = encoder(tensor([[5.0, 2.0, 3.5]]))
    assert torch.allclose(whole, tensor([[4.0, 0.0, 0.5, 1.0, 1.0, 1.0]]))


def normalised(h):
    return (h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()


def test_layers_between_equal_widths_are_residual():
    encoder = encoder_of(Table((4, 4, 2), "tanh"))
    x = randn(5, 3)
    first, second, third = (m for m in encoder.modules() if isinstance(m, torch.nn.Linear))
    h = first(torch.cat([x, torch.ones_like(x)], 1))
    h = h + second(normalised(h).tanh())
    h = third(normalised(h).tanh())
    assert torch.allclose(encoder(x), normalised(h).tanh(), atol=1e-12)


def test_the_decoder_mirrors_the_encoder():
    with rng.isolated(0):
        decoder = Table((5, 4, 4), "relu").build_decoder(2, (3, 2)).double()
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear)]
    sizes = [(m.in_features, m.out_features) for m in linear]
    assert sizes == [(2, 4), (4, 4), (4, 5), (5, 6)]
    z = randn(6, 7, 2)
    h = linear[0](z)
    h = h + linear[1](normalised(h).relu())
    h = linear[2](normalised(h).relu())
    expected = linear[3](normalised(h).relu()).view(6, 7, 3, 2)
    assert torch.allclose(decoder(z), expected, atol=1e-12)
    with rng.isolated(0):
        plain = Table(()).build_decoder(2, (3,))
    assert [m.weight.shape for m in plain.modules() if isinstance(m, torch.nn.Linear)] == [(3, 2)]


@given(data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_what_is_hidden_never_counts(data):
    """Whatever a hidden cell holds, also NaN and infinity; and rows do not see each other."""
    encoder = encoder_of(Table((4, 4)))
    x = randn(4, 3)
    flags = data.draw(st.lists(st.booleans(), min_size=12, max_size=12))
    mask = torch.tensor(flags).view(4, 3)
    odd = data.draw(st.sampled_from([NAN, math.inf, -math.inf, 1e300, 0.0]))
    expected = encoder(x, mask)
    assert torch.equal(encoder(torch.where(mask, x, odd), mask), expected)
    assert torch.isfinite(expected).all()
    assert torch.allclose(encoder(x[1:2], mask[1:2]), expected[1:2], atol=1e-12)


def test_rows_with_nothing_to_see_and_gradients_of_the_fill():
    encoder = encoder_of(Table((4, 4)))
    x = torch.full((2, 3), NAN, dtype=DTYPE).requires_grad_()
    features = encoder(x, torch.zeros(2, 3, dtype=torch.bool))
    assert torch.isfinite(features).all()
    assert torch.equal(features[0], features[1])
    mask = torch.tensor([[True, False, True]])
    encoder(torch.where(mask, 1.0, NAN).double(), mask).square().sum().backward()
    assert (encoder.fill.grad != 0).tolist() == [False, True, False]
    encoder.zero_grad()
    encoder(randn(2, 3)).sum().backward()
    assert encoder.fill.grad.tolist() == [0, 0, 0]  # not None: every process has one


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_network_takes_any_number(dtype):
    encoder = encoder_of(Table((4, 4))).to(dtype)
    x = torch.tensor([[1e30, -1e30, 0.0], [1e38, 1e38, 1e38]], dtype=dtype)
    features = encoder(x)
    assert features.dtype == dtype
    assert torch.isfinite(features).all()
    assert torch.equal(features, encoder(x.clamp(-1e6, 1e6)))
    assert not torch.equal(features, encoder(x.clamp(-9e5, 9e5)))


def test_the_fields_of_the_network_are_checked():
    with pytest.raises(ParameterError, match="hidden_layer_sizes"):
        Table((3, 0))
    with pytest.raises(ParameterError, match="Did you mean 'silu'"):
        Table(activation="sillu")
    assert Table() == Table((128, 128, 128), "silu")


# -- through the estimator ------------------------------------------------------------------------

KINDS = Columns((Gaussian(), Bernoulli(), Poisson(), Ordinal(4), Categorical(3), LogNormal()))


def table():
    """A hidden number behind all columns."""
    g = np.random.default_rng(0)
    level = g.normal(size=240)
    return np.column_stack(
        [
            1e3 * level + 5e4 + 200 * g.normal(size=240),
            level > 0,
            g.poisson(3 * np.exp(level / 2)),
            np.clip(np.round(1.5 * level + 1.5), 0, 3),
            np.where(level > 0.5, 1, np.where(level < -0.5, 2, 0)),
            1e-6 * np.exp(2 * level + 0.2 * g.normal(size=240)),
        ]
    ).astype(float)


@pytest.fixture(scope="module")
def fitted():
    return VAE(
        2,
        likelihood=KINDS,
        network=Table((24, 24)),
        max_epochs=25,
        batch_size=40,
        learning_rate=0.01,
        random_state=0,
    ).fit(table())


def test_holes_of_a_mixed_table_are_filled(fitted):
    X = table()
    holes = X.copy()
    hidden = np.zeros(X.shape, bool)
    hidden[np.arange(len(X)), np.arange(len(X)) % 6] = True
    hidden[0] = True
    holes[hidden] = NAN
    filled = fitted.impute(holes, n_samples=18)
    assert np.array_equal(filled[~hidden], X[~hidden])
    check_support(filled[:, [1, 3, 4, 5]], Columns((Bernoulli(), *KINDS.columns[3:])).support, "")
    for column in (1, 3, 4):
        own = hidden[:, column]
        usual = np.bincount(X[:, column].astype(int)).argmax()
        right = (filled[own, column] == X[own, column]).mean()
        assert right > (X[own, column] == usual).mean() + 0.15
        assert np.array_equal(filled[own, column], np.round(filled[own, column]))
    for column in (0, 5):
        own = hidden[:, column]
        assert np.corrcoef(filled[own, column], X[own, column])[0, 1] > 0.7
    for draw in fitted.impute(holes[:24], n_draws=2, n_samples=18, random_state=0):
        check_support(draw, KINDS.support, "columns")
        assert np.array_equal(draw[~hidden[:24]], X[:24][~hidden[:24]])


def test_samples_are_rows_of_a_mixed_table(fitted):
    sample = fitted.sample(300, random_state=1)
    check_support(sample, KINDS.support, "columns")
    assert set(np.unique(sample[:, 1])) == {0, 1}
    X = table()
    assert (np.abs(sample.mean(0) - X.mean(0)) < 0.5 * X.std(0))[:5].all()
    middle = fitted.inverse_transform(np.zeros((1, 2)))
    codes = Columns((Bernoulli(), *KINDS.columns[3:])).support  # the mean of counts is no count
    check_support(middle[:, [1, 3, 4, 5]], codes, "columns")


def test_scores_are_in_the_units_of_the_table(fitted):
    X = table()
    alone = created(X, KINDS).marginal(X, 5)["log_likelihood"]
    scaled = created(X * [8, 1, 1, 1, 1, 32], KINDS).marginal(X * [8, 1, 1, 1, 1, 32], 5)
    difference = alone.mean() - scaled["log_likelihood"].mean()
    assert difference == pytest.approx(math.log(8) + math.log(32), abs=0.05)
    assert fitted.score(X) > alone.mean() + 1


def test_a_model_of_a_mixed_table_survives_its_file(fitted, tmp_path):
    path, again = tmp_path / "m.safetensors", tmp_path / "again.safetensors"
    fitted.save(path)
    same = load(path)
    assert same.likelihood_ == KINDS
    assert same.network == Table((24, 24))
    holes = table()[:12]
    holes[np.arange(12), np.arange(12) % 6] = NAN
    assert np.array_equal(same.impute(holes, n_samples=9), fitted.impute(holes, n_samples=9))
    assert np.array_equal(same.transform(table()), fitted.transform(table()))
    same.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_a_table_with_other_columns_is_refused_before_training():
    with pytest.raises(ParameterError, match=r"6 likelihoods.*received rows of shape \(5,\)"):
        VAE(2, likelihood=KINDS).fit(table()[:, :5])
    X = table()
    X[3, 3] = 9
    with pytest.raises(DataError, match=r"X\[3, 3\] = 9, but likelihood='ordinal'.*\[0, 3\]"):
        VAE(2, likelihood=KINDS).fit(X)
