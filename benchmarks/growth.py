"""How seconds and memory of `fit` grow with rows, features and latent variables.

    python -m benchmarks.growth [--parts rows,features,latent] [--force]

Each point is a process of its own that makes one pass in batches of 1,024 with 128 hidden units,
writes down the seconds of the pass and by how much its memory grows at most, with the rows that
it is given, after a fit of 1,000 rows, and ends. Points are kept in
``benchmarks/results/growth.json``; a run that is stopped goes on with the next one. The picture is
``docs/growth.png``.

``rows`` are 20 numbers each, in memory and streamed from a folder of ``.npy`` files; ``features``
and ``latent`` are passes over 20,000 rows, of 100 features where latent variables are counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.contenders import Peak
from skvae import VAE

RESULTS = Path(__file__).parent / "results" / "growth.json"
PICTURE = Path(__file__).parent.parent / "docs" / "growth.png"

POINTS = {
    "rows": [(n, 20, 8) for n in (1_000, 10_000, 100_000, 1_000_000, 10_000_000)],
    "streamed": [(n, 20, 8) for n in (1_000, 10_000, 100_000, 1_000_000, 10_000_000)],
    "features": [(20_000, d, 8) for d in (10, 30, 100, 300, 1_000, 3_000, 10_000)],
    "latent": [(20_000, 100, d) for d in (2, 8, 32, 128, 512)],
}
VARIED = {"rows": 0, "streamed": 0, "features": 1, "latent": 2}


def data(n, d, seed=0):
    """Return rows with five factors behind them, float32."""
    generator = np.random.default_rng(seed)
    loadings = generator.standard_normal((5, d), dtype=np.float32)
    X = generator.standard_normal((n, 5), dtype=np.float32) @ loadings
    for start in range(0, n, 100_000):  # noise for all at once would be the peak
        part = X[start : start + 100_000]
        part += generator.standard_normal(part.shape, dtype=np.float32)
    return X


def written(folder, n, d):
    """Write the rows as files of at most 500,000 and return the folder."""
    for i, start in enumerate(range(0, n, 500_000)):
        np.save(Path(folder) / f"{i:03}.npy", data(min(500_000, n - start), d, seed=i))
    return folder


def measure(part, n, d, latent, folder):
    """Fit and print seconds of the pass, of the whole fit, and memory."""
    settings = {
        "likelihood": "gaussian",
        "hidden_layer_sizes": (128, 128),
        "max_epochs": 1,
        "batch_size": 1024,
        "early_stopping": False,
        "random_state": 0,
    }
    VAE(latent, **settings).fit(data(1000, d))
    peak = Peak()
    X = str(folder) if part == "streamed" else data(n, d)
    start = time.perf_counter()
    vae = VAE(latent, **settings).fit(X)
    whole = time.perf_counter() - start
    found = {"pass": vae.history_[0]["seconds"], "fit": whole, "memory": peak.megabytes()}
    print(json.dumps(found))


def draw(kept):
    """Draw the curves."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.2), sharex="col", layout="constrained")
    names = {"rows": "rows", "features": "features", "latent": "latent variables"}
    for column, (part, name) in enumerate(names.items()):
        kinds = (
            [("rows", "in memory"), ("streamed", "streamed")] if part == "rows" else [(part, "")]
        )
        for kind, label in kinds:
            points = [(p[VARIED[kind]], kept.get(key(kind, p))) for p in POINTS[kind]]
            points = [(x, found) for x, found in points if found]
            if not points:
                continue
            x = [x for x, _ in points]
            axes[0, column].loglog(x, [f["pass"] for _, f in points], "o-", label=label)
            memory = [max(f["memory"], 1) for _, f in points]
            axes[1, column].loglog(x, memory, "o-", label=label)
            if kind != "streamed":
                last = points[-1][1]["pass"]
                line = [last * v / x[-1] for v in x]
                axes[0, column].loglog(x, line, ":", color="0.6", label="linear")
        axes[1, column].set_xlabel(name)
        axes[0, column].legend(frameon=False)
    axes[0, 0].set_ylabel("seconds of one pass")
    axes[1, 0].set_ylabel("memory, MB")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(PICTURE, dpi=110)


def key(part, point):
    """Return the name under which a point is kept."""
    return f"{part} {' '.join(map(str, point))}"


def main():
    """Measure what is missing, print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(POINTS))
    parser.add_argument("--force", action="store_true", help="measure points that are kept anew")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        part, *sizes, folder = options.child
        measure(part, *map(int, sizes), folder)
        return
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    print("| varied | rows | features | latent | seconds of one pass | of the fit | memory, MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for part in options.parts.split(","):
        for point in POINTS[part]:
            name = key(part, point)
            if name not in kept or options.force:
                with tempfile.TemporaryDirectory() as folder:
                    if part == "streamed":
                        written(folder, *point[:2])
                    child = [sys.executable, "-m", "benchmarks.growth", "--child", part]
                    child += [*map(str, point), folder]
                    out = subprocess.run(child, check=True, capture_output=True, text=True).stdout
                kept[name] = json.loads(out)
                RESULTS.write_text(json.dumps(kept, indent=2) + "\n")
            found = kept[name]
            n, d, latent = point
            print(
                f"| {part} | {n:,} | {d:,} | {latent} | {found['pass']:.2f} | {found['fit']:.2f} "
                f"| {found['memory']:.0f} |",
                flush=True,
            )
    draw(kept)


if __name__ == "__main__":
    main()
