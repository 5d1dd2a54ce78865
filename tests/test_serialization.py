"""Model files: exact, atomic, and safe whatever is in them."""

import hashlib
import json
import os
import pickle
import struct

import numpy as np
import pytest
import safetensors.torch
import torch

from skvae import VAE, likelihoods, load, networks, serialization
from skvae.exceptions import ModelFileError
from skvae.serialization import FORMAT_VERSION


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "model.safetensors"
    fitted.save(path)
    return path


def test_round_trip(fitted, saved, digits):
    X = digits[0][:20]
    again = load(saved)
    assert type(again) is VAE
    assert again.get_params() == fitted.get_params()
    assert np.array_equal(again.transform(X), fitted.transform(X))
    assert np.array_equal(again.score_samples(X), fitted.score_samples(X))
    assert np.array_equal(again.sample(3, random_state=1), fitted.sample(3, random_state=1))
    assert again.history_.rows == fitted.history_.rows
    assert again.n_features_in_ == 64
    assert again.likelihood_ == fitted.likelihood_


@pytest.mark.parametrize("scale", ["unit", "global", "per_feature", "per_cell"])
def test_round_trip_of_every_likelihood_and_frames(scale, tmp_path):
    import pandas as pd

    g = np.random.default_rng(0)
    df = pd.DataFrame(g.normal(size=(40, 3)) * [1, 100, 1e-3], columns=["a", "b", "c"])
    vae = VAE(
        n_components=1,
        likelihood=likelihoods.Gaussian(scale=scale),
        network=networks.MLP((4,), activation="tanh"),
        max_epochs=2,
        random_state=np.random.default_rng(0),
    ).fit(df)
    with pytest.warns(UserWarning, match="random_state=.* is not saved"):
        vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    pd.testing.assert_frame_equal(again.sample(2, random_state=0), vae.sample(2, random_state=0))
    assert again.network == vae.network
    assert again.likelihood == vae.likelihood
    assert np.array_equal(again.score_samples(df), vae.score_samples(df))
    assert list(again.feature_names_in_) == ["a", "b", "c"]


def test_a_loaded_model_can_go_on_training(saved, digits):
    again = load(saved).set_params(warm_start=True)
    before = again.score(digits[0][:200])
    assert again.fit(digits[0]).score(digits[0][:200]) > before
    assert again.n_iter_ == 40
    assert again.history_["epoch"].tolist() == list(range(1, 41))


def test_equal_fits_give_equal_files(digits, tmp_path):
    digests = []
    for name in ("a", "b"):
        vae = VAE(n_components=2, max_epochs=2, random_state=0).fit(digits[0])
        for row in vae.history_.rows:
            row.pop("seconds")  # the only thing that a clock decides
        vae.save(tmp_path / name)
        digests.append(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
    assert digests[0] == digests[1]


# -- writing --------------------------------------------------------------------------------------


def test_an_existing_file_is_not_replaced_unless_asked(fitted, saved):
    before = saved.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        fitted.save(saved)
    assert saved.read_bytes() == before
    fitted.save(saved, overwrite=True)
    assert saved.read_bytes() == before


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failing_disk_loses_nothing(fitted, saved, monkeypatch, function):
    before = saved.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, full)
    with pytest.raises(OSError, match="No space left"):
        fitted.save(saved, overwrite=True)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]  # noqa: PTH208


def test_missing_directory(fitted, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist\. Create it"):
        fitted.save(tmp_path / "no" / "m")


# -- reading --------------------------------------------------------------------------------------


def test_missing_file_and_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no model file"):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match="is a directory"):
        load(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A file of a few kilobytes."""
    path = tmp_path_factory.mktemp("small") / "m"
    VAE(n_components=1, hidden_layer_sizes=(), max_epochs=1, random_state=0).fit(np.eye(3)).save(
        path
    )
    return path.read_bytes()


def refuse(tmp_path, content):
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"bad cannot be loaded: "):
        load(path)


def test_foreign_content_is_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.system, ("touch /tmp/skvae-was-here",)

    for content in (
        b"",
        b"hello",
        pickle.dumps(Bomb()),
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        safetensors.torch.save({"a": torch.zeros(1)}),
        safetensors.torch.save({"a": torch.zeros(1)}, {"skvae": "0" * 64 + "{}"}),
    ):
        refuse(tmp_path, content)


def rewrite(content, change):
    """A file whose digests are right but whose manifest or tensors were changed on purpose."""
    tensors = safetensors.torch.load(content)
    length = int.from_bytes(content[:8], "little")
    manifest = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["skvae"][64:])
    change(manifest, tensors)
    manifest["tensors"] = {k: serialization._describe(v) for k, v in tensors.items()}
    text = json.dumps(manifest)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return safetensors.torch.save(tensors, {"skvae": digest + text})


def tensor(name, value):
    return lambda m, t: t.__setitem__(name, value)


def nested(*path, value):
    def change(manifest, tensors):
        for key in path[:-1]:
            manifest = manifest[key]
        manifest[path[-1]] = value

    return change


HEAD = "module.posterior.head.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (nested("format_version", value=FORMAT_VERSION + 1), "Upgrade with"),
        (nested("format_version", value="1"), "format '1'"),
        (nested("estimator", value="os.system"), "estimator 'os.system' is not known"),
        (nested("estimator", value=["VAE"]), "is not known"),
        (nested("model", value={"family": "os", "name": "system"}), "'os' 'system' is not known"),
        (nested("model", "name", value="evil"), "cannot name code"),
        (nested("model", "n_components", value=10**12), "the model needs|does not fit|damaged"),
        (nested("model", "event_shape", value=[10**6, 10**6]), "the model needs|does not fit"),
        (nested("model", "likelihood", "name", value="nonsense"), "is not known"),
        (nested("model", "extra", value=1), "unknown fields"),
        (nested("params", "n_components", value=-1), "n_components"),
        (nested("params", "evil", value=1), "evil"),
        (nested("params", value=None), "does not fit"),
        (nested("binarize", value="rm"), "binarize='rm'"),
        (tensor(HEAD, torch.zeros(1, 1)), "the model needs"),
        (tensor(HEAD, torch.zeros(2, 3, dtype=torch.float64)), "the model needs"),
        (tensor(HEAD, torch.full((2, 3), float("nan"))), "not finite"),
        (tensor("module.extra", torch.zeros(1)), r"missing or unknown: \['extra'\]"),
        (lambda m, t: t.pop(HEAD), r"missing or unknown: \['posterior.head.weight'\]"),
        (tensor("transform.unit", torch.zeros(3, dtype=torch.float64)), "scaling"),
        (tensor("transform.shift", torch.zeros(9, dtype=torch.float64)), "scaling"),
    ],
)
def test_lies_with_correct_digests_are_refused(small, tmp_path, change, message):
    path = tmp_path / "bad"
    path.write_bytes(rewrite(small, change))
    with pytest.raises(ModelFileError, match=message):
        load(path)


def test_rewriting_nothing_still_loads(small, tmp_path):
    path = tmp_path / "good"
    path.write_bytes(rewrite(small, lambda m, t: None))
    assert load(path).n_features_in_ == 3
