"""What the commands share: flags, reading data, and giving out results."""

import inspect
import json as json_module
import operator
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from cyclopts import Group, Parameter
from numpy.typing import NDArray

from skvae import datasets, files
from skvae._atomic import write_atomically
from skvae._lines import has_lines, read_lines, to_lines
from skvae._rows import Divided
from skvae._writers import writing
from skvae.estimators import VAE
from skvae.exceptions import DataError, ParameterError

__all__ = [
    "Data",
    "DivideBy",
    "ImageOptions",
    "Model",
    "Options",
    "ResultOptions",
    "check_target",
    "columns_of",
    "described",
    "load_data",
    "parameter_docs",
    "print_json",
    "print_text",
    "with_estimator_flags",
]

Command = TypeVar("Command", bound=Callable[..., Any])

Data = Annotated[
    str,
    Parameter(
        help="A data file, a folder of files, or a named data set such as mnist:test; sequences "
        "are in .txt or .jsonl, one on each line."
    ),
]
Model = Annotated[Path, Parameter(help="A model file that `skvae fit` wrote.")]
DivideBy = Annotated[
    float, Parameter(help="Divide all values of a file by this, for example 255 for images.")
]

SCHEMA_VERSION = 1


@Parameter(name="*")
@dataclass(frozen=True)
class ImageOptions:
    """Flags for folders of images."""

    image_size: Annotated[
        tuple[int, int] | None,
        Parameter(
            negative=(), help="Height and width to which the images of a folder are resized."
        ),
    ] = None
    image_mode: Annotated[
        Literal["L", "RGB"] | None,
        Parameter(help="Read images as grey (L) or colour; without this, as they are."),
    ] = None
    skip_unreadable: Annotated[
        bool, Parameter(negative=(), help="Leave out images that cannot be read, and count them.")
    ] = False

    def open(self, path: Path) -> files.Rows | None:
        """Return what may be larger than memory; with a flag given, it must be images."""
        if self == ImageOptions():
            return files.stream_of(path)
        on_error: Literal["raise", "skip"] = "skip" if self.skip_unreadable else "raise"
        return files.open_images(path, self.image_size, self.image_mode, on_error)


@Parameter(name="*")
@dataclass(frozen=True)
class Options:
    """Flags of every command."""

    force: Annotated[bool, Parameter(negative=(), help="Replace an existing file.")] = False
    json: Annotated[
        bool, Parameter(negative=(), help="Print one JSON object, also for errors.")
    ] = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=(), help="No messages.")] = (
        False
    )
    debug: Annotated[bool, Parameter(negative=(), help="Show the traceback of an error.")] = False

    def say(self, message: str) -> None:
        """Write a message to standard error."""
        if not self.quiet:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()


@Parameter(name="*")
@dataclass(frozen=True)
class ResultOptions(Options):
    """Flags of commands whose result is a table."""

    output: Annotated[
        Path | None,
        Parameter(
            name=["--output", "-o"], help="File for the result; standard output if not given."
        ),
    ] = None

    def deliver_blocks(self, blocks: Iterator[NDArray[Any]], n: int, columns: list[str]) -> None:
        """Write a table of n rows that is never in memory as a whole."""
        if self.output is not None:
            with writing(self.output, n, columns, overwrite=self.force) as write:
                for block in blocks:
                    write(block)
            self.say(f"wrote {self.output}: {n} × {len(columns)} values")
            if self.json:
                print_json(output=str(self.output), shape=[n, len(columns)])
        elif self.json:
            self.deliver(np.concatenate(list(blocks)), columns)
        else:
            for i, block in enumerate(blocks):
                files.write_text(sys.stdout, block, columns, header=i == 0)

    def deliver_sequences(self, sequences: list[Any]) -> None:
        """Write sequences to the file, or to standard output, one on each line."""
        if self.output is not None:
            content = to_lines(sequences, self.output.name).encode()
            write_atomically(self.output, content, overwrite=self.force)
            self.say(f"wrote {self.output}: {len(sequences)} sequences")
            if self.json:
                print_json(output=str(self.output), n_sequences=len(sequences))
        elif self.json:
            lines = to_lines(sequences, "lines.jsonl").splitlines()
            print_json(sequences=[json_module.loads(line) for line in lines])
        else:
            print_text(to_lines(sequences, ""))

    def deliver(self, values: NDArray[Any], columns: list[str] | None) -> None:
        """Write a table to the file, or to standard output as CSV or JSON."""
        if self.output is not None and self.output.suffix.lower() == ".parquet":
            flat = values.reshape(-1, values.shape[-1])
            names = columns or [f"x{i}" for i in range(flat.shape[1])]
            self.deliver_blocks(iter([flat]), len(flat), names)
        elif self.output is not None:
            content = files.to_bytes(values, columns, self.output.name)
            write_atomically(self.output, content, overwrite=self.force)
            self.say(f"wrote {self.output}: {' × '.join(map(str, values.shape))} values")
            if self.json:
                print_json(output=str(self.output), shape=list(values.shape))
        elif self.json:
            print_json(columns=columns, shape=list(values.shape), values=values.tolist())
        else:
            flat = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values
            files.write_text(sys.stdout, flat, columns)


