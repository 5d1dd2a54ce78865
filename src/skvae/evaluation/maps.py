"""How much of high-dimensional rows can be seen on their map."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._figures import plain, table
from skvae.evaluation._neighbors import blocks, nearest, squared_distances, vote
from skvae.evaluation._rows import (
    as_labels,
    as_rows,
    check_count,
    check_varied,
    generator,
    known_labels,
    numbered,
    subsample,
)
from skvae.exceptions import DataError

__all__ = ["EmbeddingReport", "embedding"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Places = NDArray[np.int64]

N_PAIRS = 10  # of other rows for each row, as random triplets
WORKING_MEMORY = 64  # MiB, for scikit-learn's silhouettes


@dataclass(frozen=True)
class EmbeddingReport:
    """What a map keeps of the rows; all figures are best at 1.

    Attributes
    ----------
    trustworthiness, continuity : float
        Whether neighbours on the map are neighbours among the rows, and the other way round
        [1]_. As in `sklearn.manifold.trustworthiness`; continuity is the same with the roles
        swapped. About 0.5 for a map that has nothing to do with the rows.
    random_triplets : float
        Share of random triples (i, j, l) of rows for which the nearer one of j and l to i is the
        nearer one on the map, too [2]_: the large structure. 0.5 for an unrelated map.
    knn_accuracy : float or None
        Share of the rows whose label most of their neighbours on the map have.
    neighborhood_hit : float or None
        Mean share of the neighbours on the map that have the row's own label.
    silhouette : float or None
        Mean silhouette of the labels on the map, from −1 to 1; 0 for labels that have nothing to
        do with the map.
    nmi : float or None
        Normalised mutual information of the labels and as many clusters of k-means; 0 for
        unrelated ones.
    centroid_triplets : float or None
        As `random_triplets`, for all triples of class means [2]_. None for two classes.
    n_rows, n_neighbors : int
        Rows that were looked at, and neighbours of each.
    n_test : int or None
        Rows that `knn_accuracy` was judged on, by the labels of all other rows. None where each
        row was judged by the others (leave one out).
    unrelated : dict of str to float
        What is expected of a map that has nothing to do with the rows, exactly.

    References
    ----------
    .. [1] Venna and Kaski, "Neighborhood Preservation in Nonlinear Projection Methods: An
       Experimental Study", 2001
    .. [2] Wang, Huang, Rudin and Shaposhnik, "Understanding How Dimension Reduction Tools Work",
       2021, arXiv:2012.04456
    """

    trustworthiness: float
    continuity: float
    random_triplets: float
    knn_accuracy: float | None
    neighborhood_hit: float | None
    silhouette: float | None
    nmi: float | None
    centroid_triplets: float | None
    n_rows: int
    n_neighbors: int
    n_test: int | None
    unrelated: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers."""
        return plain(self)

    def __str__(self) -> str:
        """Return a table, with what an unrelated map would have where that is known."""
        names = (
            "trustworthiness",
            "continuity",
            "random_triplets",
            "knn_accuracy",
            "neighborhood_hit",
            "silhouette",
            "nmi",
            "centroid_triplets",
        )
        known = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        rows = {name: (value, self.unrelated.get(name)) for name, value in known.items()}
        judged = "" if self.n_test is None else f"; k-NN judged on {self.n_test} test rows"
        first = f"{self.n_rows} rows, {self.n_neighbors} neighbours{judged}"
        return "\n".join([first, "", *table(("map", "unrelated"), rows)])


