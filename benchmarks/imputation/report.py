"""The tables of the comparison, from the records."""

from itertools import groupby

import numpy as np
from scipy.stats import rankdata, wilcoxon

REFERENCE, OURS = "missforest", "skvae"
SAMPLES = {"in": "in sample", "out": "out of sample"}


def holm(p_values):
    """Return p-values adjusted for as many tests as there are (Holm, 1979)."""
    order = np.argsort(p_values)
    m = len(order)
    stepped = np.maximum.accumulate((m - np.arange(m)) * np.asarray(p_values, float)[order])
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def by_table(records, field):
    """Return means over seeds: {method: {table: value}}, of what is there."""
    found = {}
    for r in records:
        if r.get(field) is not None:
            found.setdefault(r["method"], {}).setdefault(r["table"], []).append(r[field])
    return {m: {t: float(np.mean(v)) for t, v in of.items()} for m, of in found.items()}


def ratio(values, reference):
    """Return the geometric mean over shared tables of values / reference, and their number."""
    logs = [
        np.log(values[t] / reference[t])
        for t in values
        if reference.get(t, 0) > 0 and values[t] > 0
    ]
    return (float(np.exp(np.mean(logs))) if logs else None), len(logs)


def ranks(values):
    """Return the average rank of each method over the tables that all of them finished."""
    shared = sorted(set.intersection(*(set(of) for of in values.values())) if values else ())
    if not shared:
        return {}, 0
    placed = rankdata([[values[m][t] for t in shared] for m in values], axis=0)
    return dict(zip(values, placed.mean(1).tolist(), strict=True)), len(shared)


def tests(values, ours):
    """Return Holm-adjusted p-values of Wilcoxon's signed-rank test of ours against each."""
    names, found = [], []
    for name, of in values.items():
        shared = [t for t in of if t in values[ours]]
        difference = np.log([values[ours][t] / of[t] for t in shared if of[t] > 0])
        if name != ours and len(difference) >= 5 and np.any(difference):
            names.append(name)
            found.append(float(wilcoxon(difference).pvalue))
    return dict(zip(names, holm(found).tolist(), strict=True))


def text(value, form=".3f"):
    """Return a number as text, a dash for none."""
    return "–" if value is None else format(value, form)


def markdown(header, rows):
    """Return a table; the first column is text, the others are numbers."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def pooled(records):
    """Return the table of one setting, one row for each method."""
    nrmse, wrong = by_table(records, "nrmse"), by_table(records, "wrong")
    covered, crps = by_table(records, "coverage"), by_table(records, "crps")
    energy, worst = by_table(records, "energy_of_draw"), by_table(records, "worst_vs_mean")
    fit, transform = by_table(records, "fit_seconds"), by_table(records, "transform_seconds")
    placed, n_ranked = ranks(nrmse)
    p_values = tests(nrmse, OURS) if OURS in nrmse else {}
    rows = []
    for name in sorted(nrmse, key=lambda m: ratio(nrmse[m], nrmse.get(REFERENCE, {}))[0] or 9):
        relative, n = ratio(nrmse[name], nrmse.get(REFERENCE, {}))
        slower = ratio(transform[name], transform.get(OURS, {}))[0]
        rows.append(
            (
                name,
                f"{text(relative)} ({n})",
                text(ratio(wrong.get(name, {}), wrong.get(REFERENCE, {}))[0]),
                text(placed.get(name), ".2f"),
                text(p_values.get(name), ".2g"),
                text(max(worst.get(name, {}).values(), default=None)),
                text(weighted(records, name)),
                text(_mean(crps.get(name))),
                text(_mean(energy.get(name))),
                text(_mean(fit.get(name)), ".1f"),
                text(slower, ".2g"),
            )
        )
    header = (
        f"method | NRMSE / {REFERENCE} (tables) | categories / {REFERENCE} | rank over {n_ranked} "
        f"| p against {OURS} | worst column / mean fill | coverage of 90 % | CRPS "
        f"| energy distance of draws | fit, s | transform, times {OURS}"
    ).split(" | ")
    parts = [markdown(header, rows)]
    if covered:
        names = sorted({t for of in covered.values() for t in of})
        per = [(m, *(text(of.get(t), ".2f") for t in names)) for m, of in covered.items()]
        parts += ["Coverage of 90 % intervals:", markdown(("method", *names), per)]
    return "\n\n".join(parts)


def _mean(of):
    return float(np.mean([*of.values()])) if of else None


def weighted(records, method):
    """Return the coverage over all numbers of all tables and seeds."""
    own = [r for r in records if r["method"] == method and r.get("coverage") is not None]
    count = sum(r["n_numbers"] for r in own)
    return sum(r["coverage"] * r["n_numbers"] for r in own) / count if count else None


def losses(records):
    """Return a line for each table and method that has a smaller error than ours."""
    found = []
    for field in ("nrmse", "wrong"):
        values = by_table(records, field)
        for table, own in sorted(values.get(OURS, {}).items()):
            for name, of in sorted(values.items()):
                if of.get(table, np.inf) < own:
                    found.append(f"- {table}, {field}: {own:.3f}, {name} {of[table]:.3f}")
    return found


def failures(records):
    """Return a line for each cell that gave no result."""
    return [
        "- "
        + ", ".join(str(r[k]) for k in ("table", "mechanism", "rate", "seed", "method", "sample"))
        + f": {r.get('reason', r['status'])}"
        for r in records
        if r["status"] != "done"
    ]


def report(records):
    """Return everything as Markdown."""
    setting = lambda r: (r["sample"], r["mechanism"], r["rate"])
    parts = []
    done = [r for r in records if r["status"] == "done"]
    for key, group in groupby(sorted(done, key=setting), setting):
        own = [*group]
        seeds = len({r["seed"] for r in own})
        sample, mechanism, rate = key
        parts.append(
            f"### {SAMPLES[sample]}, {mechanism.upper()}, {rate:.0%} hidden, {seeds} seeds"
        )
        parts.append(pooled(own))
        lost = losses(own)
        if any(r["method"] == OURS for r in own):
            parts.append("\n".join([f"Losses of {OURS}:", "", *(lost or ["- none"])]))
    if failed := failures(records):
        parts.append("\n".join(["### Without result", "", *failed]))
    return "\n\n".join(parts)
