"""One safe file per model: safetensors with a JSON manifest in its metadata.

The file holds numbers and JSON, never code: no pickle, no import by name, and no switch to allow
either. Everything is checked before anything is built: structure (by safetensors), the manifest's
digest, the format version, and the SHA-256, shape, type and finiteness of each tensor.
"""

import hashlib
import json
import math
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
    if not path.is_file():
        raise ModelFileError(f"{path} is not a regular file.")
    try:
        with path.open("rb") as file:
            # Before the rest is read: it may be large, and something quite different.
            _header_length(file.read(8), os.fstat(file.fileno()).st_size)
            file.seek(0)
            manifest, tensors = _parse(file.read())
    except ModelFileError as error:
        raise ModelFileError(f"{path} cannot be loaded: {error}") from error
    return manifest, tensors


def _parse(content: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        length = _header_length(content[:8], len(content))
        header = _from_json(content[8 : 8 + length].decode())
        entry = header.get("__metadata__", {}).get("skvae")
        if not isinstance(entry, str):
            raise ModelFileError("it is a safetensors file, but not a scikit-vae model.")
        digest, text = entry[:64], entry[64:]
        if _sha256(text.encode()) != digest:
            raise ModelFileError("its manifest does not match its digest; the file is damaged.")
        manifest = _from_json(text)
        version = manifest["format_version"]
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise ModelFileError(
                f"it has format {version!r:.80}, written by scikit-vae "
                f"{manifest.get('library_version')!r:.80}; this is {__version__}, which knows up "
                f"to format {FORMAT_VERSION}. Upgrade with: pip install -U scikit-vae"
            )
        tensors = safetensors.torch.load(content)
        if tensors.keys() != manifest["tensors"].keys():
            raise ModelFileError("its tensors are not those that its manifest lists.")
        for name, tensor in tensors.items():
            if _describe(tensor) != manifest["tensors"][name]:
                raise ModelFileError(
                    f"tensor {name!r:.200} does not match its digest; it is damaged."
                )
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                raise ModelFileError(f"tensor {name!r:.200} holds values that are not finite.")
    except (
        safetensors.SafetensorError,
        AttributeError,
        KeyError,
        RuntimeError,  # of torch, for sizes and types that it cannot hold; RecursionError
        TypeError,
        ValueError,
    ) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"it is damaged or foreign ({type(error).__name__}).") from error
    return manifest, tensors


def _header_length(start: bytes, size: int) -> int:
    """Return how long the header says it is, in a file of ``size`` bytes."""
    length = int.from_bytes(start, "little")
    if size < 8 or not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
        raise ModelFileError("it is not a safetensors file, or it is truncated.")
    return length


def _from_json(text: str) -> Any:
    """Return what strict JSON says: every key once, and every number finite."""
    return json.loads(text, object_pairs_hook=_object, parse_float=_finite, parse_constant=_finite)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ModelFileError("a key is there twice; it is damaged or foreign.")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ModelFileError(f"it holds a number that is not finite ({text:.80}).")
    return value


def _describe(tensor: Tensor) -> dict[str, Any]:
    raw = tensor.flatten().view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "shape": list(tensor.shape),
        "sha256": _sha256(raw),
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
