"""Sequences: English words as characters, and spoken vowels as vectors of ragged length.

    python -m benchmarks.sequences [--rows words-rnn,...] [--quick]

``words``: 30,000 + 3,000 words of 3 to 14 letters from the list of the Debian package wamerican
(``/usr/share/dict/words``, or the package is downloaded). ``vowels``: JapaneseVowels (Kudo et
al., 1999), 270 + 370 sequences of 7 to 29 steps with 12 coefficients, from inside the PyPI package
aeon.

Held-out −log p(x) by importance sampling, in nats per step, the end of a sequence included. The
row ``autoregressive`` is the same decoder with its latent variables switched off: β = 1,000 leaves
them without information. Finished rows are kept in ``benchmarks/results/sequences.json``.
"""

import argparse
import datetime
import io
import json
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.contenders import machine
from skvae import VAE, networks, objectives

RESULTS = Path(__file__).parent / "results" / "sequences.json"
AEON = "aeon==1.6.0"

SHARED = {
    "n_components": 16,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "n_iter_no_change": 1000,
    "random_state": 0,
    "verbose": 1,
}
ROWS = {
    "autoregressive": {
        "network": networks.RNN(),
        "objective": objectives.ELBO(beta=1000.0),
    },
    "rnn": {"network": networks.RNN(), "objective": objectives.ELBO(warmup=1000)},
    "rnn_free_bits": {
        "network": networks.RNN(word_dropout=0.3),
        "objective": objectives.ELBO(warmup=1000, free_bits=0.3),
    },
    "tcn": {"network": networks.TCN(), "objective": objectives.ELBO(warmup=1000, free_bits=0.3)},
}
EPOCHS = {"words": 10, "vowels": 200}


def words():
    """Return words for training and for the test."""
    path = Path("/usr/share/dict/words")
    with tempfile.TemporaryDirectory() as folder:
        if not path.exists():
            commands = (["apt-get", "download", "-qq", "wamerican"], "dpkg -x *.deb .")
            for command in commands:
                subprocess.run(
                    command, shell=isinstance(command, str), cwd=folder, check=True,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
            path = Path(folder) / "usr/share/dict/american-english"
        found = re.findall(r"^[a-z]{3,14}$", path.read_text("utf-8"), re.MULTILINE)
    order = np.random.default_rng(0).permutation(len(found))
    chosen = [found[i] for i in order]
    return chosen[:30_000], chosen[30_000:33_000]


def vowels():
    """Return sequences for training and for the test."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", AEON]
        subprocess.run(command, cwd=folder, check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            name = "aeon/datasets/data/JapaneseVowels/JapaneseVowels_{}.ts"
            texts = [archive.read(name.format(part)).decode() for part in ("TRAIN", "TEST")]
    found = []
    for text in texts:
        rows = [line for line in io.StringIO(text) if line[0] not in "@#\n"]
        sequences = [
            np.array([c.split(",") for c in row.split(":")[:12]], np.float32).T for row in rows
        ]
        found.append(sequences)
    return found


def compute(row, quick):
    """Train and score one row."""
    dataset, name = row.split("-")
    X, T = {"words": words, "vowels": vowels}[dataset]()
    settings = {**SHARED, "max_epochs": EPOCHS[dataset], **ROWS[name]}
    n_samples = 100
    if dataset == "vowels":
        settings["event_shape"] = (29, 12)  # the longest of the test, longer than any to train on
    if quick:
        X, T, n_samples = X[:500], T[:50], 10
        settings["max_epochs"] = 2
    start = time.perf_counter()
    vae = VAE(**settings).fit(X)
    minutes = (time.perf_counter() - start) / 60
    report = vae.evaluate(T, n_samples=n_samples)
    steps = np.mean([len(t) + 1 for t in T])
    result = {
        "per_step": -report.log_likelihood / steps,
        "nll": -report.log_likelihood,
        "standard_error": report.standard_error,
        "kl": report.kl,
        "active": report.active_units,
        "n_samples": n_samples,
        "n_test": len(T),
        "epochs": vae.n_iter_,
        "minutes": minutes,
        "date": f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        "machine": machine(),
    }
    if dataset == "words":
        result["samples"] = list(vae.sample(12, random_state=0))
        again = vae.inverse_transform(vae.transform(T[:6]))
        result["reconstructed"] = [*zip(T[:6], again, strict=True)]
        result["interpolation"] = vae.interpolate("reading", "paint", n_steps=7)
    return result


def main():
    """Compute what is missing and print the table."""
    every = [f"{dataset}-{name}" for dataset in EPOCHS for name in ROWS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default=",".join(every))
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--kept", action="store_true", help="print what is there, compute nothing")
    options = parser.parse_args()
    names = options.rows.split(",")
    if unknown := set(names) - set(every):
        parser.error(f"unknown rows {sorted(unknown)}; known: {', '.join(every)}")
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() and not options.quick else {}
    if options.kept:
        names = [row for row in names if row in found]
    for row in names:
        if row in found:
            continue
        found[row] = compute(row, options.quick)
        if not options.quick:
            kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(
                json.dumps({**kept, row: found[row]}, indent=2, sort_keys=True) + "\n"
            )
    print("| row | nats per step | −log p(x) | KL | active units | epochs | minutes |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for row in names:
        r = found[row]
        print(
            f"| {row} | {r['per_step']:.3f} | {r['nll']:.2f} ± {r['standard_error']:.2f} "
            f"| {r['kl']:.2f} | {r['active']} | {r['epochs']} | {r['minutes']:.1f} |"
        )
    for row in names:
        for kind in ("samples", "reconstructed", "interpolation"):
            if kind in found[row]:
                print(f"\n{row}, {kind}: {found[row][kind]}")


if __name__ == "__main__":
    main()
