"""The calls of an estimator that keep it in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.utils.validation import check_is_fitted

from skvae.estimators._base import from_json, to_json
from skvae.estimators._scores import Scores
from skvae.exceptions import ModelFileError

if TYPE_CHECKING:
    import torch

    from skvae.likelihoods import Likelihood
    from skvae.networks import Network
    from skvae.spec import Spec

__all__ = ["Kept"]


class Kept(Scores):
    """Saving a fitted model, and making it again from what a file says."""

    n_features_in_: int
    n_iter_: int
    network: str | Spec
    likelihood_: Likelihood

    _unkept: ClassVar[tuple[str, ...]] = ("checkpoint",)  # a place on this machine

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model as one safe file; `skvae.load` reads it back.

        Parameters
        ----------
        path : path
            Usually ``*.safetensors``.
        overwrite : bool
            Replace an existing file (atomically).

        Raises
        ------
        FileExistsError
            The file exists and ``overwrite`` is False.
        OSError
            It could not be written; an older file is intact.
        """
        from skvae import serialization

        check_is_fitted(self)
        manifest, tensors = self._core.state()
        manifest |= {
            "estimator": type(self).__name__,
            "params": {
                k: to_json(k, v)
                for k, v in self.get_params(deep=False).items()
                if k not in self._unkept
            },
            "history": self.history_.rows,
            "feature_names": list(getattr(self, "feature_names_in_", [])) or None,
            "container": self._container,
            "flat": self._flat,
            "channels_last": self._channels_last,
            "dtype": self._dtype,
            "sequences": None if self._form is None else self._form.to_json(),
            "schema": None if self._schema is None else self._schema.to_json(),
            **self._own_manifest(),
        }
        tensors |= self._own_tensors()
        serialization.write(path, manifest, tensors, overwrite=overwrite)

    def _own_tensors(self) -> dict[str, torch.Tensor]:
        """Return what an estimator keeps besides its model."""
        return {}

    def _own_manifest(self) -> dict[str, Any]:
        """Return what an estimator has to say besides, as JSON values."""
        return {}

    @classmethod
    def _from_manifest(
        cls,
        manifest: dict[str, Any],
        tensors: dict[str, torch.Tensor],
        network: Network | None,
    ) -> Self:
        from skvae.callbacks import History
        from skvae.estimators._choices import pick_device
        from skvae.estimators._core import Core

        params = {k: from_json(v) for k, v in manifest["params"].items()}
        self = cls(**params | {"checkpoint": None})  # a file must not choose where to write
        self._validate_params()
        self._core = Core.from_state(manifest, tensors, pick_device("auto"), network)
        if network is not None:
            self.network = network
        self.likelihood_ = self._core.spec.likelihood
        self.event_shape_ = self._core.spec.event_shape
        self.n_features_in_ = self._core.n_features
        self._recall_form(manifest)
        rows = manifest["history"]
        if not all(isinstance(v, int | float) for row in rows for v in row.values()):
            raise ModelFileError("its history holds something that is not a number.")
        self.history_ = History(rows)
        self.n_iter_ = max(1, len(self.history_))
        return self
