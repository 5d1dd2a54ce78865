"""Rows in files, read a block at a time, so that a table may be larger than memory."""

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, MissingExtraError

__all__ = [
    "ChannelsFirst",
    "Divided",
    "NpyRows",
    "ParquetRows",
    "Rows",
    "Without",
    "data_files",
    "rows_per_block",
]

Array = NDArray[Any]

BLOCK_BYTES = 1 << 22  # small against a buffer of many blocks, large against one disk access
BLOCK_ROWS = 1 << 16


class Rows(abc.ABC):
    """A table as a sequence of blocks; subclasses say how one of them is read.

    Attributes
    ----------
    sizes : ndarray of int, shape (n_blocks,)
        Rows of each block.
    event_shape : tuple of int
        Shape of one row.
    dtype : dtype
        float32 or float64: what blocks are returned in.
    columns : tuple of str or None
    channels_first : bool
        Whether rows are known to be (c, h, w), also for users who have channels last.
    """

    channels_first: bool = False
    sizes: NDArray[np.int64]
    event_shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns: tuple[str, ...] | None

    @abc.abstractmethod
    def block(self, i: int) -> Array:
        """Read block i, shape (sizes[i], n_features); a missing cell is NaN."""

    @abc.abstractmethod
    def origin(self, i: int) -> tuple[str, int]:
        """Return the file of block i, and the number of its first row in there."""

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def __iter__(self) -> Iterator[Array]:
        """Read one block after the other."""
        return (self.block(i) for i in range(self.n_blocks))

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return len(self.sizes)

    @property
    def n_features(self) -> int:
        """Size D of one row."""
        return int(np.prod(self.event_shape, dtype=np.int64))

    def split(self) -> "Iterator[Rows]":
        """Yield each block as rows of its own."""
        return (_Single(self, i) for i in range(self.n_blocks))

    def read(self) -> Array:
        """Read all rows into memory, shape (n, *event_shape)."""
        return np.concatenate(list(self)).reshape(-1, *self.event_shape)


@dataclass(frozen=True)
class _Piece:
    """Where a block is: a slice of a file, or of one row group of it."""

    file: int
    start: int  # first row in the file
    size: int
    group: int = 0
    part: int = 0


class NpyRows(Rows):
    """Rows of one ``.npy`` file, or of several with the same shape of a row.

    Blocks are read, not mapped: a map of the whole file would count against a limit on the
    process's address space. (A file in Fortran order is mapped, since its rows are scattered.)

    Parameters
    ----------
    paths : sequence of path
        In this order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [_NpyFile.open(path) for path in paths]
        first = self._files[0]
        for file in self._files:
            if file.shape[1:] != first.shape[1:]:
                raise DataError(
                    f"{file.path} has rows of shape {file.shape[1:]}, but {first.path} has rows "
                    f"of shape {first.shape[1:]}."
                )
        self.event_shape = first.shape[1:]
        self.dtype = np.result_type(*(_float_for(file.dtype) for file in self._files))
        self.columns = None
        per_block = rows_per_block(self.n_features, self.dtype)
        self._pieces = [
            _Piece(i, start, min(per_block, file.shape[0] - start))
            for i, file in enumerate(self._files)
            for start in range(0, file.shape[0], per_block)
        ]
        self.sizes = _sizes(self._pieces, paths)

    def block(self, i: int) -> Array:
        """Read block i."""
        piece = self._pieces[i]
        rows = self._files[piece.file].read(piece.start, piece.size)
        return rows.reshape(piece.size, -1).astype(self.dtype, copy=False)

    def origin(self, i: int) -> tuple[str, int]:
        """Return the file of block i, and the number of its first row in there."""
        piece = self._pieces[i]
        return str(self._files[piece.file].path), piece.start


@dataclass(frozen=True)
class _NpyFile:
    """The header of a .npy file."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    offset: int

    @classmethod
    def open(cls, path: Path) -> "_NpyFile":
        try:
            with path.open("rb") as file:
                old = np.lib.format.read_magic(file) == (1, 0)
                parse = (
                    np.lib.format.read_array_header_1_0
                    if old
                    else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = parse(file)
                offset = file.tell()
        except ValueError as error:
            raise DataError(f"{path} is not a readable NumPy file: {error}") from error
        if dtype.kind not in "biuf":
            raise DataError(f"{path} holds {dtype}, but numbers are needed.")
        if len(shape) < 2:
            raise DataError(f"{path} has shape {shape}, but rows of features are needed.")
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if path.stat().st_size < offset + size:
            raise DataError(f"{path} is truncated: its header promises {size} bytes of data.")
        return cls(path, shape, dtype, fortran, offset)

    def read(self, start: int, size: int) -> Array:
        if self.fortran:
            whole = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, "F")
            return np.array(whole[start : start + size], order="C")
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        offset = self.offset + start * width * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, size * width, offset=offset)


