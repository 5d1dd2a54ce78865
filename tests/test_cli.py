"""The command line, run as a user runs it."""

import contextlib
import csv
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from skvae import VAE, _options, cli, load

FAST = ("--max-epochs", "2", "--hidden-layer-sizes", "8", "--random-state", "0", "--quiet")


@dataclass
class Done:
    stdout: str
    stderr: str


def skvae(*arguments, cwd=".", code=0):
    """Run a command in this process, which saves the import of torch each time."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        got = cli._run([str(a) for a in arguments])
    assert got == code, err.getvalue()
    return Done(out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A table, the same with holes, and a model fitted by the command line."""
    path = tmp_path_factory.mktemp("cli")
    g = np.random.default_rng(0)
    X = g.normal(size=(60, 2)) @ g.normal(size=(2, 3))
    lines = ["a,b,c", *(",".join(map(str, row)) for row in X)]
    (path / "table.csv").write_text("\n".join(lines) + "\n")
    holes = [line.split(",") for line in lines]
    holes[1][0] = holes[5][2] = ""
    (path / "holes.csv").write_text("\n".join(",".join(row) for row in holes) + "\n")
    holes[1][0] = "inf"
    (path / "infinite.csv").write_text("\n".join(",".join(row) for row in holes) + "\n")
    skvae("fit", "table.csv", "-o", "model.safetensors", "--n-components", 2, *FAST, cwd=path)
    return path


def table(text):
    rows = list(csv.reader(io.StringIO(text)))
    return rows[0], np.array([[float(c) if c else np.nan for c in row] for row in rows[1:]])


# -- help -----------------------------------------------------------------------------------------


