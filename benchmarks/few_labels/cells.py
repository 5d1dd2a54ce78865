"""One cell of the comparison: data, a row of the table, the number of labels, a draw of them."""

import contextlib
import hashlib
import json
import time
import warnings
from dataclasses import replace
from functools import cached_property

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, balanced_accuracy_score, log_loss

import skvae
from benchmarks.contenders import Peak
from benchmarks.few_labels import data, recipes, rivals
from skvae import VAE, few_labels
from skvae.estimators.classifier import VAEClassifier

# With the settings, so that a recipe that was changed is computed anew.
KEYS = ("data", "row", "n_labels", "draw", "settings")


def measured(call):
    """Return the result of a call and what it cost.

    Seconds of the wall clock, seconds that cores were busy for it (all threads; this is what
    stays the same on a machine that others use too), and the growth of the peak of resident
    memory in megabytes, None where the system does not tell.
    """
    peak = None
    with contextlib.suppress(OSError):
        peak = Peak()
    wall, core = time.perf_counter(), time.process_time()
    result = call()
    cost = {"seconds": time.perf_counter() - wall, "core_seconds": time.process_time() - core}
    return result, cost | {"megabytes": peak and peak.megabytes()}


def described(name, settings):
    """Return the call that makes an estimator."""
    return f"{name}({', '.join(f'{k}={v!r}' for k, v in settings.items())})"


def settings_of(data_name, row, quick=False):
    """Return the parameters of a model, but for the seed and the shared VAE, which follow."""
    on_table = data_name in recipes.TABLES
    shared = recipes.TABLE_SHARED if on_table else recipes.SHARED
    own = (recipes.TABLE_MODELS if on_table else recipes.MODELS)[row]
    quickly = recipes.QUICK | {"model": row} if quick else {}
    return {"model": row, **shared, **own, **quickly}


class Images:
    """Cells of one data set of images; what all draws have in common is made when first needed.

    Parameters
    ----------
    name : str
    work : Path
        Where the shared VAE is kept, by its settings.
    quick, tune : bool
        As in `data.images`.
    """

    def __init__(self, name, work, quick=False, tune=False):
        self.name, self.work, self.quick = name, work, quick
        self.rows = data.images(name, quick, tune)
        self.base_settings = recipes.BASE | (recipes.QUICK if quick else {})

    @cached_property
    def graph(self):
        """Return the graph of neighbours among pixels, and its cost."""
        return measured(lambda: few_labels.NeighborGraph.build(self.rows.X, self.rows.T))

    @cached_property
    def base(self):
        """Return the VAE of all rows, and its cost; one that was trained before is read back."""
        text = f"{described('VAE', self.base_settings)} of {self.name}, {len(self.rows.X)} rows"
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        path = self.work / f"few_labels-{self.name}-{digest}.safetensors"
        note = path.with_suffix(".json")
        if not (path.exists() and note.exists()):
            self.work.mkdir(parents=True, exist_ok=True)
            vae, cost = measured(lambda: VAE(**self.base_settings).fit(self.rows.X))
            vae.save(path, overwrite=True)
            note.write_text(json.dumps(cost))
        return skvae.load(path), json.loads(note.read_text())

    def count(self, labels):
        """Return how many labels a number or a share of the rows is."""
        return counted(labels, len(self.rows.y))

    def settings(self, row):
        """Return the settings of a row as text; the seed is the draw."""
        if row == "spreading":
            own = {"n_neighbors": few_labels.N_NEIGHBORS, "alpha": few_labels.ALPHA}
            return described("few_labels.spread", own)
        if row not in recipes.MODELS:
            return repr(rivals.SUPERVISED[row](None))
        text = described("VAEClassifier", settings_of(self.name, row, self.quick))
        return f"{text} on {described('VAE', self.base_settings)}"

    def compute(self, row, n_labels, draw):
        """Return the measures of one cell."""
        rows, n_classes = self.rows, len(np.unique(self.rows.y))
        if n_labels % n_classes:
            raise ValueError(f"{n_labels} labels cannot be balanced over {n_classes} classes")
        each, shared = n_labels // n_classes, None
        if row == "spreading":
            graph, shared = self.graph
            spread = lambda: few_labels.spread(graph, rows.y, rows.y_test, each, draw)
            accuracy, cost = measured(spread)
            return {"accuracy": accuracy, **cost, **of_shared(shared), **rows.sizes}
        y = few_labels.draw_labels(rows.y, each, draw)
        if row in recipes.MODELS:
            settings = settings_of(self.name, row, self.quick)
            settings["base"], shared = self.base
            model = VAEClassifier(**settings, random_state=draw)
        else:
            model = rivals.SUPERVISED[row](draw)
        cost, guess = fitted(model, rows, y, row in rivals.SUPERVISED)
        accuracy = float(accuracy_score(rows.y_test, guess))
        return {"accuracy": accuracy, **cost, **of_shared(shared), **rows.sizes}


class Table:
    """Cells of one table: ours take the frame, scikit-learn's methods numbers and indicators.

    Parameters
    ----------
    name : str
    quick : bool
        The first 1,000 rows.
    """

    def __init__(self, name, quick=False):
        self.name, self.quick = name, quick

    def rows(self, draw):
        """Return the table as one draw splits it."""
        return data.table(self.name, draw, self.quick)

    def count(self, labels):
        """Return how many labels a number or a share of the rows is."""
        return counted(labels, len(self.rows(0).y))

    def settings(self, row):
        """Return the settings of a row as text; the seed is the draw."""
        if row in recipes.MODELS:
            text = described("VAEClassifier", settings_of(self.name, row, self.quick))
            return f"{text} of frames"
        return repr((rivals.SUPERVISED | rivals.SEMI_SUPERVISED)[row](None))

    def compute(self, row, n_labels, draw):
        """Return the measures of one cell."""
        rows = self.rows(draw)
        y = rows.labels(n_labels, draw)
        if row in recipes.MODELS:
            rows = replace(rows, X=rows.frames[0], T=rows.frames[1])
            model = VAEClassifier(**settings_of(self.name, row, self.quick), random_state=draw)
        else:
            model = (rivals.SUPERVISED | rivals.SEMI_SUPERVISED)[row](draw)
        cost, guess = fitted(model, rows, y, row in rivals.SUPERVISED)
        p = rivals.probabilities(model, rows.T, y[y != data.UNKNOWN])
        return {
            "accuracy": float(accuracy_score(rows.y_test, guess)),
            "balanced_accuracy": float(balanced_accuracy_score(rows.y_test, guess)),
            "log_loss": float(log_loss(rows.y_test, p, labels=model.classes_)),
            "most_frequent": float(np.bincount(rows.y_test).max() / len(rows.y_test)),
            **cost,
            **rows.sizes,
        }


def fitted(model, rows, y, supervised):
    """Fit a model; return the cost of that and of the guesses, and the guesses for the test."""
    X = rows.X
    if supervised:
        X, y = X[y != data.UNKNOWN], y[y != data.UNKNOWN]
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, cost = measured(lambda: model.fit(X, y))
        guess, more = measured(lambda: model.predict(rows.T))
    return cost | {f"predict_{k}": v for k, v in more.items()}, guess


def counted(labels, n_rows):
    """Return a number of labels as it is, and a share as a number of the rows."""
    return round(labels * n_rows) if labels < 1 else labels


def of_shared(cost):
    """Return the cost of what all draws share under names of its own."""
    return {f"shared_{k}": v for k, v in (cost or {}).items()}
