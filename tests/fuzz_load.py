"""Look for bytes that break the loader; only `ModelFileError` may ever come out.

    python tests/fuzz_load.py [CORPUS] -runs=1000000    # with atheris: guided by coverage
    python tests/fuzz_load.py --plain 1000000           # without: mutations, from a seed

Every input is tried as it is. One in 32, by its last byte, is tried as a manifest under a correct
digest with the weights of an honest file, which leads behind the digest that a fuzzer cannot
guess; and one in 32 as edits of an honest manifest that keep it JSON, which leads to the parts and
their sizes. These cost a hundred times as much.
"""

import copy
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def _import():
    """Import what is fuzzed; under atheris, with its eyes on the loader."""
    global EVERY, HONEST, ModelFileError, estimators, serialization
    from skvae import estimators, serialization
    from skvae.exceptions import ModelFileError

    HONEST = [p.read_bytes() for p in sorted((HERE / "formats").glob("*.safetensors"))]
    EVERY = [_split(content) for content in HONEST]
    warnings.simplefilter("error")  # a hostile file must not make noise either


def _split(content):
    """Return manifest, and the header's other entries and the data, of an honest file."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    manifest = json.loads(header.pop("__metadata__")["skvae"][64:])
    return manifest, header, content[8 + length :]


def _join(text, header, data):
    """Return a file whose manifest is this text, with its digest."""
    entry = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() + text
    raw = json.dumps({"__metadata__": {"skvae": entry}, **header}).encode()
    return len(raw).to_bytes(8, "little") + raw + data


VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 39, 40, 2**31, 2**63, 2**64, 10**12, 10**30),
    *(0.5, -0.5, 1e-300, 1e300, "", "VAE", "auto", "mlp", "diagonal", "\ud800", "\0", "x" * 300),
    *([], [0], [1], [-1], [2, 2], [1] * 70, [[1]], ["a"], {}, {"family": "os", "name": "system"}),
    *({"family": "prior", "name": "standard"}, {"family": "model", "name": "vae"}),
    {"family": "posterior", "name": "flow", "kind": "spline", "hidden_layer_sizes": [40, 40]},
    {"family": "prior", "name": "flow", "kind": "radial", "n_transforms": 40},
    {"family": "prior", "name": "vamp", "n_components": 40},
    {"family": "posterior", "name": "categorical", "n_categories": 40},
)


def _places(value, found):
    """Collect every (container, key) of a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found.append((value, key))
            _places(value[key], found)
    return found


def _edit(manifest, choices):
    """Change a manifest in a few places that the bytes choose; it stays JSON."""
    parts = [v for k, v in sorted(manifest.items()) if k != "tensors"]
    edits = choices[1 : 4 + 3 * (choices[0] % 4)] if choices else b""
    for first, second, value in zip(*[iter(edits)] * 3, strict=False):
        places = _places([manifest, parts[first % len(parts)]], [])[1:]
        container, key = places[(256 * first + second) % len(places)]
        if value == 255 and isinstance(container, dict):
            container.pop(key, None)
        else:
            container[key] = copy.deepcopy(VALUES[value % len(VALUES)])
    return manifest


def try_one(data: bytes) -> None:
    """Load an input in each way; whatever is not a refusal is a finding."""
    _count("bytes", serialization._parse, data)
    way = data[-1] % 32 if data else 2
    if way < 2:
        manifest, header, raw = EVERY[data[0] % len(EVERY)]
        if way == 0:
            text = data[1:-1].decode("utf-8", "replace")
        else:
            text = json.dumps(_edit(copy.deepcopy(manifest), data[1:-1]))
        _count("text" if way == 0 else "edit", _load, _join(text, header, raw))


counts: dict[str, list[int]] = {"bytes": [0, 0], "text": [0, 0], "edit": [0, 0]}


def _count(way, function, content):
    try:
        function(content)
        counts[way][0] += 1
    except ModelFileError:
        counts[way][1] += 1


def _report():
    for way, (accepted, refused) in counts.items():
        print(f"{way}: {accepted} accepted, {refused} refused")  # noqa: T201


def _load(content):
    """Load as `skvae.load` does, without the file."""
    real, serialization.read = serialization.read, lambda path: serialization._parse(content)
    try:
        return estimators.load("input")
    finally:
        serialization.read = real


def plain(runs: int, seed: int = 0) -> None:
    """Try mutations of honest files and of random bytes."""
    random = np.random.default_rng(seed)
    for _ in range(runs):
        content = bytearray(HONEST[random.integers(len(HONEST))])
        content = content[: random.integers(1, 64)] if random.random() < 0.7 else content
        for _ in range(random.integers(1, 9)):
            i = random.integers(len(content))
            content[i : i + random.integers(0, 3)] = random.bytes(random.integers(0, 4))
            content = content or bytearray(b"\0")
        try_one(bytes(content))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--plain"]:
        _import()
        plain(int(sys.argv[2]))
        _report()
    else:
        import atheris

        with atheris.instrument_imports(include=["skvae", "json"]):
            _import()
        atheris.Setup(sys.argv, try_one)
        atheris.Fuzz()
