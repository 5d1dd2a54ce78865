"""Rubin's rules: one answer out of the analyses of several imputed tables.

These functions take numbers, not estimators: any imputer and any analysis will do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from skvae.exceptions import ParameterError

__all__ = ["Pooled", "Wald", "fit_pool", "pool"]

Array = NDArray[Any]


class Wald(NamedTuple):
    """A joint test: the statistic follows F(df1, df2) if the null hypothesis holds."""

    statistic: float
    df1: int
    df2: float
    p_value: float


@dataclass(frozen=True, eq=False)
class Pooled:
    """What M imputed tables say together, from `pool`.

    Attributes
    ----------
    estimate : float or ndarray, shape () or (k,)
        Mean over the imputations.
    variance : float or ndarray, shape (), (k,) or (k, k)
        Total variance, ``within + (1 + 1 / M) * between``.
    within, between : float or ndarray, shape of ``variance``
        Mean of the variances of the analyses, and variance of their estimates.
    df : float or ndarray, shape of ``estimate``
        Degrees of freedom of the t distribution that ``(estimate − truth) / standard_error``
        follows.
    fraction_missing_information : float or ndarray, shape of ``estimate``
        Share of the information on a parameter that is lost with the missing cells.
    relative_increase : float or ndarray, shape of ``estimate``
        By how much the missing cells increase the variance, relative to ``within``.
    n_imputations : int
        M.
    dfcom : float
        Degrees of freedom that the analysis of a complete table has.
    """

    estimate: Array
    variance: Array
    within: Array
    between: Array
    df: Array
    fraction_missing_information: Array
    relative_increase: Array
    n_imputations: int
    dfcom: float

    @property
    def standard_error(self) -> Array:
        """Square root of each parameter's total variance."""
        return np.asarray(np.sqrt(_diagonal(self.variance, 0)))[()]

    def interval(self, coverage: float = 0.95) -> tuple[Array, Array]:
        """Return the ends of each parameter's confidence interval.

        Parameters
        ----------
        coverage : float
            Between 0 and 1.

        Returns
        -------
        low, high : float or ndarray, shape of ``estimate``
        """
        if not isinstance(coverage, Real) or not 0 < coverage < 1:
            raise ParameterError(
                f"coverage must be a number between 0 and 1; received {coverage!r}."
            )
        reach = stats.t.isf((1 - coverage) / 2, self.df) * self.standard_error
        return self.estimate - reach, self.estimate + reach

    def p_value(self, null: ArrayLike = 0.0) -> Array:
        """Return the p-value of each parameter's two-sided t test.

        Parameters
        ----------
        null : float or array, shape of ``estimate``
            Value under the null hypothesis.

        Returns
        -------
        p_value : float or ndarray, shape of ``estimate``
        """
        t = (self.estimate - self._checked(null)) / self.standard_error
        return np.asarray(2 * stats.t.sf(np.abs(t), self.df))[()]

    def wald(self, null: ArrayLike = 0.0) -> Wald:
        """Test all parameters at once: the statistic D1 [1]_.

        It takes the missing cells to increase all variances by the same share, which makes it
        reliable for few imputations, too. For some of the parameters, `pool` these alone.

        Parameters
        ----------
        null : float or array, shape of ``estimate``
            Values under the null hypothesis.

        Returns
        -------
        statistic, df1, df2, p_value : Wald
            ``df2`` is corrected for a finite ``dfcom`` as in [2]_. Where that is not defined, for
            ``k (M − 1) <= 4`` or a ``dfcom`` near 4 or below, it is corrected as `pool` does.

        Raises
        ------
        ParameterError
            There are several parameters without a covariance matrix, or it is not positive
            definite.

        References
        ----------
        .. [1] Li, Raghunathan and Rubin, "Large-Sample Significance Levels from Multiply Imputed
           Data Using Moment-Based Statistics and an F Reference Distribution", 1991, Journal of
           the American Statistical Association 86
        .. [2] Reiter, "Small-Sample Degrees of Freedom for Multi-Component Significance Tests with
           Multiple Imputation for Missing Data", 2007, Biometrika 94
        """
        k = np.size(self.estimate)
        if np.size(self.within) != k * k:
            raise ParameterError(
                f"wald needs the covariance of the {k} parameters; pool variances of shape "
                f"(M, {k}, {k})."
            )
        within, between = np.reshape(self.within, (k, k)), np.reshape(self.between, (k, k))
        try:
            root = np.linalg.inv(np.linalg.cholesky(within))
        except np.linalg.LinAlgError as error:
            raise ParameterError(
                "wald needs a positive definite covariance within imputations; are some of the "
                "parameters a function of the others?"
            ) from error
        m = self.n_imputations
        increase = float((1 + 1 / m) * np.trace(root @ between @ root.T) / k)
        off = root @ np.reshape(self.estimate - self._checked(null), k)
        statistic = float(off @ off / (k * (1 + increase)))
        df2 = _wald_df(k, m, increase, self.dfcom)
        tail = stats.f.sf(statistic, k, df2) if df2 < math.inf else stats.chi2.sf(k * statistic, k)
        return Wald(statistic, k, df2, float(tail))

    def _checked(self, null: ArrayLike) -> Array:
        values = np.asarray(null, float)
        if values.shape not in ((), np.shape(self.estimate)):
            raise ParameterError(
                f"null must be one number or have shape {np.shape(self.estimate)}; received "
                f"shape {values.shape}."
            )
        return values


