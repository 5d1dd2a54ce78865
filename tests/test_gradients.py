"""Gradients of importance-weighted bounds, and facts about the ELBO that hold for any model."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.distributions import Independent, Normal

from skvae import distributions, objectives, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, MMD, TotalCorrelation
from skvae.posteriors import Deterministic, Diagonal, Flow
from skvae.priors import GaussianMixture, Standard

ENCODER = ("encoder", "posterior")
GENERATOR = ("decoder", "prior", "likelihood")
KINDS = ["plain", "stl", "dreg"]
BATCH = Batch((torch.rand(3, 4, generator=rng.generator(9)) < 0.5).double())


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def model_of(posterior=Diagonal(), prior=Standard(), size=2.0):  # noqa: B008
    model = Assembly((4,), 2, Bernoulli(), posterior, prior, MLP((5,))).build(0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(size)
    return model


def gradient(objective, model, part, batch=BATCH):
    model.zero_grad()
    objective(model, batch, step=0, noise=noise()).loss.backward()
    named = [(n, p.grad) for n, p in model.named_parameters() if n.startswith(part)]
    return torch.cat([torch.zeros(0) if g is None else g.flatten() for _, g in named])


# -- what the gradient of the bound is ------------------------------------------------------------


def test_the_generator_learns_most_from_the_draw_that_weighs_most():
    """Σ_k w_k ∂ log p(x, z_k) with the larger weight for the better draw, by hand."""
    model = model_of(prior=GaussianMixture(3))
    evidence = model.evidence(BATCH, 4, noise())
    w = torch.exp(evidence.log_w) / torch.exp(evidence.log_w).sum(0)
    weights = [p for n, p in model.named_parameters() if n.startswith(GENERATOR)]
    log_joint = evidence.log_px + evidence.log_pz
    expected = 0
    for k in range(4):
        for b in range(3):
            slopes = torch.autograd.grad(log_joint[k, b], weights, retain_graph=True)
            expected -= w[k, b].detach() / 3 * torch.cat([s.flatten() for s in slopes])
    for kind in KINDS:
        found = gradient(IWAE(4, gradient=kind), model, GENERATOR)
        assert torch.allclose(found, expected, atol=1e-12), kind


@pytest.mark.parametrize("kind", ["coupling", "iaf", "spline"])
def test_at_fixed_parameters_the_density_of_a_flow_has_a_gradient_through_z_alone(kind):
    model = model_of(Flow(kind, hidden_layer_sizes=(4,)))
    evidence = model.evidence(BATCH, 3, noise(), path_only=True)
    weights = list(model.posterior.parameters())
    found = torch.autograd.grad(evidence.log_qz.sum(), weights, retain_graph=True)
    fixed = copy.deepcopy(model).requires_grad_(False)
    z = evidence.draws[0].detach().requires_grad_()
    (slope,) = torch.autograd.grad(fixed.infer(BATCH).log_prob(z).sum(), z)
    expected = torch.autograd.grad((slope * evidence.draws[0]).sum(), weights)
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def by_row(model, objective, x, rows, seed=0):
    """Gradient of a bound by the posterior mean, a draw of it for each of many equal rows."""
    batch = Batch(x.expand(rows, -1))
    bound = objective(model, batch, step=0, noise=noise(seed))
    (slope,) = torch.autograd.grad(bound.loss * rows, bound.evidence.posterior.base_dist.loc)
    return slope  # (rows, d)


def test_dreg_has_the_expectation_of_the_plain_gradient_and_stl_has_not():
    model = model_of()
    rows = 40_000
    means, errors = {}, {}
    for seed, kind in enumerate(KINDS):
        slopes = by_row(model, IWAE(5, gradient=kind), BATCH.x[:1], rows, seed)
        means[kind], errors[kind] = slopes.mean(0), slopes.std(0) / math.sqrt(rows)
    assert (errors["dreg"] < 0.7 * errors["plain"]).all()
    unbiased = (means["dreg"] - means["plain"]) / torch.hypot(errors["dreg"], errors["plain"])
    assert unbiased.abs().max() < 4
    biased = (means["stl"] - means["plain"]) / torch.hypot(errors["stl"], errors["plain"])
    assert biased.abs().max() > 12


def test_the_signal_to_noise_ratio_falls_with_more_draws_unless_doubly_reparameterised():
    """As K^−½ for the plain gradient (Rainforth et al., 2018), as K^½ for DReG (Tucker, 2019)."""
    model = model_of(size=1.0)
    ratios = {}
    for kind in ("plain", "dreg"):
        ratios[kind] = []
        for k in (8, 128):
            # The expectation is that of DReG, which is known far better.
            mean = by_row(model, IWAE(k, gradient="dreg"), BATCH.x[:1], 2000).mean(0)
            slopes = by_row(model, IWAE(k, gradient=kind), BATCH.x[:1], 2000, seed=1)
            ratios[kind].append((mean / slopes.std(0)).abs())
    assert (ratios["plain"][1] / ratios["plain"][0] * 4 - 1).abs().max() < 0.15
    assert (ratios["dreg"][1] / ratios["dreg"][0] / 4 - 1).abs().max() < 0.25


@pytest.mark.parametrize("penalty", [MMD(3.0), TotalCorrelation(3.0)], ids=repr)
def test_a_penalty_keeps_its_gradient_next_to_dreg(penalty):
    """DReG scales the gradient that reaches a draw from log w, and from nowhere else."""
    model = model_of()
    objective = IWAE(4, gradient="dreg")
    alone = gradient(objective, model, ENCODER)
    together = gradient(objective + penalty, model, ENCODER)
    model.zero_grad()
    source = noise()
    bound = IWAE(4, gradient="plain")(model, BATCH, step=0, noise=source)
    penalty(model, BATCH, bound.evidence, step=0, noise=source).backward()
    own = [p.grad.flatten() for n, p in model.named_parameters() if n.startswith(ENCODER)]
    assert torch.cat(own).norm() > 1e-2
    assert torch.allclose(together, alone + torch.cat(own), atol=1e-12)


# -- PIWAE ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize(
    "parts",
    [
        (Diagonal(), Standard()),
        (Diagonal(), GaussianMixture(3)),
        (Flow(hidden_layer_sizes=(4,)), Standard()),
    ],
    ids=repr,
)
def test_piwae_teaches_the_decoder_by_one_bound_and_the_encoder_by_many(parts, share, kind):
    model = model_of(*parts)
    piwae = IWAE(2, 3, share, kind, pooled_decoder=True)
    miwae, iwae = IWAE(2, 3, share, kind), IWAE(6, 1, share, kind)
    decoder, encoder = (gradient(piwae, model, part) for part in (GENERATOR, ENCODER))
    assert torch.allclose(decoder, gradient(iwae, model, GENERATOR), rtol=0, atol=1e-10)
    assert torch.allclose(encoder, gradient(miwae, model, ENCODER), rtol=0, atol=1e-10)
    assert not torch.allclose(decoder, gradient(miwae, model, GENERATOR), atol=1e-3)
    assert not torch.allclose(encoder, gradient(iwae, model, ENCODER), atol=1e-3)


def test_piwae_has_the_value_of_miwae():
    model = model_of()
    options = {"step": 0, "noise": noise()}
    found = IWAE(2, 3, pooled_decoder=True)(model, BATCH, **options)
    expected = IWAE(2, 3)(model, BATCH, step=0, noise=noise())
    assert found.loss.item() == pytest.approx(expected.loss.item(), abs=1e-12)
    assert torch.equal(found.terms["iwae"], expected.terms["iwae"])
    with torch.no_grad():
        again = IWAE(2, 3, pooled_decoder=True)(model, BATCH, step=0, noise=noise())
    assert again.loss.item() == pytest.approx(expected.loss.item(), abs=1e-12)
    assert IWAE(2, 3, 0.5, pooled_decoder=True).held_out() == IWAE(2, 3, 0.5, "plain")


@pytest.mark.parametrize("kind", KINDS)
def test_piwae_teaches_the_encoder_by_groups_that_weigh_nothing(kind):
    """Weights among all draws underflow; those within the group do not."""
    model = model_of(size=40.0)
    piwae, miwae = IWAE(2, 3, 0.0, kind, pooled_decoder=True), IWAE(2, 3, 0.0, kind)
    log_w = model.evidence(BATCH, 6, noise()).log_w.float()
    assert (torch.softmax(log_w, 0).view(3, 2, 3).sum(1) == 0).any()
    found, expected = (gradient(o, model, ENCODER) for o in (piwae, miwae))
    assert torch.allclose(found, expected, rtol=1e-9, atol=0)
    single = Batch(BATCH.x.float())
    assert torch.isfinite(gradient(piwae, model.float(), ENCODER, single)).all()


def test_piwae_leaves_an_encoder_alone_that_is_not_trained():
    model = model_of()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("decoder"))
    found = gradient(IWAE(2, 3, pooled_decoder=True), model, "decoder")
    assert torch.allclose(found, gradient(IWAE(6), model, "decoder"), rtol=0, atol=1e-10)


def test_pooling_needs_groups():
    with pytest.raises(ParameterError, match="pooled_decoder=True needs n_groups > 1"):
        IWAE(5, pooled_decoder=True)


@pytest.mark.parametrize(
    ("objective", "reason"),
    [(IWAE(), "the density of z"), (objectives.Capacity(), "not a number of nats")],
    ids=repr,
)
def test_bounds_that_need_a_density_say_so(objective, reason):
    assert reason in objective.objection(Deterministic())
    assert reason in (objective + MMD()).objection(Deterministic())
    assert objective.objection(Diagonal()) is None
    assert ELBO().objection(Deterministic()) is None


# -- facts about the ELBO -------------------------------------------------------------------------


@pytest.fixture
def codes():
    """Posteriors of five rows in two dimensions, far from independent of each other."""
    g = rng.generator(3)
    mean = torch.tensor([[-1.5, -1.0], [1.2, 1.4], [0.2, 0.1], [-0.6, -0.9], [1.8, 0.9]])
    scale = 0.3 + 0.5 * torch.rand(5, 2, generator=g)
    return Independent(Normal(mean.double(), scale.double()), 1)


def surgery(q, n=801, limit=8.0):
    """I(x; z), total correlation, and Σ_j KL(q(z_j) || p(z_j)), each by quadrature."""
    side = torch.linspace(-limit, limit, n, dtype=torch.float64)
    step = 2 * limit / (n - 1)
    each = q.base_dist.log_prob(side[:, None, None])  # (n, B, 2)
    rows = each[:, None, :, 0] + each[None, :, :, 1]  # (n, n, B)
    joint = distributions.log_mean_exp(rows, 2)  # (n, n)
    marginals = distributions.log_mean_exp(each, 1)  # (n, 2)
    outer = marginals[:, None, 0] + marginals[None, :, 1]
    information = (rows.exp() * (rows - joint.unsqueeze(-1))).mean(-1).sum() * step**2
    correlation = (joint.exp() * (joint - outer)).sum() * step**2
    prior = Normal(torch.zeros(1).double(), 1.0).log_prob(side).unsqueeze(-1)
    dimensions = (marginals.exp() * (marginals - prior)).sum() * step
    return information.item(), correlation.item(), dimensions.item()


def test_the_kl_is_information_plus_total_correlation_plus_dimensions(codes):
    prior = Independent(Normal(torch.zeros(2).double(), torch.ones(2).double()), 1)
    kl = distributions.kl_per_dimension(codes, prior).sum(-1).mean().item()
    parts = surgery(codes)
    assert min(parts) > 0.2
    assert sum(parts) == pytest.approx(kl, abs=1e-9)


class Optimal(nn.Module):
    """The Bernoulli decoder that no other beats, and a step away from it in some direction."""

    def __init__(self, q, x):
        super().__init__()
        self.q, self.x = q, x
        self.step = nn.Parameter(torch.zeros(()).double())

    def forward(self, z):
        w = torch.softmax(self.q.log_prob(z.unsqueeze(-2)), -1)  # (..., B)
        direction = torch.stack([z[..., 0], z[..., 1] ** 2, z.sum(-1), z[..., 0] * 0 + 1], -1)
        return torch.logit(w @ self.x) + self.step * direction


def test_the_optimal_decoder_is_the_average_of_the_rows_by_their_posteriors():
    """μ(z) = Σ_i q(z | x_i) x_i / Σ_i q(z | x_i) maximises Σ_i E_q(z | x_i)[log p(x_i | z)]."""
    model = model_of()
    x = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 1, 0]]).double()
    x = 0.9 * x + 0.05  # grey, so that no logit is infinite
    with torch.no_grad():
        q = model.infer(Batch(x))
    model.decoder = Optimal(q, x)

    def slope():
        """Derivative of E[log p(x | z)] along the direction, in standard errors."""
        rows = 8000
        repeated = Batch(x.repeat(rows, 1))
        model.decoder.step.data.zero_()
        log_px = []
        for step in (-1e-3, 1e-3):
            model.decoder.step.data.fill_(step)
            with torch.no_grad():
                log_px.append(model.evidence(repeated, 1, noise()).log_px[0])
        slopes = ((log_px[1] - log_px[0]) / 2e-3).view(rows, 4).mean(1)
        return slopes.mean() / (slopes.std() / math.sqrt(rows))

    assert abs(slope()) < 3.5
    model.decoder.x = x.flip(0)  # each row's posterior with another row
    assert abs(slope()) > 20
    model.decoder.x = 0.5 * x + 0.5 * x.mean(0)  # too little of the row itself
    assert abs(slope()) > 8
