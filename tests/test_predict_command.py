"""The commands of models that learn classes, run as a user runs them."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from skvae import VAE, VAEClassifier, VAERegressor, datasets, load
from skvae.few_labels import draw_labels
from test_cli import skvae

SMALL = ("--hidden-layer-sizes", 16, "--n-components", 3, "--random-state", 0)
FAST = ("--max-epochs", 2, *SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("classes")
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 200)
    x = rng.normal(size=(200, 3)) + 4 * kind[:, None]
    known = np.arange(200) < 40
    lines = ["a,kind,b,c"]
    for (a, b, c), k, seen in zip(x.tolist(), kind + 7, known, strict=True):
        lines.append(f"{a},{k if seen else ''},{b},{c}")
    (path / "table.csv").write_text("\n".join(lines) + "\n")
    np.save(path / "rows.npy", x)
    rows = ["a,b,c", *(",".join(map(str, row)) for row in x.tolist())]
    (path / "rows.csv").write_text("\n".join(rows) + "\n")
    np.save(path / "kind.npy", kind)
    VAE(2, max_epochs=1).fit(x).save(path / "vae.safetensors")
    VAERegressor(2, max_epochs=1).fit(x, x[:, 0]).save(path / "real.safetensors")
    words = np.array(["low", "high"])[kind]
    VAEClassifier(2, model="m1", max_epochs=1).fit(x, words).save(path / "words.safetensors")
    return path


def test_a_column_of_a_table_is_learned_and_predicted(folder):
    fit = ("fit", "table.csv", "-o", "m.safetensors", "--target", "kind", *SMALL, "--alpha", 1)
    done = skvae(*fit, "--max-epochs", 20, "--pseudo-labels", 0.5, "--model", "m2", cwd=folder)
    assert "skvae predict m.safetensors table.csv" in done.stderr
    model = load(folder / "m.safetensors")
    assert isinstance(model, VAEClassifier)
    assert (model.alpha, model.pseudo_labels, model.model) == (1, 0.5, "m2")
    assert model.classes_.tolist() == [7, 8]
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    said = skvae("predict", "m.safetensors", "rows.csv", cwd=folder).stdout.split()
    assert said[0] == "class"
    kind = np.load(folder / "kind.npy")
    assert np.mean(np.array(said[1:], float) == kind + 7) > 0.9
    shown = skvae("predict", "m.safetensors", "rows.csv", "--probabilities", cwd=folder).stdout
    rows = list(csv.reader(io.StringIO(shown)))
    p = np.array(rows[1:], float)
    np.testing.assert_allclose(p, model.predict_proba(pd.read_csv(folder / "rows.csv")), rtol=1e-4)
    drawn = skvae("sample", "m.safetensors", "-n", 50, "--of-class", 8, cwd=folder).stdout
    assert np.array(list(csv.reader(io.StringIO(drawn)))[1:], float).mean() > 2


def test_labels_of_a_named_set_are_drawn_by_the_seed(folder):
    skvae("fit", "digits", "--labels", 50, "-o", "d.safetensors", *FAST, cwd=folder)
    model = load(folder / "d.safetensors")
    data = datasets.load_digits()
    y = draw_labels(data.y_train, 5, 0)
    X = (data.X_train / np.float32(data.max_value)).reshape(-1, 1, 8, 8)
    again = VAEClassifier(3, hidden_layer_sizes=(16,), max_epochs=2, random_state=0).fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), again.predict_proba(X))


def test_what_is_predicted_may_be_words_or_numbers(folder):
    said = skvae("predict", "words.safetensors", "rows.npy", cwd=folder).stdout.split()
    assert set(said) == {"low", "high"}
    assert len(said) == 200
    found = skvae("predict", "real.safetensors", "rows.npy", "--json", cwd=folder).stdout
    assert json.loads(found)["columns"] == ["y0"]
    expected = load(folder / "real.safetensors").predict(np.load(folder / "rows.npy"))
    np.testing.assert_allclose(np.array(json.loads(found)["values"])[:, 0], expected)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("predict", "vae.safetensors", "rows.npy"), 2, "is a VAE, which predicts nothing"),
        (("predict", "real.safetensors", "rows.npy", "--probabilities"), 2, "for classes"),
        (("fit", "table.csv", "-o", "n", "--target", "sort"), 2, "are a, kind, b, c"),
        (("fit", "rows.npy", "-o", "n", "--target", "kind"), 2, "no columns with names"),
        (("fit", "rows.npy", "-o", "n", "--labels", 10), 2, "is for named data sets"),
        (("fit", "digits", "-o", "n", "--labels", 15), 3, "multiple of 10"),
        (("fit", "digits", "-o", "n", "--labels", 10, "--target", "a"), 2, "not both"),
        (("fit", "digits", "-o", "n", "--alpha", 1), 2, "for models that learn classes"),
        (("sample", "vae.safetensors", "--of-class", "1"), 2, "knows no classes"),
        (("sample", "words.safetensors", "--of-class", "mid"), 2, "are high, low"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, arguments, code, message):
    done = skvae(*arguments, cwd=folder, code=code)
    assert message in done.stderr
    assert not (folder / "n").exists()
