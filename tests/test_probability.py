"""Contracts and closed forms of distributions, likelihoods, posteriors, priors, networks."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import Beta, Categorical, Gamma, Independent, Normal

from skvae import distributions, rng
from skvae.evidence import Batch, Evidence
from skvae.latent import Latent
from skvae.likelihoods import Bernoulli, Gaussian, bounded_scale
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.networks.base import ACTIVATIONS
from skvae.objectives import ELBO
from skvae.posteriors import Diagonal
from skvae.priors import Standard

LIKELIHOODS = [
    Bernoulli(),
    *(Gaussian(scale=s) for s in ("unit", "global", "per_feature", "per_cell")),
]
EVENTS = [(3,), (1, 2, 3)]


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def model_of(likelihood=Bernoulli(), event_shape=(3,), d=2, network=MLP((5,))):  # noqa: B008
    spec = Assembly(event_shape, d, likelihood, Diagonal(), Standard(), network)
    return spec.build(0).double()


# -- distributions --------------------------------------------------------------------------------


def test_masked_sum_ignores_hidden_cells_whatever_they_hold():
    values = torch.tensor([[[1.0, math.nan], [3.0, math.inf]], [[5.0, 6.0], [7.0, 8.0]]])
    mask = torch.tensor([[[True, False], [True, False]], [[True, True], [False, True]]])
    assert distributions.masked_sum(values, mask, 2).tolist() == [4.0, 19.0]
    assert distributions.masked_sum(values[1:], None, 2).tolist() == [26.0]
    assert distributions.masked_sum(values[1:], None, 1).tolist() == [[11.0, 15.0]]


def test_masked_sum_keeps_nan_out_of_the_gradient():
    values = torch.tensor([1.0, 2.0], requires_grad=True)
    holes = torch.tensor([True, False])
    distributions.masked_sum(values * torch.tensor([1.0, math.inf]), holes, 1).backward()
    assert values.grad[0] == 1


def test_log_mean_exp_does_not_overflow():
    log_w = torch.tensor([1000.0, 1000.0 + math.log(3)])
    assert distributions.log_mean_exp(log_w).item() == pytest.approx(1000 + math.log(2))


def test_kl_per_dimension_is_the_closed_form():
    mean, sd = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, 2.0]])
    q = Independent(Normal(mean, sd), 1)
    p = Standard().build(Latent(2), (3,))(None)
    expected = 0.5 * (mean**2 + sd**2 - 1) - sd.log()
    assert torch.allclose(distributions.kl_per_dimension(q, p), expected)


def test_kl_without_closed_form_is_none():
    mixture = torch.distributions.MixtureSameFamily(
        Categorical(torch.ones(2)), Independent(Normal(torch.zeros(2, 1), torch.ones(2, 1)), 1)
    )
    assert distributions.kl_per_dimension(mixture, Standard().build(Latent(1), (3,))(None)) is None


@pytest.mark.parametrize(
    "distribution",
    [
        Normal(torch.tensor([1.0, 2.0]), torch.tensor([0.5, 3.0])),
        torch.distributions.Bernoulli(torch.tensor([0.2, 0.9])),
        Gamma(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])),
        Beta(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 2.0])),
        Categorical(probs=torch.tensor([[0.1, 0.9], [0.5, 0.5]])),
    ],
    ids=lambda d: type(d).__name__,
)
def test_draw_has_the_law_of_the_distribution(distribution):
    x = distributions.draw(distribution, (20000,), noise()).double()
    assert torch.equal(x, distributions.draw(distribution, (20000,), noise()).double())
    mean = getattr(distribution, "mean")  # noqa: B009
    if type(distribution) is Categorical:
        mean = distribution.probs[:, 1]
    assert torch.allclose(x.mean(0), mean.double(), atol=0.06)


def test_only_what_has_a_rule_can_be_drawn_row_by_row():
    gamma = Gamma(torch.ones(2), torch.ones(2))
    with pytest.raises(TypeError, match="Gamma"):
        distributions.draw(gamma, (), rng.PerRow(torch.zeros(2, 1), 0))


# -- likelihoods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("event", EVENTS, ids=str)
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_likelihood_contract(likelihood, event):
    module = likelihood.build(event)
    assert module.event_shape == event
    h = torch.randn(4, 5, *module.param_shape, generator=rng.generator(1), requires_grad=True)
    p = module(h)
    assert p.batch_shape == (4, 5, *event)
    assert p.event_shape == ()
    x = distributions.draw(p, (), noise()).detach()
    log_prob = p.log_prob(x)
    assert log_prob.shape == (4, 5, *event)
    log_prob.sum().backward()
    assert torch.isfinite(h.grad).all()
    assert (h.grad != 0).any()
    for parameter in module.parameters():
        assert (parameter.grad != 0).any()
    # Cells are independent: x in one cell says nothing about the density of another.
    other = x.clone()
    other[..., 0] = 1 - other[..., 0]
    assert torch.equal(p.log_prob(other)[..., 1:], log_prob[..., 1:])


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_samples_agree_with_log_prob(likelihood):
    """Monte-Carlo entropy of samples under log_prob equals the distribution's own."""
    module = likelihood.build((2,))
    p = module(torch.randn(module.param_shape, generator=rng.generator(2)))
    x = distributions.draw(p, (50000,), noise())
    assert torch.allclose(-p.log_prob(x).mean(0), p.entropy(), atol=0.02)


