"""Penalties against closed forms, quadrature, double loops, and errors that are often copied."""

import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from skvae import VAE, distributions, objectives, rng, testing
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli, Gaussian, StudentT
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import (
    DIP,
    ELBO,
    MMD,
    Contractive,
    DecoderGradient,
    DecoderWeights,
    FactorVAE,
    Penalty,
    TotalCorrelation,
)
from skvae.penalties.disentangle import shuffled
from skvae.posteriors import Deterministic, Diagonal, Flow, FullCovariance, Posterior
from skvae.priors import GaussianMixture, Standard
from test_gradients import codes, surgery  # noqa: F401  a fixture
from test_spec import SPECS

ALL = [s for s in SPECS if s.family == "penalty"]
PENALTIES = [s for s in ALL if not s.of_classes]  # the others are in test_few_labels
CELLS = (torch.rand(6, 4, generator=rng.generator(9)) < 0.5).double()
BATCH = Batch(CELLS, near=Batch(CELLS.flip(0)), place=CELLS[:, :2] - CELLS[:, 2:])


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def model_of(posterior=Diagonal(), likelihood=Bernoulli(), prior=Standard(), d=2):  # noqa: B008
    model = Assembly((4,), d, likelihood, posterior, prior, MLP((5,))).build(0).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def at(z, posterior=None):
    """Evidence at given draws z (K, B, d); penalties look at nothing else of it."""
    empty = torch.zeros(z.shape[:2], dtype=z.dtype)
    return Evidence(empty, empty, empty, draws=(z,), posterior=posterior)


def finite_difference(value, weight, index, step=1e-5):
    """Slope of a value by one weight."""
    values = []
    for shift in (step, -2 * step):
        with torch.no_grad():
            weight[index] += shift
        values.append(value())
    with torch.no_grad():
        weight[index] += step
    return (values[0] - values[1]) / (2 * step)


def call(penalty, z, posterior=None, model=None, seed=0):
    return penalty(model, BATCH, at(z, posterior), step=0, noise=noise(seed))


# -- all of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("penalty", ALL, ids=repr)
def test_every_penalty_keeps_the_contract(penalty):
    testing.check_penalty(penalty)


def test_all_penalties_together_are_one_objective():
    total = ELBO()
    for penalty in PENALTIES:
        total = total + penalty
    testing.check_objective(total)
    assert total.penalties == tuple(PENALTIES)
    assert total.held_out() == ELBO()


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_the_weight_multiplies(penalty):
    field = "off_diagonal" if isinstance(penalty, DIP) else "weight"
    values = []
    for weight in (0.0, 1.0, 3.0):
        spec = penalty.replace(**{field: weight})
        with rng.isolated(0):
            running = spec.start(2)
        model = model_of()
        evidence = model.evidence(BATCH, 2, noise())
        values.append(running(model, BATCH, evidence, step=0, noise=noise(1)).item())
    assert values[2] - values[0] == pytest.approx(3 * (values[1] - values[0]))
    assert abs(values[1] - values[0]) > 1e-4
    for bad in (-1.0, math.inf, math.nan):
        with pytest.raises(ParameterError, match=f"{field} must be finite and >= 0"):
            penalty.replace(**{field: bad})


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_penalties_follow_the_precision_of_the_model(penalty):
    model = model_of().float()
    batch = replace(BATCH.map(torch.Tensor.float), near=BATCH.near.map(torch.Tensor.float))
    with rng.isolated(0):
        running = penalty.start(2)
    evidence = model.evidence(batch, 2, noise())
    value = running(model, batch, evidence, step=0, noise=noise(1))
    assert value.dtype == torch.float32
    value.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("penalty", PENALTIES, ids=repr)
def test_a_batch_of_one_row_does_no_harm(penalty):
    model, batch = model_of(), BATCH.rows(slice(0, 1))
    with rng.isolated(0):
        running = penalty.start(2)
    evidence = model.evidence(batch, 1, noise())
    assert torch.isfinite(running(model, batch, evidence, step=0, noise=noise()))