def embedding(
    X: Any,
    Z: Any,
    y: Any = None,
    *,
    Z_test: Any = None,
    y_test: Any = None,
    n_neighbors: int = 5,
    max_rows: int = 10_000,
    random_state: int = 0,
) -> EmbeddingReport:
    """Judge a map Z of the rows X.

    Distances are Euclidean. Time is quadratic in the number of rows, memory is bounded.

    Parameters
    ----------
    X : array-like, shape (n, D) or (n, *event_shape)
        The rows.
    Z : array-like, shape (n, d)
        Their places on the map, as `VAE.transform` gives them.
    y : array-like, shape (n,), optional
        Labels, known for all rows.
    Z_test, y_test : array-like, shapes (m, d) and (m,), optional
        Rows that the map was not fitted to. Where they are given, the accuracy of nearest
        neighbours is that of all rows of Z and y on these; otherwise each row is judged by the
        others.
    n_neighbors : int
        Less than half the number of rows.
    max_rows : int
        All but the accuracy on test rows is computed from at most so many rows, drawn at random.
    random_state : int
        Decides which rows and triples are drawn, where k-means begins, and which of equally near
        rows count as neighbours.

    Returns
    -------
    EmbeddingReport

    Raises
    ------
    DataError
        The arrays do not fit together, are not finite or constant, have fewer rows than twice the
        neighbours, or one class only.
    ParameterError

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.evaluation import embedding
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> report = embedding(X, X[:, :2], X[:, 0] > 0)
    >>> bool(0.5 < report.trustworthiness < embedding(X, X).trustworthiness == 1)
    True
    >>> bool(report.knn_accuracy > 0.9 > report.unrelated["neighborhood_hit"])
    True
    """
    k = check_count(n_neighbors, 1, "n_neighbors")
    at_most = check_count(max_rows, 1, "max_rows")
    X, Z = as_rows(X, "X"), as_rows(Z, "Z")
    if len(X) != len(Z):
        raise DataError(f"X has {len(X)} rows and Z has {len(Z)}: Z must map each row of X.")
    n = min(len(X), at_most)
    if 2 * k >= n:
        raise DataError(
            f"{n} rows are too few for {k} neighbours: more than {2 * k} are needed. Give more "
            "rows (max_rows), or a smaller n_neighbors."
        )
    classes, codes = (None, None) if y is None else as_labels(y, "y", len(X), "X")
    test = _test_rows(Z, classes, Z_test, y_test)
    chosen = subsample(len(X), at_most, generator(random_state, 0))
    rows, places = X[chosen].astype(np.float64), Z[chosen].astype(np.float64)
    check_varied(rows, "X", "There is no structure to keep.")
    check_varied(places, "Z", "The map shows nothing: has the posterior collapsed?")
    kept_x, kept_z, neighbors = _neighborhoods(rows, places, k)
    triplets = _random_triplets(rows, places, generator(random_state, 1))
    figures: dict[str, Any] = dict.fromkeys(
        ("knn_accuracy", "neighborhood_hit", "silhouette", "nmi", "centroid_triplets", "n_test")
    )
    unrelated = dict.fromkeys(("trustworthiness", "continuity"), _unrelated_trust(n, k))
    unrelated["random_triplets"] = 0.5
    if classes is not None and codes is not None:
        own = codes[chosen]
        seed = int(generator(random_state, 2).integers(2**31))
        figures |= _label_figures(rows, places, own, neighbors, len(classes), seed)
        counts = np.bincount(own)
        unrelated["neighborhood_hit"] = float(counts @ (counts - 1) / (n * (n - 1)))
        if figures["centroid_triplets"] is not None:
            unrelated["centroid_triplets"] = 0.5
        if test is not None:
            at, truth = test
            guess = vote(codes[nearest(at, Z, k)[0]], len(classes))
            figures |= {"knn_accuracy": float(np.mean(guess == truth)), "n_test": len(at)}
    return EmbeddingReport(
        trustworthiness=kept_z,
        continuity=kept_x,
        random_triplets=triplets,
        n_rows=n,
        n_neighbors=k,
        unrelated=unrelated,
        **figures,
    )


def _test_rows(
    Z: Array, classes: Array | None, Z_test: Any, y_test: Any
) -> tuple[Array, Places] | None:
    """Return test rows and the numbers of their classes, −1 for one that y does not have."""
    if Z_test is None and y_test is None:
        return None
    if Z_test is None or y_test is None or classes is None:
        raise DataError("Test rows are judged by labels: give y, Z_test and y_test together.")
    at = as_rows(Z_test, "Z_test")
    if at.shape[1] != Z.shape[1]:
        raise DataError(f"Z_test has {at.shape[1]} columns, but Z has {Z.shape[1]}.")
    truth = known_labels(y_test, "y_test", len(at), "Z_test")
    return at, numbered(truth, classes, "y_test", "y")


