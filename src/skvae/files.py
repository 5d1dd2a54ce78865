"""Tables in files: NumPy (.npy, .npz), Parquet, text (.csv, .tsv), IDX, images; by the endings.

Sequences have files of their own, one on each line: .txt and .jsonl.

What may be larger than memory, `stream_of` opens without reading it.
"""

import csv
import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from skvae._idx import read_idx
from skvae._images import ENDINGS, open_images
from skvae._lines import has_lines, read_lines
from skvae._rows import NpyRows, ParquetRows, Rows, data_files
from skvae.exceptions import DataError

__all__ = [
    "FORMATS",
    "NpyRows",
    "ParquetRows",
    "Rows",
    "Table",
    "in_memory",
    "open_images",
    "open_rows",
    "read",
    "stream_of",
    "to_bytes",
    "write_text",
]

FORMATS = (".npy", ".npz", ".parquet", ".csv", ".tsv", "IDX (-ubyte, .idx, also .gz)", "images")
STREAM_ABOVE = 1 << 29  # bytes of a .npy file
MISSING = {"", "na", "nan", "null", "none"}


@dataclass(frozen=True)
class Table:
    """Rows of numbers.

    Attributes
    ----------
    values : ndarray, shape (n, ...)
        Missing cells of a text file are NaN.
    columns : tuple of str or None
        The header of a text file.
    """

    values: NDArray[Any]
    columns: tuple[str, ...] | None = None


def read(path: str | os.PathLike[str]) -> Table:
    """Read a table.

    Parameters
    ----------
    path : path
        ``.npz`` files hold one array, or one that is called ``X``. A directory holds ``.npy``
        files, Parquet files or images.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        The format is unknown, or the content is not what the name's ending says; for text the
        message names line and column.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() in (".parquet", *ENDINGS):
        rows = open_rows(path)
        return Table(rows.read(), rows.columns)
    if not path.is_file():
        raise FileNotFoundError(f"There is no data file {str(path)!r}.")
    name = path.name.lower()
    if name.endswith((".npy", ".npz")):
        return Table(_read_numpy(path))
    if name.endswith((".csv", ".tsv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _read_text(file, "\t" if name.endswith(".tsv") else ",", str(path))
    if name.removesuffix(".gz").endswith(("ubyte", ".idx")):
        return Table(read_idx(path))
    raise DataError(f"{path}: the format is not known by its ending. Known: {', '.join(FORMATS)}.")


def stream_of(X: Any) -> Rows | None:
    """Return rows to be read a block at a time, or None for what is in memory or soon will be.

    Parameters
    ----------
    X : anything that `VAE.fit` takes
        Paths of directories, of Parquet files, of images and of ``.npy`` files above 512 MiB are
        streamed.
    """
    if isinstance(X, Rows):
        return X
    if not isinstance(X, str | Path):
        return None
    path = Path(X)
    ending = path.suffix.lower()
    large = ending == ".npy" and path.is_file() and path.stat().st_size > STREAM_ABOVE
    known = ending in (".parquet", *ENDINGS)
    return open_rows(path) if path.is_dir() or known or large else None


def open_rows(path: str | os.PathLike[str]) -> Rows:
    """Open a ``.npy`` or Parquet file, or a directory of one of the two, in order of the names.

    Of a directory tree, all files with the ending are taken, but not those whose name, or a
    folder's name, begins with ``_`` or ``.``, as other writers mark what is not data. Where there
    are neither, images are opened by `open_images`.

    Raises
    ------
    FileNotFoundError
        There is no such file or directory.
    DataError
        Nothing to read, both kinds in one directory, or files that do not fit together.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no data file {str(path)!r}.")
    found = data_files(path)
    npy = [p for p in found if p.suffix.lower() == ".npy"]
    parquet = [p for p in found if p.suffix.lower() == ".parquet"]
    if npy and parquet:
        raise DataError(f"{path} holds both .npy and .parquet files; keep one kind.")
    if npy or parquet:
        return NpyRows(npy) if npy else ParquetRows(parquet)
    if any(p.suffix.lower() in ENDINGS for p in found):
        return open_images(path)
    raise DataError(f"{path} holds no .npy and no .parquet file, and no images.")


def in_memory(X: Any) -> Any:
    """Read what is still in files into a `Table`, or a list of sequences; pass on the rest."""
    if isinstance(X, Rows):
        return Table(X.read(), X.columns)
    if isinstance(X, str | Path) and has_lines(X):
        return read_lines(X)
    return read(X) if isinstance(X, str | Path) else X


def to_bytes(values: NDArray[Any], columns: Sequence[str] | None, name: str) -> bytes:
    """Return the content of a file whose name says the format.

    Raises
    ------
    DataError
        The format cannot be written, or the array has too many dimensions for it.
    """
    lower = name.lower()
    if lower.endswith(".npy"):
        buffer = io.BytesIO()
        np.save(buffer, values, allow_pickle=False)
        return buffer.getvalue()
    if lower.endswith(".npz"):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, X=values)
        return buffer.getvalue()
    if lower.endswith((".csv", ".tsv")):
        text = io.StringIO()
        write_text(text, values, columns, "\t" if lower.endswith(".tsv") else ",")
        return text.getvalue().encode()
    raise DataError(f"{name}: cannot write this format. Known: .npy, .npz, .csv, .tsv.")


def write_text(
    stream: TextIO,
    values: NDArray[Any],
    columns: Sequence[str] | None = None,
    delimiter: str = ",",
    *,
    header: bool = True,
) -> None:
    """Write rows as text that reads back to the same numbers; NaN becomes an empty cell."""
    if values.ndim > 2:
        raise DataError(
            f"text holds two-dimensional tables, but the data have shape {values.shape}. "
            "Write .npy or .npz."
        )
    rows = values.reshape(len(values), -1)
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    if header:
        names = columns if columns is not None else [f"x{i}" for i in range(rows.shape[1])]
        writer.writerow(names)
    for row in rows:
        # The array's own str is the shortest text that gives the same float32 or float64 again.
        writer.writerow(["" if np.isnan(v) else str(v) for v in row])


def _read_numpy(path: Path) -> NDArray[Any]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return np.asarray(loaded)
        with loaded:
            names = loaded.files
            if len(names) != 1 and "X" not in names:
                raise DataError(
                    f"{path} holds the arrays {', '.join(names) or '(none)'}; "
                    "it must hold one array, or one that is called 'X'."
                )
            return np.asarray(loaded["X" if "X" in names else names[0]])
    except DataError:
        raise
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not a readable NumPy file: {error}") from error


def _read_text(file: TextIO, delimiter: str, name: str) -> Table:
    try:
        rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{name} is not readable as text: {error}") from error
    if not rows:
        raise DataError(f"{name} is empty.")
    header = None if all(_is_number(cell) for cell in rows[0]) else tuple(rows[0])
    body = rows[1:] if header else rows
    width = len(rows[0])
    values = np.empty((len(body), width))
    for i, row in enumerate(body):
        line = i + (2 if header else 1)
        if len(row) != width:
            raise DataError(f"{name}, line {line}: {len(row)} cells, expected {width}.")
        for j, cell in enumerate(row):
            try:
                values[i, j] = np.nan if cell.strip().lower() in MISSING else float(cell)
            except ValueError:
                column = repr(header[j]) if header else str(j + 1)
                raise DataError(
                    f"{name}, line {line}, column {column}: {cell!r} is not a number. "
                    "Encode categories as numbers, or remove the column."
                ) from None
    return Table(values, header)


def _is_number(cell: str) -> bool:
    if cell.strip().lower() in MISSING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True
