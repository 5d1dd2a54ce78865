"""M1+M2 against its parts, quadrature and brute force."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal

from skvae import posteriors, priors, rng
from skvae.conditional import Accuracy, Importance
from skvae.data import Source
from skvae.distributions import draw
from skvae.encoded import Encoded
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.importance import log_marginal
from skvae.likelihoods import Bernoulli
from skvae.models import M1M2, Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO

C, WIDTH = 3, 5
SHARES = (0.5, 0.3, 0.2)


def built(d1=3, d2=2, kept=(0, 2), prior=None, posterior=None, seed=0):
    model = M1M2(C, SHARES, n_components=d2, kept=kept, hidden_layer_sizes=(6,), hidden_size=6)
    parts = (posterior or posteriors.Diagonal(), prior or priors.Standard(), MLP((7,)), model)
    module = Assembly((WIDTH,), d1, Bernoulli(), *parts).build(seed).double()
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if not name.endswith("class_logits"):
                p.add_(0.3 * torch.randn(p.shape, generator=noise, dtype=p.dtype))
        # p(z₁ | y, z₂) is no wider than what q(z₁ | x) covers
        module.upper.decoder[-2].weight.mul_(0.3)
        module.upper.decoder[-2].bias.view(2, -1)[1] = -1.0
    return module.eval()


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


def test_the_bound_is_put_together_from_both_floors():
    module, x = built(), rows()
    y = torch.tensor([0, -1, 2, -1])
    evidence = module.evidence(Batch(x, y=y), 1, Silent())
    q = module.posterior(module.encoder(x, None))
    z = q.mean
    log_px = module.likelihood(module.decoder(z)).log_prob(x).sum(-1)
    of_dropped = Normal(0.0, 1.0).log_prob(z[:, 1])
    upper = module.upper.evidence(Batch(z[:, [0, 2]], y=y), 1, Silent())
    expected = log_px + upper.elbo + of_dropped - q.log_prob(z)
    torch.testing.assert_close(evidence.elbo, expected)
    weights = log_px + upper.log_w[0] + of_dropped - q.log_prob(z)
    torch.testing.assert_close(evidence.log_w[0], weights)
    assert torch.isinf(evidence.bound).sum() == 2 * (C - 1)
    # what the densities of [z₂, y, z₁] say together, class by class
    flat = module.infer(Batch(x)).mean
    for c in range(C):
        z2 = module.upper.posterior(
            module.upper._contexts(module.upper._features(Batch(z[:, [0, 2]])))[c]
        ).mean
        point = torch.cat([z2, torch.eye(C).double()[c].expand(4, -1), z], -1)
        joint = sum(module.log_joint(Batch(x), point[None]))[0]
        own = module.infer(Batch(x)).log_prob(point) - module.log_class(Batch(x))[:, c]
        bound = module.evidence(Batch(x, y=torch.full((4,), c)), 1, Silent()).log_w[0]
        torch.testing.assert_close(joint - own, bound)
    assert flat.shape == (4, 2 + C + 3)


def test_several_draws_are_several_times_one():
    module, x = built(), rows()
    many = module.evidence(Batch(x), 3, Silent())
    one = module.evidence(Batch(x), 1, Silent())
    assert many.log_w.shape == (3, 4)
    torch.testing.assert_close(many.log_w, one.log_w.expand(3, -1))
    torch.testing.assert_close(many.elbo, one.elbo)
    torch.testing.assert_close(many.bound, one.bound)


def test_hidden_cells_never_matter():
    module, x = built(), rows()
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    one, two = (
        module.evidence(Batch(torch.where(mask, x, other), mask), 2, noise())
        for other in (0.0, math.nan)
    )
    torch.testing.assert_close(one.elbo, two.elbo)
    assert torch.isfinite(two.elbo).all()


def exact(module, x):
    """log p(x) for one number at each level, by quadrature."""
    prior = torch.softmax(module.class_logits, -1)

    def density(z1, z2, row):
        above = torch.cat([torch.full((C, 1), z2).double(), torch.eye(C).double()], -1)
        p = module.upper.generate(above).log_prob(torch.tensor(z1)).sum(-1).exp() @ prior
        flat = torch.zeros(1 + C + 1).double()
        flat[-1] = z1
        log_px = module.generate(flat).log_prob(row).sum()
        return (p * log_px.exp()).item() * math.exp(-0.5 * z2 * z2) / math.sqrt(2 * math.pi)

    # Both laws are smooth: Gauss–Legendre with 60 × 60 points is exact to far below the tolerance.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = []
    for row in x:
        values = np.array([[density(5 * a, 6 * b, row) for a in nodes] for b in nodes])
        total.append(math.log(5 * 6 * weights @ values @ weights))
    return total


def test_the_importance_estimate_is_that_of_quadrature():
    module, x = built(d1=1, d2=1, kept=()), rows(2)
    with torch.no_grad():
        expected = exact(module, x)
        found = log_marginal(module, Batch(x), 40000, rng.PerRow(x, 0)).log_likelihood
        assert found.tolist() == pytest.approx(expected, abs=0.02)
        bound = module.evidence(Batch(x), 2000, noise()).elbo
        assert (bound < torch.tensor(expected)).all()
        q = module.infer(Batch(x))
        z = draw(q, (40000,), noise())
        log_w = sum(module.log_joint(Batch(x), z)) - q.log_prob(z)
        flat = torch.logsumexp(log_w, 0) - math.log(40000)
    assert flat.tolist() == pytest.approx(expected, abs=0.1)


def test_missing_cells_are_drawn_with_their_classes():
    module, x = built(d1=1, d2=1, kept=()), rows(1)
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 0] = False
    with torch.no_grad():
        sampler = Importance(Accuracy(4000, 100.0, 4000))
        ((_, sample),) = sampler.samples(
            module, Batch(x, mask), lambda rows, turn: rng.PerRow(x[rows], turn)
        )
        p = module.hidden(Batch(x, mask), sample.z).mean[..., 0]
        found = (sample.weight * p).sum(0).item()
        off, on = x.clone(), x.clone()
        off[:, 0], on[:, 0] = 0, 1
        a, b = exact(module, off)[0], exact(module, on)[0]
    assert found == pytest.approx(1 / (1 + math.exp(a - b)), abs=0.01)


def test_draws_have_their_laws():
    module, x = built(), rows(2)
    with torch.no_grad():
        q = module.infer(Batch(x))
        z = draw(q, (20000,), noise())
        assert z.shape == (20000, 2, 2 + C + 3)
        below = module.posterior(module.encoder(x, None))
        torch.testing.assert_close(z[..., -3:].mean(0), below.mean, atol=0.05, rtol=0)
        said = module.log_class(Batch(x), noise())
        assert (said.exp().sum(-1) - 1).abs().max() < 1e-9
        prior = draw(module.prior_distribution(), (40000,), noise())
        assert prior[:, 2 : 2 + C].mean(0).tolist() == pytest.approx(SHARES, abs=0.02)
        assert prior[:, -2].std().item() == pytest.approx(1, abs=0.03)  # that was dropped
        # each draw of each row has noise of its own
        each = draw(module.prior_distribution().expand(torch.Size([2])), (5,), rng.PerRow(x, 0))
        assert len(set(each[..., -2].flatten().tolist())) == 10
        # E[log p] of draws is minus the entropy; that of y and z₂ is known, that of z₁ follows
        p = module.prior_distribution().log_prob(prior)
        law = module.upper.generate(prior[:, : 2 + C])
        parts = (
            -0.5 * 2 * math.log(2 * math.pi * math.e)
            + float(np.dot(SHARES, np.log(SHARES)))
            - 0.5 * math.log(2 * math.pi * math.e)
            - law.entropy().sum(-1).mean().item()
        )
    assert p.mean().item() == pytest.approx(parts, abs=0.05)


def test_another_class_makes_other_rows():
    module = built()
    z2 = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        flat = [module.of_class(z2, c) for c in range(C)]
        for c, z in enumerate(flat):
            assert torch.equal(z[:, :2], z2)
            assert z[:, 2 + c].tolist() == [1.0] * 5
            expected = module.upper.generate(z[:, : 2 + C]).mean
            torch.testing.assert_close(z[:, 2 + C :][:, [0, 2]], expected)
        drawn = module.of_class(z2, 0, noise())
    assert not torch.equal(flat[0][:, 5:], flat[1][:, 5:])
    assert not torch.equal(drawn[:, 5:], flat[0][:, 5:])


def test_the_model_above_learns_from_fresh_draws_of_the_same_rows():
    module, x = built().float(), rows(6).float()
    y = torch.tensor([0, 1, 2, -1, -1, -1])
    source = Encoded(Source(x, seed=1, y=y), module)
    device = torch.device("cpu")
    one, again = (list(source.batches(0, 4, device)) for _ in range(2))
    later = list(source.batches(1, 4, device))
    assert all(torch.equal(a.x, b.x) for a, b in zip(one, again, strict=True))
    assert torch.equal(next(iter(source.batches(0, 4, device, skip=1))).x, one[1].x)
    assert one[0].x.shape[1] == 2
    assert len(one) == len(later) == 2
    assert sorted(torch.cat([b.y for b in one]).tolist()) == sorted(y.tolist())
    assert not set(torch.cat([b.x for b in one])[:, 0].tolist()) & set(
        torch.cat([b.x for b in later])[:, 0].tolist()
    )
    held = [torch.cat([b.x for b in source.in_order(4, device)]) for _ in range(2)]
    assert torch.equal(*held)


def test_the_bound_reaches_every_weight():
    module = built().train()
    bound = ELBO()(module, Batch(rows(), y=torch.tensor([0, -1, 2, -1])), step=0, noise=noise())
    bound.loss.backward()
    for name, p in module.named_parameters():
        if not name.endswith("class_logits"):
            assert p.grad is not None, name
            assert p.grad.abs().sum() > 0, name


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ParameterError, match="names more"):
        built(d1=2, kept=(0, 2))
    with pytest.raises(ParameterError, match="rising"):
        M1M2(kept=(2, 0))
    with pytest.raises(ParameterError, match="Gaussian"):
        built(posterior=posteriors.Categorical(3), prior=priors.Categorical())
    with pytest.raises(ParameterError, match="vamp"):
        built(prior=priors.Vamp())
