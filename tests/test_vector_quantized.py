"""The quantiser against brute force and its formulas; discrete models through the estimator."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from skvae import VAE, conditional, importance, load, posteriors, priors, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.objectives import ELBO, IWAE, Contractive
from skvae.posteriors.discrete import Quantized
from test_discrete import X, every, exact, model_of, noise, normal

GOLDEN = 0.6180339887498949


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Parts are built by hand here, and torch.nn initialises from the global generator."""


def quantizer(n_codes=5, code_size=2, d=3, context=4, **options):
    spec = posteriors.VectorQuantized(n_codes, code_size, **options)
    with rng.isolated(0):
        return spec.build(d, context).double()


def learn(module, features):
    q = module(features)
    module.auxiliary(q)
    return q


# -- the quantiser --------------------------------------------------------------------------------


def test_the_nearest_code_is_chosen():
    module = quantizer().eval()
    features = normal(40, 4)
    q = module(features)
    vectors = module.head(features).view(40, 3, 2)
    distance = (vectors.unsqueeze(-2) - module.codebook).square().sum(-1)  # (40, 3, 5)
    assert torch.equal(q.value, nn.functional.one_hot(distance.argmin(-1), 5).double())
    assert len(q.value.argmax(-1).unique()) >= 3
    assert torch.equal(q.vectors, vectors)
    assert torch.equal(q.mean, q.value.flatten(1))


def test_the_decoder_sees_codes_whose_gradient_the_encoder_gets():
    module = quantizer().eval()
    features = normal(6, 4).requires_grad_()
    q = module(features)
    z = q.draw((2,), noise())
    seen = module.embed(z, q)
    codes = module.codebook[q.value.argmax(-1)].flatten(1)  # (6, 6)
    assert torch.equal(seen, codes.expand(2, 6, 6))
    assert torch.equal(module.embed(z, None), seen)
    weight = normal(2, 6, 6, seed=3)
    (slope,) = torch.autograd.grad((seen * weight).sum(), q.vectors)
    assert torch.equal(slope.flatten(1), weight.sum(0))
    assert not module.embed(z, None).requires_grad
    half = torch.full((1, 15), 0.2).double()
    assert torch.allclose(module.embed(half, None), module.codebook.mean(0).repeat(3))
    spec = module.spec
    assert spec.latent(3) == Latent(3, "one_hot", 5)
    assert module.embedding_width(spec.latent(3)) == 6


def test_the_commitment_is_the_weighted_squared_distance():
    module = quantizer(commitment=0.7).eval()
    q = module(normal(6, 4))
    codes = module.codebook[q.value.argmax(-1)]
    expected = 0.7 * (q.vectors - codes).square().sum((1, 2))
    auxiliary = module.auxiliary(q)
    assert torch.allclose(auxiliary, expected)
    (slope,) = torch.autograd.grad(auxiliary.sum(), q.vectors)
    assert torch.allclose(slope, 1.4 * (q.vectors - codes))
    model = model_of(posteriors.VectorQuantized(3, 2, commitment=0.7)).eval()
    bound = ELBO()(model, Batch(X), step=0, noise=noise())
    added = model.posterior.auxiliary(bound.evidence.posterior).mean()
    assert added > 0.01
    assert bound.loss.item() == pytest.approx((added - bound.evidence.elbo.mean()).item())


def test_codes_start_as_vectors_of_the_first_batch():
    module = quantizer()
    features = normal(30, 4)
    before = module.codebook.clone()
    module.eval()(features)
    assert torch.equal(module.codebook, before)
    module.train()(features)
    vectors = module.head(features).flatten(0, 1).view(90, 2)
    places = [int((i * GOLDEN) % 1 * 90) for i in range(1, 6)]
    assert torch.equal(module.codebook, vectors[places].detach())
    assert len({i % 3 for i in places}) == 3  # of every variable
    assert torch.equal(module.use, torch.full((5,), 90 / 5).double())
    again = module.codebook.clone()
    module(normal(30, 4, seed=1))
    assert torch.equal(module.codebook, again)  # only the first, and learning is elsewhere


def test_codes_are_running_means_of_their_vectors():
    module = quantizer(decay=0.8)
    learn(module, normal(30, 4))
    use, total = module.use.clone(), module.use.unsqueeze(1) * module.codebook
    for seed in (1, 2, 3):
        features = normal(30, 4, seed=seed)
        q = learn(module, features)
        for code in range(5):
            own = q.vectors[q.value[..., code] == 1]
            use[code] = 0.8 * use[code] + 0.2 * len(own)
            total[code] = 0.8 * total[code] + 0.2 * own.sum(0)
        assert (use > 0.1 * use.mean()).all()  # none is dead
        assert torch.allclose(module.use, use)
        assert torch.allclose(module.codebook, (total / use.unsqueeze(1)).detach())
    kept = module.codebook.clone()
    learn(module.eval(), normal(30, 4, seed=4))
    assert torch.equal(module.codebook, kept)
    assert not module.codebook.requires_grad