@pytest.mark.parametrize("penalty", [p for p in PENALTIES if p.name != "contractive"], ids=repr)
def test_penalties_work_with_noise_by_row(penalty):
    model = model_of()
    with rng.isolated(0):
        running = penalty.start(2)
    by_row = rng.PerRow(BATCH.x, 0)
    evidence = model.evidence(BATCH, 1, by_row)
    assert torch.isfinite(running(model, BATCH, evidence, step=0, noise=by_row))


@pytest.mark.parametrize(
    ("own", "use", "message"),
    [
        (True, False, "gradients reach the weights that `start` made"),
        (False, False, "the penalty has a gradient"),
        (False, True, "the penalty changes some weight of the model"),
        (True, True, None),
    ],
)
def test_the_check_names_what_is_wrong_with_a_penalty(own, use, message):
    @dataclass(frozen=True)
    class Mine(Penalty, name="test-mine"):
        def start(self, width):
            return Running(width)

        def __call__(self, model, batch, evidence, *, step, noise):
            raise NotImplementedError

    class Running(Penalty):
        def __init__(self, width):
            self.weight = torch.nn.Parameter(torch.ones(width if own else 0))

        def parameters(self):
            return iter([self.weight] if own else [])

        def __call__(self, model, batch, evidence, *, step, noise):
            z = evidence.draws[0]
            if not use:
                return z.detach().sum()
            return (z * self.weight).sum() if own else (0 * z).sum()

    try:
        if message is None:
            testing.check_penalty(Mine())
        else:
            with pytest.raises(AssertionError, match=message):
                testing.check_penalty(Mine())
    finally:
        del Penalty._registry["test-mine"]


class Sphere(Posterior):
    space = "sphere"

    def build(self, d, context):
        raise NotImplementedError


class Codes(Posterior):
    space, reparameterized = "one_hot", False

    def build(self, d, context):
        raise NotImplementedError


class Scored(Codes):
    space = "real"


@pytest.mark.parametrize(
    ("penalty", "refused"),
    [
        (TotalCorrelation(), {FullCovariance, Flow, Deterministic, Sphere, Codes, Scored}),
        (FactorVAE(), {Sphere, Codes, Scored}),
        (DIP(), {Sphere, Codes}),
        (DIP(kind="ii"), {FullCovariance, Flow, Deterministic, Sphere, Codes, Scored}),
        (MMD(), {Codes, Scored}),
        (DecoderGradient(), {Codes}),
        (DecoderWeights(), set()),
        (Contractive(), set()),
    ],
    ids=lambda value: repr(value) if isinstance(value, Penalty) else "",
)
def test_a_penalty_says_where_it_makes_no_sense(penalty, refused):
    kinds = (Diagonal, FullCovariance, Flow, Deterministic, Sphere, Codes, Scored)
    found = {kind for kind in kinds if penalty.objection(kind())}
    assert found == refused
    for kind in refused:
        assert (ELBO() + penalty).objection(kind()) == penalty.objection(kind())


def test_the_estimator_says_which_penalty_does_not_go_with_the_posterior(digits):
    objective = ELBO() + TotalCorrelation()
    vae = VAE(posterior="full_covariance", objective=objective, max_epochs=1)
    with pytest.raises(ParameterError, match="product over the latent dimensions"):
        vae.fit(digits[0][:50])


@pytest.mark.parametrize("penalty", [TotalCorrelation(), DIP(kind="ii")], ids=repr)
def test_a_model_that_chains_its_posteriors_is_refused_too(penalty):
    z = torch.zeros(1, 6, 2).double()
    q = MultivariateNormal(z[0], torch.eye(2).double())
    with pytest.raises(ParameterError, match="product over the latent dimensions"):
        call(penalty, z, q)


# -- total correlation ----------------------------------------------------------------------------


