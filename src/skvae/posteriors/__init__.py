"""Approximate posteriors q(z | x): from the encoder's features to a distribution over z."""

from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.posteriors.deterministic import Deterministic
from skvae.posteriors.flow import Flow
from skvae.posteriors.gaussian import Diagonal, FullCovariance

__all__ = [
    "Deterministic",
    "Diagonal",
    "Flow",
    "FullCovariance",
    "Posterior",
    "PosteriorModule",
]
