"""Pareto-k̂: how heavy the tail of importance weights is, and so how far their mean can be trusted.

The largest weights of a row are fitted by a generalised Pareto distribution. Its shape k says
which moments the weights have: those of order below 1/k. Above 0.7 the number of samples that an
average needs grows beyond reach, whatever the effective sample size says.

References
----------
.. [1] Vehtari, Simpson, Gelman, Yao and Gabry, "Pareto Smoothed Importance Sampling", 2024,
   arXiv:1507.02646
.. [2] Zhang and Stephens, "A New and Efficient Estimation Method for the Generalized Pareto
   Distribution", 2009
"""

import math

import torch
from torch import Tensor

__all__ = ["MIN_SAMPLES", "Tail", "pareto_shape", "tail_size"]

MIN_SAMPLES = 25  # gives a tail of five, the fewest that can be fitted


def tail_size(n_samples: int) -> int:
    """Return how many of the largest weights are taken for the tail [1]_."""
    return math.ceil(min(n_samples / 5, 3 * math.sqrt(n_samples)))


class Tail:
    """The largest log-weights of each row, out of a stream that is never held as a whole.

    Parameters
    ----------
    n_samples : int
        Number of weights per row in the whole stream.
    """

    def __init__(self, n_samples: int) -> None:
        self.n_samples = n_samples
        self.size = tail_size(n_samples) + 1  # and the one that the tail begins above
        self._kept: list[Tensor] = []

    def add(self, log_w: Tensor) -> None:
        """Take the next log-weights, float64, shape (k, B)."""
        self._kept.append(log_w.T)
        if sum(part.shape[1] for part in self._kept) >= 2 * self.size:
            self._merge()

    def _merge(self) -> Tensor:
        """Forget all but the largest; return them in falling order, shape (size, B)."""
        every = torch.cat(self._kept, 1)  # (B, ...)
        self._kept = [every.topk(self.size, 1).values]
        return self._kept[0].T

    def k(self) -> Tensor:
        """Pareto-k̂ of each row, shape (B,).

        NaN where there are too few samples to tell. Weights that are all equal, those of an exact
        posterior, have no tail at all: −inf.
        """
        if self.n_samples < MIN_SAMPLES:
            return torch.full_like(self._kept[0][:, 0], torch.nan)
        log_w = self._merge()
        cut, top = log_w[-1], log_w[:-1].flip(0)  # (B,), (M, B) rising
        # w − cut, in units of the largest w, without cancellation.
        return pareto_shape(torch.exp(top - top[-1]) * -torch.expm1(cut - top))


def pareto_shape(exceedances: Tensor) -> Tensor:
    """Fit the shape k of a generalised Pareto distribution [2]_, shrunk a little towards 0.5 [1]_.

    Parameters
    ----------
    exceedances : Tensor, shape (M, B)
        Numbers >= 0, each column sorted in rising order.

    Returns
    -------
    Tensor, shape (B,)
        Positive for heavy tails; −inf where all exceedances are 0.
    """
    n, largest = len(exceedances), exceedances[-1]
    x = exceedances / torch.where(largest > 0, largest, 1)
    quartile = x[int(n / 4 + 0.5) - 1].clamp(min=1e-300)  # ties with the cut make it 0
    n_points = 30 + int(math.sqrt(n))
    index = torch.arange(1, n_points + 1, dtype=x.dtype, device=x.device)
    spread = 1 - torch.sqrt(n_points / (index - 0.5))  # all < 0
    b = 1 + spread.unsqueeze(1) / (3 * quartile)  # (n_points, B), all below 1
    b = torch.where(b == 0, torch.finfo(b.dtype).eps, b)  # 0 is a limit that divides 0 by 0
    k = torch.stack([_mean_log(x, point) for point in b])
    profile = n * (torch.log(-b / k) - k - 1)
    k = _mean_log(x, (torch.softmax(profile, 0) * b).sum(0))
    k = (n * k + 10 * 0.5) / (n + 10)  # a prior that weighs as much as ten weights
    return torch.where(largest > 0, k, torch.where(largest == 0, -torch.inf, torch.nan))


def _mean_log(x: Tensor, b: Tensor) -> Tensor:
    """The shape that is most likely for a value of b = −k / σ."""
    return torch.log1p(-b * x).mean(0)
