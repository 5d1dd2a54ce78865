"""Keeping an imputer in a file, and making it again from what a file says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from skvae.calibration import Calibration
from skvae.callbacks import History
from skvae.estimators._base import from_json, to_json
from skvae.estimators._choices import pick_device
from skvae.estimators._core import Core
from skvae.estimators._members import Members
from skvae.exceptions import ModelFileError
from skvae.likelihoods import Columns
from skvae.likelihoods.columns import ColumnsModule
from skvae.schema import Schema

if TYPE_CHECKING:
    from skvae.estimators.imputer import VAEImputer
    from skvae.networks import Network

__all__ = ["described", "restored"]

MAPPINGS = ("kinds", "likelihoods")
MOST_MEMBERS = 1000


def described(imputer: VAEImputer) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return JSON values and tensors from which `restored` makes a fitted imputer again."""
    params = imputer.get_params(deep=False)
    plain = {k: to_json(k, v) for k, v in params.items() if k not in (*MAPPINGS, "missing_values")}
    for name in MAPPINGS:
        plain[name] = _pairs(name, params[name])
    missing = params["missing_values"]
    if isinstance(missing, str | int | float) and missing == missing:  # not NaN
        plain["missing_values"] = missing
    cores = () if imputer._members is None else imputer._members.cores
    members = []
    tensors: dict[str, torch.Tensor] = {}
    for m, core in enumerate(cores):
        manifest, own = core.state()
        members.append(manifest)
        tensors |= {f"member{m}.{k}": v for k, v in own.items()}
    calibration = imputer._members and imputer._members.calibration
    if calibration:
        tensors |= {f"calibration.{k}": torch.from_numpy(v) for k, v in vars(calibration).items()}
    manifest = {
        "estimator": type(imputer).__name__,
        "params": plain,
        "schema": imputer.schema_.to_json(),
        "members": members,
        "calibrated": calibration is not None,
        "histories": [history.rows for history in imputer.history_],
        "seed": imputer._seed,
        "feature_names": list(getattr(imputer, "feature_names_in_", [])) or None,
        "empty": imputer._empty.tolist(),
        "indicated": imputer._indicated.tolist(),
    }
    return manifest, tensors


def restored(
    imputer: VAEImputer,
    manifest: dict[str, Any],
    tensors: dict[str, torch.Tensor],
    network: Network | None,
) -> None:
    """Give an unfitted imputer the state that `described` wrote.

    Raises
    ------
    ModelFileError
        The parts do not fit together.
    """
    schema = Schema.from_json(manifest["schema"])
    p = len(schema.columns)
    members = manifest["members"]
    if not isinstance(members, list) or len(members) > MOST_MEMBERS:
        raise ModelFileError("what it says of its members makes no sense.")
    cores = []
    for m, one in enumerate(members):
        prefix = f"member{m}."
        own = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        core = Core.from_state(one, own, pick_device("auto"), network)
        likelihood = core.spec.likelihood
        if not isinstance(likelihood, Columns) or core.n_features != len(schema.modelled):
            raise ModelFileError("its models are not those of a table with its columns.")
        cores.append(core)
    if bool(cores) != bool(schema.modelled):
        raise ModelFileError("it has no model for its columns, or columns for its model.")
    names = manifest["feature_names"]
    if names is not None:
        if not (isinstance(names, list) and [c.name for c in schema.columns] == names):
            raise ModelFileError("its feature names are not those of its columns.")
        imputer.feature_names_in_ = np.array(names, dtype=object)
    histories = manifest["histories"]
    numbers = (v for rows in histories for row in rows for v in row.values())
    if len(histories) != len(cores) or not all(isinstance(v, int | float) for v in numbers):
        raise ModelFileError("its histories are not those of its members.")
    if type(manifest["seed"]) is not int or manifest["seed"] < 0:
        raise ModelFileError(f"seed={manifest['seed']!r:.80} is no seed.")
    empty, indicated = (_places(manifest[name], p) for name in ("empty", "indicated"))
    imputer.schema_, imputer.n_features_in_ = schema, p
    imputer._seed = manifest["seed"]
    imputer._empty, imputer._indicated = empty, indicated
    imputer._kept = np.setdiff1d(np.arange(p), () if imputer.keep_empty_features else empty)
    imputer.history_ = [History(rows) for rows in histories]
    calibration = _calibration(cores, tensors) if manifest["calibrated"] is True else None
    imputer._members = Members(cores, calibration) if cores else None
    if cores:
        imputer.likelihood_ = cores[0].spec.likelihood


def _calibration(cores: list[Core], tensors: dict[str, torch.Tensor]) -> Calibration:
    names = [one.name for one in fields(Calibration)]
    parts = [tensors.get(f"calibration.{name}", torch.empty(0)).numpy() for name in names]
    likelihood = cores[0].module.likelihood if cores else None
    calibration = Calibration(*parts)
    if not isinstance(likelihood, ColumnsModule) or not calibration.fits(likelihood):
        raise ModelFileError("its calibration is not one of its columns.")
    return calibration


def params_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that `described` wrote."""
    params = dict(manifest["params"])
    mappings = {name: _mapping(params.pop(name, None)) for name in MAPPINGS}
    return {k: from_json(v) for k, v in params.items()} | mappings


def _pairs(name: str, mapping: Mapping[Any, Any] | None) -> Any:
    if mapping is None:
        return None
    return [[to_json(name, k), to_json(name, v)] for k, v in mapping.items()]


def _mapping(pairs: Any) -> dict[Any, Any] | None:
    return None if pairs is None else {k: from_json(v) for k, v in pairs}


def _places(value: Any, p: int) -> Any:
    """Return numbers of columns; increasing, and below p."""
    whole = isinstance(value, list) and all(type(j) is int for j in value)
    if not whole or value != sorted(set(value)) or (value and not 0 <= value[0] <= value[-1] < p):
        raise ModelFileError("what it says of its columns makes no sense.")
    return np.array(value, dtype=np.intp)
