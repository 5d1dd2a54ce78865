"""The command ``skvae impute``. Importing this module does not import torch."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter
from numpy.typing import NDArray

from skvae import files
from skvae._atomic import write_atomically
from skvae._frames import (
    NUMBER,
    ParquetTable,
    TextTable,
    check_ending,
    open_table,
    stacked,
    to_bytes,
    write_text,
)
from skvae._options import (
    DivideBy,
    ResultOptions,
    check_target,
    columns_of,
    described,
    load_data,
    print_json,
    with_estimator_flags,
)
from skvae.estimators import VAEImputer, load
from skvae.estimators._base import at_least
from skvae.exceptions import DataError, ParameterError
from skvae.schema import KINDS, Column, Schema
from skvae.schema.cells import is_missing
from skvae.sequences import count_missing

__all__ = ["impute"]

SHOWN = 12  # names in one line of a message
OF_A_VAE = {"n_draws", "divide_by", "n_samples", "random_state"}
OF_FITTED = {
    *("n_imputations", "missing_values", "random_state"),
    *("n_samples", "effective_samples", "max_samples", "unseen"),
}
FAMILIES = {  # as which the cells of a declared column are read
    **dict.fromkeys(("real", "positive", "bounded", "count"), "integer"),
    **dict.fromkeys(("binary", "categorical", "text"), "text"),
    "datetime": "date",
}


@with_estimator_flags(VAEImputer)
def impute(
    model_or_data: Annotated[
        str, Parameter(help="A model file, if DATA follows; otherwise it is DATA itself.")
    ],
    data: Annotated[
        str | None,
        Parameter(
            help="A table (.csv and .tsv with a header, .parquet) with columns of any kind; for "
            "the model of a VAE, whatever that was fitted on."
        ),
    ] = None,
    /,
    *,
    model: Annotated[
        Path | None, Parameter(help="Fill in by this model file instead of training one.")
    ] = None,
    n_imputations: Annotated[
        int | None,
        Parameter(
            help="Draw so many completed tables, below each other with their number in a first "
            "column, instead of one with what is expected of each cell."
        ),
    ] = None,
    kind: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            help="NAME=KIND says what a column is: real, positive, count, binary, categorical, "
            "datetime, text, bounded:0,1, ordinal:low,mid,high. May be repeated.",
        ),
    ] = (),
    likelihood: Annotated[
        tuple[str, ...],
        Parameter(
            negative=(),
            help="NAME=LIKELIHOOD for a column or kind, such as real=student_t. May be repeated.",
        ),
    ] = (),
    missing_values: Annotated[
        str | None,
        Parameter(
            allow_leading_hyphen=True,
            help="A mark of a missing cell, such as ? or -999, beside empty cells, NA and NaN.",
        ),
    ] = None,
    save_model: Annotated[
        Path | None, Parameter(help="Keep the trained model in this file (.safetensors).")
    ] = None,
    n_draws: Annotated[
        int | None,
        Parameter(help="By the model of a VAE: draws from p(missing | observed), not their mean."),
    ] = None,
    divide_by: DivideBy = 1.0,
    options: ResultOptions = ResultOptions(),
    **parameters: Any,
) -> None:
    """Fill in the missing cells of DATA, a table with columns of any kind."""
    if data is not None and model is not None:
        raise ParameterError(f"There are two models, {model_or_data} and --model {model}.")
    if data is None:
        data = model_or_data
    else:
        model = Path(model_or_data)
    if n_imputations is not None:
        at_least("--n-imputations", n_imputations, 1)
    check_target(options.output, options.force)
    check_target(save_model, options.force)
    own = {
        "n_imputations": n_imputations,
        "kind": kind or None,
        "likelihood": likelihood or None,
        "missing_values": missing_values,
        "save_model": save_model,
        "n_draws": n_draws,
        "divide_by": None if divide_by == 1 else divide_by,
    }
    given = {name for name, value in own.items() if value is not None} | parameters.keys()
    fitted = None if model is None else load(model)
    if fitted is not None and not isinstance(fitted, VAEImputer):
        _refuse(given - OF_A_VAE, f"{model} holds a {type(fitted).__name__}")
        _fill_rows(fitted, data, n_draws, divide_by, options, parameters)
        return
    if options.output is not None:
        check_ending(options.output, "write")
    source = open_table(data)
    if n_imputations is not None and NUMBER in source.names:
        raise DataError(f"{data} has a column {NUMBER!r}, which numbers drawn tables.")
    start = time.perf_counter()
    mark = np.nan if missing_values is None else _number(missing_values)
    if fitted is None:
        _refuse(given & {"n_draws", "divide_by"}, "A table with columns of any kind is completed")
        filling = _trained(source, mark, kind, likelihood, parameters, options)
    else:
        _refuse(given - OF_FITTED, f"{model} holds a trained VAEImputer")
        filling = _kept(source, mark, fitted, parameters, options)
    if save_model is not None:
        filling.imputer.save(save_model, overwrite=options.force)
        options.say(f"saved {save_model}")
    if n_imputations is None:
        tables = [filling.imputer.transform(filling.frame)]
    else:
        seed = parameters.get("random_state")
        tables = filling.imputer.sample(filling.frame, n_imputations, random_state=seed)
    filling.deliver(tables, n_imputations is not None, options, time.perf_counter() - start)


@dataclass(frozen=True)
class Filling:
    """A table, and what fills it in.

    Attributes
    ----------
    source : TextTable or ParquetTable
    frame : DataFrame
        Its columns in the order of the imputer.
    imputer : VAEImputer
    schema : Schema
    """

    source: TextTable | ParquetTable
    frame: Any
    imputer: VAEImputer
    schema: Schema

    @cached_property
    def holes(self) -> dict[str, NDArray[np.bool_]]:
        """Which cells of each column are missing."""
        return dict(zip(self.frame.columns, self.schema.missing(self.frame).T, strict=True))

    @property
    def kinds(self) -> dict[str, str]:
        """What each column is taken for."""
        kinds = (column.kind for column in self.schema.columns)
        return dict(zip(self.frame.columns, kinds, strict=True))

    def describe(self, options: ResultOptions) -> None:
        """Say what the table holds, before the work."""
        holes = self.holes
        n, missing = len(self.frame), sum(int(hole.sum()) for hole in holes.values())
        options.say(f"{n} rows of {len(holes)} columns, {missing} cells are missing; taken for")
        for kind in KINDS:
            names = [name for name, found in self.kinds.items() if found == kind]
            left = " (left as it is)" if kind == "text" else ""
            if names:
                options.say(f"  {kind}{left}: {_listed(name or repr(name) for name in names)}")

    def deliver(
        self, tables: Sequence[Any], numbered: bool, options: ResultOptions, seconds: float
    ) -> None:
        """Write completed tables, and say which cells are filled in."""
        tables = [self._as_in_file(table) for table in tables]
        missing = {name: int(hole.sum()) for name, hole in self.holes.items() if hole.any()}
        can = {
            name
            for name, column in zip(self.frame.columns, self.schema.columns, strict=True)
            if column.is_modelled or column.levels
        }
        if options.output is not None:
            content = to_bytes(
                options.output.name, self.source, tables, self.holes, numbered=numbered
            )
            write_atomically(options.output, content, overwrite=options.force)
        elif not options.json:
            write_text(sys.stdout, self.source, tables, self.holes, numbered=numbered)
        for what, names in (("filled in", can), ("still missing", missing.keys() - can)):
            counts = {name: count for name, count in missing.items() if name in names}
            if counts or what == "filled in":
                shown = _listed(f"{name} {count}" for name, count in counts.items())
                options.say(f"{what}: {sum(counts.values())} cells{shown and f' ({shown})'}")
        if options.output is not None:
            options.say(f"wrote {options.output}: {len(self.frame) * len(tables)} rows")
        if options.json:
            print_json(
                output=None if options.output is None else str(options.output),
                n_rows=len(self.frame),
                n_imputations=len(tables) if numbered else None,
                kinds=self.kinds,
                missing=missing,
                filled={name: count for name, count in missing.items() if name in can},
                seconds=seconds,
                **({} if options.output is not None else _as_json(tables, numbered)),
            )

    def _as_in_file(self, table: Any) -> Any:
        """Return a completed table with the columns in the order of the file."""
        import narwhals as nw

        frame = nw.from_native(table, eager_only=True)
        known = [name for name in self.source.names if name in frame.columns]
        added = [name for name in frame.columns if name not in self.source.names]
        return frame.select([*known, *added]).to_native()


def _trained(
    source: TextTable | ParquetTable,
    mark: Any,
    kind: Sequence[str],
    likelihood: Sequence[str],
    parameters: dict[str, Any],
    options: ResultOptions,
) -> Filling:
    """Train an imputer on a table."""
    declared = dict(_kind(text) for text in kind)
    likelihoods = dict(_pair("likelihood", text, "real=student_t") for text in likelihood)
    families = {
        name: "text" if len(parts) > 1 and parts[0] != "bounded" else FAMILIES.get(parts[0], "")
        for name, parts in declared.items()
    }
    frame = source.frame(families, mark)
    imputer = VAEImputer(
        **{"verbose": 0 if options.quiet else 1, **parameters},
        kinds={name: _like(frame, name, parts) for name, parts in declared.items()} or None,
        likelihoods=likelihoods or None,
        missing_values=mark,
    )
    schema = Schema.infer(frame, imputer.kinds, missing_values=mark)
    filling = Filling(source, frame, imputer, schema)
    filling.describe(options)  # a wrong guess is seen before the training
    imputer.fit(frame)
    return filling


def _kept(
    source: TextTable | ParquetTable,
    mark: Any,
    imputer: VAEImputer,
    parameters: dict[str, Any],
    options: ResultOptions,
) -> Filling:
    """Take a trained imputer, and read the table as the one that it was trained on."""
    import narwhals as nw

    imputer.set_params(**{k: v for k, v in parameters.items() if k != "random_state"})
    imputer._validate_params()
    if not is_missing(mark):
        imputer.schema_ = replace(imputer.schema_, missing_values=mark)
    schema = imputer.schema_
    if schema.container == "numpy":
        raise ParameterError(
            "The model was trained on an array, whose columns have no names to compare with those "
            "of a file. Train it on a data frame."
        )
    names = [column.name for column in schema.columns]
    if set(names) != set(source.names):
        schema.check(source.frame({}))  # which says what columns are missing, whatever they hold
    families = {str(column.name): _family(column) for column in schema.columns}
    frame = source.frame(families, schema.missing_values)
    frame = nw.from_native(frame, eager_only=True).select(names).to_native()
    filling = Filling(source, frame, imputer, schema)
    filling.describe(options)
    return filling


def _fill_rows(
    vae: Any,
    data: str,
    n_draws: int | None,
    divide_by: float,
    options: ResultOptions,
    parameters: dict[str, Any],
) -> None:
    """Fill in numbers or sequences by the model of a VAE."""
    X = files.in_memory(load_data(data, divide_by, options)[0])
    sequences = isinstance(X, list)
    missing = count_missing(X) if sequences else int(np.isnan(X.values).sum())
    options.say(f"filling in {missing} missing cells of {described(X)}")
    filled = vae.impute(X, n_draws=n_draws, **parameters)
    if sequences:
        options.deliver_sequences(filled if n_draws is None else list(chain(*filled)))
    else:
        options.deliver(filled, columns_of(vae))


# -- what is typed --------------------------------------------------------------------------------


def _refuse(flags: set[str], why: str) -> None:
    if flags:
        listed = ", ".join(f"--{flag.replace('_', '-')}" for flag in sorted(flags))
        raise ParameterError(f"{why}, which does not take {listed}.")


def _pair(flag: str, text: str, example: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise ParameterError(f"--{flag} must be NAME={flag.upper()}, as {example}; got {text!r}.")
    return name, value


def _kind(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the column that is declared, its kind, and the levels or bounds after the colon."""
    name, value = _pair("kind", text, "age=count or grade=ordinal:low,mid,high")
    kind, colon, rest = value.partition(":")
    return name, (kind, *(rest.split(",") if colon else ()))


