"""Errors and warnings.

Every error is also the built-in that a caller would catch without knowing this library::

    SkvaeError
    ├── DataError (ValueError)             the data cannot be used as they are
    ├── ParameterError (ValueError)        a parameter has a value that makes no sense
    ├── TrainingDivergedError (ArithmeticError)   loss or gradient stayed non-finite
    ├── ModelFileError (ValueError)        a model file is damaged, foreign or refused
    ├── DatasetError (OSError)             a named data set could not be obtained
    ├── DistributedError (RuntimeError)    another process of a distributed fit is lost
    └── MissingExtraError (ImportError)    an optional dependency is not installed

    SkvaeWarning (UserWarning)
    ├── CheckpointWarning                  a checkpoint could not be written; training goes on
    ├── DataWarning                        the data are usable, but perhaps not what was meant
    ├── NotIdentifiedWarning               the model assumes what no data can show
    ├── PosteriorCollapseWarning           the code z says nothing of the rows
    ├── TrainingInterruptedWarning         Ctrl-C ended the fit early; the model is usable
    ├── UnreliableEstimateWarning          a figure rests on too few effective samples
    ├── UnseenCategoryWarning              cells hold what the fit never saw; they are unknown
    └── UnseenCodesWarning                 codes that the fit never saw are read as unknown
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointWarning",
    "DataError",
    "DataWarning",
    "DatasetError",
    "DistributedError",
    "MissingExtraError",
    "ModelFileError",
    "NotIdentifiedWarning",
    "ParameterError",
    "PosteriorCollapseWarning",
    "SkvaeError",
    "SkvaeWarning",
    "TrainingDivergedError",
    "TrainingInterruptedWarning",
    "UnreliableEstimateWarning",
    "UnseenCategoryWarning",
    "UnseenCodesWarning",
    "did_you_mean",
]


class SkvaeError(Exception):
    """Root of all errors that this library raises on purpose."""


class DataError(SkvaeError, ValueError):
    """The data cannot be used as they are."""


class ParameterError(SkvaeError, ValueError):
    """A parameter has a value that makes no sense."""


class TrainingDivergedError(SkvaeError, ArithmeticError):
    """Loss or gradient stayed non-finite; the estimator keeps the best weights so far."""


class ModelFileError(SkvaeError, ValueError):
    """A model file is damaged, foreign, newer than this library, or refused."""


class DatasetError(SkvaeError, OSError):
    """A named data set could not be obtained from any source."""


class DistributedError(SkvaeError, RuntimeError):
    """Another process of a distributed fit is lost, or the group did not come together."""


class MissingExtraError(SkvaeError, ImportError):
    """An optional dependency is not installed; the message names the pip command."""

    def __init__(self, package: str, extra: str = "") -> None:
        wanted = f"'scikit-vae[{extra}]'" if extra else package
        super().__init__(
            f"This needs the package {package!r}, which is not installed. "
            f"Install it with: pip install {wanted}"
        )


class SkvaeWarning(UserWarning):
    """Root of all warnings of this library."""


class CheckpointWarning(SkvaeWarning):
    """A checkpoint could not be written; training goes on without it."""


class DataWarning(SkvaeWarning):
    """The data are usable, but perhaps not what was meant."""


class NotIdentifiedWarning(SkvaeWarning):
    """The model assumes something about missing cells that the observed ones cannot show."""


class TrainingInterruptedWarning(SkvaeWarning):
    """Ctrl-C ended the fit early; the model holds the best weights so far."""


class PosteriorCollapseWarning(SkvaeWarning):
    """The posterior is the prior whatever the row, so the code z says nothing of it."""


class UnreliableEstimateWarning(SkvaeWarning):
    """A figure rests on too few rows, or on too few importance weights, to be trusted."""


class UnseenCategoryWarning(SkvaeWarning):
    """Cells of a table hold what the fit never saw or the kind excludes; they are unknown."""


class UnseenCodesWarning(SkvaeWarning):
    """Sequences hold codes that the fit never saw; they are read as the unknown one."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known word, or an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean {match[0]!r}?" if match else ""
