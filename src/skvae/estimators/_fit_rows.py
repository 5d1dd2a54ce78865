"""The rows of a fit, in memory or streamed from files: all that training asks of them."""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray

from skvae._rows import Without
from skvae.data import Binarize, Source, Transform, check_support, mean_of_observed
from skvae.estimators._containers import is_compact, widened
from skvae.exceptions import DataError
from skvae.likelihoods import Likelihood, Support
from skvae.likelihoods.base import Standardize
from skvae.streams import Rows, StreamSource, Survey, survey

__all__ = ["FitRows", "InMemory", "LabelledRows", "Streamed", "in_memory", "to_hold_out"]

Array = NDArray[Any]

ROWS_PER_CHUNK = 8192
ENOUGH_LABELS, ENOUGH_TARGETS = 50, 200


class FitRows(Protocol):
    """Rows of D features in data units."""

    seed: int

    def __len__(self) -> int: ...

    @property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        ...

    @property
    def varied(self) -> bool:
        """Whether there are rows that differ."""
        ...

    @property
    def holes(self) -> bool:
        """Whether any cell is missing."""
        ...

    def check(self, likelihood: Likelihood) -> None:
        """Raise a DataError for values that the likelihood does not allow."""
        ...

    def transform(self, mode: Standardize) -> Transform:
        """Return the map to model units."""
        ...

    def mean(self) -> NDArray[np.float64]:
        """Return the mean, shape (D,)."""
        ...

    def some(self, n: int) -> Array:
        """Return n random rows, or all if there are fewer; a function of the seed."""
        ...

    def hold_out(self, n: int) -> "tuple[FitRows, FitRows]":
        """Split off n random rows, a function of the seed; return the others and these."""
        ...

    def source(
        self, transform: Transform, event_shape: tuple[int, ...], *, binarize: Binarize, seed: int
    ) -> Source:
        """Return batches in model units."""
        ...


class LabelledRows(FitRows, Protocol):
    """Rows in memory that labels stand beside.

    Attributes
    ----------
    y : ndarray of int64, shape (n,), of float32, shape (n, n_targets), or None
        Labels as in `Batch`.
    guess : ndarray like y, or None
        Labels that training may begin with.
    """

    y: Array | None
    guess: Array | None

    @property
    def X(self) -> Array:
        """The rows, shape (n, D)."""
        ...

    def labelled(self, y: Array | None, guess: Array | None = None) -> Self:
        """Return the same rows with other labels."""
        ...

    def subset(self, index: NDArray[np.intp]) -> Self:
        """Return some rows."""
        ...


def to_hold_out(n: int, seed: int, y: Array | None) -> NDArray[np.intp]:
    """Return rows in the random order in which they are held out, a function of the seed.

    Rows with a label come last where there are fewer than 50 of a class, or than 200 with a
    target: learning needs them more.
    """
    order = np.random.default_rng([seed, 1]).permutation(n)
    if y is None:
        return order
    if y.dtype.kind == "f":
        known = np.asarray(~np.isnan(y).any(1))
        enough = known.sum() >= ENOUGH_TARGETS
    else:
        known = np.asarray(y >= 0)
        enough = np.bincount(y[known]).min(initial=ENOUGH_LABELS) >= ENOUGH_LABELS
    return order if enough else np.concatenate([order[~known[order]], order[known[order]]])


def in_memory(rows: FitRows, name: str) -> LabelledRows:
    """Return rows that labels can be put beside.

    Parameters
    ----------
    rows : FitRows
    name : str
        Of the estimator, for the message.

    Raises
    ------
    DataError
        They are streamed from files.
    """
    if isinstance(rows, Streamed):
        raise DataError(
            f"{name} is trained on rows in memory, but X is streamed from files. Read them first: "
            "skvae.files.read(X), or np.load(X)."
        )
    labelled: LabelledRows = rows  # type: ignore[assignment]
    return labelled


