"""Imputers behind one interface: ``fit(train)``, ``transform(rows)``, some ``sample(rows, m)``.

Tables are frames of float64 and category columns, with holes. ``in_sample(train)`` is the
completed training table. Nothing is tuned but the k of ``knn_cv``.
"""

import functools
import warnings

import numpy as np
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer
from sklearn.linear_model import BayesianRidge

from benchmarks.imputation.encoding import Matrix, restored
from benchmarks.imputation.forest import MissForest
from benchmarks.imputation.metrics import numeric
from benchmarks.imputation.miwae import MIWAEReference
from skvae import VAEImputer


class Peer:
    """What most peers share: the training rows are imputed as any others."""

    def in_sample(self, train):
        """Return the completed training rows."""
        return self.transform(train)


class Mean(Peer):
    """Mean of numbers, most frequent category."""

    def fit(self, train):
        """Count."""
        numbers = set(numeric(train))
        self._fill = {c: train[c].mean() if c in numbers else train[c].mode()[0] for c in train}
        return self

    def transform(self, frame):
        """Fill."""
        return frame.fillna(self._fill)


class KNN(Peer):
    """`KNNImputer` on standardised columns, categories one-hot over √2.

    Parameters
    ----------
    n_neighbors : tuple of int
        More than one: chosen by the squared error on a tenth of the observed training cells.
    seed : int
    """

    def __init__(self, n_neighbors=(5,), seed=0):
        self.n_neighbors, self.seed = n_neighbors, seed

    def fit(self, train):
        """Standardise, choose k and keep the rows."""
        self._matrix = Matrix(train)
        best = self.n_neighbors[0]
        if len(self.n_neighbors) > 1:
            # Whole cells, not single columns of a one-hot block.
            drop = np.random.default_rng(self.seed).random(train.shape) < 0.1
            drop &= train.notna().to_numpy()
            holes = train.mask(pd.DataFrame(drop, train.index, train.columns))
            truth, matrix = self._matrix.encode(train), self._matrix.encode(holes)
            cells = np.isnan(matrix) & ~np.isnan(truth)
            errors = {
                k: np.mean((self._imputer(k).fit_transform(matrix) - truth)[cells] ** 2)
                for k in self.n_neighbors
            }
            best = min(errors, key=errors.get)
        self._imputer_ = self._imputer(best).fit(self._matrix.encode(train))
        return self

    @staticmethod
    def _imputer(k):
        return KNNImputer(n_neighbors=k, keep_empty_features=True)

    def transform(self, frame):
        """Average the neighbours."""
        return self._matrix.decode(self._imputer_.transform(self._matrix.encode(frame)), frame)


