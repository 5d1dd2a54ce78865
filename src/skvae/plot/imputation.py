"""Missing cells and what they are filled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae import files
from skvae.exceptions import DataError, ParameterError
from skvae.plot._choose import painter_of
from skvae.plot._histograms import two_histograms, two_shares
from skvae.plot._layout import versions
from skvae.plot._painter import Items, Painter
from skvae.plot._rows import count, numbers, opened, some, spread
from skvae.plot._style import Display, axes
from skvae.sequences import count_missing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from skvae.estimators import VAE, VAEImputer

__all__ = ["ColumnCells", "FilledRows", "ImputationDisplay"]

Array = NDArray[Any]

DRAWS_OF_ROWS = 3
DRAWS_OF_CELLS = 20


@dataclass(frozen=True)
class ColumnCells:
    """The observed cells of a column, and draws of its missing ones.

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

    def draw(self, ax: Axes | None) -> Axes:
        """Draw histograms of numbers with common bins, and shares of categories."""
        ax = axes(ax, 5, 3.4)
        both = {"observed": self.observed, "imputed": self.imputed}
        if self.levels:
            two_shares(ax, both, self.levels)
            ax.set_ylabel("share")
        else:
            two_histograms(ax, {label: one.astype(np.float64) for label, one in both.items()})
            ax.set_ylabel("density")
        ax.set_xlabel(str(self.column))
        ax.legend()
        return ax


@dataclass(frozen=True)
class FilledRows:
    """Rows with holes, and filled in.

    Attributes
    ----------
    rows : dict of str to rows
        ``"seen"``, ``"truth"`` where it is known, ``"mean"``, ``"draw 1"``, ...
    painter : Painter
    """

    rows: Mapping[str, Any]
    painter: Painter

    def draw(self, ax: Axes | None) -> Axes:
        """Draw all versions of the rows; of tables, only what is not seen is drawn again."""
        items: dict[str, Items] = {k: self.painter.items(rows) for k, rows in self.rows.items()}
        if self.painter.columns:
            seen = np.asarray(items["seen"])
            items = {k: np.where(np.isnan(seen), v, np.nan) for k, v in items.items()}
            items["seen"] = seen
        return versions(ax, self.painter, items)


