"""Training by several processes: who we are, which rows are ours, and sums over all of us.

The processes of a group hold the same weights and the same rows. Of each batch every one computes
its part, and sums of the gradients make the update that one process would have made.
"""

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from skvae import rng
from skvae.evidence import Batch
from skvae.exceptions import DistributedError

__all__ = ["TIMEOUT", "Part", "World", "joined", "own_device"]

T = TypeVar("T")

CPU = torch.device("cpu")
LAUNCHED = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}

TIMEOUT = timedelta(minutes=5)  # after that, a process that is alive but silent counts as lost
_JOINED = itertools.count()


@dataclass(frozen=True)
class Part:
    """The rows of a batch that one process computes.

    Attributes
    ----------
    batch : Batch
    start, stop, total : int
        They are the rows from ``start`` to ``stop`` of ``total``.
    weight : float
        Their share of the batch. A process that has no row in a small batch gets the first one
        with weight 0: it takes part in all that the processes do together, and adds nothing.
    """

    batch: Batch
    start: int
    stop: int
    total: int
    weight: float

    def noise(self, source: rng.Noise) -> rng.Noise:
        """Return that part of the whole batch's noise which is for these rows."""
        if self.stop - self.start == self.total:
            return source
        return rng.Shard(source, self.start, self.stop, self.total)


class World:
    """A group of processes as one of them sees it; by default it is alone.

    Parameters
    ----------
    rank, size : int
        Its number, from 0, and how many there are.
    device : torch.device
        Where the group exchanges tensors.
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device = CPU) -> None:
        self.rank, self.size, self.device = rank, size, device

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and speaks."""
        return self.rank == 0

    def part(self, batch: Batch, device: torch.device) -> Part:
        """Return the rows of a batch that are this process's own, on its device.

        The parts are contiguous and differ by one row at most; the first is never empty.
        """
        total = len(batch.x)
        if self.size == 1:
            return Part(batch, 0, total, total, 1.0)
        start, stop = (-(-r * total // self.size) for r in (self.rank, self.rank + 1))
        weight = (stop - start) / total
        if not weight:
            start, stop = 0, 1
        own = batch.rows(slice(start, stop)).to(device)
        own = replace(own, whole=functools.partial(self._whole, weight))
        return Part(own, start, stop, total, weight)

    def _whole(self, weight: float, mean: Tensor) -> Tensor:
        # The value is that of the whole batch, the gradient that of our rows. With losses that are
        # weighted by `weight`, the gradients of all processes add up to the whole's.
        (value,) = self.sum([mean * weight])
        return mean + (value - mean).detach()

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up each tensor over all processes, in one exchange; without a gradient.

        Raises
        ------
        DistributedError
            A process is lost.
        """
        if self.size == 1:
            return [t.detach() for t in tensors]
        flat = torch.cat([t.detach().flatten() for t in tensors])
        flat = self._add_up(flat.to(self.device)).to(flat.device)
        parts = flat.split([t.numel() for t in tensors])
        return [p.view_as(t) for p, t in zip(parts, tensors, strict=True)]

    def from_main(self, function: Callable[[], T]) -> T:
        """Return what a function returns in the first process, or raise what it raises there.

        The other processes do not call it.

        Raises
        ------
        DistributedError
            A process is lost.
        """
        if self.size == 1:
            return function()
        outcome: tuple[Any, Exception | None] = (None, None)
        if self.is_main:
            try:
                outcome = (function(), None)
            except Exception as error:
                outcome = (None, error)
        result, raised = self._tell(outcome)
        if raised is not None:
            raise raised
        value: T = result
        return value

    def _add_up(self, flat: Tensor) -> Tensor:
        with self._reaching_others():
            dist.all_reduce(flat)
        return flat

    def _tell(self, content: Any) -> Any:
        box = [content]
        with self._reaching_others():
            dist.broadcast_object_list(box, device=self.device)
        return box[0]

    @contextmanager
    def _reaching_others(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            # gloo begins with the place in its own source
            reason = re.sub(r"^\[\S*\] ", "", str(error).strip()).splitlines() or [repr(error)]
            raise DistributedError(
                f"Process {self.rank} of {self.size} (counted from 0) cannot reach another one, "
                f"which has ended or hangs ({reason[0]})."
            ) from error


@contextmanager
def joined(timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """Give the group that this process belongs to.

    That is the one of ``torch.distributed`` where it is initialised; otherwise the one that
    ``torchrun`` describes in the environment, which is joined here and left at the end; otherwise
    the process is alone.

    Raises
    ------
    DistributedError
        The other processes did not come.
    """
    if dist.is_available() and dist.is_initialized():
        yield _group()
    elif not dist.is_available() or not os.environ.keys() >= LAUNCHED or _number("WORLD_SIZE") < 2:
        yield World()
    else:
        # torch imports this with the first optimiser, and its defaults then hold the group that is
        # there. Its threads would outlive it, and one that frees a tensor while the interpreter
        # ends aborts the process.
        import torch.distributed.nn
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        try:
            store, rank, size = next(rendezvous("env://", timeout=timeout))
            # A prefix of its own, since the launcher's store still holds what an earlier group of
            # these processes wrote.
            store = PrefixStore(f"skvae/{next(_JOINED)}", store)
            backend = "nccl" if _has_device_each() else "gloo"
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=timeout
            )
        except RuntimeError as error:
            raise DistributedError(f"The group of processes did not come together: {error}") from (
                error
            )
        try:
            world = _group()
            yield world
            world.sum([torch.zeros(1)])  # nobody leaves while another one still listens
        finally:
            with suppress(RuntimeError):  # where another process is lost, that was said already
                dist.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """Return the GPU of this process where a launcher has started one for each; else as given."""
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    return torch.device("cuda", _number("LOCAL_RANK") % torch.cuda.device_count())


def _group() -> World:
    device = own_device(torch.device("cuda" if dist.get_backend() == "nccl" else "cpu"))
    return World(dist.get_rank(), dist.get_world_size(), device)


def _has_device_each() -> bool:
    """Whether the processes of this machine have a GPU each, which nccl asks for."""
    count = torch.cuda.device_count()
    return dist.is_nccl_available() and 0 < _number("LOCAL_WORLD_SIZE") <= count


def _number(name: str) -> int:
    return int(os.environ.get(name, 0))
