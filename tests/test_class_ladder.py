"""The ladder with classes against explicit loops, quadrature and what it must not depend on."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch.distributions import Normal, kl_divergence

from skvae import VAE, load, models, posteriors, priors, rng
from skvae.conditional import Accuracy, Importance
from skvae.distributions import draw, log_mean_exp
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.importance import log_marginal
from skvae.likelihoods import Bernoulli, Gaussian
from skvae.models import Assembly, LadderM2
from skvae.networks import MLP
from skvae.objectives import ELBO, IWAE, Supervised

C, WIDTH = 3, 5
P_CLASS = (0.5, 0.3, 0.2)
THREE = LadderM2(C, P_CLASS, upper=(3, 1), hidden_layer_sizes=(6, 4), hidden_size=6)
TWO = LadderM2(C, P_CLASS, upper=(1,), hidden_layer_sizes=(6,), hidden_size=6)
D1, D = 2, 6  # of THREE
Y = torch.tensor([0, -1, 2, -1, -1, 1])


def built(model=THREE, prior=None, d=D1, posterior=None, network=None, seed=0):
    posterior, prior = posterior or posteriors.Diagonal(), prior or priors.Standard()
    network = network or MLP((7,))
    module = Assembly((WIDTH,), d, Bernoulli(), posterior, prior, network, model).build(seed)
    module.double()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # classes are alike at the start, and so are all rows to the norms
        for name, p in module.named_parameters():
            if name != "class_logits":
                p.add_(0.3 * torch.randn(p.shape, generator=g, dtype=p.dtype))
    for name, b in module.named_buffers():
        if name.endswith(("mean", "variance")):
            b.add_(0.3 * torch.rand(b.shape, generator=g, dtype=b.dtype))
    return module.eval()


def rows(n=6, seed=5):
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


# -- the bound, written down ----------------------------------------------------------------------


def merged(m, p):
    precision = 1 / m.variance + 1 / p.variance
    return Normal((m.mean / m.variance + p.mean / p.variance) / precision, precision**-0.5)


def pair(module, x, y, e1, e2, e3):
    """Terms of one row with one class for one draw: all densities, and KL of each number."""
    h = module.encoder(x[None], None)
    code = torch.eye(C, dtype=torch.float64)[[y]]
    f1 = torch.nn.functional.silu(
        h @ module.from_features.weight.T
        + module.from_features.bias
        + code @ module.from_class.weight
    )
    f2 = module.upward[1](f1)
    f3 = module.upward[2](f2)
    m1, m2, m3 = (head(f) for head, f in zip(module.evident, (f1, f2, f3), strict=True))
    q3, p3 = Normal(m3.mean, m3.stddev), Normal(0 * m3.mean, 1)
    z3 = q3.mean + q3.stddev * e3
    p2 = module.generative[1](z3)
    q2, p2 = merged(m2, p2), Normal(p2.mean, p2.stddev)
    z2 = q2.mean + q2.stddev * e2
    p1 = module.generative[0](z2)
    q1, p1 = merged(m1, p1), Normal(p1.mean, p1.stddev)
    z1 = q1.mean + q1.stddev * e1
    logits = module.decoder(torch.cat([z1, code], -1))[0]
    log_px = sum(
        -math.log1p(math.exp(-t)) if c else -math.log1p(math.exp(t))
        for c, t in zip(x.tolist(), logits.tolist(), strict=True)
    )
    chain = ((z1, q1, p1), (z2, q2, p2), (z3, q3, p3))
    return {
        "px": log_px,
        "pz": sum(p.log_prob(z).sum().item() for z, _, p in chain),
        "qz": sum(q.log_prob(z).sum().item() for z, q, _ in chain),
        "kl": [k for _, q, p in chain for k in kl_divergence(q, p)[0].tolist()],
        "kl to N(0, 1)": kl_divergence(q1, Normal(0.0, 1.0))[0].tolist(),
        "z": torch.cat([z1, z2, z3], -1)[0].tolist(),
    }


def by_loops(module, x, y, k, source):
    """Terms of all pairs that are possible, {(row, class): [one draw, another, …]}."""
    pairs = [(b, c) for c in range(C) for b in range(len(x)) if y[b] in (-1, c)]
    e3, e2, e1 = (
        source.normal((k,), torch.empty(len(pairs), size, dtype=torch.float64))
        for size in reversed(module.sizes)
    )
    return {
        (b, c): [pair(module, x[b], c, e1[j, [i]], e2[j, [i]], e3[j, [i]]) for j in range(k)]
        for i, (b, c) in enumerate(pairs)
    }


@pytest.mark.parametrize("y", [None, Y, Y.clamp(min=0)], ids=["unknown", "mixed", "known"])
def test_the_evidence_is_that_of_explicit_loops(y):
    module, x, k = built(), rows(), 3
    with torch.no_grad():
        found = module.evidence(Batch(x, y=y), k, noise())
        log_q = module.log_class(Batch(x))
        y = torch.full((6,), -1) if y is None else y
        terms = by_loops(module, x, y.tolist(), k, noise())
    assert torch.allclose(log_q.exp().sum(-1), torch.ones(6).double())
    for b in range(6):
        elbo, weights, kl = 0.0, np.full((k, C), -np.inf), np.zeros(D + 1)
        for c in range(C):
            log_p = math.log(P_CLASS[c])
            if (b, c) not in terms:
                assert found.bound[b, c] == -math.inf
                continue
            log_share = 0.0 if y[b] >= 0 else log_q[b, c].item()
            share = math.exp(log_share)
            draws = terms[b, c]
            each = np.mean([t["kl"] for t in draws], 0)
            bound = np.mean([t["px"] for t in draws]) - each.sum() + log_p
            assert found.bound[b, c].item() == pytest.approx(bound, abs=1e-6)
            elbo += share * (bound - log_share)
            kl += share * np.append(each, log_share - log_p)
            weights[:, c] = [t["px"] + t["pz"] - t["qz"] + log_p for t in draws]
        assert found.elbo[b].item() == pytest.approx(elbo, abs=1e-6)
        assert found.kl[b].tolist() == pytest.approx(kl.tolist(), abs=1e-6)
        assert found.log_w[:, b].tolist() == pytest.approx(
            special.logsumexp(weights, 1).tolist(), abs=1e-6
        )


def test_the_kl_of_z_1_is_to_what_z_2_lets_expect():
    module, x = built(), rows()
    y = Y.clamp(min=0)
    with torch.no_grad():
        terms = by_loops(module, x, y.tolist(), 3, noise())
        kl = module.evidence(Batch(x, y=y), 3, noise()).kl[:, :D1]
        module.generative[0][-1].head.bias[:D1] += 2.0
        far = module.evidence(Batch(x, y=y), 3, noise()).kl[:, :D1]
    expected, other = (
        torch.tensor(
            [[t[name][:D1] for t in terms[b, y[b].item()]] for b in range(6)], dtype=torch.float64
        ).mean(1)
        for name in ("kl", "kl to N(0, 1)")
    )
    assert torch.allclose(kl, expected)
    assert (expected - other).abs().min() > 1e-4
    assert (far - kl).sum(-1).min() > 0.1


def test_the_decoder_sees_what_q_drew():
    """The much-copied error: q's sample of z_1 does not reach the decoder."""
    module, batch = built(), Batch(rows(), y=Y.clamp(min=0))
    with torch.no_grad():
        before = module.evidence(batch, 5, noise()).log_px
        module.evident[0].head.bias[:D1] += 1.0  # q(z_1 | z_2, x, y) alone
        after = module.evidence(batch, 5, noise()).log_px
        assert (after - before).abs().min() > 1e-4
        module.evident[0].head.bias[D1:] = -1e3  # x is sure of z_1
        before = module.evidence(batch, 5, noise())
        module.generative[0][-1].head.bias += 3.0  # the model expects something else
        after = module.evidence(batch, 5, noise())
    assert torch.allclose(before.log_px, after.log_px, atol=0.02)
    assert (after.log_pz - before.log_pz).abs().min() > 0.5
    module = built()
    module.evidence(batch, 5, noise()).log_px.sum().backward()
    for part in (module.evident, module.upward, module.generative):
        assert all((p.grad != 0).any() for p in part.parameters())