def test_help_is_fast_and_imports_no_torch():
    code = (
        "import sys; from skvae.cli import main\n"
        "try: main([{}])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "bad = {{'torch'{}}} & set(sys.modules); assert not bad, bad"
    )
    every = (("'--help'", ", 'sklearn', 'numpy'"), ("'fit', '-h'", ""), ("'impute', '-h'", ""))
    for argument, also in every:
        done = subprocess.run(
            [sys.executable, "-c", code.format(argument, also)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Usage: skvae" in done.stdout


def test_help_leads_with_examples_and_lists_all_commands():
    out = skvae("--help").stdout
    assert out.index("Examples") < out.index("Usage")
    for name in cli.COMMANDS:
        assert name in out
    assert skvae().stdout == out
    assert skvae("--version").stdout.strip() == __import__("skvae").__version__


def test_every_estimator_parameter_is_a_flag_with_help():
    out = " ".join(skvae("fit", "--help").stdout.split())
    for name in VAE().get_params():
        assert f"--{name.replace('_', '-')}" in out
    assert "Number of latent dimensions." in out
    helps = _options.parameter_docs(VAE)
    assert set(helps) == set(VAE().get_params())
    assert all(len(text) > 8 for text in helps.values())


def test_the_installed_command_and_the_module_are_the_same(tmp_path):
    for command in ([f"{Path(sys.executable).parent}/skvae"], [sys.executable, "-m", "skvae"]):
        done = subprocess.run(
            [*command, "info", "nothing"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 6
        assert done.stderr == "skvae: There is no model file 'nothing'.\n"


# -- the commands ---------------------------------------------------------------------------------


def test_flags_reach_the_estimator(folder):
    target = folder / "flags.safetensors"
    skvae(
        "fit", folder / "table.csv", "-o", target, "--n-components", 1, "--hidden-layer-sizes", 5,
        4, "--max-epochs", 1, "--no-early-stopping", "--likelihood", "mse", "--random-state", 3,
        "--batch-size", 10, "--learning-rate", 0.01, "--event-shape", 3, "-q",
    )  # fmt: skip
    expected = {
        "n_components": 1,
        "hidden_layer_sizes": (5, 4),
        "max_epochs": 1,
        "early_stopping": False,
        "likelihood": "mse",
        "random_state": 3,
        "batch_size": 10,
        "learning_rate": 0.01,
        "event_shape": (3,),
    }
    parameters = load(target).get_params()
    assert {k: parameters[k] for k in expected} == expected


def test_fit_says_what_it_wrote_and_what_comes_next(folder):
    done = skvae("fit", "table.csv", "-o", "m2.safetensors", *FAST[:-1], cwd=folder)
    assert done.stdout == ""
    assert "saved m2.safetensors" in done.stderr
    assert "next: skvae transform m2.safetensors table.csv" in done.stderr
    done = skvae("fit", "table.csv", "-o", "m3.safetensors", *FAST, "--json", cwd=folder)
    content = json.loads(done.stdout)
    assert content["schema_version"] == 1
    assert content["n_epochs"] == 2
    assert content["likelihood"]["name"] == "gaussian"
    assert done.stderr == ""


def test_transform_equals_the_library(folder):
    names, Z = table(skvae("transform", "model.safetensors", "table.csv", cwd=folder).stdout)
    assert names == ["vae0", "vae1"]
    assert np.array_equal(Z, load(folder / "model.safetensors").transform(folder / "table.csv"))
    skvae("transform", "model.safetensors", "table.csv", "-o", "z.npy", cwd=folder)
    assert np.array_equal(np.load(folder / "z.npy"), Z)
    content = json.loads(
        skvae("transform", "model.safetensors", "table.csv", "--json", cwd=folder).stdout
    )
    assert np.array_equal(content["values"], Z)


def test_sample(folder):
    arguments = ("sample", "model.safetensors", "-n", 4, "--random-state", 1)
    names, X = table(skvae(*arguments, cwd=folder).stdout)
    assert names == ["a", "b", "c"]
    assert np.array_equal(X, load(folder / "model.safetensors").sample(4, random_state=1))
    assert not np.array_equal(table(skvae(*arguments, "--kind", "mean", cwd=folder).stdout)[1], X)


def test_impute_keeps_what_was_there(folder):
    names, full = table(skvae("impute", "model.safetensors", "holes.csv", cwd=folder).stdout)
    _, holes = table((folder / "holes.csv").read_text())
    assert names == ["a", "b", "c"]
    assert np.isfinite(full).all()
    assert np.array_equal(full[~np.isnan(holes)], holes[~np.isnan(holes)])
    skvae(
        "impute", "model.safetensors", "holes.csv", "--n-draws", 3, "-o", "draws.npy", "-q",
        cwd=folder,
    )  # fmt: skip
    assert np.load(folder / "draws.npy").shape == (3, 60, 3)


def test_score(folder):
    content = json.loads(
        skvae(
            "score", "model.safetensors", "table.csv", "--json", "-o", "s.csv", cwd=folder
        ).stdout
    )
    _, rows = table((folder / "s.csv").read_text())
    assert content["log_likelihood"] == pytest.approx(rows.mean())
    assert content["n_rows"] == 60
    text = skvae("score", "model.safetensors", "table.csv", cwd=folder).stdout
    assert f"{content['log_likelihood']:.4f}" in text
    assert "nats per row" in text


def test_info(folder):
    content = json.loads(skvae("info", "model.safetensors", "--json", cwd=folder).stdout)
    assert content["estimator"] == "VAE"
    assert content["feature_names"] == ["a", "b", "c"]
    assert content["parameters"]["n_components"] == 2
    assert "n_components: 2" in skvae("info", "model.safetensors", cwd=folder).stdout


def test_named_data_and_images(folder):
    skvae("fit", "digits", "-o", "d.safetensors", "--likelihood", "bce", *FAST, cwd=folder)
    vae = load(folder / "d.safetensors")
    assert vae.event_shape_ == (1, 8, 8)
    _, Z = table(skvae("transform", "d.safetensors", "digits:test", "-q", cwd=folder).stdout)
    assert Z.shape == (360, 10)
    np.save(folder / "bytes.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8))
    arguments = ("fit", "bytes.npy", "-o", "b.safetensors", "--likelihood", "bernoulli", *FAST)
    assert "--divide-by" in skvae("fit", "--help").stdout
    assert "Divide by 25" in skvae(*arguments, cwd=folder, code=3).stderr
    skvae(*arguments, "--divide-by", 255, cwd=folder)
    assert load(folder / "b.safetensors").event_shape_ == (4, 4)


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("fti",), 2, 'Did you mean "fit"'),
        (("fit", "table.csv"), 2, "output"),
        (("fit", "table.csv", "-o", "x", "--n-component", "3"), 2, "--n-components"),
        (("fit", "table.csv", "-o", "x", "--n-components", "0"), 2, "Got 0"),
        (("fit", "table.csv", "-o", "x", "--n-components", "three"), 2, "three"),
        (("fit", "table.csv", "-o", "x", "--likelihood", "gausian"), 2, "Did you mean 'gaussian'"),
        (("fit", "digits:all", "-o", "x"), 2, "digits:train and digits:test"),
        (("fit", "infinite.csv", "-o", "x", "-q"), 3, "row 0, column 'a'"),
        (("fit", "table.xlsx", "-o", "x"), 6, "no data file"),
        (("fit", "nonsense", "-o", "x"), 6, "digits, mnist, fashion-mnist"),
        (("fit", "table.csv", "-o", "model.safetensors"), 6, "--force"),
        (("fit", "table.csv", "-o", "no/model"), 6, "directory no does not exist"),
        (("transform", "table.csv", "table.csv"), 5, "cannot be loaded"),
        (("transform", "none", "table.csv"), 6, "no model file 'none'"),
        (("transform", "model.safetensors", "two.csv"), 3, "fitted with a, b, c"),
        (("sample", "model.safetensors", "-n", "-1"), 2, "n_samples"),
        (("sample", "model.safetensors", "-o", "x.xlsx"), 3, "cannot write this format"),
    ],
)
def test_errors_have_codes_and_one_clear_message(folder, arguments, code, message):
    (folder / "two.csv").write_text("a,b\n1,2\n")
    before = sorted(p.name for p in folder.iterdir())
    done = skvae(*arguments, cwd=folder, code=code)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(p.name for p in folder.iterdir()) == before


def test_errors_as_json_and_with_traceback(folder):
    done = skvae("transform", "none", "table.csv", "--json", cwd=folder, code=6)
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "FileNotFoundError"
    assert error["exit_code"] == 6
    done = skvae("transform", "--json", "--nonsense", cwd=folder, code=2)
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    done = skvae("transform", "none", "table.csv", "--debug", cwd=folder, code=6)
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (cli.TrainingDivergedError("x"), 4),
        (MemoryError(), 6),
        (ZeroDivisionError("x"), 1),
        (cli.MissingExtraError("matplotlib", "plot"), 1),
    ],
)
def test_codes_that_are_hard_to_provoke(error, code, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(cli, "app", fail)
    assert cli._run(["info"]) == code
    assert capsys.readouterr().err.startswith("skvae: ")


def test_a_closed_pipe_is_no_error(folder):
    command = f"{sys.executable} -m skvae sample model.safetensors -n 20000 | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a,b,c\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_signals(tmp_path, number, code):
    """SIGTERM ends with 143 and no file; Ctrl-C keeps the model that training has reached."""
    process = subprocess.Popen(
        [sys.executable, "-m", "skvae", "fit", "digits", "-o", "m", "--max-epochs", "100000",
         "--no-early-stopping", "--hidden-layer-sizes", "8"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert "training on 1437 rows" in process.stderr.readline()
    assert "epoch 1/" in process.stderr.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert [p.name for p in tmp_path.iterdir()] == (["m"] if code == 0 else [])
    assert "Traceback" not in err
    if code == 0:
        assert load(tmp_path / "m").n_iter_ < 100000
