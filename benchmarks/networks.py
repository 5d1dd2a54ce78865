"""Convolutional models beside a fully connected one, in nats and in bits per pixel.

    python -m benchmarks.networks [--rows mnist-conv,mnist-mlp,...] [--quick]

The protocol is that of `benchmarks.density`: training targets are binarised afresh in every epoch,
the test set once, 400 images are held out, one seed. −log p(x) is by importance sampling, with the
number of samples that the table says, on as many test images as it says.

``fashion8`` is Fashion-MNIST as bytes, ``photos`` patches of 32 x 32 x 3 bytes of the two
photographs that come with scikit-learn, cut from the left four fifths for training and from the
rest for the test; both under a mixture of discretised logistics.

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
from skvae.likelihoods.images import bits_per_dim

RESULTS = Path(__file__).parent / "results" / "networks.json"

CONV = {
    "network": networks.Conv(channels=16),
    "batch_size": 128,
    "precision": "float32",  # at 16 channels faster than bfloat16
}
FLOW = priors.Flow(n_transforms=8, hidden_layer_sizes=(256, 256))
BYTES = {"likelihood": "discretized_logistic_mixture", "binarize": None, "learning_rate": 2e-3}
PHOTOS = {**BYTES, "validation_fraction": 0.02, "augment": "flip"}

# name: importance samples, test images, what differs from the settings of `benchmarks.density`.
# The epochs are such that rows which are compared take about the same time.
ROWS = {
    "mnist-mlp": (100, 2000, {"network": networks.MLP((500, 500)), "max_epochs": 60}),
    "mnist-conv": (100, 2000, {**CONV, "max_epochs": 6}),
    "mnist-conv_flow_prior": (200, 10_000, {**CONV, "prior": FLOW, "max_epochs": 40}),
    "mnist-conv_ladder": (
        200,
        10_000,
        {**CONV, "n_components": 4, "model": models.ConvLadder(), "max_epochs": 32},
    ),
    "fashion-mlp": (100, 2000, {"network": networks.MLP((500, 500)), "max_epochs": 60}),
    "fashion-conv": (100, 2000, {**CONV, "max_epochs": 6}),
    "fashion8-mlp": (50, 2000, {**BYTES, "network": networks.MLP((500, 500)), "max_epochs": 20}),
    "fashion8-conv_ladder": (
        50,
        2000,
        {**BYTES, **CONV, "n_components": 4, "model": models.ConvLadder(), "max_epochs": 4},
    ),
    "photos-mlp": (50, 500, {**PHOTOS, "network": networks.MLP((500, 500)), "max_epochs": 40}),
    "photos-conv_ladder": (
        50,
        500,
        {**PHOTOS, **CONV, "n_components": 4, "model": models.ConvLadder(), "max_epochs": 12},
    ),
}


def photos(side=32, step=8):
    """Return patches for training and for the test, bytes of shape (n, 3, side, side)."""
    from sklearn.datasets import load_sample_images

    train, test = [], []
    for image in load_sample_images().images:
        border = image.shape[1] * 4 // 5
        for part, found in ((image[:, :border], train), (image[:, border:], test)):
            for top in range(0, part.shape[0] - side + 1, step):
                for left in range(0, part.shape[1] - side + 1, step):
                    found.append(part[top : top + side, left : left + side].transpose(2, 0, 1))
    return np.stack(train), np.stack(test)[:: max(1, len(test) // 500)]


def images(name):
    """Return images for training and for the test, shape (n, c, height, width)."""
    if name == "photos":
        return photos()
    data = datasets.load_mnist() if name == "mnist" else datasets.load_fashion_mnist()
    X, T = (x.reshape(-1, 1, 28, 28) for x in (data.X_train, data.X_test))
    return (X, T) if name == "fashion8" else (X / np.float32(255), T / np.float32(255))


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
    X, T = images(row.split("-")[0])
    n_samples, n_test, own = ROWS[row]
    settings = {**SHARED, **own}
    if quick:
        X, n_test, n_samples = X[:2000], 100, 20
        settings |= {"max_epochs": 2, "validation_fraction": 0.05}
    T = T[:n_test]
    vae, minutes = fitted(row, settings, X, work)
    log_likelihood = scores(row, vae, T, n_samples, work)
    discrete = settings["likelihood"] == "discretized_logistic_mixture"
    return {
        "bits_per_dim": bits_per_dim(float(np.mean(log_likelihood)), T.shape[1:])
        if discrete
        else None,
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--quick", action="store_true", help="a foretaste in minutes; not kept")
    parser.add_argument("--kept", action="store_true", help="print what is there, compute nothing")
    options = parser.parse_args()
    names = options.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}; known: {', '.join(ROWS)}")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.quick else {}
    if options.kept:
        names = [row for row in names if row in found]
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
    columns = "| row | −log p(x) | bits per cell | samples, images | −ELBO, held out | weights "
    print(columns + "| epochs | minutes |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in names:
        r, bits = found[row], found[row]["bits_per_dim"]
        print(
            f"| {row} | {r['nll']:.2f} ± {r['standard_error']:.2f} "
            f"| {f'{bits:.3f}' if bits else '–'} | {r['n_samples']:,}, {r['n_test']:,} "
            f"| {-r['elbo']:.2f} | {r['weights']:,} "
            f"| {r['epochs']} | {r['minutes']:.0f} |"
        )


if __name__ == "__main__":
    main()
