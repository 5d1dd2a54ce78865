"""A posterior of one's own in a few lines: independent Laplace variables instead of Gaussians.

Run: python examples/own_posterior.py
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributions import Independent, Laplace

from skvae import VAE, datasets, distributions
from skvae.posteriors import Posterior, PosteriorModule
from skvae.testing import check_posterior


@dataclass(frozen=True)
class LaplacePosterior(Posterior, name="laplace"):
    """Laplace variables whose location and scale depend on x."""

    def build(self, d, context):
        return LaplaceModule(d, context)


class LaplaceModule(PosteriorModule):
    def __init__(self, d, context):
        super().__init__()
        self.head = nn.Linear(context, 2 * d)

    def forward(self, features):
        location, raw = self.head(features).chunk(2, -1)  # (B, d) each
        scale = torch.exp(raw.clamp(-7, 7))
        return Independent(Laplace(location, scale, validate_args=False), 1, validate_args=False)


if __name__ == "__main__":
    # Laplace is drawn by a rule of this library, since likelihoods use it; a distribution that
    # has none yet gets one in three lines, as examples/own_likelihood.py shows.
    assert Laplace in distributions.draw.registry
    check_posterior(LaplacePosterior())
    data = datasets.load_digits()
    X, T = data.X_train / 16, data.X_test / 16
    for posterior in ("diagonal", LaplacePosterior()):
        vae = VAE(n_components=4, likelihood="bernoulli", posterior=posterior, random_state=0)
        vae.set_params(max_epochs=20).fit(X)
        print(f"{posterior!s:20} log p(x) {vae.score(T):.2f} nats per row")