def test_total_correlation_is_that_of_the_aggregate_posterior(codes):  # noqa: F811
    """In expectation, exactly, where the batch is all there is; the joint is weighted once."""
    z = distributions.draw(codes, (40_000,), noise())
    found = call(TotalCorrelation(2.0), z, codes).item() / 2
    terms = torch.stack([call(TotalCorrelation(1.0), part, codes) for part in z.split(400)])
    error = (terms.std() / math.sqrt(len(terms))).item()
    assert error < 0.005
    assert found == pytest.approx(terms.mean().item())
    assert found == pytest.approx(surgery(codes)[1], abs=4 * error)


def test_total_correlation_by_a_loop():
    model = model_of(d=3)
    evidence = model.evidence(BATCH, 2, noise())
    z, q = evidence.draws[0], evidence.posterior.base_dist
    total = 0.0
    for k, i in itertools.product(range(2), range(6)):
        density = torch.zeros(6, 3).double()  # of draw i, under the posterior of row j
        for j, c in itertools.product(range(6), range(3)):
            mean, scale = q.loc[j, c], q.scale[j, c]
            square = ((z[k, i, c] - mean) / scale) ** 2
            density[j, c] = torch.exp(-0.5 * square) / (scale * math.sqrt(2 * math.pi))
        total += torch.log(density.prod(1).mean()) - torch.log(density.mean(0)).sum()
    found = call(TotalCorrelation(1.0), z, evidence.posterior)
    assert found.item() == pytest.approx(total.item() / 12)


def test_total_correlation_of_equal_posteriors_is_zero():
    mean = torch.tensor([[0.3, -1.0]]).double().expand(6, 2)
    q = Independent(Normal(mean, torch.full((6, 2), 0.5).double()), 1)
    z = distributions.draw(q, (3,), noise())
    assert call(TotalCorrelation(), z, q).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "penalty",
    [TotalCorrelation(2.0), DIP(2.0, 3.0, "ii"), MMD(2.0), MMD(2.0, "rbf")],
    ids=repr,
)
def test_the_gradient_of_the_encoder_is_the_slope_of_the_value(penalty):
    model = model_of()
    weight = model.posterior.head.weight

    def value():
        source = noise()
        evidence = model.evidence(BATCH, 2, source)
        return penalty(model, BATCH, evidence, step=0, noise=source)

    (slope,) = torch.autograd.grad(value(), weight)
    for index in ((0, 1), (3, 2)):  # of a mean, and of a log-variance
        expected = finite_difference(lambda: value().item(), weight, index)
        assert slope[index].item() == pytest.approx(expected, rel=1e-4)
        assert abs(expected) > 1e-4


# -- FactorVAE ------------------------------------------------------------------------------------


def test_each_coordinate_is_permuted_over_the_rows_on_its_own():
    z = torch.arange(60.0).view(20, 3)
    mixed = shuffled(z, noise())
    for j in range(3):  # nothing crosses from one coordinate to another
        assert torch.equal(mixed[:, j].sort()[0], z[:, j])
    origin = (mixed - torch.arange(3)) / 3  # which row each number came from
    assert (origin != torch.arange(20.0)[:, None]).float().mean() > 0.7
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert (origin[:, i] != origin[:, j]).sum() > 10
    first = torch.stack([shuffled(z, noise(s))[0] for s in range(2000)]) // 3
    assert torch.allclose(first.mean(0), torch.tensor(9.5), atol=0.6)  # uniform over the rows


def factor(width=2, weight=3.0):
    with rng.isolated(0):
        return FactorVAE(weight, (8,)).start(width)


def test_factor_is_a_density_ratio_and_a_cross_entropy():
    running, model = factor(), model_of()
    evidence = model.evidence(BATCH, 1, noise())
    value = running(model, BATCH, evidence, step=0, noise=noise(1))
    z = evidence.draws[0][0].detach()
    logit = running.discriminator(z)[:, 0]
    mixed = running.discriminator(shuffled(z, noise(1)))[:, 0]
    entropy = -0.5 * (torch.sigmoid(logit).log() + (1 - torch.sigmoid(mixed)).log()).mean()
    assert value.item() == pytest.approx((3 * logit.mean() + entropy).item())


