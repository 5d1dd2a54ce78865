"""Training on sequences: batches of similar length, padded no further than they must be."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skvae import rng
from skvae.data import Array, Source, Transform, even_sizes
from skvae.evidence import Batch
from skvae.likelihoods.base import Standardize
from skvae.sequences import Ragged

__all__ = ["SequenceSource", "StepTransform"]

WINDOW_BATCHES = 32  # that sequences are sorted by length within


@dataclass(frozen=True)
class StepTransform(Transform):
    """The same map for each step; what does not exist stays 0.

    Attributes
    ----------
    ragged_channels : int
        Channels of a step, of which the last one is "alive"; 0 where all steps exist.
    """

    ragged_channels: int = 0

    @classmethod
    def of_steps(
        cls, sequences: Ragged, length: int, mode: Standardize, *, ragged: bool
    ) -> "StepTransform":
        """Choose shift and unit of each feature from all steps that there are.

        Parameters
        ----------
        sequences : Ragged
        length : int
            Steps of a padded row.
        mode : str
            As of `Transform.fit`.
        ragged : bool
            Whether there is a channel "alive".
        """
        one = Transform.fit(sequences.values, mode)
        shift = np.append(one.shift, 0.0) if ragged else one.shift
        unit = np.append(one.unit, 1.0) if ragged else one.unit
        return cls(np.tile(shift, length), np.tile(unit, length), len(shift) if ragged else 0)

    def encode(self, X: Array, dtype: torch.dtype) -> Tensor:
        """Return rows in model units, shape (n, D)."""
        x = super().encode(X, dtype)
        if self.ragged_channels:
            steps = x.view(len(x), -1, self.ragged_channels)
            steps[..., :-1] *= steps[..., -1:]
        return x


class SequenceSource(Source):
    """Sequences in memory, served as batches whose order and noise depend only on the seed.

    In every epoch the sequences come in a new random order. Those of 32 batches are sorted by
    their length and then cut, and the batches are put into random order: little is spent on
    padding, and each sequence comes exactly once.

    Parameters
    ----------
    sequences : Ragged
        In data units.
    transform : Transform
        Of padded rows.
    ragged : bool
        Whether the steps get a channel "alive"; False for sequences of one length.
    seed : int
    y : Tensor, or None
        Labels as in `Batch`, which the batches then have.
    """

    def __init__(
        self,
        sequences: Ragged,
        transform: Transform,
        *,
        ragged: bool = True,
        seed: int = 0,
        y: Tensor | None = None,
    ) -> None:
        self.sequences, self.ragged, self.y = sequences, ragged, y
        self.binarize, self.seed = None, seed
        n_features = sequences.values.shape[1]
        self._step = Transform(transform.shift[:n_features], transform.unit[:n_features])

    def __len__(self) -> int:
        return len(self.sequences)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        values = np.ascontiguousarray(self.sequences.values)
        own = [torch.from_numpy(values), torch.from_numpy(self.sequences.offsets)]
        return own if self.y is None else [*own, self.y]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all sequences once, in an order that is a function of (seed, epoch)."""
        for step, index in enumerate(self.groups(epoch, size)[skip:], skip):
            batch = self._batch(self._padded(index), device, epoch, step)
            yield self._labelled(batch, torch.from_numpy(index))

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all sequences in their order."""
        for step, index in enumerate(torch.arange(len(self)).split(even_sizes(len(self), size))):
            batch = self._batch(self._padded(index.numpy()), device, -1, step)
            yield self._labelled(batch, index)

    def groups(self, epoch: int, size: int) -> list[NDArray[np.int64]]:
        """Return the numbers of the sequences of each batch of an epoch."""
        generator = rng.generator(self.seed, rng.Stream.ORDER, epoch)
        order = torch.randperm(len(self), generator=generator)
        lengths = torch.from_numpy(self.sequences.lengths)
        groups: list[Tensor] = []
        sizes = even_sizes(len(self), size)
        start = 0
        for first in range(0, len(sizes), WINDOW_BATCHES):
            own = sizes[first : first + WINDOW_BATCHES]
            window = order[start : start + sum(own)]
            start += sum(own)
            by_length = torch.argsort(lengths[window], stable=True)
            groups += window[by_length].split(own)
        places = torch.randperm(len(groups), generator=generator)
        return [groups[i].numpy() for i in places.tolist()]

    def _padded(self, index: NDArray[np.int64]) -> Tensor:
        """Return sequences in model units, shape (B, longest of them + 1, F + 1) or (B, T, F)."""
        some = self.sequences.take(index)
        values = self._step.encode(some.values, torch.float32).numpy()
        length = int(some.lengths.max())
        if not self.ragged:
            return torch.from_numpy(values).view(len(some), length, -1)
        rows = Ragged(values, some.offsets).padded(length + 1, np.float32)
        return torch.from_numpy(rows).view(len(some), length + 1, -1)
