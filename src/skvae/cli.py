"""The command ``skvae``: parsing, errors and exit codes. The work is in `skvae.commands`.

Exit codes: 0 done; 1 unexpected; 2 usage; 3 bad data; 4 training diverged; 5 model file invalid or
refused; 6 input or output failed; 7 another process of a distributed fit was lost; 130 Ctrl-C;
143 terminated.
"""

import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TextIO

from cyclopts import App, CycloptsError

from skvae import __version__
from skvae.exceptions import (
    DataError,
    DistributedError,
    MissingExtraError,
    ModelFileError,
    ParameterError,
    SkvaeWarning,
    TrainingDivergedError,
)

__all__ = ["app", "main"]

EXAMPLES = """Examples:

  skvae demo                               see it work: demo/report.html
  skvae fit digits -o digits.safetensors   train on a named data set
  skvae fit table.csv -o model.safetensors --n-components 4 --random-state 3
  skvae fit photos/ -o model.safetensors --image-size 64 64 --divide-by 255
  skvae transform model.safetensors table.csv > latent.csv
  skvae sample model.safetensors -n 100 -o new.csv
  skvae fit mnist --labels 100 -o few.safetensors
  skvae predict few.safetensors mnist:test -o classes.csv
  skvae impute holes.csv -o full.csv --save-model imputer.safetensors
  skvae impute imputer.safetensors new.csv -o drawn.csv --n-imputations 20
  skvae score model.safetensors held-out.csv --json
  skvae plot map digits.safetensors digits:test -o map.png

DATA is a file (.npy, .npz, .parquet, .csv, .tsv, IDX), a folder of .npy files,
Parquet files or images, or a named data set: digits, mnist, fashion-mnist;
mnist:test is its test part; named images are scaled to [0, 1]. Folders, Parquet
and .npy files may be larger than memory. Results go to standard output or to
-o FILE, messages to standard error. `skvae COMMAND --help` lists all options.

"""

COMMANDS = {
    "fit": "Train a model on DATA and save it; with --labels or --target, one of classes.",
    "transform": "Encode DATA: posterior means, one row of latent coordinates per row.",
    "predict": "Say the class of each row of DATA, or its target.",
    "sample": "Draw new rows from a model.",
    "impute": "Fill in the missing cells of DATA, a table with columns of any kind.",
    "score": "Held-out log-likelihood of DATA, in nats per row.",
    "plot": "Draw a model: map, samples, reconstructions, manifold, traversals, training, ...",
    "info": "Describe a model file.",
    "demo": "Train on real images and write a report with pictures and figures.",
}

# Of the others it is skvae.commands.
MODULES = {"impute": "skvae.impute_command", "plot": "skvae.plot_command"}

app = App(
    name="skvae",
    help="Variational autoencoders: generate, look, fill in, learn from few labels.",
    help_prologue=EXAMPLES,
    version=__version__,
    help_format="plaintext",
    result_action="return_value",  # `main` is the only place that exits
)
for _name, _help in COMMANDS.items():
    # By name, so that `skvae --help` need not import torch.
    app.command(f"{MODULES.get(_name, 'skvae.commands')}:{_name}", name=_name, help=_help)

EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (MissingExtraError, 1),
    (ParameterError, 2),
    (ModelFileError, 5),
    (TrainingDivergedError, 4),
    (DataError, 3),
    (DistributedError, 7),
    (OSError, 6),
    (MemoryError, 6),
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    main = os.environ.get("RANK", "0") == "0"  # of processes that torchrun has started
    as_json = "--json" in arguments and main
    try:
        quiet = bool({"-q", "--quiet"} & {*arguments}) or not main
        with _warnings_as_messages(quiet=quiet):
            app(arguments, exit_on_error=False, print_error=not as_json)
        sys.stdout.flush()
    except CycloptsError as error:
        if as_json:
            _report(error, 2, as_json)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)  # noqa: T201
        return 130
    except BrokenPipeError:
        # The reader has seen enough (`| head`). Python would complain again when it closes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        code = _exit_code(error)
        _report(error, code, as_json)
        return code
    return 0


@contextmanager
def _warnings_as_messages(*, quiet: bool) -> Iterator[None]:
    """Say this library's warnings in one line, without the place in the code they came from."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "always", SkvaeWarning)
        plain = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, SkvaeWarning):
                print(f"skvae: {message}", file=sys.stderr)  # noqa: T201
            else:
                plain(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


def _exit_code(error: Exception) -> int:
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code
    if type(error).__name__ == "InvalidParameterError":  # scikit-learn's, for values of flags
        return 2
    return 3 if isinstance(error, ValueError) else 1


def _report(error: Exception, code: int, as_json: bool) -> None:
    message = str(error) or type(error).__name__
    if as_json:
        content = {
            "schema_version": 1,
            "error": {"type": type(error).__name__, "message": message, "exit_code": code},
        }
        print(json.dumps(content))  # noqa: T201
    else:
        hint = "" if code != 1 else "\nThis is unexpected; --debug shows where it happened."
        print(f"skvae: {message}{hint}", file=sys.stderr)  # noqa: T201