def _neighborhoods(X: Floats, Z: Floats, k: int) -> tuple[float, float, Places]:
    """Return continuity, trustworthiness, and the neighbours on the map, shape (n, k).

    The rank of a neighbour is one more than the number of rows that are nearer, so that equally
    near ones share the best.
    """
    n = len(X)
    excess_x = excess_z = 0
    neighbors = np.empty((n, k), np.int64)
    for part in blocks(n, n):
        own = np.arange(part.stop - part.start), np.arange(part.start, part.stop)
        in_x, in_z = squared_distances(X[part], X), squared_distances(Z[part], Z)
        in_x[own] = in_z[own] = np.inf
        near_x, near_z = _nearest_of(in_x, k), _nearest_of(in_z, k)
        excess_z += _excess(in_x, near_z, k)
        excess_x += _excess(in_z, near_x, k)
        neighbors[part] = near_z
    scale = 2 / (n * k * (2 * n - 3 * k - 1))
    return 1 - scale * excess_x, 1 - scale * excess_z, neighbors


def _nearest_of(distances: Floats, k: int) -> Places:
    return np.argpartition(distances, k - 1, axis=1)[:, :k]


def _excess(distances: Floats, neighbors: Places, k: int) -> int:
    """Return the sum of max(0, rank − k) over neighbours (b, k) found elsewhere."""
    total = 0
    for column in neighbors.T:
        bound = np.take_along_axis(distances, column[:, None], 1)
        total += int(np.maximum(0, (distances < bound).sum(1) + 1 - k).sum())
    return total


def _unrelated_trust(n: int, k: int) -> float:
    """Return what trustworthiness is expected to be where all ranks are equally likely."""
    return 1 - (n - 1 - k) * (n - k) / ((n - 1) * (2 * n - 3 * k - 1))


def _order(a: Floats, b: Floats, c: Floats) -> Floats:
    """Return the sign of |a − b|² − |a − c|² for rows (m, D)."""
    difference = np.sum((a - b) ** 2, 1) - np.sum((a - c) ** 2, 1)
    sign: Floats = np.sign(difference)
    return sign


def _agreement(a: Floats, b: Floats) -> Floats:
    """Return 1 where two signs agree, 0 where they are opposite, ½ where one of them is 0."""
    return 1 - np.abs(a - b) / 2


def _random_triplets(X: Floats, Z: Floats, random: np.random.Generator) -> float:
    n, total = len(X), 0.0
    for _ in range(N_PAIRS):
        # Three different rows: two offsets from the first that differ.
        one = random.integers(1, n, size=n)
        other = random.integers(1, n - 1, size=n)
        other += other >= one
        for part in blocks(n, X.shape[1]):
            i = np.arange(part.start, part.stop)
            j, l = (i + one[part]) % n, (i + other[part]) % n
            total += float(_agreement(_order(X[i], X[j], X[l]), _order(Z[i], Z[j], Z[l])).sum())
    return total / (n * N_PAIRS)


def _centroid_triplets(X: Floats, Z: Floats, codes: Places) -> float | None:
    """Compare the order of distances of all class means to each; None for fewer than three."""
    present = np.unique(codes)
    if len(present) < 3:
        return None
    total = 0.0
    in_x, in_z = (
        squared_distances(m, m)
        for m in (np.stack([rows[codes == c].mean(0) for c in present]) for rows in (X, Z))
    )
    for i in range(len(present)):
        x, z = np.delete(in_x[i], i), np.delete(in_z[i], i)
        j, l = np.triu_indices(len(x), 1)
        total += float(_agreement(np.sign(x[j] - x[l]), np.sign(z[j] - z[l])).sum())
    return total / (len(present) * math.comb(len(present) - 1, 2))


def _label_figures(
    X: Floats, Z: Floats, codes: Places, neighbors: Places, n_classes: int, seed: int
) -> dict[str, float | None]:
    from sklearn import config_context
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import normalized_mutual_info_score, silhouette_score

    n_present = len(np.unique(codes))
    if not 2 <= n_present < len(codes):
        raise DataError(
            f"y has {n_present} classes among the {len(codes)} rows that are looked at; at least "
            "2 are needed, and fewer than rows."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer places on the map than classes
        clusters = KMeans(n_present, n_init=10, random_state=seed).fit_predict(Z)
    with config_context(working_memory=WORKING_MEMORY):
        silhouette = float(silhouette_score(Z, codes))
    return {
        "knn_accuracy": float(np.mean(vote(codes[neighbors], n_classes) == codes)),
        "neighborhood_hit": float(np.mean(codes[neighbors] == codes[:, None])),
        "silhouette": silhouette,
        "nmi": float(normalized_mutual_info_score(codes, clusters)),
        "centroid_triplets": _centroid_triplets(X, Z, codes),
    }