@dataclass
class ImputationDisplay(Display):
    """A column's observed cells beside draws of its missing ones, or rows before and after.

    Observed and imputed cells need not look alike: cells that are missing for a reason that other
    columns know have another distribution. But draws where no value can be, or all in one place,
    show a poor fit.

    Attributes
    ----------
    shown : ColumnCells or FilledRows
    """

    shown: ColumnCells | FilledRows

    @classmethod
    def from_estimator(
        cls,
        estimator: VAE | VAEImputer,
        X: Any,
        column: Any = None,
        *,
        truth: Any = None,
        n_imputations: int | None = None,
        n_rows: int = 8,
        random_state: int | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Fill X in several times.

        Parameters
        ----------
        estimator : VAEImputer or VAE
        X : rows with holes
        column : name or number of a column, or None
            Whose cells are shown; of a `VAE`, None shows rows.
        truth : rows as X without holes, or None
            Shown beside the rows.
        n_imputations : int or None
            Number of draws, by default 20 of a column and 3 of rows. Those of rows are E[x | z] at
            draws of z.
        n_rows : int
            So many of the rows with holes, spread evenly.
        random_state : int or None
        ax : matplotlib Axes or None

        Raises
        ------
        DataError
            There is no such column, or nothing is missing.
        ParameterError
            An imputer of tables needs the name of a column.
        """
        if hasattr(estimator, "schema_"):
            n = n_imputations or DRAWS_OF_CELLS
            shown: ColumnCells | FilledRows = _of_imputer(estimator, X, column, n, random_state)
        elif column is not None:
            n = n_imputations or DRAWS_OF_CELLS
            shown = _of_column(estimator, X, column, n, random_state)
        else:
            n = n_imputations or DRAWS_OF_ROWS
            shown = _of_rows(estimator, X, truth, n, n_rows, random_state)
        return cls(shown).plot(ax=ax)

    def plot(self, *, ax: Axes | None = None, title: str | None = None) -> Self:
        """Draw, on the axes that are given or on new ones."""
        return self._drawn(self.shown.draw(ax), title)


def _of_imputer(
    imputer: VAEImputer, X: Any, column: Any, n: int, random_state: int | None
) -> ColumnCells:
    names = [one.name for one in imputer.schema_.columns]
    missing = imputer.schema_.missing(X)  # (n, p)
    if column is None:
        holes = [name for j, name in enumerate(names) if missing[:, j].any()]
        raise ParameterError(
            "column= must name the column to show; those of X with missing cells are "
            f"{', '.join(map(repr, holes[:20])) or '(none)'}."
        )
    j = _place(column, names)
    _check_both(missing[:, j], column)
    if hasattr(imputer, "impute"):  # a VAE of such a table
        tables = imputer.impute(X, n_draws=n, random_state=random_state)
    else:
        tables = imputer.sample(X, n, random_state=random_state)
    observed = _cells_of(X, column)[~missing[:, j]]
    imputed = np.concatenate([_cells_of(table, column)[missing[:, j]] for table in tables])
    return ColumnCells(column, observed, imputed, imputer.schema_.columns[j].levels)


def _of_column(vae: VAE, X: Any, column: Any, n: int, random_state: int | None) -> ColumnCells:
    X = opened(vae, X)
    names = painter_of(vae, X).columns
    if not names:
        raise ParameterError("column= is for tables of at most 24 columns; leave it out.")
    known = [*getattr(vae, "feature_names_in_", range(len(names)))]
    j = _place(column, known)
    values = numbers(X)
    missing = np.isnan(values[:, j])
    _check_both(missing, column)
    draws = vae.impute(X, n_draws=n, random_state=random_state)
    imputed = np.concatenate([numbers(draw)[missing, j] for draw in draws])
    return ColumnCells(column, values[~missing, j], imputed)


def _of_rows(
    vae: VAE, X: Any, truth: Any, n: int, n_rows: int, random_state: int | None
) -> FilledRows:
    X = opened(vae, X)
    if truth is not None and count(truth) != count(X):
        raise DataError(f"truth has {count(truth)} rows, but X has {count(X)}.")
    with_holes = np.flatnonzero(_has_holes(X))
    if not len(with_holes):
        raise DataError("X has no missing cell to show: mark them with NaN (codes with None).")
    chosen = with_holes[spread(len(with_holes), n_rows)]
    seen = some(X, chosen)
    filled = vae.impute(seen)
    rows = {"seen": seen}
    if truth is not None:
        rows["truth"] = some(truth, chosen)
    rows["mean"] = filled
    draws = vae.impute(seen, n_draws=n, kind="mean", random_state=random_state)
    rows |= {f"draw {i + 1}": draw for i, draw in enumerate(draws)}
    return FilledRows(rows, painter_of(vae, filled if truth is None else rows["truth"]))


def _check_both(missing: NDArray[np.bool_], column: Any) -> None:
    """Check that a column has cells of either kind."""
    if missing.all() or not missing.any():
        what = "observed cell to compare with" if missing.all() else "missing cell to show"
        raise DataError(f"Column {column!r} of X has no {what}.")


def _has_holes(X: Any) -> NDArray[np.bool_]:
    if isinstance(X, list | tuple):
        return np.array([count_missing([x]) > 0 for x in X])
    return np.asarray(np.isnan(numbers(X).reshape(count(X), -1)).any(1))


def _place(column: Any, names: list[Any]) -> int:
    if column not in names:
        raise DataError(
            f"X has no column {column!r}; its columns are {', '.join(map(repr, names[:20]))}."
        )
    return names.index(column)


def _cells_of(table: Any, column: Any) -> Array:
    if isinstance(table, files.Table):
        table = table.values
    return table[:, column] if isinstance(table, np.ndarray) else np.asarray(table[column])
