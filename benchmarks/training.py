"""How fast training is: beside the machine's own limit, beside peers, and until a given quality.

    python -m benchmarks.training [--rounds 5] [--parts limit,quality] [--quick]

``limit``: the contenders train one epoch each on binarised MNIST in turn, with the matrix products
of as many updates between them, at the same shapes and in the same precision; so a slow minute of
the machine meets all of them. Every ratio is the median of those within a round.

``quality``: seconds until the ELBO on the 10,000 test images of dynamic MNIST, one draw of z each,
is what pythae's defaults (Adam at 1e-4, batches of 64) reach after 20 epochs. It is looked at
after every epoch, and the looking is not counted. Setting up is.

pythae comes from ``pip install --no-deps -r benchmarks/requirements.txt``; without it, its rows
are left out.
"""

import argparse
import datetime
import importlib.util
import tempfile
import time
from unittest import mock

import numpy as np
import torch

from benchmarks.contenders import (
    CONTENDERS,
    HIDDEN,
    LATENT,
    flops_per_row,
    machine,
    products,
    pythae_trainer,
    quiet,
)
from skvae import VAE, callbacks, datasets, rng
from skvae.data import binarize_by_content
from skvae.evidence import Batch


def seconds_of_products(batch_size, precision, updates):
    """Time the matrix products of so many updates."""
    once = products(batch_size, precision)
    once()
    start = time.perf_counter()
    for _ in range(updates):
        once()
    return time.perf_counter() - start


def limit(X, rounds, contenders):
    """Print shares of the limit and throughputs."""
    print("| batch | precision | contender | rows/s | GFLOP/s | share of the limit | × plain |")
    print("|---:|---|---|---:|---:|---:|---:|")
    for batch_size in (128, 512):
        for precision in ("float32", "bfloat16"):
            updates = len(X) // batch_size
            found = []
            for number in range(rounds + 1):
                with quiet():
                    seconds = {n: c(X, batch_size, precision) for n, c in contenders.items()}
                seconds["products"] = seconds_of_products(batch_size, precision, updates)
                if number:  # the first round warms up
                    found.append(seconds)
            for name in [*contenders, "products"]:
                if found[0][name] is None:
                    continue
                ratio = {
                    other: np.median([seconds[other] / seconds[name] for seconds in found])
                    for other in ("products", "plain loop")
                }
                rate = len(X) / np.median([seconds[name] for seconds in found])
                print(
                    f"| {batch_size} | {precision} | {name} | {rate:,.0f} "
                    f"| {rate * flops_per_row() / 1e9:.0f} | {ratio['products']:.2f} "
                    f"| {ratio['plain loop']:.2f} |",
                    flush=True,
                )


class Target(callbacks.Watcher):
    """Looks at the test ELBO after every epoch, and stops when it is good enough."""

    def __init__(self, T, target):
        self.x = torch.from_numpy(binarize_by_content(T))
        self.target, self.seen = target, []
        self.start, self.looking = time.perf_counter(), 0.0

    def epoch_ended(self, module, epoch):
        """Score the test images."""
        now = time.perf_counter()
        elbo = self.elbo(module)
        self.seen.append((now - self.start - self.looking, elbo))
        self.looking += time.perf_counter() - now
        return elbo >= self.target

    @torch.no_grad()
    def elbo(self, module):
        """Mean over the test images in float32, whatever the training is in; nats."""
        module.eval()
        noise = rng.Sequential(rng.generator(0))
        with module.autocast(None):
            rows = [module.evidence(Batch(x), 1, noise).elbo for x in self.x.split(1000)]
        module.train()
        return torch.cat(rows).double().mean().item()


def quality_of_pythae(X, T, epochs):
    """Return seconds and test ELBO."""
    from pythae.trainers.training_callbacks import TrainingCallback

    grey = torch.from_numpy(X)
    generator = torch.Generator().manual_seed(0)

    class Afresh(TrainingCallback):
        def on_epoch_begin(self, training_config, **kwargs):
            kwargs["train_loader"].dataset.data = torch.bernoulli(grey, generator=generator)

    with tempfile.TemporaryDirectory() as folder, quiet():
        start = time.perf_counter()
        trainer = pythae_trainer(X, folder, [Afresh()], num_epochs=epochs)
        trainer.train()
        seconds = time.perf_counter() - start
    model = trainer.model.eval()
    test = torch.from_numpy(binarize_by_content(T))
    with torch.no_grad():
        losses = [model({"data": x}).loss.item() for x in test.split(1000)]
    return seconds, -float(np.mean(losses))


def quality_of_ours(X, T, target, **changed):
    """Return seconds, test ELBO and epochs when the target was reached, or at the end."""
    vae = VAE(
        LATENT,
        likelihood="bernoulli",
        binarize="stochastic",
        hidden_layer_sizes=(HIDDEN, HIDDEN),
        random_state=0,
        **changed,
    )
    watcher = Target(T, target)
    record = callbacks.History.epoch_ended

    def both(history, module, epoch):
        record(history, module, epoch)
        return watcher.epoch_ended(module, epoch)

    with mock.patch.object(callbacks.History, "epoch_ended", both):
        vae.fit(X)
    return *watcher.seen[-1], len(watcher.seen)


def quality(X, T, epochs):
    """Print the time until what pythae reaches is reached."""
    print("| contender | test −ELBO, nats | epochs | seconds | seconds / pythae's |")
    print("|---|---:|---:|---:|---:|")
    settings = {
        "skvae.VAE, defaults": {},
        "skvae.VAE, precision='float32'": {"precision": "float32"},
    }
    peer, target = quality_of_pythae(X, T, epochs)
    print(f"| pythae, defaults | {-target:.2f} | {epochs} | {peer:.0f} | 1 |", flush=True)
    for name, changed in settings.items():
        seconds, elbo, n = quality_of_ours(X, T, target, **changed)
        reached = f"{seconds / peer:.3f}" if elbo >= target else "not reached"
        print(f"| {name} | {-elbo:.2f} | {n} | {seconds:.1f} | {reached} |", flush=True)


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="of `limit`")
    parser.add_argument("--parts", default="limit,quality")
    parser.add_argument("--quick", action="store_true", help="6,000 images, 1 round, 2 epochs")
    options = parser.parse_args()
    data = datasets.load_mnist(progress=print)
    X, T = data.X_train / np.float32(255), data.X_test / np.float32(255)
    rounds, epochs = options.rounds, 20
    if options.quick:
        X, T, rounds, epochs = X[:6000], T[:1000], 1, 2
    contenders = dict(CONTENDERS)
    if importlib.util.find_spec("pythae") is None:
        del contenders["pythae"]
    print(f"\n{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}, {machine()}\n")
    if "limit" in options.parts:
        binary = (X > 0.5).astype(np.float32)
        limit(binary[: len(X) // 512 * 512 // 2], rounds, contenders)
        print()
    if "quality" in options.parts and "pythae" in contenders:
        quality(X, T, epochs)


if __name__ == "__main__":
    main()
