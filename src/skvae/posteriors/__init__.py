"""Approximate posteriors q(z | x): from the encoder's features to a distribution over z."""

from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.posteriors.deterministic import Deterministic
from skvae.posteriors.discrete import Categorical, VectorQuantized
from skvae.posteriors.flow import Flow
from skvae.posteriors.gaussian import Diagonal, FullCovariance
from skvae.posteriors.mixture import Mixture
from skvae.posteriors.sphere import VonMisesFisher

__all__ = [
    "Categorical",
    "Deterministic",
    "Diagonal",
    "Flow",
    "FullCovariance",
    "Mixture",
    "Posterior",
    "PosteriorModule",
    "VectorQuantized",
    "VonMisesFisher",
]
