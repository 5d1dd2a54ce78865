"""Fill in the ozone that was not measured: guesses, intervals, pictures, and a pooled regression.

Run: python examples/imputing_air_quality.py
It writes two pictures; docs/imputing-air-quality.md explains them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot

from skvae import VAEImputer, fit_pool
from skvae.plot import ImputationDisplay

# %% New York, May to September 1973: 153 days, ozone not measured on 37, radiation on 7
days = pd.read_csv(Path(__file__).with_name("airquality.csv")).drop(columns="Day")
print(days.isna().sum().to_string())

# %% Does it help here? Hide known cells, and see
bounds = {"Ozone": ("bounded", 0, 500), "Solar.R": ("bounded", 0, 500)}
imputer = VAEImputer(kinds=bounds, max_epochs=100, n_members=2, random_state=0)
imputer.fit(days)
print(imputer.evaluate(days, compare=("knn",), random_state=0))

# %% What are the missing cells?
full = imputer.transform(days)
low, high = imputer.interval(days, coverage=0.9)
holes = days["Ozone"].isna()
print(pd.DataFrame({"guess": full["Ozone"], "from": low["Ozone"], "to": high["Ozone"]})[holes][:5])

# %% How are they distributed?
figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for ax, column in zip(axes, ("Ozone", "Solar.R"), strict=True):
    ImputationDisplay.from_estimator(imputer, days, column, random_state=0, ax=ax)
figure.savefig("imputed_columns.png", dpi=100)

# %% And day by day?
figure, ax = pyplot.subplots(figsize=(9, 3.4), layout="constrained")
day = np.arange(len(days))
ax.plot(day[~holes], days["Ozone"][~holes], "o", ms=3, label="measured")
middle = full["Ozone"][holes]
ends = np.abs(np.stack([middle - low["Ozone"][holes], high["Ozone"][holes] - middle]))
ax.errorbar(day[holes], middle, ends, fmt="o", ms=3, lw=1, label="filled in, 90 %")
ax.set(xlabel="day from 1 May 1973", ylabel="ozone, parts per billion")
ax.legend()
figure.savefig("ozone_by_day.png", dpi=100)


# %% A regression that knows which cells are guesses
def slopes(table):
    """Coefficients of ozone on wind and temperature, and their variances."""
    X = np.column_stack([np.ones(len(table)), table["Wind"], table["Temp"]])
    beta, (rss,), *_ = np.linalg.lstsq(X, table["Ozone"], rcond=None)
    variance = rss / (len(X) - 3) * np.linalg.inv(X.T @ X)
    return beta[1:], np.diag(variance)[1:]


pooled = fit_pool(slopes, imputer.sample(days, 20, random_state=0), dfcom=len(days) - 3)
lower, upper = pooled.interval(0.95)
for name, b, lo, hi, fmi in zip(
    ("Wind", "Temp"),
    pooled.estimate,
    lower,
    upper,
    pooled.fraction_missing_information,
    strict=True,
):
    print(f"{name}: {b:.2f} [{lo:.2f}, {hi:.2f}], {fmi:.0%} of the information is missing")
