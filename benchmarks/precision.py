"""From which size on bfloat16 makes training faster.

    python -m benchmarks.precision [--rounds 3] [--quick]

One epoch of random binary rows with 10 latent variables and the batch size that the estimator
chooses, in turn in float32 and in bfloat16; the ratio is the median of those within a round. The
limit in `skvae` (200,000 weights) comes from this table.
"""

import argparse
import datetime

import numpy as np

from benchmarks.contenders import machine
from skvae import VAE

# features, hidden units in each of two layers, rows
CASES = [
    (16, 64, 2_000),
    (64, 64, 20_000),
    (64, 256, 20_000),
    (196, 256, 20_000),
    (784, 256, 20_000),
    (784, 500, 20_000),
    (3_000, 256, 10_000),
]


def epoch(X, width, precision):
    """Return seconds of an epoch and the number of weights."""
    vae = VAE(
        likelihood="bernoulli",
        hidden_layer_sizes=(width, width),
        max_epochs=1,
        early_stopping=False,
        precision=precision,
        random_state=0,
    ).fit(X)
    weights = sum(p.numel() for p in vae._core.module.parameters())
    return vae.history_[0]["seconds"], weights


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="1 round, a tenth of the rows")
    options = parser.parse_args()
    rounds, part = (1, 10) if options.quick else (options.rounds, 1)
    print(f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}\n")
    print("| features | hidden | weights | float32, seconds | bfloat16 / float32 |")
    print("|---:|---:|---:|---:|---:|")
    for d, width, n in CASES:
        X = np.random.default_rng(0).integers(0, 2, (n // part, d)).astype(np.float32)
        found = []
        for number in range(rounds + 1):
            (exact, weights), (rough, _) = (epoch(X, width, p) for p in ("float32", "bfloat16"))
            if number:  # the first round warms up
                found.append((exact, rough / exact))
        exact, ratio = np.median(found, axis=0)
        print(f"| {d:,} | {width} | {weights:,} | {exact:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
