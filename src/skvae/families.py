"""Probability families that torch lacks, and how they and torch's are drawn from `rng.Noise`.

All are families for single cells: the event shape is (). ``log_prob`` is finite, with a finite
gradient, at every point of the support and at 0, which is what a hidden cell holds; it does not
check its argument (data are checked once, at the door). Draws use a fixed number of random numbers
for each cell, so that with `rng.PerRow` a row never depends on its company.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Categorical, Distribution, Laplace, constraints
from torch.distributions import StudentT as TorchStudentT
from torch.nn import functional as F

from skvae import distributions
from skvae.rng import Noise

__all__ = [
    "Bernoulli",
    "Beta",
    "Codes",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "LogNormal",
    "NegativeBinomial",
    "Poisson",
    "StudentT",
    "ZeroInflated",
    "log_sigmoid_difference",
]

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
REJECTION_ROUNDS = 8  # each accepts at least 95 %: what is left after 8 has probability 4e-11


class CellFamily(Distribution):
    """Distribution of single cells that leaves torch's switches alone."""

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, like: Tensor) -> None:
        super().__init__(like.shape, validate_args=False)


# -- numbers --------------------------------------------------------------------------------------


def log_sigmoid_difference(upper: Tensor, width: Tensor) -> Tensor:
    """Log of σ(upper) − σ(upper − width) for width > 0, without cancellation.

    σ(a) − σ(b) = σ(a) σ(−b) (1 − exp(b − a)).
    """
    return F.logsigmoid(upper) + F.logsigmoid(width - upper) + torch.log(-torch.expm1(-width))


def stirling_error(x: Tensor) -> Tensor:
    """Log Γ(x + 1) minus Stirling's formula (x + ½) log x − x + ½ log 2π, for x > 0."""
    small = x < 16
    near = torch.where(small, x, 1.0)
    exact = torch.lgamma(near + 1) - (near + 0.5) * near.log() + near - HALF_LOG_2PI
    y = torch.where(small, 16.0, x).reciprocal()
    series = y * (1 / 12 - y**2 * (1 / 360 - y**2 * (1 / 1260 - y**2 / 1680)))
    return torch.where(small, exact, series)


def deviance(x: Tensor, log_mean: Tensor) -> Tensor:
    """X log(x / m) − (x − m) for x > 0, accurate also where x and m are large and close.

    With `stirling_error` this is Loader's way to binomial and Poisson probabilities ("Fast and
    Accurate Computation of Binomial Probabilities", 2000). In float32, x log m − m − log Γ(x + 1)
    would be wrong by whole nats for counts of a million.
    """
    mean = log_mean.exp()
    close = (x - mean).abs() < 0.1 * (x + mean)
    ratio = torch.where(close, (x - mean) / mean, 0.0)
    log_ratio = torch.where(close, torch.log1p(ratio), x.log() - log_mean)
    return x * log_ratio - (x - mean)


def log_sinhc(x: Tensor) -> Tensor:
    """Log of sinh(x) / x, also at 0."""
    y = x.abs()
    small = y < 0.1
    square = torch.where(small, y, 0.0) ** 2
    series = square * (1 / 6 - square * (1 / 180 - square * (1 / 2835 - square / 37800)))
    large = torch.where(small, 1.0, y)
    exact = large + torch.log(-torch.expm1(-2 * large) / (2 * large))
    return torch.where(small, series, exact)


def open_unit(u: Tensor) -> Tensor:
    """Move numbers in [0, 1) into (0, 1)."""
    return u.clamp(min=torch.finfo(u.dtype).eps / 4)


# -- families -------------------------------------------------------------------------------------