def test_the_two_gradients_of_factor_do_not_mix():
    running, model = factor(), model_of()
    evidence = model.evidence(BATCH, 1, noise())
    z = evidence.draws[0][0]
    weights = [p for n, p in model.named_parameters() if n.startswith(("encoder", "posterior"))]
    own = list(running.parameters())
    value = running(model, BATCH, evidence, step=0, noise=noise(1))
    found = torch.autograd.grad(value, [*weights, *own], retain_graph=True)
    first = torch.autograd.grad(3 * running.discriminator(z).mean(), weights, retain_graph=True)
    logit, mixed = (running.discriminator(v) for v in (z.detach(), shuffled(z.detach(), noise(1))))
    second = torch.autograd.grad(
        -0.5 * (torch.sigmoid(logit).log() + torch.sigmoid(-mixed).log()).mean(), own
    )
    for a, b in zip(found, [*first, *second], strict=True):
        assert torch.allclose(a, b, atol=1e-12)
        assert a.abs().max() > 0


def test_the_discriminator_learns_the_total_correlation():
    """Of a Gaussian: −½ log(1 − ρ²). Mixing the coordinates of a row would make it 0."""
    rho, running = 0.8, factor(weight=1.0)
    optimizer = torch.optim.Adam(running.parameters(), 0.01)
    law = MultivariateNormal(torch.zeros(2), torch.tensor([[1, rho], [rho, 1]]))
    source = noise()
    for _ in range(250):
        z = distributions.draw(law.expand([512]), (1,), source)
        optimizer.zero_grad()
        running(None, BATCH, at(z), step=0, noise=source).backward()
        optimizer.step()
    z = distributions.draw(law.expand([20_000]), (), source)
    with torch.no_grad():
        found = running.discriminator(z).mean().item()
    assert found == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.06)


def test_factor_needs_a_start():
    with pytest.raises(ParameterError, match=r"call what `start\(width\)` returns"):
        call(FactorVAE(), torch.zeros(1, 6, 2))
    with pytest.raises(ParameterError, match="hidden_layer_sizes"):
        FactorVAE(hidden_layer_sizes=(0,))
    assert FactorVAE(hidden_layer_sizes=[3, 4]) == FactorVAE(hidden_layer_sizes=(3, 4))
    shapes = [tuple(p.shape) for p in FactorVAE(1.0, (7, 5)).start(2).parameters()]
    assert shapes == [(7, 2), (7,), (5, 7), (5,), (1, 5), (1,)]


def test_factor_trains_along(digits):
    X = digits[0][:200]
    objective = ELBO() + FactorVAE(5.0, (16,))
    options = {"n_components": 2, "likelihood": "bernoulli", "max_epochs": 2, "random_state": 0}
    vae = VAE(objective=objective, hidden_layer_sizes=(8,), **options).fit(X)
    trainer = vae._core.trainer
    (running,) = trainer.running.penalties
    with rng.isolated(vae._core.seed, rng.Stream.INIT, 1):
        before = objective.start(2).penalties[0]
    for a, b in zip(running.parameters(), before.parameters(), strict=True):
        assert not torch.equal(a, b)
    again = VAE(objective=objective, hidden_layer_sizes=(8,), **options).fit(X)
    assert np.array_equal(vae.transform(X), again.transform(X))


# -- DIP ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["i", "ii"])
def test_dip_is_the_covariance_over_the_batch(kind):
    g = np.random.default_rng(0)
    mean, scale = g.normal(size=(6, 3)) + 2, g.uniform(0.2, 2, size=(6, 3))
    q = Independent(Normal(torch.tensor(mean), torch.tensor(scale)), 1)
    C = np.cov(mean.T, bias=True)
    if kind == "ii":
        C = C + np.diag((scale**2).mean(0))
    off = sum(C[i, j] ** 2 for i, j in itertools.permutations(range(3), 2))
    own = sum((C[i, i] - 1) ** 2 for i in range(3))
    found = call(DIP(2.0, 5.0, kind), torch.zeros(1, 6, 3).double(), q)
    assert found.item() == pytest.approx(2 * off + 5 * own)


