"""MIWAE as in its authors' notebook (Mattei and Frellsen, 2019, arXiv:1812.02633).

It is here so that scikit-vae is compared with the model itself, not with a weak copy.
"""

import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical, Independent, Normal, StudentT
from torch.nn import functional as F

from benchmarks.imputation.encoding import Matrix


class MIWAEReference:
    """The network of the notebook on UCI tables: ReLU, t decoder, t encoder, learned fill.

    Parameters
    ----------
    seed : int
    d, h, k : int
        Latent dimensions, width of the layers, importance samples in training.
    learning_rate : float
    batch_size : int
    updates : int
        1,000 epochs of 569 rows are 18,000.
    n_samples : int
        Importance samples of a row in imputation; the notebook's are 10,000.
    """

    def __init__(
        self,
        seed=0,
        d=10,
        h=128,
        k=20,
        learning_rate=2e-4,
        batch_size=32,
        updates=18_000,
        n_samples=1000,
    ):
        self.seed, self.d, self.h, self.k = seed, d, h, k
        self.learning_rate, self.batch_size, self.updates = learning_rate, batch_size, updates
        self.n_samples = n_samples

    def fit(self, train):
        """Maximise the importance-weighted bound on the observed cells."""
        self._matrix = Matrix(train)
        X = torch.tensor(self._matrix.encode(train), dtype=torch.float32)
        torch.manual_seed(self.seed)
        p, d, h = X.shape[1], self.d, self.h
        self._encoder = nn.Sequential(
            nn.Linear(p, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(),
            nn.Linear(h, 3 * d),
        )  # fmt: skip
        self._decoder = nn.Sequential(
            nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, 3 * p)
        )
        self._iota = nn.Parameter(torch.zeros(p))
        weights = [*self._encoder.parameters(), *self._decoder.parameters(), self._iota]
        optimizer = torch.optim.Adam(weights, lr=self.learning_rate)
        done = 0
        while done < self.updates:
            for rows in torch.randperm(len(X)).split(self.batch_size):
                log_w, _, _ = self._log_weights(X[rows], self.k)
                loss = (np.log(self.k) - log_w.logsumexp(0)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                done += 1
        return self

    def _log_weights(self, x, k):
        """Return log weights (k, B) and location and law of the cells (k, B, p)."""
        seen = ~x.isnan()
        filled = torch.where(seen, x.nan_to_num(), self._iota)
        loc, scale, df = self._encoder(filled).chunk(3, -1)
        q = Independent(
            StudentT(3 + F.softplus(df), loc, F.softplus(scale), validate_args=False), 1
        )
        z = q.rsample((k,))
        loc, scale, df = self._decoder(z).chunk(3, -1)
        cells = StudentT(3 + F.softplus(df), loc, 1e-3 + F.softplus(scale), validate_args=False)
        log_x = (cells.log_prob(x.nan_to_num()) * seen).sum(-1)
        log_p = Normal(0.0, 1.0, validate_args=False).log_prob(z).sum(-1)
        return log_x + log_p - q.log_prob(z), loc, cells

    def in_sample(self, train):
        """Impute the training rows as any others."""
        return self.transform(train)

    def _matrices(self, frame, fill):
        """Return the matrix with the holes filled by `fill(weights, location, cells)`."""
        X = torch.tensor(self._matrix.encode(frame), dtype=torch.float32)
        torch.manual_seed(self.seed + 1)
        found = []
        with torch.no_grad():
            for rows in X.split(max(1, 2_000_000 // (self.n_samples * X.shape[1]))):
                log_w, loc, cells = self._log_weights(rows, self.n_samples)
                found.append(fill(log_w.softmax(0), loc, cells))
        return np.where(X.isnan(), torch.cat(found, -2).double(), X.double())

    def transform(self, frame):
        """Fill in self-normalised estimates of the conditional means."""
        mean = self._matrices(frame, lambda w, loc, cells: (w[..., None] * loc).sum(0))
        return self._matrix.decode(mean, frame)

    def sample(self, frame, m):
        """Draw by sampling importance resampling."""

        def draw(w, loc, cells):
            chosen = Categorical(w.T, validate_args=False).sample((m,))  # (m, B)
            return cells.sample()[chosen, torch.arange(w.shape[1])]  # (m, B, p)

        return [self._matrix.decode(one, frame) for one in self._matrices(frame, draw)]
