"""``skvae plot``, run as a user runs it, and the page of pictures."""

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.image import imread

from skvae import VAE, VAEImputer, datasets, plot, plot_command
from test_cli import skvae

DOCS = Path(__file__).parents[1] / "docs"
SMALL = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("plot")
    data = datasets.load_digits()
    X = (data.X_train / np.float32(16)).reshape(-1, 1, 8, 8)[:200]
    VAE(2, likelihood="bernoulli", **SMALL).fit(X).save(path / "digits.safetensors")
    g = np.random.default_rng(0)
    table = pd.DataFrame(g.normal(size=(60, 3)), columns=["a", "b", "c"])
    table["kind"] = np.arange(60) % 3 + 5
    table.to_csv(path / "table.csv", index=False)
    rows = table.drop(columns="kind")
    rows.to_csv(path / "rows.csv", index=False)
    VAE(3, **SMALL).fit(rows).save(path / "table.safetensors")
    VAE(2, **SMALL).fit(table).save(path / "whole.safetensors")
    words = ["tree", "three", "tea", "street", "rest", "seat"] * 4
    (path / "words.txt").write_text("\n".join(words) + "\n")
    VAE(2, **SMALL).fit(words).save(path / "words.safetensors")
    holes = rows.mask(g.random(rows.shape) < 0.2)
    VAEImputer(**SMALL).fit(holes).save(path / "imputer.safetensors")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ("map", "digits.safetensors", "digits:test"),
        ("map", "digits.safetensors", "digits:test", "--thumbnails", 5),
        ("map", "table.safetensors", "rows.csv", "--dimensions", 3, 1),
        ("map", "words.safetensors", "words.txt"),
        ("samples", "digits.safetensors"),
        ("samples", "digits.safetensors", "digits:test", "-n", 3),
        ("samples", "table.safetensors", "rows.csv"),
        ("samples", "words.safetensors", "words.txt"),
        ("reconstructions", "digits.safetensors", "digits:test"),
        ("reconstructions", "table.safetensors", "rows.csv", "-n", 4),
        ("reconstructions", "words.safetensors", "words.txt"),
        ("manifold", "digits.safetensors", "-n", 4),
        ("manifold", "whole.safetensors"),
        ("traversals", "digits.safetensors", "digits:test", "--row", 3),
        ("traversals", "table.safetensors", "-n", 2),
        ("interpolation", "digits.safetensors", "digits:test", "--ends", 0, 5, "-n", 4),
        ("training", "digits.safetensors"),
        ("training", "imputer.safetensors"),
    ],
)
def test_every_picture_is_written(folder, arguments):
    done = skvae("plot", *arguments, "-o", "out.png", "--dpi", 40, "--force", cwd=folder)
    picture = imread(folder / "out.png")
    assert picture.ndim == 3
    assert (picture[..., :3].min(-1) < 0.8).mean() > 1e-3
    assert "wrote out.png" in done.stderr
    assert not done.stdout
    assert not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("ending", "start"), [(".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_the_ending_says_the_format_and_the_bytes_repeat(folder, ending, start):
    command = ("plot", "samples", "digits.safetensors", "-n", 2, "--random-state", 0, "-o")
    found = []
    for name in ("one", "two"):
        done = skvae(*command, name + ending, "--json", "-q", cwd=folder)
        found.append((folder / (name + ending)).read_bytes())
        said = json.loads(done.stdout)
        assert said["output"] == name + ending
        assert said["bytes"] == len(found[-1])
    assert found[0].startswith(start)
    assert found[0] == found[1]


def made(monkeypatch, display):
    """Return what from_estimator of a display was given."""
    given = {}
    real = getattr(plot, display).from_estimator

    def spy(*arguments, **more):
        given.update(arguments=arguments, **more)
        return real(*arguments, **more)

    monkeypatch.setattr(getattr(plot_command.pictures, display), "from_estimator", spy)
    return given


def test_points_have_the_colours_of_their_classes(folder, monkeypatch):
    given = made(monkeypatch, "LatentMapDisplay")
    draw = ("plot", "map", "-o", "colours.png", "--force", "--dpi", 30)
    skvae(*draw, "digits.safetensors", "digits:test", cwd=folder)
    assert np.array_equal(given["arguments"][2], datasets.load_digits().y_test)
    table = pd.read_csv(folder / "table.csv")
    # The column is not for a model that did not see it, and stays for one that did.
    for model, columns in (("table", ["a", "b", "c"]), ("whole", ["a", "b", "c", "kind"])):
        skvae(*draw, f"{model}.safetensors", "table.csv", "--target", "kind", cwd=folder)
        _, rows, y = given["arguments"]
        assert list(rows.columns) == columns
        assert np.array_equal(y, table["kind"])


def test_flags_reach_the_displays(folder, monkeypatch):
    given = made(monkeypatch, "LatentMapDisplay")
    draw = ("-o", "flags.png", "--force", "--dpi", 30)
    skvae("plot", "map", "table.safetensors", "rows.csv", "--dimensions", 3, 1, *draw, cwd=folder)
    assert given["dimensions"] == (2, 0)  # people count from 1, as the axes do
    given = made(monkeypatch, "SamplesDisplay")
    skvae("plot", "samples", "table.safetensors", "-n", 5, "--random-state", 7, *draw, cwd=folder)
    assert (given["n_samples"], given["random_state"]) == (5, 7)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("map", "digits.safetensors", "digits", "-o", "new.gif"), 2, "as .png, .svg, .pdf"),
        (("map", "digits.safetensors", "-o", "new.png"), 2, "map needs rows: skvae plot map"),
        (("manifold", "digits.safetensors", "digits", "-o", "new.png"), 2, "leave digits out"),
        (("manifold", "table.safetensors", "-o", "new.png"), 2, "Fit with n_components=2"),
        (("samples", "digits.safetensors", "--row", 1, "-o", "new.png"), 2, "for traversals, not"),
        (("samples", "digits.safetensors", "-n", 0, "-o", "new.png"), 2, "at least 1"),
        (("samples", "digits.safetensors", "--dpi", 0, "-o", "new.png"), 2, "from 10 to 2400"),
        (("samples", "imputer.safetensors", "-o", "new.png"), 2, "which a VAEImputer does not"),
        (("map", "table.safetensors", "table.csv", "-o", "new.png"), 3, "was fitted with a, b, c"),
        (
            ("map", "table.safetensors", "table.csv", "--target", "sort", "-o", "new.png"),
            2,
            "the columns of table.csv are a, b, c, kind",
        ),
        (("samples", "digits.safetensors", "-o", "table.csv.png/new.png"), 6, "does not exist"),
        (("samples", "rows.csv", "-o", "new.png"), 5, "rows.csv"),
        (("clock", "digits.safetensors", "-o", "new.png"), 2, "clock"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, arguments, code, message):
    done = skvae("plot", *arguments, cwd=folder, code=code)
    assert message in " ".join(done.stderr.split())
    assert not list(folder.glob("new*"))


def test_nothing_is_overwritten_without_force(folder):
    (folder / "kept.png").write_text("mine")
    done = skvae("plot", "training", "digits.safetensors", "-o", "kept.png", cwd=folder, code=6)
    assert "Pass --force" in done.stderr
    assert (folder / "kept.png").read_text() == "mine"


def test_help_imports_neither_torch_nor_matplotlib():
    code = (
        "import sys; from skvae.cli import main\n"
        "try: main(['plot', '--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "bad = {'torch', 'matplotlib'} & set(sys.modules); assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Usage: skvae plot" in done.stdout


# -- the page -------------------------------------------------------------------------------


def test_the_code_of_the_page_draws_its_pictures(tmp_path, monkeypatch):
    page = (DOCS / "pictures.md").read_text("utf-8")
    shown = re.findall(r"\]\(pictures/(.*?)\)", page)
    # Trained for moments, on digits that every machine has.
    quick = re.sub(r"max_epochs=\d+", "max_epochs=1", page).replace('"mnist"', '"digits"')
    monkeypatch.chdir(DOCS.parent)
    draw = runpy.run_path(str(DOCS / "make_pictures.py"))["draw"]
    assert draw(quick, tmp_path) == shown
    for name in shown:
        assert imread(tmp_path / name).ndim == 3
        assert (DOCS / "pictures" / name).stat().st_size < 150_000


def test_the_commands_of_the_page_run(tmp_path):
    page = (DOCS / "pictures.md").read_text("utf-8")
    (block,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    for line in block.splitlines():
        quick = ("--max-epochs", "1") if " fit " in line else ()
        skvae(*shlex.split(line)[1:], *quick, cwd=tmp_path)
    assert len(list(tmp_path.iterdir())) == len(block.splitlines())
