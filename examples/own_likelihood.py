"""A likelihood of one's own in a few lines, checked against the contract and then used.

Waiting times are exponentially distributed with a decoded rate.

Run: python examples/own_likelihood.py
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.distributions import Exponential

from skvae import VAE, distributions
from skvae.likelihoods import Likelihood, LikelihoodModule, Support
from skvae.testing import check_likelihood


@dataclass(frozen=True)
class Waiting(Likelihood, name="waiting"):
    """Exponential cells."""

    @property
    def support(self):
        return Support(low=0.0)

    def build(self, event_shape):
        return WaitingModule(event_shape)


class WaitingModule(LikelihoodModule):
    def __init__(self, event_shape):
        super().__init__()
        self.event_shape = self.param_shape = event_shape

    def forward(self, h):
        return Exponential(torch.exp(h.clamp(-20, 20)), validate_args=False)


@distributions.draw.register
def _(distribution: Exponential, shape, noise):
    return -torch.log1p(-noise.uniform(shape, distribution.rate)) / distribution.rate


if __name__ == "__main__":
    check_likelihood(Waiting(), x=torch.rand(8, 3))
    rng = np.random.default_rng(0)
    X = rng.exponential(np.exp(0.7 * rng.normal(size=(500, 1))), size=(500, 6))
    vae = VAE(
        n_components=1,
        likelihood=Waiting(),
        max_epochs=150,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    flat = -np.log(X.mean()) - 1  # one rate for all cells, nats per cell
    print(f"log p(x): {vae.score(X) / 6:.3f} nats per cell; with one rate for all, {flat:.3f}")
