"""A prior of one's own in a few lines: independent Student variables, with heavier tails.

Run: python examples/own_prior.py
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.distributions import Independent, StudentT

from skvae import VAE, datasets
from skvae.priors import Prior, PriorModule
from skvae.testing import check_prior


@dataclass(frozen=True)
class Student(Prior, name="student"):
    """Independent Student variables with learned degrees of freedom."""

    def build(self, latent, event_shape):
        return StudentModule(latent.width)


class StudentModule(PriorModule):
    def __init__(self, d):
        super().__init__()
        self.raw = nn.Parameter(torch.zeros(d))

    def forward(self, infer):
        df = 1 + 8 * torch.sigmoid(self.raw)
        return Independent(StudentT(df, validate_args=False), 1, validate_args=False)


if __name__ == "__main__":
    check_prior(Student())
    data = datasets.load_digits()
    X, T = data.X_train / 16, data.X_test / 16
    for prior in ("standard", Student()):
        vae = VAE(n_components=4, likelihood="bernoulli", prior=prior, random_state=0)
        vae.set_params(max_epochs=20).fit(X)
        print(f"{prior!s:12} log p(x) {vae.score(T):.2f} nats per row")
