"""Files that are damaged, hostile, or whose writing is ended: what is loaded is what was saved."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from skvae import flows, load, posteriors, report, rng, serialization
from skvae._atomic import write_atomically
from skvae.checkpoint import FILE, Checkpoint
from skvae.exceptions import ModelFileError

HERE = Path(__file__).parent
FORMATS, ATTACKS = HERE / "formats", HERE / "attacks"
HONEST = FORMATS / "v1-vae.safetensors"


def program_of(folder):
    """The program that wrote the files of a folder."""
    spec = importlib.util.spec_from_file_location("make", folder / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """What a process of its own found; see there."""
    if not sys.platform.startswith("linux"):
        pytest.skip("ends processes, and limits them, as Linux does")
    place = tmp_path_factory.mktemp("ended")
    done = subprocess.run(
        [sys.executable, HERE / "ended.py", place],
        cwd=place,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert not (place / "executed").exists()
    return json.loads(done.stdout)


# -- ended and refused writes ---------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "least"), [("model", 12), ("checkpoint", 13)])
def test_a_write_that_is_ended_anywhere_leaves_the_old_file_or_the_new_one(ended, kind, least):
    crashes = ended["crashes"][kind]
    found = crashes["found"]
    assert [f["code"] for f in found] == [9] * (len(found) - 1) + [0]
    assert len(found) > least  # open, write, flush, fsync, close, replace, unlink, the directory
    replaced = [f["content"] == crashes["new"] for f in found]
    assert all(f["content"] in (crashes["old"], crashes["new"]) for f in found)
    assert crashes["old"] != crashes["new"]
    assert replaced == sorted(replaced)  # from some call on it is the new one, and stays so
    assert not replaced[0]
    assert replaced[-1]


def test_an_ended_save_leaves_temporary_files_only_and_an_old_one_is_removed(ended):
    crashes = ended["crashes"]["model"]
    temporary = re.compile(r"\.m\[1\]\.safetensors\.[0-9a-f]{16}\.tmp")
    litter = [f["others"] for f in crashes["found"]]
    assert all(temporary.fullmatch(name) for names in litter for name in names)
    assert len(litter[-1]) >= 6
    stranger = f".otherm[1].safetensors.{'0' * 16}.tmp"
    assert crashes["kept"] == sorted([*litter[-1], stranger, "m[1].safetensors"])
    assert crashes["left"] == [stranger, "m[1].safetensors"]


def test_a_resumed_fit_removes_what_its_killed_forerunner_left(ended):
    found = ended["crashes"]["checkpoint"]["found"]
    assert max(len(f["others"]) for f in found) == 1  # at its first write, not at the end
    assert not ended["crashes"]["checkpoint"]["left"]


def test_a_full_disk_is_named_with_the_path_and_leaves_the_old_file_alone(ended):
    assert ended["full"] == [[0, "old", ["model.safetensors"]]] * 3


def test_a_place_that_takes_no_files_is_named(tmp_path, monkeypatch):
    (tmp_path / "m").write_bytes(b"old")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError) as raised:
        write_atomically(tmp_path / "m", b"new", overwrite=True)
    assert raised.value.filename == str(tmp_path / "m")
    assert raised.value.errno == 13
    assert str(raised.value) == f"[Errno 13] Permission denied: '{tmp_path / 'm'}'"


def test_a_directory_that_cannot_be_synced_has_the_new_file(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def only_files(number):
        calls.append(number)
        if len(calls) == 2:
            raise OSError(22, "Invalid argument")
        real(number)

    monkeypatch.setattr(os, "fsync", only_files)
    write_atomically(tmp_path / "m", b"new")
    assert len(calls) == 2
    assert (tmp_path / "m").read_bytes() == b"new"


# -- damage ---------------------------------------------------------------------------------------


def parsed(content):
    """Return what a file holds in a form that compares, or None where it is refused."""
    try:
        manifest, tensors = serialization._parse(content)
    except ModelFileError:
        return None
    return manifest, {k: (v.dtype, v.shape, v.numpy().tobytes()) for k, v in tensors.items()}


def test_every_truncation_and_any_byte_behind_are_refused():
    content = HONEST.read_bytes()
    assert parsed(content) is not None
    assert all(parsed(content[:n]) is None for n in range(len(content)))
    assert all(parsed(content + bytes([b])) is None for b in range(256))


def test_every_flipped_bit_is_noticed():
    content = bytearray(HONEST.read_bytes())
    for i in range(len(content)):
        for bit in range(8):
            content[i] ^= 1 << bit
            assert parsed(content) is None, (i, bit)
            content[i] ^= 1 << bit


def test_the_only_bytes_that_may_change_are_the_spaces_that_pad_the_header():
    """They can become other white space, which takes two flipped bits, and means the same."""
    content = bytearray(HONEST.read_bytes())
    whole = parsed(content)
    end = 8 + int.from_bytes(content[:8], "little")
    padding = set(range(len(bytes(content[:end]).rstrip(b" ")), end))
    assert len(padding) < 8
    for i, byte in enumerate(bytes(content)):
        for other in {*b" \t\n\r\0\xff", byte ^ 0xFF, (byte + 1) % 256} - {byte}:
            content[i] = other
            found = parsed(content)
            if i in padding and other in b"\t\n\r":
                assert found == whole
            else:
                assert found is None, (i, other)
        content[i] = byte


def test_a_pipe_and_a_device_are_no_model_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ModelFileError, match=f"{path} is not a regular file"):
            load(path)


def test_a_large_file_of_another_kind_is_not_read(tmp_path):
    with (tmp_path / "video").open("wb") as file:
        file.truncate(2**40)
    start = time.perf_counter()
    with pytest.raises(ModelFileError, match="video cannot be loaded: it is not a safetensors"):
        load(tmp_path / "video")
    assert time.perf_counter() - start < 1


# -- hostile files --------------------------------------------------------------------------------

# What is said of the files whose names begin so; the longest beginning counts.
REASONS = {
    "": r"it is not a safetensors file, or it is truncated\.",
    "binarize": "binarize=",
    "bomb_": "weights missing or unknown",
    "bomb_event": r"the model needs torch\.float32 \(5000, 5000, 5000\)",
    "checkpoint": "checkpoint of a fit",
    "container": "form of the data makes no sense",
    "data_": r"damaged or foreign \(SafetensorError\)",
    "dtype_": "form of the data makes no sense",
    "dtype_of_another_size": r"damaged or foreign \(SafetensorError\)",
    "dtype_of_the_same_size": "does not match its digest",
    "dtype_unknown": r"damaged or foreign \(SafetensorError\)",
    "entry_": "does not match its digest",
    "entry_number": "not a scikit-vae model",
    "estimator_": "estimator .* is not known here",
    "family_dotted": r"'os' 'mlp' is not known here.*a file cannot name code",
    "family_list": "unhashable",
    "flat_": "form of the data makes no sense",
    "foreign": "not a scikit-vae model",
    "format_": r"it has format .*, written by scikit-vae '0\.1\.0\.dev0'; .*Upgrade with",
    "header_byte_order": "UnicodeDecodeError",
    "header_deep": "RecursionError",
    "header_huge_integer": "ValueError",
    "header_list": "AttributeError",
    "header_metadata": "AttributeError",
    "header_nan": r"not finite \(NaN\)",
    "header_not_json": "JSONDecodeError",
    "header_not_utf8": "UnicodeDecodeError",
    "header_null": "AttributeError",
    "header_surrogate": "does not match its digest",
    "header_twice": "a key is there twice",
    "header_utf16": "UnicodeDecodeError",
    "history_text": "something that is not a number",
    "history_number": "not iterable",
    "manifest_deep": "RecursionError",
    "manifest_empty": "JSONDecodeError",
    "manifest_huge_integer": "ValueError",
    "manifest_infinity": r"not finite \(-Infinity\)",
    "manifest_key_twice": "a key is there twice",
    "manifest_list": "TypeError",
    "manifest_nan": r"not finite \(NaN\)",
    "manifest_null": "TypeError",
    "manifest_object": "KeyError",
    "manifest_overflow": r"not finite \(1e999\)",
    "manifest_string": "TypeError",
    "manifest_tensors_list": "AttributeError",
    "model_is": "expected a Assembly",
    "name_dotted": r"'os\.system' is not known here.*a file cannot name code",
    "name_list": "unhashable",
    "name_unknown": r"'Evil\\x1b\]0;title\\x07\\x1b\[2J' is not known",
    "names_": "form of the data makes no sense",
    "offsets_": r"damaged or foreign \(SafetensorError\)",
    "params_deep": "maximum recursion depth|hidden_layer_sizes",
    "params_escape": r"\\x1b\]0;title",
    "params_null": "no attribute 'items'",
    "params_self": "'self'",
    "params_spec_dotted": r"'os' .* is not known here.*a file cannot name code",
    "params_unknown": "__reduce__",
    "part_has": "unknown fields",
    "part_is_text": "no attribute",
    "part_of_another_family": "no attribute",
    "pickle_framed": "UnicodeDecodeError",
    "scaling_": "the scaling of the data does not fit",
    "scaling_missing": r"transform\.shift",
    "seed_": "is no seed",
    "shape_": r"damaged or foreign \(SafetensorError\)",
    "shape_deep": r"damaged or foreign \(RuntimeError\)",
    "shape_empty_and_huge": r"damaged or foreign \(RuntimeError\)",
    "size_": r"a size of 10+ does not fit \d+ numbers",
    "size_components_": "must be an integer >= 1",
    "size_event_": "must be an integer >= 1",
    "size_event_dimensions": "the model needs",
    "size_event_number": "not iterable",
    "size_hidden_negative": "must hold integers >= 1",
    "size_hidden_zero": "must hold integers >= 1",
    "size_of_another_model": "the model needs",
    "tensor_": "not those that its manifest lists",
    "weight_": "the model needs",
    "weight_float8_nan": "NotImplementedError|not finite",
    "weight_infinite": "not finite",
    "weight_missing": "missing or unknown",
    "weight_nan": "not finite",
    "weight_traversal": "missing or unknown",
    "weight_unknown": r"missing or unknown: \['\\x1b\]0;title",
}


def reason(name):
    return REASONS[max((k for k in REASONS if name.startswith(k)), key=len)]


@pytest.mark.parametrize("path", sorted((ATTACKS / "refused").iterdir()), ids=lambda p: p.name)
def test_hostile_files_are_refused_for_what_they_are(path, ended):
    beginning = rf"^{re.escape(str(path))} cannot be loaded: "
    with pytest.raises(ModelFileError, match=f"{beginning}.*{reason(path.name)}") as raised:
        load(path)
    assert str(raised.value).isprintable()  # nothing that a terminal would obey
    assert len(str(raised.value)) < len(str(path)) + 500
    # the same with 64 MB more than an idle process has, and quickly
    said, seconds = ended["loaded"]["files"][path.name]
    assert re.match(f"ModelFileError: {beginning[1:]}.*{reason(path.name)}", said)
    assert seconds < 1


def test_hostile_files_are_what_their_program_makes():
    make = program_of(ATTACKS)
    for folder, files in (("refused", make.refused()), ("harmless", make.harmless())):
        kept = {path.name: path.read_bytes() for path in (ATTACKS / folder).iterdir()}
        assert kept.keys() == files.keys()
        assert max(map(len, kept.values())) < 10_000
        # What other libraries pack may differ with their versions.
        packed = {name for name in kept if name.startswith(("gzip", "pickle", "torch", "zip"))}
        assert [k for k in kept.keys() - packed if kept[k] != files[k]] == []


def test_what_only_looks_bad_loads_and_does_nothing():
    rows = np.array(json.loads((FORMATS / "v1.json").read_text())["vae"]["rows"])
    honest = load(HONEST)
    for path in sorted((ATTACKS / "harmless").iterdir()):
        again = load(path)
        assert again.checkpoint is None  # or the next fit would write where the file says
        model = again.set_params(likelihood=honest.likelihood)
        names = getattr(again, "feature_names_in_", None)
        del model.feature_names_in_
        assert np.array_equal(model.transform(rows), np.asarray(honest._core.posterior_mean(rows)))
        assert len(names) == 4


def test_names_in_a_file_are_text_on_a_page():
    vae = load(ATTACKS / "harmless" / "names")
    bad = "</script><img src=x onerror=alert(1)>"
    assert vae.feature_names_in_[0] == vae.likelihood == bad
    rows = tuple((str(name), "0") for name in vae.feature_names_in_)
    section = report.Section(bad, bad, table=report.Table(bad, (bad, bad), rows))
    page = report.Report(bad, bad, bad, [section]).to_html()
    for html in (page, vae._repr_html_()):
        assert "onerror=alert" in html
        assert "<img src=x" not in html
        assert bad not in html
    assert "{{ 7 * 7 }}" in page


def test_where_a_fit_writes_is_not_saved(tmp_path):
    vae = load(HONEST).set_params(checkpoint="/somewhere/private")
    vae.save(tmp_path / "m")
    assert b"private" not in (tmp_path / "m").read_bytes()
    assert load(tmp_path / "m").checkpoint is None


def test_a_checkpoint_of_the_wrong_form_is_refused(tmp_path):
    for described in (
        {"fingerprint": [], "state": {}},
        {"fingerprint": {}, "state": 1},
        {"state": {}},
    ):
        serialization.write(tmp_path / FILE, described, {}, overwrite=True)
        with pytest.raises(ModelFileError, match="is not a checkpoint"):
            Checkpoint(tmp_path, {}).read()


def test_the_outline_of_a_flow_has_the_shapes_of_the_flow():
    for kind in flows.KINDS:
        for d, context, hidden in ((1, 3, (5,)), (2, 0, (4, 5)), (3, 2, ()), (5, 4, (7, 6))):
            spec = posteriors.Flow(kind, 2, hidden)
            with rng.isolated(0), torch.device("meta"):
                outline = flows.build_flow(spec, d, context).state_dict()
            with rng.isolated(0):
                real = flows.build_flow(spec, d, context).state_dict()
            assert list(outline) == list(real)
            for name, tensor in real.items():
                assert tensor.device.type == "cpu"
                assert outline[name].device.type == "meta"
                assert (outline[name].shape, outline[name].dtype) == (tensor.shape, tensor.dtype)


# -- files of every format ------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FORMATS.glob("v*.safetensors")), ids=lambda p: p.stem)
def test_files_of_every_format_give_what_they_gave(path):
    version, _, name = path.stem.partition("-")
    recorded = json.loads((FORMATS / f"{version}.json").read_text(encoding="utf-8"))[name]
    rows = recorded.pop("rows")
    found = program_of(FORMATS).computed(load(path), rows)
    assert found.keys() >= recorded.keys()
    for method, values in recorded.items():
        if isinstance(values[0], str):
            assert found[method] == values
        else:
            np.testing.assert_allclose(found[method], values, rtol=1e-6, atol=1e-7)


def test_every_format_and_every_recorded_model_is_there():
    for version in range(1, serialization.FORMAT_VERSION + 1):
        names = json.loads((FORMATS / f"v{version}.json").read_text(encoding="utf-8"))
        files = {path.name for path in FORMATS.glob(f"v{version}-*.safetensors")}
        assert files == {f"v{version}-{name}.safetensors" for name in names}
        assert len(files) >= 3