class Iterative(Peer):
    """`IterativeImputer` with Bayesian ridge regression and 20 rounds.

    Draws are from its posterior after 5 rounds, the default of R's mice: 19 draws of 20 rounds
    take minutes with scikit-learn, even for 120 rows.
    """

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, train):
        """Fit the imputer of means; that of draws is fitted when they are asked for."""
        self._matrix = Matrix(train, reduced=True)
        self._train = train
        self._imputer_ = self._fitted(sample_posterior=False)
        return self

    def _fitted(self, sample_posterior):
        imputer = IterativeImputer(
            BayesianRidge(),
            max_iter=5 if sample_posterior else 20,
            sample_posterior=sample_posterior,
            random_state=self.seed,
            keep_empty_features=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return imputer.fit(self._matrix.encode(self._train))

    @functools.cached_property
    def _drawing(self):
        return self._fitted(sample_posterior=True)

    def transform(self, frame):
        """Fill in means."""
        return self._matrix.decode(self._imputer_.transform(self._matrix.encode(frame)), frame)

    def sample(self, frame, m):
        """Draw: each call of the imputer's ``transform`` draws anew."""
        matrix = self._matrix.encode(frame)
        return [self._matrix.decode(self._drawing.transform(matrix), frame) for _ in range(m)]


class MiceForest(Peer):
    """miceforest with 5 data sets and 5 iterations; all else by default."""

    def __init__(self, seed=0):
        self.seed = seed

    def fit(self, train):
        """Run the chains."""
        import miceforest

        self._names = [f"c{i}" for i in range(train.shape[1])]  # LightGBM refuses some names
        self._kernel = miceforest.ImputationKernel(
            self._named(train), num_datasets=5, random_state=self.seed
        )
        self._kernel.mice(5)
        return self

    def _named(self, frame):
        return frame.set_axis(self._names, axis=1)

    def _tables(self, imputed, frame):
        return [
            restored(frame, imputed.complete_data(i).set_axis(frame.columns, axis=1))
            for i in range(5)
        ]

    def in_sample(self, train):
        """Combine the five completed training tables."""
        return self._combined(self._tables(self._kernel, train), train)

    def transform(self, frame):
        """Combine five imputations of new rows."""
        return self._combined(self.sample(frame, 5), frame)

    @staticmethod
    def _combined(tables, frame):
        """Return the mean of numbers and the most frequent of categories."""
        numbers = set(numeric(frame))
        guess = {
            c: np.mean([t[c] for t in tables], 0)
            if c in numbers
            else pd.DataFrame([t[c].astype(str) for t in tables])
            .mode()
            .iloc[0]
            .astype(frame[c].dtype)
            .to_numpy()
            for c in frame
        }
        return restored(frame, pd.DataFrame(guess, index=frame.index).astype(frame.dtypes))

    def sample(self, frame, m):
        """Impute as new data, again and again; the donors differ each time."""
        found = []
        while len(found) < m:
            imputed = self._kernel.impute_new_data(
                self._named(frame), random_state=self.seed + 1 + len(found)
            )
            found += self._tables(imputed, frame)
        return found[:m]


class HyperImpute(Peer):
    """HyperImpute by default; it fits whatever it is given anew, so it has no ``transform``."""

    def fit(self, train):
        """Impute the training rows, with categories as integers."""
        from hyperimpute.plugins.imputers import Imputers

        numbers = set(numeric(train))
        codes = pd.DataFrame(
            {
                c: train[c] if c in numbers else train[c].cat.codes.replace(-1, np.nan)
                for c in train
            }
        )
        found = Imputers().get("hyperimpute").fit_transform(codes).set_axis([*train], axis=1)
        guess = {}
        for c in train:
            if c in numbers:
                guess[c] = found[c].to_numpy(float)
            else:
                last = len(train[c].cat.categories) - 1
                level = found[c].to_numpy(float).round().clip(0, last).astype(int)
                guess[c] = pd.Categorical.from_codes(level, dtype=train[c].dtype)
        self.completed = restored(train, pd.DataFrame(guess, index=train.index))
        return self

    def in_sample(self, train):
        """Return the imputed training rows of `fit`."""
        return self.completed


class Ours(Peer):
    """`skvae.VAEImputer`, by default or with some other parameters."""

    def __init__(self, seed=0, **parameters):
        self.imputer = VAEImputer(random_state=seed, **parameters)
        self.seed = seed

    def fit(self, train):
        """Train."""
        self.imputer.fit(train)
        return self

    def transform(self, frame):
        """Fill in what is expected."""
        return self.imputer.transform(frame)

    def sample(self, frame, m):
        """Draw."""
        return self.imputer.sample(frame, n_imputations=m, random_state=self.seed + 1)

    def interval(self, frame, coverage):
        """Return quantiles of each cell."""
        return self.imputer.interval(frame, coverage=coverage)


PEERS = {
    "mean": lambda seed: Mean(),
    "knn": lambda seed: KNN((5,), seed),
    "knn_cv": lambda seed: KNN((3, 5, 10, 20), seed),
    "iterative": Iterative,
    "missforest": lambda seed: MissForest(seed=seed),
    "miceforest": MiceForest,
    "hyperimpute": lambda seed: HyperImpute(),
    "miwae": MIWAEReference,
    "skvae": Ours,
    "skvae_members": lambda seed: Ours(seed, n_members=5),
}
DEFAULT = ("mean", "knn", "knn_cv", "iterative", "missforest", "miceforest", "skvae")
QUICK = {
    **{name: PEERS[name] for name in ("mean", "knn", "iterative", "skvae")},
    "missforest": lambda seed: MissForest(n_trees=20, seed=seed),
}
