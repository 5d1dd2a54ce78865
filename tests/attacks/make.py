"""Write files that are no models, or lie about what they hold, each under 10 kB.

    python tests/attacks/make.py

All start from one honest file, and those that lie inside carry correct digests: an attacker can
compute them as well. In ``refused/`` every one must be refused, in ``harmless/`` must load.
"""

import copy
import gzip
import hashlib
import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
HONEST = HERE.parent / "formats" / "v1-vae.safetensors"
DTYPES = {
    "F32": "float32",
    "F64": "float64",
    "F16": "float16",
    "U8": "uint8",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
}
SCRIPT = "</script><img src=x onerror=alert(1)>"
TRAVERSAL = "../../../../etc/passwd\0.csv"
ESCAPE = "\x1b]0;title\x07\x1b[2J"


class Bomb:
    """What pickle would run."""

    def __reduce__(self):
        return open, ("executed", "w")


def take_apart(content):
    """Return manifest and tensors {name: (dtype, shape, bytes)} of an honest file."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    manifest = json.loads(header.pop("__metadata__")["skvae"][64:])
    tensors = {
        k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items()
    }
    return manifest, tensors


def framed(header, data=b"", length=None):
    """Return a file with this header, which may claim another length."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(text):
    """Return the manifest's entry, with its digest."""
    return {"skvae": hashlib.sha256(text.encode()).hexdigest() + text}


def laid_out(tensors):
    """Return the header's part and the data of tensors, the widest type first."""
    described, data = {}, b""
    for name, (dtype, shape, raw) in sorted(
        tensors.items(), key=lambda t: (t[1][0] != "F64", t[0])
    ):
        offsets = [len(data), len(data) + len(raw)]
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    return described, data


def model(manifest, tensors, edit=lambda text: text):
    """Return a file whose digests are right; ``edit`` changes the manifest's text."""
    manifest["tensors"] = {
        name: {"dtype": DTYPES[dtype], "shape": shape, "sha256": hashlib.sha256(raw).hexdigest()}
        for name, (dtype, shape, raw) in tensors.items()
    }
    described, data = laid_out(tensors)
    text = edit(json.dumps(manifest, sort_keys=True))
    return framed({"__metadata__": entry(text), **described}, data)


def changed(*path, value):
    """Return the honest file with one value of its manifest replaced, or added."""
    manifest, tensors = take_apart(HONEST.read_bytes())
    place = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return model(manifest, tensors)


def edited(old, new):
    """Return the honest file with the text of its manifest changed."""
    manifest, tensors = take_apart(HONEST.read_bytes())
    return model(manifest, tensors, lambda text: text.replace(old, new, 1))


def with_tensor(name, dtype, shape, raw):
    """Return the honest file with a tensor replaced or added; None removes it."""
    manifest, tensors = take_apart(HONEST.read_bytes())
    tensors.pop(name, None)
    if dtype:
        tensors[name] = (dtype, shape, raw)
    return model(manifest, tensors)


def with_header(change, data=lambda d: d):
    """Return the honest file with its header changed."""
    content = HONEST.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    change(header)
    return framed(header, data(content[8 + length :]))


def layout(name, **fields):
    """Return the honest file with the header's entry of one tensor changed."""
    return with_header(lambda header: header[name].update(fields))


def only(manifest_text):
    """Return a file without tensors whose manifest is any text."""
    return framed({"__metadata__": entry(manifest_text)})


def one(shape, offsets, data=b"", dtype="F32"):
    """Return a file of one tensor, which its manifest describes as it describes itself."""
    listed = {
        "x": {"dtype": DTYPES[dtype], "shape": shape, "sha256": hashlib.sha256(data).hexdigest()}
    }
    text = json.dumps({"format_version": 1, "tensors": listed})
    tensor = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
    return framed({"__metadata__": entry(text), "x": tensor}, data)


