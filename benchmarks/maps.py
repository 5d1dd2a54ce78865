"""Maps in two dimensions: how well they keep neighbours and part classes.

    python -m benchmarks.maps [--data mnist,digits] [--rows vae,vae+layout] [--quick]
    python -m benchmarks.maps --tune --data mnist --rows vae+layout   # never looks at test rows
    python -m benchmarks.maps --report

Figures of each map:

- ``5-NN``: share of test rows whose class is that of their nearest training rows on the map.
  t-SNE places no new rows: it lays out training and test rows together.
- ``trust``, ``continuity``: with 5 neighbours, of 10,000 training rows drawn from a seed.
- ``silhouette``, ``NMI``: silhouette of the classes, and what k-means with as many clusters as
  there are classes says of them, of the same rows.

All of these are `skvae.evaluation.embedding`'s, the same for every row of the table.

- ``-ELBO``: nats per test row, of models that have one; images are grey values from 0 to 1 under
  a Bernoulli likelihood, and tables standardised. Rows of one data set can be compared.
- ``core s``: seconds that cores were busy in fit, the same on a machine that others use.

Settings were chosen on the training rows, of which ``--tune`` holds out the last 10,000 of images
and a fifth of tables. A finished cell is one line of ``benchmarks/results/maps.jsonl``, with its
settings, and is not computed again.
"""

import argparse
import functools
import sys
import warnings
from importlib.util import find_spec
from itertools import product

import numpy as np
from sklearn import datasets as bundled
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.few_labels.cells import measured
from benchmarks.imputation.kept import FOLDER, Kept
from benchmarks.imputation.report import markdown, text
from skvae import VAE, datasets, evaluation
from skvae.networks import Conv
from skvae.objectives import ELBO, Layout, Neighbors

PATH = FOLDER / "maps.jsonl"
KEYS = ("data", "row", "seed", "settings")
IMAGES = ("mnist", "fashion-mnist", "digits")
TABLES = {"breast_cancer": bundled.load_breast_cancer, "wine": bundled.load_wine}
JUDGED = 10_000  # training rows, for what is measured among them
HELD_OUT = 10_000
QUICK_ROWS = 1000
MEASURES = {
    "5-NN": ".3f",
    "trust": ".3f",
    "continuity": ".3f",
    "silhouette": ".3f",
    "NMI": ".3f",
    "-ELBO": ".1f",
    "core s": ".0f",
}

WIDE = {"hidden_layer_sizes": (512, 512), "early_stopping": False}
CONV = {
    "network": Conv.of((1, 28, 28)).replace(channels=16),
    "event_shape": (1, 28, 28),
    "early_stopping": False,
    "max_epochs": 30,
}
IMAGE = {"likelihood": "bernoulli"}
OBJECTIVES = {
    "vae": ELBO(),
    "vae+umap": ELBO() + Neighbors("umap"),
    "vae+tsne": ELBO() + Neighbors("tsne"),
    "vae+layout": ELBO() + Layout(),
}
# A network that is large enough to send every row where it belongs can be told to.
STRICT = ELBO() + Layout(weight=1e4, tolerance=0.3)
LARGE = ("mnist", "fashion-mnist")
SLOW = ("vae+umap", "vae+tsne")  # two passes of that network for each row, many epochs
ROWS = ("pca", "tsne", "umap", *OBJECTIVES, "two-step")


