"""A map of handwritten digits in two dimensions, and what the decoder makes of the plane.

Run: python examples/digits_map.py [folder]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from skvae import VAE, plot
from skvae.datasets import load_digits

out = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
data = load_digits()
X = data.X_train / data.max_value
vae = VAE(
    n_components=2, likelihood="bernoulli", event_shape=data.event_shape, random_state=0
).fit(X)

figure = Figure(figsize=(12, 6), layout="constrained")
left, right = figure.subplots(1, 2)
plot.LatentMapDisplay.from_estimator(vae, data.X_test / data.max_value, data.y_test, ax=left)
plot.ManifoldDisplay.from_estimator(vae, n=15, ax=right)
figure.savefig(out / "digits_map.png")
print(f"wrote {out / 'digits_map.png'}; held-out ELBO {vae.history_['valid_elbo'].max():.2f} nats")
