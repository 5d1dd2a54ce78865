"""Approximate posteriors q(z | x): from the encoder's features to a distribution over z."""

from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.posteriors.discrete import Categorical, VectorQuantized
from skvae.posteriors.flow import Flow
from skvae.posteriors.gaussian import Diagonal, FullCovariance

__all__ = [
    "Categorical",
    "Diagonal",
    "Flow",
    "FullCovariance",
    "Posterior",
    "PosteriorModule",
    "VectorQuantized",
]
