"""Classification of MNIST and Fashion-MNIST from few labels.

    python -m benchmarks.few_labels [--data mnist] [--labels 100] [--rows m1,auto] [--draws 3]
    python -m benchmarks.few_labels --report

The 60,000 training images, of which a class-balanced draw has labels, the same for all rows
(seeds 0, 1, 2); accuracy on all 10,000 test images, which no choice was made by. The VAE of all
images is trained once and shared by the rows and draws that stand on it.

Each cell is a line of ``benchmarks/results/few_labels.jsonl`` and is not computed again. A run
that is stopped loses the cell under way, and goes on within that one where it is a single model:
its checkpoints are in ``benchmarks/results/work``.
"""

import argparse
import datetime
import json
import platform
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import skvae
from skvae import VAE, VAEClassifier, datasets, load
from skvae.few_labels import draw_labels

RESULTS = Path(__file__).parent / "results" / "few_labels.jsonl"

BASE = {
    "n_components": 20,
    "likelihood": "bernoulli",
    "hidden_layer_sizes": (500, 500),
    "network": "mlp",
    "event_shape": (1, 28, 28),
    "max_epochs": 20,
    "early_stopping": False,
    "random_state": 0,
}
SHARED = {k: v for k, v in BASE.items() if k not in ("early_stopping", "random_state")}

# what differs from BASE; rows marked * have no part in scikit-vae
ROWS = {
    "pixels: 1 nearest neighbour*": None,
    "pixels: SVC, RBF kernel*": None,
    "pixels: label spreading*": None,
    "m1": {"model": "m1"},
    "m1, SVC": {"model": "m1"},
    "m2": {"model": "m2", "n_components": 50, "hidden_layer_sizes": (500,), "max_epochs": 60},
    "m2, pseudo-labels": {
        "model": "m2",
        "n_components": 50,
        "hidden_layer_sizes": (500,),
        "max_epochs": 20,
        "pseudo_labels": 0.7,
    },
    "m1+m2": {"model": "m1+m2", "pseudo_labels": 1.0, "alpha": 1.0, "max_epochs": 30},
    "ladder": {"model": "ladder", "n_components": 50, "max_epochs": 60, "pseudo_labels": 0.7},
    "auto": {"model": "auto", "max_epochs": 30},
}
ON_BASE = ("m1", "m1, SVC", "m2, pseudo-labels", "m1+m2", "ladder", "auto")


def images(data, n=None):
    """Training and test images as numbers from 0 to 1, and their classes."""
    name = {"mnist": "load_mnist", "fashion-mnist": "load_fashion_mnist"}[data]
    found = getattr(datasets, name)()
    X, T = ((x[:n] / 255).astype(np.float32) for x in (found.X_train, found.X_test))
    return X, found.y_train[:n], T, found.y_test[:n]


def base_of(data, X, work, quick):
    """The VAE of all images and the seconds it took, made once."""
    path = work / f"few_labels-base-{data}{'-quick' if quick else ''}.safetensors"
    took = path.with_suffix(".json")
    if not took.exists():
        start = time.perf_counter()
        epochs = {"max_epochs": 1} if quick else {}
        vae = VAE(**BASE | epochs).fit(X)
        vae.save(path, overwrite=True)
        took.write_text(json.dumps(time.perf_counter() - start))
    return load(path), json.loads(took.read_text())


def of_pixels(row, X, y, T):
    """What is said of the test images without a VAE."""
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    known = y >= 0
    if "spreading" in row:
        from sklearn.semi_supervised import LabelSpreading

        from skvae.few_labels import ALPHA, NeighborGraph

        graph = NeighborGraph.build(X, T)
        model = LabelSpreading(kernel=graph, alpha=ALPHA, max_iter=100)
        with warnings.catch_warnings(), np.errstate(invalid="ignore"):
            warnings.simplefilter("ignore")
            model.fit(np.arange(len(X))[:, None], y)
            return model.predict(np.arange(len(X), len(X) + len(T))[:, None])
    model = KNeighborsClassifier(1) if "neighbour" in row else SVC(C=10)
    return model.fit(X[known], y[known]).predict(T)


