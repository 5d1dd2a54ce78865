"""Batches of latent vectors, drawn afresh each time, for the model that stands on top of a VAE."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from skvae import rng
from skvae.data import Source
from skvae.evidence import Batch
from skvae.models import StackedModule

__all__ = ["Encoded"]


class Encoded(Source):
    """Another source, with z₁ ~ q(z₁ | x) in place of x.

    The draws are a function of its seed, the epoch and the step.

    Parameters
    ----------
    source : Source
    module : StackedModule
        Its encoder stays as it is.
    """

    def __init__(self, source: Source, module: StackedModule) -> None:
        self.source, self.module = source, module
        self.seed = source.seed

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.source.identity(), *self.module.encoder.state_dict().values()]

    @torch.no_grad()
    def _drawn(self, batch: Batch, *key: int) -> Batch:
        noise = rng.Sequential(rng.generator(self.seed, rng.Stream.ENCODE, *key))
        drawn = self.module.encode(batch, noise)
        guide, near = (
            None if one is None else self.module.encode(one, noise)
            for one in (batch.guide, batch.near)
        )
        return replace(drawn, guide=guide, near=near, place=batch.place)

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once."""
        for step, batch in enumerate(self.source.batches(epoch, size, device, skip=skip), skip):
            yield self._drawn(batch, epoch, step)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order; the draws are the same each time."""
        for step, batch in enumerate(self.source.in_order(size, device)):
            yield self._drawn(batch, step)
