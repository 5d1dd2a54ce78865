import json

import numpy as np
import pandas as pd
import pytest
from benchmarks.imputation import anchors, cells, masks, metrics, report, rubin, tables
from benchmarks.imputation.encoding import Matrix
from benchmarks.imputation.forest import MissForest, change
from benchmarks.imputation.kept import Kept
from benchmarks.imputation.peers import KNN, Iterative, Mean

LEVELS = pd.CategoricalDtype(["a", "b", "c"])


def mixed(n=2000, seed=0):
    rng = np.random.default_rng(seed)
    numbers = {f"x{j}": 3.0 + 2.0 * rng.normal(size=n) for j in range(8)}
    words = {f"c{j}": pd.Series(rng.choice(["a", "b", "c"], n), dtype=LEVELS) for j in range(2)}
    return pd.DataFrame(numbers | words)


# -- masks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5])
def test_rates_are_those_asked_for_within_binomial_error(rate):
    frame = mixed()
    within = 4.5 * np.sqrt(rate * (1 - rate) / len(frame))
    for mechanism in ("mcar", "mnar"):
        found = masks.hide(frame, mechanism, rate, 3).mean(0)
        assert np.abs(found - rate).max() < within
    found = masks.hide(frame, "mar", rate, 3).mean(0)
    assert (found == 0).sum() == 3  # 30 % of 10 columns stay complete
    assert np.abs(found[found > 0] - rate).max() < within


def test_missing_at_random_depends_on_observed_columns_alone():
    frame = mixed(20_000).drop(columns=["c0", "c1"])
    hidden = masks.hide(frame, "mar", 0.3, 0)
    z = ((frame - frame.mean()) / frame.std()).to_numpy()
    complete = ~hidden.any(0)
    assert complete.sum() == 2
    for j in np.flatnonzero(~complete):
        gap = z[hidden[:, j]].mean(0) - z[~hidden[:, j]].mean(0)
        # Logits of unit variance shift the mean of their own direction by about 0.9.
        assert 0.6 < np.linalg.norm(gap[complete]) < 1.1
        assert np.abs(gap[~complete]).max() < 0.08


def test_not_at_random_depends_on_the_own_value_in_both_directions():
    frame = mixed(20_000).drop(columns=["c0", "c1"])
    hidden = masks.hide(frame, "mnar", 0.3, 0)
    z = ((frame - frame.mean()) / frame.std()).to_numpy()
    gaps = np.stack([z[h].mean(0) - z[~h].mean(0) for h in hidden.T])
    own = np.diag(gaps)
    assert np.abs(gaps - np.diag(own)).max() < 0.08
    assert ((np.abs(own) > 0.6) & (np.abs(own) < 1.1)).all()
    assert own.min() < 0 < own.max()


def test_no_row_loses_all_its_cells():
    frame = mixed(3000)[["x0", "c0"]]
    for mechanism in ("mcar", "mnar"):
        hidden = masks.hide(frame, mechanism, 0.9, 1)
        assert not hidden.all(1).any()
        assert hidden.any(1).mean() > 0.9
        assert 0.35 < hidden[:, 0].mean() < 0.65  # the cell that is kept is a random one


def test_masks_are_functions_of_the_seed_the_rate_and_the_mechanism():
    frame = mixed(200)
    one = masks.hide(frame, "mcar", 0.3, 1)
    assert (one == masks.hide(frame, "mcar", 0.3, 1)).all()
    assert (one != masks.hide(frame, "mcar", 0.3, 2)).any()
    holes = masks.holed(frame, one)
    assert (holes.isna().to_numpy() == one).all()
    assert holes.dtypes.equals(frame.dtypes)
    pd.testing.assert_series_equal(holes["x1"].dropna(), frame["x1"][~one[:, 1]])


def test_published_masks():
    hidden = masks.notebook(7, 3)
    assert hidden.sum() == 10  # ⌊21 / 2⌋
    rng = np.random.RandomState(1234)
    assert set(np.flatnonzero(hidden)) == set(rng.choice(21, 10, replace=False))
    X = np.array([[0.0, 5.0, 1.0], [2.0, 7.0, 9.0], [1.0, 9.0, 5.0]])
    assert masks.above_mean(X).tolist() == [[False] * 3, [True, False, False], [False] * 3]


