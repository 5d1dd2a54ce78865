"""The command that fills in tables with columns of any kind, run as a user runs it."""

import contextlib
import csv
import io
import json
import re
import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.datasets import load_iris

from skvae import VAEImputer, _frames, cli, load
from skvae._frames import TextTable
from skvae.exceptions import DataError, MissingExtraError

FAST = ("--max-epochs", 2, "--hidden-layer-sizes", 8, "--n-samples", 20, "--max-samples", 40)
FAST = (*FAST, "--random-state", 0)
KINDS = (
    "--kind",
    "size=ordinal:low,mid,high",
    "--kind",
    "day=datetime",
    "--kind",
    "seen=datetime",
)
HEADER = ["note", "length", "petal", "species", "wide", "size", "day", "seen"]


@dataclass
class Done:
    stdout: str
    stderr: str


def skvae(*arguments, cwd=".", code=0):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        got = cli._run([str(a) for a in arguments])
    assert got == code, err.getvalue()
    return Done(out.getvalue(), err.getvalue())


def rows_of(text, delimiter=","):
    return list(csv.reader(io.StringIO(text), delimiter=delimiter))


def flowers():
    """Every other iris, as a person would write it down."""
    iris = load_iris()
    for i in range(0, 150, 2):
        length, _, petal, width = iris.data[i]
        yield [
            f"seen near, path {i}",
            f"{length:.2f}",
            str(round(10 * petal)),
            str(iris.target_names[iris.target[i]]),
            "TRUE" if width > 1 else "FALSE",
            ("low", "mid", "high")[min(2, int(width))],
            f"2021-0{i % 9 + 1}-{i % 28 + 1:02d}",
            f"2021-03-{i % 28 + 1:02d} 0{i % 10}:30:15",
        ]


def is_hole(i, j):
    return (3 * i + 5 * j) % 11 == 0