def test_rows_with_and_without_a_class_stand_beside_each_other():
    module, x, silent = built(), rows(), Silent()
    both, none, known = (
        module.evidence(Batch(x, y=y), 1, silent) for y in (Y, None, Y.clamp(min=0))
    )
    for name in ("elbo", "log_likelihood", "kl_rows"):
        expected = torch.where(Y < 0, getattr(none, name), getattr(known, name))
        torch.testing.assert_close(getattr(both, name), expected)
    each = [module.evidence(Batch(x, y=torch.full((6,), c)), 1, silent).elbo for c in range(C)]
    q = module.log_class(Batch(x)).exp()
    torch.testing.assert_close(none.elbo, (q * (torch.stack(each, -1) - q.log())).sum(-1))


def test_permuted_classes_permute_what_is_said():
    module, x, order = built(), rows(), [2, 0, 1]
    before, said = module.evidence(Batch(x), 1, Silent()), module.log_class(Batch(x))
    with torch.no_grad():
        for p in (
            module.from_class.weight,
            module.verdict.weight,
            module.verdict.bias,
            module.class_logits,
        ):
            p.copy_(p[order])
        first = next(m for m in module.decoder.modules() if isinstance(m, torch.nn.Linear))
        first.weight[:, D1:] = first.weight[:, D1:][:, order]
    after = module.evidence(Batch(x), 1, Silent())
    torch.testing.assert_close(module.log_class(Batch(x)), said[:, order])
    torch.testing.assert_close(after.bound, before.bound[:, order])
    assert (before.bound - before.bound[:, order]).abs().min() > 1e-3
    torch.testing.assert_close(after.elbo, before.elbo)
    torch.testing.assert_close(after.log_likelihood, before.log_likelihood)


