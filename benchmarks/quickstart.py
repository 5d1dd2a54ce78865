"""Dynamic MNIST: the estimator with its defaults beside the loop that tutorials show.

    python -m benchmarks.quickstart [--epochs 10] [--quick]

Both train the same network (784-500-500-20, mirrored) for the same number of passes over 60,000
images that are binarised afresh, and are scored on the same 10,000 binary test images. The peer is
the usual plain PyTorch loop: ``DataLoader``, Adam at 1e-3, batch 128. Seconds are wall time of
training alone, one contender after the other on an otherwise idle machine.
"""

import argparse
import datetime
import os
import platform
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

import skvae
from benchmarks.contenders import PlainVAE
from skvae import VAE, datasets
from skvae.data import binarize_by_content

HIDDEN, LATENT = 500, 20


def plain(X, test, epochs, seed):
    """Train the peer; return seconds and test −ELBO."""
    torch.manual_seed(seed)
    model = PlainVAE(LATENT)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=128, shuffle=True)
    start = time.perf_counter()
    for _ in range(epochs):
        for (x,) in loader:
            optimizer.zero_grad()
            model.negative_elbo(torch.bernoulli(x)).mean().backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        bound = model.negative_elbo(torch.from_numpy(test)).mean().item()
    return seconds, bound


def ours(X, test, epochs, seed, precision):
    """Train the estimator; return seconds and test −ELBO."""
    vae = VAE(
        n_components=LATENT,
        likelihood="bernoulli",
        binarize="stochastic",
        hidden_layer_sizes=(HIDDEN, HIDDEN),
        max_epochs=epochs,
        early_stopping=False,
        precision=precision,
        random_state=seed,
    )
    start = time.perf_counter()
    vae.fit(X)
    seconds = time.perf_counter() - start
    return seconds, -vae.evaluate(test, n_samples=1).elbo


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="6,000 images, 2 epochs")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = datasets.load_mnist(progress=print)
    X, T = data.X_train / np.float32(255), data.X_test / np.float32(255)
    epochs = options.epochs
    if options.quick:
        X, T, epochs = X[:6000], T[:1000], 2
    test = binarize_by_content(T)
    rows = [
        ("plain PyTorch loop, float32", *plain(X, test, epochs, options.seed)),
        ("skvae.VAE, float32", *ours(X, test, epochs, options.seed, "float32")),
        ("skvae.VAE, precision='auto'", *ours(X, test, epochs, options.seed, "auto")),
    ]
    reference = rows[0][1]
    print(
        f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {platform.machine()}, "
        f"{os.cpu_count()} cores, torch {torch.__version__}, scikit-vae {skvae.__version__}, "
        f"{len(X)} images, {epochs} epochs, seed {options.seed}\n"
    )
    print("| contender | test −ELBO, nats | seconds | seconds / peer's |")
    print("|---|---:|---:|---:|")
    for name, seconds, bound in rows:
        print(f"| {name} | {bound:.2f} | {seconds:.0f} | {seconds / reference:.2f} |")


if __name__ == "__main__":
    main()