def test_a_code_without_use_is_put_on_a_vector_of_the_batch():
    state = torch.default_generator.get_state()
    module = quantizer(decay=0.5)
    features = normal(30, 4)
    learn(module, features)
    with torch.no_grad():
        module.codebook[3] = 1e3  # nothing is near
        module.use[3] = 0.21 * module.use.mean()
    learn(module, features)
    assert module.use[3] / module.use.mean() == pytest.approx(0.105, rel=0.3)
    assert module.codebook[3].abs().max() == 1e3  # little used, but not dead yet
    use = module.use.clone()
    q = learn(module, features)
    assert torch.equal(module.codebook[3], q.vectors.flatten(0, 1)[int(4 * GOLDEN % 1 * 90)])
    use = 0.5 * use + 0.5 * q.value.sum((0, 1))
    assert module.use[3].item() == pytest.approx(use.mean().item())
    assert torch.allclose(module.use[[0, 1, 2, 4]], use[[0, 1, 2, 4]])
    assert learn(module, features).value[..., 3].sum() > 0
    assert torch.equal(torch.default_generator.get_state(), state)


def test_vectors_that_are_not_finite_teach_nothing():
    module = quantizer()
    learn(module, torch.full((30, 4), torch.nan).double())
    assert not module.use.any()
    learn(module, normal(30, 4))
    before = module.codebook.clone(), module.use.clone()
    features = normal(30, 4, seed=1)
    features[0, 0] = torch.inf
    learn(module, features)
    assert torch.equal(module.codebook, before[0])
    assert torch.equal(module.use, before[1])


def test_other_weights_do_not_disturb_the_codebook():
    module = quantizer().train()
    features = normal(30, 4)
    learn(module, features)
    before = module.codebook.clone()
    weights = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    q = torch.func.functional_call(module, weights, features)
    assert isinstance(q, Quantized)
    assert torch.equal(q.vectors, torch.zeros(30, 3, 2).double())
    assert torch.equal(module.codebook, before)


@pytest.mark.parametrize("prior", [priors.Categorical(), priors.Autoregressive((6,))], ids=repr)
def test_the_bound_of_a_quantiser_is_honest(prior):
    model, z = model_of(posteriors.VectorQuantized(3, 2), prior), every(2, 3)
    model.train().evidence(Batch(X), 1, noise())  # puts the codes where the vectors are
    model.eval()
    log_joint, log_q = exact(model, Batch(X), z)
    evidence = model.evidence(Batch(X), 3, noise())
    chosen = log_q.argmax(0)
    assert torch.equal(log_q[chosen, torch.arange(3)], torch.zeros(3).double())
    assert torch.allclose(evidence.elbo, log_joint[chosen, torch.arange(3)])
    assert (evidence.elbo < torch.logsumexp(log_joint, 0) - 0.01).all()
    log_pz = model.prior_distribution().log_factors(z[chosen])
    assert torch.allclose(evidence.kl, -log_pz)
    marginal = importance.log_marginal(model, Batch(X), 50, rng.PerRow(X, 0))
    assert torch.allclose(marginal.log_likelihood, evidence.elbo)
    assert torch.allclose(marginal.elbo, evidence.elbo)


def test_the_conditional_posterior_needs_no_density_at_others_draws():
    """q has probability 0 at the draws of other proposals; the weights are right all the same."""
    model, z = model_of(posteriors.VectorQuantized(3, 2)), every(2, 3)
    model.train().evidence(Batch(X), 1, noise())
    model.eval()
    mask = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    wanted = torch.softmax(exact(model, Batch(X, mask), z)[0], 0)
    batch = Batch(torch.where(mask, X, torch.nan), mask)
    found = conditional.searched_posterior(model, batch, 40000, rng.PerRow(X, 0))
    same = (found.z.unsqueeze(0) == z[:, None, None]).all(-1)
    assert torch.allclose((same * found.weight).sum(1), wanted, atol=0.02)


