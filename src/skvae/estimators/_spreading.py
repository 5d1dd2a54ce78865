"""A classifier of latent vectors that lets labels spread along a graph of nearest neighbours."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae.estimators._labels import UNKNOWN
from skvae.graphs import N_NEIGHBORS, Neighbors, mutual

__all__ = ["HeldOut", "Spreading", "judge_by_held_out"]

Array = NDArray[Any]

ALPHA = 0.99
MAX_ITER = 200
FLOOR = 1e-4  # of a probability: where all neighbours agree, they may still be wrong


@dataclass
class Spreading:
    """What labels say of all rows of a fit, and of others by their neighbours among these [1]_.

    Attributes
    ----------
    Z : ndarray of float32, shape (n, d)
    shares : ndarray of float32, shape (n, n_classes)
        How far each class reached each row; they sum to 1.

    References
    ----------
    .. [1] Zhou et al., "Learning with Local and Global Consistency", 2003
    """

    Z: Array
    shares: Array

    @classmethod
    def fit(cls, Z: Array, codes: NDArray[np.int64], n_classes: int, graph: Any = None) -> Self:
        """Spread labels over rows Z (n, d) from those with a class.

        Parameters
        ----------
        codes : shape (n,)
            Numbers of classes, −1 for unknown.
        graph : sparse matrix, shape (n, n), or None
            That of `graphs.mutual`, where it is there already.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.semi_supervised import LabelSpreading

        Z = np.ascontiguousarray(Z, np.float32)
        known = codes != UNKNOWN
        if len(Z) <= N_NEIGHBORS or known.all():
            return cls(Z[known], np.eye(n_classes, dtype=np.float32)[codes[known]])
        graph = mutual(Neighbors(Z)) if graph is None else graph
        model = LabelSpreading(kernel=lambda *_: graph, alpha=ALPHA, max_iter=MAX_ITER)
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            # The ranking of the classes settles long before the sum of all changes is below tol.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(np.arange(len(Z))[:, None], codes)
        shares = np.asarray(model.label_distributions_, np.float32)
        # What no label reached is of the classes as often as they were seen.
        often = np.bincount(codes[known], minlength=n_classes) / known.sum()
        shares[~np.isfinite(shares).all(1)] = often
        shares[known] = np.eye(n_classes, dtype=np.float32)[codes[known]]
        return cls(Z, shares)

    def log_proba(self, Z: Array) -> Array:
        """Return log-probabilities of the classes for rows Z (m, d), shape (m, n_classes)."""
        nearest = Neighbors(self.Z).find(np.asarray(Z, np.float32), min(N_NEIGHBORS, len(self.Z)))
        p = self.shares[nearest].mean(1, dtype=np.float64)
        p = (1 - FLOOR * p.shape[1]) * p + FLOOR
        return np.asarray(np.log(p), Z.dtype)


@dataclass(frozen=True)
class HeldOut:
    """How well labels are found again from others.

    Attributes
    ----------
    accuracy : float
    log_loss : float
        Nats.
    """

    accuracy: float
    log_loss: float

    @classmethod
    def of(cls, p: Array, codes: NDArray[np.int64]) -> Self:
        """Judge probabilities (n, n_classes) of rows with these classes (n,)."""
        known = np.clip(p[np.arange(len(codes)), codes], FLOOR, 1)
        return cls(float((p.argmax(1) == codes).mean()), float(-np.log(known).mean()))

    def __str__(self) -> str:
        """Return both figures."""
        return f"{self.accuracy:.0%} (log loss {self.log_loss:.2f} nats)"


def judge_by_held_out(
    Z: Array, features: Array, codes: NDArray[np.int64], n_classes: int, n_folds: int = 5
) -> tuple[HeldOut, HeldOut] | None:
    """Judge spreading, and regression, by labels that are found again from the others.

    Labels spread along the graph of Z; the regression is a logistic one of the features. Where
    that is better, classes are no clusters: by the log loss, for a few dozen labels say little by
    how many are right, and classes that are no clusters make whatever spreads them too sure. None
    where a class has but one label.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.flatnonzero(codes != UNKNOWN)
    if np.bincount(codes[known], minlength=n_classes).min() < 2 or len(Z) <= N_NEIGHBORS:
        return None
    graph = mutual(Neighbors(np.ascontiguousarray(Z, np.float32)))
    order = known[np.argsort(codes[known], kind="stable")]
    n_folds = min(n_folds, len(order))
    fold = np.arange(len(order)) % n_folds  # takes turns within each class
    p = np.zeros((2, len(order), n_classes))
    for i in range(n_folds):
        held, kept = order[fold == i], order[fold != i]
        part = np.full_like(codes, UNKNOWN)
        part[kept] = codes[kept]
        p[0, fold == i] = Spreading.fit(Z, part, n_classes, graph).shares[held]
        regression = LogisticRegression(max_iter=1000).fit(features[kept], codes[kept])
        p[1, fold == i] = regression.predict_proba(features[held])
    return HeldOut.of(p[0], codes[order]), HeldOut.of(p[1], codes[order])
