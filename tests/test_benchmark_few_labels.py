import json

import numpy as np
import pandas as pd
import pytest
from benchmarks.few_labels import __main__ as program
from benchmarks.few_labels import cells, data, recipes, report, rivals
from benchmarks.imputation.kept import Kept

LEVELS = pd.CategoricalDtype(["a", "b", "c"])


def people(n=300, seed=0):
    """A table whose class depends on a number and a category; no number occurs twice."""
    rng = np.random.default_rng(seed)
    words = rng.choice(["a", "b", "c"], n, p=[0.5, 0.4, 0.1])
    number = rng.normal(5.0, 3.0, n)
    paid = number + 2.0 * (words == "a") + rng.normal(0, 0.5, n) > 5.0
    columns = {"number": number, "word": pd.Series(words, dtype=LEVELS)}
    return pd.DataFrame(columns | {"paid": pd.Categorical(np.where(paid, "yes", "no"))})


@pytest.fixture
def on_digits(monkeypatch):
    """Digits in place of the images, and a table of this file in place of the tables."""
    plan = {"digits": {50: ("1nn", "rbf", "spreading")}, "people": {0.1: ("logistic",)}}
    monkeypatch.setattr(recipes, "PLAN", plan)
    monkeypatch.setattr(recipes, "DRAWS", {"digits": 2, "people": 2})
    monkeypatch.setattr(recipes, "TABLES", ("people",))
    monkeypatch.setattr(data, "TARGETS", {"people": "paid"})
    monkeypatch.setattr(data, "_whole", lambda name: people())


# -- data ------------------------------------------------------------------------------------


def test_draws_are_stratified_and_reproducible():
    y = np.repeat([0, 1, 2], [600, 300, 100])
    rows = data.Rows(np.zeros((1000, 1)), y, None, None)
    partial = rows.labels(50, 1)
    known = partial != data.UNKNOWN
    assert np.bincount(partial[known]).tolist() == [30, 15, 5]
    assert (partial[known] == y[known]).all()
    assert np.array_equal(partial, rows.labels(50, 1))
    assert not np.array_equal(partial, rows.labels(50, 2))


def test_tables_are_split_anew_and_encoded_by_the_rows_to_learn_from():
    frame = people()
    rows = data.encoded(frame, "paid", 0)
    assert rows.X.shape == (240, 4)
    assert rows.T.shape == (60, 4)
    assert not set(rows.X[:, 0]) & set(rows.T[:, 0])
    assert rows.X[:, 0].mean() == pytest.approx(0, abs=1e-9)
    assert rows.X[:, 0].std() == pytest.approx(1)
    assert abs(rows.T[:, 0].mean()) > 1e-3
    assert (rows.X[:, 1:].sum(1) == 1).all()
    assert rows.y.mean() == pytest.approx(rows.y_test.mean(), abs=0.01)
    shown = [part.columns.tolist() for part in rows.frames]
    assert shown == [[name for name in frame if name != "paid"]] * 2
    assert [len(part) for part in rows.frames] == [240, 60]
    assert np.array_equal(rows.X, data.encoded(frame, "paid", 0).X)
    assert not np.array_equal(rows.X, data.encoded(frame, "paid", 1).X)
    with pytest.raises(ValueError, match="'paid' has 1 class"):
        data.encoded(frame.assign(paid="yes"), "paid", 0)


def test_tuning_does_not_see_test_images(monkeypatch):
    class Numbered:
        max_value = 1
        X_train, X_test = np.arange(60_000)[:, None], np.full((5, 1), -7)
        y_train, y_test = np.zeros(60_000), np.zeros(5)

    monkeypatch.setattr(data.datasets, "load", lambda name: Numbered)
    rows = data.images("numbered", tune=True)
    assert len(rows.X) == 50_000
    assert rows.T.ravel().tolist() == list(range(50_000, 60_000))


# -- cells -----------------------------------------------------------------------------------


def test_every_planned_row_is_known_and_says_its_settings(tmp_path):
    for name, plan in recipes.PLAN.items():
        assert {row for rows in plan.values() for row in rows} <= set(program.known_rows(name))
        assert name in recipes.DRAWS
    for (name, labels), rows in recipes.PUBLISHED.items():
        assert labels in recipes.PLAN[name]
        assert set(rows) <= set(recipes.MODELS)
    images, table = cells.Images("digits", tmp_path), cells.Table("adult")
    for bench, name in ((images, "mnist"), (table, "adult")):
        texts = [bench.settings(row) for row in program.known_rows(name)]
        assert len(set(texts)) == len(texts)
        assert not any("random_state" in text.split(" on VAE")[0] for text in texts)


