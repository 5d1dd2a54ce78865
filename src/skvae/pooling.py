"""Rubin's rules: what an analysis of several imputed tables says together.

References
----------
.. [1] Rubin, "Multiple Imputation for Nonresponse in Surveys", 1987
.. [2] Barnard and Rubin, "Small-sample degrees of freedom with multiple imputation", 1999
.. [3] van Buuren, "Flexible Imputation of Missing Data", 2nd edition, 2018
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skvae.exceptions import ParameterError

__all__ = ["Pooled", "fit_pool", "pool"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pooled:
    """Pooled estimates; each array has the shape of one estimate.

    Attributes
    ----------
    estimate : ndarray
        Mean over the imputations.
    variance : ndarray
        Of the estimate: ``within + (1 + 1 / n_imputations) * between``.
    within, between : ndarray
        Mean of the variances, and variance of the estimates.
    df : ndarray
        Degrees of freedom of the t distribution of the estimate [2]_.
    fraction_missing_information : ndarray
        Share of the information that is missing because of the holes.
    relative_increase : ndarray
        Of the variance, because of the holes.
    n_imputations : int
    """

    estimate: Floats
    variance: Floats
    within: Floats
    between: Floats
    df: Floats
    fraction_missing_information: Floats
    relative_increase: Floats
    n_imputations: int

    def interval(self, coverage: float = 0.95) -> tuple[Floats, Floats]:
        """Return the ends of confidence intervals.

        Parameters
        ----------
        coverage : float
            Between 0 and 1.

        Returns
        -------
        lower, upper : ndarray
        """
        from scipy import stats

        if not 0 < coverage < 1:
            raise ParameterError(f"coverage must be between 0 and 1; received {coverage!r}.")
        half = stats.t.ppf((1 + coverage) / 2, self.df) * np.sqrt(self.variance)
        return self.estimate - half, self.estimate + half

    def p_value(self, null: ArrayLike = 0.0) -> Floats:
        """Return the two-sided p-value of the hypothesis that the estimand is ``null``."""
        from scipy import stats

        t = np.abs(self.estimate - np.asarray(null, float)) / np.sqrt(self.variance)
        return np.asarray(2 * stats.t.sf(t, self.df))


def pool(estimates: ArrayLike, variances: ArrayLike, dfcom: float = math.inf) -> Pooled:
    """Combine the estimates of M imputed tables by Rubin's rules [1]_.

    Parameters
    ----------
    estimates : array-like, shape (M,) or (M, k)
        Of the same quantities in each table.
    variances : array-like, same shape
        Squared standard errors.
    dfcom : float
        Degrees of freedom that complete data would have, such as n − k; infinite for large tables.

    Returns
    -------
    pooled : Pooled

    Raises
    ------
    ParameterError
        There are fewer than two imputations, the shapes differ, a number is not finite, or a
        variance is negative.

    References
    ----------
    .. [1] Rubin, "Multiple Imputation for Nonresponse in Surveys", 1987
    .. [2] Barnard and Rubin, "Small-sample degrees of freedom with multiple imputation", 1999

    Examples
    --------
    >>> from skvae import pool
    >>> pooled = pool([1.0, 1.2, 1.1], [0.04, 0.05, 0.03], dfcom=100)
    >>> round(float(pooled.estimate), 3), round(float(pooled.variance), 4)
    (1.1, 0.0533)
    """
    q, u = np.asarray(estimates, float), np.asarray(variances, float)
    m = len(q) if q.ndim else 0
    if m < 2:
        raise ParameterError(
            f"pool needs the estimates of at least two imputed tables; received {m}."
        )
    if q.shape != u.shape or q.ndim > 2:
        raise ParameterError(
            "estimates and variances must have the same shape, (M,) or (M, k); received "
            f"{q.shape} and {u.shape}."
        )
    for name, values in (("estimates", q), ("variances", u)):
        if not np.isfinite(values).all():
            first = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
            raise ParameterError(f"{name}{list(first)} is {values[first]}, which is not finite.")
    if (u < 0).any():
        first = tuple(np.argwhere(u < 0)[0].tolist())
        raise ParameterError(f"variances{list(first)} is {u[first]:g}, which is negative.")
    if not dfcom > 0:
        raise ParameterError(f"dfcom must be positive; received {dfcom!r}.")
    within, between = u.mean(0), q.var(0, ddof=1)
    added = (1 + 1 / m) * between
    variance = within + added
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(variance > 0, added / variance, 0.0)  # λ
        increase = np.where(added > 0, added / within, 0.0)
        of_imputation = (m - 1) / share**2
        of_data = (
            (dfcom + 1) / (dfcom + 3) * dfcom * (1 - share)
            if math.isfinite(dfcom)
            else np.full_like(share, np.inf)
        )
        df = 1 / (1 / of_imputation + 1 / of_data)
        information = np.where(np.isinf(increase), 1.0, (increase + 2 / (df + 3)) / (increase + 1))
    return Pooled(q.mean(0), variance, within, between, df, information, increase, m)


def fit_pool(
    analysis: Callable[[Any], tuple[ArrayLike, ArrayLike]],
    imputations: Iterable[Any],
    dfcom: float = math.inf,
) -> Pooled:
    """Analyse each imputed table and pool the results.

    Parameters
    ----------
    analysis : callable
        From a completed table to its estimates and their variances (squared standard errors).
    imputations : iterable of tables
        As `VAEImputer.sample` returns them.
    dfcom : float
        As for `pool`.

    Returns
    -------
    pooled : Pooled

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import fit_pool
    >>> tables = [np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])]
    >>> pooled = fit_pool(lambda x: (x.mean(), x.var(ddof=1) / len(x)), tables, dfcom=2)
    >>> round(float(pooled.estimate), 3)
    2.167
    """
    results = [analysis(table) for table in imputations]
    estimates, variances = (np.array([one[i] for one in results]) for i in range(2))
    return pool(estimates, variances, dfcom)
