"""Invertible maps of R^d with parameters of their own for every row: the flows of the VAE papers.

Each is guaranteed to be invertible whatever its raw parameters are, has a log-determinant without
cancellation, and an inverse through which gradients flow. Parameters have shape (*batch, ...),
points (..., *batch, d). The maps go from the base to z, so drawing is a single pass.
"""

import abc
from collections.abc import Callable, Sequence
from functools import partial
from math import log, prod, sqrt

import torch
from torch import Tensor, nn
from torch.distributions import Transform, constraints
from torch.nn import functional as F

from skvae.distributions import bounded, unit

__all__ = [
    "Amortised",
    "Householder",
    "Planar",
    "Radial",
    "Start",
    "Sylvester",
    "VectorTransform",
    "householder",
    "planar",
    "radial",
    "solve_tanh",
    "sylvester",
]

# No map is flatter than this in any direction it bends: its inverse is then at most this steep,
# and float32 can still go there and back.
MIN_SLOPE = 1e-3
# Vectors that are multiplied with each other stay below this, so that nothing overflows.
BOUND = 10.0
# Enough for the slopes that MIN_SLOPE and BOUND allow; the last ones double the digits.
NEWTON_STEPS = 24
MAX_COLUMNS = 16


class VectorTransform(Transform, abc.ABC):
    """An invertible map of R^d."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    @abc.abstractmethod
    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) (..., *batch, d) and log |det ∂f/∂x| (..., *batch)."""

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Log |det ∂f/∂x|, shape (..., *batch)."""
        return self.call_and_ladj(x)[1]


# -- a + (s − 1) tanh a ---------------------------------------------------------------------------


def _sech2(a: Tensor) -> Tensor:
    """1 − tanh² without cancellation."""
    e = torch.exp(-2 * a.abs())
    return 4 * e / (1 + e) ** 2


def _slope(a: Tensor, s: Tensor) -> Tensor:
    """Derivative of a + (s − 1) tanh a: between s > 0 (at a = 0) and 1, as a sum of squares."""
    return torch.tanh(a) ** 2 + s * _sech2(a)


@torch.no_grad()
def solve_tanh(t: Tensor, s: Tensor) -> Tensor:
    """Solve a + (s − 1) tanh a = t for a, elementwise, to the last digits; without gradient.

    The left side is odd, and for a > 0 it is concave (s > 1) or convex (s < 1). Newton's
    iteration, started on the side where the tangent cannot overshoot, therefore always converges.

    Parameters
    ----------
    t : Tensor
    s : Tensor
        Slope at 0, at least `MIN_SLOPE`.
    """
    size = t.abs()
    far, near = size + 1 - s, size / s  # tanh a lies below 1 and below a
    a = torch.where(s > 1, torch.maximum(far, near), torch.minimum(far, near))
    for _ in range(NEWTON_STEPS):
        a = a - (a + (s - 1) * torch.tanh(a) - size) / _slope(a, s)
    return a * t.sign()


# -- the maps -------------------------------------------------------------------------------------


class Planar(VectorTransform):
    """z + û tanh(wᵀz + b) [1]_.

    û is u with its part along w changed so that wᵀû > −1.

    Parameters
    ----------
    w, u : Tensor, shape (*batch, d)
    b : Tensor, shape (*batch, 1)

    References
    ----------
    .. [1] Rezende and Mohamed, "Variational Inference with Normalizing Flows", 2015,
       arXiv:1505.05770
    """

    def __init__(self, w: Tensor, u: Tensor, b: Tensor) -> None:
        super().__init__()
        self.w, self.b = bounded(w, BOUND), b
        u = bounded(u, BOUND)
        product = (self.w * u).sum(-1, keepdim=True)
        # The identity above 0, where nothing has to change.
        allowed = F.celu(product, alpha=1 - MIN_SLOPE)
        squared = self.w.square().sum(-1, keepdim=True)
        tiny = torch.finfo(squared.dtype).tiny
        self.u = u + (allowed - product) * self.w / squared.clamp(min=tiny)
        self.s = 1 + allowed  # (*batch, 1), the slope 1 + wᵀû

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) and the log-determinant."""
        a = (x * self.w).sum(-1, keepdim=True) + self.b
        return x + self.u * torch.tanh(a), _slope(a, self.s).log().squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        t = (y * self.w).sum(-1, keepdim=True) + self.b
        a = solve_tanh(t, self.s)
        # One more step, with gradient: the implicit function theorem.
        residual = a + (self.s - 1) * torch.tanh(a) - t
        a = a - residual / _slope(a, self.s).detach()
        return y - self.u * torch.tanh(a)