def test_bernoulli_is_the_closed_form_and_survives_saturation():
    module = Bernoulli().build((3,))
    h = torch.tensor([[-2.0, 0.5, 3.0]], dtype=torch.float64)
    x = np.array([[0.0, 1.0, 1.0]])
    expected = stats.bernoulli.logpmf(x, 1 / (1 + np.exp(-h.numpy())))
    assert np.allclose(module(h).log_prob(torch.tensor(x)), expected, atol=1e-12)
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    log_prob = module(extreme).log_prob(torch.tensor([[0.0, 1.0, 0.3]]))
    assert torch.isfinite(log_prob).all()
    assert log_prob[0, 2].item() == pytest.approx(-math.log(2))
    log_prob.sum().backward()
    assert torch.isfinite(extreme.grad).all()


def test_bernoulli_starts_at_the_log_odds_of_the_data():
    module = Bernoulli().build((3,))
    module.calibrate(torch.tensor([0.0, 0.25, 1.0]), torch.ones(3))
    p = module(torch.zeros(3)).probs
    assert torch.allclose(p, torch.tensor([0.001, 0.25, 0.999]), atol=1e-6)


def test_unit_gaussian_is_half_the_squared_error_in_data_units():
    module = Gaussian(scale="unit").build((2,))
    module.calibrate(torch.zeros(2), torch.full((2,), 10.0))  # one model unit is 10 data units
    h, x = torch.tensor([[0.0, 0.0]]), torch.tensor([[0.3, -0.1]])  # residuals 3 and −1 in data
    log_prob = module(h).log_prob(x) - math.log(10.0)
    expected = -0.5 * torch.tensor([9.0, 1.0]) - 0.5 * math.log(2 * math.pi)
    assert torch.allclose(log_prob, expected, atol=1e-5)


def test_gaussian_scales():
    h = torch.zeros(2, 3)
    sizes = {s: len(list(Gaussian(scale=s).build((3,)).parameters())) for s in ("unit", "global")}
    assert sizes == {"unit": 0, "global": 1}
    assert Gaussian(scale="global").build((3,)).raw_scale.shape == ()
    assert Gaussian(scale="per_feature").build((3,)).raw_scale.shape == (3,)
    per_cell = Gaussian(scale="per_cell").build((3,))
    assert per_cell.param_shape == (2, 3)
    assert per_cell(torch.zeros(4, 2, 3)).scale.shape == (4, 3)
    assert Gaussian(scale="global").build((3,))(h).scale.tolist() == [[1.0] * 3] * 2


def test_scale_is_bounded_smooth_and_one_at_zero():
    raw = torch.tensor([-1e6, -1.0, 0.0, 1.0, 1e6], dtype=torch.float64, requires_grad=True)
    scale = bounded_scale(raw)
    assert scale[0].item() == pytest.approx(1e-3)
    assert scale[2].item() == 1
    assert scale[4].item() == pytest.approx(1e3)
    assert (scale.diff() > 0).all()


# -- posterior, prior, networks -------------------------------------------------------------------


def test_posterior_variance_goes_far_below_and_above_one_but_stays_finite():
    module = Diagonal().build(2, 1)
    with torch.no_grad():
        module.head.weight.fill_(1.0)
        module.head.bias.zero_()
    for value, low, high in (
        (-8.0, 0.0, 0.05),
        (8.0, 20.0, 1e4),
        (-1e6, 5e-4, 2e-3),
        (1e6, 500, 2e3),
    ):
        sd = module(torch.tensor([[value]])).stddev
        assert ((sd > low) & (sd < high)).all(), (value, sd)
    wild = module(torch.tensor([[1e6], [-1e6]]))
    assert torch.isfinite(
        distributions.kl_per_dimension(wild, Standard().build(Latent(2), (3,))(None))
    ).all()


def test_posterior_is_reparameterised():
    module = Diagonal().build(2, 3)
    z = distributions.draw(module(torch.ones(1, 3)), (4,), noise())
    z.square().sum().backward()
    assert (module.head.weight.grad != 0).all()


@pytest.mark.parametrize("sizes", [(), (4,), (4, 5)], ids=str)
@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_mlp_shapes(sizes, event):
    network = MLP(sizes)
    encoder, decoder = network.build_encoder(event), network.build_decoder(2, (2, *event))
    features = encoder(torch.randn(7, *event, generator=rng.generator(0)))
    assert features.shape == (7, encoder.out_features)
    assert encoder.out_features == (sizes[-1] if sizes else math.prod(event))
    assert decoder(torch.zeros(3, 7, 2)).shape == (3, 7, 2, *event)


