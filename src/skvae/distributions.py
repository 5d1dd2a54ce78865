"""What ``torch.distributions`` lacks: explicit generators, masked sums, stable averages."""

import math
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    constraints,
    kl_divergence,
)

from skvae import rng
from skvae.rng import Noise

__all__ = [
    "DiagonalMixture",
    "EqualMixture",
    "FullMixture",
    "Point",
    "bounded",
    "draw",
    "kl_per_dimension",
    "log_mean_exp",
    "masked_sum",
    "unit",
]


def masked_sum(values: Tensor, mask: Tensor | None, event_dims: int) -> Tensor:
    """Sum the last ``event_dims`` axes over the observed cells.

    Parameters
    ----------
    values : Tensor, shape (..., *event)
        For example an unreduced log-likelihood, in nats.
    mask : Tensor of bool, shape (B, *event), or None
        True where a cell is observed. What a hidden cell holds never matters, not even NaN.
    event_dims : int
        Number of axes of one event.

    Returns
    -------
    Tensor, shape (...)
    """
    if mask is not None:
        values = torch.where(mask, values, torch.zeros((), dtype=values.dtype))
    return values.flatten(-event_dims).sum(-1) if event_dims else values


def log_mean_exp(log_w: Tensor, dim: int = 0) -> Tensor:
    """``log(mean(exp(log_w)))`` without overflow."""
    return torch.logsumexp(log_w, dim) - math.log(log_w.shape[dim])


def bounded(raw: Tensor, high: float, low: float | None = None) -> Tensor:
    """Map any real number into (−low, high) smoothly; near 0 it is the identity.

    Parameters
    ----------
    raw : Tensor
    high, low : float
        Both positive; ``low`` is ``high`` by default.
    """
    if low is None or low == high:
        return high * torch.tanh(raw / high)
    limit = torch.full_like(raw, high).masked_fill(raw < 0, low)
    return limit * torch.tanh(raw / limit)


def unit(vector: Tensor) -> Tensor:
    """Scale vectors (..., d) to length 1, however long or short; 0 becomes the first axis."""
    largest = vector.abs().amax(-1, keepdim=True).detach()  # squares of the rest cannot overflow
    axis = (torch.arange(vector.shape[-1], device=vector.device) == 0).to(vector.dtype)
    moderate = torch.where(largest > 0, vector / largest.masked_fill(largest == 0, 1), axis)
    length: Tensor = torch.linalg.vector_norm(moderate, dim=-1, keepdim=True)
    return moderate / length


@singledispatch
def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """Closed-form KL(q || p) in nats, split into terms that add up, or None if there is none.

    A family of its own registers its closed forms here by the type of q.

    Returns
    -------
    Tensor, shape (B, g)
        One column for each latent dimension where both distributions factorise (g = d),
        otherwise a single column.
    """
    try:
        if isinstance(q, MultivariateNormal) and isinstance(p, Independent):
            return _kl_full_to_diagonal(q, p.base_dist).unsqueeze(-1)
        if isinstance(q, Independent) and isinstance(p, Independent):
            return kl_divergence(q.base_dist, p.base_dist)
        return kl_divergence(q, p).unsqueeze(-1)
    except NotImplementedError:
        return None


def _kl_full_to_diagonal(q: MultivariateNormal, p: Distribution) -> Tensor:
    """KL of N(μ, LLᵀ) to independent Gaussians, shape (B,)."""
    if not isinstance(p, Normal):
        raise NotImplementedError
    factor = q.scale_tril
    variances = factor.square().sum(-1)  # (B, d), the diagonal of LLᵀ
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    terms = (variances + (q.loc - p.loc) ** 2) / p.scale**2 - 1 + 2 * p.scale.log()
    return 0.5 * (terms.sum(-1) - log_det)


