"""How each kind of semi-supervised classifier is fitted: which models, in which order."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from skvae.estimators._labels import UNKNOWN
from skvae.estimators._spreading import Spreading
from skvae.estimators.vae import VAE
from skvae.exceptions import DataError

if TYPE_CHECKING:
    from skvae.distributed import World
    from skvae.estimators._fit_rows import LabelledRows
    from skvae.estimators.classifier import VAEClassifier

__all__ = ["EndToEnd", "Features", "Recipe", "Stack", "below", "guessed", "spread"]

INFORMATIVE = 0.1  # standard deviation of a posterior mean over the rows, from which on it is kept


class Recipe(ABC):
    """A way to fit a classifier."""

    @abstractmethod
    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""


class EndToEnd(Recipe):
    """One model, trained at once.

    Parameters
    ----------
    pseudo_labels : float or None
        As the classifier's; None is that.
    base : VAE or None
        The VAE below, where it is there already.
    """

    def __init__(self, pseudo_labels: float | None = None, base: VAE | None = None) -> None:
        self.pseudo_labels, self.base = pseudo_labels, base

    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""
        own._spreading = own._judge_body = None
        share = own.pseudo_labels if self.pseudo_labels is None else self.pseudo_labels
        assert rows.y is not None
        if share and (rows.y == UNKNOWN).any():
            rows = guessed(rows, spread(self.base or below(own, rows, world), rows, own), share)
        own._start(rows)
        own._train(rows, world)


class Features(Recipe):
    """M1: a VAE of all rows, and a classifier of posterior means."""

    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""
        base = below(own, rows, world)
        own._core, own.likelihood_ = base._core.copy(), base.likelihood_
        own.history_, own.n_iter_ = copy.copy(base.history_), base.n_iter_
        assert rows.y is not None
        if own.classifier is None:
            own._spreading = spread(base, rows, own)
            return
        own._spreading = None
        Z = own._core.posterior_mean(rows.X)
        own.classifier_ = clone(own.classifier)
        known = rows.y != UNKNOWN
        # scikit-learn's semi-supervised classifiers take −1 as this library does.
        some = slice(None) if _transductive(own.classifier_) else known
        own.classifier_.fit(Z[some], rows.y[some])


class Stack(Recipe):
    """M1+M2: a VAE of all rows, and M2 of its latent vectors, drawn afresh in each epoch."""

    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""
        from skvae.models import M1M2

        base = below(own, rows, world)
        own._begin()
        own._spreading = None
        own.likelihood_ = base.likelihood_
        moved = base._core.posterior_mean(rows.some(10_000)).std(0)
        kept = np.flatnonzero(moved > INFORMATIVE)
        if not len(kept):
            raise DataError(
                f"{type(own).__name__}(model={own.model!r}): the posterior means of the VAE below "
                "do not differ between rows, so there is nothing to learn classes from. Train it "
                "for longer, or choose model='m2'."
            )
        wiring = own._wiring()
        assert isinstance(wiring, M1M2)
        own._core = base._core.stacked(wiring.replace(kept=tuple(kept.tolist())), rows)
        if own.pseudo_labels:
            rows = guessed(rows, spread(base, rows, own), own.pseudo_labels)
        own._train(rows, world, upper=True)


def spread(base: VAE, rows: LabelledRows, own: VAEClassifier) -> Spreading:
    """Return what labels say of all rows along the graph of their posterior means."""
    assert rows.y is not None
    return Spreading.fit(base._core.posterior_mean(rows.X), rows.y, len(own.classes_))


def guessed(rows: LabelledRows, spreading: Spreading, share: float) -> LabelledRows:
    """Return the rows with guesses for a share of them, the surest, and all labels."""
    assert rows.y is not None
    if len(spreading.shares) != len(rows):  # all labels are known
        return rows
    best, second = np.partition(spreading.shares, -2, axis=1)[:, :-3:-1].T
    margin = best - second
    sure = margin >= np.quantile(margin, 1 - share)
    guess = np.where(sure, spreading.shares.argmax(1), UNKNOWN)
    guess = np.where(rows.y == UNKNOWN, guess, rows.y)
    return rows.labelled(rows.y, guess)


def below(own: VAEClassifier, rows: LabelledRows, world: World) -> VAE:
    """Return the VAE below: the one that was given, or one trained on the rows."""
    base = own.base
    if base is not None and hasattr(base, "_core"):
        check_is_fitted(base)
        if base._core.spec.event_shape != own.event_shape_:
            raise DataError(
                f"base was fitted to rows of shape {base._core.spec.event_shape}, but those of X "
                f"have {own.event_shape_}."
            )
        own.base_ = base
        return base
    shared = own.get_params(deep=False)
    if base is None:
        names = VAE().get_params(deep=False)
        changed: dict[str, Any] = {"model": "vae", "network": own._body, "warm_start": False}
        base = VAE(**({k: v for k, v in shared.items() if k in names} | changed))
    else:
        base = clone(base)
    base._take_form(own)
    base._start(rows)
    base._train(rows, world, stage="base")
    own.base_ = base
    return base


def _transductive(classifier: Any) -> bool:
    from sklearn.semi_supervised import LabelPropagation, LabelSpreading, SelfTrainingClassifier

    last = classifier.steps[-1][1] if hasattr(classifier, "steps") else classifier
    return isinstance(last, LabelPropagation | LabelSpreading | SelfTrainingClassifier)
