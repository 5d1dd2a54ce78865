"""A saved model as a function of one batch."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from skvae import VAE, inference
from skvae.exceptions import DataError, ParameterError
from skvae.inference import Predictor

NAMES = ["a", "b", "c"]
X = np.random.default_rng(0).normal(size=(60, 3))
FRAME = pd.DataFrame(X, columns=NAMES, index=np.arange(60) + 7)


@pytest.fixture(scope="module")
def vae():
    return VAE(2, hidden_layer_sizes=(8,), max_epochs=2, random_state=0).fit(FRAME)


@pytest.fixture(scope="module")
def path(vae, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    vae.save(path)
    return path


def test_arrays_give_arrays(path, vae):
    Z = vae.transform(FRAME)
    assert np.array_equal(Predictor(path)(X), Z)
    parts = [Predictor(path)(X[:7]), Predictor(path)(X[7:])]
    assert np.allclose(np.concatenate(parts), Z, rtol=1e-12)
    score = Predictor(path, "score_samples", n_samples=5)
    assert np.array_equal(score(X), vae.score_samples(FRAME, n_samples=5))
    assert np.array_equal(
        Predictor(path, "inverse_transform")(Z), vae.inverse_transform(Z).to_numpy()
    )
    holes = X.copy()
    holes[2, 1] = np.nan
    filled = Predictor(path, "impute", n_samples=4)(holes)
    expected = vae.impute(pd.DataFrame(holes, columns=NAMES), n_samples=4).to_numpy()
    assert np.array_equal(filled, expected)


def test_frames_give_frames_with_their_index_and_kept_columns(path, vae):
    frame = FRAME[["c", "a", "b"]].assign(key=[f"k{i}" for i in range(60)], other=1.0)
    frame["key"] = frame["key"].astype("category")
    out = Predictor(path, keep=["key"])(frame)
    assert list(out.columns) == ["key", "vae0", "vae1"]
    assert out.index.equals(FRAME.index)
    assert out["key"].equals(frame["key"])
    assert np.array_equal(out[["vae0", "vae1"]].to_numpy(), vae.transform(FRAME))
    scores = Predictor(path, "score_samples", n_samples=3)(frame)
    assert list(scores.columns) == ["log_likelihood"]
    assert np.array_equal(scores["log_likelihood"], vae.score_samples(FRAME, n_samples=3))
    back = Predictor(path, "inverse_transform")(out.drop(columns="key"))
    assert list(back.columns) == NAMES
    assert np.array_equal(back.to_numpy(), vae.inverse_transform(vae.transform(FRAME)).to_numpy())


def test_tables_give_tables(path, vae):
    table = pa.table({"key": pa.array(range(60)), "b": X[:, 1], "c": X[:, 2], "a": X[:, 0]})
    chunked = pa.concat_tables([table[:10], table[10:]])
    out = Predictor(path, keep=["key"])(chunked)
    assert isinstance(out, pa.Table)
    assert out.column_names == ["key", "vae0", "vae1"]
    assert out["key"].to_pylist() == list(range(60))
    Z = np.stack([out["vae0"].to_numpy(), out["vae1"].to_numpy()], 1)
    assert np.array_equal(Z, vae.transform(FRAME))
    tensor = pa.table({"data": pa.FixedShapeTensorArray.from_numpy_ndarray(X)})
    lists = pa.table({"data": pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 3)})
    for batch in (tensor, lists):
        rows = Predictor(path)(batch)["transform"].combine_chunks().to_numpy_ndarray()
        assert np.array_equal(rows, vae.transform(FRAME))


def test_dicts_give_dicts(path, vae):
    Z = vae.transform(FRAME)
    out = Predictor(path)({"b": X[:, 1], "c": X[:, 2], "a": X[:, 0], "d": X[:, 0]})
    assert list(out) == ["vae0", "vae1"]
    assert np.array_equal(np.stack([out["vae0"], out["vae1"]], 1), Z)
    whole = Predictor(path, keep=["key"])({"key": np.arange(60), "rows": X})
    assert whole["key"].tolist() == list(range(60))
    assert np.array_equal(whole["transform"], Z)


def test_models_without_names_take_columns_as_they_come(tmp_path):
    vae = VAE(2, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X.reshape(60, 3, 1))
    vae.save(tmp_path / "m.safetensors")
    out = Predictor(tmp_path / "m.safetensors", keep=("k",))(
        {"k": np.zeros(60), "u": X[:, 0], "v": X[:, 1], "w": X[:, 2]}
    )
    assert np.array_equal(np.stack([out["vae0"], out["vae1"]], 1), vae.transform(X))
    back = Predictor(tmp_path / "m.safetensors", "inverse_transform")
    assert back.columns == ["x0", "x1", "x2"]
    assert back(vae.transform(X)).shape == (60, 3, 1)


def test_an_empty_batch_shows_what_comes_out(path):
    assert Predictor(path)(X[:0]).shape == (0, 2)
    assert Predictor(path, "score_samples")(X[:0]).shape == (0,)
    out = Predictor(path, "impute")(FRAME[:0])
    assert out.shape == (0, 3)
    assert list(out.columns) == NAMES
    assert (out.dtypes == np.float64).all()


def test_it_is_small_to_send_and_reads_the_model_once_per_process(path, monkeypatch, tmp_path):
    predictor = Predictor(path, "score_samples", n_samples=3)
    predictor(X)
    assert len(pickle.dumps(predictor)) < 1000
    again = pickle.loads(pickle.dumps(predictor))
    code = """
import pickle, sys
predictor = pickle.load(sys.stdin.buffer)
assert "torch" not in sys.modules
import numpy as np
print(predictor(np.ones((2, 3))).tolist())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(predictor),
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.stdout.decode().strip() == repr(predictor(np.ones((2, 3))).tolist()), done.stderr
    monkeypatch.setattr("skvae.estimators.load", None)  # a second reading would fail
    assert np.array_equal(again(X), predictor(X))
    assert repr(again) == f"Predictor({str(path)!r}, 'score_samples', n_samples=3)"


def test_a_replaced_file_is_read_again(tmp_path):
    path = tmp_path / "m.safetensors"
    VAE(2, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X).save(path)
    predictor = Predictor(path)
    assert predictor(X).shape == (60, 2)
    VAE(1, hidden_layer_sizes=(8,), max_epochs=1, random_state=0).fit(X).save(path, overwrite=True)
    assert predictor(X).shape == (60, 1)


def test_errors_name_what_is_wrong(path, vae):
    with pytest.raises(ParameterError, match=r"method must be one of.*'fit'"):
        Predictor(path, "fit")
    with pytest.raises(ParameterError, match="n_draws"):
        Predictor(path, "impute", n_draws=2)
    with pytest.raises(DataError, match=r"no column 'b'; it has 'a', 'c'"):
        Predictor(path)(FRAME[["a", "c"]])
    with pytest.raises(DataError, match="no column 'key'"):
        Predictor(path, keep=["key"])(FRAME)
    with pytest.raises(DataError, match="received list"):
        Predictor(path)([1.0])
    with pytest.raises(FileNotFoundError):
        Predictor("nowhere.safetensors")(X)
    assert vae.feature_names_in_.tolist() == NAMES
    assert Predictor(path).model.feature_names_in_.tolist() == NAMES  # left as it was
    assert inference.METHODS[0] == "transform"
