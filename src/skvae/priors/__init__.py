"""Priors p(z)."""

from skvae.priors.base import Prior, PriorModule
from skvae.priors.discrete import Autoregressive, Categorical
from skvae.priors.flow import Flow
from skvae.priors.gaussian import GaussianMixture, Standard
from skvae.priors.sphere import Sphere
from skvae.priors.vamp import Vamp

__all__ = [
    "Autoregressive",
    "Categorical",
    "Flow",
    "GaussianMixture",
    "Prior",
    "PriorModule",
    "Sphere",
    "Standard",
    "Vamp",
]