def _like(frame: Any, name: str, parts: tuple[str, ...]) -> Any:
    """Return a kind as `Schema.infer` takes it, with levels of the column's type."""
    import narwhals as nw

    kind, *rest = parts
    if not rest:
        return kind
    if kind == "bounded":
        return (kind, *map(_number, rest))
    schema = nw.from_native(frame, eager_only=True).schema
    if name in schema and schema[name].is_numeric():
        return (kind, list(map(_number, rest)))
    return (kind, rest)


def _number(text: str) -> int | float | str:
    for read in (int, float):
        with suppress(ValueError):
            return read(text)
    return text


def _family(column: Column) -> str:
    """Return what cells must be read as to be what a column had in the fit."""
    types = set(map(type, column.levels))
    if column.is_date:
        return "date"
    if column.kind == "text" or types == {str}:
        return "text"
    if types == {bool} or not (column.is_modelled or column.levels):
        return ""
    return "integer" if column.whole or types == {int} else "float"


# -- what is said ---------------------------------------------------------------------------------


def _listed(names: Iterable[str]) -> str:
    first = list(names)
    more = f" and {len(first) - SHOWN} more" if len(first) > SHOWN else ""
    return ", ".join(first[:SHOWN]) + more


def _as_json(tables: Sequence[Any], numbered: bool) -> dict[str, Any]:
    import narwhals as nw

    table = stacked(tables) if numbered else tables[0]
    frame = nw.from_native(table, eager_only=True)
    columns = [[_plain(value) for value in frame[name].to_list()] for name in frame.columns]
    return {"columns": frame.columns, "values": list(zip(*columns, strict=True))}


def _plain(value: Any) -> Any:
    if is_missing(value):
        return None
    return value if isinstance(value, str | int | float) else str(value)
