"""How much samples of a model are like real rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._figures import plain, table
from skvae.evaluation._rows import (
    as_labels,
    as_rows,
    check_count,
    check_varied,
    generator,
    known_labels,
    subsample,
)
from skvae.evaluation.features import ClassifierFeatures, event_shape_of
from skvae.evaluation.two_samples import (
    CLASSIFIERS,
    Copies,
    TwoSampleTest,
    copies,
    expected_coverage,
    frechet_distance,
    kernel_distance,
    support,
    two_sample_test,
)
from skvae.exceptions import DataError, ParameterError, UnreliableEstimateWarning

__all__ = ["Features", "GenerationReport", "generation"]

Array = NDArray[Any]
Places = NDArray[np.int64]
Features: TypeAlias = (
    str | ClassifierFeatures | Callable[[Array], Any] | tuple[Any, Any] | list[Any] | None
)


@dataclass(frozen=True)
class GenerationReport:
    """How much generated rows are like real ones, and what two samples of one law would have.

    Attributes
    ----------
    frechet_distance, kernel_distance : float
        Of the features; see the functions of these names. 0 is best.
    kernel_standard_error : float
    precision, recall, density, coverage : float
        Of the features; see `Support`.
    two_sample : dict of str to TwoSampleTest
        Whether logistic regression and trees can tell generated features from real ones.
    synthetic_accuracy, real_accuracy : float or None
        Share of real rows that a classifier labels right which was trained on generated rows, and
        on as many other real ones. None without the labels of both.
    copies : Copies or None
        Nearness of the rows themselves to training rows. None without these.
    one_law : dict of str to float
        What two samples of the law of the real rows would have. Exact are 0 for the kernel
        distance, `density`, `coverage` (of laws with a density), the accuracy of the classifiers,
        `ratio`, `nearer_than_real`. The Fréchet distance is that of two random halves of the real
        rows, in proportion to 1 / n + 1 / m; precision and recall are those of these halves;
        accuracy and duplicates are those of other real rows.
    features : str
        Which ones.
    features_accuracy : float or None
        Of the classifier that gave them, on rows that were held out.
    n_real, n_generated, n_features, n_neighbors : int
    """

    frechet_distance: float
    kernel_distance: float
    kernel_standard_error: float
    precision: float
    recall: float
    density: float
    coverage: float
    two_sample: dict[str, TwoSampleTest]
    synthetic_accuracy: float | None
    real_accuracy: float | None
    copies: Copies | None
    one_law: dict[str, float]
    features: str
    features_accuracy: float | None
    n_real: int
    n_generated: int
    n_features: int
    n_neighbors: int

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers, None where one is not finite."""
        return plain(self)

    def __str__(self) -> str:
        """Return a table, with what two samples of one law would have beside it."""
        known: dict[str, float | None] = {
            name: getattr(self, name) for name in (*LAWS, *SUPPORT, "synthetic_accuracy")
        }
        known |= {f"two_sample.{name}": one.accuracy for name, one in self.two_sample.items()}
        if self.copies is not None:
            for name in ("ratio", "nearer_than_real", "duplicates"):
                known[f"copies.{name}"] = getattr(self.copies, name)
        rows = {
            name: (value, self.one_law.get(name))
            for name, value in known.items()
            if value is not None
        }
        accuracy = (
            ""
            if self.features_accuracy is None
            else f" ({self.features_accuracy:.1%} right on held-out rows)"
        )
        first = (
            f"{self.n_generated} generated and {self.n_real} real rows; {self.n_features} "
            f"features: {self.features}{accuracy}; {self.n_neighbors} neighbours"
        )
        return "\n".join([first, "", *table(("generated", "one law"), rows)])


LAWS = ("frechet_distance", "kernel_distance", "kernel_standard_error")
SUPPORT = ("precision", "recall", "density", "coverage")


