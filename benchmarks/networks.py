"""Convolutional models beside a fully connected one: dynamic MNIST and Fashion-MNIST, in nats.

    python -m benchmarks.networks [--rows mnist-conv,mnist-mlp,...] [--quick]

The protocol is that of `benchmarks.density`: training targets are binarised afresh in every epoch,
the test set once, 400 images are held out, one seed. −log p(x) is by importance sampling, with the
number of samples that the table says, on as many test images as it says.

Finished rows are kept in ``benchmarks/results/networks.json``. A row that is stopped goes on where
it was: its training from a checkpoint, its scoring from the last block of 500 images.
"""

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import skvae
from benchmarks.density import SHARED, scores
from skvae import VAE, datasets, models, networks, priors

RESULTS = Path(__file__).parent / "results" / "networks.json"

CONV = {
    "network": networks.Conv(channels=16),
    "event_shape": (1, 28, 28),
    "batch_size": 128,
    "precision": "float32",  # at 16 channels faster than bfloat16
}

# name: importance samples, test images, what differs from the settings of `benchmarks.density`
ROWS = {
    "mlp": (500, 10_000, {"network": networks.MLP((500, 500)), "max_epochs": 400}),
    "conv": (500, 10_000, {**CONV, "max_epochs": 40}),
    "conv_flow_prior": (
        500,
        10_000,
        {
            **CONV,
            "prior": priors.Flow(n_transforms=8, hidden_layer_sizes=(256, 256)),
            "max_epochs": 40,
        },
    ),
    "conv_ladder": (
        200,
        10_000,
        {
            **CONV,
            "n_components": 4,
            "model": models.ConvLadder(),
            "max_epochs": 32,
        },
    ),
}
DATA = {"mnist": datasets.load_mnist, "fashion": datasets.load_fashion_mnist}


def fitted(name, settings, X, work):
    """Return the row's model and the minutes that its training took, over all its sessions."""
    path, note = work / f"{name}.safetensors", work / f"{name}-minutes.json"
    if not path.exists():
        start = time.perf_counter()
        vae = VAE(**settings, checkpoint=str(work / f"{name}-state")).fit(X)
        vae.save(path)
        # Without interruption these agree; else only the epochs know of the earlier sessions.
        seconds = max(time.perf_counter() - start, sum(vae.history_["seconds"]))
        note.write_text(json.dumps(seconds / 60))
    return skvae.load(path), json.loads(note.read_text())


def compute(row, quick, work):
    """Train and score one row."""
    dataset, name = row.split("-")
    data = DATA[dataset]()
    X, T = data.X_train / np.float32(255), data.X_test / np.float32(255)
    n_samples, n_test, own = ROWS[name]
    settings = {**SHARED, **own}
    if quick:
        X, n_test, n_samples = X[:3000], 200, 50
        settings |= {"max_epochs": 2, "validation_fraction": 0.05}
    T = T[:n_test]
    vae, minutes = fitted(row, settings, X, work)
    log_likelihood = scores(row, vae, T, n_samples, work)
    return {
        "nll": -float(np.mean(log_likelihood)),
        "standard_error": float(np.std(log_likelihood, ddof=1) / len(T) ** 0.5),
        "elbo": vae.history_["valid_elbo"][-1],
        "n_samples": n_samples,
        "n_test": len(T),
        "weights": sum(p.numel() for p in vae._core.module.parameters()),
        "epochs": vae.n_iter_,
        "minutes": minutes,
        "seed": settings["random_state"],
        "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        "versions": f"scikit-vae {skvae.__version__}, torch {torch.__version__}",
        "machine": (
            f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores used"
        ),
    }


def main():
    """Compute what is missing and print the table."""
    every = [f"{dataset}-{name}" for dataset in DATA for name in ROWS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(every))
    parser.add_argument("--quick", action="store_true", help="a foretaste in minutes; not kept")
    options = parser.parse_args()
    names = options.rows.split(",")
    if unknown := set(names) - set(every):
        parser.error(f"unknown rows {sorted(unknown)}; known: {', '.join(every)}")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.quick else {}
    for row in names:
        if row in found:
            continue
        if options.quick:
            with tempfile.TemporaryDirectory() as work:
                found[row] = compute(row, True, Path(work))
            continue
        work = RESULTS.parent / "work"
        work.mkdir(parents=True, exist_ok=True)
        result = compute(row, False, work)
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[row] = kept[row] = result
        RESULTS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    print("| row | −log p(x) | samples, images | −ELBO, held out | weights | epochs | minutes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in names:
        r = found[row]
        print(
            f"| {row} | {r['nll']:.2f} ± {r['standard_error']:.2f} "
            f"| {r['n_samples']:,}, {r['n_test']:,} | {-r['elbo']:.2f} | {r['weights']:,} "
            f"| {r['epochs']} | {r['minutes']:.0f} |"
        )


if __name__ == "__main__":
    main()
