"""The tables of the comparison, from the records."""

from itertools import groupby

import numpy as np

from benchmarks.few_labels import recipes
from benchmarks.imputation.report import markdown, text

# Measure, and whether more of it is better.
MEASURES = {"accuracy": True, "balanced_accuracy": True, "log_loss": False}


def newest(records):
    """Return of each row of a table what was computed with the settings of its last record."""
    last = {_row(r): r["settings"] for r in records}
    return [r for r in records if r["settings"] == last[_row(r)]]


def _row(record):
    return record["data"], record["n_labels"], record["row"]


def _group(record):
    return record["data"], record["n_labels"]


def spread(values, form=".3f"):
    """Return mean ± standard deviation over draws as text, a dash for no values."""
    if not values:
        return "–"
    sd = f" ± {np.std(values, ddof=1):{form}}" if len(values) > 1 else ""
    return f"{np.mean(values):{form}}{sd}"


def _values(records, field):
    return [r[field] for r in records if r.get(field) is not None]


def _mean(records, field):
    values = _values(records, field)
    return float(np.mean(values)) if values else None


def ordered(plan, found):
    """Return the rows of a table: those that were planned, then others that were found."""
    return [*plan, *sorted(set(found) - set(plan))]


def lines(records, measures, published):
    """Return one line of cells for each row of a table.

    Parameters
    ----------
    records : list of dict
        Of one data set and number of labels.
    measures : sequence of str
    published : dict or None
        Figures of other people for some rows; None leaves the column out.
    """
    plan = recipes.PLAN.get(records[0]["data"], {}).get(records[0]["labels"], ())
    found = []
    for row in ordered(plan, {r["row"] for r in records}):
        own = [r for r in records if r["row"] == row]
        beside = [] if published is None else [published.get(row, "–")]
        if not own:
            found.append(
                (row, "not run", *["–"] * (len(measures) - 1), *beside, "–", "–", "–", "0")
            )
            continue
        found.append(
            (
                row,
                *(spread(_values(own, m)) for m in measures),
                *beside,
                text(_mean(own, "shared_core_seconds"), ".0f"),
                text(_mean(own, "core_seconds"), ".1f"),
                text(_mean(own, "predict_core_seconds"), ".1f"),
                str(len(own)),
            )
        )
    return found


def compared(records):
    """Return the table of one data set and number of labels."""
    first = records[0]
    tables = first["data"] in recipes.TABLES
    measures = (*MEASURES,) if tables else ("accuracy",)
    key = first["data"], first["labels"]
    published = None if tables else recipes.PUBLISHED.get(key, {})
    title = f"### {first['data']}, {first['n_labels']:,} labels in {first['n_train']:,} rows"
    if tables:
        title += f"; most frequent class {_mean(records, 'most_frequent'):.3f}"
    header = ("row", *(m.replace("_", " ") for m in measures), *["published"] * (not tables))
    header += ("shared, core s", "fit, core s", "predict, core s", "draws")
    parts = [title, markdown(header, lines(records, measures, published))]
    if key in recipes.ELSEWHERE:
        parts.append(f"Published, of methods that are not run here: {recipes.ELSEWHERE[key]}.")
    return parts


def duels(records):
    """Return wins : losses of each of ours against each peer, on the same draws of the tables."""
    cells = {}
    for r in records:
        cells.setdefault(r["row"], {})[r["data"], r["n_labels"], r["draw"]] = r
    rows = []
    for ours in (m for m in recipes.TABLE_MODELS if m in cells):
        for peer in (p for p in recipes.PEERS if p in cells):
            shared = cells[ours].keys() & cells[peer].keys()
            scores = []
            for measure, more in MEASURES.items():
                gains = [cells[ours][c][measure] - cells[peer][c][measure] for c in shared]
                wins, losses = sum(g > 0 for g in gains), sum(g < 0 for g in gains)
                scores.append(f"{wins} : {losses}" if more else f"{losses} : {wins}")
            rows.append((f"{ours}, {peer}", *scores, str(len(shared))))
    header = ("ours, peer", *(m.replace("_", " ") for m in MEASURES), "draws")
    return markdown(header, rows) if rows else ""


def report(records):
    """Return everything as Markdown.

    Parameters
    ----------
    records : list of dict
    """
    records = newest(records)
    parts = []
    for _, group in groupby(sorted(records, key=_group), _group):
        parts += compared([*group])
    if won := duels([r for r in records if r["data"] in recipes.TABLES]):
        parts += ["### Wins : losses on the tables, draw by draw", won]
    if records:
        of = {}
        for r in records:
            of.setdefault((r["row"], r["settings"]), set()).add(r["data"])
        own = [f"- {row} ({', '.join(sorted(d))}): `{s}`" for (row, s), d in of.items()]
        parts.append("\n".join(["Settings:", "", *own]))
        made = sorted({f"{r['date']}, {r['versions']}" for r in records})
        parts.append("\n".join(["Computed with:", "", *(f"- {one}" for one in made)]))
    return "\n\n".join(parts)