def generation(
    real: Any,
    generated: Any,
    *,
    features: Features = None,
    y_real: Any = None,
    y_generated: Any = None,
    train: Any = None,
    y_train: Any = None,
    event_shape: tuple[int, ...] | None = None,
    n_neighbors: int = 5,
    max_rows: int = 10_000,
    random_state: int = 0,
) -> GenerationReport:
    """Compare generated rows with real ones.

    Parameters
    ----------
    real : array-like, shape (n, D) or (n, *event_shape)
        Rows that the model was not fitted to.
    generated : array-like, shape (m, D) or (m, *event_shape)
        As ``VAE.sample`` gives them, in the same units. Whether they are draws or means of
        p(x | z) moves the figures more than most changes of a model.
    features : {"classifier", "rows"}, ClassifierFeatures, callable, pair of arrays, or None
        In what the samples are compared. ``"classifier"``: `ClassifierFeatures` of the labelled
        rows (``train`` if there are labels, else ``real``); one that is not fitted yet is fitted
        to these. ``"rows"``: the rows, divided by the spread of real ones, of each column or of
        an image as a whole. A callable takes rows in the shape they have here and returns
        (n, D'); a pair holds features of ``real`` and of ``generated``. None: a classifier where
        there are labels, else rows.
    y_real, y_generated : array-like, shapes (n,) and (m,), optional
        Labels. With both, a classifier is trained on generated rows and tested on real ones.
    train : array-like, shape (n_train, D), optional
        Rows that the model was fitted to, to look for copies of them.
    y_train : array-like, shape (n_train,), optional
    event_shape : tuple of int, optional
        ``(channels, height, width)`` of images that come as flat rows.
    n_neighbors : int
        For precision, recall, density and coverage.
    max_rows : int
        At most so many real and generated rows are compared, drawn at random. Compare figures of
        equally many rows only.
    random_state : int
        Decides which rows are drawn, and how classifiers are trained.

    Returns
    -------
    GenerationReport

    Raises
    ------
    DataError
        Rows or features that are not finite, constant, too few or do not fit; one class; labels
        that do not fit the rows.
    ParameterError

    Warns
    -----
    UnreliableEstimateWarning
        There are no more rows than features: the Fréchet distance is mostly bias.

    Examples
    --------
    >>> import numpy as np
    >>> from skvae.evaluation import generation
    >>> random = np.random.default_rng(0)
    >>> real, good, shifted = random.normal(size=(3, 400, 2)) + [[[0]], [[0]], [[1]]]
    >>> report = generation(real, shifted)
    >>> bool(report.frechet_distance > 1 > 0.1 > report.one_law["frechet_distance"])
    True
    >>> bool(report.coverage < generation(real, good).coverage)
    True
    """
    k = check_count(n_neighbors, 1, "n_neighbors")
    at_most = check_count(max_rows, 1, "max_rows")
    least = max(2 * (k + 1), 20)  # two halves of which each row has k neighbours
    sample = _Sample(real, generated, train, event_shape, least)
    labels = _Labels(sample, y_real, y_generated, y_train)
    settings = features if isinstance(features, ClassifierFeatures) else None
    if settings is None:
        settings = ClassifierFeatures(event_shape=event_shape, random_state=random_state)
    kept = subsample(len(sample.real), at_most, generator(random_state, 0))
    drawn = subsample(len(sample.generated), at_most, generator(random_state, 1))
    if min(len(kept), len(drawn)) < least:
        raise ParameterError(f"max_rows must be at least {least} here; received {max_rows!r}.")
    own, made, name, accuracy = _features(features, settings, sample, labels, kept, drawn)
    if min(len(own), len(made)) <= own.shape[1]:
        warnings.warn(
            f"{len(own)} real and {len(made)} generated rows are too few for the Fréchet distance "
            f"in {own.shape[1]} features: most of it is bias. Give ten times as many rows as "
            "features, or fewer features.",
            UnreliableEstimateWarning,
            stacklevel=2,
        )
    distance, error = kernel_distance(own, made)
    half = len(own) // 2
    seed = int(generator(random_state, 2).integers(2**31))
    halves = support(own[:half], own[half:], k)
    one_law = {
        "frechet_distance": frechet_distance(own[:half], own[half:])
        * (1 / len(own) + 1 / len(made))
        / (1 / half + 1 / (len(own) - half)),
        "kernel_distance": 0.0,
        "precision": halves.precision,
        "recall": halves.recall,
        "density": 1.0,
        "coverage": expected_coverage(len(own), len(made), k),
        **{f"two_sample.{test}": 0.5 for test in CLASSIFIERS},
    }
    found = None
    if sample.train is not None:
        found = copies(sample.train, sample.flat_real[kept], sample.flat_generated[drawn])
        one_law |= {
            "copies.ratio": 1.0,
            "copies.nearer_than_real": 0.5,
            "copies.duplicates": found.duplicates_of_real,
        }
    by_generated, by_real = labels.accuracies(settings, random_state)
    if by_real is not None:
        one_law["synthetic_accuracy"] = by_real
    return GenerationReport(
        frechet_distance=frechet_distance(own, made),
        kernel_distance=distance,
        kernel_standard_error=error,
        **asdict(support(own, made, k)),
        two_sample={test: two_sample_test(own, made, test, seed) for test in CLASSIFIERS},
        synthetic_accuracy=by_generated,
        real_accuracy=by_real,
        copies=found,
        one_law=one_law,
        features=name,
        features_accuracy=accuracy,
        n_real=len(own),
        n_generated=len(made),
        n_features=own.shape[1],
        n_neighbors=k,
    )


