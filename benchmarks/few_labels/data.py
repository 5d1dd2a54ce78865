"""Rows of which few have labels, and rows to judge by."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from benchmarks.imputation import tables
from skvae import datasets

UNKNOWN = -1

# Chosen before any result was seen: of the mixed tables of `benchmarks.imputation`, the two with
# thousands of complete rows and a column that was collected as what is to be told from the others
# (was the loan paid back, is the income above 50,000 dollars). 1 % of the smaller one is 32 labels
# and 5 % of the larger one 1,206.
TARGETS = {"credit_data": "Status", "adult": "income"}


@dataclass(frozen=True, eq=False)
class Rows:
    """All rows with their classes.

    Attributes
    ----------
    X, T : ndarray, shapes (n, D) and (m, D)
        Rows to learn from, and rows to judge by, which `fit` does not see.
    y, y_test : ndarray of int, shapes (n,) and (m,)
        Numbers of classes; of `y`, few are shown.
    frames : tuple of DataFrame or None
        Rows to learn from and rows to judge by as they were before they were made numbers.
    """

    X: Any
    y: Any
    T: Any
    y_test: Any
    frames: Any = None

    @property
    def sizes(self):
        """Return the numbers of rows as fields of a record."""
        return {"n_train": len(self.X), "n_test": len(self.T)}

    def labels(self, n, seed):
        """Return `y` with all but n labels replaced by −1; classes as often as among the rows."""
        index = np.arange(len(self.y))
        known, _ = train_test_split(index, train_size=n, stratify=self.y, random_state=seed)
        partial = np.full(len(self.y), UNKNOWN)
        partial[known] = self.y[known]
        return partial


@cache
def images(name, quick=False, tune=False):
    """Return the images of a data set, values from 0 to 1.

    Parameters
    ----------
    name : {"mnist", "fashion-mnist"}
    quick : bool
        2,000 and 500 of them.
    tune : bool
        Learn from the first 50,000 training images and judge by the other 10,000.
    """
    data = datasets.load(name)
    X, T = (x / np.float32(data.max_value) for x in (data.X_train, data.X_test))
    y, y_test = data.y_train.astype(int), data.y_test.astype(int)
    if tune:
        X, T, y, y_test = X[:50_000], X[50_000:], y[:50_000], y[50_000:]
    if quick:
        X, T, y, y_test = X[:2000], T[:500], y[:2000], y_test[:500]
    return Rows(X, y, T, y_test)


@cache
def _whole(name):
    return tables.whole(name)


def table(name, seed, quick=False):
    """Return a table as numbers, a fifth of its rows to judge by, split anew by each seed."""
    frame = _whole(name)
    return encoded(frame[:1000] if quick else frame, TARGETS[name], seed)


def encoded(frame, target, seed):
    """Return standardised numbers and one-hot categories, by the rows to learn from, and frames.

    Parameters
    ----------
    frame : DataFrame
        Numbers and categories, complete.
    target : str
        Column of the classes.
    seed : int
        Of the split.
    """
    classes, y = np.unique(frame[target].astype(str), return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{target!r} has {len(classes)} class, but at least 2 are needed")
    train, test, y, y_test = train_test_split(
        frame.drop(columns=target), y, test_size=0.2, stratify=y, random_state=seed
    )
    matrix = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_include="category"),
        ),
    )
    X = matrix.fit_transform(train)
    return Rows(X, y, matrix.transform(test), y_test, (train, test))
