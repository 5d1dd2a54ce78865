"""Frames with categories, dates and holes in the estimators that are no imputers."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import polars as pl
import pytest

from skvae import VAE, VAEClassifier, VAERegressor, load, plot
from skvae.exceptions import DataError, DataWarning, ModelFileError, ParameterError
from skvae.likelihoods import Bernoulli, Categorical, Columns, Gaussian, StudentT

SHORT = {"n_components": 3, "max_epochs": 25, "batch_size": 32, "random_state": 0}
N = 300


def frame(seed=0):
    """People of two kinds, told by age and colour."""
    source = np.random.default_rng(seed)
    y = source.integers(2, size=N)
    df = pd.DataFrame(
        {
            "age": source.normal(40, 5, N) + 20 * y,
            "colour": np.where(source.random(N) < 0.1, "green", np.where(y, "red", "blue")),
            "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(source.integers(0, 300, N), "D"),
            "flag": source.random(N) < 0.5,
        }
    )
    df.loc[source.random(N) < 0.2, "age"] = np.nan
    df.loc[source.random(N) < 0.2, "colour"] = None
    return df, y


@pytest.fixture(scope="module")
def fitted():
    return VAE(**SHORT).fit(frame()[0])


def test_each_column_has_a_likelihood_and_the_network_sees_holes(fitted):
    real, three = StudentT("per_cell"), Categorical(3)
    assert fitted.likelihood_ == Columns((real, three, real, Bernoulli()))
    assert fitted._core.spec.network.name == "table"
    assert [c.kind for c in fitted.schema_.columns] == [
        "real",
        "categorical",
        "datetime",
        "binary",
    ]
    assert list(fitted.feature_names_in_) == ["age", "colour", "day", "flag"]
    assert fitted.n_features_in_ == 4


@pytest.mark.parametrize("make", [lambda df: df, pl.from_pandas])
def test_rows_come_back_as_frames_of_the_same_types(make):
    df = make(frame()[0])
    vae = VAE(**SHORT).fit(df)
    schema = [*zip(df.columns, df.dtypes, strict=True)]
    for rows in (vae.sample(7, random_state=0), vae.inverse_transform(vae.transform(df)[:7])):
        assert type(rows) is type(df)
        assert [*zip(rows.columns, rows.dtypes, strict=True)] == schema
        assert len(rows) == 7
        assert set(rows["colour"]) <= {"red", "blue", "green"}


def test_samples_have_the_joint_law_of_the_columns():
    df, _ = frame()
    new = VAE(3, max_epochs=60, batch_size=32, random_state=0).fit(df).sample(3000, random_state=0)
    old = df.dropna()
    for rows in (old, new):
        assert rows.age[rows.colour == "red"].mean() > rows.age[rows.colour == "blue"].mean() + 10
    shares = [rows.colour.value_counts(normalize=True)["green"] for rows in (old, new)]
    assert abs(shares[0] - shares[1]) < 0.06


def test_holes_are_filled_and_all_else_stays(fitted):
    df, y = frame()
    full = fitted.impute(df)
    assert not full.isna().any().any()
    pd.testing.assert_frame_equal(full[["day", "flag"]], df[["day", "flag"]])
    seen = df.age.notna()
    assert (full.age[seen] == df.age[seen]).all()
    hidden = df.colour.isna() & seen
    expected = np.where(y[hidden], "red", "blue")
    assert (full.colour[hidden] == expected).mean() > 0.8
    draws = fitted.impute(df, n_draws=2, random_state=0)
    assert len(draws) == 2
    assert not draws[0].equals(draws[1])


def test_a_file_keeps_the_columns(fitted, tmp_path):
    df, _ = frame()
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    again = load(path)
    np.testing.assert_array_equal(again.transform(df), fitted.transform(df))
    pd.testing.assert_frame_equal(
        again.sample(5, random_state=1), fitted.sample(5, random_state=1)
    )
    assert again.n_features_in_ == 4


def test_a_file_with_other_columns_than_its_model_is_refused(fitted):
    manifest, tensors = fitted._core.state()
    manifest |= {
        "params": {"n_components": 3},
        "history": [],
        "feature_names": None,
        "container": "pandas",
        "flat": True,
        "dtype": "float64",
        "schema": fitted.schema_.to_json() | {"columns": fitted.schema_.to_json()["columns"][:2]},
    }
    with pytest.raises(ModelFileError, match="columns does not fit"):
        VAE._from_manifest(manifest, tensors, None)


def test_a_later_fit_on_numbers_forgets_the_columns():
    df, _ = frame()
    vae = VAE(**SHORT | {"max_epochs": 1}).fit(df).fit(df[["flag"]].assign(b=1.5 * df.flag))
    assert not hasattr(vae, "schema_")
    assert vae.sample(2, random_state=0).shape == (2, 2)


def test_columns_are_told_by_their_names(fitted):
    df, _ = frame()
    with pytest.raises(ValueError, match="feature names"):
        fitted.transform(df.rename(columns={"age": "years"}))
    with pytest.raises(DataError, match="age"):
        fitted.transform(df.assign(age="old"))


def test_free_text_is_left_out_and_named():
    df, _ = frame()
    df["name"] = [f"person {i}" for i in range(N)]
    with pytest.warns(DataWarning, match="'name' is taken for an identifier") as caught:
        vae = VAE(**SHORT | {"max_epochs": 1}).fit(df)
    assert caught[0].filename == __file__
    assert vae.sample(3, random_state=0)["name"].isna().all()
    with pytest.raises(DataError, match="No column of X can be modelled"):
        VAE().fit(df[["name"]])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"likelihood": "gaussian"}, "likelihood='gaussian' describes cells of one kind"),
        ({"event_shape": (2, 2)}, "event_shape"),
        ({"network": "rnn"}, "sequences"),
    ],
)
def test_what_is_for_numbers_alone_is_refused(more, message):
    with pytest.raises(ParameterError, match=message):
        VAE(**more).fit(frame()[0])


def test_likelihoods_of_the_columns_can_be_given():
    df = frame()[0]
    given = Columns((Gaussian(), Categorical(3), Gaussian(), Bernoulli()))
    vae = VAE(**SHORT | {"max_epochs": 1}, likelihood=given).fit(df)
    assert vae.likelihood_ == given


@pytest.mark.parametrize(
    "model", ["auto", "m1", "m2", "m1+m2", "adgm", "sdgm", "ladder", "mixture"]
)
def test_classes_of_mixed_rows(model):
    df, y = frame()
    some = np.where(np.arange(N) < 40, y, -1)
    classifier = VAEClassifier(model=model, **SHORT).fit(df, some)
    assert classifier.score(df, y) > 0.88
    if model != "m1":
        made = classifier.sample(50, y=1, random_state=0)
        assert (made.colour == "red").mean() > 0.6
        assert [len(rows) for rows in classifier.analogies(df[:3])] == [3, 3]


def test_targets_of_mixed_rows():
    df, y = frame()
    t = np.where(np.arange(N) < 80, 3.0 * y + 1, np.nan)
    assert VAERegressor(**SHORT).fit(df, t).score(df, 3.0 * y + 1) > 0.6


def test_pictures_of_mixed_rows_have_a_bar_for_each_category(fitted):
    df, y = frame()
    make = plot.ReconstructionDisplay.from_estimator(fitted, df)
    names = ["age", "colour: blue", "colour: green", "colour: red", "day", "flag: True"]
    assert make.painter.columns == names
    drawn = make.painter.read(df[:3])
    assert drawn.shape == (3, 6)
    assert drawn[0, 5] == df.flag[0]
    assert np.isnan(make.painter.read(df[df.colour.isna()])[:, 1:4]).all()
    plot.SamplesDisplay.from_estimator(fitted, df, random_state=0)
    plot.TraversalDisplay.from_estimator(fitted, df)
    plot.LatentMapDisplay.from_estimator(fitted, df, y)
    plot.ImputationDisplay.from_estimator(fitted, df, column="colour")
    plt.close("all")


def test_the_command_says_that_it_does_not_write_such_rows(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    command = [sys.executable, "-m", "skvae", "sample", "m.safetensors", "-n", "3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "columns that are not numbers" in " ".join(done.stderr.split())
    assert done.stdout == ""
