"""Contract checks for people who write likelihoods, posteriors, priors, networks, objectives.

Each raises an ``AssertionError`` that says which part of the contract is broken, and returns
nothing where all holds. They need no test runner::

    from skvae.testing import check_likelihood

    check_likelihood(MyLikelihood(), x=torch.rand(8, 3))
"""

from dataclasses import replace

import torch
from torch import Tensor

from skvae import distributions, rng
from skvae.evidence import Batch
from skvae.latent import Space
from skvae.likelihoods import Gaussian, Likelihood
from skvae.models import M2, Assembly, ClassModule
from skvae.networks import MLP, Network, SequenceNetwork
from skvae.objectives import ELBO, Objective
from skvae.penalties import Penalty
from skvae.posteriors import Categorical, Diagonal, Posterior, VonMisesFisher
from skvae.priors import Prior, Standard
from skvae.spec import Spec

__all__ = [
    "check_likelihood",
    "check_network",
    "check_objective",
    "check_penalty",
    "check_posterior",
    "check_prior",
]

SIMPLEST: dict[Space, Posterior] = {
    "real": Diagonal(),
    "sphere": VonMisesFisher(),
    "one_hot": Categorical(3),
}


def check_likelihood(spec: Likelihood, x: Tensor) -> None:
    """Check a likelihood on rows x (B, *event) of data that it allows, in model units."""
    _check_spec(spec)
    rows, event = len(x), tuple(x.shape[1:])
    with rng.isolated(0):
        module = spec.build(event).double()
    x = x.double()
    mean = x.mean(0)
    module.calibrate(mean, torch.ones_like(mean), x)
    h = torch.randn(2, rows, *module.param_shape, generator=rng.generator(0), dtype=x.dtype)
    h.requires_grad_()
    p = module(h)
    _same("batch_shape", tuple(p.batch_shape), (2, rows, *event))
    _same("event_shape (one factor for each cell)", tuple(p.event_shape), ())
    log_prob = p.log_prob(x)
    _same("shape of log_prob, which is never reduced", tuple(log_prob.shape), (2, rows, *event))
    _holds(torch.isfinite(log_prob).all(), "log_prob of allowed data is finite")
    zero = p.log_prob(torch.zeros_like(x))
    _holds(torch.isfinite(zero).all(), "log_prob at 0, which hidden cells hold, is finite")
    other = x.clone()
    other.flatten(1)[:, 0] = x.flatten(1)[:, 0].roll(1)
    unchanged = p.log_prob(other).flatten(2)[..., 1:] == log_prob.flatten(2)[..., 1:]
    _holds(unchanged.all(), "a cell's log_prob depends on that cell alone")
    shown, _ = module.represent(x, None)
    _same("shape of what networks see", tuple(shown.shape), (rows, *module.input_shape))
    (log_prob.sum() + shown.sum()).backward()
    _holds(h.grad is not None and (h.grad != 0).any(), "gradients reach the decoder's output")
    for name, parameter in module.named_parameters():
        _holds(parameter.grad is not None, f"gradients reach the parameter {name}")
    _same("shape of the mean", tuple(p.mean.shape), (2, rows, *event))
    one = module(h.detach()[0])
    drawn = distributions.draw(one, (3,), rng.PerRow(x, 0))
    _same("shape of a draw", tuple(drawn.shape), (3, rows, *event))
    alone = distributions.draw(module(h.detach()[0, 1:2]), (3,), rng.PerRow(x[1:2], 0))
    _holds(torch.allclose(alone, drawn[:, 1:2]), "a row's draw does not depend on its company")


def check_posterior(spec: Posterior, d: int = 3, context: int = 5) -> None:
    """Check a posterior for d latent dimensions and ``context`` features."""
    _check_spec(spec)
    with rng.isolated(0):
        module = spec.build(d, context).double()
    features = torch.randn(4, context, generator=rng.generator(0), dtype=torch.float64)
    features.requires_grad_()
    q = module(features)
    width = spec.latent(d).width
    _same("event_shape", tuple(q.event_shape), (width,))
    _same("batch_shape", tuple(q.batch_shape), (4,))
    z = distributions.draw(q, (6,), rng.Sequential(rng.generator(0)))
    _same("shape of a draw", tuple(z.shape), (6, 4, width))
    if spec.reparameterized:
        _holds(z.requires_grad, "draws are reparameterised")
    carried, computed = q.log_prob(z), module(features).log_prob(z)
    _same("shape of log_prob", tuple(carried.shape), (6, 4))
    _holds(torch.allclose(carried, computed, atol=1e-5), "the density is that of the drawn point")
    (module.embed(z, q).square().sum() + computed.sum()).backward()
    for name, parameter in module.named_parameters():
        _holds(parameter.grad is not None, f"gradients reach the parameter {name}")
    _same("shape of the mean", tuple(module(features).mean.shape), (4, width))


