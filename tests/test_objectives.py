"""Objectives: values, gradients, and the identities between them."""

import math

import pytest
import torch

from skvae import VAE, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Capacity, Contractive
from skvae.posteriors import Diagonal
from skvae.priors import GaussianMixture, Standard
from test_ground_truth import linear_vae, ppca  # noqa: F401  a fixture

ENCODER = ("encoder", "posterior")


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


@pytest.fixture
def module():
    model = Assembly((4,), 2, Bernoulli(), Diagonal(), Standard(), MLP((5,))).build(0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


BATCH = Batch((torch.rand(3, 4, generator=rng.generator(9)) < 0.5).double())


def gradient(objective, module, batch=BATCH, seed=0, part=None):
    module.zero_grad()
    objective(module, batch, step=0, noise=noise(seed)).loss.backward()
    return torch.cat(
        [
            p.grad.flatten()
            for name, p in module.named_parameters()
            if part is None or name.startswith(part)
        ]
    )


# -- the ELBO's weights ---------------------------------------------------------------------------


def test_cyclical_warmup():
    objective = ELBO(beta=2.0, warmup=4, cycle=10)
    assert [objective.weight(s) for s in (0, 2, 4, 9, 10, 12)] == [0, 1, 2, 2, 0, 1]


def test_free_bits_charge_at_least_so_much_and_have_no_gradient_below(module):
    plain = ELBO()(module, BATCH, step=0, noise=noise())
    per_dimension = module.evidence(BATCH, 1, noise()).kl.mean(0)
    between = per_dimension.mean().item()  # above one dimension's KL, below the other's
    assert per_dimension.min() < between < per_dimension.max()
    free = ELBO(free_bits=between)(module, BATCH, step=0, noise=noise())
    expected = plain.loss + between - per_dimension.min()
    assert free.loss.item() == pytest.approx(expected.item())
    assert torch.equal(free.terms["kl"], plain.terms["kl"])
    all_free = gradient(ELBO(free_bits=1e3), module, part=ENCODER)
    reconstruction_only = gradient(ELBO(beta=0.0), module, part=ENCODER)
    assert torch.allclose(all_free, reconstruction_only)


def test_capacity(module):
    kl = module.evidence(BATCH, 1, noise()).kl_rows.mean().item()
    base = ELBO(beta=0.0)(module, BATCH, step=0, noise=noise()).loss.item()
    for step, target in ((0, 0.0), (5, 1.0), (10, 2.0), (99, 2.0)):
        bound = Capacity(capacity=2.0, gamma=3.0, rise=10)(module, BATCH, step=step, noise=noise())
        assert bound.loss.item() == pytest.approx(base + 3.0 * abs(kl - target))


def test_what_held_out_rows_are_judged_by():
    assert ELBO(beta=4.0, free_bits=1.0).held_out() == ELBO()
    assert Capacity().held_out() == ELBO()
    assert IWAE(7, gradient="dreg").held_out() == IWAE(7, gradient="plain")
    assert IWAE.watch == "iwae"
    assert ELBO.watch == "elbo"


# -- importance weighting -------------------------------------------------------------------------


def test_iwae_is_log_mean_exp(module):
    log_w = module.evidence(BATCH, 6, noise()).log_w
    for objective, expected in (
        (IWAE(6, gradient="plain"), torch.logsumexp(log_w, 0) - math.log(6)),
        (
            IWAE(3, 2, gradient="plain"),
            torch.logsumexp(log_w.view(2, 3, 3), 1).mean(0) - math.log(3),
        ),
        (IWAE(1, 6), log_w.mean(0)),
        (IWAE(6, elbo_weight=1.0), log_w.mean(0)),
    ):
        bound = objective(module, BATCH, step=0, noise=noise())
        assert bound.loss.item() == pytest.approx(-expected.mean().item())
    mixed = IWAE(6, elbo_weight=0.25)(module, BATCH, step=0, noise=noise()).loss
    iwae = torch.logsumexp(log_w, 0) - math.log(6)
    assert mixed.item() == pytest.approx(-(0.25 * log_w.mean(0) + 0.75 * iwae).mean().item())


@pytest.mark.parametrize("options", [{}, {"n_groups": 2}, {"elbo_weight": 0.3}], ids=repr)
@pytest.mark.parametrize("kind", ["stl", "dreg"])
def test_value_and_decoder_gradient_are_those_of_the_bound(module, kind, options):
    plain, other = (IWAE(4, gradient=g, **options) for g in ("plain", kind))
    values = [o(module, BATCH, step=0, noise=noise()).loss.item() for o in (plain, other)]
    assert values[0] == pytest.approx(values[1])
    decoder = [gradient(o, module, part="decoder") for o in (plain, other)]
    assert torch.allclose(*decoder)
    encoder = [gradient(o, module, part=ENCODER) for o in (plain, other)]
    assert not torch.allclose(*encoder, atol=1e-3)


def mean_gradient(objective, module, repeats=400):
    """Mean and standard error of the encoder's gradient over many draws."""
    many = Batch(BATCH.x[:1].expand(100, 4))  # rows are independent draws for one x
    samples = torch.stack(
        [gradient(objective, module, many, seed, ENCODER) for seed in range(repeats)]
    )
    return samples.mean(0), samples.std(0) / math.sqrt(repeats)


def test_dreg_is_unbiased_with_less_variance_and_stl_is_biased(module):
    means, errors = {}, {}
    for kind in ("plain", "dreg", "stl"):
        means[kind], errors[kind] = mean_gradient(IWAE(5, gradient=kind), module)
    pooled = (errors["plain"] ** 2 + errors["dreg"] ** 2).sqrt() + 1e-9
    z = (means["dreg"] - means["plain"]) / pooled
    assert z.abs().max() < 5
    assert z.square().mean() < 1.6
    assert errors["dreg"].norm() < errors["plain"].norm()
    bias = (means["stl"] - means["plain"]) / (
        (errors["plain"] ** 2 + errors["stl"] ** 2).sqrt() + 1e-9
    )
    assert bias.abs().max() > 6


def test_the_ciwae_gradient_is_the_mixture_of_the_two(module):
    """DReG of a convex combination: path gradient of the ELBO plus DReG of the bound."""
    elbo = gradient(IWAE(5, elbo_weight=1.0, gradient="dreg"), module, part=ENCODER)
    bound = gradient(IWAE(5, gradient="dreg"), module, part=ENCODER)
    both = gradient(IWAE(5, elbo_weight=0.3, gradient="dreg"), module, part=ENCODER)
    assert torch.allclose(both, 0.3 * elbo + 0.7 * bound, atol=1e-10)


@pytest.mark.parametrize("kind", ["plain", "stl", "dreg"])
def test_at_the_exact_posterior_path_gradients_vanish(ppca, kind):  # noqa: F811
    W, b, X = ppca
    model = linear_vae(W, b)
    value = gradient(IWAE(3, gradient=kind), model, Batch(torch.tensor(X)), part=ENCODER)
    if kind == "plain":
        assert value.norm() > 0.1
    else:
        assert value.norm() < 1e-8


def test_a_learned_prior_gets_the_gradient_of_the_bound():
    spec = Assembly((4,), 2, Bernoulli(), Diagonal(), GaussianMixture(3), MLP((5,)))
    model = spec.build(0).double()
    plain = gradient(IWAE(4, gradient="plain"), model, part="prior")
    assert torch.allclose(plain, gradient(IWAE(4, gradient="dreg"), model, part="prior"))
    assert plain.norm() > 1e-3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IWAE(0), "n_samples"),
        (lambda: IWAE(2, 0), "n_groups"),
        (lambda: IWAE(elbo_weight=1.5), "elbo_weight"),
        (lambda: IWAE(gradient="drag"), "Did you mean 'dreg'"),
        (lambda: ELBO(cycle=-1), "cycle"),
        (lambda: ELBO(free_bits=math.inf), "free_bits"),
        (lambda: Capacity(gamma=-1.0), "gamma"),
        (lambda: Capacity(rise=0), "rise"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ParameterError, match=message):
        make()


