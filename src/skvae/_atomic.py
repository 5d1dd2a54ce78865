"""Writing a file so that it is there whole or not at all."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_atomically", "write_atomically"]


def write_atomically(
    path: str | os.PathLike[str], content: bytes | bytearray, *, overwrite: bool = False
) -> None:
    """Write a file so that, whatever happens, the path holds the old or the new content."""
    with open_atomically(path, overwrite=overwrite) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomically(
    path: str | os.PathLike[str], *, overwrite: bool = False
) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the path's place when the context is left.

    Where it is left by an error, the path holds what it held before.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"{path} exists. Pass overwrite=True (--force on the command line) to replace it."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write {path}: the directory {path.parent} does not exist. Create it first."
        )
    # In the same directory, since only there a rename is atomic.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
