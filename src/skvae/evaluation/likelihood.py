"""Held-out likelihood with the error of every figure, and warnings of what goes wrong."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._figures import plain
from skvae.exceptions import PosteriorCollapseWarning, UnreliableEstimateWarning

if TYPE_CHECKING:
    from skvae.aggregate import KLSplit

__all__ = [
    "LikelihoodBounds",
    "LikelihoodReport",
    "imputation_rmse",
    "likelihood_bounds",
    "likelihood_report",
    "warn_of_collapse",
    "warn_of_heavy_tails",
]


@dataclass(frozen=True)
class LikelihoodReport:
    """Held-out likelihood; all in nats per row.

    Attributes
    ----------
    log_likelihood : float
        Mean importance-weighted log p(x), a lower bound in expectation.
    standard_error : float
        Standard error of that mean over rows.
    elbo, reconstruction, kl : float
        Means of the lower bound and its two terms, ``elbo = reconstruction − kl``.
    effective_sample_size : float
        Median over rows of (Σw)² / Σw², between 1 and ``n_samples``. Near 1, the bound is loose.
    n_rows, n_samples : int
    active_units : int
        Latent dimensions whose posterior mean varies over the rows by more than 0.01 (variance;
        Burda et al., 2016, arXiv:1509.00519). Few of them in a large latent space, or none, mean
        that the posterior has collapsed to the prior.
    kl_per_dimension : tuple of float, or None
        Mean KL of each latent dimension, where it has a closed form that splits.
    pareto_k, pareto_k_above : float, or None
        Median over rows of the Pareto-k̂ of the weights, and share of the rows where it is above
        0.7: there more samples help little (see `skvae.pareto`). None for fewer than 25 samples.
    mutual_information, aggregate_kl : float, or None
        I_q(x; z) and KL(q(z) || p(z)), which add up to the KL, from at most 1,000 of the rows (see
        `skvae.aggregate`). The first cannot exceed the log of their number, 6.9 for 1,000, and
        near it is a lower bound, the other an upper bound. None for posteriors without a density.
    """

    log_likelihood: float
    standard_error: float
    elbo: float
    reconstruction: float
    kl: float
    effective_sample_size: float
    n_rows: int
    n_samples: int
    active_units: int
    kl_per_dimension: tuple[float, ...] | None
    pareto_k: float | None
    pareto_k_above: float | None
    mutual_information: float | None
    aggregate_kl: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers, None where one is not finite (JSON has no NaN)."""
        return plain(self)


@dataclass(frozen=True)
class LikelihoodBounds:
    """Mean log p(x) of rows drawn from the model, between two bounds; nats per row.

    Attributes
    ----------
    lower, upper : float
        Means of stochastic bounds: in expectation, log p(x) lies between them.
    gap, gap_standard_error : float
        ``upper − lower`` and its standard error over rows. Neither bound is off by more than the
        gap, on average.
    acceptance_rate : float, or None
        Mean over transitions; about 0.65 is aimed at. None where there are no transitions.
    n_rows : int
    """

    lower: float
    upper: float
    gap: float
    gap_standard_error: float
    acceptance_rate: float | None
    n_rows: int


ACTIVE_VARIANCE = 0.01
COLLAPSED_KL = 0.01
HIGH_K = 0.7
UNRELIABLE_SHARE = 0.2


def likelihood_report(
    log_likelihood: NDArray[np.float64],
    elbo: NDArray[np.float64],
    kl: NDArray[np.float64],
    effective_sample_size: NDArray[np.float64],
    n_samples: int,
    *,
    posterior_mean: NDArray[np.floating],
    kl_per_dimension: NDArray[np.floating] | None,
    pareto_k: NDArray[np.float64],
    kl_split: KLSplit | None,
) -> LikelihoodReport:
    """Summarise per-row values, each of shape (n,), and posterior means of shape (n, d)."""
    n = len(log_likelihood)
    known_k = pareto_k[~np.isnan(pareto_k)]
    return LikelihoodReport(
        log_likelihood=float(np.mean(log_likelihood)),
        standard_error=_standard_error(log_likelihood),
        elbo=float(np.mean(elbo)),
        reconstruction=float(np.mean(elbo + kl)),
        kl=float(np.mean(kl)),
        effective_sample_size=float(np.median(effective_sample_size)),
        n_rows=n,
        n_samples=n_samples,
        active_units=int((np.var(posterior_mean, 0) > ACTIVE_VARIANCE).sum()),
        kl_per_dimension=(
            None if kl_per_dimension is None else tuple(float(v) for v in kl_per_dimension)
        ),
        pareto_k=float(np.median(known_k)) if len(known_k) else None,
        pareto_k_above=float(np.mean(known_k > HIGH_K)) if len(known_k) else None,
        mutual_information=kl_split.mutual_information if kl_split else None,
        aggregate_kl=kl_split.aggregate_kl if kl_split else None,
    )


def likelihood_bounds(
    lower: NDArray[np.float64], upper: NDArray[np.float64], acceptance: NDArray[np.float64]
) -> LikelihoodBounds:
    """Summarise per-row bounds, each of shape (n,)."""
    rate = float(np.mean(acceptance))
    return LikelihoodBounds(
        lower=float(np.mean(lower)),
        upper=float(np.mean(upper)),
        gap=float(np.mean(upper - lower)),
        gap_standard_error=_standard_error(upper - lower),
        acceptance_rate=None if math.isnan(rate) else rate,
        n_rows=len(lower),
    )


def warn_of_collapse(kl: float, n_components: int, *, stacklevel: int) -> None:
    """Warn where a mean KL, in nats, is so small that z can say nothing of the rows.

    Single unused dimensions of a large code are what a VAE makes of a code that is larger than it
    need be, so only the KL as a whole is looked at.

    Warns
    -----
    PosteriorCollapseWarning
    """
    if kl >= COLLAPSED_KL:
        return
    warnings.warn(
        f"The posterior has collapsed to the prior: all {n_components} of {n_components} latent "
        f"dimensions are inactive (mean KL: {kl:.2g} nats), so z says nothing of the rows, and "
        "all are decoded alike. Where the data do have structure, try a warm-up "
        "(objectives.ELBO(warmup=2000)), free bits (objectives.ELBO(free_bits=0.1)), a smaller "
        "beta, a smaller decoder, a smaller n_components, or longer training.",
        PosteriorCollapseWarning,
        stacklevel=stacklevel,
    )


def warn_of_heavy_tails(report: LikelihoodReport, *, stacklevel: int) -> None:
    """Warn where importance weights are too uneven for an average.

    Warns
    -----
    UnreliableEstimateWarning
    """
    if report.pareto_k_above is None or report.pareto_k_above <= UNRELIABLE_SHARE:
        return
    warnings.warn(
        f"The log-likelihood is probably too low: Pareto-k̂ is above {HIGH_K} in "
        f"{report.pareto_k_above:.0%} of {report.n_rows} rows, so a few of their "
        f"{report.n_samples} importance weights outweigh the rest. Take more n_samples, compare "
        "with score_samples(X, n_samples=16, n_temperatures=500) on some rows, or fit a richer "
        "posterior ('full_covariance', 'flow').",
        UnreliableEstimateWarning,
        stacklevel=stacklevel,
    )


def _standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean; NaN for a single value."""
    return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def imputation_rmse(
    truth: NDArray[np.floating], filled: NDArray[np.floating], missing: NDArray[np.bool_]
) -> float:
    """Root mean squared error over the cells that were hidden, in data units."""
    return float(np.sqrt(np.mean((truth[missing] - filled[missing]) ** 2)))