def test_the_vae_of_all_images_is_trained_once(monkeypatch, tmp_path):
    seen = []

    class Constant:
        def __init__(self, **settings):
            seen.append(settings)

        def fit(self, X, y):
            assert (y != data.UNKNOWN).sum() == 50
            return self

        def predict(self, X):
            return np.zeros(len(X), int)

    monkeypatch.setattr(cells, "VAEClassifier", Constant)
    bench = cells.Images("digits", tmp_path, quick=True)
    found = [bench.compute("m1", 50, draw) for draw in (0, 1)]
    assert seen[0]["base"] is seen[1]["base"]
    assert [s["random_state"] for s in seen] == [0, 1]
    assert found[0]["shared_core_seconds"] == found[1]["shared_core_seconds"] > 0
    monkeypatch.setattr(cells.VAE, "fit", None)  # a second run does not train it again
    again = cells.Images("digits", tmp_path, quick=True).compute("m1", 50, 2)
    assert again["shared_core_seconds"] == found[0]["shared_core_seconds"]
    rows = bench.rows.X[:5]
    np.testing.assert_array_equal(seen[2]["base"].transform(rows), seen[0]["base"].transform(rows))


def test_labels_have_to_be_balanced(tmp_path):
    with pytest.raises(ValueError, match="101 labels cannot be balanced over 10"):
        cells.Images("digits", tmp_path).compute("1nn", 101, 0)


def test_probabilities_where_no_label_comes():
    class Spread:
        def predict_proba(self, T):
            return np.array([[0.2, 0.6], [np.nan, np.nan], [0.0, 0.0]], np.float32)

    found = rivals.probabilities(Spread(), np.zeros((3, 1)), np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.75, 0.25], [0.75, 0.25]], rtol=1e-6)


def test_all_peers_learn_a_table(on_digits):
    bench = cells.Table("people")
    assert bench.count(0.1) == 24
    for row in recipes.PEERS:
        found = bench.compute(row, 24, 0)
        assert found["accuracy"] > found["most_frequent"] + 0.1
        assert found["balanced_accuracy"] > 0.6
        assert (
            row != "logistic" or found["log_loss"] < 0.5
        )  # the others are too sure of themselves
        assert (found["n_train"], found["n_test"]) == (240, 60)


def test_ours_take_the_frame(on_digits, monkeypatch):
    seen = []
    monkeypatch.setattr(cells, "fitted", lambda model, rows, *_: seen.append(rows) or 1 / 0)
    for row in ("m1", "logistic"):
        with pytest.raises(ZeroDivisionError):
            cells.Table("people").compute(row, 24, 0)
    assert isinstance(seen[0].X, pd.DataFrame)
    assert isinstance(seen[0].T, pd.DataFrame)
    assert isinstance(seen[1].X, np.ndarray)


# -- the program -----------------------------------------------------------------------------


def run(path, *more):
    return program.main(["--out", str(path), *more])


def test_finished_cells_are_not_computed_again(on_digits, tmp_path, monkeypatch, capsys):
    path = tmp_path / "few.jsonl"
    compute, done = cells.Images.compute, []

    def stopped_at_fourth(self, row, n_labels, draw):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append((row, n_labels, draw))
        return compute(self, row, n_labels, draw)

    monkeypatch.setattr(cells.Images, "compute", stopped_at_fourth)
    assert run(path, "--data", "digits") == 1
    assert "the finished cells are kept" in capsys.readouterr().err
    assert done == [("1nn", 50, 0), ("rbf", 50, 0), ("spreading", 50, 0)]
    first = path.read_text()
    done[:] = [None] * 4
    assert run(path) == 0  # all that is planned, the table too
    assert done[4:] == [("1nn", 50, 1), ("rbf", 50, 1), ("spreading", 50, 1)]
    assert path.read_text().startswith(first)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 8
    assert set(cells.KEYS) < set(records[0])
    assert min(r["accuracy"] for r in records) > 0.7
    written = path.read_text()
    out = capsys.readouterr().out
    monkeypatch.setattr(cells.Images, "compute", None)
    monkeypatch.setattr(cells.Table, "compute", None)
    assert run(path) == 0
    assert run(path, "--report") == 0
    assert path.read_text() == written
    assert capsys.readouterr().out == 2 * out
    assert "### digits, 50 labels in 1,437 rows" in out
    assert "### people, 24 labels in 240 rows; most frequent class" in out


