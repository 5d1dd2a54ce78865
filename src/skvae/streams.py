"""Training on rows that do not fit into memory: one pass to know them, and shuffled batches."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skvae import rng
from skvae.data import Binarize, Source, Transform, even_sizes
from skvae.evidence import Batch
from skvae.exceptions import DataError
from skvae.files import NpyRows, ParquetRows, Rows, open_rows
from skvae.likelihoods.base import Standardize

__all__ = ["NpyRows", "ParquetRows", "Rows", "StreamSource", "Survey", "open_rows", "survey"]

BUFFER_BYTES = 1 << 27  # float32 rows that are shuffled with each other
SAMPLE_ROWS = 10_000
SAMPLE_BYTES = 1 << 26


@dataclass(frozen=True)
class Survey:
    """What one pass over rows finds.

    Attributes
    ----------
    low, high : ndarray of float64, shape (D,)
        Extremes of each feature.
    unit : ndarray of float64, shape (D,)
        Powers of two around the largest magnitudes, by which the moments are divided.
    mean, square : ndarray of float64, shape (D,)
        Mean and mean squared deviation of the features divided by ``unit``.
    log : ndarray of float64, shape (D,)
        Mean logarithm of each feature; NaN unless all its values are positive.
    whole, binary : bool
        Whether all values are whole numbers, and whether all are 0 or 1.
    index : ndarray of int, shape (m,)
        Numbers of random rows, in random order.
    sample : ndarray, shape (m, D)
        These rows.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    unit: NDArray[np.float64]
    mean: NDArray[np.float64]
    square: NDArray[np.float64]
    log: NDArray[np.float64]
    whole: bool
    binary: bool
    index: NDArray[np.int64]
    sample: NDArray[np.floating]

    def transform(self, mode: Standardize) -> Transform:
        """Return what `Transform.fit` finds in the same rows in memory."""
        if isinstance(mode, tuple):
            return Transform.by_column(mode, lambda i, one: self._columns(i).transform(one))
        if mode == "none":
            return Transform(np.zeros_like(self.mean), np.ones_like(self.mean))
        if mode == "scale":
            return Transform(np.zeros_like(self.mean), np.exp(self.log))
        largest = np.maximum(np.abs(self.low), np.abs(self.high))
        size = np.where(largest > 0, largest, 1.0)
        ratio = np.where(largest > 0, self.unit / size, 0.0)
        return Transform.of_moments(size, self.mean * ratio, self.square * ratio**2, mode)

    def _columns(self, index: NDArray[np.intp]) -> "Survey":
        names = ("low", "high", "unit", "mean", "square", "log")
        return replace(self, **{name: getattr(self, name)[index] for name in names})

    def identity(self) -> list[Tensor]:
        """Return what tells these rows from others: a few rows by their place, and all sums."""
        sums = np.stack([self.low, self.high, self.unit, self.mean, self.square])
        return [torch.from_numpy(self.sample.copy()), torch.from_numpy(sums)]