class _BernoulliLogProb(torch.autograd.Function):
    """x·l − log(1 + eˡ) for logits l (..., *event) and x that broadcasts to them.

    In six passes over the cells with its gradient, where torch's cross-entropy takes ten: on a CPU
    this is what a step spends most of its time on after the matrix products.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        ctx.save_for_backward(logits, x)
        return F.logsigmoid(logits).addcmul_(logits, x).sub_(logits)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        logits, x = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[1]:
            of_x = (gradient * logits).sum_to_size(x.shape)
        return (x - torch.sigmoid(logits)) * gradient, of_x


class Bernoulli(TorchBernoulli):
    """Torch's distribution, with a faster log-probability.

    Parameters
    ----------
    logits : Tensor
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p; between 0 and 1 the mean of both with these weights."""
        logits = self.logits
        if torch.broadcast_shapes(logits.shape, value.shape) != logits.shape:
            logits = logits.expand(torch.broadcast_shapes(logits.shape, value.shape))
        log_p: Tensor = _BernoulliLogProb.apply(logits, value)  # type: ignore[no-untyped-call]
        return log_p


class ContinuousBernoulli(CellFamily):
    """Density on [0, 1] proportional to exp(l x).

    Torch's own works on λ = σ(l) and replaces the constant by a quadratic around λ = ½. In terms
    of the logit, C(λ) = 2 atanh(1 − 2λ) / (1 − 2λ) is l / tanh(l / 2), and
    log p(x) = (x − ½) l − log(sinh(l / 2) / (l / 2)) has no singular point.

    Parameters
    ----------
    logits : Tensor, shape (...)

    References
    ----------
    Loaiza-Ganem and Cunningham, "The continuous Bernoulli", 2019, arXiv:1907.06845
    """

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits)
        self.logits = logits

    @property
    def mean(self) -> Tensor:
        """E[x] = ½ + (coth(l / 2) − 2 / l) / 2, shape (...)."""
        half = self.logits / 2
        small = half.abs() < 0.1
        square = torch.where(small, half, 0.0) ** 2
        series = half * (1 / 3 - square * (1 / 45 - square * (2 / 945 - square / 4725)))
        large = torch.where(small, 1.0, half)
        return 0.5 + 0.5 * torch.where(small, series, 1 / torch.tanh(large) - 1 / large)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, shape of ``value`` broadcast with the batch shape."""
        return (value - 0.5) * self.logits - log_sinhc(self.logits / 2)


