"""The semi-supervised classifier that works best by default, and the names of all of them."""

from __future__ import annotations

import sys
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from skvae.estimators._labels import UNKNOWN
from skvae.estimators._recipes import (
    EndToEnd,
    Features,
    Recipe,
    Stack,
    below,
    guessed,
    spread,
)
from skvae.estimators._spreading import judge_by_held_out
from skvae.exceptions import ParameterError

if TYPE_CHECKING:
    from skvae.distributed import World
    from skvae.estimators._fit_rows import LabelledRows
    from skvae.estimators.classifier import VAEClassifier
    from skvae.networks import Network

__all__ = ["RECIPES", "recipe_of"]

SMALLEST_IMAGE = 8
CHANNELS = 16  # of the first level of q(y | x)
SURE = 0.7  # share of the rows whose class the graph may guess
BELIEVED = 0.95  # probability of a class from which on rows are made with it


class Auto(Recipe):
    """M2 whose q(y | x) is learned in the way that suits the rows."""

    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""
        recipe, own.choice_ = self._chosen(own, rows, world)
        if own.verbose and world.is_main:
            sys.stderr.write(f"{type(own).__name__}: {own.choice_}\n")
        recipe.fit(own, rows, world)

    def _chosen(self, own: VAEClassifier, rows: LabelledRows, world: World) -> tuple[Recipe, str]:
        shape = own.event_shape_
        spreading = "labels that spread along a graph of the posterior means of a VAE"
        if len(shape) == 3 and min(shape[1:]) >= SMALLEST_IMAGE:
            return Images(), (
                f"model='m2' with a convolutional q(y | x). It began with {spreading}, and "
                "learned to say the same of moved, turned, stretched and partly erased images."
            )
        base = below(own, rows, world)
        assert rows.y is not None
        core, found = base._core, None
        if not core.spec.likelihood.sequential:  # of which there is no logistic regression
            found = judge_by_held_out(
                core.posterior_mean(rows.X), core.shown(rows.X), rows.y, len(own.classes_)
            )
        if found is None:
            return EndToEnd(SURE, base), f"model='m2', begun with {spreading}."
        figures = (
            f"of labels that were held out, these found {found[0]}, and a logistic regression "
            f"{found[1]}"
        )
        if found[0].log_loss > found[1].log_loss:
            return Linear(), (
                f"model='m2' with the logistic regression of the labelled rows as q(y | x), not "
                f"{spreading}: {figures}."
            )
        return EndToEnd(SURE, base), f"model='m2', begun with {spreading}: {figures}."


class Judged(Recipe):
    """M2 with q(y | x) first, and what makes rows of classes then."""

    @abstractmethod
    def body(self, own: VAEClassifier) -> Network:
        """Return the body of q(y | x)."""

    @abstractmethod
    def judge(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Let q(y | x) learn."""

    def prepared(self, own: VAEClassifier, rows: LabelledRows, world: World) -> LabelledRows:
        """Return the rows as `judge` needs them."""
        return rows

    def fit(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit on rows with and without classes."""
        own._spreading = None
        own._judge_body = self.body(own)
        rows = self.prepared(own, rows, world)
        own._start(rows)
        self.judge(own, rows, world)
        judge = own._core.judge()
        for parameter in judge:
            parameter.requires_grad_(False)
        log_p = own._core.log_class(rows.X)
        assert rows.y is not None
        y = np.where(log_p.max(1) >= np.log(BELIEVED), log_p.argmax(1), UNKNOWN)
        y = np.where(rows.y == UNKNOWN, y, rows.y)
        try:
            own._train(rows.labelled(y), world)
        finally:
            for parameter in judge:
                parameter.requires_grad_(True)


class Images(Judged):
    """q(y | x) begins with labels along a graph, and learns from changed images."""

    def body(self, own: VAEClassifier) -> Network:
        """Return few convolutions."""
        from skvae.networks import Conv

        return Conv.of(own.event_shape_).replace(channels=CHANNELS)

    def prepared(self, own: VAEClassifier, rows: LabelledRows, world: World) -> LabelledRows:
        """Return the rows with the guesses that are sure."""
        return guessed(rows, spread(below(own, rows, world), rows, own), SURE)

    def judge(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Let q(y | x) say the same of changed images."""
        from skvae.augmentation import Affine, Erase
        from skvae.objectives import Consistency, Discriminative, Supervised

        strong = (Affine(shift=0.0), Erase())
        weak = (Affine(degrees=0.0, scale=0.0, shear=0.0, shift=0.07),)
        judging = Discriminative() + Supervised(1.0) + Consistency(weak=(), strong=strong)
        own._train(rows, world, objective=judging, augment=weak, stage="judge")


class Linear(Judged):
    """q(y | x) is the logistic regression of the labelled rows."""

    def body(self, own: VAEClassifier) -> Network:
        """Return none: q(y | x) is linear."""
        from skvae.networks import MLP

        return MLP(())

    def judge(self, own: VAEClassifier, rows: LabelledRows, world: World) -> None:
        """Fit the regression."""
        from sklearn.linear_model import LogisticRegression

        assert rows.y is not None
        known = rows.y != UNKNOWN
        features = own._core.judged_features(rows.X[known])
        found = LogisticRegression(max_iter=1000).fit(features, rows.y[known])
        own._core.put_verdict(found.coef_, found.intercept_)


RECIPES: dict[str, type[Recipe]] = {
    "auto": Auto,
    "m1": Features,
    "m2": EndToEnd,
    "m1+m2": Stack,
    "adgm": EndToEnd,
    "sdgm": EndToEnd,
    "ladder": EndToEnd,
    "mixture": EndToEnd,
}


def recipe_of(model: Any) -> Recipe:
    """Return the recipe of a name or of a wiring with classes.

    Raises
    ------
    ParameterError
        There is none.
    """
    name = getattr(model, "name", model)
    name = {"ladder_m2": "ladder", "class_mixture": "mixture"}.get(name, name)
    if name not in RECIPES:
        raise ParameterError(
            f"model={model!r} is no model of rows with classes; choose from {', '.join(RECIPES)}."
        )
    return RECIPES[name]()
