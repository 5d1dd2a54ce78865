"""Likelihoods p(x | z): one factor per cell of x, never reduced.

A likelihood turns the decoder's output into a distribution whose ``log_prob`` has the shape of x.
What is summed is decided later, by a mask; that is why every likelihood works with missing cells.

=================  ==============================================================================
data               likelihoods
=================  ==============================================================================
yes or no          ``bernoulli``
in [0, 1]          ``continuous_bernoulli``, ``beta`` (without the ends)
real               ``gaussian``; ``student_t`` and ``laplace`` where there are outliers
positive           ``log_normal``
counts             ``poisson``, ``negative_binomial``, and ``zero_inflated_`` of both
codes 0 … K − 1    ``categorical``, ``ordinal``
pixels 0 … 255     ``discretized_logistic_mixture``
sequences          ``Sequence(step)`` of any of these
tables             ``Columns((first, second, …))`` of any of these
=================  ==============================================================================
"""

from skvae.likelihoods.base import Likelihood, LikelihoodModule, Support, bounded, bounded_scale
from skvae.likelihoods.codes import Categorical, Ordinal
from skvae.likelihoods.columns import Columns
from skvae.likelihoods.counts import (
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from skvae.likelihoods.images import DiscretizedLogisticMixture, bits_per_dim
from skvae.likelihoods.real import Gaussian, Laplace, LogNormal, StudentT
from skvae.likelihoods.sequence import Sequence
from skvae.likelihoods.unit_interval import Bernoulli, Beta, ContinuousBernoulli

__all__ = [
    "Bernoulli",
    "Beta",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogisticMixture",
    "Gaussian",
    "Laplace",
    "Likelihood",
    "LikelihoodModule",
    "LogNormal",
    "NegativeBinomial",
    "Ordinal",
    "Poisson",
    "Sequence",
    "StudentT",
    "Support",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "bits_per_dim",
    "bounded",
    "bounded_scale",
]
