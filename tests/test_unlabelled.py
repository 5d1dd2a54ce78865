"""What q(y | x) learns from rows of unknown class, against values computed by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from skvae import VAE, rng
from skvae.augmentation import Affine, Erase
from skvae.data import Source
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.guides import Until
from skvae.likelihoods import Gaussian
from skvae.models import M2, Assembly
from skvae.networks import MLP
from skvae.objectives import (
    ELBO,
    Consistency,
    Discriminative,
    PseudoLabels,
    Supervised,
    VirtualAdversarial,
)
from skvae.posteriors import Diagonal
from skvae.priors import Standard

CPU = torch.device("cpu")


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


class Linear:
    """A model of which only q(y | x) is asked."""

    def __init__(self, weight):
        self.weight = weight.requires_grad_()

    def log_class(self, batch, noise=None):
        return torch.log_softmax(batch.x.flatten(1) @ self.weight, -1)


@pytest.fixture
def model():
    return Linear(torch.randn(16, 3, generator=rng.generator(1), dtype=torch.float64))


@pytest.fixture
def x():
    return torch.randn(8, 1, 4, 4, generator=rng.generator(2), dtype=torch.float64)


Y = torch.tensor([0, -1, 2, -1, -1, 1, -1, -1])


def value(penalty, model, batch, seed=0):
    return penalty(model, batch, None, step=0, noise=noise(seed))


def test_pseudo_labels_are_those_that_q_is_sure_of(model, x):
    log_q = model.log_class(Batch(x))[Y < 0]
    p = log_q.exp().max(-1)[0]
    for threshold in (0.0, 0.9, 1.0):
        expected = (-p.log() * (p >= threshold)).sum() / 5
        found = value(PseudoLabels(2.0, threshold), model, Batch(x, y=Y))
        assert found.item() == pytest.approx(2 * expected.item())
    everything = value(PseudoLabels(1.0, 0.0), model, Batch(x))
    assert everything.item() == pytest.approx(-model.log_class(Batch(x)).max(-1)[0].mean().item())
    (slope,) = torch.autograd.grad(everything, model.weight)
    log_q = model.log_class(Batch(x))
    (expected,) = torch.autograd.grad(F.nll_loss(log_q, log_q.argmax(-1)), model.weight)
    torch.testing.assert_close(slope, expected)


def test_consistency_is_with_what_is_said_of_the_easier_row(model, x):
    weak, strong = Affine(0.0, 0.0, 0.0, 0.2), Erase(0.5)
    penalty = Consistency(3.0, 0.6, weak=(weak,), strong=(strong,))
    found = value(penalty, model, Batch(x, y=Y))
    source = noise()  # the strong change is drawn first
    student = model.log_class(Batch(strong(x, source)))
    unknown = Y < 0
    p, guess = model.log_class(Batch(weak(x[unknown], source))).exp().max(-1)
    y, sure = Y.clone(), torch.ones(8, dtype=torch.bool)
    y[unknown], sure[unknown] = guess, p >= 0.6
    assert 0 < sure.sum() < 8
    each = -student[torch.arange(8), y] * sure
    assert found.item() == pytest.approx(3 * each.mean().item())
    (slope,) = torch.autograd.grad(found, model.weight)
    (expected,) = torch.autograd.grad(3 * each.mean(), model.weight)  # none through the guess
    torch.testing.assert_close(slope, expected)


def test_the_adversarial_direction_is_the_worst_one_nearby(model, x):
    radius = 0.05
    found = value(VirtualAdversarial(1.0, radius), model, Batch(x)).item()
    log_q = model.log_class(Batch(x)).detach()
    length = radius * 4  # √16 cells

    def kl(r):
        moved = model.log_class(Batch(x + r)).detach()
        return (log_q.exp() * (log_q - moved)).sum(-1)

    # The KL is half of rᵀ F r near 0; its worst direction is the first eigenvector of
    # F = W (diag p − p pᵀ) Wᵀ, and one step of the power method gets most of the way.
    worst, random = [], []
    for row in range(8):
        p = log_q[row].exp()
        fisher = model.weight @ (torch.diag(p) - torch.outer(p, p)) @ model.weight.T
        r = torch.zeros_like(x)
        r[row] = length * torch.linalg.eigh(fisher.detach())[1][:, -1].view(1, 4, 4)
        worst.append(max(kl(r)[row].item(), kl(-r)[row].item()))
        r[row] = torch.randn(1, 4, 4, generator=rng.generator(row), dtype=torch.float64)
        r[row] *= length / r[row].norm()
        random.append(kl(r)[row].item())
    assert 0.6 * sum(worst) / 8 < found <= 1.02 * sum(worst) / 8
    assert found > 2 * sum(random) / 8


def test_rows_without_classes_have_no_such_terms(x):
    vae = VAE(2, objective=ELBO() + VirtualAdversarial(), hidden_layer_sizes=(4,), max_epochs=1)
    with pytest.raises(ParameterError, match="VirtualAdversarial needs a model with classes"):
        vae.fit(x.flatten(1).numpy())
    with pytest.raises(ParameterError, match="threshold must be between 0 and 1; received 2"):
        PseudoLabels(threshold=2)
    with pytest.raises(ParameterError, match="event_shape"):
        value(Consistency(), None, Batch(x.flatten(1)))


def test_what_is_discriminative_leaves_the_rest_alone(x):
    parts = ((1, 4, 4), 2, Gaussian(), Diagonal(), Standard(), MLP((5,)), M2(3))
    module = Assembly(*parts).build(0).double()
    bound = (Discriminative() + Supervised(1.0))(module, Batch(x, y=Y), step=0, noise=noise())
    expected = F.nll_loss(module.log_class(Batch(x[Y >= 0])), Y[Y >= 0])
    assert bound.loss.item() == pytest.approx(expected.item())
    bound.loss.backward()
    touched = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert touched == {"judge", "verdict"}
    assert not (Discriminative() + Supervised(1.0)).of_rows
    assert (ELBO() + Supervised(1.0)).of_rows


def test_guesses_come_first_and_labels_then():
    x = torch.arange(10.0)[:, None]
    guess, label = torch.arange(10), torch.full((10,), -1)
    source = Until(Source(x, seed=1, y=guess), Source(x, seed=1, y=label), 2)
    assert len(source) == 10
    for epoch, known in enumerate((True, True, False, False)):
        batches = list(source.batches(epoch, 4, CPU))
        for b in batches:
            assert torch.equal(b.y, b.x[:, 0].long() if known else torch.full_like(b.y, -1))
        assert torch.equal(next(iter(source.batches(epoch, 4, CPU, skip=1))).x, batches[1].x)
    assert torch.equal(next(source.in_order(10, CPU)).y, label)
    assert len(source.identity()) == len(Source(x, y=label).identity()) * 2


# -- the changes -------------------------------------------------------------------------------


class Told:
    def __init__(self, *u):
        self.u = torch.tensor(u)

    def uniform(self, shape, like):
        return self.u.expand(like.shape)


def picture(size=9):
    x = torch.zeros(1, 1, size, size)
    x[0, 0, 2, 4] = 1
    return x


def test_nothing_asked_for_changes_nothing():
    x = torch.randn(3, 2, 5, 7, generator=rng.generator(0))
    same = Affine(0.0, 0.0, 0.0, 0.0)(x, noise())
    torch.testing.assert_close(same, x, atol=1e-5, rtol=0)


def test_a_move_is_a_share_of_the_size_and_a_turn_an_angle():
    x = picture()
    half = 0.5
    moved = Affine(0.0, 0.0, 0.0, 1 / 9)(x, Told(half, half, half, half, 1.0, half))
    assert (moved[0, 0] - x[0, 0].roll(-1, 1)).abs().max() < 1e-5  # looks one cell to the right
    moved = Affine(0.0, 0.0, 0.0, 2 / 9)(x, Told(half, half, half, half, half, 0.0))
    assert (moved[0, 0] - x[0, 0].roll(2, 0)).abs().max() < 1e-5
    turned = Affine(90.0, 0.0, 0.0, 0.0)(x, Told(1.0, half, half, half, half, half))
    place = turned[0, 0].flatten().argmax().item()
    assert divmod(place, 9) in {(4, 2), (4, 6)}
    assert turned.max() > 0.99
    wide = Affine(0.0, 0.5, 0.0, 0.0)(x, Told(half, half, 1.0, half, half, half))
    assert divmod(wide[0, 0].flatten().argmax().item(), 9)[1] == 4


def test_a_box_is_erased_wherever_it_falls():
    x = torch.ones(4, 3, 10, 10)
    out = Erase(0.4)(x, Told(0.5))
    assert (out == 0).sum().item() == 4 * 3 * 16
    assert (out[:, :, 3:7, 3:7] == 0).all()
    corner = Erase(0.4)(x, Told(0.0))
    assert (corner == 0).sum().item() == 4 * 3 * 4
    volume = Erase(0.5)(torch.ones(2, 1, 4, 4, 4), Told(0.5))
    assert (volume == 0).sum().item() == 2 * 8
    share = (Erase(0.4)(torch.ones(4000, 1, 10, 10), noise()) == 0).float().mean().item()
    # A side of 0.4 around a uniform centre reaches 0.36 of an axis on average.
    assert math.sqrt(share) == pytest.approx(0.36, abs=0.01)


@pytest.mark.parametrize("spec", [Affine(), Erase()], ids=repr)
def test_rows_do_not_depend_on_each_other_and_keep_their_type(spec):
    x = torch.randn(20, 3, 6, 5, generator=rng.generator(0), dtype=torch.float64)
    whole = spec(x, rng.PerRow(x, 1))
    assert whole.dtype == torch.float64
    torch.testing.assert_close(spec(x[7:9], rng.PerRow(x[7:9], 1)), whole[7:9])
    assert not torch.equal(spec(x, rng.PerRow(x, 2)), whole)


def test_only_images_are_turned():
    with pytest.raises(ParameterError, match="no images"):
        VAE(2, augment=Affine(), event_shape=(2, 8), max_epochs=1).fit(
            torch.randn(20, 16, generator=rng.generator(0))
        )
