"""The same network, 784-500-500-50 and back, trained by scikit-vae and by its peers.

Each contender trains one epoch in float32 or under bf16 autocast and says how long the epoch took,
without what comes before the first batch.
"""

import contextlib
import importlib.metadata
import logging
import os
import platform
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import skvae
from skvae import VAE

D, HIDDEN, LATENT = 784, 500, 50
LAYERS = [(D, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 2 * LATENT)]
LAYERS += [(LATENT, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, D)]


class PlainVAE(nn.Module):
    """What an introduction to VAEs writes down."""

    def __init__(self, latent=LATENT):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(D, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, 2 * latent),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(),
            nn.Linear(HIDDEN, D),
        )  # fmt: skip

    def negative_elbo(self, x):
        """Nats per row, shape (B,)."""
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        logits = self.decoder(z)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        kl = 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(-1)
        return reconstruction + kl


def ours(X, batch_size, precision):
    """`skvae.VAE`."""
    vae = VAE(
        LATENT,
        likelihood="bernoulli",
        hidden_layer_sizes=(HIDDEN, HIDDEN),
        batch_size=batch_size,
        max_epochs=1,
        early_stopping=False,
        precision=precision,
        random_state=0,
    )
    vae.fit(X)
    return vae.history_[-1]["seconds"]


def plain(X, batch_size, precision):
    """Run the loop that tutorials show: ``DataLoader``, Adam."""
    torch.manual_seed(0)
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=batch_size, shuffle=True)
    lower = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    start = time.perf_counter()
    for (x,) in loader:
        optimizer.zero_grad()
        with lower:
            loss = model.negative_elbo(x).mean()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - start


def pythae(X, batch_size, precision):
    """Pythae's ``BaseTrainer``; its mixed precision is for GPUs alone."""
    if precision != "float32":
        return None
    with tempfile.TemporaryDirectory() as folder:
        trainer = pythae_trainer(X, folder, per_device_train_batch_size=batch_size)
        trainer.prepare_training()
        start = time.perf_counter()
        trainer.train_step(1)
        return time.perf_counter() - start


CONTENDERS = {"skvae.VAE": ours, "plain loop": plain, "pythae": pythae}


def pythae_trainer(X, folder, callbacks=None, latent=LATENT, beta=1.0, **config):
    """Return a trainer of pythae's VAE, or its β-VAE, with the network of this file."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import BetaVAE, BetaVAEConfig, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers = PlainVAE(latent).encoder

        def forward(self, x):
            mean, log_var = self.layers(x.flatten(1)).chunk(2, -1)
            return ModelOutput(embedding=mean, log_covariance=log_var)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(PlainVAE(latent).decoder, nn.Sigmoid())

        def forward(self, z):
            return ModelOutput(reconstruction=self.layers(z))

    torch.manual_seed(0)
    how = {"input_dim": (D,), "latent_dim": latent, "reconstruction_loss": "bce"}
    settings = VAEConfig(**how) if beta == 1 else BetaVAEConfig(**how, beta=beta)
    make = PythaeVAE if beta == 1 else BetaVAE
    model = make(settings, encoder=Encoder(), decoder=Decoder())
    x = torch.from_numpy(X)
    return BaseTrainer(
        model=model,
        train_dataset=BaseDataset(x, torch.zeros(len(x))),
        training_config=BaseTrainerConfig(output_dir=folder, no_cuda=True, **config),
        callbacks=callbacks,
    )


def flops_per_row():
    """Multiplications and additions of an update for one row; no gradient for the input."""
    return sum(2 * i * o * (2 if n == 0 else 3) for n, (i, o) in enumerate(LAYERS))


def products(batch_size, precision):
    """Return a function that does the matrix products of one update and nothing else."""
    dtype = getattr(torch, precision)
    operands = [
        tuple(torch.randn(shape).to(dtype) for shape in ((batch_size, i), (o, i), (batch_size, o)))
        for i, o in LAYERS
    ]

    def once():
        for x, weight, _ in operands:
            x @ weight.T
        for n, (x, weight, gradient) in enumerate(operands):
            gradient.T @ x
            if n:
                gradient @ weight

    return once


class Peak:
    """Growth of this process's resident memory from now on, up to its peak (Linux)."""

    def __init__(self):
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self.before = self._read("VmRSS")

    def megabytes(self):
        """Return the growth."""
        return self._read("VmHWM") - self.before

    @staticmethod
    def _read(name):
        (line,) = (
            line
            for line in Path("/proc/self/status").read_text().splitlines()
            if line.startswith(name + ":")
        )
        return int(line.split()[1]) / 1024


@contextlib.contextmanager
def quiet():
    """Hide the progress bars and messages of peers."""
    logging.disable(logging.CRITICAL)
    try:
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stderr(nowhere):
            yield
    finally:
        logging.disable(logging.NOTSET)


def machine():
    """Say what the figures were measured with."""
    versions = {"scikit-vae": skvae.__version__, "torch": torch.__version__}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        versions["pythae"] = importlib.metadata.version("pythae")
    named = ", ".join(f"{k} {v}" for k, v in versions.items())
    threads, cores = torch.get_num_threads(), os.cpu_count()
    return f"{named}; {platform.machine()}, {threads} threads on {cores} cores"
