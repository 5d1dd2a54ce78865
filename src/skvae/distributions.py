"""What ``torch.distributions`` lacks: explicit generators, masked sums, stable averages."""

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, kl_divergence

from skvae import rng
from skvae.rng import Noise

__all__ = ["draw", "kl_per_dimension", "log_mean_exp", "masked_sum"]


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


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """Closed-form KL(q || p) in nats, split into terms that add up, or None if there is none.

    Returns
    -------
    Tensor, shape (B, g)
        One column for each latent dimension where both distributions factorise (g = d),
        otherwise a single column.
    """
    try:
        if isinstance(q, Independent) and isinstance(p, Independent):
            return kl_divergence(q.base_dist, p.base_dist)
        return kl_divergence(q, p).unsqueeze(-1)
    except NotImplementedError:
        return None


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
