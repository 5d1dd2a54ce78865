"""VAEImputer on tables of all kinds of columns, and on what users get wrong."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skvae import VAEImputer, likelihoods, load
from skvae.exceptions import (
    DataError,
    DataWarning,
    ModelFileError,
    ParameterError,
    UnseenCategoryWarning,
)

FAST = {"max_epochs": 3, "hidden_layer_sizes": (16,), "random_state": 0, "max_samples": 256}


def whole(n=200, seed=0):
    """A table whose columns all say something about one hidden number."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    size = np.where(z > 0, "high", np.where(z > -1, "mid", "low"))
    return pd.DataFrame(
        {
            "real": z + 0.3 * rng.normal(size=n),
            "size": pd.Categorical(size, ["low", "mid", "high", "never"]),
            "count": pd.array(rng.poisson(np.exp(z)), dtype="Int64"),
            "grade": pd.Categorical(
                np.digitize(z, [-1, 0, 1]).astype(str), ["0", "1", "2", "3"], ordered=True
            ),
            "flag": pd.array(z > 0.2, dtype="boolean"),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta((z * 30).round(), unit="D"),
            "word": np.where(z > 0, "x", "y").astype(object),
            "same": 1.0,
        }
    )


def with_holes(table, share=0.2, seed=1):
    rng = np.random.default_rng(seed)
    return table.mask(rng.random(table.shape) < share)


@pytest.fixture(scope="module")
def table():
    return whole()


@pytest.fixture(scope="module")
def holes(table):
    return with_holes(table)


@pytest.fixture(scope="module")
def fitted(holes):
    return VAEImputer(max_epochs=60, random_state=0, n_members=2).fit(holes)


def observed_are_unchanged(before, after):
    for name in before:
        known = before[name].notna().to_numpy()
        assert (before[name][known] == after[name][known]).all()
        assert before[name].dtype == after[name].dtype


def test_a_mixed_table_is_completed_and_keeps_its_types(fitted, holes):
    full = fitted.transform(holes)
    assert not full.isna().any(axis=None)
    observed_are_unchanged(holes, full)
    assert list(full.columns) == list(holes.columns)
    assert full.index.equals(holes.index)
    assert list(full["size"].cat.categories) == ["low", "mid", "high", "never"]


def test_what_is_filled_in_is_better_than_the_marginal(fitted, holes, table):
    full = fitted.transform(holes)
    missing = holes["real"].isna()
    error = (full["real"] - table["real"])[missing]
    assert error.std() < 0.6 * table["real"].std()
    for name in ("size", "flag", "word"):
        missing = holes[name].isna()
        right = (full[name].astype(str) == table[name].astype(str))[missing].mean()
        assert right > table[name].astype(str).value_counts(normalize=True).max() + 0.1


def test_draws_are_drawn_and_stay_in_the_domain(fitted, holes):
    tables = fitted.sample(holes, 4, random_state=3)
    assert len(tables) == 4
    for one in tables:
        observed_are_unchanged(holes, one)
        assert (one["count"] >= 0).all()
    missing = holes["real"].isna().to_numpy()
    values = np.stack([one["real"].to_numpy()[missing] for one in tables])
    assert (values.std(0) > 0).all()
    again = fitted.sample(holes, 4, random_state=3)
    assert all(a.equals(b) for a, b in zip(tables, again, strict=True))
    assert not tables[0].equals(fitted.sample(holes, 1, random_state=4)[0])


def test_intervals_surround_the_mean_and_cover(fitted, holes, table):
    low, high = fitted.interval(holes, 0.9)
    missing = holes["real"].isna()
    inside = (low["real"] <= table["real"]) & (table["real"] <= high["real"])
    assert inside[missing].mean() > 0.75
    assert inside[~missing].all()
    narrow = fitted.interval(holes, 0.5)
    assert ((narrow[1]["real"] - narrow[0]["real"]) < (high["real"] - low["real"]))[missing].all()