def test_dip_is_zero_where_codes_are_white():
    mean = math.sqrt(2) * torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, -1]]).double() + 3
    z = torch.zeros(1, 4, 2).double()
    q = Independent(Normal(mean, torch.ones_like(mean)), 1)
    assert call(DIP(), z, q).item() == pytest.approx(0, abs=1e-12)
    assert call(DIP(2.0, 5.0, "ii"), z, q).item() == pytest.approx(5 * 2)  # variances are 2
    with pytest.raises(ParameterError, match="kind must be 'i' or 'ii'"):
        DIP(kind="iii")


def test_dip_goes_with_full_covariance_and_points():
    for posterior in (FullCovariance(), Deterministic()):
        model = model_of(posterior)
        evidence = model.evidence(BATCH, 1, noise())
        C = np.cov(model.infer(BATCH).mean.detach().T, bias=True)
        expected = 2 * 2 * C[0, 1] ** 2 + 3 * ((np.diag(C) - 1) ** 2).sum()
        found = DIP(2.0, 3.0)(model, BATCH, evidence, step=0, noise=noise())
        assert found.item() == pytest.approx(expected)


# -- MMD ------------------------------------------------------------------------------------------


def kernel(name, a, b, d):
    r2 = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    if name == "rbf":
        return math.exp(-r2 / (2 * d))
    scales = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    return sum(2 * d * s / (2 * d * s + r2) for s in scales)


@pytest.mark.parametrize("prior", [Standard(), GaussianMixture(3)], ids=repr)
@pytest.mark.parametrize("name", ["imq", "rbf"])
def test_mmd_by_a_double_loop(name, prior):
    model = model_of(prior=prior)
    z = torch.randn(2, 6, 2, generator=rng.generator(4)).double()
    found = call(MMD(3.0, name), z, model=model, seed=5).item()
    p = distributions.draw(model.prior_distribution().expand([6]), (), noise(5)).tolist()
    q = z[0].tolist()
    pairs = list(itertools.permutations(range(6), 2))
    within = sum(kernel(name, v[i], v[j], 2) for v in (q, p) for i, j in pairs) / 30
    between = sum(kernel(name, a, b, 2) for a in q for b in p) / 36
    assert found == pytest.approx(3 * (within - 2 * between))


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_mmd_is_unbiased_for_the_closed_form(shift):
    """Between N(m, I) and N(0, I) under the Gaussian kernel; for equal laws it is 0."""
    d, repeats = 2, 600
    model = model_of()
    z = torch.randn(repeats, 1, 10, d, generator=rng.generator(0)).double()
    z[..., 0] += shift
    values = torch.stack(
        [call(MMD(1.0, "rbf"), v, model=model, seed=s + 1) for s, v in enumerate(z)]
    ).detach()
    error = (values.std() / math.sqrt(repeats)).item()
    norm = (1 + 2 / d) ** (-d / 2)
    expected = 2 * norm * (1 - math.exp(-(shift**2) / (2 * (d + 2))))
    assert error < 0.01
    assert values.mean().item() == pytest.approx(expected, abs=3.5 * error)
    if not shift:
        assert (values < 0).float().mean() > 0.3  # unbiased, so it must fall below 0 too


def test_mmd_of_equal_laws_has_mean_zero():
    model = model_of()
    z = torch.randn(300, 1, 10, 2, generator=rng.generator(0)).double()
    values = torch.stack([call(MMD(1.0), v, model=model, seed=s + 1) for s, v in enumerate(z)])
    error = values.std() / math.sqrt(len(values))
    assert abs(values.mean() / error) < 3.5
    wide = torch.stack([call(MMD(1.0), 2 * v, model=model, seed=s) for s, v in enumerate(z)])
    assert wide.mean() > 20 * error


