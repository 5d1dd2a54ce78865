"""Distributions on the unit sphere S^{d−1} in R^d; densities are per unit of its surface.

For the von Mises–Fisher law, all that is hard lies in one number, the angle θ between a draw and
the mean direction, with density ∝ exp(κ cos θ) sin^{d−2} θ. It is integrated numerically, on a
grid around its mode: normaliser, mean, draws and their gradients come out to about 12 digits for
every κ and d, without Bessel functions and without rejection.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.kl import register_kl

from skvae import distributions
from skvae.distributions import unit
from skvae.rng import Noise

__all__ = ["PolarAngle", "UniformSphere", "VonMisesFisher", "log_area"]

# The grid: this many standard deviations to each side of the mode, in panels with a Gauss–Legendre
# rule each. What lies outside is below 1e-13.
REACH = 16.0
PANELS = 16
NODES, WEIGHTS = np.polynomial.legendre.leggauss(10)
# Nearer to 0 or 1 than this, a cumulative probability means nothing any more.
EXTREME = 1e-14
NEWTON_STEPS = 6


def log_area(d: int) -> float:
    """Logarithm of the surface of the unit sphere in R^d; for d = 1 these are two points."""
    return math.log(2) + 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d)


class PolarAngle:
    """The law of the angle θ between a draw and the mean direction, in float64.

    Parameters
    ----------
    concentration : Tensor, shape (*batch,)
        κ ≥ 0.
    d : int
        Dimension of the space around the sphere, at least 2.

    Attributes
    ----------
    log_mass : Tensor, shape (*batch,)
        log ∫ exp(κ (cos θ − 1)) sin^{d−2} θ dθ.
    deficit : Tensor, shape (*batch,)
        E[1 − cos θ].
    """

    def __init__(self, concentration: Tensor, d: int) -> None:
        self.kappa, self.power = concentration.double(), float(d - 2)
        self.nodes = torch.from_numpy(NODES).to(self.kappa.device)
        self.weights = torch.from_numpy(WEIGHTS).to(self.kappa.device)
        low, high = self._range()
        steps = torch.linspace(0, 1, PANELS + 1, dtype=low.dtype, device=low.device)
        self.edges = low.unsqueeze(-1) + (high - low).unsqueeze(-1) * steps  # (*batch, P + 1)
        log_mass, deficit = self._masses(self.edges[..., :-1], self.edges[..., 1:])
        self.log_mass = torch.logsumexp(log_mass.flatten(-2), -1)
        share = torch.exp(log_mass - self.log_mass[..., None, None])  # (*batch, P, N)
        self.deficit = (share * deficit).sum((-1, -2))
        panels, nothing = share.sum(-1), torch.zeros_like(share[..., 0, :1])  # (*batch, P)
        self.below = torch.cat([nothing, panels.cumsum(-1)], -1)  # (*batch, P + 1), at the edges
        self.above = torch.cat([panels.flip(-1).cumsum(-1).flip(-1), nothing], -1)

    @torch.no_grad()
    def _range(self) -> tuple[Tensor, Tensor]:
        """Ends of the grid, shape (*batch,) each."""
        kappa, n = self.kappa, self.power
        tiny = torch.finfo(kappa.dtype).tiny
        # κ sin² θ = n cos θ at the mode.
        root = torch.sqrt(n**2 + 4 * kappa**2)
        cosine = (2 * kappa + tiny) / (n + root + tiny)
        sine_squared = 1 - cosine**2
        curvature = kappa * cosine + (n / sine_squared if n else 0.0)
        mode = torch.atan2(sine_squared.sqrt(), cosine)
        reach = REACH / curvature.sqrt()
        return (mode - reach).clamp(min=0.0), (mode + reach).clamp(max=math.pi)

    def _masses(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Log-masses of the nodes between low and high (..., P), and 1 − cos θ; (..., P, N)."""
        with torch.no_grad():
            half = 0.5 * (high - low).unsqueeze(-1)
            theta = low.unsqueeze(-1) + half * (1 + self.nodes)
            fixed, deficit = self._exponents(theta)
            fixed = fixed + torch.log(half * self.weights)
        return fixed - self.kappa[..., None, None] * deficit, deficit

    def _exponents(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Log sin^{d−2} θ and 1 − cos θ, the latter without cancellation."""
        sine, cosine = torch.sin(0.5 * theta), torch.cos(0.5 * theta)
        return torch.special.xlogy(self.power, 2 * sine * cosine), 2 * sine**2

    def quantile(self, u: Tensor) -> Tensor:
        """Angles below which a draw falls with probability u (..., *batch).

        Their gradient with respect to κ is that of the implicit function theorem,
        ∂θ/∂κ = −(∂F/∂κ) / (∂F/∂θ).
        """
        u = u.double().clamp(EXTREME, 1 - EXTREME)
        # Everything is measured from the nearer tail, so that no digits are lost in either.
        upper = u > 0.5
        sign = 1 - 2 * upper.double()
        tail = torch.where(upper, 1 - u, u)  # (..., *batch)
        inner = slice(1, -1)
        from_below = self.below[..., inner] <= tail.unsqueeze(-1)
        from_above = self.above[..., inner] > tail.unsqueeze(-1)
        panel = torch.where(upper.unsqueeze(-1), from_above, from_below).sum(-1)
        outside = torch.where(upper, _take(self.above, panel + 1), _take(self.below, panel))
        anchor = _take(self.edges, panel + upper.long())
        with torch.no_grad():
            width = (_take(self.edges, panel + 1 - upper.long()) - anchor).abs()
            share = (tail - outside) / self._partial(anchor, anchor + sign * width)
            # At a pole the probability starts as a power of the angle, elsewhere linearly.
            share = share.clamp(0, 1) ** torch.where(outside > 0, 1.0, 1 / (self.power + 1))
            x, low, high = width * share, torch.zeros_like(width), width
            for _ in range(NEWTON_STEPS):
                theta = anchor + sign * x
                mass = outside + self._partial(anchor, theta)
                low, high = torch.where(mass < tail, x, low), torch.where(mass < tail, high, x)
                # The logarithm is concave: from below, Newton's steps never go too far.
                x = x - torch.log(mass / tail) * mass / self._density(theta)
                x = torch.where((x >= low) & (x <= high), x, 0.5 * (low + high))
            theta = anchor + sign * x
        excess = outside + self._partial(anchor, theta) - tail
        return theta - sign * excess / self._density(theta)

    def _partial(self, left: Tensor, theta: Tensor) -> Tensor:
        """Probability between two angles (..., *batch) of one panel."""
        ends = torch.stack([left, theta]).sort(0).values.unsqueeze(-1)
        log_mass, _ = self._masses(*ends)
        return torch.exp(log_mass - self.log_mass[..., None, None]).sum((-1, -2))

    @torch.no_grad()
    def _density(self, theta: Tensor) -> Tensor:
        fixed, deficit = self._exponents(theta)
        return torch.exp(fixed - self.kappa * deficit - self.log_mass)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Entries of values (*batch, P) at index (..., *batch)."""
    return values.expand(*index.shape, -1).gather(-1, index.unsqueeze(-1)).squeeze(-1)


class VonMisesFisher(Distribution):
    """Density ∝ exp(κ μᵀz) on the sphere.

    Parameters
    ----------
    direction : Tensor, shape (*batch_shape, d)
        μ, of length 1; d at least 2.
    concentration : Tensor, shape (*batch_shape,)
        κ ≥ 0.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, direction: Tensor, concentration: Tensor) -> None:
        super().__init__(direction.shape[:-1], direction.shape[-1:], validate_args=False)
        self.direction, self.concentration = direction, concentration
        self.angle = PolarAngle(concentration, direction.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> "VonMisesFisher":
        """Return the same laws for another batch shape."""
        direction = self.direction.expand(*batch_shape, *self.event_shape)
        return VonMisesFisher(direction, self.concentration.expand(*batch_shape))

    @property
    def mean(self) -> Tensor:
        """E[z] = E[cos θ] μ, shape (*batch_shape, d): inside the ball."""
        length = (1 - self.angle.deficit).to(self.direction.dtype)
        return length.unsqueeze(-1) * self.direction

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., *batch_shape, d) on the sphere."""
        # μᵀz − 1 = −|z − μ|² / 2 keeps its digits where κ is large.
        distance = (value - self.direction).square().sum(-1)
        constant = self.angle.log_mass + log_area(self.direction.shape[-1] - 1)
        return -0.5 * self.concentration * distance - constant.to(distance.dtype)

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw with explicit noise, reparameterised, shape (*shape, *batch_shape, d)."""
        u = noise.uniform(shape, self.angle.log_mass)
        theta = self.angle.quantile(u).unsqueeze(-1)
        tangent = unit(noise.normal(shape, self.direction[..., 1:]))
        cosine, sine = (f(theta).to(tangent.dtype) for f in (torch.cos, torch.sin))
        around_first_axis = torch.cat([cosine, sine * tangent], -1)
        # The mirror that takes the first axis to −μ or μ, whichever is further: never undefined.
        sign = 1 - 2 * (self.direction[..., :1] < 0).to(tangent.dtype)
        first_axis = (torch.arange(self.direction.shape[-1], device=tangent.device) == 0).to(sign)
        normal = unit(first_axis + sign * self.direction)
        along = (around_first_axis * normal).sum(-1, keepdim=True)
        return sign * (2 * along * normal - around_first_axis)


class UniformSphere(Distribution):
    """The uniform law on the sphere.

    Parameters
    ----------
    zeros : Tensor, shape (*batch_shape, d)
        The mean.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, zeros: Tensor) -> None:
        super().__init__(zeros.shape[:-1], zeros.shape[-1:], validate_args=False)
        self.zeros = zeros

    def expand(self, batch_shape: Any, _instance: Any = None) -> "UniformSphere":
        """Return the same law for another batch shape."""
        return UniformSphere(self.zeros.expand(*batch_shape, *self.event_shape))

    @property
    def mean(self) -> Tensor:
        """E[z] = 0, shape (*batch_shape, d)."""
        return self.zeros

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density, the same everywhere."""
        return torch.zeros_like(value[..., 0]) - log_area(value.shape[-1])


@distributions.draw.register
def _(distribution: VonMisesFisher, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.draw(shape, noise)


@distributions.draw.register
def _(distribution: UniformSphere, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return unit(noise.normal(shape, distribution.zeros))


@register_kl(VonMisesFisher, UniformSphere)  # type: ignore[untyped-decorator]
def _kl(q: VonMisesFisher, p: UniformSphere) -> Tensor:
    d = q.event_shape[0]
    angle = q.angle
    log_ratio = log_area(d) - log_area(d - 1)
    kl = log_ratio - angle.kappa * angle.deficit - angle.log_mass
    return kl.to(q.direction.dtype)
