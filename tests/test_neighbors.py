"""Maps that keep neighbours: the graph, the terms and the fit, against values computed by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness

from skvae import VAE, VAEImputer, graphs, load, rng
from skvae.augmentation import Shift
from skvae.augmented import Augmented
from skvae.data import Source
from skvae.evidence import Batch
from skvae.exceptions import DataError, ParameterError
from skvae.fuzzy import FuzzyGraph, memberships, union
from skvae.guides import Neighboring
from skvae.objectives import ELBO, Neighbors, Objective
from skvae.penalties.neighbors import BLUR, curve, tsne_loss, umap_loss

CPU = torch.device("cpu")
SMALL = {"hidden_layer_sizes": (16,), "random_state": 0}


def rows(n=60, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


# -- the graph -----------------------------------------------------------------------------------


def test_memberships_add_up_to_the_logarithm_of_how_many_there_are():
    distance = np.sort(np.abs(rows(40, 7)) + 0.1, 1)
    weight = memberships(distance)
    np.testing.assert_allclose(weight.sum(1), math.log2(7), rtol=1e-9)
    assert (weight[:, 0] == 1).all()  # the nearest one is a neighbour for certain
    assert (np.diff(weight, axis=1) < 0).all()
    # Of one row, 1 + exp(−1/σ) + exp(−2/σ) = log₂ 3 is a quadratic in exp(−1/σ).
    (own,) = memberships(np.array([[1.0, 2.0, 3.0]]))
    t = (-1 + math.sqrt(1 + 4 * (math.log2(3) - 1))) / 2
    np.testing.assert_allclose(own, [1, t, t * t], rtol=1e-9)


def test_copies_of_a_row_are_neighbours_for_certain():
    weight = memberships(np.array([[0.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]]))
    assert (weight[0, :3] == 1).all()  # ρ is the distance to the nearest row that is no copy
    assert weight[0, 3] < 1e-6
    assert (weight[1] == 1).all()
    assert (memberships(np.zeros((2, 3))) == 1).all()


def test_the_graph_is_the_fuzzy_union_of_both_directions():
    index = np.array([[1, 2], [0, 2], [1, 3], [2, 1]])
    weight = np.array([[1.0, 0.5], [1.0, 0.25], [1.0, 0.125], [1.0, 0.75]])
    one = np.zeros((4, 4))
    np.put_along_axis(one, index, weight, 1)
    both = union(index, weight)
    np.testing.assert_allclose(both.toarray(), one + one.T - one * one.T)
    assert (both != both.T).nnz == 0


def test_neighbours_are_drawn_in_proportion_to_their_edges():
    distance, index = np.array([[1.0, 2, 3]] * 5), np.array([[(i + j) % 5 for j in (1, 2, 3)] for i in range(5)])
    graph = FuzzyGraph(index, distance)
    expected = union(index, memberships(distance)).toarray()
    expected /= expected.sum(1, keepdims=True)
    assert len(graph) == 5
    n = 4000
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    for row in range(5):
        drawn = graph.draw(torch.full((n,), row), u)
        share = np.bincount(drawn, minlength=5) / n
        np.testing.assert_allclose(share, expected[row], atol=2 / n)
    ends = graph.draw(torch.arange(5), torch.tensor([0.0, 1 - 1e-16, 0.0, 1 - 1e-16, 0.0]).double())
    assert all(expected[row, one] > 0 for row, one in enumerate(ends.tolist()))


def test_the_search_leaves_out_the_row_itself_and_is_exact_or_nearly_so(monkeypatch, digits):
    X = digits[0].astype(np.float32)[:600]
    full = ((X[:, None] - X) ** 2).sum(-1)
    np.fill_diagonal(full, np.inf)
    expected = np.argsort(full, 1, kind="stable")[:, :6]
    index, distance = graphs.nearest(X, 6)
    np.testing.assert_allclose(np.sort(full, 1)[:, :6], distance**2, rtol=1e-4)
    assert (index == expected).mean() > 0.99
    monkeypatch.setattr(graphs, "MANY", 100)
    monkeypatch.setattr(graphs, "find_spec", lambda name: None)
    index, distance = graphs.nearest(X, 6)
    found = [len({*a} & {*b}) / 6 for a, b in zip(index, expected, strict=True)]
    assert np.mean(found) > 0.95
    assert not (index == np.arange(600)[:, None]).any()
    assert (np.diff(distance, axis=1) >= 0).all()
    copies = np.zeros((300, 2), dtype=np.float32)  # one cell of k-means has all, the others none
    copies[0] = 1
    index, _ = graphs.nearest(copies, 6)
    assert not (index == np.arange(300)[:, None]).any()


# -- the terms -----------------------------------------------------------------------------------


def test_the_curve_is_that_of_umap():
    # Published with umap-learn for spread 1.
    assert curve(0.1) == pytest.approx((1.577, 0.895), abs=1e-3)
    assert curve(0.5) == pytest.approx((0.583, 1.334), abs=1e-3)


def test_both_terms_are_the_sums_that_they_are_said_to_be():
    y = torch.from_numpy(rows(7, 2)).requires_grad_()
    near = torch.from_numpy(rows(7, 2, 1)).requires_grad_()
    a, b = curve(0.1)

    def v(p, q):
        return 1 / (1 + a * ((p - q).square().sum() + BLUR) ** b)

    def k(p, q):
        return 1 / (1 + (p - q).square().sum())

    umap, tsne = 0.0, 0.0
    for i in range(7):
        others = [j for j in range(7) if j != i]
        apart = sum((1 - v(y[i], y[j])).log() for j in others) / 6
        umap = umap - v(y[i], near[i]).log() / 7 - 3 * apart / 7
        all_of_them = k(y[i], near[i]) + sum(k(y[i], y[j]) for j in others)
        tsne = tsne - (k(y[i], near[i]) / all_of_them).log() / 7
    for found, expected in ((umap_loss(y, near, a, b, 3.0), umap), (tsne_loss(y, near), tsne)):
        assert found.item() == pytest.approx(expected.item(), rel=1e-10)
        for one, other in zip(
            torch.autograd.grad(found, (y, near)), torch.autograd.grad(expected, (y, near)),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


def test_rows_of_one_place_have_a_finite_slope():
    y = torch.zeros(4, 2, requires_grad=True)
    for loss in (umap_loss(y, y, *curve(0.1), 5.0), tsne_loss(y, y)):
        (slope,) = torch.autograd.grad(loss, y)
        assert torch.isfinite(slope).all()
