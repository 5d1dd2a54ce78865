"""Whether a code has a place of its own for each factor that varies.

All figures are for data whose factors are known. None of them follows from another, and they
often disagree (Locatello et al., "Challenging Common Assumptions in the Unsupervised Learning of
Disentangled Representations", 2019, arXiv:1811.12359): look at several, over several seeds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._figures import plain, table
from skvae.evaluation._rows import as_rows, check_count, generator, subsample
from skvae.exceptions import DataError, ParameterError

__all__ = [
    "DisentanglementReport",
    "beta_vae_score",
    "dci_scores",
    "disentanglement",
    "factor_vae_score",
    "mutual_information",
]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]

N_TREES = 50
LEAST_VOTES = 50  # so that each of a few factors is drawn


@dataclass(frozen=True)
class DisentanglementReport:
    """Whether each latent dimension stands for one factor, and each factor for one dimension.

    All figures but `informativeness` are 1 for a code that holds each factor in a dimension of
    its own, and small, not 0, for one that mixes them.

    Attributes
    ----------
    mig : float
        Mutual information gap [1]_: between the two dimensions that say most of a factor, in
        units of its entropy; mean over factors.
    sap : float
        Attribute predictability gap [2]_: between the two dimensions that predict a factor best.
        Ordered factors are predicted by a line (R²), categories by thresholds (share of right
        ones on held-out rows, each category counting alike; here in units of what there is above
        chance).
    disentanglement, completeness : float
        Of the importance of dimensions for factors in a forest of trees [3]_; see `dci_scores`.
    informativeness : float
        Mean share of factor values that the forests predict right on held-out rows.
    factor_vae : float
        See `factor_vae_score`.
    beta_vae : float
        See `beta_vae_score`.
    unrelated : dict of str to float
        What a code that knows nothing of the factors has, for many rows.
    n_rows, n_codes, n_factors : int

    References
    ----------
    .. [1] Chen, Li, Grosse and Duvenaud, "Isolating Sources of Disentanglement in VAEs", 2018,
       arXiv:1802.04942
    .. [2] Kumar, Sattigeri and Balakrishnan, "Variational Inference of Disentangled Latent
       Concepts from Unlabeled Observations", 2018, arXiv:1711.00848
    .. [3] Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled
       Representations", 2018
    """

    mig: float
    sap: float
    disentanglement: float
    completeness: float
    informativeness: float
    factor_vae: float
    beta_vae: float
    unrelated: dict[str, float]
    n_rows: int
    n_codes: int
    n_factors: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers."""
        return plain(self)

    def __str__(self) -> str:
        """Return a table."""
        names = ("mig", "sap", "disentanglement", "completeness", "informativeness")
        rows = {
            name: (getattr(self, name), self.unrelated.get(name))
            for name in (*names, "factor_vae", "beta_vae")
        }
        first = f"{self.n_rows} rows, {self.n_codes} latent dimensions, {self.n_factors} factors"
        return "\n".join([first, "", *table(("code", "unrelated"), rows)])