def test_hidden_cells_never_matter():
    module, x = built(), rows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    filled = [torch.where(mask, x, other) for other in (0.0, 1.0, math.nan)]
    found = [module.evidence(Batch(one, mask, Y), 2, noise()) for one in filled]
    q = [module.infer(Batch(one, mask)).mean for one in filled]
    for other in (1, 2):
        torch.testing.assert_close(found[other].elbo, found[0].elbo)
        torch.testing.assert_close(q[other], q[0])
    assert torch.isfinite(found[2].elbo).all()
    found[2].elbo.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in module.parameters() if p.grad is not None)


def test_the_body_over_x_runs_once_for_all_classes():
    module, sizes = built(), []
    module.encoder.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    climbs = []
    module.upward[1].register_forward_pre_hook(lambda _, given: climbs.append(given[0].shape))
    expected = []
    module.generative[0].register_forward_pre_hook(lambda _, given: expected.append(given[0]))
    module.evidence(Batch(rows()), 2, noise())
    assert sizes == [6]
    assert climbs == [(6 * C, 6)]
    assert [z.shape for z in expected] == [(2, 6 * C, 3)]  # shared by q and p


# -- the likelihood -------------------------------------------------------------------------------

SIDE = torch.linspace(-14, 14, 1401, dtype=torch.float64)
STEP = 0.02


@torch.no_grad()
def exact(module, x):
    """log p(x, y) of two levels of one number each, on a grid, shape (B, C)."""
    p2 = torch.exp(Normal(0.0, 1.0).log_prob(SIDE))
    p1_of_2 = torch.exp(module.generative[0](SIDE[:, None]).log_prob(SIDE[:, None, None]))
    p1 = (p1_of_2 * p2).sum(-1) * STEP  # (Z,)
    assert p1.sum().item() * STEP == pytest.approx(1, abs=1e-6)
    found = []
    for c in range(C):
        code = torch.eye(C, dtype=torch.float64)[c].expand(len(SIDE), C)
        z = torch.cat([SIDE[:, None], 0 * SIDE[:, None], code], -1)
        log_px = module.generate(z[:, None]).log_prob(x).sum(-1)  # (Z, B)
        found.append(torch.log((torch.exp(log_px) * p1[:, None]).sum(0) * STEP))
    return torch.stack(found, -1) + torch.tensor(P_CLASS).log()


