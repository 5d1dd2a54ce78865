"""Batches whose rows are changed at random, afresh in every epoch."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from skvae import rng
from skvae.augmentation import Augmentation, changed
from skvae.data import Source
from skvae.evidence import Batch

__all__ = ["Augmented"]


class Augmented(Source):
    """Another source, whose shuffled batches are changed.

    What is changed how is a function of its seed, the epoch and the step.

    Parameters
    ----------
    source : Source
    augmentations : tuple of Augmentation
    """

    def __init__(self, source: Source, augmentations: tuple[Augmentation, ...]) -> None:
        self.source, self.augmentations = source, augmentations
        self.seed = source.seed

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return self.source.identity()

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once, changed."""
        for step, batch in enumerate(self.source.batches(epoch, size, device, skip=skip), skip):
            key = rng.generator(self.source.seed, rng.Stream.AUGMENT, epoch, step)
            noise = rng.Sequential(key)
            own = self._changed(batch, noise)
            near = None if batch.near is None else self._changed(batch.near, noise)
            yield replace(own, near=near)

    def _changed(self, batch: Batch, noise: rng.Noise) -> Batch:
        x, mask = changed(batch.x, batch.mask, self.augmentations, noise)
        return replace(batch, x=x, mask=mask)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, as they are."""
        return self.source.in_order(size, device)
