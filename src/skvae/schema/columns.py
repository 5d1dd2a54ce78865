"""What is known of one column, in JSON-able fields, and whether they fit together."""

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any

from skvae.exceptions import ModelFileError, ParameterError, did_you_mean

__all__ = ["CONTAINERS", "KINDS", "LEVEL_KINDS", "UNITS", "Column", "Scalar", "dtype_family"]

KINDS = (
    "real",
    "positive",
    "bounded",
    "count",
    "binary",
    "categorical",
    "ordinal",
    "datetime",
    "constant",
    "text",
)
LEVEL_KINDS = ("binary", "categorical", "ordinal")
CONTAINERS = ("pandas", "polars", "numpy")
UNITS = ("D", "h", "m", "s", "ms", "us", "ns")

Scalar = str | int | float | bool

TIME = re.compile(rf"(datetime64|timedelta64)\[({'|'.join(UNITS)})\]")
ZONE = r"[A-Za-z][A-Za-z0-9_+\-/:]{0,63}"

# The native types that can be made again from their names, and what they hold.
DTYPES = {
    "pandas": {
        "bool": r"bool|boolean|bool\[pyarrow\]",
        "integer": r"u?int(8|16|32|64)(\[pyarrow\])?|U?Int(8|16|32|64)",
        "float": r"float(16|32|64)|Float(32|64)|(halffloat|float|double)\[pyarrow\]",
        "text": r"str|string|string\[(python|pyarrow)\]|large_string\[pyarrow\]",
        "category": r"category",
        "date": rf"datetime64\[(s|ms|us|ns)(, {ZONE})?\]",
        "duration": r"timedelta64\[(s|ms|us|ns)\]",
        "object": r"object",
    },
    "polars": {
        "bool": r"Boolean",
        "integer": r"U?Int(8|16|32|64)",
        "float": r"Float(32|64)|Decimal\[\d{1,2}, \d{1,2}\]",
        "text": r"String",
        "category": r"Categorical|Enum",
        "date": rf"Date|Datetime\[(ms|us|ns)(, {ZONE})?\]",
        "duration": r"Duration\[(ms|us|ns)\]",
        "object": r"Object|Null",
    },
    "numpy": {
        "bool": r"bool",
        "integer": r"u?int(8|16|32|64)",
        "float": r"float(16|32|64|96|128)",
        "text": r"str",
        "date": r"datetime64\[(D|h|m|s|ms|us|ns)\]",
        "duration": r"timedelta64\[(D|h|m|s|ms|us|ns)\]",
        "object": r"object",
    },
}


def dtype_family(dtype: str, container: str) -> str | None:
    """Return what a native type holds, or None for one that its name does not bring back."""
    for family, pattern in DTYPES[container].items():
        if re.fullmatch(pattern, dtype):
            return family
    return None