def test_mmd_names_its_kernels():
    with pytest.raises(ParameterError, match=r"kernel='img' is not known\. Did you mean 'imq'"):
        MMD(kernel="img")


def test_wae_mmd_fills_the_prior(digits):
    """Without a penalty, codes spread far; with it, they have the moments of N(0, I)."""
    X = (digits[0][:300] > 0.5).astype(float)
    options = {
        "n_components": 2,
        "posterior": "deterministic",
        "hidden_layer_sizes": (16,),
        "batch_size": 50,
        "learning_rate": 0.02,
        "early_stopping": False,
    }
    spread = []
    for objective in (ELBO(beta=0.0), ELBO(beta=0.0) + MMD(100.0)):
        vae = VAE(objective=objective, max_epochs=20, random_state=0, **options).fit(X)
        spread.append(vae.transform(X).std(0))
    assert (spread[0] > 1.6).all()
    assert np.allclose(spread[1], 1, atol=0.2)


# -- decoders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Gaussian(scale="per_cell"), StudentT()], ids=repr
)
def test_the_decoder_gradient_is_the_jacobian_of_the_mean(likelihood):
    model = model_of(likelihood=likelihood)
    evidence = model.evidence(BATCH, 3, noise())
    exact = DecoderGradient(2.0, n_probes=0)
    value = exact(model, BATCH, evidence, step=0, noise=noise())
    z = evidence.draws[0][0].detach()
    jacobian = torch.autograd.functional.jacobian(lambda z: model.generate(z).mean.sum(0), z)
    assert value.item() == pytest.approx(2 * jacobian.square().sum().item() / 6)
    many = DecoderGradient(2.0, n_probes=300)(model, BATCH, evidence, step=0, noise=noise())
    assert many.item() == pytest.approx(value.item(), rel=0.1)
    weights = (model.decoder[0].weight, model.posterior.head.weight)
    for weight, slope in zip(weights, torch.autograd.grad(value, weights), strict=True):

        def again():
            evidence = model.evidence(BATCH, 3, noise())
            return exact(model, BATCH, evidence, step=0, noise=noise()).item()

        expected = finite_difference(again, weight, (1, 1))
        assert slope[1, 1].item() == pytest.approx(expected, rel=1e-5)
        assert abs(expected) > 1e-4
    with pytest.raises(ParameterError, match="n_probes"):
        DecoderGradient(n_probes=-1)


def test_decoder_weights():
    model = model_of()
    decoder = [p.detach().numpy() for p in model.decoder.parameters()]
    expected = sum((p**2).sum() for p in decoder)
    z = torch.zeros(1, 6, 2).double()
    value = call(DecoderWeights(0.5), z, model=model)
    assert value.item() == pytest.approx(0.5 * expected)
    value.backward()
    for name, parameter in model.named_parameters():
        if name.startswith("decoder"):
            assert torch.allclose(parameter.grad, parameter)
        else:
            assert parameter.grad is None


def test_penalties_are_among_the_objectives():
    names = {type(p).__name__ for p in ALL}
    assert names <= set(objectives.__all__)
    assert DIP() == DIP(10.0, 10.0, "i")
    assert MMD() == MMD(10.0, "imq")
    assert FactorVAE() == FactorVAE(10.0, (256, 256))
    assert TotalCorrelation() == TotalCorrelation(5.0)
    assert DecoderGradient() == DecoderGradient(0.01, 1)
    assert DecoderWeights() == DecoderWeights(1e-4)


def test_a_penalty_knows_the_step_and_draws_from_the_objectives_noise():
    seen = []

    class Seen(Penalty):
        def __call__(self, model, batch, evidence, *, step, noise):
            seen.append((step, noise))
            return torch.zeros(())

    source = noise()
    (ELBO() + Seen())(model_of(), BATCH, step=7, noise=source)
    assert seen == [(7, source)]
