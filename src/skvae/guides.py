"""What batches bring beside their own rows: rows with labels, neighbours."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from skvae import rng
from skvae.data import Source
from skvae.evidence import Batch
from skvae.fuzzy import FuzzyGraph

__all__ = ["Guided", "Neighboring", "Placed", "Until"]

SIZE = 100  # rows with a label beside each batch


class Guided(Source):
    """Another source, whose batches bring a guide.

    Of a hundred labelled rows among many thousands, a batch has none or one: far too few to learn
    from in every update.

    Parameters
    ----------
    source, guide : Source
        All rows, and those with a label. These come in an order that is a function of the
        number of the update.
    """

    def __init__(self, source: Source, guide: Source) -> None:
        self.source, self.guide = source, guide
        self.seed = source.seed

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.source.identity(), *self.guide.identity()]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once, each batch with a guide."""
        per_epoch, per_turn = -(-len(self) // size), -(-len(self.guide) // SIZE)
        turns: Iterator[Batch] = iter(())
        for step, batch in enumerate(self.source.batches(epoch, size, device, skip=skip), skip):
            guide = next(turns, None)
            if guide is None:
                turn, at = divmod(epoch * per_epoch + step, per_turn)
                turns = self.guide.batches(turn, SIZE, device, skip=at)
                guide = next(turns)
            yield replace(batch, guide=guide)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, without a guide."""
        return self.source.in_order(size, device)


class Neighboring(Source):
    """Another source, whose batches bring a neighbour of each row.

    Which one is a function of its seed, the epoch and the step. Binary targets of neighbours are
    drawn apart from those of the rows.

    Parameters
    ----------
    source : Source
        Of rows in memory.
    graph : FuzzyGraph
        Of the same rows.
    """

    def __init__(self, source: Source, graph: FuzzyGraph) -> None:
        self.source, self.graph = source, graph
        self.seed = source.seed
        self._others = copy.copy(source)
        self._others.seed = rng.seed_from(source.seed, rng.Stream.NEIGHBOR)

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.source.identity(), self.graph.neighbor, self.graph.sums]

    def order(self, epoch: int, size: int) -> tuple[Tensor, ...]:
        """Return the numbers of the rows of each batch of an epoch."""
        return self.source.order(epoch, size)

    def take(self, index: Tensor, epoch: int, step: int, device: torch.device) -> Batch:
        """Return some rows and a neighbour of each."""
        key = rng.generator(self.seed, rng.Stream.NEIGHBOR, epoch, step)
        u = torch.rand(len(index), generator=key, dtype=torch.float64)
        near = self._others.take(self.graph.draw(index, u), epoch, step, device)
        return replace(self.source.take(index, epoch, step, device), near=near)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, without neighbours."""
        return self.source.in_order(size, device)


class Placed(Source):
    """Another source, whose batches bring the place of each row on a map.

    Parameters
    ----------
    source : Source
        Of rows in memory.
    places : Tensor, shape (n, d)
        Of the same rows.
    """

    def __init__(self, source: Source, places: Tensor) -> None:
        self.source, self.places = source, places
        self.seed = source.seed

    def __len__(self) -> int:
        return len(self.source)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.source.identity(), self.places]

    def order(self, epoch: int, size: int) -> tuple[Tensor, ...]:
        """Return the numbers of the rows of each batch of an epoch."""
        return self.source.order(epoch, size)

    def take(self, index: Tensor, epoch: int, step: int, device: torch.device) -> Batch:
        """Return some rows with their places."""
        place = self.places[index].to(device)
        return replace(self.source.take(index, epoch, step, device), place=place)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, without places."""
        return self.source.in_order(size, device)


class Until(Source):
    """A source whose batches are those of another one in the first epochs.

    Parameters
    ----------
    first, then : Source
        Of the same rows.
    n_epochs : int
        How many epochs are the first one's.
    """

    def __init__(self, first: Source, then: Source, n_epochs: int) -> None:
        self.first, self.then, self.n_epochs = first, then, n_epochs
        self.seed = then.seed

    def __len__(self) -> int:
        return len(self.then)

    def identity(self) -> list[Tensor]:
        """Return what a fit knows its data by, when it goes on from a checkpoint."""
        return [*self.first.identity(), *self.then.identity()]

    def batches(
        self, epoch: int, size: int, device: torch.device, *, skip: int = 0
    ) -> Iterator[Batch]:
        """Yield all rows once."""
        now = self.first if epoch < self.n_epochs else self.then
        return now.batches(epoch, size, device, skip=skip)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order."""
        return self.then.in_order(size, device)
