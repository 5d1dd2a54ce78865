"""Missing cells of real tables, filled in by scikit-vae and by its peers.

    python -m pip install --no-deps -r benchmarks/requirements-imputation.txt
    python -m benchmarks.imputation [--tables breast,...] [--methods mean,...] [--quick]
                                    [--settings mcar:0.3,mcar:0.5] [--seeds 3]
    python -m benchmarks.imputation --report
    python -m benchmarks.imputation --anchors a1,a2,a3
    python -m benchmarks.imputation --rubin --replicates 20

Sixteen complete tables, listed in `tables` before any result was seen, at most 1,000 rows for
training and 500 for the test. In both parts, cells are hidden completely at random (10, 30,
50 %), at random given other columns (30 %) and, as a stress test, by their own value (30 %).
Errors are over the hidden cells, in standard deviations of the complete training columns. The
same masks go to all methods. ``in`` scores the rows that were trained on, ``out`` new ones, which
no method fits itself to again. Intervals of peers are the least and the greatest of 19 draws.

A finished cell is one line of ``benchmarks/results/imputation.jsonl`` and is not computed again;
failures and timeouts are lines too. ``hyperimpute`` is a method for those who have it installed.
"""

import argparse
import sys
import time

from benchmarks.imputation import anchors, cells, peers, report, rubin, tables
from benchmarks.imputation.kept import FOLDER, Kept

SETTINGS = (("mcar", 0.3), ("mcar", 0.5), ("mar", 0.3), ("mcar", 0.1), ("mnar", 0.3))
QUICK_TABLES = ("breast", "german", "wine_red")


def chosen(parser, text, known, what):
    """Return the names in `text`, all of them known."""
    names = text.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"unknown {what} {sorted(unknown)}; known: {', '.join(known)}")
    return names


def compare(options, names, methods):
    """Compute the cells that are missing, the first seed of all before the next."""
    kept = Kept(None if options.quick else FOLDER / "imputation.jsonl", cells.KEYS)
    known = {f"{mechanism}:{rate}": (mechanism, rate) for mechanism, rate in SETTINGS}
    settings = [known[one] for one in options.settings]
    seeds, settings = (1, settings[:1]) if options.quick else (options.seeds, settings)
    for seed in range(seeds):
        for mechanism, rate in settings:
            for table in names:
                for method in methods:
                    cell = {"table": table, "mechanism": mechanism, "rate": rate}
                    cell |= {"seed": seed, "method": method}
                    if {**cell, "sample": "in"} in kept and {**cell, "sample": "out"} in kept:
                        continue
                    start = time.perf_counter()
                    for record in cells.run(cell, options.quick, options.timeout):
                        if record not in kept:
                            kept.add(record)
                    elapsed = time.perf_counter() - start
                    print(*cell.values(), f"{elapsed:.0f} s", file=sys.stderr, flush=True)
    return kept.records


def main():
    """Compute what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tables", default=None)
    parser.add_argument("--methods", default=None)
    parser.add_argument("--settings", default=None, help="such as mcar:0.3; all by default")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one cell")
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--report", action="store_true", help="print what is there")
    parser.add_argument("--anchors", default=None, help="published figures: a1,a2,a3")
    parser.add_argument("--rubin", action="store_true", help="coverage of pooled intervals")
    parser.add_argument("--replicates", type=int, default=200)
    options = parser.parse_args()
    if options.report:
        print(report.report(Kept(FOLDER / "imputation.jsonl", cells.KEYS).records))
        for part in (anchors, rubin):
            print("\n" + part.report(Kept(part.PATH, part.KEYS).records))
        return
    if options.anchors:
        which = chosen(parser, options.anchors, ("a1", "a2", "a3"), "anchors")
        own = options.methods or ",".join(anchors.METHODS)
        methods = chosen(parser, own, anchors.METHODS, "methods")
        print(anchors.report(anchors.run(which, methods)))
        return
    if options.rubin:
        own = options.tables or ",".join(rubin.OUTCOMES)
        names = chosen(parser, own, rubin.OUTCOMES, "tables")
        own = options.methods or ",".join(rubin.METHODS)
        methods = chosen(parser, own, rubin.METHODS, "methods")
        print(rubin.report(rubin.run(options.replicates, names, methods)))
        return
    known = peers.QUICK if options.quick else peers.PEERS
    default = (QUICK_TABLES, peers.QUICK) if options.quick else (tables.TABLES, peers.DEFAULT)
    names = chosen(parser, options.tables or ",".join(default[0]), tables.TABLES, "tables")
    methods = chosen(parser, options.methods or ",".join(default[1]), known, "methods")
    settings = [f"{mechanism}:{rate}" for mechanism, rate in SETTINGS]
    own = options.settings or ",".join(settings)
    options.settings = chosen(parser, own, settings, "settings")
    print(report.report(compare(options, names, methods)))


if __name__ == "__main__":
    main()
