"""Write small files in the current format, and what the models in them compute, as text.

A file that is there stays: later versions must read these very files. Models that are new are
added.

    python tests/formats/make.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from skvae import (
    VAE,
    VAEClassifier,
    VAEImputer,
    VAERegressor,
    models,
    networks,
    posteriors,
    priors,
)
from skvae.serialization import FORMAT_VERSION

HERE = Path(__file__).parent
# Quarters, which are exact in any float and as text.
ROWS = np.random.default_rng(0).integers(-8, 9, (60, 4)) / 4
BITS = (ROWS > 0).astype(float)
HOLES = np.where(np.arange(240).reshape(60, 4) % 7 == 0, np.nan, ROWS)
NAMES = ["a", "b", "c", "d"]
SMALL = {"hidden_layer_sizes": (4,)}
STACKED = {"n_components": 2, "hidden_layer_sizes": (4,), "hidden_size": 4}
COMMON = {"max_epochs": 3, "random_state": 0}


def plain():
    """Return a model of numbers."""
    return VAE(1, hidden_layer_sizes=(), **COMMON).fit(pd.DataFrame(ROWS, columns=NAMES)), ROWS


def ladder():
    """Return a model of two levels with batch normalisation."""
    levels = models.Ladder(upper=(2, 1), hidden_layer_sizes=(4, 3))
    network = networks.MLP((4,), batch_norm=True)
    return VAE(2, model=levels, network=network, **COMMON).fit(ROWS), ROWS


def vector_quantized():
    """Return a model of bits with codes, and a prior of these that was fitted afterwards."""
    quantized = posteriors.VectorQuantized(n_codes=4, code_size=2)
    network = networks.MLP((4,), activation="tanh")
    how = {"posterior": quantized, "likelihood": "bernoulli", "network": network}
    vq = VAE(2, **how, **COMMON).fit(BITS)
    return vq.fit_prior(BITS, priors.Autoregressive((6,)), n_steps=20), BITS


def flow():
    """Return a model with flows on both sides of z."""
    network = networks.MLP((4,), activation="tanh")
    flows = {"posterior": posteriors.Flow("iaf", 1, (4,)), "prior": priors.Flow("spline", 1, (4,))}
    return VAE(2, network=network, **flows, **COMMON).fit(ROWS), ROWS


def classes(model):
    """Return a classifier of which every second row has a class."""
    y = np.where(np.arange(60) % 2, ROWS[:, 0] > 0, -1).astype(int)
    return VAEClassifier(2, model=model, **SMALL, **COMMON).fit(ROWS, y), ROWS


def regression():
    """Return a regressor of which every second row has a number."""
    y = np.where(np.arange(60) % 2, ROWS[:, 0], np.nan)
    return VAERegressor(2, **SMALL, **COMMON).fit(ROWS, y), ROWS


def imputer():
    """Return an imputer of numbers."""
    return VAEImputer(2, **SMALL, **COMMON).fit(HOLES), HOLES


def words():
    """Return a recurrent model of texts."""
    texts = ["tea", "tree", "eat", "rat", "art"] * 6
    return VAE(2, network=networks.RNN(hidden_size=4), **COMMON).fit(texts), texts


def images():
    """Return a model of images with convolutions."""
    network = networks.Conv(2, channels=2)
    return VAE(2, network=network, event_shape=(1, 2, 2), **COMMON).fit(ROWS), ROWS


MODELS = {
    "vae": plain,
    "ladder": ladder,
    "vector-quantized": vector_quantized,
    "flow": flow,
    "classifier-m1": lambda: classes("m1"),
    "classifier-m1m2": lambda: classes(models.M1M2(**STACKED)),
    "classifier-sdgm": lambda: classes(models.SDGM(n_auxiliary=2, hidden_size=4)),
    "classifier-mixture": lambda: classes("mixture"),
    "regressor": regression,
    "imputer": imputer,
    "words": words,
    "images": images,
}
METHODS = ("predict_proba", "predict", "score_samples", "transform")


def shown(rows):
    """Return rows as JSON has them: None where a cell is missing."""
    if isinstance(rows[0], str):
        return rows
    return [[None if np.isnan(x) else x for x in row] for row in np.asarray(rows).tolist()]


def computed(model, rows):
    """Return what a model says of rows, as JSON."""
    if not isinstance(rows[0], str):
        rows = np.asarray(rows, dtype=np.float64)
    if hasattr(model, "feature_names_in_"):
        rows = pd.DataFrame(rows, columns=NAMES)
    found = {}
    for method in METHODS:
        if hasattr(model, method):
            drawn = method == "score_samples" and not isinstance(model, VAEImputer)
            few = {"n_samples": 20} if drawn else {}
            found[method] = np.asarray(getattr(model, method)(rows, **few)).tolist()
    if type(model) is VAE:
        back = model.inverse_transform(np.asarray(found["transform"]))
        found["inverse_transform"] = back if isinstance(back, list) else np.asarray(back).tolist()
    return found


def main():
    """Add what is missing."""
    path = HERE / f"v{FORMAT_VERSION}.json"
    outputs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in MODELS.keys() - outputs.keys():
        model, rows = MODELS[name]()
        model.save(HERE / f"v{FORMAT_VERSION}-{name}.safetensors", overwrite=True)
        rows = shown(rows[:5])
        outputs[name] = {"rows": rows, **computed(model, rows)}
    ordered = {name: outputs[name] for name in MODELS}
    path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