def test_only_the_table_of_five_masks_has_more_than_one():
    X = np.random.default_rng(0).normal(size=(20, 4))
    every = {a: [anchors.mask(a, X, seed) for seed in (0, 1)] for a in ("a1", "a2", "a3")}
    assert (every["a1"][0] == every["a1"][1]).all()
    assert (every["a1"][0] == every["a2"][0]).all()
    assert (every["a2"][0] != every["a2"][1]).any()
    assert (every["a3"][1] == masks.above_mean(X)).all()


def test_breast_cancer_is_that_of_the_paper():
    assert anchors.mean_fill_error(anchors.standardised("breast")) == pytest.approx(1.82, abs=5e-3)
    anchors.check("breast")


# -- tables ----------------------------------------------------------------------------------


def test_tables_are_split_without_overlap_and_cut_to_size():
    frame = pd.DataFrame({"i": np.arange(3000.0), "constant": 1.0})
    train, test = tables.split(frame, 0)
    assert (len(train), len(test)) == (1000, 500)
    assert not set(train["i"]) & set(test["i"])
    assert [*train] == [*test] == ["i"]
    assert [len(part) for part in tables.split(frame[:600], 0)] == [400, 200]
    assert not tables.split(frame, 1)[0].equals(train)


def test_words_become_categories_and_incomplete_rows_go():
    frame = pd.DataFrame({"n": [1, 2, 3], "w": [" b", "a", None], "t": [True, False, True]})
    found = tables.tidy(frame)
    assert len(found) == 2
    assert found["n"].dtype == float
    assert found["w"].cat.categories.tolist() == ["a", "b"]
    assert found["t"].tolist() == ["True", "False"]


# -- metrics ---------------------------------------------------------------------------------

TRAIN = pd.DataFrame({"x": [0.0, 4.0], "c": pd.Series(["a", "b"], dtype=LEVELS)})  # sd 2
TRUTH = pd.DataFrame({"x": [1.0, 2.0, 3.0], "c": pd.Series(["a", "b", "c"], dtype=LEVELS)})
HIDDEN = np.array([[True, True], [True, False], [False, True]])


def test_errors_are_over_hidden_cells_in_units_of_the_training_column():
    guess = pd.DataFrame({"x": [4.0, 6.0, 99.0], "c": pd.Series(["a", "c", "b"], dtype=LEVELS)})
    nrmse, nmae, wrong = metrics.column_errors(TRUTH, guess, HIDDEN, TRAIN)
    assert nrmse == {"x": pytest.approx(np.sqrt((9 + 16) / 2) / 2)}
    assert nmae == {"x": pytest.approx(3.5 / 2)}
    assert wrong == {"c": 0.5}
    assert metrics.column_errors(TRUTH, guess, HIDDEN & [[False, True]], TRAIN)[0] == {}


@pytest.mark.parametrize("column", ["x", "c"])
def test_cells_left_empty_are_an_error(column):
    guess = TRUTH.copy()
    guess.loc[0, column] = None
    with pytest.raises(ValueError, match=f"'{column}'"):
        metrics.column_errors(TRUTH, guess, HIDDEN, TRAIN)


def test_worst_ratio_is_that_of_the_worst_column():
    assert metrics.worst_ratio({"a": 0.5, "b": 3.0}, {"a": 1.0, "b": 2.0}) == 1.5
    assert metrics.worst_ratio({}, {}) is None
    assert metrics.mean_of({"a": 1.0, "b": 4.0}) == 2.5


def test_coverage_and_width():
    low = pd.DataFrame({"x": [1.5, 2.0, 50.0]})
    high = pd.DataFrame({"x": [2.5, 6.0, 60.0]})
    assert metrics.coverage(TRUTH, low, high, HIDDEN, TRAIN) == (0.5, pytest.approx(1.25), 2)


def test_ends_of_19_draws_cover_90_per_cent():
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"x": rng.normal(size=40_000)})
    draws = [pd.DataFrame({"x": rng.normal(size=40_000)}) for _ in range(metrics.N_DRAWS)]
    every = np.ones((40_000, 1), bool)
    inside, _, count = metrics.coverage(truth, *metrics.ends(draws), every, truth)
    assert count == 40_000
    assert inside == pytest.approx(0.9, abs=0.006)


