"""The IDX format of the MNIST family: a short header, then one array, perhaps gzipped."""

import gzip
import io
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from skvae.exceptions import DataError

__all__ = ["parse_idx", "read_bounded", "read_idx"]

MAX_BYTES = 1 << 30
"""Largest content that `read_idx` accepts, so that a small ``.gz`` cannot fill the memory."""

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MAX_DIMS = 32  # numpy 1 allows no more


def read_bounded(stream: IO[bytes], name: str, limit: int = MAX_BYTES) -> bytearray:
    """Read a seekable stream to its end, through gzip if it starts like gzip.

    Parameters
    ----------
    stream : binary file object
        Read from its start.
    name : str
        What messages call it.
    limit : int, default=1 GiB
        Largest number of uncompressed bytes.

    Returns
    -------
    bytearray
        The uncompressed content.

    Raises
    ------
    DataError
        The content exceeds `limit`, or its gzip data are damaged.
    """
    # The content decides, not the file name: some servers and browsers unpack a .gz on the way.
    zipped = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    source = gzip.GzipFile(fileobj=stream) if zipped else stream
    content = bytearray()
    try:
        while chunk := source.read(1 << 20):
            content += chunk
            if len(content) > limit:
                raise DataError(f"{name}: refused, it holds more than {limit:,} bytes.")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{name}: damaged gzip data ({error}).") from error
    return content


def parse_idx(content: bytes | bytearray, name: str) -> npt.NDArray[Any]:
    """Turn uncompressed IDX content into an array; `name` is what messages call it."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise DataError(f"{name}: not an IDX file, it starts with {bytes(content[:4])!r}.")
    code, n_dims = content[2], content[3]
    if code not in _DTYPES:
        raise DataError(f"{name}: unknown IDX data type 0x{code:02x}.")
    start = 4 + 4 * n_dims
    if not 1 <= n_dims <= _MAX_DIMS or len(content) < start:
        raise DataError(f"{name}: IDX header of {n_dims} dimensions in {len(content)} bytes.")
    shape = struct.unpack_from(f">{n_dims}I", content, 4)
    dtype = np.dtype(_DTYPES[code])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - start != expected:
        raise DataError(
            f"{name}: shape {shape} of {dtype.name} needs {expected:,} bytes, "
            f"got {len(content) - start:,}."
        )
    try:
        array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    except ValueError as error:  # (0, 2**32 - 1, 2**32 - 1) fits its zero bytes, not numpy
        raise DataError(f"{name}: shape {shape} is too large.") from error
    return array.astype(dtype.newbyteorder("="))  # a copy: writable, and in native byte order


def read_idx(path_or_bytes: str | os.PathLike[str] | bytes | bytearray) -> npt.NDArray[Any]:
    """Read one IDX file, plain or gzipped.

    Parameters
    ----------
    path_or_bytes : path, bytes or bytearray
        The file, or its content.

    Returns
    -------
    ndarray
        Of the shape and type that the header says, writable, in native byte order.

    Raises
    ------
    DataError
        The content is not IDX, its length does not fit its header, its gzip data are damaged, or
        it holds more than `MAX_BYTES` bytes. The message names the file.
    OSError
        The file cannot be read.
    """
    if isinstance(path_or_bytes, bytes | bytearray):
        name = "<bytes>"
        content = read_bounded(io.BytesIO(path_or_bytes), name)
    else:
        name = os.fspath(path_or_bytes)
        with Path(name).open("rb") as file:
            content = read_bounded(file, name)
    return parse_idx(content, name)
