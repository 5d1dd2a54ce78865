"""Dates as days and durations as seconds, and back to the ticks of a type."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_days", "to_seconds", "to_ticks"]

SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
SECONDS_OF = {"D": 86_400, "h": 3600, "m": 60}  # in one tick
DAY = {
    **{unit: 86_400 // seconds for unit, seconds in SECONDS_OF.items()},
    **{unit: 86_400 * ticks for unit, ticks in SECOND.items()},
}
YEARS_1_TO_9999 = (-719_162.0, 2_932_896.0)  # what Python's dates hold, in days


def to_days(ticks: NDArray[np.int64], time: str) -> NDArray[np.float64]:
    """Return days since 1970-01-01 (UTC) of ticks of a type such as ``"datetime64[ns]"``."""
    return _divided(ticks, DAY[_unit(time)])


def to_seconds(ticks: NDArray[np.int64], time: str) -> NDArray[np.float64]:
    """Return seconds of ticks of a type such as ``"timedelta64[ns]"``."""
    unit = _unit(time)
    if unit in SECONDS_OF:
        return ticks * np.float64(SECONDS_OF[unit])
    return _divided(ticks, SECOND[unit])


def to_ticks(values: NDArray[np.float64], time: str) -> NDArray[np.int64]:
    """Return the nearest ticks of days (dates) or seconds (durations), within the type's range."""
    unit, is_date = _unit(time), time.startswith("datetime64")
    if not is_date and unit in SECONDS_OF:
        values, per = values / SECONDS_OF[unit], 1
    else:
        per = (DAY if is_date else SECOND)[unit]
    # One less than there is room for: in the last day NumPy's own conversions overflow.
    limit = float(min(((1 << 63) - 1) // per - 1, 1 << 53))
    values = np.clip(values, -limit, limit)
    if is_date:
        values = np.clip(values, *YEARS_1_TO_9999)
    whole = np.floor(values)
    return whole.astype(np.int64) * per + np.rint((values - whole) * per).astype(np.int64)


def _divided(ticks: NDArray[np.int64], per: int) -> NDArray[np.float64]:
    # Whole part and rest apart: ticks of a nanosecond have more digits than a float64.
    whole, rest = np.divmod(ticks.astype(np.int64), per)
    return whole + rest / per


def _unit(time: str) -> str:
    return time.partition("[")[2].removesuffix("]")