def disentanglement(
    codes: Any,
    factors: Any,
    *,
    categorical: Sequence[int] = (),
    n_bins: int = 20,
    n_votes: int = 800,
    max_rows: int = 10_000,
    random_state: int = 0,
) -> DisentanglementReport:
    """Judge codes by the factors that made the rows.

    Parameters
    ----------
    codes : array-like, shape (n, d)
        At least two latent dimensions, as `VAE.transform` gives them.
    factors : array-like, shape (n, f)
        Values of at least two factors. One with more than ``n_bins`` different values is cut into
        as many bins of equally many rows, except for R².
    categorical : sequence of int
        Columns of factors whose values have no order.
    n_bins : int
        Bins of equal width that each latent dimension is cut into for mutual information.
    n_votes : int
        Groups of rows to learn from, and again to judge, of the last two scores; at least 50.
    max_rows : int
        At most so many rows, drawn at random, are looked at.
    random_state : int

    Returns
    -------
    DisentanglementReport

    Raises
    ------
    DataError
        The arrays do not fit together, are not finite or constant, or have too few rows.
    ParameterError

    Examples
    --------
    >>> from skvae import datasets
    >>> from skvae.evaluation import disentanglement
    >>> sprites = datasets.make_sprites(4)
    >>> report = disentanglement(sprites.factors, sprites.factors, categorical=(4,))
    >>> report.mig, report.disentanglement, report.completeness, report.factor_vae
    (1.0, 1.0, 1.0, 1.0)
    """
    check_count(n_bins, 2, "n_bins")
    check_count(n_votes, LEAST_VOTES, "n_votes")
    at_most = check_count(max_rows, 20, "max_rows")
    z, v = _checked(codes, factors)
    unknown = [j for j in categorical if j not in range(v.shape[1])]
    if unknown:
        raise ParameterError(
            f"categorical names columns {unknown!r}, but factors has {v.shape[1]} columns."
        )
    chosen = subsample(len(z), at_most, generator(random_state, 0))
    z, v = _checked(z[chosen], v[chosen])
    levels = _levels(v, n_bins)
    half = len(z) // 2
    halves = z[:half], z[half:]
    random = generator(random_state, 1)
    predictable = np.empty((z.shape[1], v.shape[1]))
    importance = np.empty((z.shape[1], v.shape[1]))
    right = []
    for j in range(v.shape[1]):
        parts = levels[:half, j], levels[half:, j]
        importance[:, j], share = _forest(halves, parts, int(random.integers(2**31)))
        right.append(share)
        for i, code in enumerate(z.T):
            predictable[i, j] = (
                _thresholds(code, parts) if j in categorical else _r_squared(code, v[:, j])
            )
    separate, complete = dci_scores(importance)
    votes = {"n_votes": n_votes, "random_state": random_state}
    chance = 1 / v.shape[1]
    return DisentanglementReport(
        mig=_gap(_relative_information(z, levels, n_bins)),
        sap=_gap(predictable),
        disentanglement=separate,
        completeness=complete,
        informativeness=float(np.mean(right)),
        factor_vae=factor_vae_score(z, levels, **votes),
        beta_vae=beta_vae_score(z, levels, **votes),
        unrelated={"mig": 0.0, "sap": 0.0, "factor_vae": chance, "beta_vae": chance},
        n_rows=len(z),
        n_codes=z.shape[1],
        n_factors=v.shape[1],
    )


# --- one dimension, one factor ---------------------------------------------------------------


def mutual_information(a: Any, b: Any) -> float:
    """Return the mutual information, in nats, of two columns of codes of classes, (n,) each.

    That of the table of their frequencies: for few rows it is too large.

    Raises
    ------
    DataError
        They are not equally long.
    """
    if np.ndim(a) != 1 or np.shape(a) != np.shape(b):
        raise DataError(
            f"a and b must be columns of one length; received {np.shape(a)} and {np.shape(b)}."
        )
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    counts = np.bincount(a * (b.max() + 1) + b, minlength=(a.max() + 1) * (b.max() + 1))
    joint = counts.reshape(a.max() + 1, b.max() + 1) / len(a)
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    there = joint > 0
    return float(np.sum(joint[there] * np.log(joint[there] / apart[there])))


def _relative_information(z: Floats, levels: Places, n_bins: int) -> Floats:
    """Return the information of each dimension about each factor, (d, f), per its entropy."""
    bins = [np.digitize(c, np.histogram_bin_edges(c, n_bins)[1:-1]) for c in z.T]
    return np.array(
        [[mutual_information(b, v) / mutual_information(v, v) for v in levels.T] for b in bins]
    )


def _gap(scores: Floats) -> float:
    """Return the mean over factors of the difference between the two best, of scores (d, f)."""
    best = np.sort(scores, 0)
    return float(np.mean(best[-1] - best[-2]))


def _r_squared(code: Floats, factor: Floats) -> float:
    code, factor = code - code.mean(), factor - factor.mean()
    scale = (code @ code) * (factor @ factor)
    return float((code @ factor) ** 2 / scale) if scale > 0 else 0.0


def _thresholds(code: Floats, parts: tuple[Places, Places]) -> float:
    """Return the balanced accuracy above chance, on the second half, of as many intervals."""
    from sklearn.tree import DecisionTreeClassifier

    own, other = parts
    n_levels = max(2, len(np.unique(own)))
    tree = DecisionTreeClassifier(
        max_leaf_nodes=n_levels, class_weight="balanced", random_state=0
    ).fit(code[: len(own), None], own)
    right = tree.predict(code[len(own) :, None]) == other
    accuracy = float(np.mean([right[other == level].mean() for level in np.unique(other)]))
    return max(0.0, (accuracy - 1 / n_levels) / (1 - 1 / n_levels))


