"""The demonstration, on the digits that every machine has."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from skvae import VAE, demo, few_labels, graphs, load, report
from skvae.likelihoods import Gaussian


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    announced = []
    recipe = demo.Recipe(
        squared_error=Gaussian(scale="global"), epochs=15, epochs_other=5, hidden=64,
        batch_size=32, n_importance=50, n_impute=50,
        n_draws=2, n_components=8,
    )  # fmt: skip
    before = demo.RECIPES["digits"]
    demo.RECIPES["digits"] = recipe
    try:
        metrics = demo.run("digits", out, announce=announced.append, verbose=0)
    finally:
        demo.RECIPES["digits"] = before
    return out, metrics, announced


def test_metrics(result):
    out, metrics, announced = result
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert 15 < metrics["test_nll_nats"] < 30
    assert metrics["test_nll_nats"] < -metrics["test_elbo_nats"]
    assert 0 < metrics["test_nll_se"] < 1
    assert metrics["n_test"] == 360
    assert metrics["imputation"]["rmse"] < metrics["imputation"]["rmse_mean_fill"]
    few = metrics["few_labels"]
    assert few["n_labels"] == 100
    assert 0.6 < few["accuracy"] <= 1
    assert 0.85 < few["accuracy_pixels"] <= 1
    assert metrics["seconds"] > 0
    assert any("training cross-entropy" in line for line in announced)


def test_models_load(result):
    out, metrics, _ = result
    for name, facts in metrics["models"].items():
        vae = load(out / f"{name}.safetensors")
        assert isinstance(vae, VAE)
        assert vae.n_components == facts["n_components"]
        assert vae.n_iter_ == facts["epochs"]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.images, self.links = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes)
        if "href" in attributes:
            self.links.append(attributes["href"])


def test_report_is_one_file_without_scripts_or_addresses(result):
    out, metrics, _ = result
    text = (out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert "script" not in page.tags
    assert "default-src 'none'" in text
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"https?://", text)
    pictures = sorted(out.glob("*.png"))
    assert len(page.images) == len(pictures) == 7
    embedded = {base64.b64decode(i["src"].split(",")[1]) for i in page.images}
    assert embedded == {p.read_bytes() for p in pictures}
    assert all(len(image["alt"]) > 20 for image in page.images)
    assert f"{metrics['few_labels']['accuracy']:.3f}" in text
    assert f"{metrics['test_nll_nats']:.2f}" in text


def test_report_escapes_hostile_text():
    hostile = "</style><script>alert(1)</script><img src=x onerror=alert(1)>"
    figure = report.Figure(b"", hostile, hostile)
    table = report.Table(hostile, (hostile,), ((hostile, hostile),))
    section = report.Section(hostile, hostile, (figure,), table)
    page = Page()
    page.feed(report.Report(hostile, hostile, hostile, [section]).to_html())
    assert "script" not in page.tags
    assert len(page.images) == 1
    assert "onerror" not in page.images[0]


def test_quick_uses_less():
    recipe = demo.RECIPES["mnist"]
    quick = recipe.quick()
    assert quick.n_train < 60000
    assert quick.epochs < recipe.epochs
    assert recipe.n_importance >= 500
    assert recipe.n_draws >= 5
    assert recipe.n_test is None


# -- few labels -----------------------------------------------------------------------------------


def test_neighbours_are_the_exact_ones(monkeypatch):
    g = np.random.default_rng(0)
    train, test = g.normal(size=(300, 80)) * np.linspace(3, 0.1, 80), g.normal(size=(20, 80))
    test = (test * np.linspace(3, 0.1, 80)).astype(np.float32)
    train = train.astype(np.float32)
    search = graphs.Neighbors(train)
    assert search.pca is not None
    distances = ((test[:, None] - train[None]) ** 2).sum(-1)
    assert np.array_equal(search.find(test, 5), np.argsort(distances, 1)[:, :5])
    plain = graphs.Neighbors(train[:, :10])
    assert plain.pca is None
    assert np.array_equal(plain.find(train[:, :10], 1)[:, 0], np.arange(300))


def test_graph():
    train, test = np.arange(30.0)[:, None] ** 1.5, np.array([[0.1]])
    graph = few_labels.NeighborGraph.build(train, test)
    dense = graph.within.toarray()
    assert np.array_equal(dense, dense.T)
    assert dense.max() == 1
    assert np.trace(dense) == 0
    assert graph.across.toarray()[0].nonzero()[0].tolist() == list(range(few_labels.N_NEIGHBORS))


def test_labels_are_drawn_by_class_and_seed():
    y = np.repeat([0, 1, 2], 50)
    partial = few_labels.draw_labels(y, 4, 0)
    assert [(partial == c).sum() for c in (-1, 0, 1, 2)] == [138, 4, 4, 4]
    assert np.array_equal(partial[partial >= 0], y[partial >= 0])
    assert np.array_equal(partial, few_labels.draw_labels(y, 4, 0))
    assert not np.array_equal(partial, few_labels.draw_labels(y, 4, 1))


def test_spreading_is_that_of_scikit_learn():
    """Two clouds: with one label each, everything is known; with the labels swapped, nothing."""
    g = np.random.default_rng(0)
    y = np.repeat([0, 1], 60)
    train = g.normal(size=(120, 2)) + 20 * y[:, None]
    y_test = np.repeat([0, 1], 10)
    test = g.normal(size=(20, 2)) + 20 * y_test[:, None]
    graph = few_labels.NeighborGraph.build(train, test)
    assert few_labels.spread(graph, y, y_test, 1, 0) == 1.0
    assert few_labels.spread(graph, y, 1 - y_test, 1, 0) == 0.0
