"""What each command of the command line does. Importing this module does not import torch."""

import functools
import inspect
import json as json_module
import operator
import re
import sys
import time
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Group, Parameter
from numpy.typing import NDArray

from skvae import datasets, files
from skvae._atomic import write_atomically
from skvae._lines import has_lines, read_lines, to_lines
from skvae._rows import Divided
from skvae._writers import writing
from skvae.estimators import VAE, load
from skvae.estimators._base import to_json
from skvae.evaluation import LikelihoodReport
from skvae.exceptions import DataError, ParameterError
from skvae.sequences import count_missing

if TYPE_CHECKING:
    from skvae.distributed import World

__all__ = ["demo", "fit", "impute", "info", "sample", "score", "transform"]

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
                _print_json(output=str(self.output), shape=[n, len(columns)])
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
                _print_json(output=str(self.output), n_sequences=len(sequences))
        elif self.json:
            lines = to_lines(sequences, "lines.jsonl").splitlines()
            _print_json(sequences=[json_module.loads(line) for line in lines])
        else:
            _print(to_lines(sequences, ""))

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
                _print_json(output=str(self.output), shape=list(values.shape))
        elif self.json:
            _print_json(columns=columns, shape=list(values.shape), values=values.tolist())
        else:
            flat = values.reshape(-1, values.shape[-1]) if values.ndim == 3 else values
            files.write_text(sys.stdout, flat, columns)


def _with_estimator_flags(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command a flag for each parameter of the estimator, with its default and its help.

    The estimator's signature and docstring are the only place where parameters are written down.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    hints = typing.get_type_hints(VAE.__init__)
    helps = _parameter_docs(VAE)
    group = Group.create_ordered("Parameters of the estimator")
    for name, parameter in inspect.signature(VAE).parameters.items():
        flag = Parameter(help=helps[name], group=group, consume_multiple=True, show_choices=False)
        annotation = operator.getitem(Annotated, (_flag_type(hints[name]), flag))
        own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=annotation))
    function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
    return function


def _flag_type(hint: Any) -> Any:
    """Keep what can be typed on a command line: numbers, words, tuples."""
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    choices = typing.get_args(hint) if union else (hint,)
    typed = [
        t
        for t in choices
        if t in (int, float, bool, str, type(None)) or typing.get_origin(t) in (tuple, Literal)
    ]
    return typing.Union[tuple(typed)]  # noqa: UP007


def _parameter_docs(estimator: type) -> dict[str, str]:
    """First sentence of each parameter in a numpydoc docstring."""
    text = inspect.getdoc(estimator) or ""
    section = text.split("Parameters\n----------\n")[1].split("\nAttributes\n")[0]
    found = re.findall(r"^(\w+) : .*\n((?:    .*\n?)+)", section, re.MULTILINE)
    clean = {name: " ".join(body.replace("``", "").split()) for name, body in found}
    return {name: re.split(r"(?<=[.])\s", body)[0] for name, body in clean.items()}


@_with_estimator_flags
def fit(
    data: Data,
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="File for the model (.safetensors).")
    ],
    divide_by: DivideBy = 1.0,
    resume: Annotated[
        bool, Parameter(negative=(), help="Go on from the state in --checkpoint, if there is one.")
    ] = False,
    images: ImageOptions = ImageOptions(),
    options: Options = Options(),
    **parameters: Any,
) -> None:
    """Train a model on DATA and save it."""
    from skvae.distributed import joined

    with joined() as world:
        if not world.is_main:
            options = replace(options, quiet=True, json=False)
        load = functools.partial(_load, data, divide_by, options, images)
        _fit(world, load, data, output, resume, options, parameters)


def _fit(
    world: "World",
    load: Callable[[], tuple[files.Table | files.Rows | list[Any], tuple[int, ...] | None]],
    data: str,
    output: Path,
    resume: bool,
    options: Options,
    parameters: dict[str, Any],
) -> None:
    world.from_main(lambda: _check_target(output, options.force))
    world.from_main(lambda: _check_resume(parameters.get("checkpoint"), resume))
    X, event_shape = load()
    if event_shape is not None and parameters.get("channels_last"):
        event_shape = (*event_shape[1:], event_shape[0])  # of one channel, so the cells are alike
    if parameters.get("event_shape") is None:
        parameters["event_shape"] = event_shape
    if not options.quiet:
        parameters["verbose"] = max(1, parameters.get("verbose", 0))
    options.say(f"training on {_described(X)}")
    start = time.perf_counter()
    vae = VAE(**parameters).fit(X)
    world.from_main(lambda: vae.save(output, overwrite=options.force))
    seconds = time.perf_counter() - start
    last = vae.history_[-1] if len(vae.history_) else {}
    if options.json:
        _print_json(
            model=str(output),
            likelihood=vae.likelihood_.to_json(),
            n_epochs=vae.n_iter_,
            seconds=seconds,
            **{k: v for k, v in last.items() if k.endswith("elbo")},
        )
    size = output.stat().st_size / 1e6
    options.say(
        f"saved {output} ({size:.1f} MB, {vae.likelihood_.name} likelihood, {vae.n_iter_} epochs, "
        f"{seconds:.0f} s); next: skvae transform {output} {data}",
    )


