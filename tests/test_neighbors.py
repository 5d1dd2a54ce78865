"""Maps that keep neighbours: the graph, the terms and the fit, against values computed by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness
from sklearn.metrics import silhouette_score

from skvae import VAE, VAEImputer, graphs, load, rng
from skvae.augmentation import Shift
from skvae.augmented import Augmented
from skvae.data import Source
from skvae.evidence import Batch
from skvae.exceptions import DataError, ParameterError
from skvae.fuzzy import FuzzyGraph, memberships, union
from skvae.guides import Neighboring, Placed
from skvae.layout import layout, repulsion
from skvae.likelihoods import Gaussian
from skvae.models import Assembly
from skvae.networks import MLP
from skvae.objectives import ELBO, Layout, Neighbors, Objective
from skvae.penalties.neighbors import BLUR, curve, tsne_loss, umap_loss
from skvae.posteriors import Diagonal
from skvae.priors import Standard

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
    distance, index = (
        np.array([[1.0, 2, 3]] * 5),
        np.array([[(i + j) % 5 for j in (1, 2, 3)] for i in range(5)]),
    )
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
    ends = graph.draw(
        torch.arange(5), torch.tensor([0.0, 1 - 1e-16, 0.0, 1 - 1e-16, 0.0]).double()
    )
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
            torch.autograd.grad(found, (y, near)),
            torch.autograd.grad(expected, (y, near)),
            strict=True,
        ):
            torch.testing.assert_close(one, other)


def test_rows_of_one_place_have_a_finite_slope():
    y = torch.zeros(4, 2, requires_grad=True)
    for loss in (umap_loss(y, y, *curve(0.1), 5.0), tsne_loss(y, y)):
        (slope,) = torch.autograd.grad(loss, y)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("kind", ["umap", "tsne"])
def test_the_term_is_about_means_times_a_scale_that_is_learned(kind):
    module = Assembly((5,), 2, Gaussian(), Diagonal(), Standard(), MLP((6,))).build(0).double()
    x, near = torch.from_numpy(rows(8)), torch.from_numpy(rows(8, seed=1))
    batch = Batch(x, near=Batch(near))
    spec = Neighbors(kind, weight=3.0, min_dist=0.2, n_negative=2.0)
    term = spec.start(2)
    evidence = module.evidence(batch, 1, rng.Sequential(rng.generator(0)))
    value = term(module, batch, evidence, step=0, noise=None)
    scale = term.scale.double()
    y, other = scale * module.infer(batch).mean, scale * module.infer(Batch(near)).mean
    expected = tsne_loss(y, other) if kind == "tsne" else umap_loss(y, other, *curve(0.2), 2.0)
    assert value.item() == pytest.approx(3 * expected.item(), rel=1e-6)
    value.backward()
    reached = {n.split(".")[0] for n, p in module.named_parameters() if p.grad is not None}
    assert "encoder" in reached
    assert "decoder" not in reached
    assert term.slow.grad != 0
    with pytest.raises(ParameterError, match=r"guides\.Neighboring"):
        term(module, Batch(x), evidence, step=0, noise=None)
    with pytest.raises(ParameterError, match="start"):
        spec(module, batch, evidence, step=0, noise=None)


def test_a_layout_draws_means_to_places_and_far_ones_little():
    module = Assembly((5,), 2, Gaussian(), Diagonal(), Standard(), MLP((6,))).build(0).double()
    x, place = torch.from_numpy(rows(8)), torch.from_numpy(rows(8, 2, 1))
    batch = Batch(x, place=place)
    evidence = module.evidence(batch, 1, rng.Sequential(rng.generator(0)))
    value = Layout(weight=3.0, tolerance=0.5)(module, batch, evidence, step=0, noise=None)
    r2 = ((evidence.posterior.mean - place) ** 2).sum(1)
    assert value.item() == pytest.approx(3 * (1 + r2 / 0.25).log().mean().item())
    with pytest.raises(ParameterError, match=r"guides\.Placed"):
        Layout()(module, Batch(x), evidence, step=0, noise=None)


# -- t-SNE ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize(("spread", "error"), [(0.01, 1e-6), (1.0, 1e-3), (6.0, 0.06)])
def test_the_grid_repels_as_all_pairs_do(d, spread, error):
    y = spread * rows(800, d)
    apart = y[:, None] - y
    k = 1 / (1 + (apart**2).sum(-1))
    np.fill_diagonal(k, 0)
    expected = (k[..., None] ** 2 * apart).sum(1) / k.sum()
    found, z = repulsion(y)
    assert z == pytest.approx(k.sum(), rel=error)
    assert np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()) < error


def test_a_layout_keeps_neighbours_and_is_the_same_each_time(digits):
    X, label = digits[0][:500].astype(np.float32), digits[1][:500]
    graph = FuzzyGraph(*graphs.nearest(X, 15)).matrix
    start = X @ graphs.principal(X, 2)
    loose, tight = (layout(graph, start, rho) for rho in (1.0, 4.0))
    assert trustworthiness(X, start, n_neighbors=5) < 0.85
    assert trustworthiness(X, loose, n_neighbors=5) > 0.97
    assert silhouette_score(tight, label) > silhouette_score(loose, label) + 0.05
    np.testing.assert_array_equal(layout(graph, start, 4.0), tight)


# -- batches -------------------------------------------------------------------------------------


def ring(n):
    """A graph in which row i is joined to i ± 1."""
    index = np.stack([(np.arange(n) + 1) % n, (np.arange(n) - 1) % n], 1)
    return FuzzyGraph(index, np.ones((n, 2)))


def test_batches_bring_neighbours_and_places_as_a_function_of_seed_epoch_and_step():
    x = torch.arange(20.0)[:, None]
    source = Placed(Neighboring(Source(x, seed=3), ring(20)), torch.cat([x, -x], 1))
    assert len(source) == 20
    seen = []
    for epoch in (0, 1):
        batches = list(source.batches(epoch, 6, CPU))
        plain = list(Source(x, seed=3).batches(epoch, 6, CPU))
        for batch, own in zip(batches, plain, strict=True):
            assert torch.equal(batch.x, own.x)
            assert set(((batch.near.x - batch.x) % 20).flatten().tolist()) <= {1.0, 19.0}
            assert torch.equal(batch.place, torch.cat([batch.x, -batch.x], 1))
        later = list(source.batches(epoch, 6, CPU, skip=2))
        for one, other in zip(later, batches[2:], strict=True):
            assert torch.equal(one.near.x, other.near.x)
        seen.append(torch.cat([b.near.x[b.x.flatten().argsort()] for b in batches]))
    assert not torch.equal(*seen)
    assert next(source.in_order(20, CPU)).near is None
    assert len(source.identity()) == 4


def test_neighbours_are_changed_and_binarised_apart_from_their_rows():
    x = torch.full((16, 1, 6, 6), 0.5)
    source = Neighboring(Source(x, binarize="stochastic", seed=1), ring(16))
    (batch,) = source.batches(0, 16, CPU)
    assert batch.near.x.unique().tolist() == [0, 1]
    assert (batch.near.x == batch.x).float().mean() < 0.6
    (changed,) = Augmented(source, (Shift(2),)).batches(0, 16, CPU)
    assert not torch.equal(changed.near.x, batch.near.x)
    assert not torch.equal(changed.x, batch.x)


def test_what_is_beside_rows_stays_beside_them():
    x = torch.arange(6.0)[:, None]
    batch = Batch(x, near=Batch(x + 10, y=torch.arange(6)), place=x + 20)
    some = batch.to(CPU).rows(slice(2, 4))
    assert some.near.x.flatten().tolist() == [12, 13]
    assert some.near.y.tolist() == [2, 3]
    assert some.place.flatten().tolist() == [22, 23]


# -- fits ----------------------------------------------------------------------------------------


def clusters(n=120):
    rng = np.random.default_rng(0)
    X = 0.3 * rng.normal(size=(n, 10))
    X[: n // 2] += 1.0
    return X


@pytest.mark.parametrize("objective", ["elbo+neighbors", "elbo+layout"])
def test_the_map_keeps_neighbours_better_than_without(objective, tmp_path):
    X = clusters()
    how = {"hidden_layer_sizes": (64, 64), "early_stopping": False, "random_state": 0}
    how["max_epochs"] = 100
    plain, own = (VAE(2, objective=o, **how).fit(X) for o in ("elbo", objective))
    score = [trustworthiness(X, one.transform(X), n_neighbors=5) for one in (plain, own)]
    assert score[1] > score[0] + 0.03
    assert np.isfinite(own.score(X))
    own.save(tmp_path / "map.safetensors")
    again = load(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(again.transform(X), own.transform(X))
    assert again.inverse_transform(own.transform(X)[:3]).shape == (3, 10)
    same = VAE(2, objective=objective, **how).fit(X)
    np.testing.assert_array_equal(same.transform(X), own.transform(X))


@pytest.mark.parametrize("objective", ["elbo+neighbors", "elbo+layout"])
def test_a_fit_that_was_ended_goes_on_to_the_same_weights(objective, tmp_path, monkeypatch):
    from skvae import checkpoint as module
    from skvae.penalties.layout import Layout as Term
    from skvae.penalties.neighbors import NeighborsRun

    X = clusters(60)

    def fit(place):
        vae = VAE(2, objective=objective, max_epochs=4, checkpoint=place, **SMALL)
        return vae.fit(X).transform(X)

    whole = fit(None)
    monkeypatch.setattr(module.Checkpoint, "due", True)
    term = NeighborsRun if objective == "elbo+neighbors" else Term
    call, calls = term.__call__, []

    def mortal(self, *args, **kwargs):
        calls.append(None)
        if len(calls) == 6:
            raise KeyError("ended")
        return call(self, *args, **kwargs)

    monkeypatch.setattr(term, "__call__", mortal)
    with pytest.raises(KeyError, match="ended"):
        fit(str(tmp_path))
    before = len(calls)
    np.testing.assert_array_equal(fit(str(tmp_path)), whole)
    assert len(calls) == before + 4 * 4 - 5  # it did go on, and not begin again


def test_names_resolve_and_held_out_rows_are_judged_by_the_bound():
    assert Objective.resolve("elbo+neighbors") == ELBO() + Neighbors()
    assert Objective.resolve("elbo+layout") == ELBO() + Layout()
    assert Objective.resolve("elbo+layout").held_out() == ELBO()
    with pytest.raises(ParameterError, match=r"Did you mean 'elbo\+neighbors'"):
        Objective.resolve("elbo+neighbours")


def test_the_encoder_of_a_sphere_and_more_dimensions_take_neighbours():
    X = clusters(60)
    objective = ELBO() + Neighbors("umap", 5)
    for how in ({"posterior": "von_mises_fisher"}, {"model": "ladder"}, {"n_components": 4}):
        vae = VAE(**{"n_components": 3} | how, objective=objective, max_epochs=2, **SMALL).fit(X)
        assert np.isfinite(vae.transform(X)).all()
    one = VAE(1, objective="elbo+layout", max_epochs=2, **SMALL).fit(X)
    assert one.transform(X).shape == (60, 1)
    narrow = VAE(2, objective="elbo+layout", max_epochs=2, **SMALL).fit(X[:, :1])
    assert np.isfinite(narrow.transform(X[:, :1])).all()


# -- what cannot be -------------------------------------------------------------------------------


@pytest.mark.parametrize("term", [Neighbors(), Layout()], ids=repr)
def test_rows_without_neighbours_are_refused_with_what_to_do(term, tmp_path):
    def fit(X, **how):
        how = {"n_components": 2, "objective": ELBO() + term, "max_epochs": 1} | SMALL | how
        return VAE(**how).fit(X)

    with pytest.raises(DataError, match=r"n_neighbors=15 .* there are 12 rows.*n_neighbors=5"):
        fit(rows(12))
    with pytest.raises(DataError, match="all rows are equal"):
        fit(np.ones((40, 3)))
    holes = rows(40)
    holes[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN"):
        fit(holes)
    with pytest.raises(DataError, match=r"missing \(NaN\)\. Fill them in first"):
        VAEImputer(n_components=2, objective=ELBO() + term, random_state=0).fit(holes)
    with pytest.raises(ParameterError, match="sequences or streamed"):
        fit([one[: 3 + i % 3] for i, one in enumerate(rows(40)[..., None])])
    np.save(tmp_path / "x.npy", rows(40).astype(np.float32))
    with pytest.raises(ParameterError, match=r"Give X as an array"):
        fit(tmp_path)
    with pytest.raises(ParameterError, match="its codes"):
        fit(rows(40), posterior="categorical")
    if isinstance(term, Layout):
        with pytest.raises(ParameterError, match="one or two dimensions, but z has 3"):
            fit(rows(40), n_components=3)


def test_fields_that_make_no_sense_are_refused():
    with pytest.raises(ParameterError, match="Did you mean 'tsne'"):
        Neighbors("tsn")
    with pytest.raises(ParameterError, match="n_neighbors must be an integer >= 2"):
        Neighbors(n_neighbors=1)
    with pytest.raises(ParameterError, match="min_dist must be below 3"):
        Neighbors(min_dist=3.0)
    for name in ("exaggeration", "tolerance"):
        with pytest.raises(ParameterError, match=f"{name} must be above 0"):
            Layout(**{name: 0.0})
    with pytest.raises(ParameterError, match="a number or 'auto'; received 'much'"):
        Layout(exaggeration="much")
    both = ELBO() + Neighbors("umap", 5) + Neighbors("tsne", 7)
    with pytest.raises(ParameterError, match="the same neighbours"):
        VAE(2, objective=both, max_epochs=1).fit(rows())