def test_bounds_lie_below_the_likelihood_and_rise_to_it():
    module, x = built(TWO, d=1), rows(4)
    log_joint = exact(module, x)
    log_px = torch.logsumexp(log_joint, -1)
    y = torch.tensor([0, 2, 1, 0])
    for given, expected in ((None, log_px), (y, log_joint[range(4), y])):
        batch = Batch(x, y=given)
        with torch.no_grad():
            evidence = module.evidence(batch, 20000, noise())
        log_w = evidence.log_w
        single, ten, all_ = (log_mean_exp(log_w.view(k, -1, 4)).mean(0) for k in (1, 10, 20000))
        assert (evidence.elbo < expected - 0.01).all()
        # one weight leaves out q(y | x), which costs the ELBO more; with y known they are the same
        lost = single - evidence.elbo
        assert (lost > 0.1).all() if given is None else (lost.abs() < 0.03).all()
        assert (ten > single + 0.005).all()
        assert (expected > ten).all()
        error = torch.exp(log_w - all_).std(0) / math.sqrt(20000)
        assert (error < 0.02).all()
        assert ((all_ - expected).abs() < 4 * error).all()
    found = log_marginal(module, Batch(x), 20000, rng.PerRow(x, 0)).log_likelihood
    assert torch.allclose(found, log_px, atol=0.01)
    with torch.no_grad():  # and by draws of (z, y) together
        q = module.infer(Batch(x))
        z = draw(q, (20000,), noise())
        log_w = sum(module.log_joint(Batch(x), z)) - q.log_prob(z)
    assert torch.allclose(log_mean_exp(log_w), log_px, atol=0.1)


def test_missing_cells_are_drawn_with_their_classes():
    module, x = built(TWO, d=1), rows(2)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 0] = False
    with torch.no_grad():
        sampler = Importance(Accuracy(4000, 100.0, 4000))
        ((_, sample),) = sampler.samples(
            module, Batch(x, mask), lambda rows, turn: rng.PerRow(x[rows], turn)
        )
        p = module.hidden(Batch(x, mask), sample.z).mean[..., 0]
        found = (sample.weight * p).sum(0)
    both = [x.clone(), x.clone()]
    both[0][:, 0], both[1][:, 0] = 0, 1
    log_p = torch.stack([torch.logsumexp(exact(module, one), -1) for one in both])
    assert torch.allclose(found, torch.softmax(log_p, 0)[1], atol=0.01)


def test_a_row_gets_the_same_in_any_company():
    module, x = built(), rows()
    together = module.evidence(Batch(x), 4, rng.PerRow(x, 0))
    alone = module.evidence(Batch(x[2:3]), 4, rng.PerRow(x[2:3], 0))
    assert torch.allclose(alone.log_w[:, 0], together.log_w[:, 2])
    assert torch.allclose(alone.elbo[0], together.elbo[2])


# -- the laws -------------------------------------------------------------------------------------


def test_q_is_a_mixture_of_chains():
    module, x = built(), rows(3)
    with torch.no_grad():
        q, p_class = module.infer(Batch(x)), module.log_class(Batch(x)).exp()
        assert q.event_shape == (D + C,)
        terms = by_loops(module, x, [-1] * 3, 1, Silent())
        paths = [[terms[b, c][0]["z"] for c in range(C)] for b in range(3)]
        paths = torch.tensor(paths, dtype=torch.float64)
        mean = (p_class[..., None] * paths).sum(1)
        assert torch.allclose(q.mean, torch.cat([mean, p_class], -1))
        terms = by_loops(module, x, [-1] * 3, 1, noise(3))
        for (b, c), (term,) in terms.items():
            point = torch.tensor([*term["z"], *torch.eye(C)[c]], dtype=torch.float64)
            point = point.expand(3, -1)
            found = q.log_prob(point)[b].item() - p_class[b, c].log().item()
            assert found == pytest.approx(term["qz"], abs=1e-6)
        z = draw(q, (20000,), noise())
        assert torch.allclose(z[..., D:].mean(0), p_class, atol=0.02)
        entropy = -q.log_prob(z).mean(0)
        weighed = torch.zeros(3).double()
        for c, law in enumerate(q.laws):
            own = -law.log_prob(draw(law, (20000,), noise(1))).mean(0)
            weighed += p_class[:, c] * (own - p_class[:, c].log())
    assert torch.allclose(entropy, weighed, atol=0.05)