HOLES = ["", "NA", " nan", "None"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table with holes, what the command made of it, and the imputer that it kept."""
    path = tmp_path_factory.mktemp("impute")
    rows = [
        [HOLES[(i + j) % 4] if is_hole(i, j) else cell for j, cell in enumerate(row)]
        for i, row in enumerate(flowers())
    ]
    with (path / "holes.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])
    done = skvae(
        "impute", "holes.csv", "-o", "full.csv", "--save-model", "m.safetensors", *KINDS, *FAST,
        cwd=path,
    )  # fmt: skip
    (path / "said").write_text(done.stderr)
    assert done.stdout == ""
    return path


def as_frame(folder):
    """The table as pandas reads it, with its dates."""
    frame = pd.read_csv(folder / "holes.csv", dtype_backend="numpy_nullable", na_values=[" nan"])
    frame["day"] = pd.to_datetime(frame["day"]).dt.date.astype(object)
    frame["seen"] = pd.to_datetime(frame["seen"]).astype("datetime64[us]")
    return frame


def test_observed_cells_are_as_they_were_and_the_others_are_filled(folder):
    given, full = (rows_of((folder / name).read_text()) for name in ("holes.csv", "full.csv"))
    assert full[0] == given[0] == HEADER
    assert len(full) == len(given) == 76
    form = [
        r"|NA| nan|None",  # free text keeps its holes, as they are written
        r"-?\d+\.\d+",
        r"-?\d+",
        "setosa|versicolor|virginica",
        "TRUE|FALSE",
        "low|mid|high",
        r"20\d\d-\d\d-\d\d",
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d",
    ]
    for i, (before, after) in enumerate(zip(given[1:], full[1:], strict=True)):
        for j, (cell, filled) in enumerate(zip(before, after, strict=True)):
            if is_hole(i, j):
                assert re.fullmatch(form[j], filled), (i, j, filled)
            else:
                assert filled == cell


def test_the_values_are_those_of_the_library(folder):
    expected = load(folder / "m.safetensors").transform(as_frame(folder))
    full = pd.read_csv(folder / "full.csv")
    known = ["petal", "species", "wide", "size"]
    assert full[known].astype(str).equals(expected[known].astype(str))
    np.testing.assert_array_equal(full["length"], expected["length"].to_numpy(float))
    assert full["day"].tolist() == expected["day"].map(str).tolist()
    seconds = expected["seen"].dt.strftime("%Y-%m-%d %H:%M:%S")
    assert full["seen"].tolist() == seconds.tolist()


def test_what_is_said(folder):
    said = (folder / "said").read_text().splitlines()
    n = [sum(is_hole(i, j) for i in range(75)) for j in range(8)]
    assert said[0] == f"75 rows of 8 columns, {sum(n)} cells are missing; taken for"
    assert said[1:7] == [
        "  real: length, petal",
        "  binary: wide",
        "  categorical: species",
        "  ordinal: size",
        "  datetime: day, seen",
        "  text (left as it is): note",
    ]
    assert "epoch 1/2" in said[-5]
    counts = ", ".join(f"{name} {k}" for name, k in zip(HEADER[1:], n[1:], strict=True))
    assert said[-4:] == [
        "saved m.safetensors",
        f"filled in: {sum(n[1:])} cells ({counts})",
        f"still missing: {n[0]} cells (note {n[0]})",
        "wrote full.csv: 75 rows",
    ]


def test_a_kept_model_fills_in_the_same_and_trains_nothing(folder):
    before = (folder / "m.safetensors").read_bytes()
    full = (folder / "full.csv").read_text()
    done = skvae("impute", "m.safetensors", "holes.csv", cwd=folder)
    assert done.stdout == full
    assert "epoch" not in done.stderr
    done = skvae("impute", "holes.csv", "--model", "m.safetensors", "-q", cwd=folder)
    assert done.stdout == full
    assert done.stderr == ""
    assert (folder / "m.safetensors").read_bytes() == before


def test_drawn_tables_are_below_each_other(folder):
    arguments = ("impute", "m.safetensors", "holes.csv", "--n-imputations", 3, "-q")
    out = skvae(*arguments, "--random-state", 4, cwd=folder).stdout
    rows = rows_of(out)
    assert rows[0] == ["imputation", *HEADER]
    assert [row[0] for row in rows[1:]] == ["1"] * 75 + ["2"] * 75 + ["3"] * 75
    drawn = load(folder / "m.safetensors").sample(as_frame(folder), 3, random_state=4)
    lengths = np.array([float(row[2]) for row in rows[1:]]).reshape(3, 75)
    np.testing.assert_array_equal(lengths, [t["length"].to_numpy(float) for t in drawn])
    species = [row[4] for row in rows[1:]]
    assert species == [name for t in drawn for name in t["species"]]
    hole = np.array([is_hole(i, 1) for i in range(75)])
    assert (lengths[0, hole] != lengths[1, hole]).all()
    assert (lengths[:, ~hole] == lengths[0, ~hole]).all()
    assert skvae(*arguments, "--random-state", 4, cwd=folder).stdout == out
    assert skvae(*arguments, "--random-state", 5, cwd=folder).stdout != out


def test_flags_for_precision_reach_a_kept_model(folder):
    arguments = ("impute", "m.safetensors", "holes.csv", "-q")
    out = skvae(*arguments, "--n-samples", 3, "--max-samples", 3, cwd=folder).stdout
    assert out != (folder / "full.csv").read_text()
    imputer = load(folder / "m.safetensors").set_params(n_samples=3, max_samples=3)
    lengths = imputer.transform(as_frame(folder))["length"].to_numpy(float)
    np.testing.assert_array_equal([float(row[1]) for row in rows_of(out)[1:]], lengths)


def test_json_counts(folder):
    done = skvae(
        "impute", "m.safetensors", "holes.csv", "--json", "-q", "-o", "json.tsv", cwd=folder
    )
    content = json.loads(done.stdout)
    n = {name: sum(is_hole(i, j) for i in range(75)) for j, name in enumerate(HEADER)}
    assert content.pop("seconds") > 0
    kinds = ["text", "real", "real", "categorical", "binary", "ordinal", "datetime", "datetime"]
    assert content == {
        "schema_version": 1,
        "output": "json.tsv",
        "n_rows": 75,
        "n_imputations": None,
        "kinds": dict(zip(HEADER, kinds, strict=True)),
        "missing": n,
        "filled": {name: k for name, k in n.items() if name != "note"},
    }
    tabs = rows_of((folder / "json.tsv").read_text(), "\t")
    assert tabs == rows_of((folder / "full.csv").read_text())


def test_json_has_the_table_where_there_is_no_file(folder):
    arguments = ("impute", "m.safetensors", "holes.csv", "--json", "--n-imputations", 2)
    content = json.loads(skvae(*arguments, "--random-state", 0, cwd=folder).stdout)
    assert content["n_imputations"] == 2
    assert content["output"] is None
    assert content["columns"] == ["imputation", *HEADER]
    assert len(content["values"]) == 150
    assert content["values"][1][:3] == [1, "seen near, path 2", 4.7]
    assert content["values"][75][:2] == [2, None]
    assert content["values"][77][4:8] == ["setosa", False, "low", "2021-05-05"]


def test_parquet_goes_in_and_out_with_its_types(folder, tmp_path):
    frame = as_frame(folder)
    frame["length"] = frame["length"].astype("Float32")
    frame.index = pd.Index([f"id{i}" for i in range(75)], name="id")
    frame.to_parquet(tmp_path / "holes.parquet")
    arguments = ("impute", folder / "m.safetensors", "holes.parquet", "-q")
    skvae(*arguments, "-o", "full.parquet", cwd=tmp_path)
    full = pd.read_parquet(tmp_path / "full.parquet", dtype_backend="numpy_nullable")
    assert full.index.equals(frame.index)
    assert full.dtypes.tolist()[:5] == ["string", "Float32", "Int64", "string", "boolean"]
    expected = load(folder / "m.safetensors").transform(frame)
    assert full["petal"].equals(expected["petal"])
    assert full["day"].tolist() == expected["day"].tolist()
    rows = rows_of(skvae(*arguments, cwd=tmp_path).stdout)
    assert rows[0] == ["id", *HEADER]
    assert rows[2][:4] == ["id1", "seen near, path 2", "4.7", str(expected["petal"].iloc[1])]
    drawn = ("--n-imputations", 2, "-o", "drawn.parquet", "--random-state", 0)
    skvae(*arguments, *drawn, cwd=tmp_path)
    stacked = pd.read_parquet(tmp_path / "drawn.parquet")
    assert stacked.columns.tolist() == ["imputation", *HEADER]
    assert stacked["imputation"].tolist() == [1] * 75 + [2] * 75


def test_text_goes_to_parquet_and_parquet_to_text(folder, tmp_path):
    arguments = ("impute", folder / "m.safetensors")
    skvae(*arguments, folder / "holes.csv", "-o", "full.parquet", "-q", cwd=tmp_path)
    full = pd.read_parquet(tmp_path / "full.parquet", dtype_backend="numpy_nullable")
    expected = load(folder / "m.safetensors").transform(as_frame(folder))
    for name in HEADER[1:]:
        assert full[name].tolist() == expected[name].tolist()
    assert full["note"].isna().sum() == sum(is_hole(i, 0) for i in range(75))
    done = skvae(*arguments, "full.parquet", "-o", "full.tsv", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["filled"] == {}
    assert done.stderr.splitlines()[-3].startswith("filled in: 0 cells")
    rows = rows_of((tmp_path / "full.tsv").read_text(), "\t")
    assert rows[0] == HEADER
    assert [row[4] for row in rows[1:]] == [str(wide) for wide in expected["wide"]]
    seen = pd.to_datetime([row[7] for row in rows[1:]])
    assert seen.tolist() == expected["seen"].tolist()


def test_a_model_reads_columns_as_those_it_was_trained_on(tmp_path):
    """Cells that look like something else, and columns in another order."""
    g = np.random.default_rng(0)
    x = g.normal(size=40)
    frame = pd.DataFrame(
        {
            "x": x,
            "code": np.where(x > 0, "1", "01"),
            "flag": x > 1,
            "n": pd.array(np.rint(10 * x), "Int64"),
        }
    )
    small = {"hidden_layer_sizes": (8,), "max_epochs": 2, "n_samples": 20, "random_state": 0}
    imputer = VAEImputer(**small).fit(frame)
    imputer.save(tmp_path / "m.safetensors")
    (tmp_path / "new.csv").write_text("code,n,x,flag\n1,,1,true\n01,4,,false\n,7,2,\n")
    done = skvae("impute", "m.safetensors", "new.csv", "-q", cwd=tmp_path)
    rows = rows_of(done.stdout)
    assert rows[0] == ["code", "n", "x", "flag"]
    new = pd.DataFrame(
        {
            "x": [1.0, None, 2.0],
            "code": ["1", "01", None],
            "flag": pd.array([True, False, None], "boolean"),
            "n": pd.array([None, 4, 7], "Int64"),
        }
    )
    expected = imputer.transform(new)
    assert float(rows[2][2]) == expected["x"][1] != np.rint(expected["x"][1])
    assert rows[1] == ["1", str(expected["n"][0]), "1", "true"]
    assert rows[3] == [expected["code"][2], "7", "2", str(expected["flag"][2]).lower()]
    (tmp_path / "new.csv").write_text("x,code,flag,n\n,1,true,\n,01,false,\n")
    rows = rows_of(skvae("impute", "m.safetensors", "new.csv", "-q", cwd=tmp_path).stdout)
    expected = imputer.transform(
        new[:2].assign(x=np.full(2, np.nan), n=pd.array([None, None], "Int64"))
    )
    assert [float(row[0]) for row in rows[1:]] == expected["x"].tolist()
    assert [row[3] for row in rows[1:]] == [str(n) for n in expected["n"]]


def test_further_marks_of_missing_cells(tmp_path):
    lines = [f"{i % 7}.5,{'ab'[i % 2]},{i % 5}" for i in range(30)]
    lines[3], lines[4] = "-999,?,-999.0", "1.5,?,2"
    (tmp_path / "x.csv").write_text("\n".join(["u,v,w", *lines]) + "\n")
    arguments = ("impute", "x.csv", "--json", *FAST, "-q")
    content = json.loads(skvae(*arguments, "--missing-values", "?", cwd=tmp_path).stdout)
    assert content["missing"] == content["filled"] == {"v": 2}
    assert content["kinds"]["v"] == "binary"
    mark = ("--missing-values", "-999", "--save-model", "m")
    content = json.loads(skvae(*arguments, *mark, cwd=tmp_path).stdout)
    assert content["missing"] == {"u": 1, "w": 1}
    assert content["kinds"] == {"u": "real", "v": "categorical", "w": "real"}
    assert isinstance(content["values"][3][2], int)
    assert load(tmp_path / "m").missing_values == -999
    again = json.loads(skvae("impute", "m", "x.csv", "--json", "-q", cwd=tmp_path).stdout)
    assert again["values"] == content["values"]
    other = ("impute", "m", "x.csv", "--missing-values", "1.5", "--json", "-q")
    assert json.loads(skvae(*other, cwd=tmp_path).stdout)["missing"] == {"u": 6}
    pd.read_csv(tmp_path / "x.csv").to_parquet(tmp_path / "x.parquet")
    other = ("impute", "m", "x.parquet", "--missing-values", "1.5", "--json", "-q")
    assert json.loads(skvae(*other, cwd=tmp_path).stdout)["missing"] == {"u": 6}


def test_kinds_of_every_form(tmp_path):
    lines = [f"0{i % 3 + 1},{i % 4},{(i % 10) / 10},{i % 6 + 1},{i % 9}" for i in range(40)]
    lines[5] = ",,,,"
    (tmp_path / "x.csv").write_text("\n".join(["zip,grade,share,p,q", *lines]) + "\n")
    declared = ("zip=categorical", "grade=ordinal:3,2,1,0", "share=bounded:0,1", "p=positive")
    flags = [part for one in (*declared, "q=ordinal") for part in ("--kind", one)]
    skvae("impute", "x.csv", "-o", "y.csv", "--save-model", "m", "-q", *flags, *FAST,
          "--likelihood", "p=log_normal", cwd=tmp_path)  # fmt: skip
    imputer = load(tmp_path / "m")
    columns = {c.name: c for c in imputer.schema_.columns}
    assert columns["zip"].levels == ("01", "02", "03")
    assert columns["grade"].levels == ("3", "2", "1", "0")
    assert (columns["share"].low, columns["share"].high) == (0.0, 1.0)
    assert columns["p"].kind == "positive"
    assert columns["q"].levels == tuple(range(9))
    assert imputer.likelihoods == {"p": "log_normal"}
    filled = rows_of((tmp_path / "y.csv").read_text())[6]
    assert filled[0] in ("01", "02", "03")
    assert filled[1] in "0123"
    assert 0 <= float(filled[2]) <= 1
    assert filled[4] in "012345678"
    frame = pd.read_csv(tmp_path / "x.csv", dtype_backend="numpy_nullable")
    frame.to_parquet(tmp_path / "x.parquet")
    skvae("impute", "x.parquet", "-o", "y.parquet", "--save-model", "n", "-q", *FAST, *flags[2:4],
          cwd=tmp_path)  # fmt: skip
    assert load(tmp_path / "n").schema_.columns[1].levels == (3, 2, 1, 0)


def test_columns_without_values_are_left_out_and_indicators_appended(tmp_path):
    lines = [f"{i % 7}.5,,{i % 5}" for i in range(30)]
    lines[2] = ",,3"
    (tmp_path / "x.csv").write_text("\n".join(["u,v,w", *lines]) + "\n")
    done = skvae("impute", "x.csv", "--add-indicator", *FAST, cwd=tmp_path)
    rows = rows_of(done.stdout)
    assert rows[0] == ["u", "w", "missingindicator_u", "missingindicator_v"]
    assert rows[3][1:] == ["3", "True", "True"]
    assert rows[4] == ["3.5", "3", "False", "True"]
    assert "skvae: Column 'v' has no value and is left out." in done.stderr
    done = skvae("impute", "x.csv", "--keep-empty-features", *FAST, cwd=tmp_path)
    assert rows_of(done.stdout)[4] == ["3.5", "", "3"]


def test_polars_does_as_well_as_pandas(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    frame = TextTable(folder / "holes.csv").frame({"day": "date", "seen": "date"})
    assert isinstance(frame, pl.DataFrame)
    kinds = [pl.String, pl.Float64, pl.Int64, pl.String, pl.Boolean, pl.String, pl.Date]
    assert frame.dtypes == [*kinds, pl.Datetime("us")]
    arguments = ("impute", folder / "holes.csv", "-o", "full.csv", "-q", *KINDS, *FAST)
    skvae(*arguments, cwd=tmp_path)
    assert (tmp_path / "full.csv").read_text() == (folder / "full.csv").read_text()
    frame.write_parquet(tmp_path / "holes.parquet")
    arguments = ("impute", folder / "m.safetensors", "holes.parquet", "-o", "full.parquet", "-q")
    skvae(*arguments, "--n-imputations", 1, "--random-state", 0, cwd=tmp_path)
    full = pl.read_parquet(tmp_path / "full.parquet")
    assert full.drop("imputation").dtypes == frame.dtypes
    assert full["imputation"].to_list() == [1] * 75
    assert full.drop("imputation", "note").null_count().sum_horizontal().item() == 0


def test_without_a_library_for_frames_the_message_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    arguments = ("impute", "m.safetensors", "holes.csv", "-o", "never.parquet")
    said = skvae(*arguments, cwd=folder, code=1).stderr
    assert "pip install 'scikit-vae[data]'" in said
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "polars", None)
    said = skvae("impute", "holes.csv", cwd=folder, code=1).stderr
    assert "'pandas'" in said
    assert "pip install pandas\n" in said
    assert not (folder / "never.parquet").exists()


def test_info_describes_an_imputer(folder):
    content = json.loads(skvae("info", "m.safetensors", "--json", cwd=folder).stdout)
    assert content["estimator"] == "VAEImputer"
    assert content["kinds"]["size"] == "ordinal"
    assert content["n_epochs"] == [2]
    assert content["history"][0]["epoch"] == 2
    assert content["missing_values"] is None
    assert content["parameters"]["max_epochs"] == 2
    assert "kinds: {'note': 'text'" in skvae("info", "m.safetensors", cwd=folder).stdout


def test_parameters_of_the_imputer_are_flags_with_help():
    out = " ".join(skvae("impute", "--help").stdout.replace("│", " ").split())
    untyped = {"kinds", "likelihoods", "model"}  # of the last, the flag is a file
    for name in VAEImputer().get_params().keys() - untyped:
        assert f"--{name.replace('_', '-')}" in out
    assert "Draws per row to begin with." in out
    assert "Peak learning rate of Adam." in out


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.csv",), 6, "There is no data file 'none.csv'."),
        (("m.safetensors",), 3, "m.safetensors: cannot read this format as a table"),
        (("holes.csv", "-o", "x.npy"), 3, "x.npy: cannot write this format as a table"),
        (("holes.csv", "-o", "full.csv"), 6, "full.csv exists. Pass --force"),
        (("holes.csv", "--save-model", "m.safetensors"), 6, "m.safetensors exists. Pass --force"),
        (("none", "holes.csv"), 6, "no model file 'none'"),
        (("holes.csv", "holes.csv"), 5, "cannot be loaded"),
        (("m.safetensors", "holes.csv", "--model", "m.safetensors"), 2, "There are two models"),
        (("twice.csv",), 3, "twice.csv: columns with the same name: 'a'."),
        (("ragged.csv",), 3, "ragged.csv, line 4: 1 cells, expected 2."),
        (("numbers.csv",), 3, "must hold the names of the columns"),
        (("empty.csv",), 3, "empty.csv is empty."),
        (("header.csv",), 3, "The table has 0 rows and 2 columns."),
        (("bytes.csv",), 3, "bytes.csv is not readable as text"),
        (("bytes.parquet",), 3, "bytes.parquet is not a readable Parquet file"),
        (("m.safetensors", "fewer.csv"), 3, "missing: 'note', 'length'"),
        (("m.safetensors", "odd.csv"), 3, "odd.csv, line 2, column 'length': 'long' is not a num"),
        (("holes.csv", "--kind", "length=kount"), 2, "Did you mean 'count'?"),
        (("holes.csv", "--kind", "lenght=count"), 2, "Did you mean 'length'?"),
        (("holes.csv", "--kind", "length"), 2, "--kind must be NAME=KIND"),
        (("holes.csv", "--kind", "petal=bounded:0,top"), 2, "needs two finite bounds"),
        (("holes.csv", "--kind", "petal=datetime"), 3, "is not an ISO date"),
        (("holes.csv", "--kind", "species=count"), 3, "line 2, column 'species': 'setosa' is not"),
        (("holes.csv", "--likelihood", "real"), 2, "--likelihood must be NAME=LIKELIHOOD"),
        (("holes.csv", "--n-imputations", "0"), 2, "--n-imputations must be an integer >= 1"),
        (("numbered.csv", "--n-imputations", "2"), 3, "has a column 'imputation'"),
        (("holes.csv", "--n-draws", "2"), 2, "does not take --n-draws"),
        (("holes.csv", "--divide-by", "2"), 2, "does not take --divide-by"),
        (("holes.csv", "--hide", "2"), 2, "'hide' parameter of VAEImputer"),
        (("m.safetensors", "holes.csv", "--n-samples", "0"), 2, "'n_samples' parameter"),
        (
            ("m.safetensors", "holes.csv", "--max-epochs", "2", "--kind", "a=text"),
            2,
            "m.safetensors holds a trained VAEImputer, which does not take --kind, --max-epochs.",
        ),
        (("array.safetensors", "holes.csv"), 2, "trained on an array"),
    ],
)
def test_errors_have_codes_and_one_clear_message(folder, arguments, code, message):
    (folder / "twice.csv").write_text("a,b,a\n1,2,3\n")
    (folder / "ragged.csv").write_text('a,b\n1,"2\n2"\n1\n')
    (folder / "numbers.csv").write_text("1,2.5\n3,4\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("a,b\n")
    (folder / "bytes.csv").write_bytes(b"a,b\n\xff,1\n")
    (folder / "bytes.parquet").write_bytes(b"a,b\n\xff,1\n")
    (folder / "fewer.csv").write_text(",".join(HEADER[2:]) + "\n" + ",".join("1" * 6) + "\n")
    (folder / "odd.csv").write_text(",".join(HEADER) + "\n" + "x,long,1,,,,,\n")
    (folder / "numbered.csv").write_text("imputation,b\n1,2\n1,3\n")
    if arguments[0] == "array.safetensors":
        small = VAEImputer(hidden_layer_sizes=(4,), max_epochs=1, random_state=0)
        small.fit(np.eye(12, 8)).save(folder / "array.safetensors", overwrite=True)
    before = sorted(p.name for p in folder.iterdir())
    done = skvae("impute", *arguments, "-q", cwd=folder, code=code)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in folder.iterdir()) == before


def test_a_column_without_a_name_is_shown_as_such(tmp_path):
    (tmp_path / "x.csv").write_text(",a\n" + "".join(f"{i},{i % 3}\n" for i in range(101)))
    said = skvae("impute", "x.csv", *FAST, cwd=tmp_path).stderr
    assert "  text (left as it is): ''\n" in said


def test_long_lists_of_columns_are_cut(tmp_path):
    names = [f"c{j}" for j in range(14)]
    lines = [",".join(str((i + j) % 7 / 2) for j in range(14)) for i in range(20)]
    lines[3] = "," * 13
    (tmp_path / "x.csv").write_text("\n".join([",".join(names), *lines]) + "\n")
    said = skvae("impute", "x.csv", *FAST, cwd=tmp_path).stderr
    assert f"  real: {', '.join(names[:12])} and 2 more\n" in said
    counts = ", ".join(f"{name} 1" for name in names[:12])
    assert f"filled in: 14 cells ({counts} and 2 more)\n" in said


def test_force_replaces(folder, tmp_path):
    target = tmp_path / "full.csv"
    target.write_text("old")
    arguments = ("impute", folder / "m.safetensors", folder / "holes.csv", "-o", target, "-q")
    assert "Pass --force" in skvae(*arguments, code=6).stderr
    assert target.read_text() == "old"
    skvae(*arguments, "--force")
    assert target.read_text() == (folder / "full.csv").read_text()


def test_a_vae_takes_no_flags_of_tables(tmp_path):
    from skvae import VAE

    X = np.random.default_rng(0).normal(size=(30, 2))
    vae = VAE(n_components=1, hidden_layer_sizes=(4,), max_epochs=1, random_state=0).fit(X)
    vae.save(tmp_path / "vae")
    (tmp_path / "x.csv").write_text("0.5,\n,1.5\n")
    done = skvae("impute", "vae", "x.csv", "--kind", "a=text", "--hide", "0", cwd=tmp_path, code=2)
    assert "vae holds a VAE, which does not take --hide, --kind." in done.stderr
    done = skvae("impute", "x.csv", "--model", "vae", "--n-draws", 2, "--divide-by", 2,
                 "--random-state", 3, "--n-samples", 9, "--json", "-q", cwd=tmp_path)  # fmt: skip
    half = np.array([[0.25, np.nan], [np.nan, 0.75]], np.float32)
    expected = vae.impute(half, n_draws=2, n_samples=9, random_state=3)
    np.testing.assert_allclose(json.loads(done.stdout)["values"], expected, rtol=1e-6)


# -- reading --------------------------------------------------------------------------------------


def written(tmp_path, text, name="x.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return TextTable(tmp_path / name)


def test_columns_are_read_as_the_narrowest_type_that_all_cells_allow(tmp_path):
    table = written(
        tmp_path,
        "\ufeffi,f,b,t,u,big\n"
        " 7,1e3,True,1_0, x,9223372036854775807\n"
        "-08,2,false,5,NA ,9223372036854775808\n"
        "\n"
        ",,,,y,\n",
    )
    frame = table.frame({})
    assert frame.dtypes.astype(str).tolist() == [
        "Int64", "Float64", "boolean", "string", "string", "Float64",
    ]  # fmt: skip
    assert frame["i"].tolist() == [7, -8, pd.NA]
    assert frame["f"].tolist() == [1000.0, 2.0, pd.NA]
    assert frame["b"].tolist() == [True, False, pd.NA]
    assert frame["t"].tolist() == ["1_0", "5", pd.NA]
    assert frame["u"].tolist() == [" x", pd.NA, "y"]
    assert frame["big"].tolist() == [float(2**63 - 1), float(2**63), pd.NA]
    limit = written(tmp_path, "i\n9223372036854775807\n-9223372036854775807\n").frame({})
    assert limit["i"].tolist() == [2**63 - 1, 1 - 2**63]


def test_what_is_missing_is_what_pandas_takes_for_it(tmp_path):
    marks = sorted(_frames.MISSING - {"", "NAN"})
    (tmp_path / "x.csv").write_text("\n".join(["a,b", *(f"{mark},1" for mark in marks)]) + "\n")
    assert pd.read_csv(tmp_path / "x.csv")["a"].isna().all()
    assert TextTable(tmp_path / "x.csv").frame({})["a"].isna().all()
    from pandas._libs.parsers import STR_NA_VALUES

    assert _frames.MISSING - {"NAN"} == STR_NA_VALUES


def test_a_single_column_has_its_empty_lines(tmp_path):
    table = written(tmp_path, "a\n1\n\n3\n")
    frame = table.frame({})
    assert frame["a"].tolist() == [1, pd.NA, 3]
    frame["a"] = frame["a"].fillna(2)
    header, rows = table.rows(frame, {"a": np.array([False, True, False])})
    assert (header, list(rows)) == (["a"], [("1",), ("2",), ("3",)])


def test_times_with_zones_are_written_in_utc(tmp_path):
    table = written(tmp_path, "t,d\n2020-01-01T01:00:00+02:00,20200102\n,\n")
    frame = table.frame({"t": "date", "d": "date"})
    assert str(frame["t"].dtype) == "datetime64[us, UTC]"
    assert frame["t"][0] == pd.Timestamp("2019-12-31 23:00", tz="UTC")
    frame.loc[1, "t"], frame.loc[1, "d"] = frame["t"][0], frame["d"][0]
    hole = np.array([False, True])
    _, rows = table.rows(frame, {"t": hole, "d": hole})
    assert list(rows) == [
        ("2020-01-01T01:00:00+02:00", "20200102"),
        ("2019-12-31T23:00:00+00:00", "2020-01-02"),
    ]
    table = written(tmp_path, "t,u\n2020-01-01T01:00:00+02:00,1\n2020-01-01T01:00,1\n")
    with pytest.raises(DataError, match="with and without a time zone"):
        table.frame({"t": "date"})


def test_cells_with_delimiters_and_quotes_survive(tmp_path):
    text = 'a;b\tc\n"x ""y""\nz"\t1\n"p\tq"\t2\n'
    table = written(tmp_path, text, "x.tsv")
    frame = table.frame({})
    assert frame["a;b"].tolist() == ['x "y"\nz', "p\tq"]
    out = io.StringIO()
    holes = {name: np.zeros(2, bool) for name in frame}
    _frames.write_text(out, table, [frame], holes, delimiter="\t")
    assert out.getvalue() == text


def test_a_missing_package_of_no_extra_is_installed_by_its_name():
    assert str(MissingExtraError("pandas")).endswith("Install it with: pip install pandas")
    assert str(MissingExtraError("pooch", "data")).endswith("pip install 'scikit-vae[data]'")