class _Sample:
    """Real, generated and training rows, as they came and flat."""

    def __init__(
        self,
        real: Any,
        generated: Any,
        train: Any,
        event_shape: tuple[int, ...] | None,
        least: int,
    ) -> None:
        self.flat_real = as_rows(real, "real", minimum=least)
        self.flat_generated = as_rows(generated, "generated", minimum=least)
        self.real, self.generated = np.asarray(real), np.asarray(generated)
        self.train = None if train is None else np.asarray(train)
        if self.train is not None:
            as_rows(self.train, "train")
        self.event_shape = event_shape
        for rows, name in ((self.generated, "generated"), (self.train, "train")):
            if rows is not None and rows[0].size != self.real[0].size:
                raise DataError(
                    f"real has rows of shape {self.real.shape[1:]} and {name} of "
                    f"{rows.shape[1:]}: they must be alike."
                )
        check_varied(self.flat_real, "real", "There is nothing to compare with.")
        check_varied(self.flat_generated, "generated", "Has the model collapsed?")

    def spread(self) -> Array:
        """Return what rows are divided by: one number for images, (D,) for columns."""
        rows = self.flat_real.astype(np.float64)
        if self.event_shape is None and self.real.ndim == 2:
            spread = rows.std(0)
            return np.where(spread > 0, spread, 1)
        return np.asarray(rows.std())