class InMemory:
    """Rows of an array.

    Parameters
    ----------
    X : ndarray, shape (n, D)
        Of floats, NaN where a cell is missing, or of a small type, in which the rows then stay.
    seed : int
    y : ndarray of int64, shape (n,), of float32, shape (n, n_targets), or None
        Labels as in `Batch`.
    guess : ndarray like y, or None
        Labels that training may begin with.
    """

    def __init__(
        self, X: Array, seed: int, y: Array | None = None, guess: Array | None = None
    ) -> None:
        self.X, self.seed, self.y, self.guess = X, seed, y, guess

    def __len__(self) -> int:
        return len(self.X)

    @property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        return all(
            bool(((rows == 0) | (rows == 1) | np.isnan(rows)).all()) for rows in self._chunks()
        )

    @property
    def varied(self) -> bool:
        """Whether there are rows that differ."""
        return bool((self.X[:1] != self.X).any())

    @property
    def holes(self) -> bool:
        """Whether any cell is missing."""
        return self.X.dtype.kind == "f" and any(np.isnan(x).any() for x in self._chunks())

    def check(self, likelihood: Likelihood) -> None:
        """Raise a DataError for values that the likelihood does not allow."""
        support = likelihood.support
        if support != Support() and any(support.forbids(x).any() for x in self._chunks()):
            check_support(widened(self.X), support, likelihood.name)

    def _chunks(self) -> Iterator[Array]:
        """Yield the rows in pieces, as float32 where their type is a small one."""
        for start in range(0, len(self.X), ROWS_PER_CHUNK):
            yield widened(self.X[start : start + ROWS_PER_CHUNK])

    def transform(self, mode: Standardize) -> Transform:
        """Return the map to model units."""
        return Transform.fit(self.X, mode)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of the observed cells, shape (D,); 0 where there are none."""
        return mean_of_observed(self.X)

    def some(self, n: int) -> Array:
        """Return n random rows, or all if there are fewer; a function of the seed."""
        return self.X[np.random.default_rng([self.seed, 2]).permutation(len(self.X))[:n]]

    def hold_out(self, n: int) -> "tuple[InMemory, InMemory]":
        """Split off n random rows, a function of the seed; return the others and these."""
        order = to_hold_out(len(self.X), self.seed, self.y)
        return self.subset(order[n:]), self.subset(order[:n])

    def labelled(self, y: Array | None, guess: Array | None = None) -> "InMemory":
        """Return the same rows with other labels."""
        return InMemory(self.X, self.seed, y, guess)

    def subset(self, index: NDArray[np.intp]) -> "InMemory":
        """Return some rows."""
        y, guess = (None if one is None else one[index] for one in (self.y, self.guess))
        return InMemory(self.X[index], self.seed, y, guess)

    def source(
        self, transform: Transform, event_shape: tuple[int, ...], *, binarize: Binarize, seed: int
    ) -> Source:
        """Return batches in model units; what is as small as that or smaller stays as it is."""
        unchanged = transform.is_identity
        if is_compact(self.X) or (unchanged and self.X.dtype == np.float32):
            x = torch.from_numpy(np.require(self.X, requirements=["A", "C", "W"]))
            later = None if unchanged else transform
        else:
            x, later = torch.empty(self.X.shape, dtype=torch.float32), None
            for start in range(0, len(x), ROWS_PER_CHUNK):
                rows = slice(start, start + ROWS_PER_CHUNK)
                x[rows] = transform.encode(self.X[rows], torch.float32)
        y = None if self.y is None else torch.from_numpy(self.y)
        x = x.view(-1, *event_shape)
        return Source(x, transform=later, binarize=binarize, seed=seed, y=y)


class Streamed:
    """Rows that are read block by block; one pass, when it is first needed, learns all facts.

    Parameters
    ----------
    rows : Rows
    seed : int
    advice : str
        What to do about missing cells.
    known : Survey or None
        What an earlier pass found.
    """

    def __init__(
        self, rows: Rows, seed: int, advice: str = "", known: Survey | None = None
    ) -> None:
        self.rows, self.seed = rows, seed
        self._advice, self._known = advice, known

    @property
    def survey(self) -> Survey:
        """What is known of the rows."""
        if self._known is None:
            self._known = survey(self.rows, self.seed, self._advice)
        return self._known

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        return self.survey.binary

    @property
    def varied(self) -> bool:
        """Whether there are rows that differ."""
        return bool((self.survey.low != self.survey.high).any())

    @property
    def holes(self) -> bool:
        """Whether any cell is missing; such rows are refused."""
        return False

    def check(self, likelihood: Likelihood) -> None:
        """Raise a DataError for values that the likelihood does not allow."""
        support = likelihood.support
        extremes = np.stack([self.survey.low, self.survey.high])
        if not support.forbids(extremes).any() and (self.survey.whole or not support.integral):
            return
        for i, block in enumerate(self.rows):
            file, first = self.rows.origin(i)
            check_support(block, support, likelihood.name, name=file, first_row=first)

    def transform(self, mode: Standardize) -> Transform:
        """Return the map to model units."""
        return self.survey.transform(mode)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean, shape (D,)."""
        return self.survey.mean * self.survey.unit

    def some(self, n: int) -> Array:
        """Return n random rows, or all if there are fewer; a function of the seed."""
        return self.survey.sample[:n]

    def hold_out(self, n: int) -> "tuple[Streamed, InMemory]":
        """Split off n random rows, but not more than the survey has kept.

        What was found out of all rows counts for the others, too.
        """
        index, sample = self.survey.index[:n], self.survey.sample[:n]
        rest = Streamed(Without(self.rows, index), self.seed, self._advice, self.survey)
        return rest, InMemory(sample, self.seed)

    def source(
        self, transform: Transform, event_shape: tuple[int, ...], *, binarize: Binarize, seed: int
    ) -> Source:
        """Return batches in model units."""
        return StreamSource(
            self.rows,
            transform,
            event_shape,
            identity=self.survey.identity(),
            binarize=binarize,
            seed=seed,
        )
