"""The command ``skvae plot``. Importing this module does not import torch or matplotlib."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from numpy.typing import NDArray

from skvae import files
from skvae import plot as pictures
from skvae._atomic import write_atomically
from skvae._labelled import ClassOptions, known_labels
from skvae._options import (
    DivideBy,
    ImageOptions,
    Model,
    Options,
    check_target,
    columns_of,
    load_data,
    print_json,
)
from skvae.estimators import load
from skvae.exceptions import MissingExtraError, ParameterError

__all__ = ["plot"]

Kind = Literal[
    "map", "samples", "reconstructions", "manifold", "traversals", "interpolation", "training"
]

# Without dates and versions, the same picture is the same bytes.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}


@dataclass(frozen=True)
class Asked:
    """What a picture is to be made of."""

    vae: Any
    X: Any
    y: NDArray[Any] | None
    flags: dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """A kind of picture: how it is made, and what it takes.

    Attributes
    ----------
    draw : callable
        Takes `Asked` and returns a Display.
    data : {"needed", "possible", "none"}
    flags : dict of str to str
        The flags that it takes, by their names, and what they are called in Python.
    """

    draw: Callable[[Asked], pictures.LatentMapDisplay | Any]
    data: Literal["needed", "possible", "none"]
    flags: dict[str, str]


PICTURES: dict[str, Picture] = {
    "map": Picture(
        lambda a: pictures.LatentMapDisplay.from_estimator(a.vae, a.X, a.y, **a.flags),
        "needed",
        {"dimensions": "dimensions", "thumbnails": "thumbnails", "target": ""},
    ),
    "samples": Picture(
        lambda a: pictures.SamplesDisplay.from_estimator(a.vae, a.X, **a.flags),
        "possible",
        {"n": "n_samples", "random_state": "random_state"},
    ),
    "reconstructions": Picture(
        lambda a: pictures.ReconstructionDisplay.from_estimator(a.vae, a.X, **a.flags),
        "needed",
        {"n": "n_rows"},
    ),
    "manifold": Picture(
        lambda a: pictures.ManifoldDisplay.from_estimator(a.vae, **a.flags), "none", {"n": "n"}
    ),
    "traversals": Picture(
        lambda a: pictures.TraversalDisplay.from_estimator(a.vae, a.X, **a.flags),
        "possible",
        {"n": "n_dimensions", "row": "row"},
    ),
    "interpolation": Picture(
        lambda a: pictures.InterpolationDisplay.from_estimator(a.vae, a.X, **a.flags),
        "needed",
        {"n": "n_steps", "ends": "ends"},
    ),
    "training": Picture(lambda a: pictures.TrainingCurveDisplay.from_estimator(a.vae), "none", {}),
}


def plot(
    kind: Annotated[Kind, Parameter(help="What is drawn.")],
    model: Model,
    data: Annotated[
        str | None,
        Parameter(
            help="Rows to draw: a data file, a folder of files, or a named data set such as "
            "mnist:test. map, reconstructions and interpolation need some; samples are set "
            "against them; traversals take a row of them."
        ),
    ] = None,
    /,
    *,
    output: Annotated[
        Path, Parameter(name=["--output", "-o"], help="File for the picture: .png, .svg or .pdf.")
    ],
    target: Annotated[
        str | None,
        Parameter(
            help="map: colour rows by this column of DATA. Rows of named sets have their classes."
        ),
    ] = None,
    n: Annotated[
        int | None,
        Parameter(
            name=["--n", "-n"],
            help="How many: samples, rows of reconstructions, rows along a side of the manifold, "
            "dimensions of traversals, steps of an interpolation.",
        ),
    ] = None,
    dimensions: Annotated[
        tuple[int, int] | None,
        Parameter(negative=(), help="map: which latent dimensions, from 1."),
    ] = None,
    thumbnails: Annotated[
        int | None, Parameter(help="map: show at most so many rows themselves.")
    ] = None,
    row: Annotated[
        int | None, Parameter(help="traversals: which row of DATA is changed, from 0.")
    ] = None,
    ends: Annotated[
        tuple[int, int] | None,
        Parameter(negative=(), help="interpolation: from which row of DATA to which, from 0."),
    ] = None,
    random_state: Annotated[int | None, Parameter(help="samples: seed.")] = None,
    dpi: Annotated[int, Parameter(help="Dots per inch of a .png file.")] = 150,
    divide_by: DivideBy = 1.0,
    images: ImageOptions = ImageOptions(),
    options: Options = Options(),
) -> None:
    """Draw a model: map, samples, reconstructions, manifold, traversals, training, ..."""
    given = {
        "target": target,
        "n": n,
        "dimensions": None if dimensions is None else tuple(d - 1 for d in dimensions),
        "thumbnails": thumbnails,
        "row": row,
        "ends": ends,
        "random_state": random_state,
    }
    picture = PICTURES[kind]
    given = {name: value for name, value in given.items() if value is not None}
    _check(kind, picture, data, given, output, dpi)
    check_target(output, options.force)
    vae = load(model)
    X = y = None
    if data is not None:
        X, _ = load_data(data, divide_by, options, images)
        if kind == "map":
            X, y = _coloured(data, X, vae, target, options)
    flags = {picture.flags[name]: value for name, value in given.items() if picture.flags[name]}
    content = _drawn(lambda: picture.draw(Asked(vae, X, y, flags)), output.suffix.lower(), dpi)
    write_atomically(output, content, overwrite=options.force)
    options.say(f"wrote {output} ({len(content) / 1e3:.0f} kB)")
    if options.json:
        print_json(output=str(output), kind=kind, bytes=len(content))


def _check(
    kind: str, picture: Picture, data: str | None, given: dict[str, Any], output: Path, dpi: int
) -> None:
    """Fail before the work, not after it."""
    if output.suffix.lower() not in FORMATS:
        raise ParameterError(
            f"-o {output}: pictures are written as {', '.join(FORMATS)}; the ending says which."
        )
    if not 10 <= dpi <= 2400:
        raise ParameterError(f"--dpi must be from 10 to 2400; received {dpi}.")
    if given.get("n", 1) < 1 or given.get("thumbnails", 1) < 1:
        raise ParameterError("-n and --thumbnails must be at least 1.")
    if picture.data == "needed" and data is None:
        raise ParameterError(f"{kind} needs rows: skvae plot {kind} MODEL DATA -o {output}")
    if picture.data == "none" and data is not None:
        raise ParameterError(f"{kind} is of the model alone; leave {data} out.")
    odd = [name for name in given if name not in picture.flags]
    if odd:
        takers = [name for name, other in PICTURES.items() if odd[0] in other.flags]
        flag = odd[0].replace("_", "-")
        raise ParameterError(f"--{flag} is for {' and '.join(takers)}, not for {kind}.")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error


def _coloured(
    data: str, X: Any, vae: Any, target: str | None, options: Options
) -> tuple[Any, NDArray[Any] | None]:
    """Return the rows as the model takes them, and what they are coloured by."""
    if target is None:
        return X, known_labels(data, options)
    if isinstance(X, files.Rows):
        X = files.Table(X.read(), X.columns)
    rows, y = ClassOptions(target=target).separate(data, X, None, options)
    learned = columns_of(vae) or []
    return (X if target in learned else rows), y


def _drawn(draw: Callable[[], Any], ending: str, dpi: int) -> bytes:
    """Return the content of a file with a picture, whose figure is closed again."""
    import matplotlib as mpl
    from matplotlib import pyplot

    pyplot.switch_backend("agg")  # no window, wherever this runs
    before = set(pyplot.get_fignums())
    buffer = io.BytesIO()
    try:
        with mpl.rc_context({"svg.hashsalt": "skvae"}):
            figure = draw().figure_
            figure.savefig(
                buffer, format=ending[1:], dpi=dpi, metadata=FORMATS[ending], bbox_inches="tight"
            )
    finally:
        for number in set(pyplot.get_fignums()) - before:
            pyplot.close(number)
    return buffer.getvalue()
