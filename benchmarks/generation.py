"""How good samples are: priors and models of scikit-vae beside pythae's.

    python -m benchmarks.generation [--data mnist,fashion-mnist] [--rows vae,gmm,...] [--quick]
                                    [--out FILE] [--report]

Each row makes 10,000 images, means of p(x | z) at draws of z, which are compared with the 10,000
test images in the features of a small convolutional classifier of the training images (seed 0;
figures of other classifiers are no comparison). ``train`` is 10,000 training images in place of
generated ones: what a perfect model would have. ``vae``, ``gmm``, ``gmm_diagonal``, ``flow``,
``vamp`` and ``two_stage`` are one model, 784-500-500-16, 25 epochs, with its own prior or with
another one that was fitted to the aggregate posterior afterwards (``two_stage``: a second VAE of
the posterior means, Dai and Wipf, 2019, arXiv:1903.05789); ``pythae`` and ``pythae_gmm`` the same
network, epochs and priors (``pip install --no-deps -r benchmarks/requirements.txt``). ``joint``
learns a flow as prior along with the model. ``sharp`` is the same network with a fifth of the KL
term (beta-VAE, Higgins et al., 2017): codes are told apart better and images are sharper, N(0, I)
fits them less, and a mixture of 100 full Gaussians is fitted instead; ``pythae_sharp`` is pythae's
beta-VAE and mixture with the same numbers, ``conv`` ours with convolutions. Nothing was chosen by
the test images.

A model that is trained is kept in ``benchmarks/results/work``, a finished row is a line of
``benchmarks/results/generation.jsonl`` and is not computed again as long as its settings stay.
Seconds are those of all cores together.
"""

import argparse
import hashlib
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import skvae
from benchmarks.contenders import pythae_trainer, quiet
from benchmarks.imputation.kept import FOLDER, Kept
from benchmarks.imputation.report import markdown, text
from skvae import VAE, datasets, priors
from skvae.evaluation import ClassifierFeatures, generation
from skvae.likelihoods import Gaussian
from skvae.networks import Conv
from skvae.objectives import ELBO

KEYS = ("data", "row", "settings", "n")
N = 10_000

LIKE = {
    "n_components": 16,
    "likelihood": "bernoulli",
    "hidden_layer_sizes": (500, 500),
    "max_epochs": 25,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "early_stopping": False,
    "random_state": 0,
}
JOINT = LIKE | {"prior": priors.Flow()}
SHARP = LIKE | {"objective": ELBO(beta=0.2)}
CONV = {k: v for k, v in SHARP.items() if k != "hidden_layer_sizes"} | {
    "network": Conv.of((1, 28, 28)).replace(channels=16),
    "event_shape": (1, 28, 28),
    "max_epochs": 12,
    "batch_size": 128,
}
SECOND = {
    "n_components": 16,
    "likelihood": Gaussian(scale="global"),
    "hidden_layer_sizes": (500, 500),
    "max_epochs": 25,
    "early_stopping": False,
    "random_state": 1,
}
# A model, and the prior that is fitted after training.
OURS = {
    "vae": (LIKE, None),
    "gmm": (LIKE, priors.GaussianMixture(10, covariance="full")),
    "gmm_diagonal": (LIKE, priors.GaussianMixture(10)),
    "vamp": (LIKE, priors.Vamp(500)),
    "flow": (LIKE, priors.Flow()),
    "joint": (JOINT, None),
    "sharp": (SHARP, priors.GaussianMixture(100, covariance="full")),
    "conv": (CONV, priors.GaussianMixture(100, covariance="full")),
}
# Weight of the KL term, and Gaussians of the mixture that is fitted afterwards.
PEERS = {"pythae": (1.0, None), "pythae_gmm": (1.0, 10), "pythae_sharp": (0.2, 100)}
ROWS = ("train", *OURS, "two_stage", *PEERS)
QUICK = {"max_epochs": 2, "hidden_layer_sizes": (64,), "network": "mlp", "event_shape": None}

MEASURES = ("frechet_distance", "coverage", "density", "precision", "recall")
MEASURES += ("nearer_than_real", "core_seconds")


