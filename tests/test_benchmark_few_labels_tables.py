import json
import math

import numpy as np
import pandas as pd
import pytest
from benchmarks import few_labels_tables as bench
from benchmarks.imputation.kept import Kept

FEW = {name: bench.QUICK_METHODS[name] for name in ("logistic", "label_spreading", "m1")}


def mixed(n=300):
    rng = np.random.default_rng(0)
    word = pd.Series(rng.choice(["a", "b", "c"], n), dtype=pd.CategoricalDtype(["a", "b", "c"]))
    size = 50.0 + 7.0 * rng.normal(size=n)
    good = size + 10.0 * (word == "a").to_numpy() > 55.0
    target = pd.Series(np.where(good, "yes", "no"), dtype=pd.CategoricalDtype(["no", "yes"]))
    return pd.DataFrame({"size": size, "word": word, "paid": target})


@pytest.fixture(scope="module")
def data():
    return bench.encoded(mixed(), "paid")


def record(method, seed, share=0.01, table="adult", **scores):
    cell = {"table": table, "share": share, "method": method, "seed": seed, "status": "done"}
    sizes = {"n_labelled": 4, "n_train": 240, "n_test": 60, "most_frequent": 0.6, "seconds": 1.0}
    return cell | sizes | {"accuracy": 0.5, "balanced_accuracy": 0.5, "log_loss": 0.7} | scores


# -- rows ------------------------------------------------------------------------------------


def test_numbers_are_standardised_by_training_rows_and_categories_one_hot(data):
    X, X_test, y, y_test = data
    assert (X.shape, X_test.shape) == ((240, 4), (60, 4))
    np.testing.assert_allclose([X[:, 0].mean(), X[:, 0].std()], [0, 1], atol=1e-12)
    assert abs(X_test[:, 0].mean()) > 1e-6
    for rows in (X[:, 1:], X_test[:, 1:]):
        assert set(np.unique(rows)) == {0.0, 1.0}
        assert (rows.sum(1) == 1).all()
    # The class is in none of the columns, and as frequent in both parts.
    assert np.abs(y.mean() - y_test.mean()) < 0.02
    assert set(y) == {0, 1}


def test_the_same_rows_are_the_test_each_time_and_large_tables_are_cut(data):
    for one, other in zip(data, bench.encoded(mixed(), "paid"), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(part) for part in bench.encoded(mixed(), "paid", 100)] == [80, 20, 80, 20]


def test_a_target_of_one_class_is_refused():
    with pytest.raises(ValueError, match="'paid' has 1 class"):
        bench.encoded(mixed().assign(paid="yes"), "paid")


def test_draws_have_the_shares_of_the_classes_and_at_least_two_of_each():
    y = np.repeat([0, 1, 2], [4000, 1000, 30])
    rows = bench.drawn(y, 0.05, 0)
    assert np.bincount(y[rows]).tolist() == [200, 50, 2]
    assert len(np.unique(rows)) == len(rows)
    assert np.bincount(y[bench.drawn(y, 0.01, 0)]).tolist() == [40, 10, 2]
    np.testing.assert_array_equal(rows, bench.drawn(y, 0.05, 0))
    assert set(rows) != set(bench.drawn(y, 0.05, 1))


def test_log_loss_is_in_nats_and_left_out_where_it_is_infinite_or_not_a_number():
    p = np.array([[0.5, 0.5], [0.75, 0.25]])
    expected = (math.log(2) + math.log(4)) / 2
    assert bench.log_loss(p, np.array([0, 1])) == pytest.approx(expected)
    assert bench.log_loss(np.eye(2), np.array([0, 0])) is None
    assert bench.log_loss(np.full((2, 2), np.nan), np.array([0, 0])) is None


# -- cells -----------------------------------------------------------------------------------


class Spy:
    def __init__(self):
        self.seen = []

    def __call__(self, seed):
        return self

    def fit(self, X, y):
        self.seen.append((X, y))
        return self

    def predict_proba(self, X):
        return np.tile([0.25, 0.75], (len(X), 1))

    def predict(self, X):
        return np.ones(len(X), int)


def test_only_drawn_rows_have_labels_and_supervised_peers_see_no_others(data):
    X, _, y, y_test = data
    spy = Spy()
    cells = [
        {"table": "t", "share": 0.05, "method": m, "seed": 3}
        for m in ("logistic", "label_spreading")
    ]
    found = [bench.compute(cell, data, dict.fromkeys(bench.METHODS, spy)) for cell in cells]
    rows = bench.drawn(y, 0.05, 3)
    (X_alone, y_alone), (X_all, y_all) = spy.seen
    np.testing.assert_array_equal(X_alone, X[rows])
    np.testing.assert_array_equal(y_alone, y[rows])
    np.testing.assert_array_equal(X_all, X)
    np.testing.assert_array_equal(np.flatnonzero(y_all != -1), rows)
    np.testing.assert_array_equal(y_all[rows], y[rows])
    for one in found:
        assert one["accuracy"] == pytest.approx(y_test.mean())
        assert one["balanced_accuracy"] == 0.5
        assert one["n_labelled"] == len(rows)