class Radial(VectorTransform):
    """z + β (z − c) / (α + |z − c|) with β > −α [1]_.

    Parameters
    ----------
    centre : Tensor, shape (*batch, d)
    log_alpha : Tensor, shape (*batch, 1)
    log_slope : Tensor, shape (*batch, 1)
        Of (α + β) / α, by which the map stretches at its centre.

    References
    ----------
    .. [1] Rezende and Mohamed, 2015, arXiv:1505.05770
    """

    def __init__(self, centre: Tensor, log_alpha: Tensor, log_slope: Tensor) -> None:
        super().__init__()
        self.centre = centre
        self.alpha = torch.exp(bounded(log_alpha, -log(MIN_SLOPE)))
        self.gamma = self.alpha * torch.exp(bounded(log_slope, -log(MIN_SLOPE)))  # α + β

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) and the log-determinant."""
        difference = x - self.centre
        r = torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
        stretch = (self.gamma + r) / (self.alpha + r)
        outward = (r**2 + 2 * self.alpha * r + self.alpha * self.gamma) / (self.alpha + r) ** 2
        ladj = (x.shape[-1] - 1) * stretch.log() + outward.log()
        return self.centre + difference * stretch, ladj.squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        difference = y - self.centre
        distance = torch.linalg.vector_norm(difference, dim=-1, keepdim=True)
        # r² + (γ − R) r − α R = 0; the positive root, by whichever form does not cancel.
        excess = distance - self.gamma
        q = excess.abs() + torch.sqrt(excess**2 + 4 * self.alpha * distance)
        r = torch.where(excess > 0, q / 2, 2 * self.alpha * distance / q)
        return self.centre + difference * (self.alpha + r) / (self.gamma + r)


def _reflect(x: Tensor, v: Tensor) -> Tensor:
    """Reflect x (..., d) at the plane orthogonal to the unit vector v (*batch, d)."""
    return x - 2 * (x * v).sum(-1, keepdim=True) * v


class Householder(VectorTransform):
    """A reflection of z, after the sign of one coordinate has been changed [1]_.

    The change of sign makes this a rotation, the identity where v is that coordinate's axis. For
    a Gaussian base, whose means may have any sign, it is no restriction.

    Parameters
    ----------
    v : Tensor, shape (*batch, d)
        Normal of the mirror, of any length.
    axis : int
        The coordinate that changes its sign.

    References
    ----------
    .. [1] Tomczak and Welling, "Improving Variational Auto-Encoders using Householder Flow",
       2016, arXiv:1611.09630
    """

    def __init__(self, v: Tensor, axis: int) -> None:
        super().__init__()
        self.v = unit(v)
        self.flip = 1 - 2 * (torch.arange(v.shape[-1], device=v.device) == axis).to(v.dtype)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) and the log-determinant, which is 0."""
        y = _reflect(x * self.flip, self.v)
        return y, torch.zeros_like(y[..., 0])

    def _inverse(self, y: Tensor) -> Tensor:
        return _reflect(y, self.v) * self.flip


def _orthonormal(v: Tensor) -> Tensor:
    """First M rows of (H_1 … H_M)ᵀ for unit normals v (*batch, M, d), M ≤ d.

    The product of the mirrors is I − Vᵀ S⁻¹ V with S upper triangular, S + Sᵀ = V Vᵀ (Joffrain et
    al., "Accumulating Householder Transformations, Revisited", 2006).
    """
    m, d = v.shape[-2:]
    eye = torch.eye(m, d, dtype=v.dtype, device=v.device)
    s = (v @ v.mT).triu(1) + 0.5 * eye[:, :m]
    solved: Tensor = torch.linalg.solve_triangular(s, v[..., :m], upper=True)
    return eye - solved.mT @ v