@pytest.mark.parametrize("prior", [priors.Standard(), priors.GaussianMixture(4)], ids=repr)
def test_the_prior_is_that_of_the_top_level_beside_the_classes(prior):
    module = built(prior=prior)
    p = module.prior_distribution()
    z = draw(p, (20000,), noise())
    assert z.shape == (20000, D + C)
    assert module.spec.latent.width == D + C
    assert z[:, D:].mean(0).tolist() == pytest.approx(P_CLASS, abs=0.02)
    top = module.prior_part(z)
    assert torch.equal(top, z[:, D - 1 : D])
    expected = (
        module.prior(module.infer_prior_part).log_prob(top)
        + module.generative[1](top).log_prob(z[:, 2:5])
        + module.generative[0](z[:, 2:5]).log_prob(z[:, :2])
        + (z[:, D:] @ torch.tensor(P_CLASS).double()).log()
    )
    assert torch.allclose(p.log_prob(z), expected)
    other = module.of_class(z[:, :D], 1)
    assert torch.equal(other[:, :D], z[:, :D])
    assert (other[:, D + 1] == 1).all()


def test_x_depends_on_z_1_and_the_class_alone():
    module = built()
    z = draw(module.prior_distribution(), (9,), noise())
    logits = module.generate(z).logits
    shown = torch.cat([z[:, :D1], z[:, D:]], -1)
    assert torch.equal(logits, module.decoder(shown))
    changed = z.clone()
    changed[:, D1:D] += 1.0
    assert torch.equal(module.generate(changed).logits, logits)


# -- training -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "objective",
    [ELBO(), ELBO(free_bits=0.1), IWAE(3), IWAE(3, gradient="plain"), ELBO() + Supervised(0.1)],
    ids=repr,
)
def test_objectives_reach_every_weight(objective):
    module = built(THREE.replace(class_prior="learned"), priors.GaussianMixture(4)).train()
    bound = objective(module, Batch(rows(), y=Y), step=0, noise=noise())
    bound.loss.backward()
    for name, p in module.named_parameters():
        if isinstance(objective, IWAE) and name.startswith(("judge", "verdict")):
            continue  # the bound does not depend on q(y | x)
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert (p.grad != 0).any(), name


@pytest.mark.parametrize("model", [THREE, models.M2(C)], ids=["ladder", "one vector"])
def test_the_classes_of_one_row_are_no_sample_to_normalise_by(model):
    module = built(model, network=MLP((7,), batch_norm=True)).train()
    before = {name: b.clone() for name, b in module.named_buffers()}
    alone = module.evidence(Batch(rows(1)), 1, Silent()).elbo
    assert all(torch.equal(b, before[name]) for name, b in module.named_buffers())
    assert torch.equal(alone, module.eval().evidence(Batch(rows(1)), 1, Silent()).elbo)
    module.train().evidence(Batch(rows()), 1, Silent())
    changed = {n for n, b in module.named_buffers() if not torch.equal(b, before[n])}
    assert {n.split(".")[0] for n in changed} >= {"encoder", "decoder", "judge"}


CENTRE = torch.tensor([[0, 4], [4, -4], [-4, -4]])


@pytest.fixture(scope="module")
def clusters():
    generator = np.random.default_rng(0)
    truth = generator.integers(3, size=600)
    return CENTRE.numpy()[truth] + generator.normal(size=(600, 2)), truth


def test_two_labels_of_each_class_are_enough(clusters):
    X, truth = (torch.tensor(a) for a in clusters)
    X, y = X.float() / 4, torch.full((600,), -1)
    for c in range(3):
        y[(truth == c).nonzero()[:2, 0]] = c
    guide = Batch(X[y >= 0], y=y[y >= 0])
    module = Assembly(
        (2,),
        2,
        Gaussian("global"),
        posteriors.Diagonal(),
        priors.Standard(),
        MLP((32,)),
        LadderM2(3, hidden_size=32),
    ).build(0)
    module.calibrate(X.mean(0), torch.full((2,), 4.0), X)
    objective = ELBO(warmup=200) + Supervised(1.0)
    optimizer = torch.optim.Adam(module.parameters(), 5e-3)
    source = rng.generator(1)
    for step in range(400):
        i = torch.randperm(600, generator=source)[:64]
        batch = Batch(X[i], y=y[i], guide=guide)
        optimizer.zero_grad()
        objective(module, batch, step=step, noise=rng.Sequential(source)).loss.backward()
        optimizer.step()
    module.eval()
    with torch.no_grad():
        right = module.log_class(Batch(X)).argmax(-1) == truth
        found = module.evidence(Batch(X), 50, rng.Sequential(source)).log_likelihood.mean().item()
    assert right.double().mean() > 0.98
    # what the clusters that X was drawn from say of it, nats per row
    squares = ((X[:, None] * 4 - CENTRE) ** 2).sum(-1)
    best = torch.logsumexp(-0.5 * squares, 1).mean().item() - math.log(3 * 2 * math.pi)
    assert found == pytest.approx(best, abs=0.1)


