"""What tells two samples apart: distances of laws, support, classifiers, copies.

All take features as rows, shape (n, D) and (m, D), finite; `skvae.evaluation.generation` checks
what it is given.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._neighbors import blocks, kth_distances, nearest, squared_distances
from skvae.evaluation._rows import as_rows, check_count, generator
from skvae.exceptions import DataError, ParameterError, did_you_mean

__all__ = [
    "Copies",
    "Support",
    "TwoSampleTest",
    "copies",
    "expected_coverage",
    "frechet_distance",
    "frechet_distance_of_gaussians",
    "kernel_distance",
    "support",
    "two_sample_test",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]


# --- distances of laws -----------------------------------------------------------------------


def frechet_distance(real: Any, generated: Any) -> float:
    """Return the squared Fréchet distance of the Gaussians that have the samples' moments [1]_.

    With the covariances divided by n − 1. Its expectation for two samples of one law is above 0
    and falls like 1 / n, so that only figures of equally many rows can be compared.

    Raises
    ------
    DataError
        Fewer than two rows, or samples of different width.

    References
    ----------
    .. [1] Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
       Equilibrium", 2017, arXiv:1706.08500

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.evaluation import frechet_distance
    >>> x = np.array([[-1.0, 0], [1, 0], [0, 1], [0, -1]])
    >>> round(frechet_distance(x, x + [3, 4]), 9)
    25.0
    """
    a, b = _pair(real, generated, 2)
    means, roots = [], []
    for rows in (a, b):
        mean = rows.mean(0, dtype=np.float64)
        means.append(mean)
        # R of the QR decomposition: Rᵀ R is the covariance, which is never squared up.
        roots.append(np.asarray(np.linalg.qr((rows - mean) / math.sqrt(len(rows) - 1), mode="r")))
    return _frechet(means[0] - means[1], roots[0], roots[1])


def frechet_distance_of_gaussians(
    mean_a: Any, covariance_a: Any, mean_b: Any, covariance_b: Any
) -> float:
    """Return |μ − μ'|² + tr(C + C' − 2 (C C')^½), the squared Wasserstein-2 distance [1]_.

    Parameters
    ----------
    mean_a, mean_b : array-like, shape (D,)
    covariance_a, covariance_b : array-like, shape (D, D)

    Raises
    ------
    DataError
        The shapes do not fit, or a covariance is not symmetric or has a negative eigenvalue.

    References
    ----------
    .. [1] Dowson and Landau, "The Fréchet Distance between Multivariate Normal Distributions",
       1982
    """
    a, b = np.asarray(mean_a, np.float64), np.asarray(mean_b, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise DataError(f"The means must have one shape (D,); received {a.shape} and {b.shape}.")
    roots = [
        _symmetric_root(np.asarray(c, np.float64), len(a), name)
        for name, c in (("covariance_a", covariance_a), ("covariance_b", covariance_b))
    ]
    return _frechet(a - b, *roots)


def _symmetric_root(covariance: Floats, d: int, name: str) -> Floats:
    if covariance.shape != (d, d):
        raise DataError(f"{name} must have shape ({d}, {d}); received {covariance.shape}.")
    largest = float(np.abs(covariance).max())
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    if np.abs(covariance - covariance.T).max() > 1e-8 * largest or values[0] < -1e-8 * largest:
        raise DataError(f"{name} must be symmetric, without negative eigenvalues.")
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root


def _frechet(difference: Floats, root_a: Floats, root_b: Floats) -> float:
    """Compute the distance for covariances Aᵀ A and Bᵀ B.

    The eigenvalues of their product are the squares of the singular values of A Bᵀ, so that no
    root of a matrix that is not symmetric is needed.
    """
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = difference @ difference + np.sum(root_a**2) + np.sum(root_b**2) - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(real: Any, generated: Any) -> tuple[float, float]:
    """Return the kernel distance (KID) of two samples and its standard error [1]_.

    The unbiased estimate, from all pairs of rows, of the squared maximum mean discrepancy with
    the kernel (x · y / D + 1)³: 0 in expectation for two samples of one law, so that it may be
    negative. The standard error is of first order in the number of rows.

    Raises
    ------
    DataError
        Fewer than two rows, or samples of different width.

    References
    ----------
    .. [1] Binkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs", 2018,
       arXiv:1801.01401
    """
    a, b = _pair(real, generated, 2)
    n, m = len(a), len(b)
    within_a, within_b = _kernel_sums(a, a, True)[0], _kernel_sums(b, b, True)[0]
    across_a, across_b = _kernel_sums(a, b, False)
    mine = within_a / (n - 1) - across_a / m  # what each row contributes, (n,)
    other = within_b / (m - 1) - across_b / n
    distance = within_a.mean() / (n - 1) + within_b.mean() / (m - 1) - 2 * across_a.mean() / m
    variance = 4 * (np.var(mine, ddof=1) / n + np.var(other, ddof=1) / m)
    return float(distance), math.sqrt(variance)


def _kernel_sums(a: Array, b: Array, same: bool) -> tuple[Floats, Floats]:
    """Return sums of the kernel over b, (n,), and over a, (m,), without a row and itself."""
    over_b, over_a = np.empty(len(a)), np.zeros(len(b))
    b = b.astype(np.float64)
    for part in blocks(len(a), len(b)):
        kernel = (a[part].astype(np.float64) @ b.T / b.shape[1] + 1) ** 3
        if same:
            np.fill_diagonal(kernel[:, part], 0)
        over_b[part] = kernel.sum(1)
        over_a += kernel.sum(0)
    return over_b, over_a


# --- support ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Support:
    """Whether generated rows lie where real ones do, and the other way round.

    Attributes
    ----------
    precision, recall : float
        Share of the generated rows that lie within the distance to its k-th neighbour of some
        real row, and the other way round [1]_.
    density : float
        Mean number of real rows within whose distance to their k-th neighbour a generated row
        lies, divided by k [2]_; 1 in expectation for samples of one law, and it may be above.
    coverage : float
        Share of the real rows that have a generated one within the distance to their k-th
        neighbour [2]_; see `expected_coverage`.

    References
    ----------
    .. [1] Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
       Models", 2019, arXiv:1904.06991
    .. [2] Naeem, Oh, Uh, Choi and Yoo, "Reliable Fidelity and Diversity Metrics for Generative
       Models", 2020, arXiv:2002.09797
    """

    precision: float
    recall: float
    density: float
    coverage: float


def support(real: Any, generated: Any, n_neighbors: int = 5) -> Support:
    """Compare where two samples lie, by the balls that reach to each row's k-th neighbour.

    A row at exactly that distance counts as inside.

    Raises
    ------
    DataError
        Not more rows than neighbours, or samples of different width.
    ParameterError
    """
    k = check_count(n_neighbors, 1, "n_neighbors")
    a, b = _pair(real, generated, k + 1)
    reach_a, reach_b = kth_distances(a, k), kth_distances(b, k)
    precise = np.zeros(len(b), bool)
    recalled, covered = np.empty(len(a), bool), np.empty(len(a), bool)
    inside = 0
    for part in blocks(len(a), len(b)):
        distances = squared_distances(a[part], b)
        within = distances <= reach_a[part, None]
        precise |= within.any(0)
        covered[part] = within.any(1)
        recalled[part] = (distances <= reach_b).any(1)
        inside += int(within.sum())
    return Support(
        precision=float(precise.mean()),
        recall=float(recalled.mean()),
        density=inside / (k * len(b)),
        coverage=float(covered.mean()),
    )


def expected_coverage(n_real: int, n_generated: int, n_neighbors: int = 5) -> float:
    """Return the coverage that is expected of two samples of one law that has a density [1]_.

    1 − (N − 1) ... (N − k) / ((M + N − 1) ... (M + N − k)) whatever the law and the dimension:
    all of the k nearest to a real row, among the other N − 1 and the M generated ones, are real.

    Raises
    ------
    ParameterError
        Not more real rows than neighbours.

    References
    ----------
    .. [1] Naeem, Oh, Uh, Choi and Yoo, "Reliable Fidelity and Diversity Metrics for Generative
       Models", 2020, arXiv:2002.09797, lemma 2

    Examples
    --------
    >>> from skvae.evaluation import expected_coverage
    >>> round(expected_coverage(10_000, 10_000, 5), 4)
    0.9688
    """
    k = check_count(n_neighbors, 1, "n_neighbors")
    check_count(n_real, k + 1, "n_real")
    check_count(n_generated, 0, "n_generated")
    places = np.arange(1, k + 1)
    return 1 - float(np.prod((n_real - places) / (n_generated + n_real - places)))


# --- classifiers -----------------------------------------------------------------------------


@dataclass(frozen=True)
class TwoSampleTest:
    """Whether a classifier can tell generated from real rows that it has not seen.

    Attributes
    ----------
    accuracy, standard_error : float
        On held-out rows, half of them real: 0.5 where it cannot.
    p_value : float
        Probability of so many right answers or more by tossing a coin.
    n_test : int
    """

    accuracy: float
    standard_error: float
    p_value: float
    n_test: int

    @classmethod
    def of(cls, right: int, n_test: int) -> TwoSampleTest:
        """Summarise the number of right answers."""
        from scipy.special import bdtrc

        accuracy = right / n_test
        return cls(
            accuracy=accuracy,
            standard_error=math.sqrt(accuracy * (1 - accuracy) / n_test),
            p_value=float(bdtrc(right - 1, n_test, 0.5)) if right else 1.0,
            n_test=n_test,
        )


def two_sample_test(
    real: Any, generated: Any, classifier: str = "logistic", random_state: int = 0
) -> TwoSampleTest:
    """Train a classifier on half of the rows to tell two samples apart; judge on the other [1]_.

    As many rows of each sample as the smaller one has.

    Parameters
    ----------
    real, generated : array-like, shapes (n, D) and (m, D)
    classifier : {"logistic", "trees"}
        Logistic regression of standardised columns, or gradient-boosted trees.
    random_state : int

    Raises
    ------
    DataError
        Fewer than 10 rows, or samples of different width.
    ParameterError

    References
    ----------
    .. [1] Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", 2017, arXiv:1610.06545
    """
    from sklearn.exceptions import ConvergenceWarning

    if classifier not in CLASSIFIERS:
        raise ParameterError(
            f"classifier={classifier!r} is not known.{did_you_mean(str(classifier), CLASSIFIERS)} "
            f"Known: {', '.join(map(repr, CLASSIFIERS))}."
        )
    a, b = _pair(real, generated, 10)
    n = min(len(a), len(b))
    half = n // 2
    random = generator(random_state)
    a, b = a[random.permutation(len(a))[:n]], b[random.permutation(len(b))[:n]]
    model = CLASSIFIERS[classifier](int(random.integers(2**31)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a verdict all the same
        model.fit(np.concatenate([a[:half], b[:half]]), np.repeat([0, 1], half))
    truth = np.repeat([0, 1], n - half)
    right = model.predict(np.concatenate([a[half:], b[half:]])) == truth
    return TwoSampleTest.of(int(right.sum()), len(truth))


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def _trees(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(early_stopping=False, random_state=seed)


CLASSIFIERS = {"logistic": _logistic, "trees": _trees}


# --- copies ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Copies:
    """Whether generated rows are nearer to training rows than held-out real ones are.

    Attributes
    ----------
    distance, distance_of_real : float
        Median distance of a generated, and of a held-out real row, to the nearest training row.
    ratio : float or None
        Of the two; far below 1 where rows are copied. None where the second is 0.
    nearer_than_real : float
        Probability that a generated row is nearer to a training row than a real one, ties
        counting half [1]_: 0.5 for the law of the data, 1 for copies. Rows from the middle of
        the data are nearer, too, though they are no copies: look at the duplicates and at the
        recall.
    duplicates, duplicates_of_real : float
        Shares of the rows that are equal to some training row.

    References
    ----------
    .. [1] Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in
       Generative Models", 2020, arXiv:2004.05675
    """

    distance: float
    distance_of_real: float
    ratio: float | None
    nearer_than_real: float
    duplicates: float
    duplicates_of_real: float


def copies(train: Any, real: Any, generated: Any) -> Copies:
    """Look for each row's nearest training row.

    Parameters
    ----------
    train : array-like, shape (n_train, D)
        What the model was fitted to.
    real : array-like, shape (n, D)
        Real rows that it was not fitted to.
    generated : array-like, shape (m, D)

    Raises
    ------
    DataError
        Samples of different width.
    """
    from scipy.stats import rankdata

    held_out, rows = _pair(real, generated, 1)
    known, _ = _pair(train, generated, 1, "train")
    far_real, far = (nearest(x, known, 1)[1][:, 0] for x in (held_out, rows))
    ranks = rankdata(np.concatenate([far_real, far]))
    pairs = len(far_real) * len(far)
    below = ranks[: len(far_real)].sum() - len(far_real) * (len(far_real) + 1) / 2
    median, median_real = float(np.median(far)), float(np.median(far_real))
    return Copies(
        distance=median,
        distance_of_real=median_real,
        ratio=median / median_real if median_real else None,
        nearer_than_real=float(below / pairs),
        duplicates=float(np.mean(far == 0)),
        duplicates_of_real=float(np.mean(far_real == 0)),
    )


def _pair(real: Any, generated: Any, minimum: int, name: str = "real") -> tuple[Array, Array]:
    a = as_rows(real, name, minimum=minimum)
    b = as_rows(generated, "generated", minimum=minimum)
    if a.shape[1] != b.shape[1]:
        raise DataError(
            f"{name} has {a.shape[1]} values in each row and generated has {b.shape[1]}: they "
            "must be alike."
        )
    return a, b