def zipped(name, content, declared=None):
    """Return a zip archive, which may claim another size of its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    raw = buffer.getvalue()
    return raw if declared is None else raw.replace(struct.pack("<I", len(content)), declared)


def bombs():
    """Yield files that are small and describe something that is not."""
    honest, tensors = take_apart(HONEST.read_bytes())
    described = honest["model"]
    wide = {**tensors, "wide": ("U8", [5000], bytes(5000))}
    perceptron = {"family": "network", "name": "mlp", "hidden_layer_sizes": [5000] * 20}
    flow = {"hidden_layer_sizes": [5000, 5000], "kind": "coupling", "n_transforms": 2}
    for name, part in {
        "network": {"network": described["network"] | perceptron},
        "event": {"event_shape": [5000, 5000, 5000]},
        "flow_posterior": {"posterior": {"family": "posterior", "name": "flow", **flow}},
        "flow_prior": {"prior": {"family": "prior", "name": "flow", **flow}, "n_components": 5000},
        "codes": {
            "posterior": {
                "family": "posterior",
                "name": "vector_quantized",
                "n_codes": 5000,
                "code_size": 5000,
                "decay": 0.9,
                "commitment": 0.25,
            },
            "prior": {"family": "prior", "name": "autoregressive", "hidden_layer_sizes": [5000]},
        },
    }.items():
        yield f"bomb_{name}", model({**honest, "model": described | part}, dict(wide))


def refused():
    """Return all files that must be refused."""
    honest = HONEST.read_bytes()
    manifest, tensors = take_apart(honest)
    weight = "module.posterior.head.weight"
    dtype, shape, raw = tensors[weight]
    n = len(raw) // 4
    text = json.dumps(manifest)
    deep = copy.deepcopy(manifest)
    nest = []
    for _ in range(800):
        nest = [nest]
    deep["params"]["network"] = manifest["model"]["network"] | {"hidden_layer_sizes": nest}
    checkpoint = {"format_version": 1, "fingerprint": {}, "state": {}}
    return {
        # something else altogether
        "empty": b"",
        "text": b"hello, world\n" * 10,
        "html": b"<!doctype html><script>alert(1)</script>",
        "pickle": pickle.dumps(Bomb(), protocol=4),
        "pickle_framed": framed(pickle.dumps(Bomb(), protocol=4)),
        "torch_save": zipped("archive/data.pkl", pickle.dumps(Bomb(), protocol=2)),
        "zip_traversal": zipped("../../../executed", b"x"),
        "zip_bomb": zipped("x", bytes(1_000_000), declared=b"\xff\xff\xff\xff"),
        "gzip_bomb": gzip.compress(bytes(1_000_000), mtime=0),
        # the length of the header
        "header_length_zero": framed(b"{}", length=0),
        "header_length_one": framed(b"{}", length=1),
        "header_length_huge": framed(b"{}", length=2**64 - 1),
        "header_length_signed": framed(b"{}", length=2**63),
        "header_length_one_too_many": framed(b"{}", length=3),
        "header_length_allowed": framed(b"{}", length=99_999_999),
        # the header
        "header_list": framed(b"[]"),
        "header_null": framed(b"null"),
        "header_not_json": framed(b"{'a': 1}"),
        "header_deep": framed(b"[" * 9_900),
        "header_deep_closed": framed(b'{"a":' * 1_600 + b"1" + b"}" * 1_600),
        "header_huge_integer": framed(b'{"a": ' + b"9" * 9_000 + b"}"),
        "header_not_utf8": framed(b'{"\xff\xfe": 1}'),
        "header_utf16": framed(json.dumps({"__metadata__": entry(text)}).encode("utf-16")),
        "header_byte_order_mark": framed(b"\xef\xbb\xbf" + honest[8:]),
        "header_surrogate": framed(b'{"__metadata__": {"skvae": "\\ud800"}}'),
        "header_nan": framed(b'{"__metadata__": NaN}'),
        "header_metadata_list": framed({"__metadata__": []}),
        "header_metadata_string": framed({"__metadata__": "skvae"}),
        "header_twice": framed(
            json.dumps({"__metadata__": entry(text)})[:-1].encode()
            + b","
            + json.dumps({"__metadata__": entry("{}")})[1:].encode()
        ),
        # the layout of the tensors
        "offsets_overlap": layout(weight, data_offsets=[0, len(raw)]),
        "offsets_reversed": layout(weight, data_offsets=[len(raw), 0]),
        "offsets_beyond": layout(weight, data_offsets=[10**6, 10**6 + len(raw)]),
        "offsets_negative": layout(weight, data_offsets=[-len(raw), 0]),
        "offsets_fraction": layout(weight, data_offsets=[0.5, len(raw) + 0.5]),
        "offsets_overflow": layout(weight, data_offsets=[2**64, 2**64 + len(raw)]),
        "offsets_hole": one([1], [4, 8], bytes(8)),
        "offsets_missing": with_header(lambda h: h[weight].pop("data_offsets")),
        "data_behind": honest + bytes(8),
        "data_missing": honest[:-8],
        "shape_negative": one([-1], [0, 4], bytes(4)),
        "shape_too_large": one([10**12], [0, 4], bytes(4)),
        "shape_overflow": one([2**33, 2**33], [0, 4], bytes(4)),
        "shape_overflow_to_size": one([2**63, 2, 2], [0, 0]),
        "shape_empty_and_huge": one([0, 2**62, 2**62], [0, 0]),
        "shape_deep": one([1] * 1000, [0, 4], bytes(4)),
        "dtype_unknown": layout(weight, dtype="PY_OBJECT"),
        "dtype_of_another_size": layout(weight, dtype="F64"),
        "dtype_of_the_same_size": layout(weight, dtype="I32"),
        "tensor_unlisted": with_header(
            lambda h: h.update({"x": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})
        ),
        "tensor_renamed": with_header(lambda h: h.update({"x": h.pop(weight)})),
        # the manifest
        "foreign": framed({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}, b"\0"),
        "foreign_metadata": framed({"__metadata__": {"format": "pt"}}),
        "entry_empty": framed({"__metadata__": {"skvae": ""}}),
        "entry_number": framed({"__metadata__": {"skvae": 1}}),
        "entry_without_digest": framed({"__metadata__": {"skvae": text}}),
        "entry_of_another": framed({"__metadata__": {"skvae": entry(text)["skvae"] + " "}}),
        "manifest_empty": only(""),
        "manifest_null": only("null"),
        "manifest_list": only("[]"),
        "manifest_string": only('"format_version"'),
        "manifest_object": only("{}"),
        "manifest_tensors_list": only('{"format_version": 1, "tensors": []}'),
        "manifest_deep": only('{"format_version":' + "[" * 4_000 + "]" * 4_000 + "}"),
        "manifest_key_twice": edited('"seed":', '"seed": 1, "seed":'),
        "manifest_nan": edited('"tol": 0.0001', '"tol": NaN'),
        "manifest_infinity": edited('"tol": 0.0001', '"tol": -Infinity'),
        "manifest_overflow": edited('"tol": 0.0001', '"tol": 1e999'),
        "manifest_huge_integer": edited('"tol": 0.0001', '"tol": ' + "9" * 4_400),
        "format_newer": changed("format_version", value=2),
        "format_much_newer": changed("format_version", value=10**4_000),
        "format_zero": changed("format_version", value=0),
        "format_true": changed("format_version", value=True),
        "format_text": changed("format_version", value="1"),
        # names of code
        "estimator_unknown": changed("estimator", value="RandomForestClassifier"),
        "estimator_dotted": changed("estimator", value="os.system"),
        "estimator_of_the_library": changed("estimator", value="skvae.estimators._base.Face"),
        "estimator_list": changed("estimator", value=["VAE"]),
        "estimator_missing": edited('"estimator"', '"class"'),
        "family_dotted": changed("model", "network", "family", value="os"),
        "family_list": changed("model", "network", "family", value=["network"]),
        "name_dotted": changed("model", "network", "name", value="os.system"),
        "name_unknown": changed("model", "network", "name", value="Evil" + ESCAPE),
        "name_list": changed("model", "network", "name", value=[]),
        "part_of_another_family": changed("model", "network", value=manifest["model"]["prior"]),
        "part_is_text": changed("model", "network", value="mlp"),
        "part_has_reduce": changed("model", "network", "__reduce__", value=["os.system", ["x"]]),
        "part_has_class": changed("model", "network", "__class__", value="os.system"),
        "model_is_a_part": changed("model", value=manifest["model"]["network"]),
        "model_is_text": changed("model", value="VAE"),
        "params_unknown": changed("params", "__reduce__", value=["os.system", ["touch executed"]]),
        "params_escape": changed("params", ESCAPE, value=1),
        "params_self": changed("params", "self", value=1),
        "params_spec_dotted": changed(
            "params", "network", value={"family": "os", "name": "system"}
        ),
        "params_null": changed("params", value=None),
        "params_deep": model(deep, tensors),
        # sizes
        "size_components": changed("model", "n_components", value=10**12),
        "size_components_negative": changed("model", "n_components", value=-1),
        "size_components_fraction": changed("model", "n_components", value=1.5),
        "size_components_float": changed("model", "n_components", value=1e300),
        "size_event": changed("model", "event_shape", value=[10**6, 10**6]),
        "size_event_negative": changed("model", "event_shape", value=[-2, -2]),
        "size_event_zero": changed("model", "event_shape", value=[0]),
        "size_event_text": changed("model", "event_shape", value="4"),
        "size_event_number": changed("model", "event_shape", value=4),
        "size_event_dimensions": changed("model", "event_shape", value=[1] * 900),
        "size_hidden": changed("model", "network", "hidden_layer_sizes", value=[10**9]),
        "size_hidden_negative": changed("model", "network", "hidden_layer_sizes", value=[-1]),
        "size_hidden_zero_in_flow": changed(
            "model",
            "prior",
            value={
                "family": "prior",
                "name": "flow",
                "kind": "maf",
                "n_transforms": 1,
                "hidden_layer_sizes": [0],
            },
        ),
        "size_of_another_model": changed("model", "n_components", value=2),
        **dict(bombs()),
        # weights
        "weight_float64": with_tensor(weight, "F64", shape, bytes(8 * n)),
        "weight_float16": with_tensor(weight, "F16", shape, bytes(2 * n)),
        "weight_float8_nan": with_tensor(weight, "F8_E4M3", shape, b"\x7f" * n),
        "weight_nan": with_tensor(weight, dtype, shape, struct.pack("<f", float("nan")) * n),
        "weight_infinite": with_tensor(weight, dtype, shape, struct.pack("<f", float("inf")) * n),
        "weight_flat": with_tensor(weight, dtype, [n], raw),
        "weight_missing": with_tensor(weight, None, None, None),
        "weight_unknown": with_tensor("module." + ESCAPE, dtype, shape, raw),
        "weight_traversal": with_tensor("module.../../executed", dtype, shape, raw),
        "scaling_negative": with_tensor(
            "transform.unit", "F64", [4], struct.pack("<4d", *[-1] * 4)
        ),
        "scaling_zero": with_tensor("transform.unit", "F64", [4], bytes(32)),
        "scaling_complex": with_tensor("transform.shift", "C64", [4], bytes(32)),
        "scaling_missing": with_tensor("transform.shift", None, None, None),
        "scaling_of_one": with_tensor("transform.shift", "F64", [1], bytes(8)),
        # the form of the data, and the rest
        "names_too_many": changed("feature_names", value=["a"] * 5),
        "names_text": changed("feature_names", value="abcd"),
        "names_numbers": changed("feature_names", value=[1, 2, 3, 4]),
        "names_number": changed("feature_names", value=7),
        "container_unknown": changed("container", value="pyspark"),
        "container_list": changed("container", value=["pandas"]),
        "dtype_object": changed("dtype", value="O"),
        "dtype_record": changed("dtype", value={"names": ["a"], "formats": ["(1000000000,)f8"]}),
        "flat_text": changed("flat", value="yes"),
        "history_text": changed("history", value=[{"epoch": SCRIPT}]),
        "history_number": changed("history", value=3),
        "binarize_list": changed("binarize", value=["threshold"]),
        "seed_negative": changed("seed", value=-1),
        "seed_fraction": changed("seed", value=0.5),
        "seed_text": changed("seed", value="0"),
        "checkpoint": model({**checkpoint, "state": {"rows": 0}}, {"now.x": (dtype, shape, raw)}),
    }


def harmless():
    """Return all files that look bad and must load all the same."""
    honest, tensors = take_apart(HONEST.read_bytes())
    hostile = copy.deepcopy(honest)
    hostile["feature_names"] = [SCRIPT, TRAVERSAL, ESCAPE, "{{ 7 * 7 }}"]
    hostile["params"]["likelihood"] = SCRIPT
    hostile["library_version"] = SCRIPT
    hostile["__reduce__"] = ["os.system", ["touch executed"]]
    return {
        "honest": HONEST.read_bytes(),
        "taken_apart": model(honest, tensors),
        "names": model(hostile, tensors),
        "checkpoint_elsewhere": changed("params", "checkpoint", value="/etc"),
    }


if __name__ == "__main__":
    for folder, files in (("refused", refused()), ("harmless", harmless())):
        (HERE / folder).mkdir(exist_ok=True)
        for name, content in files.items():
            assert len(content) < 10_000, (name, len(content))
            (HERE / folder / name).write_bytes(content)