def test_cell_distributions_agree_with_what_is_filled_in(fitted, holes):
    cells = fitted.cell_distribution(holes)
    full = fitted.transform(holes)
    modelled = [c for c in holes if c != "same"]
    assert len(cells) == int(holes[modelled].isna().sum().sum())
    for i in np.flatnonzero(cells.column == "size"):
        share = cells.probability[i]
        assert np.isclose(sum(share.values()), 1)
        assert list(share) == list(holes["size"].cat.categories)
    means = {(r, c): m for r, c, m in zip(cells.row, cells.column, cells.mean, strict=True)}
    real = [(r, m) for (r, c), m in means.items() if c == "real"]
    gap = [abs(full["real"].iloc[r] - m) for r, m in real]
    assert max(gap) < 0.5 * cells.std[cells.column == "real"].max()
    long = pd.DataFrame(cells.to_dict())
    assert {"row", "column", "mean", "std", "quantile_0.5", "probability"} <= set(long)


def test_a_row_does_not_depend_on_its_company(fitted, holes):
    full = fitted.transform(holes)
    for i in (0, 17):  # but for the rounding of products of other sizes
        alone = fitted.transform(holes.iloc[[i]]).assign(day=full["day"].iloc[[i]])
        pd.testing.assert_frame_equal(alone, full.iloc[[i]], check_exact=False, rtol=1e-6)
    shuffled = holes.sample(frac=1, random_state=0)
    again = fitted.transform(shuffled).loc[full.index].assign(day=full["day"])
    pd.testing.assert_frame_equal(again, full, check_exact=False, rtol=1e-6)


def test_a_row_without_any_value_gets_the_marginal(fitted, holes):
    nothing = holes.iloc[:1].copy()
    for name in nothing:
        nothing[name] = pd.Series([None], dtype=nothing[name].dtype)
    full = fitted.transform(nothing)
    assert not full.isna().any(axis=None)
    assert abs(full["real"].iloc[0]) < 0.5
    assert full["same"].iloc[0] == 1


def test_transform_learns_nothing(fitted, holes):
    before = fitted.transform(holes)
    fitted.transform(holes.iloc[:20].assign(real=1000.0))
    assert fitted.transform(holes).equals(before)


def test_an_unseen_category_is_kept_and_named(fitted, holes):
    new = holes.iloc[:3].copy()
    new["word"] = ["x", "q", None]
    with pytest.warns(UnseenCategoryWarning, match=r"'word'.*'q'"):
        full = fitted.transform(new)
    assert full["word"].tolist()[:2] == ["x", "q"]
    strict = load_as(fitted, unseen="error")
    with pytest.raises(DataError, match=r"'word'.*'q'"):
        strict.transform(new)


def load_as(imputer, **params):
    """The same fit under other parameters that matter after it."""
    import copy

    return copy.copy(imputer).set_params(**params)


def test_the_file_gives_the_same_imputer_back(fitted, holes, tmp_path):
    path = tmp_path / "imputer.safetensors"
    fitted.save(path)
    again = load(path)
    assert again.transform(holes).equals(fitted.transform(holes))
    assert again.schema_ == fitted.schema_
    assert again.get_params()["n_members"] == 2
    first, second = (one.sample(holes, 2, random_state=0)[1] for one in (fitted, again))
    assert first.equals(second)
    with pytest.raises(FileExistsError):
        fitted.save(path)


def test_declared_kinds_and_likelihoods_are_kept_in_the_file(holes, tmp_path):
    kinds = {"real": ("bounded", -9, 9), "word": "text"}
    imputer = VAEImputer(kinds=kinds, likelihoods={"count": "poisson"}, **FAST)
    with pytest.warns(DataWarning, match="'word' is taken for an identifier or free text"):
        imputer.fit(holes)
    by_name = {column.name: column for column in imputer.schema_.columns}
    assert by_name["real"].kind == "bounded"
    assert likelihoods.Poisson() in imputer.likelihood_.columns
    imputer.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.likelihoods == {"count": "poisson"}
    assert again.schema_ == imputer.schema_
    assert again.transform(holes)["word"].isna().sum() == holes["word"].isna().sum()


