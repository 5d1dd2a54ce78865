"""The contract checks: every built-in part passes, and each broken contract is named."""

import dataclasses
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Independent, Normal

from skvae import likelihoods, networks, objectives, posteriors, priors, testing
from skvae.objectives import Bound
from test_spec import SPECS

X = {"unit": torch.rand(8, 3), "codes": torch.randint(0, 2, (8, 3)).float()}


def data_for(spec):
    if spec.sequential:
        values = data_for(spec.step).unsqueeze(-1)  # (8, 3, 1)
        lengths = torch.arange(8) % 2 + 1
        alive = (torch.arange(3) < lengths.unsqueeze(-1)).unsqueeze(-1).float()
        return torch.cat([values * alive, alive], -1) if spec.ragged else values
    support = spec.support
    if not support.integral:
        return 0.05 + 0.9 * X["unit"]
    return X["codes"]


@pytest.mark.parametrize("spec", [s for s in SPECS if s.family == "likelihood"], ids=repr)
def test_likelihoods(spec):
    testing.check_likelihood(spec, data_for(spec))


@pytest.mark.parametrize("spec", [s for s in SPECS if s.family == "posterior"], ids=repr)
def test_posteriors(spec):
    testing.check_posterior(spec)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.family == "prior"], ids=repr)
def test_priors(spec):
    testing.check_prior(spec)


NETWORKS = [s for s in SPECS if s.family == "network" and s != networks.Custom()]


@pytest.mark.parametrize("spec", NETWORKS, ids=repr)
@pytest.mark.parametrize("event_shape", [(4,), (1, 3, 2)])
def test_networks(spec, event_shape):
    if isinstance(spec, networks.Conv):
        spec = spec.replace(n_dims=max(1, len(event_shape) - 1))
    testing.check_network(spec, (5, 3) if spec.sequential else event_shape)


@given(length=st.integers(1, 40), n_features=st.integers(1, 5), data=st.data())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_every_network_takes_every_size(length, n_features, data):
    spec = data.draw(st.sampled_from(NETWORKS))
    shape = (length, n_features + 1) if spec.sequential else (n_features, length)
    testing.check_network(
        spec.replace(n_dims=1) if isinstance(spec, networks.Conv) else spec, shape
    )


# One that leaves log p(x) alone is nothing without what is added to it.
OBJECTIVES = [s for s in SPECS if s.family == "objective" and s.of_rows]


@pytest.mark.parametrize("spec", OBJECTIVES, ids=repr)
def test_objectives(spec):
    testing.check_objective(spec)


@pytest.fixture
def _registry():
    """Forget the classes that a test defines."""
    families = (
        likelihoods.Likelihood, posteriors.Posterior, priors.Prior, networks.Network,
        objectives.Objective,
    )  # fmt: skip
    before = [dict(f._registry) for f in families]
    yield
    for family, names in zip(families, before, strict=True):
        family._registry.clear()
        family._registry.update(names)


@pytest.mark.usefixtures("_registry")
def test_a_reduced_likelihood_is_named():
    @dataclass(frozen=True)
    class Reduced(likelihoods.Likelihood, name="test-reduced"):
        def build(self, event_shape):
            return Module(event_shape)

    class Module(likelihoods.LikelihoodModule):
        def __init__(self, event_shape):
            super().__init__()
            self.event_shape = self.param_shape = event_shape

        def forward(self, h):
            return Independent(Normal(h, 1.0), 1)

    with pytest.raises(AssertionError, match=r"batch_shape: found \(2, 8\), expected \(2, 8, 3\)"):
        testing.check_likelihood(Reduced(), X["unit"])


@pytest.mark.usefixtures("_registry")
def test_a_detached_posterior_is_named():
    @dataclass(frozen=True)
    class Detached(posteriors.Posterior, name="test-detached"):
        def build(self, d, context):
            return Module(d, context)

    class Module(posteriors.PosteriorModule):
        def __init__(self, d, context):
            super().__init__()
            self.head = nn.Linear(context, d)

        def forward(self, features):
            mean = self.head(features).detach()
            return Independent(Normal(mean, torch.ones_like(mean)), 1)

    with pytest.raises(AssertionError, match="draws are reparameterised"):
        testing.check_posterior(Detached())


@pytest.mark.usefixtures("_registry")
def test_a_network_that_reads_hidden_cells_is_named():
    @dataclass(frozen=True)
    class Peeking(networks.Network, name="test-peeking"):
        def build_encoder(self, event_shape):
            return Encoder(networks.MLP((3,)).build_encoder(event_shape))

        def build_decoder(self, d, out_shape):
            return networks.MLP((3,)).build_decoder(d, out_shape)

    class Encoder(networks.Encoder):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.out_features = inner, inner.out_features

        def forward(self, x, mask=None):
            return self.inner(torch.nan_to_num(x))

    with pytest.raises(AssertionError, match="hidden cells do not influence"):
        testing.check_network(Peeking())


@pytest.mark.usefixtures("_registry")
def test_an_objective_with_randomness_of_its_own_is_named():
    @dataclass(frozen=True)
    class Loose(objectives.ELBO, name="test-loose"):
        def __call__(self, model, batch, *, step, noise):
            bound = super().__call__(model, batch, step=step, noise=noise)
            Loose.calls += 1
            return Bound(bound.loss + Loose.calls, bound.terms, bound.evidence)

    Loose.calls = 0
    with pytest.raises(AssertionError, match="all randomness comes from the noise"):
        testing.check_objective(Loose())


def test_messages_say_what_was_found():
    with pytest.raises(AssertionError, match=r"size: found 1, expected 2\."):
        testing._same("size", 1, 2)
    assert dataclasses.is_dataclass(SPECS[0])
