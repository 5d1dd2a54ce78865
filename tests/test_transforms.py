"""Planar, radial, Householder and Sylvester maps against autograd, algebra and quadrature."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal
from torch.func import jacrev, vmap

from skvae import VAE, distributions, load, posteriors, priors, rng, transforms
from skvae.distributions import unit
from skvae.evidence import Batch
from skvae.flows import KINDS, FlowKind, build_flow
from skvae.likelihoods import Bernoulli
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.transforms import Householder, Planar, Radial, Sylvester, solve_tanh

OWN = ["householder", "planar", "radial", "sylvester"]
START = {name: getattr(transforms, name) for name in OWN}


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def normal(*shape, seed=0, size=1.0):
    return size * torch.randn(shape, generator=rng.generator(seed), dtype=torch.float64)


def made(kind, d=3, rows=4, size=1.0, seed=0):
    """A transform with raw parameters N(0, size²), another one for each row."""
    make, start = START[kind](d, 1)
    return make(*(normal(rows, *p.shape, seed=seed + i, size=size) for i, p in enumerate(start)))


def jacobians(f, x):
    """∂f/∂x for x (K, B, d), shape (K, B, d, d); the rows have nothing to do with each other."""
    return vmap(jacrev(lambda v: f(v).sum(0)))(x).movedim(-2, 1)


def flow_of(kind, d=2, context=0, n=3, size=0.4, hidden=(8,)):
    spec = posteriors.Flow(kind=kind, n_transforms=n, hidden_layer_sizes=hidden)
    with rng.isolated(0):
        flow = build_flow(spec, d, context).double()
    with torch.no_grad():
        for i, parameter in enumerate(flow.parameters()):
            parameter.add_(normal(*parameter.shape, seed=i, size=size))
    return flow


def standard(d):
    return Independent(Normal(torch.zeros(d).double(), torch.ones(d).double()), 1)


# -- the maps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1.0, 10.0])
@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("kind", OWN)
def test_log_determinant_is_that_of_autograd(kind, d, size):
    f = made(kind, d, size=size)
    x = normal(20, 4, d, seed=9, size=2.0)
    y, ladj = f.call_and_ladj(x)
    jacobian = jacobians(f, x)
    sign, expected = torch.linalg.slogdet(jacobian)
    assert torch.equal(sign, torch.ones_like(sign))
    assert torch.allclose(ladj, expected, atol=1e-9, rtol=1e-7 if size > 1 else 1e-9)
    assert torch.equal(f.log_abs_det_jacobian(x, y), ladj)
    assert torch.equal(f(x), y)
    if kind != "householder":
        assert ladj.std() > 0.05


@pytest.mark.parametrize("size", [0.01, 1.0, 10.0, 100.0, 1e6])
@pytest.mark.parametrize("d", [1, 2, 3, 20])
@pytest.mark.parametrize("kind", OWN)
def test_there_and_back_whatever_the_parameters_are(kind, d, size):
    f = made(kind, d, rows=200, size=size)
    y = normal(20, 200, d, seed=9, size=3.0)
    far = 1 + (f.centre.abs().max() if kind == "radial" else 0)  # digits are lost at a far centre
    x = f.inv(y)
    assert torch.isfinite(x).all()
    assert (f(x) - y).abs().max() < 1e-10 * far
    # Back again, as exactly as the slopes allow: that of the inverse can be 1000 in a direction,
    # and those of a triangular system multiply.
    x = y
    image, ladj = f.call_and_ladj(x)
    assert torch.isfinite(ladj).all()
    error = (f.inv(image) - x).abs().amax(-1)
    assert error.median() < 1e-12 * far
    if kind != "sylvester" or d <= 2:
        assert error.max() < 1e-9 * far


@pytest.mark.parametrize("size", [1e3, 1e10])
@pytest.mark.parametrize("kind", OWN)
def test_large_features_in_float32_give_no_nan(kind, size):
    make, start = START[kind](5, 0)
    raw = [normal(30, *p.shape, seed=i, size=size).float() for i, p in enumerate(start)]
    raw = [r.requires_grad_() for r in raw]
    f = make(*raw)
    x = normal(10, 30, 5).float()
    y, ladj = f.call_and_ladj(x)
    back = f.inv(y.detach())
    assert y.dtype == ladj.dtype == back.dtype == torch.float32
    (y.sum() + ladj.sum() + back.sum()).backward()
    for values in (y, ladj, back, *(r.grad for r in raw)):
        assert torch.isfinite(values).all()


@pytest.mark.parametrize("kind", OWN)
def test_float32_goes_there_and_back(kind):
    make, start = START[kind](5, 0)
    f = make(*(normal(50, *p.shape, seed=i).float() for i, p in enumerate(start)))
    x = normal(20, 50, 5).float()
    assert (f.inv(f(x)) - x).abs().max() < 1e-3
    assert (f.inv(f(x)) - x).abs().median() < 1e-6


@pytest.mark.parametrize("kind", OWN)
def test_the_derivative_of_the_inverse_is_the_inverse_of_the_derivative(kind):
    f = made(kind, 3)
    x = normal(10, 4, 3, seed=9)
    forth = jacobians(f, x)
    back = jacobians(f.inv, f(x))
    eye = torch.eye(3).double().expand_as(back)
    assert torch.allclose(back @ forth, eye, atol=1e-9)


@pytest.mark.parametrize("kind", OWN)
def test_the_inverse_moves_with_the_parameters_as_finite_differences_say(kind):
    make, start = START[kind](3, 1)
    raw = [normal(2, *p.shape, seed=i) for i, p in enumerate(start)]
    y = normal(5, 2, 3, seed=9)

    def value(*raw):
        x = make(*raw).inv(y)
        return (torch.cos(x) * torch.arange(1.0, 4.0, dtype=torch.float64)).sum()

    slopes = torch.func.grad(value, argnums=tuple(range(len(raw))))(*raw)
    for i, slope in enumerate(slopes):
        direction = normal(*raw[i].shape, seed=77 + i)
        step = 1e-6 * direction
        ends = [value(*raw[:i], raw[i] + s * step, *raw[i + 1 :]) for s in (1, -1)]
        expected = (ends[0] - ends[1]) / 2e-6
        assert (slope * direction).sum().item() == pytest.approx(
            expected.item(), rel=1e-6, abs=1e-8
        )
        assert slope.abs().max() > 1e-3


def test_scalar_equation():
    s = torch.logspace(math.log10(transforms.MIN_SLOPE), 5, 200, dtype=torch.float64)[:, None]
    t = torch.cat([torch.zeros(1), torch.logspace(-12, 6, 500)]).double()
    t = torch.cat([-t, t])
    a = solve_tanh(t, s)
    left = a + (s - 1) * torch.tanh(a)
    assert ((left - t).abs() <= 1e-12 * (t.abs() + s * a.abs() + 1e-300)).all()
    assert torch.equal(solve_tanh(torch.zeros(1), torch.ones(1)), torch.zeros(1))


# -- what each of them is -------------------------------------------------------------------------


def test_planar_is_a_shift_along_u():
    w, u, b = normal(3), normal(3, seed=1), normal(1, seed=2)
    if (w @ u) < 0:
        u = -u  # then nothing has to be corrected
    f = Planar(0.01 * w, u, b)
    z = normal(7, 3, seed=3)
    bounded_u = 10 * torch.tanh(u / 10)
    expected = z + bounded_u * torch.tanh(z @ (0.01 * w) + b)[:, None]
    assert torch.allclose(f(z), expected, atol=1e-7)
    # Where wᵀu is far below −1, only its part along w changes, just so much that the slope stays
    # positive.
    w, u = torch.tensor([0.0, 3.0]).double(), torch.tensor([2.0, -3.0]).double()
    f = Planar(w, u, torch.zeros(1).double())
    assert f.u[0].item() == pytest.approx(10 * math.tanh(0.2))
    assert (f.w @ f.u).item() == pytest.approx(-1 + transforms.MIN_SLOPE, abs=1e-3)
    assert (f.w @ f.u).item() >= -1 + transforms.MIN_SLOPE - 1e-12
    assert f.s.item() == pytest.approx(1 + (f.w @ f.u).item(), abs=1e-12)


def test_planar_without_a_direction_is_the_identity_shifted():
    f = Planar(torch.zeros(3).double(), torch.ones(3).double(), torch.ones(1).double())
    z = normal(4, 3)
    expected = z + 10 * math.tanh(0.1) * math.tanh(1)
    assert torch.allclose(f(z), expected)
    assert torch.allclose(f.inv(f(z)), z)


def test_radial_is_a_stretch_around_its_centre():
    centre, log_alpha, log_slope = normal(2), normal(1, seed=1), normal(1, seed=2)
    f = Radial(centre, log_alpha, log_slope)
    bound = math.log(1e3)
    alpha = math.exp(bound * math.tanh(log_alpha.item() / bound))
    beta = alpha * (math.exp(bound * math.tanh(log_slope.item() / bound)) - 1)
    z = normal(6, 2, seed=3)
    r = (z - centre).norm(dim=-1, keepdim=True)
    assert torch.allclose(f(z), z + beta * (z - centre) / (alpha + r))
    assert torch.allclose(f(centre), centre)
    assert torch.allclose(f.inv(centre), centre)
    slope = jacrev(f)(centre)  # at the very centre, where |z − c| has no derivative
    assert torch.allclose(slope, (1 + beta / alpha) * torch.eye(2).double())


def test_householder_is_a_rotation():
    f = made("householder", 4)
    x = normal(6, 4, 4, seed=9)
    y, ladj = f.call_and_ladj(x)
    assert torch.equal(ladj, torch.zeros(6, 4).double())
    Q = jacobians(f, x)
    assert torch.allclose(Q @ Q.mT, torch.eye(4).double().expand_as(Q), atol=1e-14)
    v = f.v / f.v.norm(dim=-1, keepdim=True)
    sign = torch.tensor([1.0, -1.0, 1.0, 1.0]).double()
    mirror = torch.eye(4).double() - 2 * v[..., None] * v[..., None, :]
    assert torch.allclose(Q[0], mirror * sign, atol=1e-14)
    assert torch.allclose(y.norm(dim=-1), x.norm(dim=-1))
    e2 = torch.tensor([0.0, 1.0, 0.0, 0.0]).double()
    assert torch.equal(Householder(5e200 * e2, 1)(x), x)
    assert torch.equal(Householder(5e-200 * e2, 1)(x), x)


def test_householder_flow_gives_a_full_covariance():
    """A Gaussian with unequal variances, rotated: N(Qμ, Q diag(σ²) Qᵀ)."""
    flow = flow_of("householder", d=3)
    base = Independent(Normal(normal(3), torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)), 1)
    p = flow(base)
    Q = jacrev(p.transform)(torch.zeros(3).double())
    covariance = Q @ torch.diag(base.base_dist.scale**2) @ Q.T
    reference = MultivariateNormal(Q @ base.mean, covariance)
    z = normal(8, 3, seed=5)
    assert torch.allclose(p.log_prob(z), reference.log_prob(z), atol=1e-10)
    assert (covariance - covariance.diag().diag()).abs().max() > 0.1


def test_sylvester_is_a_residual_layer():
    m, d = 2, 4
    normals, square = normal(m, d), normal(m, m, seed=1)
    diagonals, b = normal(2, m, seed=2), normal(m, seed=3)
    f = Sylvester(normals, square, diagonals, b)
    Q = f.q.T  # (d, m)
    assert torch.allclose(Q.T @ Q, torch.eye(m).double(), atol=1e-14)
    mirrors = [torch.eye(d).double() - 2 * torch.outer(unit(v), unit(v)) for v in normals]
    assert torch.allclose(Q, (mirrors[0] @ mirrors[1])[:, :m], atol=1e-14)
    square = 10 * torch.tanh(square / 10)
    limit = math.sqrt(1 - transforms.MIN_SLOPE)
    r, r_tilde = limit * torch.tanh(diagonals / limit)
    R = torch.tensor([[r[0], square[0, 1]], [0, r[1]]])
    R_tilde = torch.tensor([[r_tilde[0], square[1, 0]], [0, r_tilde[1]]])
    z = normal(5, d, seed=4)
    expected = z + torch.tanh(z @ Q @ R_tilde.T + b) @ R.T @ Q.T
    assert torch.allclose(f(z), expected)
    # With M < d, what is orthogonal to Q stays.
    assert torch.allclose(f(z) - f(z) @ Q @ Q.T, z - z @ Q @ Q.T, atol=1e-14)
    x = f.inv(expected)
    assert torch.allclose(x, z, atol=1e-12)


def test_sylvester_has_at_most_sixteen_columns():
    assert made("sylvester", 20).q.shape == (4, 16, 20)
    assert made("sylvester", 5).q.shape == (4, 5, 5)
    f = made("sylvester", 20)
    assert torch.allclose(f.q @ f.q.mT, torch.eye(16).double().expand(4, -1, -1), atol=1e-13)


# -- in a flow ------------------------------------------------------------------------------------


def test_every_kind_can_be_built():
    assert set(KINDS) == set(get_args(FlowKind))
    with pytest.raises(ValueError, match="Did you mean 'sylvester'"):
        posteriors.Flow(kind="silvester")


@pytest.mark.parametrize("context", [0, 4])
@pytest.mark.parametrize("kind", OWN)
def test_a_flow_starts_near_the_identity(kind, context):
    with rng.isolated(3):
        flow = build_flow(posteriors.Flow(kind, 4), 6, context).double()
    features = normal(5, context) if context else None
    p = flow(standard(6).expand([5]), features)
    x = normal(7, 5, 6)
    y, ladj = p.transform.call_and_ladj(x)
    assert (y - x).abs().max() < 0.3
    assert ladj.abs().max() < 0.3
    if kind != "householder":
        assert ladj.abs().max() > 0


@pytest.mark.parametrize("kind", OWN)
def test_density_integrates_to_one(kind):
    p = flow_of(kind)(standard(2))
    with torch.no_grad():
        side = torch.linspace(-12, 12, 401, dtype=torch.float64)
        mass = torch.exp(p.log_prob(torch.cartesian_prod(side, side))).sum() * (24 / 400) ** 2
    assert mass.item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("kind", OWN)
def test_the_density_of_a_draw_is_the_density_of_that_point(kind):
    p = flow_of(kind)(standard(2).expand([3]))
    z = distributions.draw(p, (50,), noise())
    carried, computed = p.log_prob(z), p.log_prob(z.clone())
    assert carried is not computed
    assert torch.allclose(carried, computed, atol=1e-9)
    assert torch.allclose(p.expand([3]).log_prob(z), carried, atol=1e-9)
    with torch.no_grad():
        many = distributions.draw(p, (20000,), noise(1)).mean(0)
    assert torch.allclose(p.mean, many, atol=0.15)


@pytest.mark.parametrize("hidden", [(), (8,), (8, 5)])
@pytest.mark.parametrize("kind", OWN)
def test_every_row_has_its_own_map(kind, hidden):
    flow = flow_of(kind, d=3, context=2, hidden=hidden)
    linear = [m for m in flow.modules() if isinstance(m, torch.nn.Linear)]
    sizes = [m.out_features for m in linear[: len(linear) // 3]]
    assert sizes[:-1] == list(hidden)
    context = normal(4, 2)
    p = flow(standard(3).expand([4]), context)
    x = normal(1, 1, 3).expand(1, 4, 3)
    y = p.transform(x)[0]
    for i in range(1, 4):
        assert not torch.allclose(y[0], y[i], atol=1e-3)
    alone = flow(standard(3).expand([1]), context[2:3])
    assert torch.allclose(alone.transform(x[:, 2:3])[0, 0], y[2], atol=1e-12)
    z = distributions.draw(p, (6,), rng.PerRow(context, 0))
    one = distributions.draw(alone, (6,), rng.PerRow(context[2:3], 0))
    assert torch.allclose(one[:, 0], z[:, 2], atol=1e-12)


@pytest.mark.parametrize("kind", OWN)
def test_gradients_reach_every_weight_both_ways(kind):
    flow = flow_of(kind, d=3, context=2)
    p = flow(Independent(Normal(normal(4, 3), 0.5), 1), normal(4, 2))
    for value in (
        distributions.draw(p, (5,), noise()).square().sum(),
        p.log_prob(normal(5, 4, 3, seed=3)).sum(),
    ):
        flow.zero_grad()
        value.backward(retain_graph=True)
        for name, parameter in flow.named_parameters():
            assert parameter.grad.abs().max() > 0, name


def test_the_decoder_sees_what_the_flow_makes_and_each_row_pays_for_itself():
    """A published implementation decodes the point before the flow, and adds up the batch."""
    spec = Assembly(
        (5,), 3, Bernoulli(), posteriors.Flow("planar", 3), priors.Standard(), MLP((6,))
    )
    module = spec.build(0).double()
    with torch.no_grad():
        for parameter in module.posterior.parameters():
            parameter.mul_(5)
    x = (normal(4, 5) < 0).double()
    evidence = module.evidence(Batch(x), 7, noise())
    log_px, log_pz = module.log_joint(Batch(x), evidence.draws[0])
    assert torch.allclose(evidence.log_px, log_px)
    assert torch.allclose(evidence.log_pz, log_pz)
    q = module.infer(Batch(x[1:2]))
    assert torch.allclose(q.log_prob(evidence.draws[0][:, 1:2])[:, 0], evidence.log_qz[:, 1])


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("kind", ["maf", "iaf"])
def test_masks_of_autoregressive_networks(kind, order):
    """∂y_i/∂x_j = 0 for j after i in the order of the transform, which turns round."""
    flow = flow_of(kind, d=4, n=2, hidden=(64,))
    jacobian = jacrev(flow.transforms[order](None))(normal(4))
    if order:
        jacobian = jacobian.flip(0, 1)
    assert torch.equal(jacobian.triu(1), torch.zeros(4, 4).double())
    assert (jacobian.tril(-1).abs() > 0).sum() == 6


@pytest.mark.parametrize("kind", OWN)
def test_end_to_end(digits, tmp_path, kind):
    X = digits[0][:100]
    options = {"likelihood": "bernoulli", "hidden_layer_sizes": (16,), "max_epochs": 2}
    flow = posteriors.Flow(kind, n_transforms=2, hidden_layer_sizes=())
    vae = VAE(3, posterior=flow, random_state=0, **options).fit(X)
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.score_samples(X[:5]), vae.score_samples(X[:5]))
    assert np.array_equal(again.transform(X[:5]), vae.transform(X[:5]))
    assert again._core.spec.posterior == flow
    prior = VAE(3, prior=priors.Flow(kind, n_transforms=3), random_state=0, **options).fit(X)
    prior.save(tmp_path / "p")
    again = load(tmp_path / "p")
    assert np.array_equal(again.score_samples(X[:5]), prior.score_samples(X[:5]))
    assert np.array_equal(again.sample(3, random_state=1), prior.sample(3, random_state=1))