# -- penalties ------------------------------------------------------------------------------------


def test_the_contractive_penalty_of_one_sigmoid_layer_is_the_closed_form():
    """‖J‖² = Σ_j (h_j (1 − h_j))² Σ_i W_ji² (Rifai et al., 2011)."""
    network = MLP((3,), activation="sigmoid")
    model = Assembly((4,), 3, Bernoulli(), Diagonal(), Standard(), network).build(0).double()
    with torch.no_grad():  # the code is the hidden layer itself
        model.posterior.head.weight[:3].copy_(torch.eye(3))
        model.posterior.head.bias.zero_()
    W, b = model.encoder.layers[0].weight, model.encoder.layers[0].bias
    h = torch.sigmoid(BATCH.x @ W.T + b)
    expected = ((h * (1 - h)) ** 2 * (W**2).sum(1)).sum(1).mean()
    exact = Contractive(2.0, n_probes=0)(model, BATCH, None, step=0, noise=noise())
    assert exact.item() == pytest.approx(2 * expected.item())
    many = Contractive(2.0, n_probes=4000)(model, BATCH, None, step=0, noise=noise())
    assert many.item() == pytest.approx(exact.item(), rel=0.05)


def test_the_contractive_penalty_of_any_network_is_the_jacobian(module):
    jacobian = torch.autograd.functional.jacobian(
        lambda x: module.infer(Batch(x)).mean.sum(0), BATCH.x
    )  # (d, B, D)
    exact = Contractive(1.0, n_probes=0)
    value = exact(module, BATCH, None, step=0, noise=noise())
    assert value.item() == pytest.approx(jacobian.square().sum().item() / 3)
    # Its gradient, against finite differences in one weight.
    weight = module.encoder.layers[0].weight
    (slope,) = torch.autograd.grad(value, weight)
    with torch.no_grad():
        weight[1, 2] += 1e-6
    shifted = exact(module, BATCH, None, step=0, noise=noise())
    assert slope[1, 2].item() == pytest.approx((shifted - value).item() / 1e-6, rel=1e-4)