def test_a_run_goes_on_where_it_stopped(data, tmp_path):
    path = tmp_path / "cells.jsonl"
    two = {name: FEW[name] for name in ("logistic", "label_spreading")}
    bench.compare(Kept(path, bench.KEYS), lambda name: data, ["t"], two, [0])
    before = path.read_text("utf-8")
    assert len(before.splitlines()) == 2 * len(bench.SHARES)
    bench.compare(Kept(path, bench.KEYS), lambda name: data, ["t"], FEW, [0])
    after = path.read_text("utf-8")
    assert after.startswith(before)
    new = [json.loads(line) for line in after[len(before) :].splitlines()]
    assert [(r["method"], r["share"]) for r in new] == [("m1", 0.01), ("m1", 0.05)]
    for r in new:
        assert r["status"] == "done"
        assert 0 <= r["accuracy"] <= 1
        assert r["log_loss"] > 0
        assert "scikit-vae" in r["versions"]


def test_a_method_that_fails_leaves_a_line_and_does_not_stop_the_others(data, tmp_path):
    class Failing(Spy):
        def fit(self, X, y):
            raise ValueError("no fit")

    methods = {"logistic": Failing(), "label_spreading": Spy()}
    kept = Kept(tmp_path / "cells.jsonl", bench.KEYS)
    found = bench.compare(kept, lambda name: data, ["t"], methods, [0])
    assert [r["status"] for r in found] == ["error", "done"] * 2
    assert "- t, 0.01, logistic, 0: ValueError: no fit" in bench.report(found)


def test_sharing_the_vae_below_changes_no_result(data):
    def short(name):
        return lambda seed: bench.METHODS[name](seed).set_params(max_epochs=2)

    methods = {name: short(name) for name in bench.OURS}
    bases = bench.Bases()
    for name in methods:
        for share in bench.SHARES:
            cell = {"table": "t", "share": share, "method": name, "seed": 1}
            alone, sharing = (bench.compute(cell, data, methods, b) for b in (None, bases))
            assert alone["status"] == "done", alone
            for measure in bench.MEASURES:
                assert alone[measure] == sharing[measure]
    assert len(bases._fitted) == 1


def test_every_method_can_be_made():
    for make in (bench.METHODS | bench.QUICK_METHODS).values():
        model = make(4)
        assert {"fit", "predict_proba"} <= set(dir(model))
    assert bench.METHODS["m2_pseudo_labels"](4).pseudo_labels == 0.7
    assert bench.METHODS["m1"](4).random_state == 4


# -- report ----------------------------------------------------------------------------------


def test_the_report_has_means_and_deviations_of_what_is_there():
    records = [
        record("logistic", 0, accuracy=0.6, log_loss=None),
        record("logistic", 1, accuracy=0.8, log_loss=None),
        record("boosting", 0, share=0.05, accuracy=0.9),
    ]
    found = bench.report(records)
    assert "### adult, 1%: 4 labels in 240 rows, most frequent class 0.600" in found
    assert "| logistic | 0.700 ± 0.141 | 0.500 ± 0.000 | – | 1.0 | 2 |" in found
    assert "| boosting | 0.900 | 0.500 | 0.700 | 1.0 | 1 |" in found
    assert "Ours against" not in found


def test_wins_and_losses_are_counted_on_shared_seeds_against_the_best_peer():
    peers = [record("logistic", s, accuracy=a) for s, a in enumerate((0.7, 0.8, 0.1))]
    peers += [record("boosting", s, accuracy=a) for s, a in enumerate((0.6, 0.6, 0.9))]
    own = [record("m1", 0, accuracy=0.8, log_loss=0.5), record("m1", 1, accuracy=0.6)]
    assert bench.against_best(peers + own, "log_loss", "m1")[2:] == (1, 0)
    best, gain, *counts = bench.against_best(peers + own, "accuracy", "m1")
    # Over all three seeds boosting is better, on the two that ours has logistic.
    assert best == "logistic"
    assert gain == pytest.approx(-0.05)
    assert counts == [1, 1]
    # A peer that lacks one of the seeds is not compared.
    assert bench.against_best(own, "accuracy", "m1") is None
    found = bench.duels(peers + own)
    assert "| adult, 1%, m1 | -0.050, 1 : 1 (logistic) |" in found
    assert "| all, m1 | 1 : 1 |" in found


def test_the_command_refuses_what_it_does_not_know(capsys):
    for arguments in (["--methods", "magic"], ["--seeds", "one"]):
        with pytest.raises(SystemExit):
            bench.main(arguments)
    assert "magic" in capsys.readouterr().err


def test_the_command_reports_what_is_kept(tmp_path, monkeypatch, capsys):
    path = tmp_path / "cells.jsonl"
    Kept(path, bench.KEYS).add(record("logistic", 0))
    monkeypatch.setattr(bench, "PATH", path)
    bench.main(["--report"])
    assert "| logistic | 0.500 |" in capsys.readouterr().out