# --- importance ------------------------------------------------------------------------------


def _forest(
    halves: tuple[Floats, Floats], parts: tuple[Places, Places], seed: int
) -> tuple[Floats, float]:
    """Return the importance of each dimension, (d,), and the share that is right elsewhere."""
    from sklearn.ensemble import RandomForestClassifier

    # All dimensions compete in each node: one that says nothing is then never chosen for want of
    # a better one.
    forest = RandomForestClassifier(N_TREES, max_features=None, random_state=seed)
    forest.fit(halves[0], parts[0])
    return forest.feature_importances_, float(forest.score(halves[1], parts[1]))


def dci_scores(importance: Any) -> tuple[float, float]:
    """Return disentanglement and completeness of a matrix of importances [1]_.

    Disentanglement is 1 − H(factors | dimension) / log f, where the importances of a dimension
    are taken for a law over factors, and averaged over dimensions by their share in the total;
    completeness is 1 − H(dimensions | factor) / log d, averaged likewise over factors.

    Parameters
    ----------
    importance : array-like, shape (d, f)
        Not negative; d and f at least 2.

    Raises
    ------
    DataError

    References
    ----------
    .. [1] Eastwood and Williams, "A Framework for the Quantitative Evaluation of Disentangled
       Representations", 2018

    Examples
    --------
    >>> from skvae.evaluation import dci_scores
    >>> dci_scores([[1, 0], [0, 1], [0, 0]])
    (1.0, 1.0)
    >>> dci_scores([[1, 1], [0, 0]])
    (0.0, 1.0)
    """
    table = as_rows(importance, "importance", minimum=2).astype(np.float64)
    if table.shape[1] < 2 or (table < 0).any() or not table.any():
        raise DataError(
            "importance must hold numbers >= 0, not all 0, for at least 2 dimensions and 2 factors"
            f"; received shape {table.shape}."
        )
    return _concentration(table), _concentration(table.T)


def _concentration(table: Floats) -> float:
    """Return the weighted mean of 1 − entropy of the rows, in units of the largest possible."""
    weights = table.sum(1)
    rows = table[weights > 0] / weights[weights > 0, None]
    logs = np.log(np.where(rows > 0, rows, 1))
    entropy = -np.sum(rows * logs, 1) / math.log(table.shape[1])
    return float(np.average(1 - entropy, weights=weights[weights > 0]))


# --- groups of rows that share the value of a factor -------------------------------------------


def factor_vae_score(
    codes: Any,
    factors: Any,
    *,
    n_votes: int = 800,
    group_size: int = 64,
    random_state: int = 0,
) -> float:
    """Return how often the dimension that varies least says which factor was held fixed [1]_.

    A vote: rows drawn with replacement among those that share the value of a random factor with a
    random row; the dimension of least variance, in units of its variance over all rows. Votes
    learn which factor each dimension stands for, and as many others are judged. Dimensions that
    are constant are left out; codes near it count.

    Parameters
    ----------
    codes : array-like, shape (n, d)
    factors : array-like, shape (n, f)
        Discrete values: of each, several rows.
    n_votes, group_size : int
    random_state : int

    Raises
    ------
    DataError
    ParameterError

    References
    ----------
    .. [1] Kim and Mnih, "Disentangling by Factorising", 2018, arXiv:1802.05983
    """
    check_count(group_size, 2, "group_size")
    z, v = _checked(codes, factors)
    groups = _Groups(v, generator(random_state, 5))
    z = _standardised(z)
    kinds, votes = [], []
    for _ in range(2 * check_count(n_votes, LEAST_VOTES, "n_votes")):
        factor, rows = groups.draw(group_size)
        kinds.append(factor)
        votes.append(int(np.argmin(np.var(z[rows], 0))))
    kind, vote = np.array(kinds), np.array(votes)
    counts = np.zeros((z.shape[1], v.shape[1]), np.int64)
    np.add.at(counts, (vote[:n_votes], kind[:n_votes]), 1)
    return float(np.mean(counts.argmax(1)[vote[n_votes:]] == kind[n_votes:]))


