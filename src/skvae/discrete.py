"""Laws of discrete latent variables: n variables with k categories each, as flat indicators.

z holds n one-hot vectors side by side, so that it is an array of numbers like any other z. All
laws give log p in terms that add up, one for each variable.
"""

import abc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from skvae import distributions
from skvae.rng import Noise

__all__ = ["Autoregressive", "Indicators", "OneHot", "PointMass", "RelaxedOneHot"]


class Indicators(Distribution, abc.ABC):
    """Law of n variables with k categories each; event shape (n · k,)."""

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, batch_shape: tuple[int, ...], n: int, k: int) -> None:
        super().__init__(torch.Size(batch_shape), torch.Size((n * k,)), validate_args=False)
        self.n, self.k = n, k

    @abc.abstractmethod
    def log_factors(self, value: Tensor) -> Tensor:
        """Log-probability of each variable given those before it, (..., n) for (..., n · k)."""

    @abc.abstractmethod
    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw with explicit noise, shape (*shape, *batch_shape, n · k)."""

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of indicators (..., n · k), shape (...)."""
        return self.log_factors(value).sum(-1)

    def kl(self, p: Distribution) -> Tensor | None:
        """KL(self || p) for each variable, shape (B, n), or None where there is no closed form."""
        return None

    def _split(self, value: Tensor) -> Tensor:
        variables: Tensor = value.unflatten(-1, (self.n, self.k))
        return variables


class OneHot(Indicators):
    """Independent categorical variables.

    Parameters
    ----------
    logits : Tensor, shape (*batch_shape, n, k)
        Unnormalised log-probabilities of the k categories of each variable.
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits.shape[:-2], *logits.shape[-2:])
        self.logits = torch.log_softmax(logits, -1)

    @property
    def mean(self) -> Tensor:
        """The probabilities, shape (*batch_shape, n · k)."""
        return self.logits.exp().flatten(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "OneHot":
        """Return the same law for another batch shape."""
        return OneHot(self.logits.expand(*batch_shape, -1, -1))

    def log_factors(self, value: Tensor) -> Tensor:
        """Log-probability of each variable; linear in the value, also between the indicators."""
        return (self._split(value) * self.logits).sum(-1)

    def entropy(self) -> Tensor:
        """Entropy in nats, shape batch_shape."""
        return -(self.logits.exp() * self.logits).sum((-2, -1))

    def kl(self, p: Distribution) -> Tensor | None:
        """KL(self || p) for each variable, where p is independent too."""
        if not isinstance(p, OneHot):
            return None
        return (self.logits.exp() * (self.logits - p.logits)).sum(-1)

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw exactly, without a gradient."""
        u = noise.uniform(shape, self.logits[..., 0])  # (*shape, *batch_shape, n)
        return _invert(u, self.logits).flatten(-2)


def _invert(u: Tensor, logits: Tensor) -> Tensor:
    """Indicators (..., k) of the categories whose share of [0, 1) holds u (...)."""
    cumulative = logits.exp().cumsum(-1)
    # The last is exactly 1 then: rounding never selects a category of probability 0.
    cumulative = cumulative / cumulative[..., -1:]
    index = (u.unsqueeze(-1) >= cumulative).sum(-1)
    return F.one_hot(index, logits.shape[-1]).to(logits.dtype)


class RelaxedOneHot(OneHot):
    """Independent categorical variables whose draws have a gradient: Gumbel-softmax.

    Parameters
    ----------
    logits : Tensor, shape (*batch_shape, n, k)
    temperature : float
    straight_through : bool
        True gives exact draws that have the gradient of the relaxed ones.
    """

    def __init__(self, logits: Tensor, temperature: float, straight_through: bool) -> None:
        super().__init__(logits)
        self.temperature, self.straight_through = temperature, straight_through

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw by softmax((log p + Gumbel noise) / temperature) over the categories."""
        u = noise.uniform(shape, self.logits)
        u = u.clamp(min=torch.finfo(u.dtype).eps / 4)  # 0 would be infinite noise
        gumbel = -torch.log(-torch.log(u))
        soft = torch.softmax((self.logits + gumbel) / self.temperature, -1)
        if self.straight_through:
            hard = F.one_hot(soft.argmax(-1), self.k).to(soft.dtype)
            soft = hard + (soft - soft.detach())  # the bracket is exactly 0
        return soft.flatten(-2)


class PointMass(Indicators):
    """All probability on one value of each variable.

    Parameters
    ----------
    value : Tensor, shape (*batch_shape, n, k)
        Indicators.
    """

    def __init__(self, value: Tensor) -> None:
        super().__init__(value.shape[:-2], *value.shape[-2:])
        self.value = value

    @property
    def mean(self) -> Tensor:
        """The value, shape (*batch_shape, n · k)."""
        return self.value.flatten(-2)

    def log_factors(self, value: Tensor) -> Tensor:
        """0 where a variable has its value, and −∞ where not."""
        same = (self._split(value) == self.value).all(-1)
        return self.value.new_zeros(same.shape).masked_fill(~same, -torch.inf)

    def entropy(self) -> Tensor:
        """0, shape batch_shape."""
        return self.value.new_zeros(self.batch_shape)

    def kl(self, p: Distribution) -> Tensor | None:
        """KL(self || p) = −log p(value), for each variable where p splits."""
        if isinstance(p, Indicators):
            return -p.log_factors(self.mean)
        return -p.log_prob(self.mean).unsqueeze(-1)

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Return the value for every draw; no randomness is used."""
        return self.mean.expand(*shape, *self.batch_shape, -1)


class Autoregressive(Indicators):
    """Each variable given those before it, p(z) = Π p(z_i | z_<i).

    Parameters
    ----------
    network : callable
        Maps indicators (..., n · k) to logits (..., n, k) of which row i depends on the variables
        before i alone.
    like : Tensor, shape (n, k)
        Says how many variables and categories there are, in which precision, and where.
    batch_shape : tuple of int
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], like: Tensor, batch_shape: tuple[int, ...] = ()
    ) -> None:
        super().__init__(batch_shape, *like.shape)
        self.network, self.like = network, like

    def expand(self, batch_shape: Any, _instance: Any = None) -> "Autoregressive":
        """Return the same law for another batch shape."""
        return Autoregressive(self.network, self.like, tuple(batch_shape))

    def log_factors(self, value: Tensor) -> Tensor:
        """Log-probability of each variable given those before it; one pass."""
        logits = torch.log_softmax(self.network(value), -1)
        return (self._split(value) * logits).sum(-1)

    @torch.no_grad()
    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw one variable after the other, n passes, without a gradient."""
        u = noise.uniform(shape, self.like[:, 0].expand(*self.batch_shape, -1))
        z = self.like.new_zeros(*u.shape, self.k)  # (*shape, *batch_shape, n, k)
        for i in range(self.n):
            logits = torch.log_softmax(self.network(z.flatten(-2))[..., i, :], -1)
            z[..., i, :] = _invert(u[..., i], logits)
        return z.flatten(-2)


@distributions.draw.register
def _(distribution: Indicators, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.draw(shape, noise)


@distributions.kl_per_dimension.register
def _(q: Indicators, p: Distribution) -> Tensor | None:
    return q.kl(p)
