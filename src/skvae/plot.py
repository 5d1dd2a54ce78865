"""Pictures: matplotlib Display objects in scikit-learn's manner.

Each has ``from_estimator(vae, ...)``, draws on the axes that it is given or on new ones, and keeps
what it drew on as ``ax_`` and ``figure_``. Pictures of rows show means E[x | z], without noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skvae.exceptions import DataError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from skvae.callbacks import History
    from skvae.estimators import VAE, VAEImputer

__all__ = [
    "ImageRowsDisplay",
    "ImputedCellsDisplay",
    "LatentGridDisplay",
    "LatentMapDisplay",
    "TrainingCurveDisplay",
    "as_images",
    "show_canvas",
    "tile_images",
]

Array = NDArray[Any]


def _axes(ax: Axes | None, width: float, height: float) -> Axes:
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise MissingExtraError("matplotlib", "plot") from error
    return pyplot.subplots(figsize=(width, height), layout="constrained")[1]


def as_images(vae: VAE, rows: ArrayLike) -> Array:
    """Return rows as images (n, h, w) or (n, h, w, c), using the model's event shape.

    Raises
    ------
    DataError
        The model's rows are not images.
    """
    shape = vae.event_shape_
    values = np.asarray(rows)
    if len(shape) == 2:
        return values.reshape(-1, *shape)
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        if vae.channels_last:
            images = values.reshape(-1, *shape[1:], shape[0])
        else:
            images = np.moveaxis(values.reshape(-1, *shape), 1, -1)
        return images[..., 0] if shape[0] == 1 else images
    raise DataError(
        f"The model's rows have shape {shape}, which is not (h, w) or (c, h, w) with 1, 3 or 4 "
        "channels. Fit with event_shape=(1, h, w) to see flat rows as images."
    )


def tile_images(images: Array, n_columns: int, gap: int = 1) -> Array:
    """Lay images (n, h, w[, c]) out in a white grid, row by row; for grey images 1 is ink."""
    n, h, w = images.shape[:3]
    n_rows = -(-n // n_columns)
    size = (n_rows * (h + gap) - gap, n_columns * (w + gap) - gap, *images.shape[3:])
    canvas = np.full(size, 0.0 if images.ndim == 3 else 1.0)
    for i, image in enumerate(images):
        top, left = (i // n_columns) * (h + gap), (i % n_columns) * (w + gap)
        canvas[top : top + h, left : left + w] = image
    return canvas


def show_canvas(ax: Axes, canvas: Array, **kwargs: Any) -> None:
    """Draw a canvas; cells that are NaN get a colour that no grey image has."""
    from matplotlib import colormaps

    ink = colormaps["gray_r"].with_extremes(bad="#9db8d9")
    ax.imshow(canvas, cmap=ink, vmin=0, vmax=1, interpolation="nearest", **kwargs)


@dataclass
class ImageRowsDisplay:
    """Labelled rows of images, for example originals above their reconstructions.

    Attributes
    ----------
    rows : dict of str to ndarray, shape (n, h, w) or (n, h, w, c)
        Label and images of each row, values in [0, 1]; NaN is drawn in a colour of its own.
    """

    rows: dict[str, Array]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    @classmethod
    def from_estimator(cls, vae: VAE, X: ArrayLike, *, ax: Axes | None = None) -> Self:
        """Show rows of X and their reconstructions E[x | E[z | x]]."""
        reconstructed = vae.inverse_transform(vae.transform(X))
        rows = {"data": as_images(vae, X), "reconstruction": as_images(vae, reconstructed)}
        return cls(rows).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw; labels stand to the left of their rows."""
        n = max(len(images) for images in self.rows.values())
        height, width = next(iter(self.rows.values())).shape[1:3]
        ax = _axes(ax, 0.6 * n + 1.5, 0.6 * len(self.rows) + 0.4)
        step = height + 3  # in pixels, from one row of images to the next
        for i, images in enumerate(self.rows.values()):
            canvas = tile_images(images, n)
            show_canvas(ax, canvas, extent=(0, canvas.shape[1], i * step + height, i * step))
        ax.set_xlim(0, n * (width + 1) - 1)
        ax.set_ylim(len(self.rows) * step - 3, 0)
        ax.set_xticks([])
        ax.set_yticks(
            [height / 2 + i * step for i in range(len(self.rows))], labels=list(self.rows)
        )
        ax.tick_params(length=0)
        for spine in ax.spines.values():
            spine.set_visible(False)
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _spread_out(points: Array, distance: float) -> Array:
    """Push points (n, 2) apart until none is nearer to another than ``distance``, or nearly so."""
    points = points.astype(np.float64)
    for _ in range(100):
        gaps = points[:, None] - points[None]  # (n, n, 2)
        lengths = np.linalg.norm(gaps, axis=-1, keepdims=True)
        near = (lengths < distance) & (lengths > 0)
        if not near.any():
            break
        push = np.where(near, gaps / np.where(lengths > 0, lengths, 1) * (distance - lengths), 0)
        points += push.sum(1) / 2
    return points


