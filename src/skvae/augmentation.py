"""Augmentation: small random changes of training images, afresh in every epoch.

Rows are (c, *space): signals, images, volumes. All channels of a row change alike.
"""

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from skvae import rng
from skvae.data import Source
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.rng import Noise
from skvae.spec import Spec, at_least

__all__ = ["Augmentation", "Augmented", "Crop", "Flip", "Shift", "check_images", "resolve"]


class Augmentation(Spec, abc.ABC, family="augmentation"):
    """A random change of each row that keeps its shape."""

    @abc.abstractmethod
    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return changed rows for x (B, c, *space), with random numbers from ``noise`` only."""

    def objection(self, event_shape: tuple[int, ...]) -> str | None:
        """Return why rows (c, *space) cannot be changed like this, or None where they can."""
        return None


@dataclass(frozen=True)
class Shift(Augmentation, name="shift"):
    """Move along each axis of space by up to some cells; the cells at the edge are repeated.

    Parameters
    ----------
    pixels : int
        All whole numbers from −pixels to pixels are equally likely.
    """

    pixels: int = 2

    def __post_init__(self) -> None:
        at_least(self.pixels, 1, "Shift: pixels")

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return moved rows."""
        return _taken(x, _offsets(x, self.pixels, noise), _nearest)


@dataclass(frozen=True)
class Crop(Augmentation, name="crop"):
    """Pad each axis of space with its mirror image, and cut the old size out anywhere.

    Parameters
    ----------
    pad : int
        Cells that are added at each end; fewer than there are.
    """

    pad: int = 2

    def __post_init__(self) -> None:
        at_least(self.pad, 1, "Crop: pad")

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return cut rows."""
        return _taken(x, _offsets(x, self.pad, noise), _mirrored)

    def objection(self, event_shape: tuple[int, ...]) -> str | None:
        """Return why not: a mirror image has no more cells than what it mirrors."""
        if min(event_shape[1:]) > self.pad:
            return None
        return f"pad={self.pad} must be smaller than each axis of {event_shape[1:]}"


@dataclass(frozen=True)
class Flip(Augmentation, name="flip"):
    """Turn round the last axis of half of the rows: left and right change places in images."""

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return rows of which some are turned round."""
        turned = noise.uniform((), x.new_empty(len(x), *[1] * (x.ndim - 1))) < 0.5
        return torch.where(turned, x.flip(-1), x)


def resolve(value: object) -> tuple[Augmentation, ...]:
    """Turn a name, a spec, several of these or None into specs, which are applied in this order.

    Raises
    ------
    ParameterError
    """
    if value is None:
        return ()
    several = value if isinstance(value, tuple | list) else (value,)
    return tuple(Augmentation.resolve(one, argument="augment") for one in several)


def check_images(augmentations: tuple[Augmentation, ...], event_shape: tuple[int, ...]) -> None:
    """Refuse what cannot be done to rows of this shape.

    Raises
    ------
    ParameterError
    """
    if augmentations and len(event_shape) < 2:
        raise ParameterError(
            f"augment changes images, but rows have shape {event_shape}. Say what they are: "
            "event_shape=(1, h, w), for example."
        )
    for one in augmentations:
        if reason := one.objection(event_shape):
            raise ParameterError(f"augment={one!r} does not go with these rows: {reason}.")


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
            noise, x = rng.Sequential(key), batch.x
            for one in self.augmentations:
                x = one(x, noise)
            yield replace(batch, x=x)

    def in_order(self, size: int, device: torch.device) -> Iterator[Batch]:
        """Yield all rows in their order, as they are."""
        return self.source.in_order(size, device)


def _offsets(x: Tensor, most: int, noise: Noise) -> Tensor:
    """Return a whole number in [−most, most] for each row and axis of space, (B, n_axes)."""
    uniform = noise.uniform((), x.new_empty(len(x), x.ndim - 2, dtype=torch.float32))
    # A number just below 1 can round to the next whole one.
    return (uniform * (2 * most + 1)).long().clamp(max=2 * most) - most


def _taken(x: Tensor, offsets: Tensor, inside: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return rows whose cell i is the cell i + offset, where ``inside`` says what is beyond."""
    for axis, offset in enumerate(offsets.unbind(-1), 2):
        size = x.shape[axis]
        index = inside(torch.arange(size, device=x.device) + offset[:, None], size)  # (B, size)
        shape = [1] * x.ndim
        shape[0], shape[axis] = index.shape
        x = x.gather(axis, index.view(shape).expand(x.shape))
    return x


def _nearest(index: Tensor, size: int) -> Tensor:
    return index.clamp(0, size - 1)


def _mirrored(index: Tensor, size: int) -> Tensor:
    last = size - 1
    return last - (last - index.abs()).abs()