def with_estimator_flags(estimator: type) -> Callable[[Command], Command]:
    """Give a command a flag for each parameter of an estimator, with its default and its help.

    The estimator's signature and docstring are the only place where parameters are written down;
    of one that its docstring does not say itself, the help is that of `VAE`. Parameters that
    cannot be typed, or whose name the command uses itself, have no flag.
    """

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        hints = typing.get_type_hints(estimator.__init__)  # type: ignore[misc]
        helps = parameter_docs(VAE) | parameter_docs(estimator)
        group = Group.create_ordered("Parameters of the estimator")
        for name, parameter in inspect.signature(estimator).parameters.items():
            typed = _typed(hints[name])
            if name in signature.parameters or not typed:
                continue
            flag = Parameter(
                help=helps[name], group=group, consume_multiple=True, show_choices=False
            )
            annotation = operator.getitem(Annotated, (typing.Union[typed], flag))  # noqa: UP007
            own.append(
                parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
            )
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return decorate


def _typed(hint: Any) -> tuple[Any, ...]:
    """Keep what can be typed on a command line, numbers, words, tuples; none if only None is."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    typed = [
        t
        for t in (typing.get_args(hint) if union else (hint,))
        if t in (int, float, bool, str, type(None)) or typing.get_origin(t) in (tuple, Literal)
    ]
    return () if typed == [type(None)] else tuple(typed)


def parameter_docs(estimator: type) -> dict[str, str]:
    """Return the first sentence of each parameter in a numpydoc docstring."""
    text = inspect.getdoc(estimator) or ""
    section = text.split("Parameters\n----------\n")[1].split("\nAttributes\n")[0]
    found = re.findall(r"^(\w+) : .*\n((?:    .*\n?)+)", section, re.MULTILINE)
    clean = {name: " ".join(body.replace("``", "").split()) for name, body in found}
    return {name: re.split(r"(?<=[.])\s", body)[0] for name, body in clean.items()}


def load_data(
    data: str, divide_by: float, options: Options, images: ImageOptions = ImageOptions()
) -> tuple[files.Table | files.Rows | list[Any], tuple[int, ...] | None]:
    """Return rows or sequences, and the event shape where the source knows it."""
    if not divide_by > 0:
        raise ParameterError(f"--divide-by must be a number above 0; received {divide_by}.")
    name, _, part = data.partition(":")
    if name in datasets.NAMES and not Path(data).exists():
        if part not in ("", "train", "test"):
            raise ParameterError(
                f"{data!r}: a named data set has the parts {name}:train and {name}:test."
            )
        found = datasets.load(name, progress=options.say)
        rows = found.X_test if part == "test" else found.X_train
        return files.Table(rows / np.float32(found.max_value)), found.event_shape
    path = Path(data)
    if not path.exists() and not path.suffix:
        raise FileNotFoundError(
            f"There is no data file {data!r}, and no data set of that name "
            f"({', '.join(datasets.NAMES)})."
        )
    if has_lines(path):
        if divide_by != 1:
            raise ParameterError("--divide-by is for tables, not for sequences.")
        return read_lines(path), None
    stream = images.open(path)
    if stream is not None:
        return stream if divide_by == 1 else Divided(stream, divide_by), None
    table = files.read(path)
    if table.values.dtype.kind not in "biuf":
        raise DataError(f"{path} holds {table.values.dtype}, but numbers are needed.")
    if divide_by != 1:
        table = files.Table(table.values / np.float32(divide_by), table.columns)
    return table, None


def described(X: files.Table | files.Rows | list[Any]) -> str:
    """Say how much there is."""
    if isinstance(X, list):
        return f"{len(X)} sequences"
    event = X.event_shape if isinstance(X, files.Rows) else X.values.shape[1:]
    n = len(X) if isinstance(X, files.Rows) else len(X.values)
    return f"{n} rows of {int(np.prod(event))} features"


def columns_of(vae: VAE) -> list[str] | None:
    """Return the names of the features, where a model has them."""
    names = getattr(vae, "feature_names_in_", None)
    return None if names is None else [str(n) for n in names]


def check_target(output: Path | None, force: bool) -> None:
    """Fail before the work, not after it."""
    if output is None:
        return
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists. Pass --force to replace it.")
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write {output}: the directory {output.parent} does not exist."
        )


def print_text(text: str) -> None:
    """Write to standard output."""
    sys.stdout.write(text)


def print_json(**content: Any) -> None:
    """Write one object to standard output."""
    sys.stdout.write(json_module.dumps({"schema_version": SCHEMA_VERSION, **content}) + "\n")