@pytest.fixture(scope="module")
def trained(clusters):
    return VAE(
        2,
        model=LadderM2(3, upper=(1,), hidden_size=32),
        likelihood=Gaussian("global"),
        hidden_layer_sizes=(32,),
        objective=ELBO(warmup=200),
        learning_rate=5e-3,
        max_epochs=30,
        early_stopping=False,
        batch_size=32,
        random_state=0,
    ).fit(clusters[0])


def test_the_estimator_with_a_ladder_and_classes(trained, clusters, tmp_path):
    X = clusters[0]
    assert trained.sample(50, random_state=0).shape == (50, 2)
    Z = trained.transform(X)
    assert Z.shape == (600, 6)
    assert Z[:, 3:].sum(1) == pytest.approx(1)
    assert np.allclose(trained.transform(X[3:4]), Z[3:4], atol=1e-4)
    report = trained.evaluate(X[:100], n_samples=50)
    assert report.elbo < report.log_likelihood
    # N(0, S) fitted to all of X, which the clusters are not
    own = X - X.mean(0)
    broad = -0.5 * (2 * math.log(2 * math.pi) + np.linalg.slogdet(own.T @ own / 600)[1] + 2)
    assert trained.score(X) > broad + 0.1
    holes = X.copy()
    holes[:, 1] = np.nan
    filled = trained.impute(holes)
    assert np.array_equal(filled[:, 0], X[:, 0])
    assert np.sqrt(np.mean((filled[:, 1] - X[:, 1]) ** 2)) < 0.9 * X[:, 1].std()
    trained.save(tmp_path / "m")
    again = load(tmp_path / "m")
    assert np.array_equal(again.transform(X), Z)
    assert np.array_equal(again.score_samples(X[:9]), trained.score_samples(X[:9]))


def test_a_prior_is_fitted_to_the_top_level(trained, clusters, tmp_path):
    X = clusters[0]
    trained.save(tmp_path / "m")
    vae = load(tmp_path / "m")
    head = vae._core.module.evident[-1].head
    with torch.no_grad():  # N(0, 1) is then a poor description of the top level
        head.bias[0] += 2.0
    before, Z = vae.evaluate(X, n_samples=20).elbo, vae.transform(X)
    vae.fit_prior(X, priors.GaussianMixture(5), n_steps=200)
    assert vae.evaluate(X, n_samples=20).elbo > before + 0.5
    assert np.array_equal(vae.transform(X), Z)


# -- what is refused ------------------------------------------------------------------------------


def test_sizes_and_what_is_refused():
    assert LadderM2(upper=[7]).upper == (7,)
    with pytest.raises(ParameterError, match=r"LadderM2: upper .* use model='m2'"):
        LadderM2(upper=())
    with pytest.raises(ParameterError, match=r"LadderM2: hidden_layer_sizes .* hold 1 widths"):
        LadderM2(upper=(3,), hidden_layer_sizes=(3, 2))
    with pytest.raises(ParameterError, match="LadderM2: n_classes"):
        LadderM2(1)
    with pytest.raises(ParameterError, match="LadderM2: hidden_size"):
        LadderM2(hidden_size=0)
    with pytest.raises(ParameterError, match="LadderM2: class_prior"):
        LadderM2(3, (0.5, 0.5))
    with pytest.raises(ParameterError, match="Did you mean 'relu'"):
        LadderM2(activation="rellu")
    with pytest.raises(ParameterError, match="'ladder_m2' does not go with prior='vamp'"):
        built(prior=priors.Vamp())
    with pytest.raises(ParameterError, match="'ladder_m2' does not go with posterior='flow'"):
        built(posterior=posteriors.Flow())
