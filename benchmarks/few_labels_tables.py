"""Few labels on mixed tables, beside the classifiers of scikit-learn.

    python -m pip install --no-deps -r benchmarks/requirements-imputation.txt
    python -m benchmarks.few_labels_tables [--methods m1,boosting,...] [--seeds 0,1,2] [--quick]
    python -m benchmarks.few_labels_tables --report

The tables were chosen before any result was seen: of those of `benchmarks.imputation`, the ones
with numbers and categories, thousands of complete rows, and a class that was observed of people,
neither made up nor a number cut in two. ``adult`` is an income above 50,000 dollars in a census,
of which 10,000 rows are drawn once; ``credit_data`` is whether a loan was paid back.

A fifth of the rows, the same for all, is the test and is not seen in `fit`. Of the others, 1 % or
5 % have a label, drawn by the seed within each class, at least two of each. All methods get one
matrix, numbers standardised by the training rows and categories one-hot, and none is tuned. The
first two peers learn from the labelled rows alone. Log loss is left out where a true class has
probability zero in some row.

The VAE below "m1" and pseudo-labels does not see labels, so that one of each table and seed serves
all methods and shares; its seconds are counted for each. That changes no result, as the test says.

A finished cell is one line of ``benchmarks/results/few_labels_tables.jsonl`` and is not computed
again; failures are lines too.
"""

import argparse
import functools
import sys
import time
import warnings
from itertools import groupby, product

import numpy as np
import torch  # noqa: F401 - so that importing it does not count as part of the first fit
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from benchmarks.imputation import tables
from benchmarks.imputation.kept import FOLDER, Kept
from benchmarks.imputation.report import markdown, text
from skvae import VAE, VAEClassifier

PATH = FOLDER / "few_labels_tables.jsonl"
KEYS = ("table", "share", "method", "seed")
TARGETS = {"adult": "income", "credit_data": "Status"}
SHARES = (0.01, 0.05)
SEEDS = 5
MAX_ROWS = 10_000
QUICK_ROWS = 1000
UNKNOWN = -1


def boosting(seed):
    """Return boosted trees as they are by default."""
    return HistGradientBoostingClassifier(random_state=seed)


def logistic(seed):
    """Return a logistic regression."""
    return LogisticRegression(max_iter=1000)


def ours(seed, model, **parameters):
    """Return the library's own classifier."""
    return VAEClassifier(
        model=model,
        n_components=10,
        hidden_layer_sizes=(128, 128),
        random_state=seed,
        **parameters,
    )


ALONE = {"boosting": boosting, "logistic": logistic}
PEERS = ALONE | {
    "self_training_boosting": lambda seed: SelfTrainingClassifier(boosting(seed)),
    "self_training_logistic": lambda seed: SelfTrainingClassifier(logistic(seed)),
    "label_spreading": lambda seed: LabelSpreading(kernel="knn", n_neighbors=7),
}
OURS = {
    "m1": functools.partial(ours, model="m1"),
    "m1_logistic": lambda seed: ours(seed, "m1", classifier=LogisticRegression()),
    "m2": functools.partial(ours, model="m2"),
    "m2_pseudo_labels": functools.partial(ours, model="m2", pseudo_labels=0.7),
    "auto": functools.partial(ours, model="auto"),
}
METHODS = PEERS | OURS
QUICK_METHODS = {
    **{name: PEERS[name] for name in ("boosting", "logistic", "label_spreading")},
    "m1": functools.partial(ours, model="m1", max_epochs=5),
    "m2": functools.partial(ours, model="m2", max_epochs=5),
}
# Measure, and whether more of it is better.
MEASURES = {"accuracy": True, "balanced_accuracy": True, "log_loss": False}


def encoded(frame, target, max_rows=MAX_ROWS):
    """Return matrices and class numbers of the training and of the test rows.

    Parameters
    ----------
    frame : DataFrame
        Numbers and categories, complete.
    target : str
        Column of the classes.
    max_rows : int
        Larger tables are cut down to as many rows, always the same.

    Returns
    -------
    X, X_test : ndarray, shapes (n, q) and (m, q)
    y, y_test : ndarray of int, shapes (n,) and (m,)
    """
    frame = frame.iloc[np.random.default_rng(0).permutation(len(frame))[:max_rows]]
    classes, y = np.unique(frame[target].astype(str), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{target!r} has {len(classes)} class, but at least 2 are needed")
    train, test, y, y_test = train_test_split(
        frame.drop(columns=target), y, test_size=0.2, random_state=0, stratify=y
    )
    matrix = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_include="category"),
        ),
    )
    return matrix.fit_transform(train), matrix.transform(test), y, y_test


