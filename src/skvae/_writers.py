"""Writing a table to a file one block after the other."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skvae._atomic import open_atomically
from skvae.exceptions import DataError, MissingExtraError
from skvae.files import write_text

__all__ = ["FORMATS", "writing"]

Write: TypeAlias = Callable[[NDArray[Any]], None]

FORMATS = (".npy", ".parquet", ".csv", ".tsv")


@contextmanager
def writing(
    path: Path, n: int, columns: Sequence[str], *, overwrite: bool = False
) -> Iterator[Write]:
    """Give a function that appends blocks of shape (m, len(columns)) to a file.

    The file is there, whole, when the context is left, and not at all where that is by an error.

    Parameters
    ----------
    path : Path
        Its ending says the format: ``.npy``, ``.parquet``, ``.csv`` or ``.tsv``.
    n : int
        Number of rows in all.
    columns : sequence of str
    overwrite : bool
        Replace an existing file.
    """
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise DataError(
            f"{path}: cannot write this format block by block. Known: {', '.join(FORMATS)}."
        )
    with open_atomically(path, overwrite=overwrite) as file:
        if ending == ".npy":
            yield _npy(file, n, len(columns))
        elif ending == ".parquet":
            with _parquet(file, columns) as write:
                yield write
        else:
            yield _text(file, columns, "\t" if ending == ".tsv" else ",")


def _npy(file: BinaryIO, n: int, width: int) -> Write:
    def write(block: NDArray[Any]) -> None:
        if file.tell() == 0:
            header = np.lib.format.header_data_from_array_1_0(block[:0])
            np.lib.format.write_array_header_1_0(file, {**header, "shape": (n, width)})
        file.write(np.ascontiguousarray(block).data)

    return write


def _text(file: BinaryIO, columns: Sequence[str], delimiter: str) -> Write:
    def write(block: NDArray[Any]) -> None:
        text = io.StringIO()
        write_text(text, block, columns, delimiter, header=file.tell() == 0)
        file.write(text.getvalue().encode())

    return write


@contextmanager
def _parquet(file: BinaryIO, columns: Sequence[str]) -> Iterator[Write]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "data") from error
    writer: Any = None

    def write(block: NDArray[Any]) -> None:
        nonlocal writer
        table = pyarrow.table({name: block[:, i] for i, name in enumerate(columns)})
        writer = writer or parquet.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
