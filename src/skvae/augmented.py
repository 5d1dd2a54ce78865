"""Batches whose rows are changed at random, afresh in every epoch."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from skvae import rng
from skvae.augmentation import Augmentation
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
            near = batch.near
            batch = replace(batch, x=self._changed(batch.x, noise))
            if near is not None:
                batch = replace(batch, near=replace(near, x=self._changed(near.x, noise)))
            yield batch

    def _changed(self, x: Tensor, noise: rng.Noise) -> Tensor:
        for one in self.augmentations:
            x = one(x, noise)
        return x

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, as they are."""
        return self.source.in_order(size, device)
