"""M2 against enumeration, closed forms and quadrature."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, special

from skvae import VAE, VAEClassifier, posteriors, priors, rng
from skvae.conditional import Accuracy, Importance
from skvae.distributions import draw
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.importance import log_marginal
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import M2, Assembly, ClassMixture
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Supervised

C, D, WIDTH = 3, 2, 5


def built(model=None, posterior=None, prior=None, d=D, likelihood=None, seed=0):
    spec = Assembly(
        (WIDTH,),
        d,
        likelihood or Bernoulli(),
        posterior or posteriors.Diagonal(),
        prior or priors.Standard(),
        MLP((7,)),
        model or M2(C, class_prior=(0.5, 0.3, 0.2), hidden_size=6),
    )
    module = spec.build(seed).double()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # classes are alike at the start
        for name, p in module.named_parameters():
            if name != "class_logits":
                p.add_(0.3 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return module.eval()


def rows(n=6, seed=5):
    x = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x < 0).double()


def labels(*y):
    return torch.tensor(y)


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


class Silent:
    """Noise that is none, so that every draw is the mean."""

    def normal(self, shape, like):
        return like.new_zeros((*shape, *like.shape))

    def uniform(self, shape, like):
        return like.new_full((*shape, *like.shape), 0.5)


MODELS = {
    "diagonal": {},
    "flow": {"posterior": posteriors.Flow(kind="planar", n_transforms=2)},
    "mixture prior": {"prior": priors.GaussianMixture(n_components=4)},
    "learned": {"model": M2(C, class_prior="learned")},
    "uniform": {"model": M2(C)},
    "class mixture": {"model": ClassMixture(C, class_prior=(0.5, 0.3, 0.2), hidden_size=6)},
}


@pytest.fixture(params=MODELS)
def module(request):
    return built(**MODELS[request.param])


# -- the bounds ----


def test_the_unlabelled_bound_is_the_sum_over_classes(module):
    x, silent = rows(), Silent()
    u = module.evidence(Batch(x), 1, silent).elbo
    q = module.log_class(Batch(x)).exp()
    each = torch.stack(
        [module.evidence(Batch(x, y=torch.full((6,), c)), 1, silent).elbo for c in range(C)], -1
    )
    torch.testing.assert_close(u, (q * (each - q.log())).sum(-1))


def test_what_it_lacks_to_the_best_is_the_kl_of_the_classes(module):
    evidence = module.evidence(Batch(rows()), 3, noise())
    log_q = module.log_class(Batch(rows()))
    best = torch.logsumexp(evidence.bound, -1)
    kl = (log_q.exp() * (log_q - (evidence.bound - best[:, None]))).sum(-1)
    torch.testing.assert_close(evidence.elbo, best - kl)
    assert (evidence.elbo < evidence.log_likelihood + 30).all()


def test_with_a_known_class_it_is_the_conditional_vae():
    module, x, y = built(), rows(), labels(0, 1, 2, 2, 1, 0)
    batch = Batch(x, y=y)
    evidence = module.evidence(batch, 2, Silent())
    code = torch.eye(C, dtype=torch.float64)[y]
    context = module.activation(
        module.from_features(module.encoder(x, None)) + module.from_class(y)
    )
    q = module.posterior(context)
    z = draw(q, (2,), Silent())
    p = module.likelihood(module.decoder(torch.cat([z, code.expand(2, -1, -1)], -1)))
    log_px = p.log_prob(x).sum(-1)
    kl = torch.distributions.kl_divergence(q.base_dist, torch.distributions.Normal(0.0, 1.0)).sum(
        -1
    )
    log_p = torch.tensor([0.5, 0.3, 0.2]).log().double()[y]
    torch.testing.assert_close(evidence.elbo, log_px.mean(0) - kl + log_p, atol=1e-6, rtol=0)
    evidence.elbo.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in module.judge.parameters())
    assert module.verdict.weight.grad is None or not module.verdict.weight.grad.any()
    assert torch.isinf(evidence.bound).sum() == 6 * (C - 1)


def test_rows_with_and_without_a_class_stand_beside_each_other():
    module, x, silent = built(), rows(), Silent()
    y = labels(0, -1, 2, -1, -1, 1)
    both = module.evidence(Batch(x, y=y), 1, silent)
    none = module.evidence(Batch(x), 1, silent)
    known = module.evidence(Batch(x, y=y.clamp(min=0)), 1, silent)
    for name in ("elbo", "log_likelihood", "kl_rows"):
        expected = torch.where(y < 0, getattr(none, name), getattr(known, name))
        torch.testing.assert_close(getattr(both, name), expected)
    hidden = module.evidence(Batch(x, y=torch.full((6,), -1)), 1, silent)
    torch.testing.assert_close(hidden.elbo, none.elbo)


def test_permuted_classes_permute_what_is_said():
    module, x, order = built(), rows(), [2, 0, 1]
    before = module.evidence(Batch(x), 1, Silent())
    said = module.log_class(Batch(x))
    with torch.no_grad():
        module.from_class.weight.copy_(module.from_class.weight[order])
        module.verdict.weight.copy_(module.verdict.weight[order])
        module.verdict.bias.copy_(module.verdict.bias[order])
        module.class_logits.copy_(module.class_logits[order])
        first = next(m for m in module.decoder.modules() if isinstance(m, torch.nn.Linear))
        first.weight[:, D:] = first.weight[:, D:][:, order]
    after = module.evidence(Batch(x), 1, Silent())
    torch.testing.assert_close(module.log_class(Batch(x)), said[:, order])
    torch.testing.assert_close(after.bound, before.bound[:, order])
    torch.testing.assert_close(after.elbo, before.elbo)
    torch.testing.assert_close(after.log_likelihood, before.log_likelihood)


def test_hidden_cells_never_matter():
    module, x = built(), rows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    y = labels(0, -1, 2, -1, -1, 1)
    one, two = (
        module.evidence(Batch(torch.where(mask, x, other), mask, y), 2, noise())
        for other in (0.0, math.nan)
    )
    torch.testing.assert_close(one.elbo, two.elbo)
    assert torch.isfinite(two.elbo).all()


def test_copies_without_their_class_add_their_own_terms_and_nothing_else():
    """The weight of −log q(y | x) is that of a mean over labelled rows, however many others."""
    module, x, y, silent = built(), rows(), labels(0, -1, 2, -1, 1, 1), Silent()
    objective = ELBO() + Supervised(3.0)

    def loss(x, y):
        return objective(module, Batch(x, y=y), step=0, noise=silent).loss

    alone, supervised = (
        loss(x, y),
        3.0 * torch.nn.functional.nll_loss(module.log_class(Batch(x[y >= 0])), y[y >= 0]),
    )
    unlabelled = -module.evidence(Batch(x), 1, silent).elbo  # what a copy adds, one by one
    for times in (1, 4):
        copies = torch.cat([x, x.repeat(times, 1)])
        unknown = torch.cat([y, torch.full((6 * times,), -1)])
        bounds = (6 * (alone - supervised) + times * unlabelled.sum()) / (6 + 6 * times)
        torch.testing.assert_close(loss(copies, unknown), bounds + supervised)


# -- the likelihood ----


def exact(module, x):
    """log p(x) for one latent number, by quadrature."""

    def density(z, c, row):
        code = torch.eye(C, dtype=torch.float64)[c]
        h = torch.cat([torch.tensor([z]), code])[None]
        log_px = module.generate(h).log_prob(row).sum().item()
        return math.exp(log_px - 0.5 * z * z) / math.sqrt(2 * math.pi)

    p = torch.softmax(module.class_logits, -1).tolist()
    return [
        math.log(
            sum(
                p[c] * integrate.quad(density, -9, 9, args=(c, row), limit=200)[0]
                for c in range(C)
            )
        )
        for row in x
    ]


def test_the_importance_estimate_is_that_of_quadrature():
    module, x = built(d=1), rows(4)
    with torch.no_grad():
        expected = exact(module, x)
        found = log_marginal(module, Batch(x), 20000, rng.PerRow(x, 0)).log_likelihood
        assert found.tolist() == pytest.approx(expected, abs=0.01)
        # and by draws of (z, y) together
        q = module.infer(Batch(x))
        z = draw(q, (20000,), noise())
        log_w = sum(module.log_joint(Batch(x), z)) - q.log_prob(z)
        flat = torch.logsumexp(log_w, 0) - math.log(20000)
    assert flat.tolist() == pytest.approx(expected, abs=0.1)


def test_classes_of_draws_have_their_probabilities():
    module, x = built(), rows(3)
    with torch.no_grad():
        q = module.infer(Batch(x))
        z = draw(q, (20000,), noise())
        assert z.shape == (20000, 3, D + C)
        p = module.log_class(Batch(x)).exp()
        torch.testing.assert_close(z[..., D:].mean(0), p, atol=0.02, rtol=0)
        torch.testing.assert_close(z.mean(0), q.mean, atol=0.05, rtol=0.05)
        prior = draw(module.prior_distribution(), (20000,), noise())
        assert prior[:, D:].mean(0).tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
        assert module.prior_distribution().mean.tolist() == pytest.approx([0, 0, 0.5, 0.3, 0.2])
        # the entropy of [z, y] by draws and in parts
        laws = torch.stack([law.entropy() for law in q.laws], -1)
        entropy = (p * (laws - p.log())).sum(-1)
        torch.testing.assert_close(-q.log_prob(z).mean(0), entropy, atol=0.05, rtol=0)


def test_missing_cells_are_drawn_with_their_classes():
    module, x = built(d=1), rows(2)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 0] = False
    with torch.no_grad():
        accuracy = Accuracy(4000, 100.0, 4000)
        sampler = Importance(accuracy)
        batch = Batch(x, mask)
        ((_, sample),) = sampler.samples(
            module, batch, lambda rows, turn: rng.PerRow(x[rows], turn)
        )
        p = module.hidden(batch, sample.z).mean[..., 0]
        found = (sample.weight * p).sum(0)
        both = [x.clone(), x.clone()]
        both[0][:, 0], both[1][:, 0] = 0, 1
        log_p = np.array([exact(module, one) for one in both])
    assert found.tolist() == pytest.approx(special.softmax(log_p, 0)[1].tolist(), abs=0.01)


# -- training ----


@pytest.mark.parametrize(
    "objective", [ELBO(), ELBO(free_bits=0.1), IWAE(3), IWAE(3, gradient="plain")]
)
def test_objectives_reach_every_weight(objective):
    module = built(MODELS["learned"]["model"]).train()
    batch = Batch(rows(), y=labels(0, -1, 2, -1, -1, 1))
    bound = objective(module, batch, step=0, noise=noise())
    bound.loss.backward()
    for name, p in module.named_parameters():
        if isinstance(objective, IWAE) and name.startswith(("judge", "verdict")):
            continue  # the bound does not depend on q(y | x)
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name


def test_classes_are_found_without_a_single_label():
    generator = np.random.default_rng(0)
    centre = np.array([[0, 4], [4, -4], [-4, -4]])
    truth = generator.integers(3, size=600)
    X = centre[truth] + generator.normal(size=(600, 2))
    vae = VAE(
        1,
        model=M2(3),
        likelihood=Gaussian("global"),
        hidden_layer_sizes=(32,),
        objective=ELBO(warmup=500),
        max_epochs=60,
        batch_size=32,
        random_state=0,
    ).fit(X)
    found = vae.transform(X)[:, 1:]
    assert found.sum(1) == pytest.approx(1)
    table = np.zeros((3, 3))
    np.add.at(table, (truth, found.argmax(1)), 1)
    assert table.max(1).sum() / 600 > 0.9
    assert vae.sample(50, random_state=0).shape == (50, 2)
    holes = X.copy()
    holes[:, 1] = np.nan
    error = np.sqrt(np.mean((vae.impute(holes)[:, 1] - X[:, 1]) ** 2))
    assert error < 0.9 * X[:, 1].std()
    assert np.isfinite(vae.score(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": M2(C), "prior": priors.Vamp()}, "vamp"),
        ({"model": M2(C), "posterior": posteriors.Deterministic()}, "deterministic"),
    ],
)
def test_what_does_not_go_together_is_refused(change, message):
    with pytest.raises(ParameterError, match=message):
        built(**change)


@pytest.mark.parametrize("wrong", ["even", (0.5, 0.5), (0.5, 0.5, 0.0), (0.5, 0.3, 0.3)])
def test_a_prior_of_classes_is_checked(wrong):
    with pytest.raises(ParameterError, match="class_prior"):
        M2(3, class_prior=wrong)


def test_a_class_mixture_is_one_of_the_code():
    module = built(ClassMixture(C, class_prior=(0.5, 0.3, 0.2), hidden_size=6), d=1)
    x, h = rows(4), torch.linspace(-30, 30, 20_001, dtype=torch.float64)[:, None]
    # What the decoder makes of h, whatever the class: p(x | h), (n_points, B).
    p = module._emit(h[:, None])
    log_px = p.log_prob(x[None]).sum(-1)
    m, s = module.place[:, 0].detach(), module.spread[:, 0].detach()
    parts = torch.distributions.Normal(m, s).log_prob(h) + torch.log_softmax(
        module.class_logits, -1
    )
    density = torch.logsumexp(parts, -1)[:, None]
    exact = torch.logsumexp(log_px + density, 0) + math.log(60 / 20_000)
    found = log_marginal(module, Batch(x), 20_000, noise()).log_likelihood
    torch.testing.assert_close(found, exact.detach(), atol=0.02, rtol=0)


def test_a_class_mixture_tells_clusters_apart():
    source = np.random.default_rng(0)
    y = source.integers(3, size=300)
    X = 4.0 * np.eye(3)[y] @ source.normal(size=(3, 6)) + source.normal(size=(300, 6))
    some = np.where(np.arange(300) < 15, y, -1)
    classifier = VAEClassifier(2, model="mixture", max_epochs=60, batch_size=32, random_state=0)
    assert classifier.fit(X, some).score(X, y) > 0.9
    with pytest.raises(
        ParameterError, match="'class_mixture' does not go with posterior='von_mises"
    ):
        Assembly(
            (WIDTH,),
            3,
            Bernoulli(),
            posteriors.VonMisesFisher(),
            priors.Sphere(),
            MLP((7,)),
            ClassMixture(C),
        )
