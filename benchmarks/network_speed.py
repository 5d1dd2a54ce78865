"""How fast convolutional and recurrent networks train, beside the same written plainly.

    python -m benchmarks.network_speed [--rounds 3] [--quick]

``conv``: `networks.Conv` on 1 x 28 x 28 images in batches of 128, beside the same layers in a
plain eager loop with Adam, and beside the convolutions of that network alone, forwards and
backwards at the same shapes: the machine's limit for it. ``rnn``: `networks.RNN` on sequences of
30 steps of one of 30 codes, beside plain modules and the matrix products of its layers. All take
turns in float32 on the same data, and every ratio is the median within rounds.
"""

import argparse
import itertools
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.contenders import machine
from skvae import VAE, likelihoods, networks

BATCH, LATENT, CHANNELS, HIDDEN, CODES, STEPS = 128, 20, 32, 256, 30, 30


class Block(nn.Module):
    """x + f(x)."""

    def __init__(self, c):
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, c), nn.SiLU(), nn.Conv2d(c, c, 3, padding=1),
            nn.SiLU(), nn.Conv2d(c, c, 3, padding=1),
        )  # fmt: skip

    def forward(self, x):
        """Return maps of the same shape."""
        return x + self.layers(x)


class PlainConv(nn.Module):
    """The layers of `networks.Conv` for 28 x 28 pixels, as one writes them down."""

    def __init__(self):
        super().__init__()
        c = CHANNELS
        self.encoder = nn.Sequential(
            nn.Conv2d(1, c, 3, 2, 1), Block(c), nn.Conv2d(c, 2 * c, 3, 2, 1), Block(2 * c),
            nn.Conv2d(2 * c, 4 * c, 3, 2, 1), Block(4 * c), nn.GroupNorm(8, 4 * c), nn.SiLU(),
            nn.Flatten(), nn.Linear(64 * c, 2 * LATENT),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(LATENT, 64 * c), nn.Unflatten(1, (4 * c, 4, 4)),
            Block(4 * c), nn.GroupNorm(8, 4 * c), nn.SiLU(),
            nn.ConvTranspose2d(4 * c, 2 * c, 3, 2, 1),
            Block(2 * c), nn.GroupNorm(8, 2 * c), nn.SiLU(),
            nn.ConvTranspose2d(2 * c, c, 4, 2, 1),
            Block(c), nn.GroupNorm(8, c), nn.SiLU(), nn.ConvTranspose2d(c, 1, 4, 2, 1),
        )  # fmt: skip

    def forward(self, x):
        """Negative ELBO in nats, shape ()."""
        mean, log_var = self.encoder(x).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        loss = F.binary_cross_entropy_with_logits(self.decoder(z), x, reduction="sum") / len(x)
        return loss + _kl(mean, log_var)


class PlainRNN(nn.Module):
    """An embedding, a bidirectional encoder and a decoder that sees z at every step."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(CODES + 1, 11)
        self.encoder = nn.GRU(11, HIDDEN, batch_first=True, bidirectional=True)
        self.head = nn.Linear(4 * HIDDEN, 2 * LATENT)
        self.first = nn.Linear(LATENT, HIDDEN)
        self.decoder = nn.GRU(11 + LATENT, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, CODES)

    def forward(self, x):
        """Negative ELBO in nats, shape ()."""
        embedded = self.embed(x + 1)
        out, h = self.encoder(embedded)
        summary = torch.cat([h[0], h[1], out.mean(1)], -1)
        mean, log_var = self.head(summary).chunk(2, -1)
        z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
        before = torch.cat([self.embed(torch.zeros_like(x[:, :1])), embedded[:, :-1]], 1)
        seen = torch.cat([before, z.unsqueeze(1).expand(-1, x.shape[1], -1)], -1)
        out, _ = self.decoder(seen, self.first(z).tanh().unsqueeze(0))
        loss = F.cross_entropy(self.out(out).flatten(0, 1), x.flatten(), reduction="sum")
        return loss / len(x) + _kl(mean, log_var)


def _kl(mean, log_var):
    return 0.5 * (mean**2 + log_var.exp() - log_var - 1).sum(-1).mean()


def plain(model, X):
    """Return the seconds of one epoch of the loop that tutorials show."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    order = torch.randperm(len(X))
    start = time.perf_counter()
    for index in order.split(BATCH):
        optimizer.zero_grad()
        model(X[index]).backward()
        optimizer.step()
    return time.perf_counter() - start


