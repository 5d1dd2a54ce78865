"""Fill in a table with holes: the mean of what is missing, and draws that show the uncertainty.

Run: python examples/missing_values.py
"""

import numpy as np
from sklearn.datasets import load_wine

from skvae import VAE
from skvae.evaluation import imputation_rmse

X = load_wine(as_frame=True).data
rng = np.random.default_rng(0)
order = rng.permutation(len(X))
train, test = X.iloc[order[:140]], X.iloc[order[140:]]
missing = rng.random(test.shape) < 0.3

vae = VAE(n_components=4, random_state=0).fit(train)
holes = test.mask(missing)
full = vae.impute(holes)  # a DataFrame again; what was seen is as it was
draws = np.stack(vae.impute(holes, n_draws=100, random_state=0))  # (100, n, D)

unit = train.std().to_numpy()
rmse = imputation_rmse(test.to_numpy() / unit, full.to_numpy() / unit, missing)
mean = np.broadcast_to(train.mean().to_numpy(), test.shape)
baseline = imputation_rmse(test.to_numpy() / unit, mean / unit, missing)
low, high = np.quantile(draws, [0.05, 0.95], axis=0)
covered = ((test >= low) & (test <= high)).to_numpy()[missing].mean()
print(f"RMSE in standard deviations: {rmse:.3f}, with the column mean {baseline:.3f}")
print(f"90 % intervals of the draws cover {covered:.0%} of the true values")