class Bench:
    name = "digits"

    def __init__(self, settings="a"):
        self.own, self.done = settings, []

    def count(self, labels):
        return labels

    def settings(self, row):
        return self.own

    def compute(self, row, n_labels, draw):
        self.done.append(row)
        if row == "bad":
            raise ValueError("no")
        return {"accuracy": 0.5, "seconds": 1.0}


def test_failures_are_not_kept_and_stop_nothing(capsys):
    kept = Kept(None, cells.KEYS)
    assert program.compare(kept, Bench(), [(50, "bad"), (50, "good")], [0]) == 1
    assert [r["row"] for r in kept.records] == ["good"]
    assert "digits, bad, 50 labels, draw 0: failed" in capsys.readouterr().err


def test_other_settings_are_other_cells():
    kept = Kept(None, cells.KEYS)
    program.compare(kept, Bench("a"), [(50, "x")], [0, 1])
    again = Bench("b")
    program.compare(kept, again, [(50, "x")], [0])
    assert again.done == ["x"]
    assert [r["settings"] for r in report.newest(kept.records)] == ["b"]


def test_what_is_asked_for_is_what_is_run():
    assert program.planned("mnist", None, [1000]) == [
        (1000, row) for row in recipes.PLAN["mnist"][1000]
    ]
    assert program.planned("mnist", ["m1+m2", "m2"], None) == [
        (100, "m2"),
        (100, "m1+m2"),
        (1000, "m1+m2"),
    ]
    assert program.planned("mnist", ["m2"], [1000, 30]) == [(1000, "m2"), (30, "m2")]
    options = program.arguments(["--data", "tables", "--labels", "1%,200", "--rows", "peers,m2"])
    assert options.data == [*recipes.TABLES]
    assert options.labels == [0.01, 200]
    assert options.rows == [*recipes.PEERS, "m2"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "cifar"], "unknown data ['cifar']"),
        (["--data", "mnist", "--rows", "logistic"], "unknown rows ['logistic']"),
        (["--labels", "few"], "not 'few'"),
        (["--tune"], "--tune is for images"),
    ],
)
def test_what_makes_no_sense_is_named(words, message, capsys):
    with pytest.raises(SystemExit):
        program.arguments(words)
    assert message in capsys.readouterr().err


# -- report ----------------------------------------------------------------------------------


def record(row, accuracy, draw=0, name="mnist", labels=100, **more):
    own = {"data": name, "row": row, "labels": labels, "n_labels": 100, "draw": draw}
    own |= {"settings": row, "accuracy": accuracy, "n_train": 60_000, "core_seconds": 2.0}
    return own | {"date": "2026-01-01", "versions": "v"} | more


def test_tables_show_means_published_figures_and_what_is_not_run():
    records = [record("m2", 0.9), record("m2", 0.94, 1), record("1nn", 0.7)]
    text = report.report(records)
    lines = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines()}
    assert lines["m2"].startswith("| m2 | 0.920 ± 0.028 | 0.880 ± 0.017 (Kingma et al., 2014")
    assert lines["m2"].endswith("| – | 2.0 | – | 2 |")
    assert lines["1nn"] == "| 1nn | 0.700 | – | – | 2.0 | – | 1 |"
    assert lines["m1"].startswith("| m1 | not run | 0.882")
    assert lines["rbf"].startswith("| rbf | not run |")
    assert "TSVM 0.832" in text
    assert "- m2 (mnist): `m2`" in text


def test_every_table_has_as_many_cells_in_each_line():
    scores = {"balanced_accuracy": 0.5, "log_loss": 0.5, "most_frequent": 0.7}
    records = [record("m2", 0.9), record("m2", 0.9, name="adult", labels=0.01, **scores)]
    for part in report.report(records).split("\n\n"):
        if part.startswith("|"):
            assert len({line.count("|") for line in part.splitlines()}) == 1


def test_wins_and_losses_are_of_the_same_draws():
    def cell(row, draw, accuracy, loss):
        own = {"name": "adult", "labels": 0.01, "balanced_accuracy": 0.5, "log_loss": loss}
        return record(row, accuracy, draw, **own)

    records = [
        *(cell("m2", draw, *pair) for draw, pair in enumerate([(0.8, 0.4), (0.7, 0.5), (0.9, 1)])),
        *(cell("logistic", draw, *pair) for draw, pair in enumerate([(0.7, 0.5), (0.7, 0.6)])),
        cell("boosting", 2, 0.95, 2.0),
    ]
    text = report.duels(records)
    assert "| m2, logistic | 1 : 0 | 0 : 0 | 2 : 0 | 2 |" in text
    assert "| m2, boosting | 0 : 1 | 0 : 0 | 1 : 0 | 1 |" in text
