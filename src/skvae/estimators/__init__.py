"""The scikit-learn faces. Importing them does not import torch; fitting or loading does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from skvae.estimators.classifier import VAEClassifier
from skvae.estimators.imputer import VAEImputer
from skvae.estimators.regressor import VAERegressor
from skvae.estimators.vae import VAE
from skvae.exceptions import ModelFileError

if TYPE_CHECKING:
    from skvae.networks import Network

__all__ = ["VAE", "VAEClassifier", "VAEImputer", "VAERegressor", "load"]

_ESTIMATORS: dict[str, type[VAE] | type[VAEImputer]] = {
    one.__name__: one for one in (VAE, VAEClassifier, VAEImputer, VAERegressor)
}


def load(path: str | os.PathLike[str], *, network: Network | None = None) -> Any:
    """Load a model that `save` wrote; safe for files from strangers.

    Parameters
    ----------
    path : path
        A ``.safetensors`` file.
    network : networks.Custom or None
        The modules that the model was trained with, where these are your own: the file has their
        weights, but no code.

    Returns
    -------
    estimator
        Fitted, equal to the one that was saved.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModelFileError
        The file is damaged, foreign, from a newer version, or names parts unknown here.
    """
    from skvae import serialization

    manifest, tensors = serialization.read(path)
    if "fingerprint" in manifest:
        raise ModelFileError(
            f"{path} cannot be loaded: it is the checkpoint of a fit that was ended early. Run "
            "that fit again with the same data and parameters, and it goes on from there."
        )
    name = manifest.get("estimator")
    if not isinstance(name, str) or name not in _ESTIMATORS:
        raise ModelFileError(f"{path} cannot be loaded: estimator {name!r:.80} is not known here.")
    try:
        return _ESTIMATORS[name]._from_manifest(manifest, tensors, network)
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be loaded: {error}") from error
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        raise ModelFileError(
            f"{path} cannot be loaded: its manifest does not fit its tensors "
            f"({str(error)!r:.300})."
        ) from error
