"""How fast a fitted model is used: rows per second, the share of the machine's limit, and memory.

    python -m benchmarks.inference [--rounds 5] [--quick]

The network is 784-500-500-50 and back, in float32, trained for one epoch: speed does not depend
on weights. The limit is the time of the matrix products alone, measured in the same round at
the shapes in which the estimator makes its calls. Memory is the growth of the peak while the
method runs, in a process of its own.
"""

import argparse
import datetime
import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import skvae
from benchmarks.contenders import HIDDEN, LATENT, LAYERS, D, Peak, machine, pythae_trainer, quiet
from skvae import VAE, datasets
from skvae.importance import LATENTS_PER_CALL

ENCODER, DECODER = LAYERS[:3], LAYERS[3:]


def fitted(X):
    """Return a model of one epoch."""
    return VAE(
        LATENT,
        likelihood="bernoulli",
        hidden_layer_sizes=(HIDDEN, HIDDEN),
        max_epochs=1,
        early_stopping=False,
        random_state=0,
    ).fit(X)


def products(layers, rows, block):
    """Time the matrix products for so many rows of one block size."""
    operands = [(torch.randn(block, i), torch.randn(o, i)) for i, o in layers]
    calls = max(1, rows // block)
    start = time.perf_counter()
    for _ in range(calls):
        for x, weight in operands:
            x @ weight.T
    return (time.perf_counter() - start) * rows / (calls * block)


def timed(function):
    """Return seconds."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def speed(X, rounds):
    """Print rows per second beside the limit and beside pythae."""
    vae = fitted(X)
    n, k = len(X), 100
    few = X[: n // k]
    cases = {
        "transform": (n, lambda: vae.transform(X), lambda: products(ENCODER, n, 1024)),
        f"score_samples, {k} samples": (
            len(few),
            lambda: vae.score_samples(few, n_samples=k),
            lambda: (
                products(DECODER, len(few) * k, LATENTS_PER_CALL)
                + products(ENCODER, len(few), 256)
            ),
        ),
        "sample, means": (
            n,
            lambda: vae.sample(n, kind="mean", random_state=0),
            lambda: products(DECODER, n, 1024),
        ),
        "sample, draws": (
            n,
            lambda: vae.sample(n, random_state=0),
            lambda: products(DECODER, n, 1024),
        ),
    }
    peers = {}
    if importlib.util.find_spec("pythae") is not None:
        with tempfile.TemporaryDirectory() as folder, quiet():
            peer = pythae_trainer(X, folder).model.eval()
        x, few_x = torch.from_numpy(X), torch.from_numpy(few)

        def embed():
            with torch.no_grad():
                for rows in x.split(1024):
                    peer.embed(rows)

        peers["transform"] = embed
        peers[f"score_samples, {k} samples"] = lambda: peer.get_nll(few_x, k, batch_size=k)
    print("| call | rows/s | share of the limit | × pythae |")
    print("|---|---:|---:|---:|")
    for name, (rows, ours, limit) in cases.items():
        found = []
        for number in range(rounds + 1):
            row = [timed(ours), limit(), timed(peers[name]) if name in peers else float("nan")]
            if number:
                found.append(row)
        seconds, bound, peer_seconds = np.array(found).T
        times = np.median(peer_seconds / seconds)
        print(
            f"| `{name}` | {rows / np.median(seconds):,.0f} | {np.median(bound / seconds):.2f} "
            f"| {'–' if np.isnan(times) else f'{times:.1f}'} |",
            flush=True,
        )


def grown(path, call, rows, samples):
    """Print by how much a call raises this process's peak."""
    vae = skvae.load(path)
    X = np.zeros((rows, D), dtype=np.float32)
    X[:, ::3] = 1
    calls = {
        "transform": lambda n: vae.transform(X[:n]),
        "score_samples": lambda n: vae.score_samples(X[:n], n_samples=samples),
        "sample": lambda n: vae.sample(n, random_state=0),
    }
    calls[call](1)  # libraries are loaded
    peak = Peak()
    calls[call](rows)
    print(peak.megabytes())


def memory(X, quick):
    """Print the growth of the peak for more rows and more samples."""
    cases = [("transform", 2_000, 1), ("transform", 40_000, 1)]
    cases += [("score_samples", 20, 100), ("score_samples", 200, 100), ("score_samples", 20, 5000)]
    cases += [("sample", 2_000, 1), ("sample", 40_000, 1)]
    print("| call | rows | samples | growth of the peak, MB | of which the result |")
    print("|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        fitted(X[:2000]).save(path)
        for call, rows, samples in cases[:: 3 if quick else 1]:
            arguments = [str(path), call, str(rows), str(samples)]
            child = [sys.executable, "-m", "benchmarks.inference", "--child", *arguments]
            out = subprocess.run(child, check=True, capture_output=True, text=True).stdout
            width = {"transform": LATENT * 4, "score_samples": 8, "sample": D * 8}[call]
            print(
                f"| `{call}` | {rows:,} | {samples:,} | {float(out):.0f} "
                f"| {rows * width / 1e6:.1f} |",
                flush=True,
            )


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="2,000 images, 1 round")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        path, call, rows, samples = options.child
        grown(path, call, int(rows), int(samples))
        return
    X = datasets.load_mnist(progress=print).X_train
    X = (X[: 2000 if options.quick else 20_000] > 127).astype(np.float32)
    print(f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}\n")
    speed(X, 1 if options.quick else options.rounds)
    print()
    memory(X, options.quick)


if __name__ == "__main__":
    main()
