"""Tables with columns of any kind in files, whose observed cells are written as they were read."""

import contextlib
import csv
import datetime as dt
import importlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from skvae.exceptions import DataError, MissingExtraError
from skvae.schema.cells import is_missing

__all__ = [
    "ENDINGS",
    "NUMBER",
    "ParquetTable",
    "TextTable",
    "check_ending",
    "delimiter_of",
    "open_table",
    "stacked",
    "to_bytes",
    "write_text",
]

Holes: TypeAlias = Mapping[str, NDArray[np.bool_]]

ENDINGS = (".csv", ".tsv", ".parquet")
NUMBER = "imputation"  # the column that numbers drawn tables
MISSING = {  # what pandas takes for it
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "NAN", "None", "n/a", "nan", "null"),
}
BOOLEANS = {"True": True, "TRUE": True, "true": True}
BOOLEANS |= {"False": False, "FALSE": False, "false": False}
INTEGER = re.compile(r"[+-]?\d+", re.ASCII)


class TextTable:
    """A table in a ``.csv`` or ``.tsv`` file with a header.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.names, rows, self._lines = _read(path)
        columns = zip(*rows, strict=True) if rows else ((),) * len(self.names)
        self._cells: dict[str, Sequence[str]] = dict(zip(self.names, columns, strict=True))

    def frame(self, families: Mapping[str, str], missing_values: Any = np.nan) -> Any:
        """Return the table as a frame of pandas, or of polars where there is no pandas.

        Parameters
        ----------
        families : mapping from column to "bool", "integer", "float", "text" or "date"
            What columns are read as; ``"integer"`` takes fractions, too. Of others, the first of
            the first four that all cells allow.
        missing_values : scalar
            A further mark of a missing cell.

        Raises
        ------
        DataError
            A cell is not what its column is read as; the message names line and column.
        MissingExtraError
            There is no library for frames.
        """
        columns = {}
        for name, cells in self._cells.items():
            known = [None if _is_hole(cell, missing_values) else cell for cell in cells]
            columns[name] = self._typed(name, known, families.get(name, ""))
        return _framed(columns)

    def rows(self, completed: Any, holes: Holes) -> tuple[list[str], Iterator[Sequence[str]]]:
        """Return header and rows of a completed frame; observed cells as they are in the file.

        Parameters
        ----------
        completed : DataFrame
            The frame with its missing cells replaced; columns may be left out and added.
        holes : mapping from column to ndarray of bool, shape (n,)
            Which cells were missing.
        """
        import narwhals as nw

        frame = nw.from_native(completed, eager_only=True)
        columns = [self._written(name, frame[name].to_list(), holes) for name in frame.columns]
        return frame.columns, zip(*columns, strict=True)

    def _typed(self, name: str, cells: list[str | None], family: str) -> tuple[str, list[Any]]:
        """Return the family that cells are of, and their values."""
        attempts = ATTEMPTS.get(family, GUESSES)
        if not any(cell is not None for cell in cells):
            return "text", list(cells)
        for attempt in attempts:
            try:
                return attempt, READERS[attempt](cells)
            except ValueError:
                continue
        last, what = attempts[-1], "an ISO date" if family == "date" else "a number"
        for i, cell in enumerate(cells):
            try:
                READERS[last]([cell])
            except ValueError:
                raise DataError(
                    f"{self._path}, line {self._lines[i]}, column {name!r}: {cell!r:.60} is not "
                    f"{what}."
                ) from None
        raise DataError(f"{self._path}, column {name!r} has times with and without a time zone.")

    def _written(self, name: str, values: list[Any], holes: Holes) -> list[str]:
        if name not in self._cells:
            return list(map(str, values))
        cells, hole = self._cells[name], holes[name]
        spell = _spelling(cell for cell, gone in zip(cells, hole, strict=True) if not gone)
        return [
            spell(value) if gone and not is_missing(value) else cell
            for cell, value, gone in zip(cells, values, hole, strict=True)
        ]


class ParquetTable:
    """A table in a Parquet file.

    Attributes
    ----------
    names : list of str
    """

    def __init__(self, path: Path) -> None:
        self._frame = _read_parquet(path)
        self.names = list(self._frame.columns)

    def frame(self, families: Mapping[str, str], missing_values: Any = np.nan) -> Any:
        """Return the frame, whose types the file says."""
        return self._frame

    def rows(self, completed: Any, holes: Holes) -> tuple[list[str], Iterator[Sequence[str]]]:
        """Return header and rows of a completed frame as text."""
        import narwhals as nw

        if any(getattr(getattr(completed, "index", None), "names", ())):
            completed = completed.reset_index()  # a named index says something of the rows
        text = nw.from_native(completed, eager_only=True).write_csv()
        rows = csv.reader(io.StringIO(text))
        return next(rows), (row or [""] for row in rows)


def open_table(path: str | os.PathLike[str]) -> TextTable | ParquetTable:
    """Open a table by the ending of its name.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        The format is unknown, the content is not what the ending says, or two columns have the
        same name.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no data file {str(path)!r}.")
    check_ending(path, "read")
    return ParquetTable(path) if path.suffix.lower() == ".parquet" else TextTable(path)


