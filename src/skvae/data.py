"""Data: from what users have to batches in model units, and back.

A `Transform` is the affine map between data units and the model's units; the model sees numbers
of order one whatever the table's units are. A `Source` keeps rows in memory as one tensor, small
types as they are, and hands out batches by index.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skvae import rng
from skvae.evidence import Batch
from skvae.exceptions import DataError
from skvae.likelihoods import Support
from skvae.likelihoods.base import Mode, Standardize

__all__ = [
    "Binarize",
    "Source",
    "Transform",
    "binarize_by_content",
    "check_support",
    "even_sizes",
    "mean_of_observed",
]

Array = NDArray[np.floating]
Binarize = Literal["threshold", "stochastic"] | None

ROWS_PER_CHUNK = 8192


def even_sizes(n: int, most: int) -> list[int]:
    """Return the sizes of the fewest batches of at most ``most`` of n rows; they differ by 1.

    Were all but the last one full, that one could be a single row, with a gradient of much noise,
    by which an optimiser goes as far as by any other.
    """
    k = -(-n // most)
    return [n // k + (i < n % k) for i in range(k)]


@dataclass(frozen=True)
class Transform:
    """x ↦ (x − shift) / unit, per feature.

    Attributes
    ----------
    shift, unit : ndarray of float64, shape (D,)
        Training mean and standard deviation, 0 and the geometric mean, or 0 and 1.
    """

    shift: NDArray[np.float64]
    unit: NDArray[np.float64]

    @classmethod
    def fit(cls, X: Array, mode: Standardize) -> "Transform":
        """Choose shift and unit from X of shape (n, D), in float64 and in one pass of chunks.

        NaN cells count nowhere. A feature that is constant (up to rounding) keeps unit 1.
        """
        if isinstance(mode, tuple):
            return cls.by_column(mode, lambda columns, one: cls.fit(X[:, columns], one))
        shift, unit = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if mode == "none":
            return cls(shift, unit)
        mean_of = _mean_of(X)
        if mode == "scale":
            return cls(shift, np.exp(mean_of(X, lambda x: np.log(x, dtype=np.float64))))
        # Scaling by the largest magnitude first keeps squares of 1e300 finite.
        # As float64, since the magnitude of −128 is no int8.
        high, low = (f(X, axis=0).astype(np.float64) for f in (np.fmax.reduce, np.fmin.reduce))
        largest = np.maximum(np.abs(high), np.abs(low))
        size = np.where(largest > 0, largest, 1.0)
        mean = mean_of(X, lambda x: x / size)
        square = mean_of(X, lambda x: (x / size - mean) ** 2)
        return cls.of_moments(size, mean, square, mode)

    @classmethod
    def by_column(
        cls, modes: tuple[Mode, ...], fit: "Callable[[NDArray[np.intp], Mode], Transform]"
    ) -> "Transform":
        """Join the transforms of columns with equal modes; "shared" is one unit for all of these.

        Parameters
        ----------
        modes : tuple of {"none", "shared", "per_feature", "scale"}, one for each column
        fit : callable
            From the numbers of some columns and their mode to their transform.
        """
        shift, unit = np.zeros(len(modes)), np.ones(len(modes))
        for mode in sorted(set(modes)):
            columns = np.flatnonzero(np.array(modes) == mode)
            own = fit(columns, mode)
            shift[columns], unit[columns] = own.shift, own.unit
        return cls(shift, unit)

    @classmethod
    def of_moments(
        cls,
        size: NDArray[np.float64],
        mean: NDArray[np.float64],
        square: NDArray[np.float64],
        mode: Literal["shared", "per_feature"],
    ) -> "Transform":
        """Choose shift and unit from what is known of the data.

        Parameters
        ----------
        size : ndarray, shape (D,)
            Largest magnitude of each feature; 1 where that is 0.
        mean, square : ndarray, shape (D,)
            Mean and mean squared deviation of the features divided by ``size``.
        mode : {"shared", "per_feature"}
        """
        if mode == "shared":
            scale = size.max()
            shared = scale * math.sqrt(float(np.mean(square * (size / scale) ** 2)))
            deviation = np.full(len(size), shared)
        else:
            deviation = np.sqrt(square) * size
        shift = mean * size
        tiny = 10 * np.finfo(np.float64).eps * size
        unit = np.where(deviation > (tiny.max() if mode == "shared" else tiny), deviation, 1.0)
        return cls(shift, unit)

    @property
    def is_identity(self) -> bool:
        """Whether model units are data units."""
        return not self.shift.any() and bool((self.unit == 1).all())

    def encode(self, X: Array, dtype: torch.dtype) -> Tensor:
        """Return rows in model units, shape (n, D)."""
        return torch.from_numpy((X - self.shift) / self.unit).to(dtype)

    def decode(self, x: Tensor) -> NDArray[np.float64]:
        """Return rows in data units, float64."""
        return x.double().cpu().numpy() * self.unit + self.shift


def check_support(
    X: Array, support: Support, likelihood: str, *, name: str = "X", first_row: int = 0
) -> None:
    """Raise if a value is not one that the likelihood allows; NaN, a missing cell, is.

    Parameters
    ----------
    X : ndarray, shape (n, D)
    support : Support
    likelihood : str
        Its name, for the message.
    name : str
        Where the rows are from, for the message.
    first_row : int
        Number of the first row in there.

    Raises
    ------
    DataError
        Naming the first offending row and column, the range found and what to do.
    """
    if support == Support():
        return
    bad = support.forbids(X)
    if not bad.any():
        return
    row, column = np.argwhere(bad)[0]
    rule = support.at(column)
    found = X if rule is support else X[:, column]
    lowest, highest = np.nanmin(found), np.nanmax(found)
    negative = "Negative values in data: " if rule.low == 0 and lowest < 0 else ""
    advice = f"Divide by {highest:g}" if lowest >= 0 else "Rescale the data"
    raise DataError(
        f"{negative}{name}[{first_row + row}, {column}] = {X[row, column]:g}, but "
        f"likelihood={rule.likelihood or likelihood!r} needs {rule} (found {lowest:g} to "
        f"{highest:g}). " + (rule.advice or f"{advice}, or choose likelihood='gaussian'.")
    )


class Source:
    """Rows in memory, served as batches whose order and noise depend only on the seed.

    Parameters
    ----------
    x : Tensor, shape (n, *event)
        Rows in any dtype; NaN where a cell is missing, which the masks of the batches then say.
    transform : Transform or None
        Applied to each batch; None for rows that are in model units.
    binarize : {None, "threshold", "stochastic"}
        How grey values in [0, 1] become binary targets; "stochastic" draws afresh at each epoch.
    seed : int
    y : Tensor, or None
        Labels as in `Batch`, which the batches then have.
    """

    holes = False  # whether any cell is missing

    def __init__(
        self,
        x: Tensor,
        *,
        transform: Transform | None = None,
        binarize: Binarize = None,
        seed: int = 0,
        y: Tensor | None = None,
    ) -> None:
        self.holes = x.is_floating_point() and bool(x.isnan().any())
        if binarize == "threshold":
            x = (x > 0.5).to(x.dtype).where(~x.isnan(), x) if self.holes else (x > 0.5).byte()
        elif binarize == "stochastic":
            x = _as_grey_levels(x)
        self.x = x
        self._pending = transform
        self.binarize = binarize
        self.seed = seed
        self.y = y

    def __len__(self) -> int:
        return len(self.x)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        own = [self.x] if self.y is None else [self.x, self.y]
        if self._pending is None:
            return own
        return [*own, *map(torch.from_numpy, (self._pending.shift, self._pending.unit))]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once, in an order that is a function of (seed, epoch).

        ``skip`` leaves out the first batches, of an epoch that was interrupted after them.
        """
        for step, index in enumerate(self.order(epoch, size)[skip:], skip):
            yield self.take(index, epoch, step, device)

    def order(self, epoch: int, size: int) -> tuple[Tensor, ...]:
        """Return the numbers of the rows of each batch of an epoch."""
        generator = rng.generator(self.seed, rng.Stream.ORDER, epoch)
        order = torch.randperm(len(self), generator=generator)
        return tuple(order.split(even_sizes(len(self), size)))

    def take(self, index: Tensor, epoch: int, step: int, device: torch.device) -> Batch:
        """Return some rows, with the targets of a batch of an epoch."""
        x = self._encode(self.x.index_select(0, index))
        return self._labelled(self._batch(x, device, epoch, step), index)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, with the same targets every time."""
        for step, index in enumerate(torch.arange(len(self)).split(even_sizes(len(self), size))):
            rows = self.x[index[0] : index[-1] + 1]
            yield self._labelled(self._batch(self._encode(rows), device, -1, step), index)

    def _labelled(self, batch: Batch, index: Tensor) -> Batch:
        if self.y is None:
            return batch
        return replace(batch, y=self.y[index].to(batch.x.device))

    def _encode(self, x: Tensor) -> Tensor:
        if self._pending is None:
            return x
        return self._pending.encode(x.flatten(1).numpy(), torch.float32).view(x.shape)

    def _batch(self, x: Tensor, device: torch.device, epoch: int, step: int) -> Batch:
        observed = ~x.isnan() if self.holes else None
        if self.binarize == "stochastic":
            noise = rng.generator(self.seed, rng.Stream.TARGETS, epoch + 1, step)
            if x.dtype == torch.uint8:  # a byte below 255 is under g with probability g / 255
                byte = torch.empty(x.shape, dtype=torch.uint8).random_(0, 255, generator=noise)
                x = byte < x
            else:
                x = torch.rand(x.shape, generator=noise) < x
        x = x.to(device, torch.float32)
        return Batch(x) if observed is None else Batch(x.nan_to_num(0.0), observed.to(device))


def binarize_by_content(X: Array, seed: int = 0) -> Array:
    """Draw binary rows from grey ones with noise that is a hash of the row itself.

    The literature binarises the test set once with a fixed seed. Here the noise follows from the
    row's content, so neither the order of the rows nor the rows around it change the outcome, and
    equal rows give equal draws.

    Parameters
    ----------
    X : ndarray, shape (n, D), values in [0, 1], or NaN, which stays
    seed : int
        The default is part of the protocol: all models are scored on the same binary images.

    Returns
    -------
    ndarray of 0 and 1, shape (n, D), same dtype
    """
    grey = torch.from_numpy(np.asarray(X, dtype=np.float32))
    hidden = grey.isnan()
    noise = rng.PerRow(grey.nan_to_num(0.0), seed).uniform((), grey)
    drawn = (noise < grey).numpy().astype(X.dtype)
    return np.where(hidden, X, drawn) if bool(hidden.any()) else drawn


def _as_grey_levels(x: Tensor) -> Tensor:
    """Return images with 256 grey levels as bytes (a quarter of the memory, an eighth of the
    random bits), anything finer as it is.
    """
    levels = torch.empty(x.shape, dtype=torch.uint8)
    for rows in _slices(len(x)):
        grey = x[rows].float() * 255
        rounded = grey.round()
        if not torch.all((rounded - grey).abs() < 1e-3):
            return x
        levels[rows] = rounded
    return levels


def mean_of_observed(X: Array) -> NDArray[np.float64]:
    """Return the mean of the cells that are not NaN, shape (D,); 0 for a column without any."""
    return _mean_of(X)(X, lambda x: x)


def _mean_of(X: Array) -> Callable[[Array, Callable[[Array], Array]], NDArray[np.float64]]:
    return _mean_of_observed if X.dtype.kind == "f" and np.isnan(X).any() else _mean


def _mean(X: Array, function: Callable[[Array], Array]) -> NDArray[np.float64]:
    """Return the mean of a function of the cells, shape (D,)."""
    n = len(X)
    return np.asarray(sum(function(X[s]).sum(0, dtype=np.float64) for s in _slices(n)) / n)


def _mean_of_observed(X: Array, function: Callable[[Array], Array]) -> NDArray[np.float64]:
    """Return the mean over the cells that are not NaN; 0 for a column without any."""
    total, count = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for s in _slices(len(X)):
        values = function(X[s])
        total += np.nansum(values, axis=0, dtype=np.float64)
        count += (~np.isnan(values)).sum(0)
    return total / np.maximum(count, 1)


def _slices(n: int) -> Iterator[slice]:
    for start in range(0, n, ROWS_PER_CHUNK):
        yield slice(start, start + ROWS_PER_CHUNK)