def test_a_changed_file_is_refused(fitted, tmp_path):
    from skvae import serialization

    fitted.save(tmp_path / "m.safetensors")
    manifest, tensors = serialization.read(tmp_path / "m.safetensors")
    fields = ("format_version", "library_version", "tensors")
    manifest = {k: v for k, v in manifest.items() if k not in fields}
    for change in (
        {"members": manifest["members"][:1] * 3},
        {"members": []},
        {"seed": -1},
        {"empty": [99]},
        {"indicated": [1, 0]},
        {"feature_names": ["a"]},
        {"histories": []},
        {"schema": {}},
    ):
        serialization.write(
            tmp_path / "bad.safetensors", manifest | change, tensors, overwrite=True
        )
        with pytest.raises(ModelFileError):
            load(tmp_path / "bad.safetensors")


def test_polars_comes_back_as_polars(holes):
    frame = pl.DataFrame(
        {
            "a": [None if v != v else v for v in holes["real"]],
            "b": [None if pd.isna(v) else str(v) for v in holes["word"]],
            "c": pl.Series(
                [None if pd.isna(v) else int(v) for v in holes["count"]], dtype=pl.Int32
            ),
        }
    )
    full = VAEImputer(**FAST).fit_transform(frame)
    assert isinstance(full, pl.DataFrame)
    assert full.schema == frame.schema
    assert full.null_count().sum_horizontal().item() == 0
    known = frame["a"].is_not_null()
    assert full.filter(known)["a"].equals(frame.filter(known)["a"])


def diabetes():
    X = load_diabetes().data.copy()
    X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    return X


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_keep_observed_cells_bit_by_bit(dtype):
    X = diabetes().astype(dtype)
    full = VAEImputer(**FAST).fit_transform(X)
    assert full.dtype == dtype
    known = ~np.isnan(X)
    assert np.array_equal(full[known].view(f"u{X.itemsize}"), X[known].view(f"u{X.itemsize}"))
    assert np.isfinite(full).all()


def test_indicators_say_what_was_missing():
    X = diabetes()
    X[:, 0] = load_diabetes().data[:, 0]
    imputer = VAEImputer(add_indicator=True, **FAST).fit(X)
    full = imputer.transform(X)
    assert full.shape == (442, 10 + 9)
    assert np.array_equal(full[:, 10:], np.isnan(X[:, 1:]))
    names = imputer.get_feature_names_out()
    assert list(names[9:12]) == ["x9", "missingindicator_x1", "missingindicator_x2"]
    frame = pd.DataFrame(X, columns=list("abcdefghij"))
    both = VAEImputer(add_indicator=True, **FAST).fit_transform(frame)
    assert both["missingindicator_b"].equals(frame["b"].isna())


def test_columns_without_values_are_left_out_or_kept():
    X = diabetes()
    X[:, 3] = np.nan
    with pytest.warns(DataWarning, match="'3' has no value and is left out"):
        imputer = VAEImputer(**FAST).fit(X)
    assert imputer.transform(X).shape == (442, 9)
    assert "x3" not in imputer.get_feature_names_out()
    kept = VAEImputer(keep_empty_features=True, **FAST).fit_transform(X)
    assert kept.shape == (442, 10)
    assert (kept[:, 3] == 0).all()


def test_a_marker_may_stand_for_missing():
    X = diabetes()
    marked = np.where(np.isnan(X), -999.0, X)
    imputer = VAEImputer(missing_values=-999, **FAST)
    assert np.array_equal(imputer.fit_transform(marked), VAEImputer(**FAST).fit_transform(X))


def test_a_constant_column_is_filled_with_its_value():
    X = diabetes()
    X[:, 2] = np.where(np.isnan(X[:, 2]), np.nan, 7.0)
    full = VAEImputer(**FAST).fit_transform(X)
    assert (full[:, 2] == 7).all()
    only = np.array([[1.0], [np.nan], [1.0]])
    assert VAEImputer(**FAST).fit_transform(only).tolist() == [[1.0], [1.0], [1.0]]