class _Labels:
    """Labels of real, generated and training rows, where there are any."""

    def __init__(self, sample: _Sample, y_real: Any, y_generated: Any, y_train: Any) -> None:
        if y_train is not None and sample.train is None:
            raise DataError("y_train was given without train: give the rows, too.")
        self.sample = sample
        n = len(sample.real)
        self.real = None if y_real is None else known_labels(y_real, "y_real", n, "real")
        n = len(sample.generated)
        self.generated = (
            None
            if y_generated is None
            else known_labels(y_generated, "y_generated", n, "generated")
        )
        self.train = None
        if sample.train is not None and y_train is not None:
            self.train = known_labels(y_train, "y_train", len(sample.train), "train")
        named = (
            (self.real, "y_real", "real"),
            (self.generated, "y_generated", "generated"),
            (self.train, "y_train", "train"),
        )
        for labels, name, rows in named:
            if labels is not None:
                as_labels(labels, name, len(labels), rows)

    def known(self) -> tuple[Array, Array] | None:
        """Return real rows and labels to learn features from."""
        if self.train is not None and self.sample.train is not None:
            return self.sample.train, self.train
        return None if self.real is None else (self.sample.real, self.real)

    def accuracies(
        self, settings: ClassifierFeatures, random_state: int
    ) -> tuple[float | None, float | None]:
        """Train on generated, and on real rows, as many of each; judge on other real ones."""
        if self.real is None or self.generated is None:
            return None, None
        rows, labels = self.sample.real, self.real
        if self.train is not None and self.sample.train is not None:
            others, known = self.sample.train, self.train
        else:
            order = generator(random_state, 3).permutation(len(rows))
            own, rest = order[: len(rows) // 2], order[len(rows) // 2 :]
            others, known, rows, labels = rows[own], labels[own], rows[rest], labels[rest]
        n = min(len(others), len(self.generated))
        found = []
        for i, (X, y) in enumerate(((self.sample.generated, self.generated), (others, known))):
            chosen = subsample(len(X), n, generator(random_state, 4, i))
            found.append(settings.like().fit(X[chosen], y[chosen]).score(rows, labels))
        return found[0], found[1]


def _features(
    features: Features,
    settings: ClassifierFeatures,
    sample: _Sample,
    labels: _Labels,
    kept: Places,
    drawn: Places,
) -> tuple[Array, Array, str, float | None]:
    """Return features of real and of generated rows, what they are, and how good."""
    known, accuracy = labels.known(), None
    pair: tuple[Any, Any]
    if features is None:
        features = "rows" if known is None else "classifier"
    if isinstance(features, str) and features not in ("rows", "classifier"):
        raise ParameterError(
            f"features={features!r} is not known. Known: 'classifier', 'rows', a "
            "ClassifierFeatures, a callable, or a pair of arrays."
        )
    if features == "rows":
        event_shape_of(sample.real, sample.event_shape)
        spread, name = sample.spread(), "rows"
        pair = (sample.flat_real[kept] / spread, sample.flat_generated[drawn] / spread)
    elif features == "classifier" or isinstance(features, ClassifierFeatures):
        if not settings.fitted:
            if known is None:
                raise DataError(
                    "A classifier's features need labels: give y_train with train, or y_real, or "
                    "features of your own."
                )
            settings.fit(*known)
        accuracy, name = settings.accuracy_, "classifier"
        pair = (settings(sample.real[kept]), settings(sample.generated[drawn]))
    elif callable(features):
        name = "given"
        pair = (features(sample.real[kept]), features(sample.generated[drawn]))
    elif isinstance(features, tuple | list) and len(features) == 2:
        name = "given"
        whole = [as_rows(one, f"features of {n}") for one, n in zip(features, NAMES, strict=True)]
        for one, rows, n in zip(whole, (sample.real, sample.generated), NAMES, strict=True):
            if len(one) != len(rows):
                raise DataError(f"features of {n} have {len(one)} rows, but {n} has {len(rows)}.")
        pair = (whole[0][kept], whole[1][drawn])
    else:
        raise ParameterError(
            "features must be 'classifier', 'rows', a ClassifierFeatures, a callable, or a pair "
            f"of arrays; received {type(features).__name__}."
        )
    own, made = (as_rows(one, f"features of {n}") for one, n in zip(pair, NAMES, strict=True))
    if (len(own), len(made)) != (len(kept), len(drawn)) or own.shape[1] != made.shape[1]:
        raise DataError(
            f"features must give one row of equal width for each row; {len(kept)} real and "
            f"{len(drawn)} generated rows became {own.shape} and {made.shape}."
        )
    for one, n in ((own, NAMES[0]), (made, NAMES[1])):
        check_varied(one, f"features of {n}", "Give features that tell rows apart.")
    return own, made, name, accuracy


NAMES = ("real", "generated")
