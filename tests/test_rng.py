"""Noise: pure functions of their keys, of the right law, independent where it must be."""

import numpy as np
import pytest
import torch
from scipy import stats

from skvae import rng


def test_streams_are_functions_of_their_key():
    keys = [(0,), (0, 0), (0, 1), (1, 0), (0, 0, 1)]
    seeds = {rng.seed_from(*key) for key in keys}
    assert len(seeds) == len(keys)
    assert rng.seed_from(3, 1, 2) == rng.seed_from(3, 1, 2)
    a = torch.randn(5, generator=rng.generator(7, rng.Stream.NOISE, 2, 3))
    b = torch.randn(5, generator=rng.generator(7, rng.Stream.NOISE, 2, 3))
    assert torch.equal(a, b)


def test_isolated_restores_the_global_generator_also_after_an_error():
    before = torch.default_generator.get_state()
    with rng.isolated(5):
        first = torch.rand(3)
    with rng.isolated(5):
        assert torch.equal(torch.rand(3), first)
    with pytest.raises(RuntimeError), rng.isolated(5):
        torch.rand(-1)
    assert torch.equal(torch.default_generator.get_state(), before)


def test_per_row_is_splitmix64():
    """The first outputs of the reference implementation for seed 0."""
    noise = rng.PerRow(torch.zeros(1, 2), 0)
    noise.keys = torch.zeros(1, dtype=torch.int64)
    got = noise._uniform((), torch.empty(1, 3, dtype=torch.float64))[0]
    reference = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    expected = [((value >> 11) + 0.5) * 2.0**-53 for value in reference]
    assert got.tolist() == expected


def test_per_row_has_the_right_law():
    X = torch.randn(200, 3, generator=rng.generator(0))
    noise = rng.PerRow(X, 1)
    normal = noise.normal((100,), torch.empty(200, 2, dtype=torch.float64))
    assert normal.shape == (100, 200, 2)
    assert stats.kstest(normal.flatten().numpy(), "norm").pvalue > 1e-3
    uniform = noise.uniform((), torch.empty(200, 100, dtype=torch.float32))
    assert uniform.dtype == torch.float32
    assert stats.kstest(uniform.flatten().double().numpy(), "uniform").pvalue > 1e-3
    # Neither rows nor positions are correlated: the largest of 200 · 199 / 2 correlations.
    correlation = np.corrcoef(normal.permute(1, 0, 2).reshape(200, -1).numpy())
    assert np.abs(correlation - np.eye(200)).max() < 0.4


def test_per_row_depends_on_content_and_seed_only():
    X = torch.randn(6, 4, generator=rng.generator(0))
    like = torch.empty(6, 2)
    reference = rng.PerRow(X, 1).normal((3,), like)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.equal(rng.PerRow(X[order], 1).normal((3,), like), reference[:, order])
    alone = rng.PerRow(X[2:3], 1).normal((3,), like[:1])
    assert torch.equal(alone, reference[:, 2:3])
    in_parts = rng.PerRow(X, 1)
    parts = [in_parts.normal((1,), like), in_parts.normal((2,), like)]
    assert torch.equal(torch.cat(parts), reference)
    assert not torch.equal(rng.PerRow(X, 2).normal((3,), like), reference)
    twice = rng.PerRow(torch.cat([X[:1], X[:1]]), 1).normal((3,), like[:2])
    assert torch.equal(twice[:, 0], twice[:, 1])
    minus = rng.PerRow(torch.tensor([[0.0, -0.0]]), 1).normal((), like[:1])
    assert torch.equal(minus, rng.PerRow(torch.tensor([[-0.0, 0.0]]), 1).normal((), like[:1]))


def test_per_row_uniform_stays_below_one_in_float32():
    noise = rng.PerRow(torch.zeros(1, 1), 0)
    noise._uniform = lambda shape, like: torch.full((1, 1), 1 - 2.0**-54, dtype=torch.float64)
    assert noise.uniform((), torch.empty(1, 1)).item() < 1


def test_sequential_noise_comes_from_its_generator():
    like = torch.empty(4, 2)
    a = rng.Sequential(rng.generator(0)).normal((3,), like)
    b = rng.Sequential(rng.generator(0)).normal((3,), like)
    assert torch.equal(a, b)
    assert a.shape == (3, 4, 2)
    u = rng.Sequential(rng.generator(0)).uniform((1000,), like)
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-3
