"""Hiding observed cells from the encoder in training, so that it learns to do without them."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from skvae import rng
from skvae.data import Source
from skvae.evidence import Batch

__all__ = ["Hiding"]


class Hiding(Source):
    """Another source, in whose batches the encoder does not see all observed cells.

    For each row a share is drawn, uniform up to a limit, and each of its cells is then hidden with
    that probability: the encoder meets rows with few holes and rows with many, also where the
    table has none. What is hidden is a function of the seed, the epoch and the step.

    Parameters
    ----------
    source : Source
    most : float
        Largest share, in [0, 1].
    """

    def __init__(self, source: Source, most: float) -> None:
        self.source, self.most = source, most

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.source.identity(), torch.tensor(self.most)]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once."""
        for step, batch in enumerate(self.source.batches(epoch, size, device, skip=skip), skip):
            yield self._hidden(batch, epoch, step)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, with the same cells hidden every time."""
        for step, batch in enumerate(self.source.in_order(size, device)):
            yield self._hidden(batch, -1, step)

    def _hidden(self, batch: Batch, epoch: int, step: int) -> Batch:
        noise = rng.generator(self.source.seed, rng.Stream.HIDE, epoch + 1, step)
        share = self.most * torch.rand((len(batch.x), *[1] * (batch.x.ndim - 1)), generator=noise)
        seen = (torch.rand(batch.x.shape, generator=noise) >= share).to(batch.x.device)
        return replace(batch, seen=seen if batch.mask is None else seen & batch.mask)