def test_updates_train_encoder_prior_and_codes():
    for posterior in (posteriors.Categorical(3), posteriors.VectorQuantized(3, 2)):
        model = model_of(posterior).train()
        ELBO()(model, Batch(X), step=0, noise=noise()).loss.backward()
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.norm() > 0, name
    quantized = VAE(posterior="vector_quantized", objective=ELBO() + Contractive(0.1))
    with pytest.raises(ParameterError, match="not a differentiable function of x"):
        quantized.fit(X.numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_codes": 1}, "n_codes must be an integer >= 2"),
        ({"code_size": 0}, "code_size must be an integer >= 1"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\); received 1.0"),
        ({"decay": -0.1}, "decay"),
        ({"commitment": -1.0}, "commitment must be finite and >= 0"),
        ({"commitment": math.nan}, "commitment"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ParameterError, match=message):
        posteriors.VectorQuantized(**options)
    assert posteriors.VectorQuantized(decay=0.0, commitment=0.0).decay == 0


# -- through the estimator ------------------------------------------------------------------------

OPTIONS = {"n_components": 4, "hidden_layer_sizes": (64,), "learning_rate": 0.005}
POSTERIORS = {
    "categorical": posteriors.Categorical(8),
    "vector_quantized": posteriors.VectorQuantized(16, 8),
}


@pytest.fixture(scope="module")
def binary(digits):
    rows = (digits[0] > 0.5).astype(float)
    return rows[:1000], rows[1000:]


@pytest.fixture(scope="module")
def trained(binary):
    return {
        name: VAE(posterior=p, max_epochs=25, batch_size=50, random_state=0, **OPTIONS).fit(
            binary[0]
        )
        for name, p in POSTERIORS.items()
    }


@pytest.mark.parametrize("name", POSTERIORS)
def test_digits_are_reconstructed(trained, binary, name):
    vae, test = trained[name], binary[1]
    Z = vae.transform(test)
    assert Z.shape == (len(test), vae._n_features_out)
    assert np.allclose(Z.reshape(len(test), 4, -1).sum(-1), 1)
    error = ((vae.inverse_transform(Z) - test) ** 2).mean()
    share = {"categorical": 0.76, "vector_quantized": 0.6}[name]  # found: 0.68 and 0.52
    assert error < share * test.var(0).mean()
    report = vae.evaluate(test, n_samples=20)
    assert len(report.kl_per_dimension) == 4
    assert sum(report.kl_per_dimension) == pytest.approx(report.kl, rel=1e-3)
    assert report.active_units >= 4
    assert report.log_likelihood >= report.elbo - 1e-9


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_call_works_and_survives_a_file(trained, binary, tmp_path, name):
    vae, rows = trained[name], binary[1][:30]
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.transform(rows), vae.transform(rows))
    assert np.array_equal(again.score_samples(rows), vae.score_samples(rows))
    assert np.array_equal(again.sample(5, random_state=0), vae.sample(5, random_state=0))
    assert len(np.unique(vae.sample(5, kind="mean", random_state=0), axis=0)) > 1
    single = vae.transform(rows.astype(np.float32))
    assert single.dtype == np.float32
    assert np.allclose(single, vae.transform(rows), atol=1e-4)
    holes = rows.copy()
    holes[:, ::2] = np.nan
    filled = vae.impute(holes)
    assert np.array_equal(filled[:, 1::2], rows[:, 1::2])
    mean_error = ((binary[0].mean(0) - rows)[:, ::2] ** 2).mean()
    assert ((filled - rows)[:, ::2] ** 2).mean() < 0.9 * mean_error
    assert vae.impute(holes, n_draws=2, random_state=0).shape == (2, 30, 64)


def test_a_prior_that_is_fitted_to_the_codes_raises_the_bound(trained, binary, tmp_path):
    vae, train = copy.deepcopy(trained["vector_quantized"]), binary[0]
    before = vae.evaluate(train, n_samples=1)
    vae.fit_prior(train, "autoregressive", n_steps=200)
    after = vae.evaluate(train, n_samples=1)
    assert after.kl < before.kl - 1.5
    assert after.reconstruction == pytest.approx(before.reconstruction, abs=1e-6)
    assert after.elbo == pytest.approx(after.log_likelihood, abs=1e-5)
    codes = vae.transform(train).reshape(len(train), 4, 16).argmax(-1)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    p = counts / len(train)
    assert after.kl > -(p * np.log(p)).sum()  # no law says less than the entropy on average
    vae.save(tmp_path / "m")
    assert load(tmp_path / "m").evaluate(train, n_samples=1) == after
    with pytest.raises(ParameterError, match="real numbers"):
        vae.fit_prior(train, "gaussian_mixture")


@pytest.mark.parametrize("name", POSTERIORS)
def test_low_precision_and_repetition(binary, name):
    rows = binary[0][:200]
    options = {"posterior": name, "max_epochs": 2, "precision": "bfloat16", **OPTIONS}
    first, second = (VAE(random_state=3, **options).fit(rows) for _ in range(2))
    assert np.array_equal(first.transform(rows), second.transform(rows))
    assert np.isfinite(first.score_samples(rows)).all()


def test_the_unbiased_gradient_trains(binary):
    rows = binary[0][:500]
    options = {"posterior": "categorical", "max_epochs": 12, "random_state": 0, **OPTIONS}
    with pytest.raises(ParameterError, match=r"'dreg' needs draws .* gradient='vimco' does not"):
        VAE(objective="iwae", **options).fit(rows)
    vae = VAE(objective=IWAE(4, gradient="vimco"), **options).fit(rows)
    assert vae.history_["valid_iwae"][-1] > vae.history_["valid_iwae"][0] + 1
    assert vae.evaluate(rows, n_samples=20).kl > 0.3
