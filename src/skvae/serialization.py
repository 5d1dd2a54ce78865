"""One safe file per model: safetensors with a JSON manifest in its metadata.

The file holds numbers and JSON, never code: no pickle, no import by name, and no switch to allow
either. Everything is checked before anything is built: structure (by safetensors), the manifest's
digest, the format version, and the SHA-256, shape, type and finiteness of each tensor.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from skvae import __version__
from skvae._atomic import write_atomically
from skvae.exceptions import ModelFileError

__all__ = ["FORMAT_VERSION", "read", "write"]

FORMAT_VERSION = 1
MAX_HEADER_BYTES = 100_000_000


def write(
    path: str | os.PathLike[str],
    manifest: dict[str, Any],
    tensors: dict[str, Tensor],
    *,
    overwrite: bool = False,
) -> None:
    """Write manifest and tensors as one file, atomically.

    Raises
    ------
    FileExistsError
        The path exists and ``overwrite`` is False.
    OSError
        The file could not be written; an older file at the path is intact.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    described = {
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        **manifest,
        "tensors": {k: _describe(v) for k, v in sorted(tensors.items())},
    }
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # One entry, since safetensors writes several in random order: equal models are equal files.
    metadata = {"skvae": _sha256(text.encode()) + text}
    write_atomically(path, safetensors.torch.save(tensors, metadata), overwrite=overwrite)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return manifest and tensors of a file, fully checked.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ModelFileError
        The file is not a model of this library, damaged, or written by a newer version.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no model file {str(path)!r}.")
    if path.is_dir():
        raise ModelFileError(f"{path} is a directory, not a model file.")
    try:
        manifest, tensors = _parse(path.read_bytes())
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be loaded: {error}") from error
    return manifest, tensors


def _parse(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        length = int.from_bytes(content[:8], "little")
        if len(content) < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, len(content) - 8):
            raise ModelFileError("it is not a safetensors file, or it is truncated.")
        header = json.loads(content[8 : 8 + length])
        entry = header.get("__metadata__", {}).get("skvae")
        if not isinstance(entry, str):
            raise ModelFileError("it is a safetensors file, but not a scikit-vae model.")
        digest, text = entry[:64], entry[64:]
        if _sha256(text.encode()) != digest:
            raise ModelFileError("its manifest does not match its digest; the file is damaged.")
        manifest = json.loads(text)
        version = manifest["format_version"]
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise ModelFileError(
                f"it has format {version!r}, written by scikit-vae "
                f"{manifest.get('library_version')}; this is {__version__}, which knows up to "
                f"format {FORMAT_VERSION}. Upgrade with: pip install -U scikit-vae"
            )
        tensors = safetensors.torch.load(content)
        if tensors.keys() != manifest["tensors"].keys():
            raise ModelFileError("its tensors are not those that its manifest lists.")
        for name, tensor in tensors.items():
            if _describe(tensor) != manifest["tensors"][name]:
                raise ModelFileError(f"tensor {name!r} does not match its digest; it is damaged.")
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ModelFileError(f"tensor {name!r} holds values that are not finite.")
    except (
        safetensors.SafetensorError,
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"it is damaged or foreign ({type(error).__name__}).") from error
    return manifest, tensors


def _describe(tensor: Tensor) -> dict[str, Any]:
    raw = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": _sha256(raw),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
