"""What ``torch.distributions`` lacks: explicit generators, masked sums, stable averages."""

import math
from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, Normal, kl_divergence

from skvae import rng

__all__ = ["draw", "kl_per_dimension", "log_mean_exp", "masked_sum", "standard_normal_like"]


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


def standard_normal_like(
    like: Tensor, shape: tuple[int, ...], generator: torch.Generator, shared: bool
) -> Tensor:
    """Standard normal noise of shape ``(*shape, *like.shape)``.

    With ``shared`` the same noise serves every row (first axis of ``like``): a result for one row
    then does not depend on which other rows are in the batch.
    """
    size = (*shape, *((1, *like.shape[1:]) if shared else like.shape))
    noise = torch.randn(size, generator=generator, dtype=like.dtype, device=generator.device)
    return noise.to(like.device)


@singledispatch
def draw(
    distribution: Distribution,
    shape: tuple[int, ...] = (),
    *,
    generator: torch.Generator,
    shared: bool = False,
) -> Tensor:
    """Draw (reparameterised where possible) with an explicit generator.

    ``Distribution.rsample`` can only use torch's global generator. This works for every torch
    distribution; the ones used in training have a direct implementation.

    Parameters
    ----------
    distribution : Distribution, batch shape (B, ...)
    shape : tuple of int
        Leading axes of independent draws.
    generator : torch.Generator
        Source of all randomness.
    shared : bool
        Use the same noise for every row of the batch (common random numbers).

    Returns
    -------
    Tensor, shape (*shape, *batch_shape, *event_shape)
    """
    if shared:
        raise NotImplementedError(f"shared noise is not defined for {type(distribution).__name__}")
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with rng.isolated(seed):
        size = torch.Size(shape)
        return (
            distribution.rsample(size) if distribution.has_rsample else distribution.sample(size)
        )


@draw.register
def _(
    distribution: Independent,  # type: ignore[type-arg]
    shape: tuple[int, ...] = (),
    *,
    generator: torch.Generator,
    shared: bool = False,
) -> Tensor:
    return draw(distribution.base_dist, shape, generator=generator, shared=shared)


@draw.register
def _(
    distribution: Normal,
    shape: tuple[int, ...] = (),
    *,
    generator: torch.Generator,
    shared: bool = False,
) -> Tensor:
    noise = standard_normal_like(distribution.loc, shape, generator, shared)
    return distribution.loc + distribution.scale * noise


@draw.register
def _(
    distribution: Bernoulli,
    shape: tuple[int, ...] = (),
    *,
    generator: torch.Generator,
    shared: bool = False,
) -> Tensor:
    p = distribution.probs
    size = (*shape, *((1, *p.shape[1:]) if shared else p.shape))
    uniform = torch.rand(size, generator=generator, dtype=p.dtype, device=generator.device)
    return (uniform.to(p.device) < p).to(p.dtype)
