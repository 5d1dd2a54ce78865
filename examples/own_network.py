"""A network of one's own in a few lines: two convolutions read 8 x 8 images.

Run: python examples/own_network.py
"""

from dataclasses import dataclass

import torch
from torch import nn

from skvae import VAE, datasets
from skvae.networks import MLP, Encoder, Network
from skvae.testing import check_network


@dataclass(frozen=True)
class SmallConv(Network, name="small-conv"):
    """A convolutional encoder; the decoder stays a multilayer perceptron."""

    channels: int = 16

    def build_encoder(self, event_shape):
        return ConvEncoder(event_shape, self.channels)

    def build_decoder(self, d, out_shape):
        return MLP((128,)).build_decoder(d, out_shape)


class ConvEncoder(Encoder):
    def __init__(self, event_shape, channels):
        super().__init__()
        depth, height, width = event_shape
        self.layers = nn.Sequential(
            nn.Conv2d(2 * depth, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.out_features = channels * ((height + 1) // 2) * ((width + 1) // 2)

    def forward(self, x, mask=None):
        seen = torch.ones_like(x) if mask is None else mask.to(x.dtype)
        x = torch.where(seen > 0, x, torch.zeros_like(x))  # hidden cells may hold NaN
        return self.layers(torch.cat([x, seen], 1))


if __name__ == "__main__":
    check_network(SmallConv(), event_shape=(1, 8, 8))
    data = datasets.load_digits()
    X, T = data.X_train.reshape(-1, 1, 8, 8) / 16, data.X_test.reshape(-1, 1, 8, 8) / 16
    vae = VAE(n_components=8, likelihood="bernoulli", network=SmallConv(), random_state=0)
    vae.set_params(max_epochs=20).fit(X)
    print(f"log p(x) {vae.score(T):.2f} nats per row; latent space {vae.transform(T).shape}")