class Sylvester(VectorTransform):
    """z + Q R tanh(R̃ Qᵀz + b) [1]_.

    Q has M orthonormal columns, a product of M reflections; R and R̃ are upper triangular. The
    bounds on their diagonals, r r̃ > −1, make the map invertible: with v = Qᵀz, the equation
    ``v + R tanh(R̃ v + b) = Qᵀy`` is solved coordinate by coordinate, from the last to the first.

    Parameters
    ----------
    normals : Tensor, shape (*batch, M, d)
        Of the mirrors, of any length.
    square : Tensor, shape (*batch, M, M)
        R above its diagonal, R̃ᵀ below.
    diagonals : Tensor, shape (*batch, 2, M)
        Of R and R̃.
    b : Tensor, shape (*batch, M)

    References
    ----------
    .. [1] van den Berg et al., "Sylvester Normalizing Flows for Variational Inference", 2018,
       arXiv:1803.05649
    """

    def __init__(self, normals: Tensor, square: Tensor, diagonals: Tensor, b: Tensor) -> None:
        super().__init__()
        self.q = _orthonormal(unit(normals))  # (*batch, M, d), its rows are the columns of Q
        square = bounded(square, BOUND)
        r, r_tilde = bounded(diagonals, sqrt(1 - MIN_SLOPE)).unbind(-2)
        self.r = square.triu(1) + torch.diag_embed(r)
        self.r_tilde = square.mT.triu(1) + torch.diag_embed(r_tilde)
        self.s = 1 + r * r_tilde  # (*batch, M)
        self.b = b

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f(x) and the log-determinant."""
        a = self._inner(_times(self.q, x))
        return x + self._outer(a), _slope(a, self.s).log().sum(-1)

    def _inner(self, v: Tensor) -> Tensor:
        return _times(self.r_tilde, v) + self.b

    def _outer(self, a: Tensor) -> Tensor:
        return _times(self.q.mT, _times(self.r, torch.tanh(a)))

    def _inverse(self, y: Tensor) -> Tensor:
        w = _times(self.q, y)  # (..., *batch, M)
        v = self._solve(w)
        # One Newton step of the whole system, with gradient: the implicit function theorem.
        a = self._inner(v)
        residual = v + _times(self.r, torch.tanh(a)) - w
        jacobian = (self.r * _sech2(a).unsqueeze(-2)) @ self.r_tilde
        jacobian = (jacobian + torch.eye(w.shape[-1], dtype=w.dtype, device=w.device)).detach()
        step = torch.linalg.solve_triangular(jacobian, residual.unsqueeze(-1), upper=True)
        return y - self._outer(self._inner(v - step.squeeze(-1)))

    @torch.no_grad()
    def _solve(self, w: Tensor) -> Tensor:
        """Solve v + R tanh(R̃ v + b) = w for v (..., *batch, M); without gradient."""
        r, r_tilde = self.r.diagonal(dim1=-2, dim2=-1), self.r_tilde.diagonal(dim1=-2, dim2=-1)
        rest = w  # w − Σ R tanh(a) over the coordinates that are known
        shift = self.b.expand_as(w)  # b + Σ R̃ v over them
        v = torch.zeros_like(w)
        for i in reversed(range(w.shape[-1])):
            a = solve_tanh(r_tilde[..., i] * rest[..., i] + shift[..., i], self.s[..., i])
            v[..., i] = rest[..., i] - r[..., i] * torch.tanh(a)
            rest = rest - self.r[..., i] * torch.tanh(a).unsqueeze(-1)
            shift = shift + self.r_tilde[..., i] * v[..., i : i + 1]
        return v


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    """(*batch, m, n) times (..., *batch, n)."""
    return torch.einsum("...mn,...n->...m", matrix, vector)


# -- their parameters -----------------------------------------------------------------------------

Start = tuple[Callable[..., VectorTransform], Sequence[Tensor]]


class Amortised(nn.Module):
    """A transform whose raw parameters are a function of a context, or weights if there is none.

    Parameters
    ----------
    start : (callable, sequence of Tensor)
        What makes the transform of its raw parameters, and where they start.
    context : int
        Width of the context; 0 for none.
    hidden_layer_sizes : tuple of int
        Of the network from the context to the parameters.
    """

    def __init__(self, start: Start, context: int, hidden_layer_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.make, parameters = start
        self.shapes = [p.shape for p in parameters]
        flat = torch.cat([p.flatten() for p in parameters])
        if context == 0:
            self.raw = nn.Parameter(flat)
            return
        layers: list[nn.Module] = []
        for size in hidden_layer_sizes:
            layers += [nn.Linear(context, size), nn.ReLU()]
            context = size
        last = nn.Linear(context, len(flat))
        with torch.no_grad():
            last.weight.mul_(0.01)
            last.bias.copy_(flat)
        self.hyper = nn.Sequential(*layers, last)

    def forward(self, context: Tensor | None) -> VectorTransform:
        """Return the transform for context (*batch, context)."""
        raw = self.raw if context is None else self.hyper(context)
        parts = raw.split([prod(shape) for shape in self.shapes], -1)
        return self.make(
            *(p.unflatten(-1, shape) for p, shape in zip(parts, self.shapes, strict=True))
        )


def planar(d: int, i: int) -> Start:
    """Start of planar transform number i: almost no shift, along a random direction."""
    return Planar, (torch.randn(d) / sqrt(d), 0.01 * torch.randn(d), torch.zeros(1))


def radial(d: int, i: int) -> Start:
    """Start of radial transform number i: almost no stretch, around a random point."""
    return Radial, (torch.randn(d), torch.zeros(1), 0.01 * torch.randn(1))


def householder(d: int, i: int) -> Start:
    """Start of reflection number i: the identity."""
    axis = i % d
    return partial(Householder, axis=axis), (torch.eye(d)[axis],)


def sylvester(d: int, i: int) -> Start:
    """Start of Sylvester transform number i: R almost 0, the rest random."""
    m = min(d, MAX_COLUMNS)
    square = torch.randn(m, m)
    square = 0.01 * square.triu() + square.tril(-1) / sqrt(m)
    diagonals = torch.stack([0.01 * torch.randn(m), 0.5 * torch.randn(m)])
    return Sylvester, (torch.randn(m, d), square, diagonals, torch.zeros(m))
