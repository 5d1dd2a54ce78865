"""How well hidden cells of a table were guessed; numbers in units of their column's spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CellScores", "ImputationReport", "crps", "point_errors", "summary"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CellScores:
    """Figures of some hidden cells; None where there are no cells to tell.

    Attributes
    ----------
    nrmse, mae : float or None
        Root mean squared and mean absolute error of numbers, in standard deviations of their
        column.
    error_rate, log_loss : float or None
        Share of wrong categories, and mean of −log p(true category), in nats.
    coverage, width : float or None
        Share of the numbers inside their 90 % interval, and its mean width in standard deviations.
    crps : float or None
        Mean continuous ranked probability score of numbers, in standard deviations [1]_: the mean
        absolute error of a law instead of a point, smaller is better.
    n : int
        Number of cells.

    References
    ----------
    .. [1] Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007
    """

    n: int
    nrmse: float | None = None
    mae: float | None = None
    error_rate: float | None = None
    log_loss: float | None = None
    coverage: float | None = None
    width: float | None = None
    crps: float | None = None


FIGURES = tuple(one.name for one in fields(CellScores) if one.name != "n")


@dataclass(frozen=True)
class ImputationReport:
    """How well an imputer finds cells that were hidden from it, beside simpler ways.

    Attributes
    ----------
    mechanism, rate : str, float
        How cells were hidden, see `skvae.missing.make_missing`.
    log_score : float
        Mean log p(hidden | the others), in nats per hidden cell and in units of the data; hidden
        cells of a row are scored together.
    overall : CellScores
        Of all hidden cells.
    columns : dict of str to CellScores
        Of those of each column.
    rivals : dict of str to CellScores
        Of the same cells, as the mean and other ways fill them in: errors of points alone.
    rival_columns : dict of str to dict of str to CellScores
        The same for each column.
    """

    mechanism: str
    rate: float
    log_score: float
    overall: CellScores
    columns: dict[str, CellScores]
    rivals: dict[str, CellScores]
    rival_columns: dict[str, dict[str, CellScores]]

    @property
    def helps(self) -> bool:
        """Whether neither NRMSE nor error rate exceed those of the mean fill, and one is less."""
        pairs = [
            (getattr(self.overall, name), getattr(self.rivals["mean"], name))
            for name in ("nrmse", "error_rate")
        ]
        known = [(own, mean) for own, mean in pairs if own is not None]
        return all(own <= mean for own, mean in known) and any(own < mean for own, mean in known)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain numbers, and whether it helps."""
        return {**asdict(self), "helps": self.helps}

    def __str__(self) -> str:
        """Return a table: all ways over all cells, and the VAE for each column."""
        ways = {"VAE": self.overall, **self.rivals}
        lines = [
            f"{self.overall.n} cells hidden ({self.mechanism}, rate {self.rate:g}); "
            f"log score {self.log_score:.3f} nats per cell; "
            f"{'better' if self.helps else 'no better'} than the mean",
            "",
            *_table(ways),
            "",
            *_table(self.columns),
        ]
        return "\n".join(lines)


def _table(rows: Mapping[str, CellScores]) -> list[str]:
    shown = [
        name for name in FIGURES if any(getattr(one, name) is not None for one in rows.values())
    ]
    first = max(6, *(len(name) for name in rows))
    widths = [max(7, len(name)) for name in shown]
    lines = [" ".join([" " * first, *(f"{n:>{w}}" for n, w in zip(shown, widths, strict=True))])]
    for name, one in rows.items():
        values = [getattr(one, figure) for figure in shown]
        cells = [
            f"{'–' if v is None else format(v, '.3f'):>{w}}"
            for v, w in zip(values, widths, strict=True)
        ]
        lines.append(" ".join([f"{name:<{first}}", *cells]))
    return lines


def point_errors(
    truth: Array, guess: Array, sd: Array, is_code: NDArray[np.bool_]
) -> dict[str, Array]:
    """Return errors of m cells, NaN where they do not apply.

    Parameters
    ----------
    truth, guess : ndarray, shape (m,)
    sd : ndarray, shape (m,)
        Standard deviations of the columns of the cells.
    is_code : ndarray of bool, shape (m,)
    """
    error = np.where(is_code, np.nan, (guess - truth) / sd)
    wrong = np.where(is_code, guess != truth, np.nan)
    return {"nrmse": error**2, "mae": np.abs(error), "error_rate": wrong}


def summary(values: Mapping[str, Array], cells: NDArray[np.bool_] | slice) -> CellScores:
    """Average the figures of some cells.

    Parameters
    ----------
    values : mapping of name of a figure to ndarray of shape (m,)
        NaN where it does not apply; squared errors for the NRMSE.
    cells : mask or slice
        Which of them.
    """
    found: dict[str, float] = {}
    n = 0
    for name, every in values.items():
        own = every[cells]
        n, own = len(own), own[~np.isnan(own)]
        if len(own):
            found[name] = math.sqrt(own.mean()) if name == "nrmse" else float(own.mean())
    return CellScores(n, **found)


def crps(x: Array, weight: Array, y: float) -> float:
    """E|x − y| − ½ E|x − x'| of weighted draws x, shape (K,), whose weights sum to 1."""
    order = np.argsort(x, kind="stable")
    x, weight = x[order], weight[order]
    pairs = 2 * weight @ (x * (2 * np.cumsum(weight) - weight - 1))  # Σ w w' |x − x'|
    return float(weight @ np.abs(x - y) - pairs / 2)