class DiagonalMixture(Distribution):
    """Mixture of Gaussians with diagonal covariance.

    ``torch.distributions.MixtureSameFamily`` broadcasts every point against every component,
    (..., K, d); here the distances are two matrix products, which matters for hundreds of
    components.

    Parameters
    ----------
    logits : Tensor, shape (C,)
        Unnormalised log-weights.
    means, scales : Tensor, shape (C, d)
    batch_shape : tuple of int
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, logits: Tensor, means: Tensor, scales: Tensor, batch_shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__(torch.Size(batch_shape), means.shape[-1:], validate_args=False)
        self.logits, self.means, self.scales = logits, means, scales

    @property
    def mean(self) -> Tensor:
        """E[z], shape (*batch_shape, d)."""
        return (torch.softmax(self.logits, 0) @ self.means).expand(*self.batch_shape, -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiagonalMixture":
        """Return the same law for another batch shape."""
        return DiagonalMixture(self.logits, self.means, self.scales, tuple(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d), shape (...)."""
        precision = self.scales**-2  # (C, d)
        centre = self.means.detach().mean(0)  # close to the points: less cancels below
        value, means = value - centre, self.means - centre
        squares = value**2 @ precision.T - 2 * value @ (means * precision).T  # (..., C)
        constant = (means**2 * precision).sum(-1) + 2 * self.scales.log().sum(-1)
        d = means.shape[-1]
        log_weight = torch.log_softmax(self.logits, 0) - 0.5 * d * math.log(2 * math.pi)
        return torch.logsumexp(log_weight - 0.5 * (squares + constant), -1)


class FullMixture(Distribution):
    """Mixture of Gaussians with full covariance.

    Parameters
    ----------
    logits : Tensor, shape (C,)
        Unnormalised log-weights.
    means : Tensor, shape (C, d)
    factors : Tensor, shape (C, d, d)
        Lower triangular F with positive diagonal; Fᵀ F is the inverse of the covariance.
    batch_shape : tuple of int
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, logits: Tensor, means: Tensor, factors: Tensor, batch_shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__(torch.Size(batch_shape), means.shape[-1:], validate_args=False)
        self.logits, self.means, self.factors = logits, means, factors

    @property
    def mean(self) -> Tensor:
        """E[z], shape (*batch_shape, d)."""
        return (torch.softmax(self.logits, 0) @ self.means).expand(*self.batch_shape, -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "FullMixture":
        """Return the same law for another batch shape."""
        return FullMixture(self.logits, self.means, self.factors, tuple(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d), shape (...)."""
        centre = self.means.detach().mean(0)  # close to the points: less cancels below
        value, means = value - centre, self.means - centre
        standard = torch.einsum("...d,ced->...ce", value, self.factors)
        standard = standard - torch.einsum("cd,ced->ce", means, self.factors)
        log_det = self.factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (C,)
        d = means.shape[-1]
        log_weight = torch.log_softmax(self.logits, 0) - 0.5 * d * math.log(2 * math.pi)
        return torch.logsumexp(log_weight + log_det - 0.5 * standard.square().sum(-1), -1)


