"""The semi-supervised classifier that works best by default, and the names of all of them."""

from __future__ import annotations

import sys
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
from skvae.estimators._spreading import held_out_accuracy
from skvae.exceptions import ParameterError

if TYPE_CHECKING:
    from skvae.distributed import World
    from skvae.estimators._fit_rows import InMemory
    from skvae.estimators.classifier import VAEClassifier
    from skvae.networks import Network

__all__ = ["RECIPES", "judge_of", "recipe_of"]

SMALLEST_IMAGE = 8
CHANNELS = 16  # of the first level of q(y | x)
SURE = 0.7  # share of the rows whose class the graph may guess
BELIEVED = 0.95  # probability of a class from which on rows are made with it


def judge_of(event_shape: tuple[int, ...]) -> Network | None:
    """Return the body of q(y | x) for images, or None for other rows."""
    from skvae.networks import Conv

    if len(event_shape) != 3 or min(event_shape[1:]) < SMALLEST_IMAGE:
        return None
    return Conv.of(event_shape).replace(channels=CHANNELS)


class Auto(Recipe):
    """M2 that begins with labels along a graph; q(y | x) of images learns from changed ones."""

    def fit(self, own: VAEClassifier, rows: InMemory, world: World) -> None:
        """Fit on rows with and without classes."""
        begun = "It began with labels that spread along a graph of the posterior means of a VAE"
        recipe: Recipe = Images()
        own.choice_ = (
            f"model='m2' with a convolutional q(y | x). {begun}, and learned to say the same of "
            "moved, turned, stretched and partly erased images."
        )
        if judge_of(own.event_shape_) is None:
            base = below(own, rows, world)
            assert rows.y is not None
            Z = base._core.posterior_mean(rows.X)
            found = held_out_accuracy(Z, rows.y, len(own.classes_))
            clusters = found is None or found[0] >= found[1]
            recipe = EndToEnd(SURE if clusters else 0.0, base)
            own.choice_ = (
                f"model='m2', pseudo_labels={SURE}. {begun}"
                if clusters
                else "model='m2'. It did "
                "not begin with labels that spread along a graph of the posterior means of a VAE"
            )
            if found is not None:
                own.choice_ += (
                    f": of labels that were held out, these find {found[0]:.0%}, and a logistic "
                    f"regression {found[1]:.0%}"
                )
            own.choice_ += "."
        if own.verbose and world.is_main:
            sys.stderr.write(f"{type(own).__name__}: {own.choice_}\n")
        recipe.fit(own, rows, world)


class Images(Recipe):
    """A VAE of all rows, labels along the graph of its means, q(y | x), and p(x | y, z) last."""

    def fit(self, own: VAEClassifier, rows: InMemory, world: World) -> None:
        """Fit on rows with and without classes."""
        from skvae.augmentation import Affine, Erase
        from skvae.estimators._fit_rows import InMemory
        from skvae.objectives import Consistency, Discriminative, Supervised

        own._spreading = None
        base = below(own, rows, world)
        rows = guessed(rows, spread(base, rows, own), SURE)
        own._start(rows)
        strong = (Affine(shift=0.0), Erase())
        judging = Discriminative() + Supervised(1.0) + Consistency(weak=(), strong=strong)
        weak = (Affine(degrees=0.0, scale=0.0, shear=0.0, shift=0.07),)
        own._train(rows, world, objective=judging, augment=weak, stage="judge")
        judge = own._core.judge()
        for parameter in judge:
            parameter.requires_grad_(False)
        log_p = own._core.log_class(rows.X)
        assert rows.y is not None
        y = np.where(log_p.max(1) >= np.log(BELIEVED), log_p.argmax(1), UNKNOWN)
        y = np.where(rows.y == UNKNOWN, y, rows.y)
        try:
            own._train(InMemory(rows.X, rows.seed, y), world)
        finally:
            for parameter in judge:
                parameter.requires_grad_(True)


RECIPES: dict[str, type[Recipe]] = {
    "auto": Auto,
    "m1": Features,
    "m2": EndToEnd,
    "m1+m2": Stack,
    "ladder": EndToEnd,
}


def recipe_of(model: Any) -> Recipe:
    """Return the recipe of a name or of a wiring with classes.

    Raises
    ------
    ParameterError
        There is none.
    """
    name = getattr(model, "name", model)
    name = {"ladder_m2": "ladder"}.get(name, name)
    if name not in RECIPES:
        raise ParameterError(
            f"model={model!r} is no model of rows with classes; choose from {', '.join(RECIPES)}."
        )
    return RECIPES[name]()