def transform(
    model: Model,
    data: Data,
    /,
    *,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: ResultOptions = ResultOptions(),
) -> None:
    """Encode DATA: posterior means, one row of latent coordinates per row."""
    _check_target(options.output, options.force)
    vae = load(model)
    X, _ = _load(data, divide_by, options, images)
    names = list(vae.get_feature_names_out())
    if isinstance(X, files.Rows):
        options.deliver_blocks(map(vae.transform, X.split()), len(X), names)
    else:
        options.deliver(vae.transform(X), names)


def sample(
    model: Model,
    /,
    *,
    n_samples: Annotated[int, Parameter(name=["--n-samples", "-n"], help="Number of rows.")] = 1,
    kind: Annotated[
        Literal["draw", "mean"],
        Parameter(help="draw: from p(x | z); mean: E[x | z], as pictures usually show."),
    ] = "draw",
    random_state: Annotated[int | None, Parameter(help="Seed.")] = None,
    options: ResultOptions = ResultOptions(),
) -> None:
    """Draw new rows from a model."""
    _check_target(options.output, options.force)
    vae = load(model)
    rows = vae.sample(n_samples, kind=kind, random_state=random_state)
    if isinstance(rows, list):
        options.deliver_sequences(rows)
    else:
        options.deliver(np.asarray(rows), _columns(vae))


def impute(
    model: Model,
    data: Data,
    /,
    *,
    n_draws: Annotated[
        int | None, Parameter(help="Draws from p(missing | observed) instead of their mean.")
    ] = None,
    n_samples: Annotated[int, Parameter(help="Importance samples per row.")] = 256,
    random_state: Annotated[int | None, Parameter(help="Seed of the draws.")] = None,
    divide_by: DivideBy = 1.0,
    options: ResultOptions = ResultOptions(),
) -> None:
    """Fill in the missing cells of DATA (empty or NaN)."""
    _check_target(options.output, options.force)
    vae = load(model)
    X = files.in_memory(_load(data, divide_by, options)[0])
    sequences = isinstance(X, list)
    missing = count_missing(X) if sequences else int(np.isnan(X.values).sum())
    options.say(f"filling in {missing} missing cells of {_described(X)}")
    filled = vae.impute(X, n_draws=n_draws, n_samples=n_samples, random_state=random_state)
    if sequences:
        options.deliver_sequences(filled if n_draws is None else list(chain(*filled)))
    else:
        options.deliver(filled, _columns(vae))


def score(
    model: Model,
    data: Data,
    /,
    *,
    n_samples: Annotated[int, Parameter(help="Importance samples per row.")] = 100,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: ResultOptions = ResultOptions(),
) -> None:
    """Held-out log-likelihood of DATA, in nats per row."""
    _check_target(options.output, options.force)
    vae = load(model)
    X, _ = _load(data, divide_by, options, images)
    report = vae.evaluate(X, n_samples=n_samples)
    if options.output is not None:
        rows = vae.score_samples(X, n_samples=n_samples)[:, None]
        replace(options, json=False).deliver(rows, ["log_likelihood"])
    if options.json:
        _print_json(**report.to_dict())
    else:
        _print(
            f"log-likelihood {report.log_likelihood:.4f} ± {report.standard_error:.4f} nats per "
            f"row ({report.n_rows} rows, {report.n_samples} importance samples)\n"
            f"ELBO {report.elbo:.4f} = reconstruction {report.reconstruction:.4f} "
            f"− KL {report.kl:.4f}\n{_diagnostics(report)}"
        )