def test_decoder_mirrors_the_encoder():
    decoder = MLP((7, 5)).build_decoder(2, (3,))
    widths = [m.out_features for m in decoder if isinstance(m, torch.nn.Linear)]
    assert widths == [5, 7, 3]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    decoder = MLP((4,), activation=activation).build_decoder(2, (3,))
    assert type(decoder[1]) is ACTIVATIONS[activation]


def test_hidden_cells_do_not_reach_the_features():
    encoder = MLP((4,)).build_encoder((3,))
    encoder.calibrate(torch.tensor([1.0, 2.0, 3.0]), torch.ones(2, 3))
    mask = torch.tensor([[True, False, True]])
    x = torch.tensor([[5.0, math.nan, 7.0]])
    filled_with_the_mean = encoder(torch.tensor([[5.0, 2.0, 7.0]]))
    assert torch.equal(encoder(x, mask), filled_with_the_mean)


# -- evidence and objective -----------------------------------------------------------------------


def test_evidence_arithmetic():
    evidence = Evidence(
        log_px=torch.tensor([[1.0], [2.0]]),
        log_pz=torch.tensor([[-1.0], [-2.0]]),
        log_qz=torch.tensor([[0.5], [0.25]]),
    )
    assert evidence.log_w.tolist() == [[-0.5], [-0.25]]
    assert evidence.kl_rows.tolist() == [1.875]  # Monte Carlo, without a closed form
    assert evidence.elbo.tolist() == [-0.375]
    expected = math.log((math.exp(-0.5) + math.exp(-0.25)) / 2)
    assert evidence.log_likelihood.item() == pytest.approx(expected)
    closed = Evidence(
        evidence.log_px, evidence.log_pz, evidence.log_qz, torch.tensor([[1.0, 2.0]])
    )
    assert closed.kl_rows.tolist() == [3.0]


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_elbo_reaches_every_weight(likelihood):
    module = model_of(likelihood)
    x = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]], dtype=torch.float64)
    bound = ELBO()(module, Batch(x), step=0, noise=noise())
    bound.loss.backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name
    assert bound.loss.item() == pytest.approx(-bound.terms["elbo"].mean().item())


def test_beta_and_warmup():
    objective = ELBO(beta=4.0, warmup=10)
    assert [objective.weight(s) for s in (0, 5, 10, 99)] == [0.0, 2.0, 4.0, 4.0]
    assert ELBO().weight(0) == 1
    module, batch = model_of(), Batch(torch.ones(2, 3, dtype=torch.float64))
    plain = ELBO()(module, batch, step=0, noise=noise())
    doubled = ELBO(beta=2.0)(module, batch, step=0, noise=noise())
    difference = (doubled.loss - plain.loss).item()
    assert difference == pytest.approx(plain.terms["kl"].mean().item())
    assert torch.equal(doubled.terms["elbo"], plain.terms["elbo"])


def test_a_hidden_cell_counts_for_nothing():
    module = model_of(Gaussian(scale="per_feature"))
    module.log_unit.copy_(torch.tensor([0.1, 0.2, 0.3]))
    x = torch.tensor([[0.5, math.nan, -1.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False, True]])
    seen = module.evidence(Batch(x, mask), 3, noise())
    other = module.evidence(Batch(torch.nan_to_num(x, nan=9.0), mask), 3, noise())
    assert torch.equal(seen.log_w, other.log_w)
    z = distributions.draw(module.infer(Batch(x, mask)), (3,), noise())
    log_prob = module.generate(z).log_prob(torch.nan_to_num(x))
    expected = log_prob[..., 0] + log_prob[..., 2] - 0.1 - 0.3
    assert torch.allclose(seen.log_px, expected)
    seen.log_w.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters())


def test_lower_precision_is_left_again():
    module = model_of().float()
    x = torch.rand(4, 3, generator=rng.generator(0))
    with torch.no_grad():
        exact = module.infer(Batch(x)).mean
        with module.autocast(torch.bfloat16):
            rough = module.infer(Batch(x)).mean
        again = module.infer(Batch(x)).mean
    assert rough.dtype == torch.float32
    assert not torch.equal(rough, exact)
    assert torch.allclose(rough, exact, atol=0.02)
    assert torch.equal(again, exact)


def test_a_look_in_full_precision_from_within_a_lower_one():
    module = model_of().float()
    x = torch.rand(4, 3, generator=rng.generator(0))
    with torch.no_grad():
        exact = module.infer(Batch(x)).mean
        with module.autocast(torch.bfloat16):
            rough = module.infer(Batch(x)).mean
            with module.autocast(None):
                assert torch.equal(module.infer(Batch(x)).mean, exact)
            assert torch.equal(module.infer(Batch(x)).mean, rough)


def test_a_masked_sum_over_no_axes_is_the_values():
    values = torch.arange(3.0)
    assert torch.equal(distributions.masked_sum(values, None, 0), values)
    masked = distributions.masked_sum(values, torch.tensor([True, False, True]), 0)
    assert torch.equal(masked, torch.tensor([0.0, 0.0, 2.0]))