class Bench:
    """One data set.

    Parameters
    ----------
    name : str
    work : Path
        Where models are kept.
    quick : bool
        2,000 rows, small models.
    """

    def __init__(self, name, work, quick=False):
        data = datasets.load(name)
        n = 2000 if quick else None
        self.name, self.work, self.quick = name, work, quick
        white = data.X_train.max()
        self.X = (data.X_train[:n] / white).astype(np.float32)
        self.y = data.y_train[:n]
        self.T = (data.X_test[: n or N] / white).astype(np.float32)
        self.n = len(self.T)
        side = math.isqrt(self.X.shape[1])
        self.event_shape = (1, side, side)
        n_updates = 200 if quick else 1500
        self.features = ClassifierFeatures(event_shape=self.event_shape, n_updates=n_updates)

    def settings(self, row):
        """Return what a row is, as text."""
        if row == "train":
            return "training images"
        if row in PEERS:
            own = {k: LIKE[k] for k in ("max_epochs", "batch_size", "learning_rate")}
            beta, n = PEERS[row]
            weight = "" if beta == 1 else f"beta={beta}, "
            return f"pythae, 784-500-500-16, {weight}{own}, mixture of {n}"
        own, prior = OURS.get(row, (LIKE, None))
        then = f", then {prior!r}" if prior is not None else ""
        if row == "two_stage":
            then = f", then VAE({self._quickly(SECOND)!r}) of posterior means"
        return f"VAE({self._quickly(own)!r}){then}"

    def _quickly(self, settings):
        return settings | QUICK if self.quick else settings

    def fitted(self, settings):
        """Return a model and the seconds that it took; one that was kept is read back."""
        settings = self._quickly(settings)
        digest = hashlib.sha256(f"{self.name} {settings!r} {len(self.X)}".encode()).hexdigest()
        path = self.work / f"generation-{self.name}-{digest[:12]}.safetensors"
        cost = path.with_suffix(".seconds")
        if not cost.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            start = time.process_time()
            vae = VAE(**settings).fit(self.X)
            seconds = time.process_time() - start
            vae.save(path, overwrite=True)
            cost.write_text(repr(seconds))
        return skvae.load(path), float(cost.read_text())

    def images(self, row):
        """Return images of a row, and the seconds that its model and its prior took."""
        if row == "train":
            order = np.random.default_rng(0).permutation(len(self.X))
            return self.X[order[: self.n]], 0.0
        if row in PEERS:
            return self.of_pythae(*PEERS[row])
        settings, prior = OURS.get(row, (LIKE, None))
        vae, seconds = self.fitted(settings)
        start = time.process_time()
        if row == "two_stage":
            second = VAE(**self._quickly(SECOND)).fit(vae.transform(self.X))
            images = vae.inverse_transform(second.sample(self.n, random_state=2))
        else:
            if prior is not None:
                vae.fit_prior(self.X, prior, n_steps=100 if self.quick else 3000)
            images = vae.sample(self.n, kind="mean", random_state=2)
        return images, seconds + time.process_time() - start

    def of_pythae(self, beta, n_components):
        """Return images of pythae's VAE, from its prior or a mixture that is fitted later."""
        from pythae.samplers import (
            GaussianMixtureSampler,
            GaussianMixtureSamplerConfig,
            NormalSampler,
        )

        epochs = 2 if self.quick else 25
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder, quiet():
            trainer = pythae_trainer(
                self.X,
                folder,
                latent=16,
                beta=beta,
                num_epochs=epochs,
                per_device_train_batch_size=100,
                learning_rate=1e-3,
            )
            trainer.train()
            model = trainer.model.eval()
            if n_components is None:
                sampler = NormalSampler(model)
            else:
                config = GaussianMixtureSamplerConfig(n_components=n_components)
                sampler = GaussianMixtureSampler(model, config)

                sampler.fit(torch.from_numpy(self.X))
            found = sampler.sample(num_samples=self.n, batch_size=500, return_gen=True)
        return found.cpu().numpy().reshape(self.n, -1), time.process_time() - start

    def compute(self, row):
        """Return the measures of a row."""
        images, seconds = self.images(row)
        if not self.features.fitted:
            self.features.fit(self.X, self.y)
        report = generation(
            self.T, images, features=self.features, train=self.X, event_shape=self.event_shape
        )
        found = {name: getattr(report, name) for name in MEASURES[:5]}
        found["nearer_than_real"] = report.copies.nearer_than_real
        found["one_law"] = report.one_law
        found["features_accuracy"] = report.features_accuracy
        return found | {"core_seconds": seconds}


def report(records):
    """Return tables as Markdown."""
    parts = []
    for name in dict.fromkeys(r["data"] for r in records):
        own = [r for r in records if r["data"] == name]
        last = {r["row"]: r for r in own}
        header = ("row", *(m.replace("_", " ") for m in MEASURES))
        formats = (".1f", ".3f", ".3f", ".3f", ".3f", ".3f", ".0f")
        lines = [
            (row, *(text(last[row][m], form) for m, form in zip(MEASURES, formats, strict=True)))
            for row in ROWS
            if row in last
        ]
        first = next(iter(last.values()))
        accuracy = first["features_accuracy"]
        parts += [
            f"### {name}, {first['n']:,} images; the classifier is right on {accuracy:.1%}",
            markdown(header, lines),
        ]
        parts.append("\n".join(f"- {row}: `{r['settings']}`" for row, r in last.items()))
        parts.append("\n".join(sorted({f"- {r['date']}, {r['versions']}" for r in own})))
    return "\n\n".join(parts)


def main(words=None):
    """Compute what is missing and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="mnist,fashion-mnist")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--out", type=Path, default=FOLDER / "generation.jsonl")
    parser.add_argument("--quick", action="store_true", help="a foretaste; not kept")
    parser.add_argument("--report", action="store_true", help="print what is there")
    options = parser.parse_args(words)
    rows = options.rows.split(",")
    if unknown := set(rows) - set(ROWS):
        parser.error(f"unknown rows {sorted(unknown)}; known: {', '.join(ROWS)}")
    kept = Kept(None if options.quick else options.out, KEYS)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) if options.quick else FOLDER / "work"
        for name in () if options.report else options.data.split(","):
            bench = Bench(name, work, options.quick)
            for row in rows:
                cell = {"data": name, "row": row, "settings": bench.settings(row), "n": bench.n}
                if cell in kept:
                    continue
                try:
                    kept.add(cell | bench.compute(row))
                except ImportError as error:
                    print(f"{name}, {row}: not run, {error}", file=sys.stderr)
                    failed += row not in PEERS
                else:
                    said = kept.records[-1]
                    line = f"{said['frechet_distance']:.1f}, {said['coverage']:.3f}"
                    print(f"{name}, {row}: {line}", file=sys.stderr, flush=True)
    print(report(kept.records))
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
