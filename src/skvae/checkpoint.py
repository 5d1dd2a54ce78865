"""Checkpoints: the state of a running fit in one safe file, from which it goes on exactly.

Order and noise are functions of the seed, the epoch and the step. So the weights, the optimiser's
averages and a few counters are the whole state: there are no generators to save.
"""

import hashlib
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skvae import __version__, serialization
from skvae._atomic import remove_leftovers
from skvae.exceptions import CheckpointWarning, ModelFileError, ParameterError

__all__ = ["Checkpoint", "fingerprint_of"]

FILE = "checkpoint.safetensors"


def fingerprint_of(description: dict[str, Any], *tensors: Tensor) -> dict[str, str]:
    """Return short digests by which a fit recognises its own checkpoint.

    Parameters
    ----------
    description : dict of JSON values
        Everything that decides what the fit computes, by name.
    tensors : Tensor
        The data and the first weights.
    """
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().flatten().view(torch.uint8).numpy().data)
    described = {k: json.dumps(v, sort_keys=True) for k, v in description.items()}
    versions = {"scikit-vae": __version__, "torch": torch.__version__}
    return {**described, **versions, "data and first weights": digest.hexdigest()}


class Checkpoint:
    """Where and how often the state of a fit is written.

    Parameters
    ----------
    directory : path
        Made if it is not there.
    fingerprint : dict of str
        See `fingerprint_of`.
    interval : float
        Seconds between two checkpoints; the first is written before the first update, so that a
        place that cannot be written to is found at once.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        fingerprint: dict[str, str],
        interval: float = 30.0,
    ) -> None:
        self.path = Path(directory) / FILE
        self.fingerprint = fingerprint
        self.interval = interval
        self._last = -float("inf")
        self._warned = False

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Return the state that was written, or None where there is none.

        Raises
        ------
        ParameterError
            It is the state of another fit; the message names what differs.
        ModelFileError
            The file is damaged or something else.
        """
        if not self.path.exists():
            return None
        manifest, tensors = serialization.read(self.path)
        found, state = manifest.get("fingerprint"), manifest.get("state")
        if not isinstance(found, dict) or not isinstance(state, dict):
            raise ModelFileError(f"{self.path} is not a checkpoint.")
        differing = sorted(
            k
            for k in self.fingerprint.keys() | found.keys()
            if self.fingerprint.get(k) != found.get(k)
        )
        if differing:
            raise ParameterError(
                f"checkpoint={str(self.path.parent)!r} holds the state of another fit; different "
                f"are: {', '.join(differing)}. Go on with what that fit was given, or choose "
                "another directory or delete this one."
            )
        return state, tensors

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._last >= self.interval

    def write(self, state: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Replace the last state by this one, atomically.

        The first failure raises, before anything was trained; later ones only warn, since the
        training itself is worth more than its checkpoint.
        """
        first = self._last == -float("inf")
        if first:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self.path, older_than=0)  # of this fit, killed while it wrote
        manifest = {"fingerprint": self.fingerprint, "state": state}
        try:
            serialization.write(self.path, manifest, tensors, overwrite=True)
        except OSError as error:
            if first:
                raise
            if not self._warned:
                warnings.warn(
                    f"{self.path} could not be written ({error}); training goes on, and the "
                    "checkpoint is the last one that was written.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            self._warned = True
        self._last = time.monotonic()

    def remove(self) -> None:
        """Delete the file when the fit is complete; a directory made for it goes if empty."""
        self.path.unlink(missing_ok=True)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