def info(
    model: Model,
    /,
    *,
    options: Options = Options(),
) -> None:
    """Describe a model file."""
    vae = load(model)
    facts = {
        "estimator": type(vae).__name__,
        "event_shape": list(vae.event_shape_),
        "n_components": vae.n_components,
        "likelihood": vae.likelihood_.to_json(),
        "n_epochs": vae.n_iter_,
        "history": vae.history_[-1] if len(vae.history_) else {},
        "feature_names": _columns(vae),
        "parameters": {k: to_json(k, v) for k, v in vae.get_params().items()},
    }
    if options.json:
        _print_json(**facts)
    else:
        _print("".join(f"{name}: {value}\n" for name, value in facts.items()))


def demo(
    *,
    dataset: Annotated[
        Literal["mnist", "fashion-mnist", "digits"], Parameter(help="Which images.")
    ] = "mnist",
    network: Annotated[
        Literal["mlp", "conv"], Parameter(help="Bodies of encoder and decoder.")
    ] = "mlp",
    quick: Annotated[
        bool, Parameter(negative=(), help="Fewer rows and epochs: under a minute or so.")
    ] = False,
    out: Annotated[Path, Parameter(help="Folder for report, pictures, figures, models.")] = Path(
        "demo"
    ),
    random_state: Annotated[int, Parameter(help="Seed.")] = 0,
    options: Options = Options(),
) -> None:
    """Train on real images and write a report with pictures and figures."""
    from skvae import demo as demonstration

    start = time.perf_counter()

    def announce(message: str) -> None:
        options.say(f"[{time.perf_counter() - start:4.0f} s] {message}")

    metrics = demonstration.run(
        dataset,
        out,
        network=network,
        quick=quick,
        seed=random_state,
        announce=announce,
        verbose=int(not options.quiet),
    )
    if options.json:
        _print_json(**metrics)
    else:
        imputation, few = metrics["imputation"], metrics["few_labels"]
        _print(
            f"test −log p(x): {metrics['test_nll_nats']:.2f} ± {metrics['test_nll_se']:.2f} nats\n"
            f"missing pixels, RMSE: {imputation['rmse']:.3f} "
            f"(mean image: {imputation['rmse_mean_fill']:.3f})\n"
            f"accuracy with {few['n_labels']} labels: {few['accuracy']:.3f} on VAE features, "
            f"{few['accuracy_pixels']:.3f} on pixels\n"
        )
    options.say(f"done; open {out / 'report.html'}")


# -- helpers ----------------------------------------------------------------------------------


def _diagnostics(report: LikelihoodReport) -> str:
    lines = [f"effective samples: {report.effective_sample_size:.1f} (median over rows)"]
    if report.pareto_k is not None:
        lines[0] += f"; Pareto k {report.pareto_k:.2f}, above 0.7 in {report.pareto_k_above:.0%}"
    lines.append(f"active latent dimensions: {report.active_units}")
    if report.mutual_information is not None:
        lines[1] += (
            f"; I(x; z) {report.mutual_information:.4f}, KL(q(z) || p(z)) "
            f"{report.aggregate_kl:.4f}"
        )
    return "".join(f"{line}\n" for line in lines)


def _load(
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


def _described(X: files.Table | files.Rows | list[Any]) -> str:
    if isinstance(X, list):
        return f"{len(X)} sequences"
    event = X.event_shape if isinstance(X, files.Rows) else X.values.shape[1:]
    n = len(X) if isinstance(X, files.Rows) else len(X.values)
    return f"{n} rows of {int(np.prod(event))} features"


def _columns(vae: VAE) -> list[str] | None:
    names = getattr(vae, "feature_names_in_", None)
    return None if names is None else [str(n) for n in names]


def _check_resume(directory: str | None, resume: bool) -> None:
    """Going on from an earlier state must be meant."""
    if resume and directory is None:
        raise ParameterError("--resume needs --checkpoint DIR, where the state of the fit is.")
    if directory is not None and not resume and any(Path(directory).glob("*.safetensors")):
        raise ParameterError(
            f"{directory} holds the state of a fit that was ended early. Pass --resume to go on "
            "from there, or delete it to begin again."
        )


def _check_target(output: Path | None, force: bool) -> None:
    """Fail before the work, not after it."""
    if output is None:
        return
    if output.exists() and not force:
        raise FileExistsError(f"{output} exists. Pass --force to replace it.")
    if not output.parent.is_dir():
        raise FileNotFoundError(
            f"Cannot write {output}: the directory {output.parent} does not exist."
        )


def _print(text: str) -> None:
    sys.stdout.write(text)


def _print_json(**content: Any) -> None:
    sys.stdout.write(json_module.dumps({"schema_version": SCHEMA_VERSION, **content}) + "\n")
