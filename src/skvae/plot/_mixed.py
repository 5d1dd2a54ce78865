"""Rows of tables with categories: these have a bar for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skvae.plot._bars import Bars
from skvae.plot._painter import Array

if TYPE_CHECKING:
    from skvae.schema import Schema

__all__ = ["Mixed"]


class Mixed(Bars):
    """Rows of a table of mixed columns: numbers as they are, categories as indicators.

    Parameters
    ----------
    schema : Schema
    reference : DataFrame
        As of `Bars`.
    """

    def __init__(self, schema: Schema, reference: Any) -> None:
        self.schema = schema
        columns = [schema.columns[j] for j in schema.modelled]
        # Of two categories, the second one says it all.
        self.levels = [range(len(c.levels) == 2, len(c.levels)) for c in columns]
        names = [
            name
            for c, levels in zip(columns, self.levels, strict=True)
            for name in ([f"{c.name}: {c.levels[k]}" for k in levels] or [str(c.name)])
        ]
        super().__init__(names, reference)

    def read(self, rows: Any) -> Array:
        """Return numbers and indicators, NaN where a cell is missing."""
        values = self.schema.encode(rows)
        parts = []
        for column, levels in zip(values.T, self.levels, strict=True):
            flags = [np.where(np.isnan(column), np.nan, column == k) for k in levels]
            parts += flags or [column]
        return np.stack(parts, 1)
