"""The small classifiers whose last hidden layer `skvae.evaluation.ClassifierFeatures` gives."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from skvae import rng

__all__ = ["N_FEATURES", "Classifier", "train"]

N_FEATURES = 128
BATCH = 128
LEARNING_RATE = 2e-3
CHANNELS = (16, 32)
SIDES = 7  # longest sides of the maps that the last hidden layer reads


class Classifier(nn.Module):
    """Two convolutions for events (c, h, w), a hidden layer for flat ones, and one more on top.

    Parameters
    ----------
    event_shape : tuple of int
        One size for flat rows, three for images.
    n_classes : int
    shift, scale : Tensor, shape (*event_shape) or ()
        What makes columns, or images as a whole, of mean 0 and spread 1.
    """

    def __init__(
        self, event_shape: tuple[int, ...], n_classes: int, shift: Tensor, scale: Tensor
    ) -> None:
        super().__init__()
        self.event_shape, self.shift, self.scale = event_shape, shift, scale
        layers: list[nn.Module] = []
        width = event_shape[0]
        if len(event_shape) == 3:
            sides = list(event_shape[1:])
            for channels in CHANNELS:
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                layers.append(nn.MaxPool2d(2, ceil_mode=True))
                sides = [math.ceil(side / 2) for side in sides]
                width = channels
            if max(sides) > SIDES:
                sides = [min(side, SIDES) for side in sides]
                layers.append(nn.AdaptiveAvgPool2d((sides[0], sides[1])))
            width *= math.prod(sides)
        else:
            layers += [nn.Linear(width, N_FEATURES), nn.ReLU()]
            width = N_FEATURES
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, N_FEATURES), nn.SiLU())
        self.top = nn.Linear(N_FEATURES, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer (B, N_FEATURES) of rows (B, D) of any type."""
        x = x.float().reshape(-1, *self.event_shape)
        out: Tensor = self.body((x - self.shift) / self.scale)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, n_classes) of rows (B, D)."""
        logits: Tensor = self.top(self.features(x))
        return logits


def train(
    x: Tensor,
    y: Tensor,
    event_shape: tuple[int, ...],
    n_classes: int,
    n_updates: int,
    seed: int,
) -> Classifier:
    """Fit a classifier with Adam, its step falling to 0, for a number of updates.

    Parameters
    ----------
    x : Tensor, shape (n, D)
    y : Tensor of int, shape (n,)
    """
    shift, scale = _scaling(x, len(event_shape) == 3)
    with rng.isolated(seed, rng.Stream.INIT):
        model = Classifier(event_shape, n_classes, shift, scale).float()
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_updates)
    per_epoch = math.ceil(len(x) / BATCH)
    with torch.enable_grad():
        for step in range(n_updates):
            epoch, place = divmod(step, per_epoch)
            if place == 0:
                source = rng.generator(seed, rng.Stream.ORDER, epoch)
                order = torch.randperm(len(x), generator=source)
            rows = order[place * BATCH : (place + 1) * BATCH]
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def _scaling(x: Tensor, whole: bool) -> tuple[Tensor, Tensor]:
    """Return mean and spread of all columns, or of each; 1 where there is no spread."""
    mean = torch.stack([part.double().sum(0) for part in x.split(4096)]).sum(0) / len(x)
    square = torch.stack([(p.double() - mean).square().sum(0) for p in x.split(4096)]).sum(0)
    variance = square / len(x)
    if whole:
        # Of images: the spread between pixels counts, too.
        variance = (variance + (mean - mean.mean()).square()).mean()
        mean = mean.mean()
    spread = variance.sqrt()
    return mean.float(), torch.where(spread > 0, spread, 1).float()