def test_penalties_are_added(module):
    penalty = Contractive(3.0, n_probes=0)
    plain = IWAE(2)(module, BATCH, step=0, noise=noise())
    total = IWAE(2) + penalty + penalty
    bound = total(module, BATCH, step=0, noise=noise())
    added = penalty(module, BATCH, None, step=0, noise=noise())
    assert bound.loss.item() == pytest.approx((plain.loss + 2 * added).item())
    assert bound.terms.keys() == plain.terms.keys()
    assert total.watch == "iwae"
    assert total.held_out() == IWAE(2, gradient="plain")
    with pytest.raises(TypeError):
        IWAE(2) + IWAE(2)
    with pytest.raises(ParameterError, match="weight"):
        Contractive(-1.0)
    with pytest.raises(ParameterError, match="n_probes"):
        Contractive(1.0, n_probes=-1)


def test_a_contractive_encoder_is_flatter(digits):
    X = digits[0][:300]
    options = {"n_components": 2, "likelihood": "bernoulli", "hidden_layer_sizes": (16,)}
    slopes = []
    for objective in (ELBO(), ELBO() + Contractive(0.1)):
        vae = VAE(objective=objective, max_epochs=30, random_state=0, **options).fit(X)
        shift = 1e-3 * torch.randn(X.shape, generator=rng.generator(0)).double().numpy()
        slopes.append(((vae.transform(abs(X - abs(shift))) - vae.transform(X)) ** 2).mean())
    assert slopes[1] < 0.7 * slopes[0]
