"""What the documents say is run: code, commands, examples, and the figures they quote."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh-CN.md")


def blocks(name, language):
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / name).read_text("utf-8"), re.DOTALL)


def without_comments(code):
    return [re.sub(r"\s*#.*", "", line).rstrip() for line in code.splitlines() if line.strip()]


def run(command, cwd):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    code = blocks("README.md", "python")
    assert len(code) == 4
    for block in code:
        exec(compile(block, "README.md", "exec"), names)
    assert names["Z"].shape == (360, 8)
    assert names["new"].shape == (100, 64)
    assert names["full"].shape == names["X_test"].shape
    assert names["draws"].shape == (5, 360, 64)
    assert len(names["new_words"]) == 3
    assert len(names["between"]) == 4
    assert not names["complete"].isna().any(axis=None)
    assert len(names["tables"]) == 5
    assert 12.8 < names["pooled"].estimate < 13.2
    assert names["accuracy"] > 0.7
    assert "standard_error" in capsys.readouterr().out


def test_commands_of_the_readme_run(tmp_path):
    lines = [line for block in blocks("README.md", "bash") for line in without_comments(block)]
    commands = [shlex.split(line) for line in lines if line.startswith("skvae")]
    assert {c[1] for c in commands} == {"fit", "info", "transform", "sample", "impute", "score"}
    for command in commands:
        run(command, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "model.safetensors", "latent.csv", "new.csv", "full.csv",
    }  # fmt: skip


def test_make_has_the_targets_of_the_readme():
    lines = [line for block in blocks("README.md", "bash") for line in without_comments(block)]
    targets = {line.split()[1] for line in lines if line.startswith("make")}
    assert targets == {"demo", "test"}
    makefile = (ROOT / "Makefile").read_text()
    for target in (*targets, "check", "bench"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    assert re.search(r"^make check\nmake test$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def test_the_chinese_page_has_the_same_code_links_and_figures():
    english, chinese = ((ROOT / name).read_text("utf-8") for name in READMES)
    for language in ("python", "bash"):
        pairs = zip(*(blocks(name, language) for name in READMES), strict=True)
        assert all(without_comments(a) == without_comments(b) for a, b in pairs)
    targets = [re.findall(r"\]\((?!README)([^)]+)\)", text) for text in (english, chinese)]
    assert targets[0] == targets[1]
    figures = [re.findall(r"\d+\.\d+", text) for text in (english, chinese)]
    assert figures[0] == figures[1]


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md", "docs/design.md"])
def test_links_lead_somewhere(name):
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_quoted_figures_are_the_measured_ones():
    """The table of the README is that of docs/benchmarks.md, letter by letter."""
    readme = (ROOT / "README.md").read_text("utf-8")
    table = re.search(r"\| \| value \|\n\|---\|---\|\n(.*?)\n\n", readme, re.DOTALL)
    assert table
    assert table.group(0) in (ROOT / "docs" / "benchmarks.md").read_text("utf-8")


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.name)
def test_examples_run(script, tmp_path):
    assert run([sys.executable, "-W", "error", str(script)], tmp_path)


def test_the_list_of_parts_is_up_to_date():
    import runpy

    page = runpy.run_path(str(ROOT / "docs" / "make_parts.py"))["page"]()
    written = (ROOT / "docs" / "parts.md").read_text("utf-8")
    assert written == page, "run: python docs/make_parts.py"


def test_versions_and_changelog():
    import skvae

    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", skvae.__version__)
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert "## Unreleased" in changelog or f"## {skvae.__version__}" in changelog