def check_prior(spec: Prior, d: int = 3, event_shape: tuple[int, ...] = (4,)) -> None:
    """Check a prior for d latent dimensions, in a small model."""
    _check_spec(spec)
    posterior = SIMPLEST[spec.space]
    module = Assembly(event_shape, d, Gaussian(), posterior, spec, MLP((5,))).build(0).double()
    width = module.spec.latent.width
    rows = torch.randn(6, *event_shape, generator=rng.generator(0), dtype=torch.float64)
    module.calibrate(rows.mean(0), torch.ones(event_shape), rows)
    p = module.prior_distribution()
    _same("event_shape", tuple(p.event_shape), (width,))
    _same("batch_shape", tuple(p.batch_shape), ())
    z = distributions.draw(p, (5,), rng.Sequential(rng.generator(0)))
    _same("shape of a draw", tuple(z.shape), (5, width))
    log_prob = p.log_prob(z.detach().expand(2, 5, width))
    _same("shape of log_prob", tuple(log_prob.shape), (2, 5))
    _holds(torch.isfinite(log_prob).all(), "log_prob of a draw is finite")
    wide = p.expand(torch.Size([6]))
    _same("batch_shape after expand", tuple(wide.batch_shape), (6,))
    by_row = distributions.draw(wide, (2,), rng.PerRow(rows, 0))
    _same("shape of a draw for each row", tuple(by_row.shape), (2, 6, width))


def check_network(
    spec: Network,
    event_shape: tuple[int, ...] = (4,),
    d: int = 3,
    likelihood: Likelihood | None = None,
) -> None:
    """Check a network's encoder and decoder for one event shape.

    Without a likelihood, the decoder is asked for two numbers for each cell. For sequences the
    shape is (steps, features + 1), as `likelihoods.Sequence` represents them.
    """
    again = Network.from_json(spec.to_json()).restored(spec)
    _holds(again == spec, "the spec survives JSON")
    _holds(hash(spec) == hash(spec.replace()), "the spec is hashable and immutable")
    if isinstance(spec, SequenceNetwork):
        _check_sequence_network(spec, event_shape, d)
        return
    needed = (2, *event_shape) if likelihood is None else likelihood.build(event_shape).param_shape
    with rng.isolated(0):
        encoder = spec.build_encoder(event_shape).double().eval()
        decoder = spec.build_decoder(d, needed).double().eval()
    x = torch.randn(5, *event_shape, generator=rng.generator(0), dtype=torch.float64)
    encoder.calibrate(x.mean(0), x)
    features = encoder(x)
    _same("shape of the features", tuple(features.shape), (5, encoder.out_features))
    mask = torch.rand(x.shape, generator=rng.generator(1)) < 0.5
    broken = torch.where(mask, x, torch.full_like(x, torch.nan))
    hidden = encoder(broken, mask)
    _holds(torch.isfinite(hidden).all(), "hidden cells may hold NaN")
    again = encoder(torch.where(mask, x, x + 1), mask)
    _holds(torch.equal(hidden, again), "hidden cells do not influence the features")
    out = decoder(torch.zeros(6, 5, d, dtype=torch.float64))
    _same("shape of the decoder's output", tuple(out.shape), (6, 5, *needed))


def _check_sequence_network(spec: SequenceNetwork, shape: tuple[int, ...], d: int) -> None:
    length, width = shape
    with rng.isolated(0):
        encoder = spec.build_encoder(shape).double()
        decoder = spec.decoder_for(d, (length, 2), shape).double()
    x = torch.randn(length, length, width, generator=rng.generator(0), dtype=torch.float64)
    x[..., -1] = torch.ones(length, length).tril()  # as many steps as there are rows before
    x = x * x[..., -1:]
    mask = (torch.rand(x.shape, generator=rng.generator(1)) < 0.5) | (x == x[..., -1:])
    encoder.calibrate(x.mean(0), x)
    features = encoder(x)
    _same("shape of the features", tuple(features.shape), (length, encoder.out_features))
    hidden = encoder(torch.where(mask, x, torch.nan), mask)
    _holds(torch.isfinite(hidden).all(), "hidden cells may hold NaN")
    again = encoder(torch.where(mask, x, x + 1), mask)
    _holds(torch.equal(hidden, again), "hidden cells do not influence the features")
    longer = encoder(torch.nn.functional.pad(x, (0, 0, 0, 3)))
    _holds(torch.allclose(longer, features, atol=1e-10), "steps after the end do not count")
    alone = encoder(x[1:2, :3])
    _holds(torch.allclose(alone, features[1:2], atol=1e-10), "rows do not influence each other")
    z = torch.randn(length, d, generator=rng.generator(2), dtype=torch.float64)
    out = decoder(z, x)
    _same("shape of the decoder's output", tuple(out.shape), (length, length, 2))
    later = x.clone()
    later[:, 2:] += 1
    unchanged = torch.equal(decoder(z, later)[:, :2], out[:, :2])
    _holds(unchanged, "a step does not depend on those that it is not yet shown")
    state, steps = decoder.start(z), []
    for step in x.split(1, 1):
        h, state = decoder.advance(step, state)
        steps.append(h)
    one_by_one = torch.allclose(torch.cat(steps, 1), out, atol=1e-10)
    _holds(one_by_one, "one step after the other gives the same as all at once")


