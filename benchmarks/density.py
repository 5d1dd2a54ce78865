"""Dynamic MNIST log-likelihood beside published figures.

    python -m benchmarks.density [--rows vae,iwae5,vamp,flow_prior,ladder] [--quick]

Protocol (Burda et al., 2016, arXiv:1509.00519): 59,600 training, 400 held-out and 10,000 test
images; training targets are binarised afresh in every epoch, the test set once; −log p(x) by 5,000
importance samples on all test images. One seed. All rows are MLPs; ``ladder`` has three latent
layers, the others one.

A finished row is kept in ``benchmarks/results/density.json`` and not computed again, so that the
table can be filled over several runs; ``--force`` computes it anew. A run that is stopped goes on
where its training or its scoring stood.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

import skvae
from skvae import VAE, datasets, models, networks, objectives, priors

RESULTS = Path(__file__).parent / "results" / "density.json"

SHARED = {
    "n_components": 50,
    "likelihood": "bernoulli",
    "binarize": "stochastic",
    "batch_size": 256,
    "learning_rate": 3e-3,
    "validation_fraction": 400 / 60000 + 1e-9,
    "n_iter_no_change": 10_000,
    "precision": "auto",
    "random_state": 0,
    "verbose": 1,
}

# name: published figure with its source, and what differs from the shared settings
ROWS = {
    "vae": (
        "86.76 (Burda et al., 2016, L = 1, 3,280 epochs)",
        {"network": networks.MLP((500, 500)), "max_epochs": 100},
    ),
    "iwae5": (
        "85.54 (Burda et al., 2016, K = 5, 3,280 epochs); 84.90 with DReG (Tucker et al., 2019)",
        {
            "network": networks.MLP((300, 300)),
            "objective": objectives.IWAE(n_samples=5, gradient="dreg"),
            "max_epochs": 150,
        },
    ),
    "vamp": (
        "82.43 (VampPrior, K = 500, as measured by Norouzi et al., 2020)",
        {
            "network": networks.MLP((500, 500)),
            "prior": priors.Vamp(n_components=500),
            "max_epochs": 150,
        },
    ),
    "flow_prior": (
        "82.09 (Norouzi et al., 2020, Exemplar VAE; best MLP row published)",
        {
            "network": networks.MLP((500, 500)),
            "prior": priors.Flow(n_transforms=8, hidden_layer_sizes=(256, 256)),
            "max_epochs": 150,
        },
    ),
    "ladder": (
        "81.74–82.12 (Sønderby et al., 2016)",
        {
            "n_components": 64,
            "model": models.Ladder(upper=(32, 16), hidden_layer_sizes=(256, 128)),
            "network": networks.MLP((512, 512), batch_norm=True),
            "objective": objectives.ELBO(warmup=6000),
            "max_epochs": 250,
        },
    ),
}


def fitted(name, settings, X, work):
    """Return the row's model and the minutes that its training took; an old one is read back."""
    path, note = work / f"{name}.safetensors", work / f"{name}-minutes.json"
    if path.exists() and note.exists():
        return skvae.load(path), json.loads(note.read_text())
    vae = VAE(**settings, checkpoint=str(work / f"{name}-checkpoint")).fit(X)
    minutes = sum(epoch["seconds"] for epoch in vae.history_.rows) / 60
    vae.save(path, overwrite=True)
    note.write_text(json.dumps(minutes))
    return vae, minutes


def scores(name, vae, T, n_samples, work):
    """Return log p(x) of every row of T; blocks that were scored before are read back."""
    path = work / f"{name}-scores.json"
    done = json.loads(path.read_text()) if path.exists() else []
    for start in range(len(done), len(T), 500):
        done += vae.score_samples(T[start : start + 500], n_samples=n_samples).tolist()
        path.write_text(json.dumps(done))
        print(f"{name}: {len(done)} rows, {-np.mean(done):.2f} nats", file=sys.stderr, flush=True)
    return np.array(done)


def compute(name, quick, work):
    """Train and score one row."""
    data = datasets.load_mnist()
    X, T = data.X_train / np.float32(255), data.X_test / np.float32(255)
    settings = {**SHARED, **ROWS[name][1]}
    n_samples = 5000
    if quick:
        X, T, n_samples = X[:6000], T[:500], 100
        settings |= {"max_epochs": 5, "validation_fraction": 0.05}
    vae, minutes = fitted(name, settings, X, work)
    log_likelihood = scores(name, vae, T, n_samples, work)
    report = vae.evaluate(T, n_samples=100)
    difference = None
    baseline = work / "vae-scores.json"
    if name != "vae" and baseline.exists():  # the same images: their spread cancels
        gains = np.array(json.loads(baseline.read_text())) - log_likelihood
        difference = [float(np.mean(gains)), float(np.std(gains, ddof=1) / len(T) ** 0.5)]
    return {
        "versus_vae": difference,
        "nll": -float(np.mean(log_likelihood)),
        "standard_error": float(np.std(log_likelihood, ddof=1) / len(T) ** 0.5),
        "elbo": report.elbo,
        "kl": report.kl,
        "n_samples": n_samples,
        "n_test": report.n_rows,
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
    parser.add_argument("--force", action="store_true", help="compute rows that are kept anew")
    options = parser.parse_args()
    names = options.rows.split(",")
    if unknown := set(names) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}; known: {', '.join(ROWS)}")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    found = {} if options.quick else dict(kept)
    for name in names:
        if name not in found or options.force:
            with contextlib.ExitStack() as stack:
                work = RESULTS.parent / "work"
                if options.quick:
                    work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                elif options.force:
                    for path in work.glob(f"{name}[-.]*"):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                work.mkdir(parents=True, exist_ok=True)
                found[name] = compute(name, options.quick, work)
            if not options.quick:
                RESULTS.parent.mkdir(exist_ok=True)
                kept[name] = found[name]
                RESULTS.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
    columns = ["row", "published", "−log p(x)", "to `vae`, paired", "−ELBO", "epochs", "minutes"]
    print("| " + " | ".join([*columns, "date"]) + " |")
    print("|---|---|---:|---:|---:|---:|---:|---|")
    for name in names:
        r = found[name]
        paired = "{:+.2f} ± {:.2f}".format(*r["versus_vae"]) if r["versus_vae"] else "–"
        print(
            f"| {name} | {ROWS[name][0]} | {r['nll']:.2f} ± {r['standard_error']:.2f} | {paired} "
            f"| {-r['elbo']:.2f} | {r['epochs']} | {r['minutes']:.0f} | {r['date']} |"
        )


if __name__ == "__main__":
    main()
