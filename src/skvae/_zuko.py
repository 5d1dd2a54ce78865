"""Import zuko without its side effect on the rest of the process.

Importing zuko switches off the argument validation of every torch distribution. Here the switch is
put back, and zuko's own classes get what they relied on.
"""

import inspect
from functools import cache
from typing import Any

from torch.distributions import Distribution

__all__ = ["load_zuko"]


@cache
def load_zuko() -> Any:
    """Return the module ``zuko``."""
    validate = Distribution._validate_args
    constraints = Distribution.__dict__["arg_constraints"]
    try:
        import zuko
        import zuko.distributions
    finally:
        Distribution._validate_args = validate
        Distribution.arg_constraints = constraints  # type: ignore[method-assign]
    for _, kind in inspect.getmembers(zuko.distributions, inspect.isclass):
        if issubclass(kind, Distribution) and kind.__module__.startswith("zuko"):
            kind._validate_args = False
            if not isinstance(kind.__dict__.get("arg_constraints"), dict):
                kind.arg_constraints = {}  # type: ignore[method-assign,assignment]
    return zuko