def ours(X, **settings):
    """Return the seconds of one epoch of `VAE`."""
    vae = VAE(LATENT, batch_size=BATCH, max_epochs=1, early_stopping=False, random_state=0)
    vae.set_params(precision="float32", **settings).fit(X)
    return vae.history_[-1]["seconds"]


def convolutions(model, x):
    """Return a function that does the convolutions of one update in their fast layout."""
    seen = []
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    hooks = [
        m.register_forward_hook(lambda m, i, o: seen.append((m, i[0].detach(), o.detach())))
        for m in model.modules()
        if isinstance(m, kinds)
    ]
    model(x)
    for hook in hooks:
        hook.remove()
    layout = {"memory_format": torch.channels_last}
    jobs = []
    for i, (layer, given, out) in enumerate(seen):
        if given.ndim == 4:
            given, out = given.contiguous(**layout), out.contiguous(**layout)
            layer.to(**layout)
        jobs.append((layer, given.requires_grad_(i > 0), torch.ones_like(out)))

    def once():
        for layer, given, gradient in jobs:
            wanted = [*layer.parameters(), *([given] if given.requires_grad else [])]
            torch.autograd.grad(layer(given), wanted, gradient)

    return once


def products():
    """Return a function that does the matrix products of one update of the recurrent network."""
    gates = 3 * HIDDEN
    shapes = [(BATCH * STEPS, 11, gates)] * 2 + [(BATCH * STEPS, 11 + LATENT, gates)]
    shapes += [(BATCH * STEPS, HIDDEN, CODES)]
    whole = [(torch.randn(n, i), torch.randn(i, o), torch.randn(n, o)) for n, i, o in shapes]
    step = (torch.randn(BATCH, HIDDEN), torch.randn(HIDDEN, gates), torch.randn(BATCH, gates))

    def once():
        for x, w, g in [*whole, *itertools.repeat(step, 3 * STEPS)]:
            x @ w
            g @ w.T
            x.T @ g

    return once


def timed(function, n):
    """Return the seconds of n calls."""
    function()
    start = time.perf_counter()
    for _ in range(n):
        function()
    return time.perf_counter() - start


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    rounds, n = (1, 640) if options.quick else (options.rounds, 6400)
    g = np.random.default_rng(0)
    X = (g.random((n, 1, 28, 28)) < 0.2).astype(np.float32)
    S = g.integers(CODES, size=(n, STEPS)).astype(np.float32)
    torch.manual_seed(0)
    conv, rnn = PlainConv(), PlainRNN()
    limit, limit_rnn = convolutions(PlainConv(), torch.from_numpy(X[:BATCH])), products()
    cases = {
        "conv": {
            "skvae.VAE": lambda: ours(
                X, likelihood="bernoulli", network=networks.Conv(channels=CHANNELS)
            ),
            "plain loop": lambda: plain(conv, torch.from_numpy(X)),
            "limit": lambda: timed(limit, n // BATCH),
        },
        "rnn": {
            "skvae.VAE": lambda: ours(
                S, likelihood=likelihoods.Categorical(CODES), network=networks.RNN()
            ),
            "plain loop": lambda: plain(rnn, torch.from_numpy(S).long()),
            "limit": lambda: timed(limit_rnn, n // BATCH),
        },
    }
    print(f"{machine()}\n\n| network | contender | rows/s | × plain | share of the limit |")
    print("|---|---|---:|---:|---:|")
    for case, contenders in cases.items():
        found = []
        for number in range(rounds + 1):
            seconds = {name: contender() for name, contender in contenders.items()}
            if number:  # the first round warms up
                found.append(seconds)
        for name in contenders:
            ratio = {
                other: np.median([s[other] / s[name] for s in found])
                for other in ("plain loop", "limit")
            }
            rate = n / np.median([s[name] for s in found])
            print(
                f"| {case} | {name} | {rate:,.0f} | {ratio['plain loop']:.2f} "
                f"| {ratio['limit']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