class Point(Distribution):
    """All mass at one point.

    There is no density. ``log_prob`` is 0 by convention: the point carries all probability, and a
    term log q(z | x) then drops out of every sum.

    Parameters
    ----------
    mean : Tensor, shape (*batch_shape, d)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, mean: Tensor) -> None:
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)
        self._mean = mean

    @property
    def mean(self) -> Tensor:
        """The point."""
        return self._mean

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Point":
        """Return the same law for another batch shape."""
        return Point(self._mean.expand(*batch_shape, -1))

    def log_prob(self, value: Tensor) -> Tensor:
        """Zeros, shape (...), for points (..., d)."""
        return value.new_zeros(value.shape[:-1])


class EqualMixture(Distribution):
    """Mixture of Gaussians with diagonal covariance and equal weights, another one for each row.

    Parameters
    ----------
    means, scales : Tensor, shape (*batch_shape, A, d)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, means: Tensor, scales: Tensor) -> None:
        super().__init__(means.shape[:-2], means.shape[-1:], validate_args=False)
        self.means, self.scales = means, scales

    @property
    def mean(self) -> Tensor:
        """E[z], shape (*batch_shape, d)."""
        return self.means.mean(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "EqualMixture":
        """Return the same laws for another batch shape."""
        shape = (*batch_shape, *self.means.shape[-2:])
        return EqualMixture(self.means.expand(shape), self.scales.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., *batch_shape, d), shape (..., *batch_shape)."""
        parts = Normal(self.means, self.scales, validate_args=False)
        return log_mean_exp(parts.log_prob(value.unsqueeze(-2)).sum(-1), -1)


@singledispatch
def draw(distribution: Distribution, shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Draw from a distribution (reparameterised where possible) with explicit noise.

    ``Distribution.rsample`` can only use torch's global generator. What is used in training has an
    implementation of its own, registered here by type; the rest draws one seed from the noise.

    Parameters
    ----------
    distribution : Distribution, batch shape (B, ...)
    shape : tuple of int
        Leading axes of independent draws.
    noise : Noise
        Source of all randomness.

    Returns
    -------
    Tensor, shape (*shape, *batch_shape, *event_shape)
    """
    if not isinstance(noise, rng.Sequential):
        raise TypeError(f"{type(distribution).__name__} cannot be drawn row by row.")
    seed = int(torch.randint(2**62, (), generator=noise.source, device=noise.source.device))
    with rng.isolated(seed):
        size = torch.Size(shape)
        if distribution.has_rsample:
            return distribution.rsample(size)
        return distribution.sample(size)


@draw.register
def _(
    distribution: Independent,  # type: ignore[type-arg]
    shape: tuple[int, ...],
    noise: Noise,
) -> Tensor:
    return draw(distribution.base_dist, shape, noise)


@draw.register
def _(distribution: Normal, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.loc + distribution.scale * noise.normal(shape, distribution.loc)


@draw.register
def _(distribution: Bernoulli, shape: tuple[int, ...], noise: Noise) -> Tensor:
    p = distribution.probs
    return (noise.uniform(shape, p) < p).to(p.dtype)


@draw.register
def _(distribution: MultivariateNormal, shape: tuple[int, ...], noise: Noise) -> Tensor:
    eps = noise.normal(shape, distribution.loc)
    return distribution.loc + (distribution.scale_tril @ eps.unsqueeze(-1)).squeeze(-1)


@draw.register
def _(distribution: Point, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.mean.expand(*shape, *distribution.mean.shape)


@draw.register
def _(distribution: DiagonalMixture, shape: tuple[int, ...], noise: Noise) -> Tensor:
    index, eps = _chosen(distribution, shape, noise)
    return (distribution.means[index] + distribution.scales[index] * eps).detach()


@draw.register
def _(distribution: FullMixture, shape: tuple[int, ...], noise: Noise) -> Tensor:
    index, eps = _chosen(distribution, shape, noise)
    unit = torch.eye(eps.shape[-1], dtype=eps.dtype, device=eps.device)
    roots = torch.linalg.solve_triangular(distribution.factors.detach(), unit, upper=False)
    moved: Tensor = (roots[index] @ eps.unsqueeze(-1)).squeeze(-1)
    return moved + distribution.means.detach()[index]


def _chosen(
    distribution: DiagonalMixture | FullMixture, shape: tuple[int, ...], noise: Noise
) -> tuple[Tensor, Tensor]:
    """Draw components (*shape, *batch) and standard normal numbers (*shape, *batch, d)."""
    # Not reparameterised: the choice of a component is discrete.
    cumulative = torch.softmax(distribution.logits.detach(), 0).cumsum(0)
    like = distribution.means.new_empty(distribution.batch_shape)
    u = noise.uniform(shape, like)
    index = torch.searchsorted(cumulative, u.contiguous()).clamp_(max=len(cumulative) - 1)
    d = distribution.means.shape[-1]
    return index, noise.normal(shape, like.unsqueeze(-1).expand(*like.shape, d))


@draw.register
def _(distribution: EqualMixture, shape: tuple[int, ...], noise: Noise) -> Tensor:
    # Reparameterised although the choice is discrete: its probabilities have no parameters, so
    # the gradient at a given choice is right on average.
    n, d = distribution.means.shape[-2:]
    like = distribution.means[..., 0, 0]  # (*batch,)
    index = (n * noise.uniform(shape, like)).long().clamp_(max=n - 1)
    index = index[..., None, None].expand(*index.shape, 1, d)
    means, scales = (
        parameter.expand(*shape, *parameter.shape).gather(-2, index).squeeze(-2)
        for parameter in (distribution.means, distribution.scales)
    )  # (*shape, *batch, d) each
    return means + scales * noise.normal(shape, distribution.means[..., 0, :])
