"""Folders of image files as rows, decoded a block at a time."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from skvae._rows import Array, Rows, data_files, rows_per_block
from skvae.exceptions import DataError, DataWarning, MissingExtraError, ParameterError

__all__ = ["ENDINGS", "ImageRows", "open_images"]

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
GREY = ("1", "L", "LA", "La")
ORIENTATION = 0x0112  # the tag of the EXIF standard
DEEP = ("I", "F")  # and "I;16" and the like
KEPT_BYTES = 1 << 29  # of pixels that need not be decoded in every epoch

Mode = Literal["L", "RGB"]


def open_images(
    folder: str | os.PathLike[str],
    size: tuple[int, int] | None = None,
    mode: Mode | None = None,
    on_error: Literal["raise", "skip"] = "raise",
) -> "ImageRows":
    """Open the image files of a folder and of all folders in it, in order of their names.

    Pixels are 0 to 255 as they are stored, upright: transparency is dropped, and of an animation
    the first picture is taken. What is decoded stays in memory, as bytes, where all of it fits
    into 512 MiB.

    Parameters
    ----------
    folder : path
        Names that begin with ``_`` or ``.`` are left out. One image file is a folder of one.
    size : (int, int) or None
        Height and width to which all images are resized, antialiased and without regard to their
        proportions. None asks for images of one size.
    mode : {"L", "RGB", None}
        Grey or colour; None is grey where all images are grey.
    on_error : {"raise", "skip"}
        ``"raise"`` raises for a file that cannot be decoded, when it is first read. ``"skip"``
        decodes every file at once, and leaves out with a warning what cannot be.

    Returns
    -------
    rows : Rows
        Of event shape (1, h, w) or (3, h, w).

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    DataError
        No images, unreadable ones, several sizes without ``size``, more than 8 bits per channel.
    ParameterError
        An argument has a value that makes no sense.
    MissingExtraError
        Pillow is not installed.
    """
    if mode not in (None, "L", "RGB"):
        raise ParameterError(f"mode must be 'L', 'RGB' or None; received {mode!r}.")
    if on_error not in ("raise", "skip"):
        raise ParameterError(f"on_error must be 'raise' or 'skip'; received {on_error!r}.")
    if size is not None and not (
        isinstance(size, Sequence)
        and len(size) == 2
        and all(isinstance(s, int) and s >= 1 for s in size)
    ):
        raise ParameterError(f"size must be (height, width), integers >= 1; received {size!r}.")
    folder = Path(folder)
    if not folder.exists():
        raise FileNotFoundError(f"There is no folder {str(folder)!r}.")
    paths = [p for p in data_files(folder) if p.suffix.lower() in ENDINGS]
    if not paths:
        raise DataError(f"{folder} holds no image file ({', '.join(ENDINGS)}).")
    headers, broken = [], []
    for path in paths:
        try:
            headers.append(_header_of(path, whole=on_error == "skip"))
        except DataError as error:
            if on_error == "raise":
                raise
            broken.append((path, error))
    if not headers:
        raise DataError(f"None of the {len(paths)} images in {folder} is readable: {broken[0][1]}")
    if broken:
        names = ", ".join(str(p.relative_to(folder)) for p, _ in broken[:3])
        warnings.warn(
            f"{len(broken)} of {len(paths)} images in {folder} cannot be read and are left out: "
            f"{names}{', …' if len(broken) > 3 else ''}",
            DataWarning,
            stacklevel=2,
        )
    for header in headers:
        if header.mode in DEEP or header.mode.startswith("I;"):
            raise DataError(
                f"{header.path} has more than 8 bits per pixel (mode {header.mode!r}), which "
                "would be lost. Read such images into an array and pass that, or convert them."
            )
    grey = all(header.mode in GREY for header in headers)
    return ImageRows(
        folder,
        [header.path for header in headers],
        (size[0], size[1]) if size is not None else _common_size(headers),
        mode or ("L" if grey else "RGB"),
    )


class ImageRows(Rows):
    """Image files of one size and mode, or made so.

    Parameters
    ----------
    folder : path
        For messages.
    paths : sequence of path
        In this order.
    size : (int, int)
        Height and width.
    mode : {"L", "RGB"}
    """

    channels_first = True

    def __init__(
        self, folder: Path, paths: Sequence[Path], size: tuple[int, int], mode: Mode
    ) -> None:
        self.folder, self.paths, self.size, self.mode = folder, list(paths), size, mode
        self.event_shape = ({"L": 1, "RGB": 3}[mode], *size)
        self.dtype = np.dtype(np.float32)
        self.columns = None
        self._per_block = rows_per_block(self.n_features, self.dtype)
        starts = np.arange(0, len(self.paths), self._per_block)
        self.sizes = np.minimum(self._per_block, len(self.paths) - starts)
        self._keep = len(self.paths) * self.n_features <= KEPT_BYTES
        self._kept: dict[int, NDArray[np.uint8]] = {}

    def block(self, i: int) -> Array:
        """Decode block i, or take it from memory."""
        pixels = self._kept.get(i)
        if pixels is None:
            start = i * self._per_block
            pixels = np.stack([self._decode(p) for p in self.paths[start:][: self._per_block]])
            if self._keep:
                self._kept[i] = pixels
        return pixels.astype(self.dtype)

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """Return the pixels of an image, shape (c · h · w,)."""
        height, width = self.size
        with _opened(path) as image:
            image = _upright(image).convert(self.mode)
        if image.size != (width, height):
            image = image.resize((width, height), _pillow().Resampling.LANCZOS)
        pixels = np.asarray(image, dtype=np.uint8).reshape(height, width, -1)
        return np.moveaxis(pixels, -1, 0).reshape(-1)

    def origin(self, i: int) -> tuple[str, int]:
        """Return the folder, and the number of the first image of block i."""
        return str(self.folder), i * self._per_block

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": {}}


@dataclass(frozen=True)
class _Header:
    path: Path
    size: tuple[int, int]
    mode: str


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an image file; whatever then goes wrong is an error that names it."""
    try:
        with _pillow().open(path) as image:
            yield image
    except (MemoryError, MissingExtraError):
        raise
    except Exception as error:  # decoders raise about anything for a broken file
        raise DataError(
            f"{path} is not a readable image: {error}. Remove it, or leave such files out: "
            "on_error='skip', or --skip-unreadable on the command line."
        ) from error


def _header_of(path: Path, *, whole: bool) -> _Header:
    with _opened(path) as image:
        size = (image.width, image.height) if _orientation(image) >= 5 else image.size[::-1]
        header = _Header(path, size, image.mode)
        if whole:
            image.load()
        return header


def _orientation(image: Any) -> int:
    """How the camera was held, from 1 to 8; 5 and above swap height and width."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # or else all of the file would be read for it
    return int(image.getexif().get(ORIENTATION, 1))


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _common_size(headers: Sequence[_Header]) -> tuple[int, int]:
    first = headers[0]
    for header in headers:
        if header.size != first.size:
            raise DataError(
                f"{first.path} has {first.size[0]} × {first.size[1]} pixels (height × width), but "
                f"{header.path} has {header.size[0]} × {header.size[1]}. Pass size=(h, w) to "
                "files.open_images, or --image-size h w on the command line, to resize all."
            )
    return first.size


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "data") from error
    return Image
