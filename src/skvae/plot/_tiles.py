"""Images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from skvae.exceptions import DataError
from skvae.plot._painter import Array, Items, Painter, coordinate, some_places
from skvae.plot._rows import numbers
from skvae.plot._style import PLAIN, Ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE

__all__ = ["Tiles", "as_images", "is_image", "tile_images"]

SIDE = 0.62  # inches
SMALL = 16  # pixels
HOLE = "#9db8d9"


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether an event (h, w) or (c, h, w) is an image; as for networks, (2, 100) is a signal."""
    if len(shape) == 2:
        return shape[0] >= 8
    return len(shape) == 3 and shape[0] in (1, 3, 4)


def as_images(vae: VAE, rows: ArrayLike) -> Array:
    """Return rows as images (n, h, w) or (n, h, w, c), using the model's event shape.

    Raises
    ------
    DataError
        The model's rows are not images.
    """
    shape = vae.event_shape_
    values = np.asarray(rows)
    if len(shape) == 2:
        return values.reshape(-1, *shape)
    if is_image(shape):
        if vae.channels_last:
            images = values.reshape(-1, *shape[1:], shape[0])
        else:
            images = np.moveaxis(values.reshape(-1, *shape), 1, -1)
        return images[..., 0] if shape[0] == 1 else images
    raise DataError(
        f"The model's rows have shape {shape}, which is not (h, w) or (c, h, w) with 1, 3 or 4 "
        "channels. Fit with event_shape=(1, h, w) to see flat rows as images."
    )


def tile_images(images: Array, n_columns: int, gap: int = 1) -> Array:
    """Lay images (n, h, w[, c]) out in a white grid, row by row; for grey images 1 is ink."""
    n, h, w = images.shape[:3]
    n_rows = -(-n // n_columns)
    size = (n_rows * (h + gap) - gap, n_columns * (w + gap) - gap, *images.shape[3:])
    canvas = np.full(size, 0.0 if images.ndim == 3 else 1.0)
    for i, image in enumerate(images):
        top, left = (i // n_columns) * (h + gap), (i % n_columns) * (w + gap)
        canvas[top : top + h, left : left + w] = image
    return canvas


class Tiles(Painter):
    """Images side by side; NaN has a colour that no grey image has.

    Parameters
    ----------
    vae : VAE
        Its event shape says how flat rows are images.
    """

    rigid: ClassVar[bool] = True
    side: ClassVar[int] = 20
    per_row: ClassVar[int] = 10

    def __init__(self, vae: VAE) -> None:
        self.vae = vae
        h, w = vae.event_shape_[-2:]
        scale = SIDE / np.sqrt(h * w)
        self.size = (w * scale, h * scale)

    def items(self, rows: Any) -> Items:
        """Return images (n, h, w) or (n, h, w, c)."""
        return as_images(self.vae, numbers(rows))

    def paint(self, ax: Axes, items: Items, boxes: Array, ink: Ink = PLAIN) -> None:
        """Draw images; an ink has no meaning for them."""
        for image, (left, bottom, right, top) in zip(items, boxes, strict=True):
            _show(ax, image, (left, right, bottom, top))

    def plane(self, ax: Axes, items: Items, values: Array) -> None:
        """Draw the images as one, which is quick and leaves no seams."""
        n = len(values)
        # Small images are drawn up to their edges, so that they need a gap to be told apart.
        canvas = tile_images(np.asarray(items), n, gap=int(min(items[0].shape[:2]) < SMALL))
        _show(ax, canvas, (0, n, 0, n))
        ax.set_aspect(self.size[1] / self.size[0])
        ax.set_xlim(0, n)
        ax.set_ylim(0, n)
        ticks = np.array(some_places(n))
        labels = [coordinate(values[t]) for t in ticks]
        ax.set_xticks(ticks + 0.5, labels=labels)
        ax.set_yticks(ticks + 0.5, labels=labels)
        ax.set_xlabel("latent dimension 1")
        ax.set_ylabel("latent dimension 2")


def _show(ax: Axes, image: Array, extent: tuple[float, float, float, float]) -> None:
    from matplotlib import colormaps
    from matplotlib.image import AxesImage

    if image.ndim == 3:
        image = _opaque(image)
    artist = AxesImage(
        ax,
        cmap=colormaps["gray_r"].with_extremes(bad=HOLE),
        interpolation="nearest",
        extent=extent,
        zorder=2,
    )
    artist.set_data(np.ma.masked_invalid(image) if image.ndim == 2 else image)
    artist.set_clim(0, 1)
    artist.set_clip_path(ax.patch)
    ax.add_image(artist)


def _opaque(image: Array) -> Array:
    """Return a colour image in [0, 1], its missing pixels in the colour of holes."""
    from matplotlib.colors import to_rgb

    hole = np.array([*to_rgb(HOLE), 1.0])[: image.shape[-1]]
    return np.where(np.isnan(image).any(-1, keepdims=True), hole, np.clip(image, 0, 1))