class ParquetRows(Rows):
    """Rows of one Parquet file or several with the same columns; all must be numbers.

    A block is a row group or, where that is larger than a few megabytes, a part of one. To read a
    part, what stands before it in its group must be decoded, too: files whose row groups hold a
    few megabytes are read fastest in random order.

    Parameters
    ----------
    paths : sequence of path
        In this order.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        try:
            import pyarrow as arrow
            from pyarrow import parquet
        except ImportError as error:
            raise MissingExtraError("pyarrow", "data") from error
        self._arrow, self._parquet, self._paths = arrow, parquet, tuple(paths)
        self._cursor: tuple[int, int, int, Iterator[Any]] | None = None
        groups: list[list[int]] = []
        first: dict[str, Any] = {}
        for path in paths:
            try:
                metadata = parquet.read_metadata(path)
                schema = metadata.schema.to_arrow_schema()
            except (arrow.ArrowInvalid, arrow.ArrowNotImplementedError) as error:
                raise DataError(f"{path} is not a readable Parquet file: {error}") from error
            types = dict(zip(schema.names, schema.types, strict=True))
            first = first or types
            _check_columns(path, types, paths[0], first)
            groups.append([metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)])
        self.columns = tuple(first)
        self.event_shape = (len(first),)
        kinds = [np.dtype(kind.to_pandas_dtype()) for kind in first.values()]
        self.dtype = np.result_type(*map(_float_for, kinds))
        self._per_block = rows_per_block(self.n_features, self.dtype)
        self._pieces = list(self._cut(groups))
        self.sizes = _sizes(self._pieces, paths)

    def _cut(self, groups: list[list[int]]) -> Iterator[_Piece]:
        for file, sizes in enumerate(groups):
            start = 0
            for group, size in enumerate(sizes):
                for part, first in enumerate(range(0, size, self._per_block)):
                    rows = min(self._per_block, size - first)
                    yield _Piece(file, start + first, rows, group, part)
                start += size

    def block(self, i: int) -> Array:
        """Read block i; after block i − 1 of the same row group, from where that ended."""
        piece = self._pieces[i]
        place = (piece.file, piece.group, piece.part)
        if self._cursor is None or self._cursor[:3] != place:
            parts = self._parts(piece)
            for _ in range(piece.part):
                next(parts)
        else:
            parts = self._cursor[3]
        rows = next(parts)
        more = i + 1 < len(self._pieces) and self._pieces[i + 1].part > 0
        self._cursor = (piece.file, piece.group, piece.part + 1, parts) if more else None
        return rows

    def _parts(self, piece: _Piece) -> Iterator[Array]:
        with self._parquet.ParquetFile(self._paths[piece.file], pre_buffer=False) as file:
            # Batches of the reader may end early; parts may not.
            held: list[Array] = []
            for batch in file.iter_batches(
                self._per_block, row_groups=[piece.group], columns=list(self.columns or ())
            ):
                held.append(self._to_numpy(batch))
                if sum(map(len, held)) >= self._per_block:
                    rows = np.concatenate(held)
                    yield rows[: self._per_block]
                    held = [rows[self._per_block :]]
            if sum(map(len, held)):
                yield np.concatenate(held)

    def _to_numpy(self, batch: Any) -> Array:
        out = np.empty((batch.num_rows, batch.num_columns), self.dtype)
        kind = self._arrow.from_numpy_dtype(self.dtype)
        for j, column in enumerate(batch.columns):
            out[:, j] = column.cast(kind, safe=False).to_numpy(zero_copy_only=False)
        return out

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cursor": None}  # an open file stays in its process

    def origin(self, i: int) -> tuple[str, int]:
        """Return the file of block i, and the number of its first row in there."""
        piece = self._pieces[i]
        return str(self._paths[piece.file]), piece.start


class _View(Rows):
    """Other rows, with something done to each block."""

    def __init__(self, rows: Rows) -> None:
        self.rows, self.sizes = rows, rows.sizes
        self.event_shape, self.dtype, self.columns = rows.event_shape, rows.dtype, rows.columns
        self.channels_first = rows.channels_first

    def origin(self, i: int) -> tuple[str, int]:
        """Return the file of block i, and the number of its first row in there."""
        return self.rows.origin(i)


class _Single(_View):
    """One block of other rows."""

    def __init__(self, rows: Rows, i: int) -> None:
        super().__init__(rows)
        self.sizes, self._i = rows.sizes[i : i + 1], i

    def block(self, i: int) -> Array:
        """Read the block."""
        return self.rows.block(self._i + i)

    def origin(self, i: int) -> tuple[str, int]:
        """Return the file of the block, and the number of its first row in there."""
        return self.rows.origin(self._i + i)


class Divided(_View):
    """Rows whose values are divided by a number."""

    def __init__(self, rows: Rows, by: float) -> None:
        super().__init__(rows)
        self.by = by

    def block(self, i: int) -> Array:
        """Read block i."""
        return np.asarray(self.rows.block(i) / self.dtype.type(self.by))


class ChannelsFirst(_View):
    """Rows of (*space, c) as rows of (c, *space).

    Parameters
    ----------
    rows : Rows
    event : tuple of int
        Their shape, (*space, c), which flat rows do not have of their own.
    """

    def __init__(self, rows: Rows, event: tuple[int, ...]) -> None:
        super().__init__(rows)
        self._event = event
        self.event_shape = (event[-1], *event[:-1])

    def block(self, i: int) -> Array:
        """Read block i."""
        block = self.rows.block(i)
        rows = block.reshape(len(block), *self._event)
        return np.moveaxis(rows, -1, 1).reshape(block.shape)


class Without(_View):
    """Rows without some of them.

    Parameters
    ----------
    rows : Rows
    left_out : ndarray of int
        Numbers of rows.
    """

    def __init__(self, rows: Rows, left_out: NDArray[np.int64]) -> None:
        super().__init__(rows)
        ends = np.cumsum(rows.sizes)
        ordered = np.sort(left_out)
        cuts = np.searchsorted(ordered, np.concatenate([[0], ends]))
        starts = ends - rows.sizes
        self._gone = [ordered[cuts[i] : cuts[i + 1]] - starts[i] for i in range(rows.n_blocks)]
        self.sizes = rows.sizes - np.diff(cuts)

    def block(self, i: int) -> Array:
        """Read block i."""
        return np.delete(self.rows.block(i), self._gone[i], axis=0)


def data_files(path: Path) -> list[Path]:
    """Return the files of a directory tree in order of their names, or the one file.

    Not those whose name, or a folder's name, begins with ``_`` or ``.``, as other writers mark
    what is not data.
    """
    return [path] if path.is_file() else sorted(p for p in path.rglob("*") if _is_data(p, path))


def _is_data(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(("_", ".")) for part in path.relative_to(root).parts)
    return not hidden and path.is_file()


def _check_columns(
    path: Path, types: dict[str, Any], first_path: Path, first: dict[str, Any]
) -> None:
    from pyarrow import types as kinds

    for name, kind in types.items():
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
            raise DataError(
                f"{path}, column {name!r} holds {kind}, but numbers are needed. "
                "Encode it as numbers, or remove the column."
            )
    if list(types) != list(first):
        odd = [n for n in [*first, *types] if (n in first) != (n in types)]
        what = f"differing: {', '.join(odd)}" if odd else "their order differs"
        raise DataError(f"{path} does not have the columns of {first_path}; {what}.")
    for name, kind in types.items():
        if kind != first[name]:
            raise DataError(
                f"{path}, column {name!r} holds {kind}, but {first[name]} in {first_path}."
            )


def _float_for(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float that holds a type as arrays in memory are converted: small ones go to float32."""
    small = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if small else np.float64)


def rows_per_block(n_features: int, dtype: np.dtype[Any]) -> int:
    """Return how many rows make a block of a few megabytes."""
    return min(BLOCK_ROWS, max(1, BLOCK_BYTES // max(1, n_features * dtype.itemsize)))


def _sizes(pieces: list[_Piece], paths: Sequence[Path]) -> NDArray[np.int64]:
    if not pieces:
        raise DataError(f"{', '.join(map(str, paths[:3]))}: there are no rows.")
    return np.array([piece.size for piece in pieces], dtype=np.int64)
