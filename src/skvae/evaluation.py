"""How good a fitted model is, with the error of every figure.

These functions take numbers, not estimators, so that every estimator can use them.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LikelihoodReport", "imputation_rmse", "likelihood_report"]


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

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers."""
        return asdict(self)


ACTIVE_VARIANCE = 0.01


def likelihood_report(
    log_likelihood: NDArray[np.float64],
    elbo: NDArray[np.float64],
    kl: NDArray[np.float64],
    effective_sample_size: NDArray[np.float64],
    n_samples: int,
    *,
    posterior_mean: NDArray[np.floating],
    kl_per_dimension: NDArray[np.floating] | None,
) -> LikelihoodReport:
    """Summarise per-row values, each of shape (n,), and posterior means of shape (n, d)."""
    n = len(log_likelihood)
    error = float(np.std(log_likelihood, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    return LikelihoodReport(
        log_likelihood=float(np.mean(log_likelihood)),
        standard_error=error,
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
    )


def imputation_rmse(
    truth: NDArray[np.floating], filled: NDArray[np.floating], missing: NDArray[np.bool_]
) -> float:
    """Root mean squared error over the cells that were hidden, in data units."""
    return float(np.sqrt(np.mean((truth[missing] - filled[missing]) ** 2)))
