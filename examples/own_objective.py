"""An objective and a penalty of one's own in a few lines each.

The Rényi bound (Li and Turner, 2016, arXiv:1602.02311) lies between the ELBO (alpha = 1) and the
importance-weighted bound (alpha = 0); the penalty asks for posterior means that are sparse.

Run: python examples/own_objective.py
"""

from dataclasses import dataclass

from skvae import VAE, datasets
from skvae.distributions import log_mean_exp
from skvae.objectives import Bound, Objective, Penalty
from skvae.testing import check_objective


@dataclass(frozen=True)
class Renyi(Objective, name="renyi"):
    """log (1/K Σ w^(1 − alpha)) / (1 − alpha)."""

    alpha: float = 0.5
    n_samples: int = 4

    def __call__(self, model, batch, *, step, noise):
        evidence = model.evidence(batch, self.n_samples, noise)
        bound = log_mean_exp((1 - self.alpha) * evidence.log_w) / (1 - self.alpha)  # (B,)
        terms = {"elbo": evidence.elbo.detach(), "kl": evidence.kl_rows.detach()}
        return Bound(-bound.mean(), terms, evidence)


@dataclass(frozen=True)
class Sparse(Penalty, name="sparse"):
    """Mean absolute posterior mean."""

    weight: float = 1.0

    def __call__(self, model, batch, evidence, *, step, noise):
        return self.weight * evidence.posterior.mean.abs().sum(-1).mean()


if __name__ == "__main__":
    data = datasets.load_digits()
    X, T = data.X_train / 16, data.X_test / 16
    for objective in (Renyi(), Renyi() + Sparse(0.5)):
        check_objective(objective)
        vae = VAE(n_components=4, likelihood="bernoulli", objective=objective, random_state=0)
        vae.set_params(max_epochs=20).fit(X)
        size = abs(vae.transform(T)).mean()
        print(f"log p(x) {vae.score(T):.2f} nats per row, mean |z| {size:.2f}  {objective}")
