"""Autoencoders: a posterior that is a point, and objectives without a density."""

import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from skvae import VAE, distributions, load, rng, testing
from skvae.distributions import Point
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Contractive, DecoderWeights, Reconstruction
from skvae.posteriors import Deterministic, Diagonal
from skvae.priors import GaussianMixture, Standard


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def model_of(posterior=Deterministic(), prior=Standard()):  # noqa: B008
    return Assembly((4,), 2, Bernoulli(), posterior, prior, MLP((5,))).build(0).double()


BATCH = Batch((torch.rand(6, 4, generator=rng.generator(9)) < 0.5).double())


# -- the posterior --------------------------------------------------------------------------------


def test_a_point_is_drawn_as_it_is_and_has_no_density():
    mean = torch.randn(4, 3, generator=rng.generator(0)).double().requires_grad_()
    q = Point(mean)
    assert (q.batch_shape, q.event_shape, q.mean) == ((4,), (3,), mean)
    z = distributions.draw(q, (2,), noise())
    assert torch.equal(z, torch.stack([mean, mean]))
    z.sum().backward()
    assert torch.equal(mean.grad, torch.full((4, 3), 2.0).double())
    assert torch.equal(q.log_prob(z), torch.zeros(2, 4).double())
    assert torch.equal(Point(mean[0]).expand([5]).mean, mean[0].expand(5, 3))
    by_row = rng.PerRow(mean, 0)
    distributions.draw(q, (2,), by_row)
    assert by_row.used == 0
    prior = Standard().build(Diagonal().latent(3), (4,))(None)
    assert distributions.kl_per_dimension(q, prior) is None


def test_the_code_is_a_linear_map_of_the_features():
    testing.check_posterior(Deterministic())
    model = model_of()
    head = model.posterior.head
    expected = model.encoder(BATCH.x) @ head.weight.T + head.bias
    assert torch.allclose(model.infer(BATCH).mean, expected)
    evidence = model.evidence(BATCH, 2, noise())
    assert torch.equal(evidence.log_qz, torch.zeros(2, 6).double())
    assert evidence.kl is None
    assert not Deterministic().has_density


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_elbo_of_a_point_is_the_regularised_autoencoder(beta):
    """−log p(x | z) + β (½ ‖z‖² + ½ d log 2π) (Ghosh et al., 2020)."""
    model = model_of()
    z = model.infer(BATCH).mean
    log_px = model.generate(z).log_prob(BATCH.x).sum(-1)
    expected = (-log_px + beta * (0.5 * z.square().sum(-1) + math.log(2 * math.pi))).mean()
    found = ELBO(beta)(model, BATCH, step=0, noise=noise())
    assert found.loss.item() == pytest.approx(expected.item())
    weights = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(found.loss, weights),
        torch.autograd.grad(expected, weights),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-12)


def test_a_learned_prior_is_fitted_to_the_codes():
    model = model_of(prior=GaussianMixture(3))
    bound = ELBO(2.0)(model, BATCH, step=0, noise=noise())
    log_pz = model.prior_distribution().log_prob(model.infer(BATCH).mean)
    assert torch.allclose(bound.terms["kl"], -log_pz)
    bound.loss.backward()
    assert model.prior.means.grad.norm() > 1e-3


# -- the objective --------------------------------------------------------------------------------


@pytest.mark.parametrize("posterior", [Deterministic(), Diagonal()], ids=repr)
def test_reconstruction_is_all_that_counts(posterior):
    model = model_of(posterior)
    bound = Reconstruction()(model, BATCH, step=0, noise=noise())
    log_px = model.evidence(BATCH, 1, noise()).log_px[0]
    assert bound.loss.item() == pytest.approx(-log_px.mean().item())
    assert torch.equal(bound.terms["reconstruction"], log_px.detach())
    assert Reconstruction().held_out() == Reconstruction()
    assert Reconstruction().watch == "reconstruction"
    total = Reconstruction() + Contractive(0.1)
    assert (total.held_out(), total.watch) == (Reconstruction(), "reconstruction")