@functools.cache
def loaded(name, max_rows):
    """Return a table as `encoded` does."""
    return encoded(tables.whole(name), TARGETS[name], max_rows)


def drawn(y, share, seed):
    """Return the sorted numbers of the labelled rows: a share of each class, at least two."""
    rng = np.random.default_rng([seed, round(1000 * share)])
    chosen = []
    for c in np.unique(y):
        own = np.flatnonzero(y == c)
        chosen.append(rng.choice(own, max(2, round(share * len(own))), replace=False))
    return np.sort(np.concatenate(chosen))


def log_loss(p, y):
    """Return the mean of −log p of the true classes in nats, None where it is not finite."""
    with np.errstate(divide="ignore"):
        loss = float(-np.log(p[np.arange(len(y)), y].astype(float)).mean())
    return loss if np.isfinite(loss) else None


class Bases:
    """VAEs of all rows, fitted once for each table and seed, with the seconds that it took."""

    def __init__(self):
        self._fitted = {}

    def give(self, model, table, X):
        """Return the classifier with its base, if it needs one, and the seconds of that."""
        if not isinstance(model, VAEClassifier):
            return model, 0.0
        if model.model == "m2" and not model.pseudo_labels:
            return model, 0.0
        key = table, model.random_state
        if key not in self._fitted:
            shared, names = model.get_params(deep=False), VAE().get_params(deep=False)
            own = {k: v for k, v in shared.items() if k in names} | {"model": "vae"}
            start = time.perf_counter()
            self._fitted[key] = VAE(**own).fit(X), time.perf_counter() - start
        base, seconds = self._fitted[key]
        return model.set_params(base=base), seconds


def compute(cell, data, methods=METHODS, bases=None):
    """Return the record of one fit.

    Parameters
    ----------
    cell : dict
        With all of `KEYS`.
    data : tuple of ndarray
        As from `encoded`.
    methods : dict
        From a name to what makes a classifier from a seed.
    bases : Bases or None
        None lets each classifier fit its own.
    """
    X, X_test, y, y_test = data
    labelled = drawn(y, cell["share"], cell["seed"])
    if cell["method"] in ALONE:
        rows, labels = X[labelled], y[labelled]
    else:
        rows, labels = X, np.full_like(y, UNKNOWN)
        labels[labelled] = y[labelled]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, before = methods[cell["method"]](cell["seed"]), 0.0
            if bases is not None:
                model, before = bases.give(model, cell["table"], X)
            start = time.perf_counter()
            model.fit(rows, labels)
            p, guess = model.predict_proba(X_test), model.predict(X_test)
    except Exception as error:  # one method that fails is a result, and must not stop the others
        return {**cell, "status": "error", "reason": f"{type(error).__name__}: {error}"[:300]}
    return {
        **cell,
        "status": "done",
        "accuracy": float(accuracy_score(y_test, guess)),
        "balanced_accuracy": float(balanced_accuracy_score(y_test, guess)),
        "log_loss": log_loss(p, y_test),
        "seconds": before + time.perf_counter() - start,
        "n_labelled": len(labelled),
        "n_train": len(X),
        "n_test": len(X_test),
        "most_frequent": float(np.bincount(y_test).max() / len(y_test)),
    }


def compare(kept, load, names, methods, seeds):
    """Compute the cells that are missing, the first seed of all before the next.

    Parameters
    ----------
    kept : Kept
    load : callable
        From the name of a table to its `encoded` rows.
    names : sequence of str
        Tables.
    methods : dict
    seeds : sequence of int
    """
    bases = Bases()
    for seed, table, share, method in product(seeds, names, SHARES, methods):
        cell = {"table": table, "share": share, "method": method, "seed": seed}
        if cell in kept:
            continue
        record = compute(cell, load(table), methods, bases)
        kept.add(record)
        print(*cell.values(), f"{record.get('seconds', 0):.1f} s", file=sys.stderr, flush=True)
    return kept.records


# -- report ----------------------------------------------------------------------------------


def by_method(records, measure):
    """Return {method: {seed: value}} of what is there."""
    found = {}
    for r in records:
        if r.get(measure) is not None:
            found.setdefault(r["method"], {})[r["seed"]] = r[measure]
    return found


def spread(values, n):
    """Return mean ± standard deviation as text, and how many there are if less than n."""
    if not values:
        return "–"
    sd = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{sd}" + f" (of {len(values)})" * (len(values) < n)


def known_first(found):
    """Return methods in the order of this file."""
    return [name for name in METHODS if name in found]


