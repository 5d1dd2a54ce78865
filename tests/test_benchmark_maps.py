import json

import numpy as np
import pytest
from benchmarks import maps as bench
from benchmarks.imputation.kept import Kept

FIGURES = dict.fromkeys(bench.MEASURES, 0.5)


def record(row, **other):
    cell = {"data": "wine", "row": row, "seed": 0, "settings": "s", "status": "done"}
    return cell | FIGURES | {"n_train": 142, "n_test": 36} | other


def test_tables_are_standardised_and_tuning_never_sees_test_rows():
    X, T, y, y_test = bench.rows_of("wine")
    assert (X.shape, T.shape) == ((142, 13), (36, 13))
    np.testing.assert_allclose(X.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(X.std(0), 1, atol=1e-5)
    assert set(y) == set(y_test) == {0, 1, 2}
    X, T, y, y_test = bench.rows_of("digits", tune=True)
    whole, test, _, _ = bench.rows_of("digits")
    np.testing.assert_array_equal(np.concatenate([X, T]), whole)
    assert not {row.tobytes() for row in T} & {row.tobytes() for row in test}


def test_a_map_that_is_the_classes_is_perfect_and_noise_is_not():
    y = np.arange(90) % 3
    X = np.eye(3)[y] + 1e-3 * np.random.default_rng(0).normal(size=(90, 3))
    good = bench.judged(X[:60, :2], X[60:, :2], X[:60], y[:60], y[60:])
    assert good["5-NN"] == 1
    assert good["NMI"] == pytest.approx(1)
    assert good["silhouette"] > 0.99
    noise = np.random.default_rng(1).normal(size=(90, 2))
    bad = bench.judged(noise[:60], noise[60:], X[:60], y[:60], y[60:])
    assert all(bad[m] < 0.7 for m in ("5-NN", "silhouette", "NMI", "trust"))


def test_finished_cells_are_kept_and_changed_settings_are_computed_anew(tmp_path, monkeypatch):
    path = tmp_path / "maps.jsonl"
    first = bench.compare(Kept(path, bench.KEYS), ["wine"], ["pca", "umap"], [0])
    (done,) = [r for r in first if r["row"] == "pca"]
    assert done["status"] == "done"
    assert done["5-NN"] > 0.9
    assert "-ELBO" not in done
    monkeypatch.setattr(bench, "compute", None)  # nothing is left to compute
    bench.compare(Kept(path, bench.KEYS), ["wine"], ["pca"], [0])
    assert json.loads(path.read_text().splitlines()[0])["settings"] == "PCA(n_components=2)"
    monkeypatch.setattr(bench, "model_of", lambda *_: bench.PCA(2, whiten=True))
    with pytest.raises(TypeError):
        bench.compare(Kept(path, bench.KEYS), ["wine"], ["pca"], [0])


def test_one_failure_is_a_line_of_its_own():
    cell = {"data": "wine", "row": "pca", "seed": 0, "settings": ""}
    found = bench.compute(cell, bench.rows_of("wine"), bench.PCA(99))
    assert found["status"] == "error"
    assert "n_components=99" in found["reason"]
    made = {"date": "2026-01-01", "versions": "none"}
    records = [found, record("vae", **{"5-NN": 0.25}), record("vae", seed=1)]
    said = bench.report([r | made for r in records])
    assert "| vae | 0.375 | 0.500 |" in said
    assert "| pca | not run |" in said
    assert "n_components=99" in said


def test_each_row_can_be_made_with_a_seed():
    for row in bench.ROWS:
        model = bench.model_of("wine", row)
        if model is not None:
            seeded = bench.seeded(model, 7).get_params()
            seeds = [v for k, v in seeded.items() if k.endswith("random_state")]
            assert seeds
            assert set(seeds) == {7}
