"""ADGM and SDGM against brute force, enumeration and quadrature."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli as Coin
from torch.distributions import Normal

from skvae import VAE, load, models, posteriors, priors, rng
from skvae.chains import chain_posterior
from skvae.conditional import Accuracy, Importance
from skvae.distributions import draw
from skvae.estimators.classifier import VAEClassifier
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.few_labels import draw_labels
from skvae.importance import log_marginal
from skvae.likelihoods import Bernoulli
from skvae.models import ADGM, SDGM, Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO

C, WIDTH = 3, 5
SHARES = (0.5, 0.3, 0.2)


def built(kind, d=2, n=3, shares=SHARES, prior=None, posterior=None, seed=0):
    parts = (posterior or posteriors.Diagonal(), prior or priors.Standard(), MLP((7,)))
    model = kind(C, shares, n_auxiliary=n, hidden_size=6)
    module = Assembly((WIDTH,), d, Bernoulli(), *parts, model).build(seed).double()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name != "class_logits":
                p.add_(0.3 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
    return module.eval()


@pytest.fixture(params=[ADGM, SDGM])
def kind(request):
    return request.param


@pytest.fixture
def module(kind):
    return built(kind)


def rows(n=4, seed=5):
    x = torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (x < 0).double()


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


class Silent:
    """Noise that is none, so that every draw is the mean."""

    def normal(self, shape, like):
        return like.new_zeros((*shape, *like.shape))

    def uniform(self, shape, like):
        return like.new_full((*shape, *like.shape), 0.5)


def gaussian(head, h):
    """The Gaussian that a head makes of features, written out."""
    mean, raw = (head.head.weight @ h + head.head.bias).chunk(2)
    return Normal(mean, torch.exp(7 * torch.tanh(raw / 14)))


def by_hand(module, row, y, a_noise, z_noise):
    """All log-densities of one row, one class and one draw, from the weights alone."""
    net = module
    layer = torch.nn.functional.silu
    code = torch.eye(C, dtype=row.dtype)[y]
    seen = net.encoder(row[None])[0]
    q_a = gaussian(net.auxiliary, seen)
    a = q_a.mean + q_a.stddev * a_noise
    judged = net.judge_features(net.judge(row[None])[0]) + net.judge_auxiliary.weight @ a
    log_y = torch.log_softmax(net.verdict(layer(judged)), 0)
    met = net.from_features.weight @ seen + net.inferring.from_vector(a)
    q_z = gaussian(net.posterior, layer(met + net.inferring.from_class.weight[:, y]))
    z = q_z.mean + q_z.stddev * z_noise
    own = net.expecting.from_vector(z) + net.expecting.from_class.weight[:, y]
    shown = [z, code, a]
    if isinstance(net, models.auxiliary.ADGMModule):
        own, shown = own + net.from_reader(net.reader(row[None])[0]), shown[:2]
    p_a = gaussian(net.expected, layer(own))
    return {
        "x": Coin(logits=net.decoder(torch.cat(shown))).log_prob(row).sum(),
        "z": Normal(0.0, 1.0).log_prob(z).sum(),
        "y": math.log(SHARES[y]),
        "a": p_a.log_prob(a).sum(),
        "q_z": q_z.log_prob(z).sum(),
        "q_y": log_y[y],
        "q_a": q_a.log_prob(a).sum(),
        "point": torch.cat([z, code, a]),
    }


class Recorded:
    """Given noise, once."""

    def __init__(self, values):
        self.values = values

    def normal(self, shape, like):
        assert self.values.shape == (*shape, *like.shape)
        return self.values


@pytest.mark.parametrize("y", [None, [0, -1, 2, -1], [2, 1, 0, 0]], ids=["none", "some", "all"])
def test_the_bound_is_that_of_brute_force(module, y):
    x, n_samples, d, n = rows(), 3, 2, 3
    source = torch.Generator().manual_seed(1)
    eps = torch.randn(n_samples, 4, n + C * d, generator=source, dtype=x.dtype)
    found = module.evidence(
        Batch(x, y=None if y is None else torch.tensor(y)), n_samples, Recorded(eps)
    )
    elbo, log_w = torch.zeros(4).double(), torch.zeros(n_samples, 4).double()
    bound = torch.full((4, C), -math.inf).double()
    for b in range(4):
        label = -1 if y is None else y[b]
        possible = range(C) if label < 0 else [label]
        for c in possible:
            bound[b, c] = 0
        for k in range(n_samples):
            terms = []
            for c in possible:
                z_noise = eps[k, b, n + c * d : n + (c + 1) * d]
                v = by_hand(module, x[b], c, eps[k, b, :n], z_noise)
                term = v["x"] + v["z"] + v["y"] + v["a"] - v["q_z"] - v["q_a"]
                terms.append(term)
                bound[b, c] += term / n_samples
                share = v["q_y"].exp() if label < 0 else 1
                entropy = v["q_y"] if label < 0 else 0
                elbo[b] += share * (term - entropy) / n_samples
            log_w[k, b] = torch.logsumexp(torch.stack(terms), 0)
    torch.testing.assert_close(found.elbo, elbo)
    torch.testing.assert_close(found.log_px.mean(0) - found.kl.sum(-1), elbo)
    torch.testing.assert_close((found.log_px + found.log_pz - found.log_qz).mean(0), elbo)
    torch.testing.assert_close(found.log_w, log_w)
    torch.testing.assert_close(found.bound, bound)


def test_the_flat_laws_say_the_same(module):
    x = rows()
    for c in range(C):
        hand = [by_hand(module, row, c, torch.zeros(3), torch.zeros(2)) for row in x]
        point = torch.stack([v["point"] for v in hand])
        log_px, log_pz = module.log_joint(Batch(x), point[None])
        joint = torch.stack([v["x"] + v["z"] + v["y"] + v["a"] for v in hand])
        torch.testing.assert_close((log_px + log_pz)[0], joint)
        own = torch.stack([v["q_z"] + v["q_y"] + v["q_a"] for v in hand])
        torch.testing.assert_close(module.infer(Batch(x)).log_prob(point), own)
    mean = module.infer(Batch(x)).mean
    torch.testing.assert_close(mean[:, -3:], point[:, -3:])
    assert (mean[:, 2 : 2 + C].sum(-1) - 1).abs().max() < 1e-9


def test_several_draws_are_several_times_one(module):
    x = rows()
    many, one = (module.evidence(Batch(x), k, Silent()) for k in (3, 1))
    torch.testing.assert_close(many.log_w, one.log_w.expand(3, -1))
    torch.testing.assert_close(many.elbo, one.elbo)
    torch.testing.assert_close(many.bound, one.bound)


def test_draws_of_a_row_do_not_depend_on_how_they_are_called_for(module):
    x = rows()
    whole = module.evidence(Batch(x), 5, rng.PerRow(x, 0)).log_w
    source = rng.PerRow(x, 0)
    parts = [module.evidence(Batch(x), k, source).log_w for k in (2, 3)]
    torch.testing.assert_close(torch.cat(parts), whole)
    alone = module.evidence(Batch(x[2:3]), 5, rng.PerRow(x[2:3], 0)).log_w
    torch.testing.assert_close(alone, whole[:, 2:3])


def exact(module, row, y=None):
    """log p(x), or log p(x, y), by quadrature over one z and, where it matters, one a."""
    nodes, weights = (
        torch.tensor(v, dtype=torch.float64) for v in np.polynomial.hermite_e.hermegauss(80)
    )
    weights = weights / weights.sum()
    n = len(nodes)
    total = 0.0
    for c in range(C) if y is None else [y]:
        code = torch.eye(C).double()[c].expand(n, -1)
        above = torch.cat([nodes[:, None], code], -1)
        if isinstance(module, models.auxiliary.ADGMModule):
            logits = module.decoder(above)[:, None]  # (n, 1, D)
        else:
            own = module.expecting.from_vector(nodes[:, None])
            own = own + module.expecting.from_class.weight[:, c]
            laws = [gaussian(module.expected, torch.nn.functional.silu(h)) for h in own]
            a = torch.stack([law.mean + law.stddev * nodes for law in laws])  # (n, n)
            flat = torch.cat([above[:, None].expand(-1, n, -1), a[..., None]], -1)
            logits = module.decoder(flat)  # (n, n, D)
        p = Coin(logits=logits).log_prob(row).sum(-1).exp()
        inner = p[:, 0] if p.shape[1] == 1 else p @ weights
        total += SHARES[c] * (weights @ inner).item()
    return math.log(total)


def test_the_importance_estimate_is_that_of_quadrature(kind):
    module, x = built(kind, d=1, n=1), rows(2)
    with torch.no_grad():
        expected = [exact(module, row) for row in x]
        found = log_marginal(module, Batch(x), 20000, rng.PerRow(x, 0)).log_likelihood
        assert found.tolist() == pytest.approx(expected, abs=0.02)
        bound = module.evidence(Batch(x), 4000, noise()).elbo
        assert (bound < torch.tensor(expected)).all()
        y = torch.tensor([0, 2])
        known = [exact(module, row, c) for row, c in zip(x, y.tolist(), strict=True)]
        own = module.evidence(Batch(x, y=y), 100_000, noise())
        assert own.log_likelihood.tolist() == pytest.approx(known, abs=0.02)
        assert (own.elbo < torch.tensor(known)).all()
        q = module.infer(Batch(x))
        z = draw(q, (40000,), noise())
        log_w = sum(module.log_joint(Batch(x), z)) - q.log_prob(z)
        flat = torch.logsumexp(log_w, 0) - math.log(40000)
    assert flat.tolist() == pytest.approx(expected, abs=0.03)


def test_missing_cells_are_drawn_with_their_classes(kind):
    module, x = built(kind, d=1, n=1), rows(3)[1:]
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 0] = False
    with torch.no_grad():
        # cells that hang together, and an a that hangs on all of them
        module.decoder[-2].weight.mul_(4)
        if kind is ADGM:
            module.from_reader.weight.mul_(4)
            module.expected.head.weight[0].mul_(4)
            module.expected.head.bias[1] -= 1
            module.posterior.head.bias[1] += 0.5
            module.auxiliary.head.bias[1] += 1
        sampler = Importance(Accuracy(4000, 100.0, 4000))
        ((_, sample),) = sampler.samples(
            module, Batch(x, mask), lambda rows, turn: rng.PerRow(x[rows], turn)
        )
        p = module.hidden(Batch(x, mask), sample.z).mean[..., 0]
        found = (sample.weight * p).sum(0)
        off, on = x.clone(), x.clone()
        off[:, 0], on[:, 0] = 0, 1
        each = [exact(module, a) - exact(module, b) for a, b in zip(off, on, strict=True)]
        chains = chain_posterior(
            module, Batch(x, mask), rng.PerRow(x, 0), n_chains=100, n_steps=400, burn_in=20
        )
        of_chains = module.hidden(Batch(x, mask), chains.z).mean[..., 0].mean(0)
    expected = [1 / (1 + math.exp(e)) for e in each]
    assert found.tolist() == pytest.approx(expected, abs=0.015)
    assert of_chains.tolist() == pytest.approx(expected, abs=0.015)


def test_hidden_cells_never_matter(module):
    x = rows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    one, two = (Batch(torch.where(mask, x, other), mask) for other in (0.0, math.nan))
    for batch in (one, two):
        assert torch.isfinite(module.evidence(batch, 2, noise()).elbo).all()
    torch.testing.assert_close(
        module.evidence(one, 2, noise()).elbo, module.evidence(two, 2, noise()).elbo
    )
    torch.testing.assert_close(module.log_class(one), module.log_class(two))
    z = module.infer(one).mean[None]
    torch.testing.assert_close(sum(module.log_joint(one, z)), sum(module.log_joint(two, z)))


def test_the_class_without_noise_is_the_mean_over_the_auxiliary(kind):
    module, x = built(kind, n=1), rows()
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    q = module.infer(Batch(x))
    total = 0.0
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        total = total + weight * q.log_class(q.auxiliary.mean + q.auxiliary.stddev * node).exp()
    spread = (total - q.log_class(q.auxiliary.mean).exp()).abs().max()
    found = module.log_class(Batch(x)).exp()
    assert spread > 0.01  # else the mean over a would not be needed
    torch.testing.assert_close(found, total, atol=2e-3, rtol=0)
    assert torch.equal(module.log_class(Batch(x[2:3])).exp()[0].argmax(), found[2].argmax())
    drawn = module.log_class(Batch(x.repeat(5000, 1)), noise()).exp().view(5000, 4, C).mean(0)
    torch.testing.assert_close(drawn, total, atol=0.02, rtol=0)


def test_the_points_of_that_mean_are_even_along_each_axis(kind):
    points = built(kind, n=6).points
    assert points.shape == (16, 6)
    torch.testing.assert_close(points.sum(0), torch.zeros(6).double())
    below = torch.special.ndtr(points).sort(0).values * 16  # one in each part of equal mass
    torch.testing.assert_close(below, (torch.arange(16).double() + 0.5)[:, None].expand(-1, 6))
    fresh = ADGM(C, n_auxiliary=6)
    again = Assembly(
        (2,), 1, Bernoulli(), posteriors.Diagonal(), priors.Standard(), MLP(()), fresh
    )
    torch.testing.assert_close(again.build(9).points.double(), points)


def test_classes_start_alike(kind):
    module = Assembly(
        (WIDTH,), 2, Bernoulli(), posteriors.Diagonal(), priors.Standard(), MLP((7,)), kind(C)
    ).build(0)
    x = rows().float()
    expected = torch.full((4, C), -math.log(C))
    torch.testing.assert_close(module.log_class(Batch(x)), expected)


def test_the_names_of_classes_do_not_matter(kind):
    module, other, x = built(kind), built(kind), rows()
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        for part in (other.inferring, other.expecting):
            part.from_class.weight.copy_(part.from_class.weight[:, order].clone())
        for part in (other.verdict.weight, other.verdict.bias, other.class_logits):
            part.copy_(part[order].clone())
        first = other.decoder[0].weight
        first[:, 2 : 2 + C] = first[:, 2 : 2 + C][:, order].clone()
        y = torch.tensor([0, -1, 2, -1])
        renamed = torch.where(y < 0, y, order.argsort()[y])
        a = module.evidence(Batch(x, y=y), 2, Silent())
        b = other.evidence(Batch(x, y=renamed), 2, Silent())
    torch.testing.assert_close(a.elbo, b.elbo)
    torch.testing.assert_close(a.log_w, b.log_w)
    torch.testing.assert_close(a.bound[:, order], b.bound)
    for source in (None, Silent()):
        both = (m.log_class(Batch(x), source) for m in (module, other))
        first, second = both
        torch.testing.assert_close(first[:, order], second)


def test_draws_have_their_laws(module, kind):
    x = rows(2)
    with torch.no_grad():
        q = module.infer(Batch(x))
        z = draw(q, (20000,), noise())
        assert z.shape == (20000, 2, 2 + C + 3)
        torch.testing.assert_close(z[..., -3:].mean(0), q.auxiliary.mean, atol=0.06, rtol=0)
        a = q.auxiliary.mean + q.auxiliary.stddev * torch.randn(
            20000, 2, 3, generator=torch.Generator().manual_seed(3), dtype=x.dtype
        )
        shares = q.log_class(a).exp().mean(0)
        torch.testing.assert_close(z[..., 2 : 2 + C].mean(0), shares, atol=0.02, rtol=0)
        # E[1] under q is 1: the density is that of the draws
        p = module.prior_distribution().expand(torch.Size([2]))
        own = draw(p, (40000,), rng.PerRow(x, 0))
        assert own.shape == (40000, 2, 2 + C + 3)
        assert own[:, 0, 2 : 2 + C].mean(0).tolist() == pytest.approx(SHARES, abs=0.02)
        if kind is ADGM:
            # −E[log p] is the entropy, known here
            entropy = 2.5 * math.log(2 * math.pi * math.e) - float(np.dot(SHARES, np.log(SHARES)))
        else:
            of_a = module._auxiliary_of(own[..., : 2 + C])
            entropy = math.log(2 * math.pi * math.e) - float(np.dot(SHARES, np.log(SHARES)))
            entropy += of_a.base_dist.entropy().sum(-1).mean().item()
            centred = (own[..., -3:] - of_a.mean) / of_a.stddev
            torch.testing.assert_close(
                centred.std((0, 1)), torch.ones(3).double(), atol=0.02, rtol=0
            )
    assert -p.log_prob(own).mean().item() == pytest.approx(entropy, abs=0.03)


def test_another_class_makes_other_rows(module, kind):
    z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    flat = [module.of_class(z, c) for c in range(C)]
    drawn = [module.of_class(z, 0, noise(seed)) for seed in (0, 1)]
    for c, made in enumerate(flat):
        assert torch.equal(made[:, :2], z)
        assert made[:, 2 + c].tolist() == [1.0] * 5
    p = [module.generate(made).mean for made in (*flat, *drawn)]
    assert (p[0] - p[1]).abs().max() > 0.01
    assert torch.equal(p[3], p[4]) == (kind is ADGM)
    assert not torch.equal(drawn[0][:, -3:], drawn[1][:, -3:])
    if kind is ADGM:
        assert not flat[0][:, -3:].any()


def test_the_bound_reaches_every_weight(kind):
    module = built(kind, shares="learned").train()
    bound = ELBO()(module, Batch(rows(), y=torch.tensor([0, -1, 2, -1])), step=0, noise=noise())
    bound.loss.backward()
    for name, p in module.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name


def test_labels_teach_what_judges_and_nothing_that_makes_rows(module):
    batch = Batch(rows(), y=torch.tensor([0, 1, 2, -1]))
    log_q = module.log_label(batch.labelled(), noise())
    log_q.sum().backward()
    taught = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    judging = {"judge", "judge_features", "judge_auxiliary", "verdict"}
    assert taught == judging | {"encoder", "auxiliary"}


def test_all_encoders_start_from_the_data(module, kind):
    x = rows(40)
    module.calibrate(x.mean(0), torch.ones(WIDTH).double(), x)
    bodies = [module.encoder, module.judge, *([module.reader] if kind is ADGM else [])]
    for body in bodies:
        torch.testing.assert_close(body.center, x.mean(0))


def test_what_does_not_go_together_is_refused(kind):
    for posterior in (posteriors.FullCovariance(), posteriors.Flow()):
        with pytest.raises(ParameterError, match="posteriors of a and z are diagonal"):
            built(kind, posterior=posterior)
    with pytest.raises(ParameterError, match="vamp"):
        built(kind, prior=priors.Vamp())
    with pytest.raises(ParameterError, match=f"{kind.__name__}: n_auxiliary"):
        kind(n_auxiliary=0)
    with pytest.raises(ParameterError, match=f"{kind.__name__}: class_prior"):
        kind(3, (0.5, 0.5))


# -- estimators -----------------------------------------------------------------------------------


def test_a_table_is_fitted(kind, tmp_path):
    generator = np.random.default_rng(0)
    centre = np.array([[4.0, 0.0], [-4.0, 3.0], [0.0, -5.0]])
    X = centre[generator.integers(3, size=600)] + generator.normal(size=(600, 2))
    vae = VAE(
        1,
        model=kind(3, n_auxiliary=4, hidden_size=16),
        likelihood="gaussian",
        objective=ELBO(warmup=200),
        hidden_layer_sizes=(16,),
        learning_rate=0.01,
        max_epochs=30,
        batch_size=32,
        early_stopping=False,
        random_state=0,
    ).fit(X)
    Z = vae.transform(X)
    assert Z.shape == (600, 1 + 3 + 4)
    assert vae.sample(20, random_state=0).shape == (20, 2)
    own = X - X.mean(0)
    broad = -0.5 * (2 * math.log(2 * math.pi) + np.linalg.slogdet(own.T @ own / 600)[1] + 2)
    scores = vae.score_samples(X)
    assert scores.mean() > broad + 0.5
    holes = X.copy()
    holes[:, 1] = np.nan
    filled = vae.impute(holes)
    assert np.sqrt(np.mean((filled[:, 1] - X[:, 1]) ** 2)) < 0.9 * X[:, 1].std()
    vae.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.transform(X), Z)
    assert np.array_equal(again.score_samples(X[:9]), vae.score_samples(X[:9]))


@pytest.mark.parametrize("model", ["adgm", "sdgm"])
def test_few_labels_of_digits(digits, model, tmp_path):
    X, truth = digits
    y = draw_labels(truth, 5, 0)
    own = VAEClassifier(
        8,
        model=model,
        likelihood="bernoulli",
        hidden_layer_sizes=(32,),
        learning_rate=0.005,
        max_epochs=4,
        random_state=0,
    ).fit(X, y)
    unknown = y == -1
    assert own.score(X[unknown], truth[unknown]) > 0.5
    assert own.transform(X[:7]).shape == (7, 8)
    assert own.sample(6, y=3, random_state=0).shape == (6, 64)
    own.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.predict_proba(X[:50]), own.predict_proba(X[:50]))
    assert np.array_equal(again.sample(3, y=1, random_state=0), own.sample(3, y=1, random_state=0))
