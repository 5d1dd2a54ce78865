"""Variational autoencoders with scikit-learn's interface.

>>> from skvae import VAE, load
>>> from skvae import datasets, likelihoods, networks, objectives

Importing this package imports neither torch nor scikit-learn; the names below are loaded when
they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skvae.estimators import VAE as VAE
    from skvae.estimators import VAEClassifier as VAEClassifier
    from skvae.estimators import VAEImputer as VAEImputer
    from skvae.estimators import VAERegressor as VAERegressor
    from skvae.estimators import load as load
    from skvae.pooling import fit_pool as fit_pool
    from skvae.pooling import pool as pool

__version__ = "0.1.0.dev0"

_NAMES = {
    **dict.fromkeys(
        ("VAE", "VAEClassifier", "VAEImputer", "VAERegressor", "load"), "skvae.estimators"
    ),
    **dict.fromkeys(("fit_pool", "pool"), "skvae.pooling"),
}
_MODULES = (
    "augmentation",
    "callbacks",
    "datasets",
    "distributions",
    "evaluation",
    "exceptions",
    "files",
    "inference",
    "likelihoods",
    "missing",
    "missingness",
    "models",
    "networks",
    "objectives",
    "plot",
    "posteriors",
    "priors",
    "schema",
    "streams",
    "testing",
)

__all__ = sorted(["__version__", *_NAMES, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"skvae.{name}")
    raise AttributeError(f"module 'skvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
