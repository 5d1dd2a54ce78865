"""The contenders of `benchmarks.imputation`, each with ``fit(frame)`` and ``transform(frame)``."""

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer

from skvae import VAEImputer


def _is_category(column):
    return isinstance(column.dtype, pd.CategoricalDtype)


class Mean:
    """Mean of numbers, mode of categories."""

    def fit(self, frame):
        self.values = {
            c: frame[c].mode().iloc[0] if _is_category(frame[c]) else frame[c].mean()
            for c in frame
        }
        return self

    def transform(self, frame):
        return frame.fillna(self.values)


class Numeric:
    """An imputer of numbers on standardised columns and indicators of categories.

    The indicators of a category are hidden together and sum to a constant, so that a regression
    finds each from the others' first guesses, and categories end as the most frequent ones. With
    one indicator less, `IterativeImputer` was better at categories and far worse at numbers.
    """

    def __init__(self, imputer):
        self.imputer = imputer

    def fit(self, frame):
        self.levels = {c: frame[c].cat.categories for c in frame if _is_category(frame[c])}
        numbers = [c for c in frame if c not in self.levels]
        self.mean, self.sd = frame[numbers].mean(), frame[numbers].std(ddof=0).replace(0, 1)
        self.imputer.fit(self._encode(frame))
        return self

    def _encode(self, frame):
        parts = [((frame[self.mean.index] - self.mean) / self.sd).to_numpy()]
        for c, levels in self.levels.items():
            codes = pd.Categorical(frame[c], categories=levels).codes
            hot = np.eye(len(levels))[codes] / np.sqrt(2)
            hot[codes < 0] = np.nan
            parts.append(hot)
        return np.concatenate(parts, 1)

    def transform(self, frame):
        filled, out = self.imputer.transform(self._encode(frame)), frame.copy()
        k = len(self.mean)
        for j, c in enumerate(self.mean.index):
            values = filled[:, j] * self.sd[c] + self.mean[c]
            out[c] = frame[c].where(frame[c].notna(), values)
        for c, levels in self.levels.items():
            guess = levels[filled[:, k : k + len(levels)].argmax(1)]
            k += len(levels)
            out[c] = pd.Categorical(frame[c].astype(object).where(frame[c].notna(), guess), levels)
        return out


class MissForest:
    """Stekhoven and Buehlmann (2012): full-depth forests, column after column, in rounds.

    Rounds end when the change of the filled cells rises for numbers and for categories (where
    there are any), at most ten. New rows go through the forests of the last rounds.
    """

    def __init__(self, n_trees=100, max_rounds=10, seed=0):
        self.n_trees, self.max_rounds, self.seed = n_trees, max_rounds, seed

    def fit(self, frame):
        self.start = Mean().fit(frame)
        missing = frame.isna()
        self.order = list(missing.sum().sort_values(kind="stable").index)
        self.levels = {c: frame[c].cat.categories for c in frame if _is_category(frame[c])}
        self.rounds = []
        now, last = self._codes(self.start.transform(frame)), (np.inf, np.inf)
        for r in range(self.max_rounds):
            new, models = now.copy(), {}
            for c in self.order:
                rows = ~missing[c].to_numpy()
                kind = RandomForestClassifier if c in self.levels else RandomForestRegressor
                options = {} if c in self.levels else {"max_features": 1 / 3}
                model = kind(self.n_trees, random_state=self.seed + r, n_jobs=1, **options)
                others = new.drop(columns=c).to_numpy()
                models[c] = model.fit(others[rows], new[c].to_numpy()[rows])
                if not rows.all():
                    new.loc[~rows, c] = model.predict(others[~rows])
            change = self._change(now, new, missing)
            pairs = zip(change, last, self._used(missing), strict=True)
            risen = [a > b for a, b, used in pairs if used]
            if risen and all(risen):
                break
            self.rounds.append(models)
            now, last = new, change
        return self

    def _used(self, missing):
        categories = [c for c in missing if c in self.levels]
        return bool(missing.drop(columns=categories).any(axis=None)), bool(
            missing[categories].any(axis=None)
        )

    def _change(self, old, new, missing):
        numbers = [c for c in old if c not in self.levels]
        categories = [c for c in old if c in self.levels]
        square = (new[numbers] ** 2).sum().sum()
        numeric = ((new[numbers] - old[numbers]) ** 2).sum().sum() / max(square, 1e-300)
        holes = max(1, int(missing[categories].sum().sum()))
        return numeric, (new[categories] != old[categories]).sum().sum() / holes

    def _codes(self, frame):
        return pd.DataFrame(
            {
                c: pd.Categorical(frame[c], categories=self.levels[c]).codes.astype(float)
                if c in self.levels
                else frame[c]
                for c in frame
            }
        )

    def transform(self, frame):
        missing, now = frame.isna(), self._codes(self.start.transform(frame))
        for models in self.rounds:
            for c in self.order:
                rows = missing[c].to_numpy()
                if rows.any():
                    now.loc[rows, c] = models[c].predict(now.drop(columns=c).to_numpy()[rows])
        out = frame.copy()
        for c in frame:
            values = self.levels[c][now[c].astype(int)] if c in self.levels else now[c]
            if c in self.levels:
                filled = frame[c].astype(object).where(frame[c].notna(), values)
                out[c] = pd.Categorical(filled, self.levels[c])
            else:
                out[c] = frame[c].where(frame[c].notna(), values)
        return out


def _miceforest(seed):
    import miceforest

    class MiceForest:
        """Five tables of predictive mean matching; their mean, or their mode for categories."""

        def fit(self, frame):
            self.kernel = miceforest.ImputationKernel(
                frame, num_datasets=5, random_state=seed, save_all_iterations_data=True
            )
            self.kernel.mice(5)
            return self

        def transform(self, frame):
            new = self.kernel.impute_new_data(frame)
            tables = [new.complete_data(i) for i in range(5)]
            out = frame.copy()
            for c in frame:
                if _is_category(frame[c]):
                    mode = pd.concat([t[c].astype(object) for t in tables], axis=1).mode(axis=1)
                    values = pd.Categorical(mode[0], frame[c].cat.categories)
                else:
                    values = sum(t[c] for t in tables) / len(tables)
                out[c] = values
            return out

    return MiceForest()


METHODS = {
    "mean": lambda seed, quick: Mean(),
    "knn": lambda seed, quick: Numeric(KNNImputer(n_neighbors=5)),
    "iterative": lambda seed, quick: Numeric(IterativeImputer(max_iter=20, random_state=seed)),
    "missforest": lambda seed, quick: MissForest(20 if quick else 100, seed=seed),
    "miceforest": lambda seed, quick: _miceforest(seed),
    "ours": lambda seed, quick: VAEImputer(random_state=seed),
    "ours_members": lambda seed, quick: VAEImputer(random_state=seed, n_members=3),
}