def pool(estimates: ArrayLike, variances: ArrayLike, dfcom: float | None = None) -> Pooled:
    """Combine the analyses of M imputed tables by Rubin's rules [1]_.

    The tables must be draws, as `skvae.VAEImputer.sample` returns them. Estimates should be about
    normally distributed: pool the logarithm of an odds ratio, not the ratio.

    Parameters
    ----------
    estimates : array, shape (M,) or (M, k)
        Of one parameter or of k, from each table; M >= 2.
    variances : array, shape of ``estimates`` or (M, k, k)
        Squared standard errors, or covariance matrices, which `Pooled.wald` needs.
    dfcom : float or None, default=None
        Degrees of freedom that the analysis of a complete table has, such as rows less
        coefficients; None for many. The degrees of freedom of the result stay below it [2]_.

    Returns
    -------
    pooled : Pooled

    Raises
    ------
    ParameterError
        Shapes do not fit, there are fewer than two imputations, or a value is not finite, or no
        variance; the message names it.

    References
    ----------
    .. [1] Rubin, "Multiple Imputation for Nonresponse in Surveys", 1987
    .. [2] Barnard and Rubin, "Small-Sample Degrees of Freedom with Multiple Imputation", 1999,
       Biometrika 86
    .. [3] van Buuren, "Flexible Imputation of Missing Data", 2018, sections 2.3 and 5

    Examples
    --------
    >>> from skvae import pool
    >>> pooled = pool([4.0, 5.0, 6.0], [1.0, 1.0, 1.0], dfcom=30)
    >>> print(f"{pooled.estimate:.2f} ± {pooled.standard_error:.2f}, df {pooled.df:.2f}")
    5.00 ± 1.53, df 4.06
    >>> print("from {:.2f} to {:.2f}".format(*pooled.interval()))
    from 0.79 to 9.21
    """
    q, u = _numbers("estimates", estimates), _numbers("variances", variances)
    m = _check_shapes(q, u)
    _check_values(q, u)
    dfcom = _check_dfcom(dfcom)
    estimate, within = q.mean(0), u.mean(0)
    off = q - estimate
    between = (off.T @ off if u.ndim == 3 else (off**2).sum(0)) / (m - 1)
    variance = within + (1 + 1 / m) * between
    extra = (1 + 1 / m) * _diagonal(between, 0)
    own, total = _diagonal(within, 0), _diagonal(variance, 0)
    increase = extra / own
    # Reciprocals, so that infinite degrees of freedom are nothing special.
    df = _reciprocal((extra / total) ** 2 / (m - 1) + total / (own * _observed(dfcom)))
    return Pooled(
        estimate=estimate,
        variance=variance,
        within=within,
        between=between,
        df=df,
        fraction_missing_information=(increase + 2 / (df + 3)) / (1 + increase),
        relative_increase=increase,
        n_imputations=m,
        dfcom=dfcom,
    )


def fit_pool(
    estimator: Callable[[Any], tuple[ArrayLike, ArrayLike]],
    imputations: Iterable[Any],
    dfcom: float | None = None,
) -> Pooled:
    """Analyse each imputed table, and combine the results by Rubin's rules.

    Parameters
    ----------
    estimator : callable
        Takes a completed table and returns (estimate, variance): two numbers, or k estimates with
        k variances or with a covariance matrix (k, k).
    imputations : iterable of tables
        As `skvae.VAEImputer.sample` returns them.
    dfcom : float or None, default=None
        As in `pool`.

    Returns
    -------
    pooled : Pooled

    Raises
    ------
    ParameterError
        As in `pool`, or results of tables differ in shape; the message says for which table.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import fit_pool
    >>> tables = [np.array([1.0, 2.0, 3.0, x]) for x in (2.0, 4.0, 6.0)]
    >>> pooled = fit_pool(lambda t: (t.mean(), t.var(ddof=1) / len(t)), tables, dfcom=3)
    >>> print(f"{pooled.estimate:.2f} ± {pooled.standard_error:.2f}")
    2.50 ± 0.96
    """
    estimates: list[Array] = []
    variances: list[Array] = []
    shapes: list[tuple[Any, Any]] = []
    for i, table in enumerate(imputations):
        result = estimator(table)
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise ParameterError(
                f"estimator must return (estimate, variance); for table {i} it returned "
                f"{type(result).__name__}."
            )
        estimates.append(_numbers(f"estimate of table {i}", result[0]))
        variances.append(_numbers(f"variance of table {i}", result[1]))
        shapes.append((estimates[i].shape, variances[i].shape))
        if shapes[i] != shapes[0]:
            raise ParameterError(
                f"estimator returned shapes {shapes[i]} for table {i}, but {shapes[0]} for table "
                "0; a category may be absent from one of them."
            )
    return pool(np.array(estimates), np.array(variances), dfcom)