def check_objective(spec: Objective) -> None:
    """Check an objective on a small model."""
    _check_spec(spec)
    module = Assembly((4,), 2, Gaussian(), Diagonal(), Standard(), MLP((5,))).build(0).double()
    x = torch.randn(6, 4, generator=rng.generator(0), dtype=torch.float64)
    with rng.isolated(0):
        running = spec.start(module.spec.latent.width)

    def evaluate() -> Tensor:
        noise = rng.Sequential(rng.generator(1))
        bound = running(module, _in_company(Batch(x)), step=3, noise=noise)
        _same("shape of the loss", tuple(bound.loss.shape), ())
        _holds(torch.isfinite(bound.loss), "the loss is finite")
        _holds({spec.watch, "elbo", "kl"} <= bound.terms.keys(), "terms has elbo, kl and `watch`")
        for name, term in bound.terms.items():
            _same(f"shape of the term {name}", tuple(term.shape), (6,))
            _holds(not term.requires_grad, f"the term {name} is detached")
        return bound.loss

    first, second = evaluate(), evaluate()
    _holds(torch.equal(first, second), "all randomness comes from the noise")
    first.backward()
    for name, parameter in module.named_parameters():
        _holds(parameter.grad is not None, f"gradients reach the weight {name}")
    for parameter in running.parameters():
        _holds(parameter.grad is not None, "gradients reach the weights that `start` made")


def check_penalty(spec: Penalty) -> None:
    """Check a penalty on a small model, next to the ELBO."""
    _check_spec(spec)
    if spec.of_classes:
        parts = Assembly((1, 4, 4), 2, Gaussian(), Diagonal(), Standard(), MLP((5,)), M2())
        batch = Batch(torch.randn(6, 1, 4, 4, generator=rng.generator(0), dtype=torch.float64))
        batch = replace(batch, y=torch.arange(6) % 3 - 1)
    else:
        check_objective(ELBO() + spec)
        parts = Assembly((4,), 2, Gaussian(), Diagonal(), Standard(), MLP((5,)))
        batch = Batch(torch.randn(6, 4, generator=rng.generator(0), dtype=torch.float64))
    batch = _in_company(batch)
    module = parts.build(0).double()
    if isinstance(module, ClassModule):  # it must say something of classes
        with torch.no_grad():
            module.verdict.weight.copy_(
                9 * torch.randn(module.verdict.weight.shape, generator=rng.generator(3))
            )
    evidence = module.evidence(batch, 3, rng.Sequential(rng.generator(1)))
    with rng.isolated(0):
        running = spec.start(module.spec.latent.width)
    value = running(module, batch, evidence, step=3, noise=rng.Sequential(rng.generator(2)))
    _same("shape of the penalty", tuple(value.shape), ())
    _holds(value.requires_grad, "the penalty has a gradient")
    value.backward()
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    _holds(any((g != 0).any() for g in gradients), "the penalty changes some weight of the model")


def _in_company(batch: Batch) -> Batch:
    """Return a batch with what a penalty may ask to have beside it, for z of two numbers."""
    place = torch.linspace(-1, 1, 2 * len(batch.x), dtype=batch.x.dtype).view(-1, 2)
    return replace(batch, near=Batch(batch.x.flip(0)), place=place)


def _check_spec(spec: Spec) -> None:
    _holds(Spec.from_json(spec.to_json()) == spec, "the spec survives JSON")
    _holds(hash(spec) == hash(spec.replace()), "the spec is hashable and immutable")


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{what}: found {found}, expected {expected}.")


def _holds(condition: object, what: str) -> None:
    if not bool(condition):
        raise AssertionError(f"broken: {what}.")
