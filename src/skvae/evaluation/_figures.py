"""Reports as plain numbers and as tables of text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

__all__ = ["plain", "table"]


def plain(report: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, None where a number is not finite (JSON has no NaN)."""
    return {name: _finite(value) for name, value in asdict(report).items()}


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(header: Iterable[str], rows: Mapping[str, Iterable[float | None]]) -> list[str]:
    """Return lines of a table with names at the left, a dash where there is no figure."""
    header = list(header)
    first = max(len(name) for name in rows)
    widths = [max(8, len(name)) for name in header]
    lines = [" ".join([" " * first, *(f"{h:>{w}}" for h, w in zip(header, widths, strict=True))])]
    for name, values in rows.items():
        cells = [
            f"{'–' if v is None else format(v, '.4g'):>{w}}"
            for v, w in zip(values, widths, strict=True)
        ]
        lines.append(" ".join([f"{name:<{first}}", *cells]))
    return lines