@functools.cache
def rows_of(name, quick=False, tune=False):
    """Return training and test rows and their classes: X, T, y, y_test."""
    if name in IMAGES:
        data = datasets.load(name)
        X, T = (rows / np.float32(data.max_value) for rows in (data.X_train, data.X_test))
        y, y_test = data.y_train, data.y_test
        if tune:
            n = len(X) - min(HELD_OUT, len(X) // 5)
            X, T, y, y_test = X[:n], X[n:], y[:n], y[n:]
    else:
        X, y = TABLES[name](return_X_y=True)
        X, T, y, y_test = train_test_split(X, y, test_size=0.2, random_state=0, stratify=y)
        if tune:
            X, T, y, y_test = train_test_split(X, y, test_size=0.2, random_state=1, stratify=y)
        scaler = StandardScaler().fit(X)
        X, T = (scaler.transform(rows).astype(np.float32) for rows in (X, T))
    if quick:
        X, T, y, y_test = X[:QUICK_ROWS], T[:QUICK_ROWS], y[:QUICK_ROWS], y_test[:QUICK_ROWS]
    return X, T, y, y_test


def model_of(name, row, quick=False):
    """Return an estimator of a row of the table, without a seed; None where it is not run."""
    if row == "pca":
        return PCA(2)
    if row == "tsne":
        return TSNE(2)
    if row == "umap":
        if not find_spec("umap"):
            return None
        from umap import UMAP

        return UMAP()
    image = IMAGE if name in IMAGES else {}
    how = {**WIDE, "max_epochs": 20} if quick else WIDE
    if row == "two-step":
        wide = VAE(16 if name in IMAGES else 5, **how, **image)
        return make_pipeline(wide, VAE(2, objective=OBJECTIVES["vae+layout"], **how))
    if name not in LARGE or quick:
        return VAE(2, objective=OBJECTIVES[row], **how, **image)
    if row in SLOW:
        return None
    return VAE(2, objective=STRICT if row == "vae+layout" else ELBO(), **CONV, **image)


def seeded(model, seed):
    """Return a copy with a seed."""
    model = clone(model)
    seeds = {name: seed for name in model.get_params() if name.endswith("random_state")}
    return model.set_params(**seeds)


def mapped(model, X, T):
    """Return the maps of training and test rows, what it cost, and the fitted model."""
    if isinstance(model, TSNE):
        both, cost = measured(lambda: model.fit_transform(np.concatenate([X, T])))
        return both[: len(X)], both[len(X) :], cost
    _, cost = measured(lambda: model.fit(X))
    return model.transform(X), model.transform(T), cost


def judged(Z, W, X, y, y_test):
    """Return the figures of a map: Z of training rows, W of test rows."""
    found = evaluation.embedding(X, Z, y, Z_test=W, y_test=y_test, max_rows=JUDGED)
    return {
        "5-NN": found.knn_accuracy,
        "trust": found.trustworthiness,
        "continuity": found.continuity,
        "silhouette": found.silhouette,
        "NMI": found.nmi,
    }


def compute(cell, data, model):
    """Return the record of one map."""
    X, T, y, y_test = data
    model = seeded(model, cell["seed"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Z, W, cost = mapped(model, X, T)
            record = judged(Z, W, X, y, y_test)
            if isinstance(model, VAE):
                record["-ELBO"] = -float(model.evaluate(T, n_samples=10).elbo)
    except Exception as error:  # one that fails is a result, and must not stop the others
        return {**cell, "status": "error", "reason": f"{type(error).__name__}: {error}"[:300]}
    sizes = {"n_train": len(X), "n_test": len(T)}
    record |= {"core s": cost["core_seconds"], "seconds": cost["seconds"]}
    return {**cell, "status": "done", **record, **sizes}


def compare(kept, names, rows, seeds, *, quick=False, tune=False):
    """Compute the cells that are missing."""
    for seed, name, row in product(seeds, names, rows):
        model = model_of(name, row, quick)
        cell = {"data": name, "row": row, "seed": seed}
        if model is None:
            continue
        cell["settings"] = " ".join(repr(model).split())
        if cell in kept:
            continue
        record = compute(cell, rows_of(name, quick, tune), model)
        kept.add(record)
        print(name, row, seed, record.get("reason", record.get("seconds")), file=sys.stderr)
    return kept.records


def report(records):
    """Return everything as Markdown: of each row what was computed with its last settings."""
    parts, last = [], {(r["data"], r["row"]): r["settings"] for r in records}
    current = [r for r in records if r["settings"] == last[r["data"], r["row"]]]
    for name in dict.fromkeys(r["data"] for r in current):
        own = [r for r in current if r["data"] == name]
        done = [r for r in own if r["status"] == "done"]
        lines = []
        for row in ROWS:
            found = [r for r in done if r["row"] == row]
            values = ([r[m] for r in found if r.get(m) is not None] for m in MEASURES)
            means = (float(np.mean(v)) if v else None for v in values)
            cells = map(text, means, MEASURES.values())
            missing = ("not run", *["–"] * (len(MEASURES) - 1))
            lines.append((row, *(cells if found else missing), str(len(found))))
        sizes = f": {done[0]['n_train']:,} rows, {done[0]['n_test']:,} of test" if done else ""
        parts += [f"### {name}{sizes}", markdown(("row", *MEASURES, "seeds"), lines)]
        parts += [f"{r['row']}: {r['reason']}" for r in own if r["status"] != "done"]
    if last:
        settings = dict.fromkeys((row, text) for (_, row), text in last.items())
        parts.append("\n".join(["Settings:", "", *(f"- {r}: `{s}`" for r, s in settings)]))
        made = sorted({f"{r['date']}, {r['versions']}" for r in current})
        parts.append("\n".join(["Computed with:", "", *(f"- {one}" for one in made)]))
    return "\n\n".join(parts)


def _chosen(parser, given, known, what):
    names = given.split(",")
    if unknown := set(names) - set(known):
        parser.error(f"unknown {what} {sorted(unknown)}; known: {', '.join(known)}")
    return names


def main(words=None):
    """Compute what is missing and print the tables."""
    known = (*IMAGES, *TABLES)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=",".join(known))
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--tune", action="store_true", help="do not look at test rows; not kept")
    parser.add_argument("--report", action="store_true", help="print what is there")
    options = parser.parse_args(words)
    names = _chosen(parser, options.data, known, "data")
    rows = _chosen(parser, options.rows, ROWS, "rows")
    kept = Kept(None if options.quick or options.tune else PATH, KEYS)
    if not options.report:
        how = {"quick": options.quick, "tune": options.tune}
        compare(kept, names, rows, range(options.seeds), **how)
    print(report(kept.records))


if __name__ == "__main__":
    main()