def test_crps_is_that_of_the_normal_law_and_of_its_definition():
    draws = [pd.DataFrame({"x": [v, v + 1, 0.0]}) for v in (0.0, 3.0, 5.0)]
    x = np.array([0.0, 3.0, 5.0])
    by_hand = [
        np.abs(x + shift - y).mean() - np.abs(x[:, None] - x).sum() / 12
        for shift, y in ((0, 1.0), (1, 2.0))
    ]
    assert metrics.crps(TRUTH, draws, HIDDEN, TRAIN) == pytest.approx(np.mean(by_hand) / 2)
    rng = np.random.default_rng(0)
    truth = pd.DataFrame({"x": rng.normal(size=20_000)})
    truth = (truth - truth.mean()) / truth.std(ddof=0)
    draws = [pd.DataFrame({"x": rng.normal(size=20_000)}) for _ in range(5)]
    found = metrics.crps(truth, draws, np.ones((20_000, 1), bool), truth)
    assert found == pytest.approx(1 / np.sqrt(np.pi), abs=0.01)  # of N(0, 1) against itself


def test_energy_distance_of_one_row_each():
    one, other = TRUTH.iloc[:1], TRUTH.iloc[1:2]
    # x differs by 1 / 2 and the category by 1, both in standard units; of three levels TRAIN's
    # dtype has all.
    assert metrics.energy_distance(one, other, TRAIN) == pytest.approx(2 * np.sqrt(1.25))
    assert metrics.energy_distance(TRUTH, TRUTH, TRAIN) == pytest.approx(0, abs=1e-12)


# -- peers -----------------------------------------------------------------------------------