@dataclass
class LatentMapDisplay:
    """Posterior means in two latent dimensions, coloured by label.

    Attributes
    ----------
    Z : ndarray, shape (n, 2)
    y : ndarray, shape (n,), or None
    dimensions : tuple of two int
    """

    Z: Array
    y: Array | None
    dimensions: tuple[int, int]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    @classmethod
    def from_estimator(
        cls,
        vae: VAE,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        dimensions: tuple[int, int] = (0, 1),
        ax: Axes | None = None,
    ) -> Self:
        """Encode X and draw two of its latent dimensions."""
        Z = np.asarray(vae.transform(X))
        if max(dimensions) >= Z.shape[1]:
            raise DataError(
                f"dimensions={dimensions} need at least {max(dimensions) + 1} latent dimensions; "
                f"the model has n_components={Z.shape[1]}."
            )
        labels = None if y is None else np.asarray(y)
        return cls(Z[:, list(dimensions)], labels, dimensions).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw the points, with a label near the median of each of up to 20 classes."""
        ax = _axes(ax, 6, 6)
        size = float(np.clip(20000 / max(len(self.Z), 1), 1.5, 30))
        if self.y is None:
            ax.scatter(self.Z[:, 0], self.Z[:, 1], s=size, linewidths=0, alpha=0.6)
        else:
            classes, index = np.unique(self.y, return_inverse=True)
            few = len(classes) <= 20
            ax.scatter(
                self.Z[:, 0],
                self.Z[:, 1],
                c=index if few else self.y,
                s=size,
                linewidths=0,
                alpha=0.6,
                cmap=("tab10" if len(classes) <= 10 else "tab20") if few else "viridis",
            )
            medians = [np.median(self.Z[index == i], 0) for i in range(len(classes))]
            places = _spread_out(np.array(medians), 0.05 * np.ptp(self.Z)) if few else ()
            for label, (x, y) in zip(classes if few else (), places, strict=True):
                ax.text(
                    x,
                    y,
                    str(label),
                    ha="center",
                    va="center",
                    fontweight="bold",
                    bbox={"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.8},
                )
        ax.set_xlabel(f"latent dimension {self.dimensions[0] + 1}")
        ax.set_ylabel(f"latent dimension {self.dimensions[1] + 1}")
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass
class LatentGridDisplay:
    """What the decoder makes of a regular grid over two latent dimensions.

    Attributes
    ----------
    images : ndarray, shape (n * n, h, w) or (n * n, h, w, c)
        Row by row from the top left.
    values : ndarray, shape (n,)
        Coordinates of the grid along either axis.
    """

    images: Array
    values: NDArray[np.float64]
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    @classmethod
    def from_estimator(cls, vae: VAE, *, n: int = 20, ax: Axes | None = None) -> Self:
        """Decode the grid; coordinates are equally spaced quantiles of N(0, 1)."""
        from scipy.stats import norm

        values = norm.ppf((np.arange(n) + 0.5) / n)
        z1, z2 = np.meshgrid(values, values[::-1])
        Z = np.zeros((n * n, vae.n_components))
        Z[:, 0], Z[:, 1] = z1.ravel(), z2.ravel()
        return cls(as_images(vae, vae.inverse_transform(Z)), values).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw the grid with its coordinates."""
        ax = _axes(ax, 6, 6)
        n = len(self.values)
        show_canvas(ax, tile_images(self.images, n, gap=0), extent=(0, n, 0, n))
        ticks = np.linspace(0, n - 1, 5).round().astype(int)
        labels = [f"{self.values[t]:.1f}" for t in ticks]
        ax.set_xticks(ticks + 0.5, labels=labels)
        ax.set_yticks(ticks + 0.5, labels=labels)
        ax.set_xlabel("latent dimension 1")
        ax.set_ylabel("latent dimension 2")
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass
class TrainingCurveDisplay:
    """The ELBO of training and held-out rows over the epochs, in nats per row.

    Attributes
    ----------
    history : History
    """

    history: History
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    @classmethod
    def from_estimator(cls, vae: VAE, *, ax: Axes | None = None) -> Self:
        """Draw the curves of a fitted estimator."""
        return cls(vae.history_).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw the curves; the first tenth of the epochs may leave the frame."""
        ax = _axes(ax, 6, 4)
        epochs = self.history["epoch"]
        shown = []
        for name, label in (("train_elbo", "training"), ("valid_elbo", "held out")):
            if name in self.history.columns:
                ax.plot(epochs, self.history[name], label=label)
                shown.append(self.history[name])
        if len(epochs) >= 10:
            # The first epochs would squeeze everything that is of interest into a line.
            settled = np.concatenate([curve[len(epochs) // 10 :] for curve in shown])
            low, high = np.nanmin(settled), np.nanmax(settled)
            ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
        ax.set_xlabel("epoch")
        ax.set_ylabel("ELBO, nats per row")
        ax.legend()
        ax.grid(alpha=0.3)
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


@dataclass
class ImputedCellsDisplay:
    """The observed cells of a column beside draws of its missing ones.

    The two need not look alike: cells that are missing for a reason that other columns know have
    another distribution. But draws where no value can be, or all in one place, show a poor fit.

    Attributes
    ----------
    column : name or number of the column
    observed : ndarray, shape (n,)
    imputed : ndarray, shape (m,)
        All draws of all missing cells.
    levels : tuple
        What a category may be; empty for numbers.
    """

    column: Any
    observed: Array
    imputed: Array
    levels: tuple[Any, ...] = ()
    ax_: Axes = field(init=False, repr=False)
    figure_: Figure | SubFigure | None = field(init=False, repr=False)

    @classmethod
    def from_estimator(
        cls,
        imputer: VAEImputer,
        X: Any,
        column: Any,
        *,
        n_imputations: int = 20,
        random_state: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the missing cells of one column of X (n, p) several times.

        Raises
        ------
        DataError
            There is no such column, or none of its cells is missing.
        """
        names = [one.name for one in imputer.schema_.columns]
        if column not in names:
            raise DataError(
                f"X has no column {column!r}; its columns are {', '.join(map(repr, names))}."
            )
        j = names.index(column)
        missing = imputer.schema_.missing(X)[:, j]
        if not missing.any():
            raise DataError(f"Column {column!r} of X has no missing cell to show.")
        tables = imputer.sample(X, n_imputations, random_state=random_state)
        observed = _cells_of(X, column)[~missing]
        imputed = np.concatenate([_cells_of(table, column)[missing] for table in tables])
        display = cls(column, observed, imputed, imputer.schema_.columns[j].levels)
        return display.plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw histograms of numbers with common bins, and shares of categories."""
        ax = _axes(ax, 5, 3.4)
        both = {"observed": self.observed, "imputed": self.imputed}
        if self.levels:
            place = np.arange(len(self.levels))
            for i, (label, values) in enumerate(both.items()):
                shares = [np.mean(values == level) for level in self.levels]
                ax.bar(place + 0.4 * (i - 0.5), shares, 0.4, label=label)
            ax.set_xticks(place, [str(level) for level in self.levels])
            ax.set_ylabel("share")
        else:
            numbers = {label: values.astype(np.float64) for label, values in both.items()}
            edges = np.histogram_bin_edges(np.concatenate([*numbers.values()]), bins=30)
            bins = edges.tolist()
            ax.hist(numbers["observed"], bins, density=True, alpha=0.5, label="observed")
            ax.hist(numbers["imputed"], bins, density=True, histtype="step", lw=2, label="imputed")
            ax.set_ylabel("density")
        ax.set_xlabel(str(self.column))
        ax.legend()
        if title:
            ax.set_title(title)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def _cells_of(table: Any, column: Any) -> Array:
    return table[:, column] if isinstance(table, np.ndarray) else np.asarray(table[column])