def check_ending(path: Path, verb: str) -> None:
    """Raise unless a name says a format that is known here.

    Raises
    ------
    DataError
    """
    if path.suffix.lower() not in ENDINGS:
        raise DataError(
            f"{path}: cannot {verb} this format as a table with columns of any kind. "
            f"Known: {', '.join(ENDINGS)}."
        )


def delimiter_of(name: str) -> str:
    """Return what stands between the cells of a text file."""
    return "\t" if name.lower().endswith(".tsv") else ","


def stacked(tables: Sequence[Any]) -> Any:
    """Return tables below each other, with their numbers from 1 in a first column."""
    import narwhals as nw

    frames = [
        nw.from_native(table, eager_only=True).select(
            nw.lit(number, dtype=nw.Int64).alias(NUMBER), nw.all()
        )
        for number, table in enumerate(tables, 1)
    ]
    return nw.concat(frames).to_native()


def write_text(
    stream: TextIO,
    source: TextTable | ParquetTable,
    tables: Iterable[Any],
    holes: Holes,
    *,
    delimiter: str = ",",
    numbered: bool = False,
) -> None:
    """Write completed tables of a source below each other as text.

    Parameters
    ----------
    stream : file
    source : TextTable or ParquetTable
        Where they come from.
    tables : iterable of DataFrame
    holes : mapping from column to ndarray of bool, shape (n,)
    delimiter : str
    numbered : bool
        Begin each row with the number of its table, from 1.
    """
    writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
    for number, table in enumerate(tables, 1):
        header, rows = source.rows(table, holes)
        if number == 1:
            writer.writerow([NUMBER, *header] if numbered else header)
        writer.writerows(([number, *row] for row in rows) if numbered else rows)


def to_bytes(
    name: str,
    source: TextTable | ParquetTable,
    tables: Sequence[Any],
    holes: Holes,
    *,
    numbered: bool = False,
) -> bytes:
    """Return the content of a file whose name says the format; otherwise as `write_text`."""
    if not name.lower().endswith(".parquet"):
        text = io.StringIO()
        write_text(text, source, tables, holes, delimiter=delimiter_of(name), numbered=numbered)
        return text.getvalue().encode()
    import narwhals as nw

    buffer = io.BytesIO()
    table = stacked(tables) if numbered else tables[0]
    _parquet("pandas" in type(table).__module__)
    nw.from_native(table, eager_only=True).write_parquet(buffer)
    return buffer.getvalue()


# -- reading text ---------------------------------------------------------------------------------


