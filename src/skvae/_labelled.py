"""Where the classes of a fit on the command line come from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from skvae import datasets, files
from skvae._options import Options
from skvae.exceptions import DataError, ParameterError
from skvae.few_labels import draw_labels

__all__ = ["ClassOptions", "known_labels"]


@Parameter(name="*")
@dataclass(frozen=True)
class ClassOptions:
    """Flags of models that learn classes."""

    labels: Annotated[
        int | None,
        Parameter(
            help="Learn the classes of a named data set from so many labels, equally many of each "
            "class, drawn by --random-state."
        ),
    ] = None
    target: Annotated[
        str | None,
        Parameter(
            help="Learn classes from this column of numbers; empty cells and -1 are unknown."
        ),
    ] = None
    alpha: Annotated[
        float | None, Parameter(help="Weight of the known classes; see VAEClassifier.")
    ] = None
    pseudo_labels: Annotated[
        float | None,
        Parameter(help="Share of the rows whose class is guessed first; see VAEClassifier."),
    ] = None

    @property
    def asked_for(self) -> bool:
        """Whether classes are learned."""
        if self.labels is not None and self.target is not None:
            raise ParameterError(
                "--labels is for named data sets and --target for files; not both."
            )
        asked = self.labels is not None or self.target is not None
        if not asked and self.parameters():
            raise ParameterError(
                "--alpha and --pseudo-labels are for models that learn classes; say which with "
                "--target COLUMN, or with --labels N for a named data set."
            )
        return asked

    def parameters(self) -> dict[str, Any]:
        """Return what the classifier is given."""
        given = {"alpha": self.alpha, "pseudo_labels": self.pseudo_labels}
        return {name: value for name, value in given.items() if value is not None}

    def separate(
        self, data: str, X: Any, seed: int | None, options: Options
    ) -> tuple[Any, NDArray[Any]]:
        """Return rows without classes, and their classes.

        Raises
        ------
        ParameterError, DataError
            There are none, or not as many.
        """
        if self.labels is not None:
            return X, self._drawn(data, seed, options)
        if not isinstance(X, files.Table) or X.columns is None:
            raise ParameterError(f"--target {self.target}: {data} has no columns with names.")
        if self.target not in X.columns:
            raise ParameterError(
                f"--target {self.target}: the columns of {data} are {', '.join(X.columns[:20])}."
            )
        at = list(X.columns).index(self.target)
        others = [i for i in range(len(X.columns)) if i != at]
        rows = files.Table(X.values[:, others], tuple(X.columns[i] for i in others))
        return rows, _whole(X.values[:, at])

    def _drawn(self, data: str, seed: int | None, options: Options) -> NDArray[Any]:
        y = known_labels(data, options)
        if y is None:
            raise ParameterError(
                f"--labels is for named data sets ({', '.join(datasets.NAMES)}), whose classes "
                f"are known. For {data}, name the column of classes with --target."
            )
        n_classes, smallest = len(np.unique(y)), np.bincount(y)[np.unique(y)].min()
        assert self.labels is not None
        each, left = divmod(self.labels, n_classes)
        if left or not 1 <= each <= smallest:
            raise DataError(
                f"--labels {self.labels}: {data} has {n_classes} classes of at least {smallest} "
                f"rows, and each gets as many labels; give a multiple of {n_classes} from "
                f"{n_classes} to {n_classes * smallest}."
            )
        return draw_labels(y, each, 0 if seed is None else seed)


def known_labels(data: str, options: Options) -> NDArray[np.int64] | None:
    """Return the classes of a named data set; None for files."""
    name, _, part = data.partition(":")
    if name not in datasets.NAMES or Path(data).exists():
        return None
    found = datasets.load(name, progress=options.say)
    return np.asarray(found.y_test if part == "test" else found.y_train).astype(np.int64)


def _whole(y: NDArray[Any]) -> NDArray[Any]:
    """Return numbers of classes as integers where all are, so that they are printed as such."""
    unknown = np.isnan(y)
    if not (unknown | (y == np.round(y))).all():
        return y
    return np.where(unknown, -1, y).astype(np.int64)
