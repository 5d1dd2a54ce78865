"""Writing a file so that it is there whole or not at all."""

import contextlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_atomically", "remove_leftovers", "write_atomically"]

HOUR = 3600.0


def write_atomically(
    path: str | os.PathLike[str], content: bytes | bytearray, *, overwrite: bool = False
) -> None:
    """Write a file so that, whatever happens, the path holds the old or the new content.

    Raises
    ------
    FileExistsError
        The path exists and ``overwrite`` is False.
    OSError
        The file could not be written; the error names the path, which is as it was.
    """
    with open_atomically(path, overwrite=overwrite) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomically(
    path: str | os.PathLike[str], *, overwrite: bool = False
) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes the path's place when the context is left.

    Where it is left by an error, the path holds what it held before. A process that is killed
    leaves its temporary file, ``.<name>.<16 hex digits>.tmp``, which is in nobody's way; the next
    write to the path removes it once it is an hour old, when nobody can still be writing it.
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
    remove_leftovers(path, older_than=HOUR)
    # In the same directory, since only there a rename is atomic.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, str(temporary)):  # of what the content comes from
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:  # after the rename there is none
        with contextlib.suppress(OSError):
            temporary.unlink()
    if os.name == "posix":
        # The new content is in place; a directory that cannot be synced takes nothing from that.
        with contextlib.suppress(OSError):
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def remove_leftovers(path: Path, *, older_than: float) -> None:
    """Remove temporary files of killed writes to the path that were not touched for so long.

    Parameters
    ----------
    path : Path
    older_than : float
        Seconds; 0 where the caller is the only one that writes there.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp")
    latest = time.time() - older_than
    with contextlib.suppress(OSError):
        for file in [p for p in path.parent.iterdir() if name.fullmatch(p.name)]:
            if file.lstat().st_mtime <= latest:
                file.unlink()