def classifier(row, data, base, work, seed, quick):
    """The estimator of a row."""
    settings = SHARED | ROWS[row] | ({"max_epochs": 2} if quick else {})
    if row in ON_BASE:
        settings["base"] = base
    if row.endswith("SVC"):
        from sklearn.svm import SVC

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings["classifier"] = SVC(C=10, probability=True, random_state=0)
    place = work / f"few_labels-{data}-{row.replace(' ', '')}-{seed}"
    return VAEClassifier(**settings, random_state=seed, checkpoint=str(place), verbose=1)


def cells():
    """Return the finished cells."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def key(cell):
    """What tells a cell from all others."""
    return cell["data"], cell["row"], cell["labels"], cell["draw"]


def compute(data, row, n_labels, draw, loaded, work, quick):
    """Compute one cell."""
    X, y_true, T, t = loaded
    y = draw_labels(y_true, n_labels // len(np.unique(y_true)), draw)
    base, shared = base_of(data, X, work, quick) if row in ON_BASE else (None, 0.0)
    start = time.perf_counter()
    if ROWS[row] is None:
        said = of_pixels(row, X, y, T)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of SVC(probability=True)
            fitted = classifier(row, data, base, work, draw, quick).fit(X, y)
        said = fitted.predict(T)
    return {
        "data": data,
        "row": row,
        "labels": n_labels,
        "draw": draw,
        "accuracy": float(np.mean(said == t)),
        "seconds": time.perf_counter() - start,
        "shared_seconds": shared,
        "threads": torch.get_num_threads(),
        "settings": repr(ROWS[row]),
        "versions": {"skvae": skvae.__version__, "torch": torch.__version__},
        "processor": platform.machine(),
        "date": datetime.date.today().isoformat(),
    }


def report(found):
    """Return a Markdown table for each data set and number of labels."""
    lines = []
    for data, n_labels in sorted({(c["data"], c["labels"]) for c in found}):
        own = [c for c in found if (c["data"], c["labels"]) == (data, n_labels)]
        lines += [f"**{data}, {n_labels} labels**", ""]
        lines += [
            "| | accuracy, % | draws | minutes for a draw, and shared |",
            "|---|---|---|---|",
        ]
        for row in ROWS:
            some = [c for c in own if c["row"] == row]
            if not some:
                continue
            accuracy = 100 * np.array([c["accuracy"] for c in some])
            spread = f" ± {accuracy.std(ddof=1):.2f}" if len(some) > 1 else ""
            minutes = np.mean([c["seconds"] for c in some]) / 60
            shared = some[0]["shared_seconds"] / 60
            also = f" + {shared:.1f}" if shared else ""
            lines.append(
                f"| {row} | {accuracy.mean():.2f}{spread} | {len(some)} | {minutes:.1f}{also} |"
            )
        lines.append("")
    return "\n".join(lines)


def main(argv=None):
    """Fill the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist", choices=["mnist", "fashion-mnist"])
    parser.add_argument("--labels", type=int, default=100)
    parser.add_argument("--rows", default=",".join(ROWS), help="separated by ;")
    parser.add_argument("--draws", default="0,1,2", help="seeds")
    parser.add_argument("--quick", action="store_true", help="few images and epochs; not kept")
    parser.add_argument("--report", action="store_true", help="print the tables and end")
    given = parser.parse_args(argv)
    if given.report:
        print(report(cells()))
        return
    rows = list(ROWS) if given.rows == parser.get_default("rows") else given.rows.split(";")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}; there are {', '.join(ROWS)}")
    work = RESULTS.parent / "work"
    work.mkdir(parents=True, exist_ok=True)
    loaded = images(given.data, 2000 if given.quick else None)
    done = set() if given.quick else {key(c) for c in cells()}
    for row in rows:
        for draw in map(int, given.draws.split(",")):
            if (given.data, row, given.labels, draw) in done:
                continue
            cell = compute(given.data, row, given.labels, draw, loaded, work, given.quick)
            print(json.dumps(cell), flush=True)
            if not given.quick:
                with RESULTS.open("a") as file:
                    file.write(json.dumps(cell) + "\n")
    if not given.quick:
        print(report(cells()), file=sys.stderr)


if __name__ == "__main__":
    main()