def survey(rows: Rows, seed: int, advice: str = "") -> Survey:
    """Read all rows once.

    Moments are those of Welford's method, merged from block to block [1]_, so that they are as
    exact as if all rows were in memory.

    Parameters
    ----------
    rows : Rows
    seed : int
        Decides which rows are sampled: at most 10,000, and at most 64 MiB.
    advice : str
        What to do about missing cells, for the message.

    Raises
    ------
    DataError
        NaN or infinity, with the file, the row and the column where the first one is.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing
       Sample Variances", 1979, Stanford STAN-CS-79-773
    """
    d, n = rows.n_features, len(rows)
    room = max(100, SAMPLE_BYTES // max(1, d * rows.dtype.itemsize))
    random = np.random.default_rng([seed, 1])
    index = random.choice(n, min(n, SAMPLE_ROWS, room), replace=False)
    sample = np.empty((len(index), d), rows.dtype)
    by_row = np.argsort(index)
    ordered = index[by_row]

    low, high, unit = np.full(d, np.inf), np.full(d, -np.inf), np.full(d, 2.0**-1022)
    mean, squares, logs = np.zeros(d), np.zeros(d), np.zeros(d)
    pivot = np.zeros(d)
    whole, binary, done = True, True, 0
    for i, block in enumerate(rows):
        if not len(block):
            continue
        if not np.isfinite(block).all():
            raise _not_finite(block, rows, i, advice)
        if not done:
            # Deviations from a row are exact where a feature is constant; those from 0 are not.
            pivot = block[0].astype(np.float64)
        first, last = np.searchsorted(ordered, [done, done + len(block)])
        sample[by_row[first:last]] = block[ordered[first:last] - done]
        low = np.minimum(low, block.min(0))
        high = np.maximum(high, block.max(0))
        binary = binary and bool(((block == 0) | (block == 1)).all())
        whole = whole and (binary or bool((np.floor(block) == block).all()))
        positive = low > 0
        logs[~positive] = np.nan
        logs[positive] += np.log(block[:, positive], dtype=np.float64).sum(0)
        # Division by a power of two is exact, and keeps squares of 1e300 finite.
        larger = np.maximum(unit, _power_of_two(np.maximum(np.abs(low), np.abs(high))))
        mean, squares, unit = mean * (unit / larger), squares * (unit / larger) ** 2, larger
        scaled = block / unit - pivot / unit
        own = scaled.mean(0)
        shift, share = own - mean, len(block) / (done + len(block))
        squares += ((scaled - own) ** 2).sum(0) + shift**2 * (done * share)
        mean += shift * share
        done += len(block)
    return Survey(
        low=low,
        high=high,
        unit=unit,
        mean=pivot / unit + mean,
        square=squares / n,
        log=logs / n,
        whole=whole,
        binary=binary,
        index=index,
        sample=sample,
    )


class StreamSource(Source):
    """Rows from files, served as batches whose order and noise depend only on the seed.

    In every epoch the blocks come in a new random order. As many of them as fit into a buffer are
    read at a time, and their rows are put into random order: a row is shuffled with those of all
    blocks in the buffer, and each row comes exactly once. What fits into the buffer as a whole is
    shuffled perfectly.

    Parameters
    ----------
    rows : Rows
    transform : Transform
        From data units to model units.
    event_shape : tuple of int
    identity : list of Tensor
        What the data are known by, see `Survey.identity`.
    binarize : {None, "threshold", "stochastic"}
        As in `Source`.
    seed : int
    buffer_bytes : int
        Size of the buffer; at least one block is in it.
    """

    def __init__(
        self,
        rows: Rows,
        transform: Transform,
        event_shape: tuple[int, ...],
        *,
        identity: list[Tensor],
        binarize: Binarize = None,
        seed: int = 0,
        buffer_bytes: int = BUFFER_BYTES,
    ) -> None:
        self.rows, self.transform, self.event_shape = rows, transform, event_shape
        self.binarize, self.seed = binarize, seed
        self._identity = identity
        self._capacity = buffer_bytes // max(1, 4 * rows.n_features)

    def __len__(self) -> int:
        return len(self.rows)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return self._identity

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once, in an order that is a function of (seed, epoch).

        ``skip`` leaves out the first batches; buffers that lie in them as a whole are not read.
        """
        sizes = even_sizes(len(self), size)
        parts = self._shuffled(epoch, sum(sizes[:skip]))
        for step, x in enumerate(_regrouped(parts, sizes[skip:]), skip):
            yield self._batch(x, device, epoch, step)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, with the same targets every time."""
        parts = (self._encoded(i) for i in range(self.rows.n_blocks))
        for step, x in enumerate(_regrouped(parts, even_sizes(len(self), size))):
            yield self._batch(x, device, -1, step)

    def groups(self, epoch: int) -> list[list[int]]:
        """Return the numbers of the blocks that are in the buffer together, one list after the
        other.
        """
        order = torch.randperm(
            self.rows.n_blocks, generator=rng.generator(self.seed, rng.Stream.ORDER, epoch)
        )
        groups: list[list[int]] = []
        held = 0
        for i in order.tolist():
            block = int(self.rows.sizes[i])
            if not groups or held + block > self._capacity:
                groups.append([])
                held = 0
            groups[-1].append(i)
            held += block
        return groups

    def _shuffled(self, epoch: int, skip: int) -> Iterator[Tensor]:
        """Yield the buffers of an epoch without the first ``skip`` rows."""
        for number, group in enumerate(self.groups(epoch)):
            size = int(self.rows.sizes[group].sum())
            if skip >= size:
                skip -= size
                continue
            generator = rng.generator(self.seed, rng.Stream.ORDER, epoch, number)
            places = torch.randperm(size, generator=generator)
            buffer = torch.empty(size, *self.event_shape)
            start = 0
            for i in sorted(group):  # in the order of the file, which is the cheapest to read
                x = self._encoded(i)
                buffer[places[start : start + len(x)]] = x
                start += len(x)
            yield buffer[skip:]
            del buffer
            skip = 0

    def _encoded(self, i: int) -> Tensor:
        x = self.transform.encode(self.rows.block(i), torch.float32)
        if self.binarize == "threshold":
            x = (x > 0.5).float()
        return x.view(-1, *self.event_shape)


def _regrouped(parts: Iterator[Tensor], sizes: list[int]) -> Iterator[Tensor]:
    """Cut parts of any length into batches of these sizes."""
    left = iter(sizes)
    size = next(left, 0)
    rest: Tensor | None = None
    for part in parts:
        start = 0
        if rest is not None:
            start = size - len(rest)
            rest = torch.cat([rest, part[:start]])
            if len(rest) < size:
                continue
            yield rest
            size = next(left, 0)
        # Copies, since a slice would keep the whole part in memory.
        while size and start + size <= len(part):
            yield part[start : start + size].clone()
            start, size = start + size, next(left, 0)
        rest = part[start:].clone() if start < len(part) else None
        del part  # before the next one is made


def _power_of_two(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the power of two in (x / 2, x], for x below 2⁻¹⁰²², as for zero, that one."""
    exponent = np.where(x > 0, np.frexp(x)[1] - 1, -1022)
    return np.asarray(np.ldexp(1.0, np.maximum(exponent, -1022)), dtype=np.float64)


def _not_finite(block: NDArray[np.floating], rows: Rows, i: int, advice: str) -> DataError:
    infinite = np.isinf(block).any()
    row, column = np.argwhere(~np.isfinite(block))[0]
    kind = "infinity" if np.isinf(block[row, column]) else "NaN"
    file, start = rows.origin(i)
    name = repr(rows.columns[column]) if rows.columns is not None else str(column)
    hint = "Replace or remove these values first." if infinite else advice
    return DataError(
        f"Input X contains {kind}: the first in {file}, row {start + row}, column {name}. {hint}"
    )
