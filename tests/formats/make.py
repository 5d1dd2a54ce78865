"""Write small files in the current format, and what the models in them compute, as text.

Run once for each released format, never again: later versions must read these very files.

    python tests/formats/make.py
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from skvae import VAE, models, networks, posteriors, priors
from skvae.serialization import FORMAT_VERSION

HERE = Path(__file__).parent
# Quarters, which are exact in any float and as text.
ROWS = np.random.default_rng(0).integers(-8, 9, (60, 4)) / 4
BITS = (ROWS > 0).astype(float)


def fitted():
    """Return each model with some rows of its data."""
    common = {"max_epochs": 3, "random_state": 0}
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    small = networks.MLP((4,), activation="tanh")
    vae = VAE(1, hidden_layer_sizes=(), **common).fit(frame)
    yield "vae", vae, ROWS[:5]
    ladder = models.Ladder(upper=(2, 1), hidden_layer_sizes=(4, 3))
    batch_norm = networks.MLP((4,), batch_norm=True)
    ladder = VAE(2, model=ladder, network=batch_norm, **common).fit(ROWS)
    yield "ladder", ladder, ROWS[:5]
    quantized = posteriors.VectorQuantized(n_codes=4, code_size=2)
    vq = VAE(2, posterior=quantized, likelihood="bernoulli", network=small, **common).fit(BITS)
    vq.fit_prior(BITS, priors.Autoregressive((6,)), n_steps=20)
    yield "vector-quantized", vq, BITS[:5]
    flows = {"posterior": posteriors.Flow("iaf", 1, (4,)), "prior": priors.Flow("spline", 1, (4,))}
    yield "flow", VAE(2, network=small, **flows, **common).fit(ROWS), ROWS[:5]


def computed(model, rows):
    """Return rows, codes, log-likelihoods and reconstructions as JSON."""
    rows = np.asarray(rows, dtype=np.float64)
    Z = np.asarray(model.transform(rows))
    return {
        "rows": rows.tolist(),
        "transform": Z.tolist(),
        "score_samples": model.score_samples(rows, n_samples=20).tolist(),
        "inverse_transform": np.asarray(model.inverse_transform(Z)).tolist(),
    }


if __name__ == "__main__":
    outputs = {}
    for name, model, rows in fitted():
        model.save(HERE / f"v{FORMAT_VERSION}-{name}.safetensors", overwrite=True)
        outputs[name] = computed(model, rows)
    text = json.dumps(outputs, indent=1)
    (HERE / f"v{FORMAT_VERSION}.json").write_text(text + "\n", encoding="utf-8")