def _numbers(name: str, values: ArrayLike) -> Array:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} must be an array of numbers: {error}.") from error


def _check_shapes(q: Array, u: Array) -> int:
    """Return the number of imputations."""
    if q.ndim not in (1, 2) or not q[:1].size:
        raise ParameterError(
            f"estimates must have shape (M,) or (M, k); received shape {q.shape}."
        )
    allowed = [q.shape] if q.ndim == 1 else [q.shape, (*q.shape, q.shape[1])]
    if u.shape not in allowed:
        raise ParameterError(
            f"variances must have shape {' or '.join(map(str, allowed))} as the estimates; "
            f"received {u.shape}."
        )
    if len(q) < 2:
        raise ParameterError(
            "pool needs at least 2 imputations, since their spread is what it measures; "
            f"received {len(q)}."
        )
    return len(q)


def _check_values(q: Array, u: Array) -> None:
    for name, values in (("estimates", q), ("variances", u)):
        _refuse(name, values, ~np.isfinite(values), "all must be finite")
    if u.ndim == 3:
        size = np.abs(u).max((1, 2), keepdims=True)
        skew = np.abs(u - u.swapaxes(1, 2)) > 1e-8 * size
        _refuse("variances", u, skew, "covariance matrices must be symmetric")
    own = np.eye(u.shape[-1], dtype=bool) if u.ndim == 3 else True  # covariances may be negative
    _refuse("variances", u, (u < 0) & own, "variances must not be negative")
    nothing = np.flatnonzero(_diagonal(u, 1).sum(0) == 0)
    if len(nothing):
        raise ParameterError(
            f"The variance of parameter {nothing[0]} is 0 in all imputations; leave it out, "
            "since Rubin's rules say nothing of it."
        )


def _refuse(name: str, values: Array, bad: Array, rule: str) -> None:
    if bad.any():
        place = tuple(np.argwhere(bad)[0])
        index = ", ".join(map(str, place))
        raise ParameterError(f"{name}[{index}] is {values[place]}; {rule}.")


def _check_dfcom(dfcom: float | None) -> float:
    if dfcom is None:
        return math.inf
    if not isinstance(dfcom, Real) or isinstance(dfcom, bool) or not dfcom > 0:
        raise ParameterError(f"dfcom must be a number > 0 or None; received {dfcom!r}.")
    return float(dfcom)


def _diagonal(values: Array, leading: int) -> Array:
    """Variances out of covariance matrices, if they are some, behind ``leading`` dimensions."""
    matrices = np.ndim(values) == leading + 2
    return np.diagonal(values, axis1=-2, axis2=-1) if matrices else values


def _reciprocal(x: Array | float) -> Any:
    """1 / x, and infinity for 0."""
    x = np.asarray(x)
    return np.divide(1, x, out=np.full(x.shape, np.inf), where=x > 0)[()]


def _observed(dfcom: float) -> float:
    """Degrees of freedom of a complete table, as Barnard and Rubin (1999) shrink them."""
    return dfcom if math.isinf(dfcom) else (dfcom + 1) / (dfcom + 3) * dfcom


def _wald_df(k: int, m: int, increase: float, dfcom: float) -> float:
    """Denominator degrees of freedom of D1 for an average relative increase in variance."""
    t = k * (m - 1)
    observed = _observed(dfcom)
    a = increase * t / (t - 2) if t > 4 else math.nan
    if math.isfinite(dfcom) and observed > 4 * (1 + a):
        return _reiter_df(t, a, observed)
    if increase == 0:
        large = math.inf
    elif t > 4:
        large = 4 + (t - 4) * (1 + 1 / a) ** 2
    else:
        large = t * (1 + 1 / k) * (1 + 1 / increase) ** 2 / 2
    return float(_reciprocal(1 / large + (1 + increase) / observed))


def _reiter_df(t: int, a: float, observed: float) -> float:
    """Equations 1 and 2 of Reiter (2007)."""
    c1, c2 = observed - 2 * (1 + a), observed - 4 * (1 + a)
    terms = (
        c1 / ((1 + a) ** 2 * c2)
        + 8 * c1 / ((1 + a) * c2**2)
        + 4 / ((1 + a) * c2)
        + 4 / (c1 * c2)
        + 16 * c1 / c2**3
        + 8 / c2**2
    )
    return 4 + 1 / (1 / c2 + a**2 / (t - 4) * terms)