# -- through the estimator ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear():
    """A linear autoencoder of data that PCA explains best."""
    g = np.random.default_rng(0)
    X = g.normal(size=(300, 2)) @ g.normal(size=(2, 6)) * 2 + 0.5 * g.normal(size=(300, 6)) + 3
    ae = VAE(
        n_components=2,
        posterior="deterministic",
        objective="reconstruction",
        likelihood="mse",
        hidden_layer_sizes=(),
        max_epochs=300,
        batch_size=300,
        learning_rate=0.05,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    return X, ae


def test_a_linear_autoencoder_is_pca(linear):
    X, ae = linear
    found = ((X - ae.inverse_transform(ae.transform(X))) ** 2).sum(1).mean()
    pca = PCA(2).fit(X)
    best = ((X - pca.inverse_transform(pca.transform(X))) ** 2).sum(1).mean()
    assert best * (1 - 1e-9) <= found < 1.002 * best
    # In nats: −½ squared error − ½ D log 2π.
    expected = -0.5 * best - 3 * math.log(2 * math.pi)
    assert ae.history_["train_reconstruction"][-1] == pytest.approx(expected, abs=0.01)
    one = PCA(1).fit(X)
    worse = ((X - one.inverse_transform(one.transform(X))) ** 2).sum(1).mean()
    assert worse > 1.5 * best


def test_an_autoencoder_is_saved_and_loaded(linear, tmp_path):
    X, ae = linear
    ae.save(tmp_path / "ae")
    again = load(tmp_path / "ae")
    assert np.array_equal(again.transform(X), ae.transform(X))
    assert again.get_params()["posterior"] == "deterministic"
    assert again._core.spec.posterior == Deterministic()


@pytest.mark.parametrize("call", ["score_samples", "score", "evaluate", "impute"])
def test_an_autoencoder_has_no_likelihood_and_says_why(linear, call):
    X, ae = linear
    with pytest.raises(ParameterError, match=r"posterior='deterministic' has no density, so"):
        getattr(ae, call)(X)


def test_an_autoencoder_samples_once_a_prior_is_fitted(linear, tmp_path):
    X, ae = linear
    ae.save(tmp_path / "ae")
    ae = load(tmp_path / "ae")
    with torch.no_grad():  # as good an autoencoder, with codes that N(0, I) does not describe
        for parameter in ae._core.module.posterior.parameters():
            parameter.mul_(3)
        ae._core.module.decoder[0].weight.div_(3)
    Z, target = ae.transform(X), np.cov(X.T)

    def misfit():
        drawn = ae.sample(4000, kind="mean", random_state=0)
        assert drawn.shape == (4000, 6)
        return np.linalg.norm(np.cov(drawn.T) - target) / np.linalg.norm(target)

    before = misfit()
    assert ae.fit_prior(X, GaussianMixture(3), n_steps=1000) is ae
    assert np.array_equal(ae.transform(X), Z)
    assert before > 0.6
    assert misfit() < 0.25


def test_early_stopping_watches_the_reconstruction(digits):
    X = (digits[0][:300] > 0.5).astype(float)
    ae = VAE(
        n_components=16,
        posterior="deterministic",
        objective="reconstruction",
        max_epochs=200,
        n_iter_no_change=3,
        learning_rate=0.01,
        hidden_layer_sizes=(64,),
        random_state=0,
    ).fit(X)
    held_out = ae.history_["valid_reconstruction"]
    assert ae.n_iter_ < 200
    assert ae.n_iter_ - 4 <= np.argmax(held_out) < ae.n_iter_ - 1
    assert np.argmax(ae.history_["valid_elbo"]) != np.argmax(held_out)


@pytest.mark.parametrize("objective", [IWAE(), "capacity", ELBO() + DecoderWeights(), "elbo"])
def test_which_objectives_go_with_a_point(digits, objective):
    X = (digits[0][:60] > 0.5).astype(float)
    ae = VAE(2, posterior="deterministic", objective=objective, max_epochs=1, random_state=0)
    if objective == "capacity" or isinstance(objective, IWAE):
        with pytest.raises(ParameterError, match=r"posterior='deterministic': .* density"):
            ae.fit(X)
    else:
        assert np.isfinite(ae.fit(X).transform(X)).all()


def test_a_contractive_autoencoder_is_flatter():
    """Rifai et al. (2011): reconstruction plus the Jacobian of the encoder."""
    g = np.random.default_rng(1)
    X = np.tanh(g.normal(size=(200, 2)) @ g.normal(size=(2, 5)))
    slopes = []
    for objective in (Reconstruction(), Reconstruction() + Contractive(1.0)):
        ae = VAE(
            2,
            posterior="deterministic",
            likelihood=Gaussian(scale="unit"),
            objective=objective,
            hidden_layer_sizes=(8,),
            max_epochs=30,
            batch_size=50,
            learning_rate=0.01,
            early_stopping=False,
            random_state=0,
        ).fit(X)
        shift = 1e-3 * g.normal(size=X.shape)
        slopes.append(((ae.transform(X + shift) - ae.transform(X)) ** 2).mean())
    assert slopes[1] < 0.7 * slopes[0]