def beta_vae_score(
    codes: Any,
    factors: Any,
    *,
    n_votes: int = 800,
    group_size: int = 64,
    random_state: int = 0,
) -> float:
    """Return how often a linear classifier sees which factor the rows of pairs share [1]_.

    It is given the mean over pairs of |z − z'|, where both rows of a pair, drawn with replacement,
    have one value of the factor, another for each pair. Codes are standardised first, and
    constant dimensions left out. Parameters and errors are those of `factor_vae_score`;
    ``group_size`` pairs make an example.

    Raises
    ------
    DataError
    ParameterError

    References
    ----------
    .. [1] Higgins et al., "beta-VAE: Learning Basic Visual Concepts with a Constrained Variational
       Framework", 2017
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    check_count(group_size, 1, "group_size")
    z, v = _checked(codes, factors)
    groups = _Groups(v, generator(random_state, 6))
    z = _standardised(z)
    kinds, differences = [], []
    for _ in range(2 * check_count(n_votes, LEAST_VOTES, "n_votes")):
        factor, first, second = groups.draw_pairs(group_size)
        kinds.append(factor)
        differences.append(np.abs(z[first] - z[second]).mean(0))
    kind, difference = np.array(kinds), np.array(differences)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(difference[:n_votes], kind[:n_votes])
    return float(model.score(difference[n_votes:], kind[n_votes:]))


class _Groups:
    """Draws rows that share the value of a factor."""

    def __init__(self, factors: Array, random: np.random.Generator) -> None:
        self.random = random
        self.n = len(factors)
        self.numbers = np.empty(factors.shape, np.int64)
        self.rows: list[Places] = []
        self.starts: list[Places] = []
        for j, column in enumerate(factors.T):
            values, self.numbers[:, j] = np.unique(column, return_inverse=True)
            if len(values) > self.n // 2:
                raise DataError(
                    f"Factor {j} has {len(values)} values in {self.n} rows, so that hardly any "
                    "rows share one. Cut it into bins."
                )
            self.rows.append(np.argsort(self.numbers[:, j], kind="stable"))
            ends = np.cumsum(np.bincount(self.numbers[:, j]))
            self.starts.append(np.concatenate([[0], ends]))

    def draw(self, size: int) -> tuple[int, Places]:
        """Return a factor, and rows (size,) that share its value with one row."""
        factor = int(self.random.integers(len(self.rows)))
        like = np.full(size, self.random.integers(self.n))
        return factor, self._others(factor, like)

    def draw_pairs(self, size: int) -> tuple[int, Places, Places]:
        """Return a factor, and rows (size,) twice, of which each two share its value."""
        factor = int(self.random.integers(len(self.rows)))
        first = self.random.integers(self.n, size=size)
        return factor, first, self._others(factor, first)

    def _others(self, factor: int, like: Places) -> Places:
        number = self.numbers[like, factor]
        start, end = self.starts[factor][number], self.starts[factor][number + 1]
        found: Places = self.rows[factor][self.random.integers(start, end)]
        return found


# --- checks ----------------------------------------------------------------------------------


def _checked(codes: Any, factors: Any) -> tuple[Floats, Array]:
    z, v = as_rows(codes, "codes", minimum=20), as_rows(factors, "factors", minimum=20)
    if len(z) != len(v):
        raise DataError(f"codes has {len(z)} rows, but factors has {len(v)}: they must be alike.")
    for rows, name in ((z, "codes"), (v, "factors")):
        if rows.shape[1] < 2:
            raise DataError(f"{name} has 1 column; at least two are needed to be told apart.")
    if (z == z[:1]).all():
        raise DataError("codes is constant: has the posterior collapsed?")
    same = np.flatnonzero((v == v[:1]).all(0))
    if len(same):
        raise DataError(f"Factor {same[0]} is constant. Leave it out.")
    return z.astype(np.float64), v


def _levels(factors: Array, n_bins: int) -> Places:
    """Return numbers of values, or of bins of equally many rows where there are more values."""
    levels = np.empty(factors.shape, np.int64)
    for j, column in enumerate(factors.T):
        values, numbers = np.unique(column, return_inverse=True)
        if len(values) > n_bins:
            edges = np.quantile(column, np.arange(1, n_bins) / n_bins)
            numbers = np.unique(np.digitize(column, edges), return_inverse=True)[1]
        levels[:, j] = numbers
    return levels


def _standardised(z: Floats) -> Floats:
    """Return the dimensions that vary, with mean 0 and variance 1."""
    z = z[:, (z != z[:1]).any(0)]
    spread: Floats = (z - z.mean(0)) / z.std(0)
    return spread
