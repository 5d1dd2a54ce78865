"""Sequences in files, one on each line: text (.txt), or lists in JSON (.jsonl)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skvae.exceptions import DataError

__all__ = ["ENDINGS", "has_lines", "read_lines", "to_lines"]

ENDINGS = (".txt", ".jsonl")


def has_lines(path: str | os.PathLike[str]) -> bool:
    """Return whether the ending of a name says that a file holds a sequence on each line."""
    return Path(path).suffix.lower() in ENDINGS


def read_lines(path: str | os.PathLike[str]) -> list[Any]:
    """Read the sequences of a file.

    A line of ``.txt`` is a text. A line of ``.jsonl`` is a JSON list of numbers, of lists of
    numbers or of codes, in which null is missing, or a JSON string.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DataError
        It is not UTF-8, or a line is empty or no such JSON; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no data file {str(path)!r}.")
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not readable as UTF-8 text: {error}") from error
    if not lines:
        raise DataError(f"{path} is empty.")
    for number, line in enumerate(lines, 1):
        if not line:
            raise DataError(f"{path}, line {number} is empty, but each line is one sequence.")
    if path.suffix.lower() == ".txt":
        return lines
    return [_from_json(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def to_lines(sequences: Sequence[Any], name: str) -> str:
    """Return the content of a file whose name says the format, or of any other place.

    Text is written as it is, to ``.jsonl`` as JSON strings, and everything else as JSON lists.

    Raises
    ------
    DataError
        The format cannot hold these sequences.
    """
    plain = all(isinstance(x, str) and not {"\n", "\r"} & set(x) for x in sequences)
    ending = Path(name).suffix.lower()
    if ending == ".txt" and not plain:
        raise DataError(f"{name}: a line of text cannot hold these sequences. Write .jsonl.")
    if ending not in ("", *ENDINGS):
        raise DataError(f"{name}: sequences are written as {' or '.join(ENDINGS)}.")
    as_text = plain and ending != ".jsonl"
    return "".join((x if as_text else json.dumps(_plain(x))) + "\n" for x in sequences)


def _plain(x: Any) -> Any:
    """Return a sequence as JSON values; the str of an array's number is its shortest."""
    if not isinstance(x, np.ndarray):
        return x
    if x.ndim == 2:
        return [_plain(row) for row in x]
    return [None if v != v else float(str(v)) if x.dtype.kind == "f" else int(v) for v in x]


def _from_json(line: str, where: str) -> Any:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not JSON: {error}") from error
    if not isinstance(value, list | str):
        raise DataError(f"{where} is a JSON {type(value).__name__}; a list or a string is needed.")
    return value