class StudentT(CellFamily):
    """Student's t; what depends on the tails alone is not computed again for every cell and draw.

    Parameters
    ----------
    df : Tensor
        Degrees of freedom; broadcasts to the others.
    loc, scale : Tensor, shapes that broadcast to (...)
    """

    def __init__(self, df: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc if loc.ndim >= scale.ndim else scale)
        self.df, self.loc, self.scale = df, loc, scale

    @property
    def mean(self) -> Tensor:
        """The location, for more than one degree of freedom; shape (...)."""
        return self.loc.expand(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        """scale² df / (df − 2), for more than two degrees of freedom; shape (...)."""
        return (self.scale**2 * (self.df / (self.df - 2))).expand(self.batch_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats."""
        df = self.df
        constant = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * (math.pi * df).log()
        z = (value - self.loc) / self.scale
        return constant - self.scale.log() - (df + 1) / 2 * torch.log1p(z**2 / df)


class LogNormal(CellFamily):
    """exp of a Gaussian; unlike torch's, finite at 0.

    Parameters
    ----------
    loc, scale : Tensor, shape (...)
        Mean and standard deviation of log x.
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        super().__init__(loc)
        self.loc, self.scale = loc, scale

    @property
    def mean(self) -> Tensor:
        """E[x] = exp(loc + scale² / 2), shape (...)."""
        return torch.exp(self.loc + self.scale**2 / 2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats."""
        log_x = value.clamp(min=torch.finfo(value.dtype).tiny).log()
        z = (log_x - self.loc) / self.scale
        return -0.5 * z**2 - self.scale.log() - HALF_LOG_2PI - log_x


class Beta(CellFamily):
    """Beta distribution in terms of its mean and precision.

    Parameters
    ----------
    logits : Tensor, shape (...)
        Log-odds of the mean μ.
    precision : Tensor, shape (...)
        φ = α + β, where α = μ φ and β = (1 − μ) φ.
    """

    def __init__(self, logits: Tensor, precision: Tensor) -> None:
        super().__init__(logits)
        self.logits, self.precision = logits, precision
        self.alpha = torch.sigmoid(logits) * precision
        self.beta = torch.sigmoid(-logits) * precision

    @property
    def mean(self) -> Tensor:
        """E[x] = μ, shape (...)."""
        return torch.sigmoid(self.logits)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats; 0 and 1 count as the numbers next to them."""
        info = torch.finfo(value.dtype)
        x = value.clamp(info.tiny, 1 - info.eps / 2)
        constant = (
            torch.lgamma(self.precision) - torch.lgamma(self.alpha) - torch.lgamma(self.beta)
        )
        return (self.alpha - 1) * x.log() + (self.beta - 1) * torch.log1p(-x) + constant


class Codes(Categorical):
    """Categories as the numbers 0, ..., K − 1, so that they have a mean."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__(logits=logits, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Expected code, shape (...)."""
        codes = torch.arange(self.probs.shape[-1], dtype=self.probs.dtype).to(self.probs.device)
        return (self.probs * codes).sum(-1)


class Poisson(CellFamily):
    """Poisson distribution; unlike torch's, accurate for large counts.

    Parameters
    ----------
    log_rate : Tensor, shape (...)
    """

    def __init__(self, log_rate: Tensor) -> None:
        super().__init__(log_rate)
        self.log_rate = log_rate

    @property
    def mean(self) -> Tensor:
        """E[x], shape (...)."""
        return self.log_rate.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        zero = value == 0
        x = torch.where(zero, 1.0, value)
        positive = -HALF_LOG_2PI - 0.5 * x.log() - stirling_error(x) - deviance(x, self.log_rate)
        return torch.where(zero, -self.log_rate.exp(), positive)


class NegativeBinomial(CellFamily):
    """Poisson with a Gamma-distributed rate: mean μ, variance μ + μ² / r.

    Parameters
    ----------
    log_mean, log_shape : Tensor, shape (...)
        log μ and log r.
    """

    def __init__(self, log_mean: Tensor, log_shape: Tensor) -> None:
        super().__init__(log_mean)
        self.log_mean, self.log_shape = log_mean, log_shape

    @property
    def mean(self) -> Tensor:
        """E[x] = μ, shape (...)."""
        return self.log_mean.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        odds = self.log_mean - self.log_shape
        log_p, log_q = -F.softplus(odds), -F.softplus(-odds)  # r / (r + μ) and μ / (r + μ)
        r = self.log_shape.exp()
        zero = value == 0
        x = torch.where(zero, 1.0, value)
        n = x + r
        positive = (
            0.5 * (self.log_shape - n.log() - x.log())
            - HALF_LOG_2PI
            + (stirling_error(n) - stirling_error(r) - stirling_error(x))
            - deviance(r, n.log() + log_p)
            - deviance(x, n.log() + log_q)
        )
        return torch.where(zero, r * log_p, positive)


class ZeroInflated(CellFamily):
    """0 with probability π, otherwise a draw from ``base``, which may be 0 too.

    Parameters
    ----------
    base : Distribution, batch shape (...), event shape ()
    logits : Tensor, shape (...)
        Log-odds of π.
    """

    def __init__(self, base: Distribution, logits: Tensor) -> None:
        super().__init__(logits)
        self.base, self.logits = base, logits

    @property
    def mean(self) -> Tensor:
        """E[x] = (1 − π) E_base[x], shape (...)."""
        return torch.sigmoid(-self.logits) * self.base.mean

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        from_base = F.logsigmoid(-self.logits) + self.base.log_prob(value)
        zero = torch.logaddexp(F.logsigmoid(self.logits), from_base)
        return torch.where(value == 0, zero, from_base)


class DiscretizedLogisticMixture(CellFamily):
    """Mixture of K logistic distributions, rounded to 0, ..., 255; the ends take the tails.

    Parameters
    ----------
    logits, loc, scale : Tensor, shape (..., K)
        ``loc`` and ``scale`` on a scale where 0 and 255 are −1 and 1.

    References
    ----------
    Salimans, Karpathy, Chen and Kingma, "PixelCNN++", 2017, arXiv:1701.05517
    """

    TOP = 255

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor) -> None:
        super().__init__(logits[..., 0])
        self.logits, self.loc, self.scale = logits, loc, scale

    @property
    def mean(self) -> Tensor:
        """E[x] as the sum over v of P(x > v), shape (...)."""
        weight = torch.softmax(self.logits, -1)
        total = torch.zeros_like(self.logits)
        for v in range(self.TOP):  # one at a time: all 255 would not fit in memory for images
            edge = (2 * v + 1) / self.TOP - 1
            total += torch.sigmoid((self.loc - edge) / self.scale)
        return (weight * total).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability in nats."""
        x = value.unsqueeze(-1)
        upper = ((2 * x + 1) / self.TOP - 1 - self.loc) / self.scale
        width = 2 / (self.TOP * self.scale)
        inside = log_sigmoid_difference(upper, width)
        parts = torch.where(x <= 0, F.logsigmoid(upper), inside)
        parts = torch.where(x >= self.TOP, F.logsigmoid(width - upper), parts)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + parts, -1)


# -- draws ----------------------------------------------------------------------------------------


def choose(probs: Tensor, shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Indices (*shape, ...) drawn from probabilities (..., K), by the inverse cdf."""
    u = noise.uniform(shape, probs[..., 0]).unsqueeze(-1)
    return (u >= probs.cumsum(-1)[..., :-1]).sum(-1)


def draw_log_gamma(concentration: Tensor, shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Logs of Gamma(concentration, 1), shape (*shape, *concentration.shape).

    Marsaglia and Tsang, "A simple method for generating gamma variables", 2000, with a fixed
    number of rounds. A concentration below 1 is raised by 1 and the draw scaled by U^(1 / a).
    """
    low = concentration < 1
    d = torch.where(low, concentration + 1, concentration) - 1 / 3
    c = (9 * d).rsqrt()
    cube = torch.ones((), dtype=d.dtype, device=d.device).expand(*shape, *d.shape)
    found = torch.zeros_like(cube, dtype=torch.bool)
    for _ in range(REJECTION_ROUNDS):
        z, u = noise.normal(shape, d), open_unit(noise.uniform(shape, d))
        v = (1 + c * z) ** 3
        safe = torch.where(v > 0, v, 1.0)
        accept = (v > 0) & (u.log() < 0.5 * z**2 + d * (1 - safe + safe.log()))
        cube = torch.where(accept & ~found, safe, cube)
        found |= accept
    boost = open_unit(noise.uniform(shape, d)).log() / concentration
    return (d * cube).log() + torch.where(low, boost, 0.0)


def draw_poisson(rate: Tensor, u: Tensor) -> Tensor:
    """Poisson counts from float64 uniform numbers, by bisection on the cdf Q(k + 1, rate).

    Above a rate of 20,000, where torch's incomplete gamma function begins to be wrong in the
    tails, by the Cornish-Fisher expansion, which there is right to the rounding.
    """
    large = rate.detach().to(u)
    z = torch.special.ndtri(open_unit(u))
    expanded = (large + z * large.sqrt() + (z**2 - 1) / 6).round()
    rate = large.clamp(max=2e4)
    # Chernoff bounds that hold up to a probability of 1e-17
    low = (rate - torch.sqrt(78 * rate) - 2).floor().clamp(min=-1).expand_as(u)
    high = (rate + torch.sqrt(78 * rate + 169) + 14).ceil().expand_as(u)
    for _ in range(math.ceil(math.log2(float((high - low).max()))) if u.numel() else 0):
        middle = ((low + high) / 2).floor()
        above = torch.special.gammaincc(middle.clamp(min=0) + 1, rate) > u
        above &= middle >= 0
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return torch.where(large > rate, expanded, high)


@distributions.draw.register
def _(distribution: Laplace, shape: tuple[int, ...], noise: Noise) -> Tensor:
    u = open_unit(noise.uniform(shape, distribution.loc))
    size = -torch.log(2 * torch.minimum(u, 1 - u))
    return distribution.loc + distribution.scale * torch.where(u < 0.5, -size, size)


@distributions.draw.register
def _(distribution: StudentT | TorchStudentT, shape: tuple[int, ...], noise: Noise) -> Tensor:
    # Bailey, "Polar generation of random variates with the t-distribution", 1994
    df = distribution.df
    radius = open_unit(noise.uniform(shape, distribution.loc)).log()
    angle = 2 * math.pi * noise.uniform(shape, distribution.loc)
    t = torch.sqrt(df * torch.expm1(-2 / df * radius)) * torch.cos(angle)
    return distribution.loc + distribution.scale * t


@distributions.draw.register
def _(distribution: LogNormal, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return torch.exp(distribution.loc + distribution.scale * noise.normal(shape, distribution.loc))


@distributions.draw.register
def _(distribution: ContinuousBernoulli, shape: tuple[int, ...], noise: Noise) -> Tensor:
    logits = distribution.logits
    u = noise.uniform(shape, logits)
    # For l < 0 the cdf inverts without overflow; for l > 0, 1 − x has the logit −l.
    v = torch.where(logits > 0, 1 - u, u)
    size = logits.abs().clamp(min=1e-3)
    x = -torch.log1p(v * torch.expm1(-size)) / size
    x = torch.where(logits > 0, 1 - x, x)
    x = torch.where(logits.abs() < 1e-3, u + logits * u * (1 - u) / 2, x)
    return x.clamp(0, 1)


@distributions.draw.register
def _(distribution: Beta, shape: tuple[int, ...], noise: Noise) -> Tensor:
    a = draw_log_gamma(distribution.alpha, shape, noise)
    b = draw_log_gamma(distribution.beta, shape, noise)
    info = torch.finfo(a.dtype)
    return torch.sigmoid(a - b).clamp(info.tiny, 1 - info.eps / 2)


@distributions.draw.register
def _(distribution: Codes, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return choose(distribution.probs, shape, noise).to(distribution.probs.dtype)


@distributions.draw.register
def _(distribution: Poisson, shape: tuple[int, ...], noise: Noise) -> Tensor:
    rate = distribution.mean
    return draw_poisson(rate, noise.uniform(shape, rate.cpu().double())).to(rate)


@distributions.draw.register
def _(distribution: NegativeBinomial, shape: tuple[int, ...], noise: Noise) -> Tensor:
    r = distribution.log_shape.exp().expand_as(distribution.log_mean)
    scale = distribution.log_mean - distribution.log_shape
    rate = torch.exp(scale + draw_log_gamma(r, shape, noise))
    return draw_poisson(rate, noise.uniform(shape, r.cpu().double())).to(rate)


@distributions.draw.register
def _(distribution: ZeroInflated, shape: tuple[int, ...], noise: Noise) -> Tensor:
    zero = noise.uniform(shape, distribution.logits) < torch.sigmoid(distribution.logits)
    return torch.where(zero, 0.0, distributions.draw(distribution.base, shape, noise))


@distributions.draw.register
def _(distribution: DiscretizedLogisticMixture, shape: tuple[int, ...], noise: Noise) -> Tensor:
    index = choose(torch.softmax(distribution.logits, -1), shape, noise).unsqueeze(-1)
    loc, scale = (
        parameter.expand(*shape, *parameter.shape).gather(-1, index).squeeze(-1)
        for parameter in (distribution.loc, distribution.scale)
    )
    x = loc + scale * torch.logit(open_unit(noise.uniform(shape, distribution.logits[..., 0])))
    top = distribution.TOP
    return ((x + 1) * (top / 2)).round().clamp(0, top)