def test_it_works_in_pipelines_and_searches(holes):
    X, y = diabetes(), load_diabetes().target
    pipeline = make_pipeline(VAEImputer(**FAST), Ridge())
    assert pipeline.fit(X, y).predict(X[:2]).shape == (2,)
    numbers = ColumnTransformer([("numbers", VAEImputer(**FAST), ["real", "count"])])
    assert numbers.fit_transform(holes).shape == (200, 2)
    search = GridSearchCV(VAEImputer(**FAST), {"n_components": [1, 3]}, cv=2).fit(X)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_longer_training_scores_better():
    X = diabetes()
    short, long = (VAEImputer(**{**FAST, "max_epochs": n}).fit(X[:300]) for n in (1, 60))
    assert long.score(X[300:]) > short.score(X[300:]) + 0.05
    scores = long.score_samples(X[300:])
    assert np.nanmean(scores) == pytest.approx(long.score(X[300:]), abs=0.1)


@pytest.mark.parametrize("columns", [["a", "b"], ["b", "a", "c"], ["a", "b", "c", "d"]])
def test_other_columns_are_refused_by_name(columns):
    rng = np.random.default_rng(0)
    imputer = VAEImputer(**FAST).fit(pd.DataFrame(rng.normal(size=(30, 3)), columns=list("abc")))
    with pytest.raises(ValueError, match="feature names"):
        imputer.transform(pd.DataFrame(rng.normal(size=(3, len(columns))), columns=columns))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real": [np.inf] + [0.5] * 199}, "'real'.*inf"),
        ({"word": [1, "a"] * 100}, "'word'"),
    ],
)
def test_bad_columns_are_named(table, change, message):
    with pytest.raises(DataError, match=message):
        VAEImputer(**FAST).fit(table.assign(**{k: pd.Series(v) for k, v in change.items()}))


def test_duplicate_names_are_refused(table):
    twice = pd.concat([table[["real"]], table[["real"]]], axis=1)
    with pytest.raises(DataError, match="real"):
        VAEImputer(**FAST).fit(twice)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"likelihoods": {"rael": "gaussian"}}, "likelihoods has the key 'rael'.*'real'"),
        ({"kinds": {"rael": "real"}}, "rael"),
        ({"kinds": {"real": "raw"}}, "raw"),
        ({"n_members": 0}, "n_members"),
        ({"hide": 1.5}, "hide"),
    ],
)
def test_bad_parameters_are_named(holes, params, message):
    with pytest.raises(ValueError, match=message):
        VAEImputer(**{**FAST, **params}).fit(holes)


def test_a_failed_fit_leaves_the_old_one(holes):
    imputer = VAEImputer(**FAST).fit(holes)
    before = imputer.transform(holes)
    with pytest.raises(DataError):
        imputer.fit(pd.concat([holes[["real"]], holes[["real"]]], axis=1))
    assert imputer.transform(holes).equals(before)


@pytest.mark.parametrize("coverage", [0, 1, "most"])
def test_the_coverage_of_an_interval_is_checked(fitted, holes, coverage):
    with pytest.raises(ParameterError, match="coverage"):
        fitted.interval(holes, coverage)


def test_bootstrap_members_see_other_rows():
    X = diabetes()
    plain = VAEImputer(**FAST, n_members=2).fit(X)
    resampled = VAEImputer(**FAST, n_members=2, bootstrap=True).fit(X)
    assert not np.array_equal(plain.transform(X), resampled.transform(X))
    shifts = [core.transform.shift for core in resampled._members.cores]
    assert np.array_equal(*shifts)
    np.testing.assert_allclose(shifts[0], np.nanmean(X, 0), rtol=1e-12)


def test_parquet_files_are_tables(tmp_path):
    frame = with_holes(whole(60))[["real", "size", "flag"]]
    frame.to_parquet(tmp_path / "holes.parquet")
    imputer = VAEImputer(**FAST).fit(tmp_path / "holes.parquet")
    same = VAEImputer(**FAST).fit(pd.read_parquet(tmp_path / "holes.parquet"))
    assert [c.kind for c in imputer.schema_.columns] == [c.kind for c in same.schema_.columns]
    full = imputer.transform(str(tmp_path / "holes.parquet"))
    assert list(full.columns) == list(frame.columns)
    assert not full.isna().any(axis=None)
    frame.to_csv(tmp_path / "holes.csv", index=False)
    with pytest.raises(DataError, match=r"holes\.csv' does not say what its columns are"):
        imputer.fit(tmp_path / "holes.csv")
    with pytest.raises(FileNotFoundError, match=r"no\.parquet"):
        imputer.transform(tmp_path / "no.parquet")
