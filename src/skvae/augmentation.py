"""Augmentation: small random changes of training images, afresh in every epoch.

Rows are (c, *space): signals, images, volumes. All channels of a row change alike.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from skvae.exceptions import ParameterError
from skvae.rng import Noise
from skvae.spec import Spec, at_least, check_finite

__all__ = [
    "Affine",
    "Augmentation",
    "Crop",
    "Erase",
    "Flip",
    "Shift",
    "changed",
    "check_images",
    "resolve",
]


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


@dataclass(frozen=True)
class Affine(Augmentation, name="affine"):
    """Turn, stretch, shear and move an image a little, each by a uniform random amount.

    Parameters
    ----------
    degrees : float
        Largest angle of a turn.
    scale, shear, shift : float
        Largest change: of the size of each axis, of its slant, and of the place, as shares of
        the size.
    """

    degrees: float = 15.0
    scale: float = 0.1
    shear: float = 0.1
    shift: float = 0.07

    def __post_init__(self) -> None:
        check_finite(self, "degrees", "scale", "shear", "shift")

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return changed rows; what comes in from beyond an edge is like the edge."""
        u = 2 * noise.uniform((), x.new_empty(len(x), 6, dtype=torch.float32)) - 1
        angle = u[:, 0] * math.radians(self.degrees)
        stretch = 1 + u[:, 1:3] * self.scale
        slant, move = u[:, 3] * self.shear, 2 * u[:, 4:] * self.shift
        rows = [
            torch.stack([angle.cos() * stretch[:, 0], slant - angle.sin(), move[:, 0]], -1),
            torch.stack([angle.sin(), angle.cos() * stretch[:, 1], move[:, 1]], -1),
        ]
        grid = F.affine_grid(torch.stack(rows, 1).to(x), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="border", align_corners=False)

    def objection(self, event_shape: tuple[int, ...]) -> str | None:
        """Return why not: images alone are turned."""
        if len(event_shape) == 3:
            return None
        return f"rows of shape {event_shape} are no images (channels, height, width)"


@dataclass(frozen=True)
class Erase(Augmentation, name="erase"):
    """Set a box at a random place to zero, in model units; all channels alike.

    Parameters
    ----------
    share : float
        Of each axis of space, that the box takes; less where it reaches beyond an edge.
    """

    share: float = 0.28

    def __post_init__(self) -> None:
        check_finite(self, "share")

    def __call__(self, x: Tensor, noise: Noise) -> Tensor:
        """Return rows with a hole each."""
        u = noise.uniform((), x.new_empty(len(x), x.ndim - 2, dtype=torch.float32))
        inside = torch.ones((), dtype=torch.bool, device=x.device)
        for axis, center in enumerate(u.unbind(-1), 2):
            size = x.shape[axis]
            place = torch.arange(size, device=x.device) + 0.5
            near = (place - center[:, None] * size).abs() < self.share * size / 2  # (B, size)
            shape = [1] * x.ndim
            shape[0], shape[axis] = near.shape
            inside = inside & near.view(shape)
        return x.masked_fill(inside, 0)


def changed(
    x: Tensor, mask: Tensor | None, changes: tuple[Augmentation, ...], noise: Noise
) -> tuple[Tensor, Tensor | None]:
    """Return rows after some changes, and which of their cells are made of observed ones alone.

    Parameters
    ----------
    x : Tensor, shape (B, c, *space)
    mask : Tensor of bool, same shape, or None
        True where a cell is observed; None means that all are.
    changes : tuple of Augmentation
    noise : Noise
    """
    if not changes or mask is None:
        for change in changes:
            x = change(x, noise)
        return x, mask
    # Channels of a row change alike, so the mask may go along as more of them.
    both = torch.cat([torch.where(mask, x, 0.0), mask.to(x.dtype)], 1)
    for change in changes:
        both = change(both, noise)
    x, weight = both.chunk(2, 1)
    return x, weight > 1 - 1e-4  # bilinear weights add up to 1 but for rounding


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
