"""missForest (Stekhoven and Bühlmann, 2012, Bioinformatics 28), with forests that are kept."""

import os

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from benchmarks.imputation.encoding import Matrix, restored
from benchmarks.imputation.metrics import numeric


class MissForest:
    """The algorithm of the paper: forests in turn, until filled cells no longer settle.

    Columns go from the fewest holes to the most; trees are of full depth, with √q of the columns
    tried at each split. It stops in the first round in which the difference to the round before
    grows for numbers and for categories, and returns the round before. New rows, which the paper
    has not, go through the forests of that round by the same rule.

    Parameters
    ----------
    n_trees, max_rounds, seed : int
    """

    def __init__(self, n_trees=100, max_rounds=10, seed=0):
        self.n_trees, self.max_rounds, self.seed = n_trees, max_rounds, seed

    def fit(self, train):
        """Impute the training rows, and keep what that took."""
        self._fill = {
            c: train[c].mean() if c in set(numeric(train)) else train[c].mode()[0] for c in train
        }
        self._matrix = Matrix(train)
        self._order = [*train.isna().mean().sort_values(kind="stable").index]
        self.completed, self._forests = self._rounds(train, self._grow)
        return self

    def in_sample(self, train):
        """Return the imputed training rows of `fit`."""
        return self.completed

    def transform(self, frame):
        """Impute new rows by the forests of the last round."""
        return self._rounds(frame, self._kept)[0]

    def _kept(self, name, filled, missing):
        """Return the forest of a column; one without holes in training gets its first here."""
        if name not in self._forests:
            nothing = np.zeros(len(self.completed), bool)
            self._forests[name] = self._grow(name, self.completed, nothing)
        return self._forests[name]

    def _grow(self, name, filled, missing):
        kind = RandomForestRegressor if name in set(numeric(filled)) else RandomForestClassifier
        forest = kind(
            self.n_trees, max_features="sqrt", random_state=self.seed, n_jobs=os.cpu_count()
        )
        y = filled[name] if kind is RandomForestRegressor else filled[name].cat.codes
        return forest.fit(self._others(name, filled)[~missing], y[~missing])

    def _others(self, name, filled):
        """Return all columns but one as a matrix."""
        j = [*filled].index(name)
        own = np.arange(self._matrix.starts[j], self._matrix.ends[j])
        return np.delete(self._matrix.encode(filled), own, 1)

    def _rounds(self, frame, forest_of):
        """Return imputed rows and the forests behind them."""
        missing = frame.isna()
        filled = frame.fillna(self._fill)
        kept, before = {}, None
        for _ in range(self.max_rounds):
            new, forests = filled.copy(), {}
            for name in self._order:
                rows = missing[name].to_numpy()
                if not rows.any():
                    continue
                forests[name] = forest_of(name, new, rows)
                guess = forests[name].predict(self._others(name, new)[rows])
                if isinstance(frame[name].dtype, pd.CategoricalDtype):
                    guess = pd.Categorical.from_codes(guess, dtype=frame[name].dtype)
                guess = pd.Series(guess, frame.index[rows]).reindex(frame.index)
                new[name] = restored(frame[[name]], guess.to_frame(name))[name]
            after = change(filled, new, missing)
            if before is not None and all(a >= b for a, b in zip(after, before, strict=True)):
                return filled, kept
            filled, kept, before = new, forests, after
        return filled, kept


def change(old, new, missing):
    """Return the paper's Δ between two rounds, of numbers and of categories if there are any.

    For numbers that is Σ (new − old)² / Σ new², for categories the share of filled cells that
    changed.
    """
    numbers = numeric(old)
    others = [c for c in old if c not in set(numbers)]
    found = []
    if numbers:
        square = np.square(new[numbers].to_numpy(float)).sum()
        moved = np.square(new[numbers].to_numpy(float) - old[numbers].to_numpy(float)).sum()
        found.append(moved / square if square > 0 else 0.0)
    if others:
        differs = old[others].astype(str).to_numpy() != new[others].astype(str).to_numpy()
        found.append(differs.sum() / max(1, missing[others].to_numpy().sum()))
    return found