def related(n=100, seed=0):
    """A table of one factor: 3 numbers, their sum, and a category that the first decides."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1)) + 0.1 * rng.normal(size=(n, 3))
    words = pd.Series(np.where(x[:, 0] > 0, "b", "a"), dtype=LEVELS)
    return pd.DataFrame({"x": x[:, 0], "y": x[:, 1], "z": x[:, 2], "s": x.sum(1), "w": words})


def test_matrices_there_and_back():
    frame = related(6).mask(pd.DataFrame(np.eye(6, 5, dtype=bool), columns=[*"xyzsw"]))
    matrix = Matrix(frame)
    found = matrix.encode(frame)
    assert found.shape == (6, 4 + 2)  # no row has the third level
    assert np.nanmean(found[:, 0]) == pytest.approx(0, abs=1e-12)
    assert np.nanstd(found[:, 0]) == pytest.approx(1)
    assert np.isnan(found[4, 4:]).all()
    assert np.nansum(found[5, 4:]) == pytest.approx(np.sqrt(0.5))
    filled = matrix.decode(np.where(np.isnan(found), 0.25, found), frame)
    assert filled.notna().all(axis=None)
    assert filled["x"][0] == pytest.approx(0.25 * frame["x"].std(ddof=0) + frame["x"].mean())
    assert filled["w"][4] == "a"
    assert filled[frame.notna()].equals(frame)


def test_a_level_that_is_left_out_comes_back():
    frame = pd.DataFrame({"c": pd.Series(["a", "c", None, None], dtype=LEVELS)})
    matrix = Matrix(frame.fillna("b"), reduced=True)
    found = matrix.encode(frame)
    assert found[:2].tolist() == [[pytest.approx(np.sqrt(0.5)), 0.0], [0.0, 0.0]]
    assert np.isnan(found[2:]).all()
    found[2:] = [[0.2, 0.2], [0.2, 0.3]]  # which leaves 0.307 and 0.207 for c
    assert matrix.decode(found, frame)["c"].tolist() == ["a", "c", "c", "b"]


def test_missforest_finds_the_structure_in_and_out_of_sample():
    frame = related(150)
    train, test = frame[:100], frame[100:].reset_index(drop=True)
    hidden = masks.hide(train, "mcar", 0.2, 0), masks.hide(test, "mcar", 0.2, 1)
    holes = [masks.holed(f, h) for f, h in zip((train, test), hidden, strict=True)]
    forest, mean = MissForest(n_trees=8, max_rounds=3).fit(holes[0]), Mean().fit(holes[0])
    for found, fill, truth, mask, rows in (
        (forest.in_sample(holes[0]), mean.in_sample(holes[0]), train, hidden[0], holes[0]),
        (forest.transform(holes[1]), mean.transform(holes[1]), test, hidden[1], holes[1]),
    ):
        nrmse, _, wrong = metrics.column_errors(truth, found, mask, train)
        of_mean, _, of_mode = metrics.column_errors(truth, fill, mask, train)
        assert metrics.mean_of(nrmse) < 0.45 * metrics.mean_of(of_mean)
        assert wrong["w"] < 0.6 * of_mode["w"]
        assert found[rows.notna()].equals(rows)


def test_missforest_fills_columns_that_were_complete_in_training():
    frame = related(80)
    holes = frame.copy()
    holes.loc[:10, "y"] = np.nan
    forest = MissForest(n_trees=5, max_rounds=2).fit(holes)
    new = frame[60:].reset_index(drop=True)
    blank = new.assign(z=np.nan)
    found = forest.transform(blank)
    assert np.corrcoef(found["z"], new["z"])[0, 1] > 0.9


def test_change_between_rounds_is_that_of_the_paper():
    old = pd.DataFrame({"x": [1.0, 2.0], "c": pd.Series(["a", "b"], dtype=LEVELS)})
    new = pd.DataFrame({"x": [1.0, 4.0], "c": pd.Series(["a", "c"], dtype=LEVELS)})
    missing = pd.DataFrame({"x": [False, True], "c": [True, True]})
    assert change(old, new, missing) == [4 / 17, 0.5]
    assert change(old[["x"]], new[["x"]], missing) == [4 / 17]


class Scripted(MissForest):
    """Whose rounds fill what a list says."""

    def __init__(self, values):
        super().__init__(max_rounds=10)
        self.values = iter(values)

    def _grow(self, name, filled, missing):
        value = next(self.values)
        return type("Forest", (), {"predict": lambda self, X: np.full(len(X), value)})()


def test_rounds_end_before_the_first_that_moves_more():
    frame = pd.DataFrame({"x": [1.0, 1.0, np.nan], "y": [1.0, 2.0, 3.0]})
    forest = Scripted([2.0, 2.5, 9.0]).fit(frame)  # moves by 1, 0.5 and 6.5
    assert forest.completed["x"][2] == 2.5
    forest = Scripted([2.0, 2.5, 2.75, *[2.8] * 20]).fit(frame)
    assert forest.completed["x"][2] == 2.8


def test_neighbours_and_regressions_use_other_columns():
    frame = related(120)
    hidden = masks.hide(frame, "mcar", 0.2, 0)
    holes = masks.holed(frame, hidden)
    of_mean = metrics.column_errors(frame, Mean().fit(holes).transform(holes), hidden, frame)
    for peer, limit in ((KNN((5,)), 0.4), (KNN((3, 5, 60)), 0.4), (Iterative(), 0.25)):
        found = peer.fit(holes).transform(holes)
        nrmse, _, wrong = metrics.column_errors(frame, found, hidden, frame)
        assert metrics.mean_of(nrmse) < limit * metrics.mean_of(of_mean[0])
        assert wrong["w"] < 0.5 * of_mean[2]["w"]
        assert found[holes.notna()].equals(holes)


def test_draws_differ_and_keep_what_is_observed():
    frame = related(60)[["x", "y", "z"]]
    holes = masks.holed(frame, masks.hide(frame, "mcar", 0.2, 0))
    one, two = Iterative().fit(holes).sample(holes, 2)
    assert one[holes.notna()].equals(holes)
    assert (one.to_numpy() != two.to_numpy()).sum() == holes.isna().to_numpy().sum()


# -- results ---------------------------------------------------------------------------------


def test_results_are_kept_and_found_again(tmp_path):
    path = tmp_path / "results" / "kept.jsonl"
    kept = Kept(path, ("table", "seed"))
    kept.add({"table": "a", "seed": 0, "nrmse": 0.5})
    with path.open("a") as file:
        file.write('{"table": "b", "se')  # killed while it wrote
    again = Kept(path, ("table", "seed"))
    assert {"table": "a", "seed": 0} in again
    assert {"table": "a", "seed": 1} not in again
    again.add({"table": "b", "seed": 0})
    found = Kept(path, ("table", "seed")).records
    assert [r["table"] for r in found] == ["a", "b"]
    assert found[0]["nrmse"] == 0.5
    assert "scikit-vae" in found[0]["versions"]


def test_results_of_another_program_are_refused(tmp_path):
    path = tmp_path / "kept.jsonl"
    path.write_text(json.dumps({"table": "a"}) + "\n")
    with pytest.raises(ValueError, match="'seed'"):
        Kept(path, ("table", "seed"))


def test_a_cell_scores_both_parts(monkeypatch):
    monkeypatch.setattr(tables, "whole", lambda name: related(150))
    cell = {"table": "t", "mechanism": "mcar", "rate": 0.3, "seed": 0, "method": "mean"}
    inside, outside = cells.compute(cell, rows=(100, 50))
    assert (inside["sample"], outside["sample"]) == ("in", "out")
    assert (inside["n"], outside["n"]) == (100, 50)
    assert inside["worst_vs_mean"] == outside["worst_vs_mean"] == 1.0
    assert 0.8 < inside["nrmse"] < 1.2
    assert set(cells.KEYS) < set(inside)


def record(table, method, nrmse, **more):
    own = {"table": table, "mechanism": "mcar", "rate": 0.3, "seed": 0, "method": method}
    own |= {"sample": "out", "status": "done", "nrmse": nrmse}
    return own | {"fit_seconds": 1.0, "transform_seconds": 1.0} | more


def test_reports_pool_rank_and_list_losses_and_failures():
    records = [
        record("a", "missforest", 0.5),
        record("b", "missforest", 0.8),
        record("a", "skvae", 0.25, coverage=0.8, n_numbers=100),
        record("b", "skvae", 1.6, coverage=0.95, n_numbers=300),
    ]
    values = report.by_table(records, "nrmse")
    assert report.ratio(values["skvae"], values["missforest"]) == (pytest.approx(1.0), 2)
    assert report.ranks(values) == ({"missforest": 1.5, "skvae": 1.5}, 2)
    assert report.weighted(records, "skvae") == pytest.approx((80 + 285) / 400)
    assert report.losses(records) == ["- b, nrmse: 1.600, missforest 0.800"]
    failed = {**record("c", "knn", None), "status": "failed", "reason": "ValueError: no"}
    text = report.report([*records, failed])
    assert "- c, mcar, 0.3, 0, knn, out: ValueError: no" in text
    assert "### out of sample, MCAR, 30% hidden, 1 seeds" in text
    assert "| skvae | 1.000 (2) |" in text
    assert "Losses of skvae" in text
    assert "Losses" not in report.report(records[:2])


def test_holm_multiplies_and_never_decreases():
    assert report.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert report.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])


def test_tests_are_paired_by_table():
    ours = {str(t): 1.0 for t in range(8)}
    other = {str(t): 1.1 + 0.01 * t for t in range(8)}
    found = report.tests({"skvae": ours, "knn": other, "short": {"0": 2.0}}, "skvae")
    assert found == {"knn": pytest.approx(2 / 2**8)}  # all eight signs agree, both tails


def test_estimates_are_those_of_the_textbook():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(50, 2)), columns=["x", "y"])
    q, u, kinds = rubin.estimates(frame, "y", pd.Series({"x": 0.0, "y": 0.0}))
    assert kinds == ["mean", "mean", "coefficient", "share", "share"]
    x, y = frame["x"], frame["y"]
    slope = np.cov(x, y)[0, 1] / x.var()
    residual = y - y.mean() - slope * (x - x.mean())
    assert q == pytest.approx([x.mean(), y.mean(), slope, (x > 0).mean(), (y > 0).mean()])
    shares = (50 * q[3:] + 0.5) / 51
    of_slope = (residual**2).sum() / 48 / ((x - x.mean()) ** 2).sum()
    expected = [x.var() / 50, y.var() / 50, of_slope, *(shares * (1 - shares) / 50)]
    assert u == pytest.approx(expected)
