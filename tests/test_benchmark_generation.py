"""The program that compares samples: its rows, its table, and a small run."""

import json

import pytest
from benchmarks import generation as program


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    return program.Bench("digits", tmp_path_factory.mktemp("work"), quick=True)


def test_rows_say_what_they_are(bench):
    texts = [bench.settings(row) for row in program.ROWS]
    assert len(set(texts)) == len(texts)
    assert "GaussianMixture(n_components=10, covariance='full')" in bench.settings("gmm")


@pytest.mark.parametrize("row", ["train", "vae", "gmm", "two_stage"])
def test_a_row_is_measured(bench, row):
    found = bench.compute(row)
    assert set(program.MEASURES) <= set(found)
    assert found["coverage"] > (0.7 if row == "train" else -1)
    assert found["frechet_distance"] > 0


def test_training_images_are_nearer_than_those_of_a_model_of_two_epochs(bench):
    near, far = (bench.compute(row)["frechet_distance"] for row in ("train", "vae"))
    assert near < 0.5 * far


def test_a_model_is_trained_once(bench, monkeypatch):
    bench.fitted(program.LIKE)
    monkeypatch.setattr(program.VAE, "fit", None)
    _, seconds = program.Bench("digits", bench.work, quick=True).fitted(program.LIKE)
    assert seconds > 0


def test_finished_rows_are_kept_and_printed(tmp_path, capsys, monkeypatch):
    out = tmp_path / "r.jsonl"
    monkeypatch.setattr(
        program.Bench,
        "compute",
        lambda self, row: dict.fromkeys([*program.MEASURES, "features_accuracy"], 0.5),
    )
    words = ["--data", "digits", "--rows", "train,vae", "--out", str(out)]
    assert program.main(words) == 0
    text = capsys.readouterr().out
    assert "| train | 0.5 | 0.500 |" in text
    assert "the classifier is right on 50.0%" in text
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == ["train", "vae"]
    monkeypatch.setattr(program.Bench, "compute", None)
    assert program.main(words) == 0
    assert program.main([*words, "--report"]) == 0
    with pytest.raises(SystemExit):
        program.main(["--rows", "gan"])