def _read(path: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """Return the header, the rows, and the lines on which these end."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=delimiter_of(path.name))
            numbered = [(row, reader.line_num) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not readable as text: {error}") from error
    # An empty line is no row, but of a single column it is a missing cell.
    single = bool(numbered) and len(numbered[0][0]) == 1
    (names, _), *rows = [(row or [""], line) for row, line in numbered if row or single] or [
        ([], 0)
    ]
    if not names:
        raise DataError(f"{path} is empty.")
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise DataError(f"{path}: columns with the same name: {', '.join(map(repr, twice))}.")
    if all(_is_number(name) for name in names):
        raise DataError(
            f"{path}: the first line must hold the names of the columns; it holds numbers."
        )
    for row, line in rows:
        if len(row) != len(names):
            raise DataError(f"{path}, line {line}: {len(row)} cells, expected {len(names)}.")
    return names, [row for row, _ in rows], [line for _, line in rows]


def _is_hole(cell: str, missing_values: Any) -> bool:
    bare = cell.strip()
    if bare in MISSING or bare == str(missing_values):
        return True
    if isinstance(missing_values, str) or is_missing(missing_values):
        return False
    return _is_number(bare) and float(bare) == missing_values


def _is_number(cell: str) -> bool:
    try:
        _float(cell)
    except ValueError:
        return False
    return True


def _float(cell: str) -> float:
    if "_" in cell:  # which Python takes
        raise ValueError(cell)
    return float(cell)


def _integer(cell: str) -> int:
    if not INTEGER.fullmatch(cell.strip()) or abs(int(cell)) >= 1 << 63:
        raise ValueError(cell)
    return int(cell)


def _bool(cell: str) -> bool:
    if (bare := cell.strip()) not in BOOLEANS:
        raise ValueError(cell)
    return BOOLEANS[bare]


def _dates(cells: Sequence[str | None]) -> list[Any]:
    """Read ISO dates; times where one has a time, in UTC where they have a zone."""
    bare = [None if cell is None else cell.strip() for cell in cells]
    try:
        return _each(dt.date.fromisoformat)(bare)
    except ValueError:
        times = _each(dt.datetime.fromisoformat)(bare)
    if len({time.tzinfo is None for time in times if time is not None}) > 1:
        raise ValueError("times with and without a time zone")
    return [t if t is None or t.tzinfo is None else t.astimezone(dt.UTC) for t in times]


def _each(read: Callable[[str], Any]) -> Callable[[Sequence[str | None]], list[Any]]:
    return lambda cells: [None if cell is None else read(cell) for cell in cells]


READERS: dict[str, Callable[[Sequence[str | None]], list[Any]]] = {
    "bool": _each(_bool),
    "integer": _each(_integer),
    "float": _each(_float),
    "text": list,
    "date": _dates,
}
GUESSES = ("bool", "integer", "float", "text")
ATTEMPTS = {
    "integer": ("integer", "float"),
    "float": ("float",),
    "text": ("text",),
    "date": ("date",),
}

# -- frames ---------------------------------------------------------------------------------------

PANDAS = {"bool": "boolean", "integer": "Int64", "float": "Float64", "text": "string"}
POLARS = {"bool": "Boolean", "integer": "Int64", "float": "Float64", "text": "String"}


def _framed(columns: Mapping[str, tuple[str, list[Any]]]) -> Any:
    """Return a frame of columns, given with what they hold, in types with missing values."""
    if _has_pandas():
        import pandas as pd

        # Of dates, pandas keeps the objects, since it has no type without a time of day.
        return pd.DataFrame(
            {n: pd.Series(v, dtype=PANDAS.get(family)) for n, (family, v) in columns.items()}
        )
    import polars as pl

    return pl.DataFrame(
        [
            pl.Series(n, v, dtype=getattr(pl, POLARS[family]) if family in POLARS else None)
            for n, (family, v) in columns.items()
        ]
    )


def _read_parquet(path: Path) -> Any:
    pandas = _has_pandas()
    _parquet(pandas)
    try:
        if pandas:
            import pandas as pd

            frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
            return frame.set_axis(frame.columns.map(str), axis=1)
        import polars as pl

        return pl.read_parquet(path)
    except Exception as error:  # each library has its own
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error


def _has_pandas() -> bool:
    """Return whether frames are pandas'; polars is next.

    Raises
    ------
    MissingExtraError
        There is neither.
    """
    for library in ("pandas", "polars"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
            return library == "pandas"
    raise MissingExtraError("pandas")


def _parquet(pandas: bool) -> None:
    """Raise where pandas lacks what it reads and writes Parquet with; polars does so itself."""
    if pandas:
        try:
            importlib.import_module("pyarrow")
        except ImportError as error:
            raise MissingExtraError("pyarrow", "data") from error


# -- writing text ---------------------------------------------------------------------------------


def _spelling(observed: Iterable[str]) -> Callable[[Any], str]:
    """Return how values are written in a column, as its observed cells are."""
    cells = [cell.strip() for cell in observed]
    booleans = {BOOLEANS[cell]: cell for cell in cells if cell in BOOLEANS}
    between = " " if cells and " " in cells[0] else "T"

    def spell(value: Any) -> str:
        if isinstance(value, bool):
            return booleans.get(value, str(value))
        if isinstance(value, dt.datetime):
            return value.isoformat(between, "seconds")
        return str(value)  # of a float the shortest text that reads back as the same

    return spell