@dataclass(frozen=True)
class Column:
    """What one column of a table is.

    Parameters
    ----------
    name : str or int
        For arrays the position.
    kind : str
        One of `KINDS`.
    dtype : str
        Name of the native type, as ``"Int64"``, ``"datetime64[ns, UTC]"`` or, for polars,
        ``"Datetime[us, UTC]"``.
    levels : tuple of str, int, float or bool
        The values of a binary, categorical or ordinal column in their order; their positions are
        their codes. Of a constant column its value, or none where no value was ever seen; a date
        or duration is there as its integer number of ticks.
    low, high : float or None
        Bounds of a bounded column; otherwise the range seen in the fit, in the numbers of
        `Schema.encode`.
    whole : bool
        Whether values that are filled in are whole numbers: integers, days or seconds.
    time : str
        NumPy type whose integers dates or durations are, as ``"datetime64[us]"`` or
        ``"timedelta64[ns]"``; empty for all else.
    as_text : bool
        Whether values are told apart by their ``str``, as those of mixed types are.
    categories : tuple
        What the native categorical type declares, in its order.
    ordered : bool
        Whether that type calls its categories ordered.
    categories_dtype : str
        Type of a pandas categorical's categories.
    """

    name: str | int
    kind: str
    dtype: str
    levels: tuple[Scalar, ...] = ()
    low: float | None = None
    high: float | None = None
    whole: bool = False
    time: str = ""
    as_text: bool = False
    categories: tuple[Scalar, ...] = ()
    ordered: bool = False
    categories_dtype: str = ""

    def __post_init__(self) -> None:
        self._check_types()
        n = len(self.levels)
        allowed = {"binary": n == 2, "categorical": n >= 2, "ordinal": n >= 2, "constant": n <= 1}
        if not allowed.get(self.kind, n == 0):
            self._refuse("levels", self.levels, f"as many as a {self.kind} column has")
        for field in ("levels", "categories"):
            values = getattr(self, field)
            if len(set(values)) < len(values):
                self._refuse(field, values, "distinct")
        if self.as_text and not all(isinstance(v, str) for v in self.levels):
            self._refuse("levels", self.levels, "strings, since as_text is True")
        self._check_range()
        self._check_time()

    @property
    def is_modelled(self) -> bool:
        """Whether it is numbers for a model."""
        return self.kind not in ("constant", "text")

    @property
    def is_date(self) -> bool:
        """Whether its values are points in time."""
        return self.time.startswith("datetime64")

    def goes_into(self, container: str) -> bool:
        """Whether its native type is one of a container that can be made again and hold it."""
        family, levels = dtype_family(self.dtype, container), self.levels
        if family is None:  # a column that is passed through, or empty
            return container != "numpy" and not (self.is_modelled or levels)
        if self.kind == "text" or family == "object":
            return True
        if self.time or family in ("date", "duration"):
            return family == ("date" if self.is_date else "duration") and self.time != ""
        if family == "category":
            return self._goes_into_categories()
        if self.is_modelled and not levels and family in ("bool", "text"):
            return False
        if family == "text" or any(isinstance(level, str) for level in levels):
            return family == "text" and all(isinstance(level, str) for level in levels)
        if family == "bool":
            return set(levels) <= {False, True}
        return family == "float" or all(float(level).is_integer() for level in levels)

    def _goes_into_categories(self) -> bool:
        declared = self.categories if self.dtype != "Categorical" else self.levels
        known = {"text": str, "bool": bool, "integer": int, "float": int | float, "object": object}
        held = known.get(dtype_family(self.categories_dtype or "object", "pandas") or "")
        if held is None or (self.is_modelled and not self.levels):
            return False
        return set(self.levels) <= set(declared) and all(isinstance(v, held) for v in declared)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values that `from_json` turns back into an equal column."""
        fields = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}

    @classmethod
    def from_json(cls, data: object) -> "Column":
        """Build the column that `to_json` described.

        Raises
        ------
        ModelFileError
            For anything that cannot be a column.
        """
        if not isinstance(data, dict):
            raise ModelFileError(f"expected a column's description, found {data!r:.80}.")
        known = {f.name: f for f in dataclasses.fields(cls)}
        needed = {k for k, f in known.items() if f.default is dataclasses.MISSING}
        if odd := sorted((data.keys() - known.keys()) | (needed - data.keys()), key=str):
            raise ModelFileError(f"a column with unknown or missing fields: {odd!r:.200}.")
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in data.items()
        }
        try:
            return cls(**values)
        except ParameterError as error:
            raise ModelFileError(str(error)) from error

    def _check_types(self) -> None:
        if type(self.name) not in (str, int):
            self._refuse("name", self.name, "a str or an int")
        if self.kind not in KINDS:
            known = ", ".join(map(repr, KINDS))
            hint = did_you_mean(self.kind, KINDS) if isinstance(self.kind, str) else ""
            self._refuse("kind", self.kind, f"one of {known}.{hint}")
        for field in ("dtype", "time", "categories_dtype"):
            if not isinstance(getattr(self, field), str):
                self._refuse(field, getattr(self, field), "a str")
        for field in ("whole", "as_text", "ordered"):
            if not isinstance(getattr(self, field), bool):
                self._refuse(field, getattr(self, field), "a bool")
        for field in ("levels", "categories"):
            values = getattr(self, field)
            if not isinstance(values, tuple) or not all(map(_is_scalar, values)):
                self._refuse(field, values, "a tuple of str, finite numbers or bool")

    def _check_range(self) -> None:
        for field in ("low", "high"):
            value = getattr(self, field)
            if value is not None and (isinstance(value, bool | str) or not _is_scalar(value)):
                self._refuse(field, value, "a finite number or None")
        low = -math.inf if self.low is None else self.low
        high = math.inf if self.high is None else self.high
        if self.kind == "bounded" and not -math.inf < low < high < math.inf:
            self._refuse("low, high", (self.low, self.high), "two numbers, the first the smaller")
        if low > high:
            self._refuse("low, high", (self.low, self.high), "in this order")
        if (self.kind == "positive" and not high > 0) or (self.kind == "count" and high < 0):
            self._refuse("high", self.high, f"a value of a {self.kind} column")

    def _check_time(self) -> None:
        if self.time and not TIME.fullmatch(self.time):
            self._refuse("time", self.time, "such as 'datetime64[us]' or 'timedelta64[ns]'")
        if self.kind == "text":
            return
        if (self.kind == "datetime") != self.is_date and self.kind != "constant":
            self._refuse("time", self.time, f"a type that fits the kind {self.kind!r}")
        if self.time and self.kind in (*LEVEL_KINDS, "count"):
            self._refuse("time", self.time, f"empty for the kind {self.kind!r}")
        if self.time and any(type(v) is not int or abs(v) >= 1 << 63 for v in self.levels):
            self._refuse("levels", self.levels, "an int of 64 bits, for a date or duration")

    def _refuse(self, field: str, value: object, allowed: str) -> None:
        raise ParameterError(
            f"Column {self.name!r:.80}: {field} must be {allowed}; received {value!r:.80}."
        )


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int)