def means(records):
    """Return the table of one share of one table, one row for each method."""
    rows = []
    for name in known_first({r["method"] for r in records}):
        own = [r for r in records if r["method"] == name]
        values = {m: [r[m] for r in own if r[m] is not None] for m in (*MEASURES, "seconds")}
        rows.append(
            (
                name,
                *(spread(values[m], len(own)) for m in MEASURES),
                text(float(np.mean(values["seconds"])), ".1f"),
                str(len(own)),
            )
        )
    header = ("method", *(m.replace("_", " ") for m in MEASURES), "seconds", "seeds")
    return markdown(header, rows)


def against_best(records, measure, name):
    """Return how one of ours fares against the best peer, seed by seed.

    The best peer is the one with the best mean on the seeds that ours has, known only after the
    fact, so that this leans towards the peers.

    Returns
    -------
    peer : str
    gain : float
        Mean difference, positive where ours is better.
    wins, losses : int
        Over seeds.
    None instead of all where there is nothing to compare.
    """
    found, sign = by_method(records, measure), 1 if MEASURES[measure] else -1
    own = found.get(name, {})
    rivals = {
        peer: sign * np.array([found[peer][seed] for seed in own])
        for peer in PEERS
        if own and set(own) <= set(found.get(peer, {}))
    }
    if not rivals:
        return None
    best = max(rivals, key=lambda peer: rivals[peer].mean())
    gains = sign * np.array([*own.values()]) - rivals[best]
    return best, float(gains.mean()), int((gains > 0).sum()), int((gains < 0).sum())


def duels(records):
    """Return wins and losses of each of ours against the best peer of each table and share."""
    rows, total = [], {}
    for (table, share), group in groupby(sorted(records, key=_setting), _setting):
        own = [*group]
        for name in (n for n in known_first({r["method"] for r in own}) if n in OURS):
            found = {m: against_best(own, m, name) for m in MEASURES}
            for measure, one in found.items():
                if one is not None:
                    before = total.get((name, measure), (0, 0))
                    total[name, measure] = (before[0] + one[2], before[1] + one[3])
            rows.append((f"{table}, {share:.0%}, {name}", *(_duel(one) for one in found.values())))
    for name in known_first({n for n, _ in total}):
        sums = (total.get((name, m)) for m in MEASURES)
        rows.append((f"all, {name}", *("–" if s is None else f"{s[0]} : {s[1]}" for s in sums)))
    return markdown(("ours", *(m.replace("_", " ") for m in MEASURES)), rows)


def _duel(one):
    return "–" if one is None else f"{one[1]:+.3f}, {one[2]} : {one[3]} ({one[0]})"


def _setting(record):
    return record["table"], record["share"]


def report(records):
    """Return everything as Markdown."""
    parts = []
    done = [r for r in records if r["status"] == "done"]
    for (table, share), group in groupby(sorted(done, key=_setting), _setting):
        own = [*group]
        first = own[0]
        parts.append(
            f"### {table}, {share:.0%}: {first['n_labelled']} labels in {first['n_train']} rows, "
            f"most frequent class {first['most_frequent']:.3f}"
        )
        parts.append(means(own))
    if any(r["method"] in OURS for r in done):
        parts.append(
            "### Ours against the best peer\n\nMean gain over the seeds of ours, wins : losses, "
            "and which peer was best on these seeds, chosen after the fact."
        )
        parts.append(duels(done))
    failed = [
        "- " + ", ".join(str(r[k]) for k in KEYS) + f": {r['reason']}"
        for r in records
        if r["status"] != "done"
    ]
    if failed:
        parts.append("\n".join(["### Without result", "", *failed]))
    return "\n\n".join(parts)


def main(arguments=None):
    """Compute what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default=None, help=", ".join(METHODS))
    parser.add_argument("--seeds", default=",".join(map(str, range(SEEDS))))
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--report", action="store_true", help="print what is there")
    options = parser.parse_args(arguments)
    if options.report:
        print(report(Kept(PATH, KEYS).records))
        return
    known = QUICK_METHODS if options.quick else METHODS
    names = options.methods.split(",") if options.methods else [*known]
    if unknown := set(names) - set(known):
        parser.error(f"unknown methods {sorted(unknown)}; known: {', '.join(known)}")
    try:
        seeds = [int(seed) for seed in options.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds has to be such as 0,1,2, not {options.seeds!r}")
    if options.quick:
        seeds = seeds[:1]
    kept = Kept(None if options.quick else PATH, KEYS)
    load = functools.partial(loaded, max_rows=QUICK_ROWS if options.quick else MAX_ROWS)
    methods = {name: known[name] for name in names}
    print(report(compare(kept, load, TARGETS, methods, seeds)))


if __name__ == "__main__":
    main()
