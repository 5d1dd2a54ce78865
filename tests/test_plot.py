"""Pictures: what is drawn, on the axes that were given, for rows of every kind."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from sklearn.exceptions import NotFittedError

from skvae import VAE, VAEClassifier, VAEImputer, files, plot
from skvae.callbacks import History
from skvae.exceptions import DataError, ParameterError
from skvae.plot import _bars, _choose, _histograms, _lines, _map_labels, _tiles, _words
from skvae.plot._sheet import Sheet
from skvae.plot._style import COLORS, Ink, color_of_class

SMALL = {"hidden_layer_sizes": (8,), "max_epochs": 2, "random_state": 0}


@pytest.fixture(autouse=True)
def _figures_are_closed():
    pyplot.switch_backend("agg")
    yield
    pyplot.close("all")


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def fitted_on(kind, digits, n_components=2):
    """Return a small model of rows of a kind, and the rows."""
    rng = np.random.default_rng(0)
    X = {
        "images": lambda: digits[0][:40].reshape(-1, 1, 8, 8),
        "table": lambda: pd.DataFrame(rng.normal(3, 2, size=(60, 3)), columns=["a", "b", "c"]),
        "wide": lambda: digits[0][:40],
        "signals": lambda: rng.normal(size=(40, 2, 16)),
        "sequences": lambda: [rng.normal(size=(n, 2)) for n in rng.integers(3, 7, 30)],
        "texts": lambda: ["tree", "three", "tea", "street", "rest", "seat"] * 4,
    }[kind]()
    more = {"likelihood": "bernoulli"} if kind == "images" else {}
    return VAE(n_components, **SMALL, **more).fit(X), X


KINDS = ("images", "table", "wide", "signals", "sequences", "texts")


@pytest.fixture(scope="module")
def models(digits):
    return {kind: fitted_on(kind, digits) for kind in KINDS}


@pytest.fixture(scope="module")
def images(models):
    return models["images"]


def with_holes(X):
    if isinstance(X, list) and isinstance(X[0], str):
        return [[None, *x[1:]] for x in X]
    if isinstance(X, list):
        return [np.where(np.arange(len(x))[:, None] == 1, np.nan, x) for x in X]
    holes = X.copy()
    if isinstance(X, pd.DataFrame):
        holes.iloc[::2, 1] = np.nan
    else:
        holes.reshape(len(X), -1)[::2, 5:9] = np.nan
    return holes


DISPLAYS = {
    "reconstruction": lambda vae, X, **k: plot.ReconstructionDisplay.from_estimator(vae, X, **k),
    "samples": lambda vae, X, **k: plot.SamplesDisplay.from_estimator(vae, random_state=0, **k),
    "neighbours": lambda vae, X, **k: plot.SamplesDisplay.from_estimator(
        vae, X, kind="rows", n_samples=4, random_state=0, **k
    ),
    "manifold": lambda vae, X, **k: plot.ManifoldDisplay.from_estimator(vae, n=3, **k),
    "traversal": lambda vae, X, **k: plot.TraversalDisplay.from_estimator(vae, X, **k),
    "interpolation": lambda vae, X, **k: plot.InterpolationDisplay.from_estimator(vae, X, **k),
    "imputation": lambda vae, X, **k: plot.ImputationDisplay.from_estimator(
        vae, with_holes(X), truth=X, random_state=0, n_rows=3, **k
    ),
    "map": lambda vae, X, **k: plot.LatentMapDisplay.from_estimator(vae, X, thumbnails=5, **k),
    "training": lambda vae, X, **k: plot.TrainingCurveDisplay.from_estimator(vae, **k),
}


def ink_of(ax):
    """Return the picture as grey values, for what was not drawn cannot be seen."""
    figure = ax.figure
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].min(-1)


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_display_draws_every_kind_of_rows_on_the_axes_given(models, kind, display):
    vae, X = models[kind]
    pyplot.figure()  # that must stay as it is
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.subplots()
    shown = DISPLAYS[display](vae, X, ax=ax)
    assert shown.ax_ is ax
    assert shown.figure_ is figure
    assert (ink_of(ax) < 200).mean() > 1e-3
    assert len(pyplot.get_fignums()) == 1
    assert not pyplot.gcf().axes
    again = shown.plot(title="once more")
    assert again.ax_ is not ax
    assert again.ax_.get_title() == "once more"
    assert (ink_of(again.ax_) < 200).mean() > 1e-3


# -- painters -------------------------------------------------------------------------------


def test_each_kind_of_rows_has_its_painter(models):
    names = {kind: type(plot.painter_of(*models[kind])) for kind in KINDS}
    assert names["images"] is _tiles.Tiles
    assert names["table"] is _bars.Bars
    assert names["texts"] is _words.Words
    assert all(issubclass(names[kind], _lines.Lines) for kind in ("wide", "signals", "sequences"))


def test_tiles():
    canvas = _tiles.tile_images(np.arange(1, 4).reshape(3, 1, 1) * np.ones((3, 2, 2)), 2)
    assert canvas.tolist() == [
        [1, 1, 0, 2, 2],
        [1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [3, 3, 0, 0, 0],
        [3, 3, 0, 0, 0],
    ]
    assert _tiles.tile_images(np.zeros((1, 2, 2, 3)), 1).shape == (2, 2, 3)


def test_images_are_where_their_boxes_are_and_holes_are_masked(images, ax):
    vae, X = images
    painter = plot.painter_of(vae, X)
    rows = X[:2].copy()
    rows[0, 0, 0, 0] = np.nan
    painter.paint(ax, painter.items(rows), Sheet(1, 2, 0.5).boxes())
    first, second = ax.get_images()
    assert first.get_extent() == (0, 1, 1, 0)
    assert second.get_extent() == (1.5, 2.5, 1, 0)
    assert first.get_array().mask[0, 0]
    assert first.get_array().mask.sum() == 1
    assert np.array_equal(second.get_array(), X[1, 0])
    holes = _tiles._opaque(np.array([[[np.nan, 1.0, 2.0], [0.2, 0.4, 0.6]]]))
    assert holes[0, 1].tolist() == [0.2, 0.4, 0.6]
    assert not np.isnan(holes).any()


def test_bars_are_in_standard_deviations(models, ax):
    vae, X = models["table"]
    painter = plot.painter_of(vae, X)
    items = painter.items(X)
    assert np.allclose(items.mean(0), 0)
    assert np.allclose(items.std(0), 1)
    assert list(painter.columns) == ["a", "b", "c"]
    painter.paint(ax, items[:1], np.array([[0.0, 1, 1, 0]]), Ink(marker="^"))
    x, y = ax.lines[-1].get_data()
    assert np.allclose(x, 0.5 + items[0] / 6)
    assert np.allclose(y, [1 / 6, 1 / 2, 5 / 6])
    painter.paint(ax, items[:1], np.array([[0.0, 1, 1, 0]]))
    bars = ax.collections[-1].get_paths()
    assert len(bars) == 3
    assert np.allclose([bar.vertices[1, 0] for bar in bars], x)


def test_columns_without_spread_and_with_holes_have_bars(ax):
    painter = _bars.Bars(["a", "b"], np.array([[1.0, 7], [3, 7]]))
    items = painter.items([[np.nan, 7.0]])
    assert items[0, 1] == 0
    painter.paint(ax, items, np.array([[0.0, 1, 1, 0]]))
    assert len(ax.collections[-1].get_paths()) == 1


def test_lines_keep_to_their_lanes(ax):
    lines = [np.array([[0.0, 10], [1, 20], [2, 30]]), np.array([[1.0, 30]])]
    painter = _lines.Lines(lines)
    painter.paint(ax, painter.items(lines), np.array([[0.0, 1, 1, 0], [2, 1, 3, 0]]))
    x, first = ax.lines[0].get_data()
    _, second = ax.lines[1].get_data()
    assert np.allclose(x, [1 / 6, 1 / 2, 5 / 6])
    assert 0 < first.min() < first.max() < 0.5 < second.min() < second.max() < 1
    assert first[0] > first[2]  # down is less
    end = ax.lines[-1].get_data()
    assert np.allclose(end[0], 2 + 1 / 6)  # the short one is marked where it ends
    with_none = painter.items([np.zeros((0, 2))])
    painter.paint(ax, with_none, np.array([[0.0, 1, 1, 0]]))


def test_texts_are_written_as_they_are(ax):
    painter = _words.Words(["$a_b$", "x" * 60])
    rows = ["$a_b$", "x" * 60, ["a", None, "c"], [10, 2]]
    painter.paint(ax, painter.items(rows), Sheet(4, 1).boxes())
    ax.figure.canvas.draw()
    said = [text.get_text() for text in ax.texts]
    assert said == ["$a_b$", "x" * 39 + "…", "a_c", "10 2"]


def test_signals_with_channels_last(digits):
    X = np.random.default_rng(0).normal(size=(20, 16, 2))
    vae = VAE(2, channels_last=True, **SMALL).fit(X)
    painter = plot.painter_of(vae, X)
    assert np.array_equal(painter.items(X)[3], X[3])
    flat = VAE(2, event_shape=(2, 16), **SMALL).fit(X.reshape(20, -1))
    items = plot.painter_of(flat, X.reshape(20, -1)).items(X.reshape(20, -1))
    assert np.array_equal(items[3], X[3].reshape(2, 16).T)


def test_sequences_of_one_length_are_lines(digits):
    X = digits[0][:20].reshape(20, 8, 8)
    vae = VAE(2, network="rnn", **SMALL).fit(X)
    painter = plot.painter_of(vae, X)
    assert np.array_equal(painter.items(X)[2], X[2][:, :6])


def test_volumes_have_no_picture():
    vae = VAE(2, **SMALL).fit(np.random.default_rng(0).normal(size=(20, 1, 8, 8, 8)))
    with pytest.raises(DataError, match=r"Rows of shape \(1, 8, 8, 8\) have no picture"):
        plot.ManifoldDisplay.from_estimator(vae)


def test_rows_that_are_not_images(digits):
    vae = VAE(max_epochs=1, n_components=2, random_state=0).fit(digits[0][:20])
    with pytest.raises(DataError, match=r"event_shape=\(1, h, w\)"):
        plot.as_images(vae, digits[0][:1])


def test_colour_images():
    class Fake:
        event_shape_ = (3, 2, 4)
        channels_last = False

    assert plot.as_images(Fake(), np.zeros((5, 24))).shape == (5, 2, 4, 3)


# -- maps -----------------------------------------------------------------------------------


def test_latent_map(images, digits, ax):
    vae, X = images
    y = digits[1][:40]
    display = plot.LatentMapDisplay.from_estimator(vae, X, y, ax=ax)
    assert np.allclose(display.Z, vae.transform(X))
    assert len(ax.collections) == 10
    for i, points in enumerate(ax.collections):
        assert np.allclose(points.get_offsets(), display.Z[y == i])
    assert {t.get_text() for t in ax.texts} == {str(i) for i in range(10)}
    assert "latent dimension 1" in ax.get_xlabel()
    plain = plot.LatentMapDisplay.from_estimator(vae, X, dimensions=(1, 0), ax=Figure().subplots())
    assert np.allclose(plain.Z, display.Z[:, ::-1])
    assert not plain.ax_.texts


def test_a_quantity_has_a_scale(images, ax):
    vae, X = images
    y = X.mean((1, 2, 3))
    y[3] = np.nan
    display = plot.LatentMapDisplay.from_estimator(vae, X, y, ax=ax)
    unknown, known = ax.collections
    assert np.allclose(unknown.get_offsets(), display.Z[[3]])
    assert np.allclose(known.get_array(), np.delete(y, 3))
    assert len(ax.figure.axes) == 2  # with the scale
    whole = plot.LatentMapDisplay(display.Z, np.arange(40)).plot(ax=Figure().subplots())
    assert not whole.ax_.texts
    with pytest.raises(DataError, match="Leave y out"):
        plot.LatentMapDisplay(display.Z, np.full(40, np.nan)).plot(ax=ax)


def test_unknown_labels_are_grey_and_rare_classes_unnamed(ax):
    Z = np.random.default_rng(0).normal(size=(120, 2))
    y = np.array([f"c{i % 24}" for i in range(120)], dtype=object)
    y[0] = None
    y[24:] = [f"c{i % 23}" for i in range(96)]
    plot.LatentMapDisplay(Z, y).plot(ax=ax)
    names = [text.get_text() for text in ax.texts]
    assert len(names) == 20
    assert "c23" not in names
    first = ax.collections[0]
    assert len(first.get_offsets()) == 120 - sum(len(c.get_offsets()) for c in ax.collections[1:])
    minus = _map_labels.labels_of(np.array([-1, 3, 4, 3]), 4)
    assert minus.names == ["3", "4"]
    assert minus.codes.tolist() == [-1, 0, 1, 0]


def test_many_points_are_a_density(images, monkeypatch):
    Z = np.random.default_rng(0).normal(size=(500, 2))
    y = (Z[:, 0] > 0).astype(int)
    cells = plot.LatentMapDisplay(Z, y, density=True).plot(ax=Figure().subplots()).ax_
    picture = cells.get_images()[0].get_array()  # (cells, cells, RGBA), from the bottom left
    assert picture[..., 3].max() > 0.9
    filled = picture[..., 3] > 0
    left, right = filled.copy(), filled.copy()
    zero = int(-Z[:, 0].min() / np.ptp(Z[:, 0]) * picture.shape[1])  # the column with both
    left[:, zero:] = right[:, : zero + 1] = False
    assert np.allclose(picture[left][:, 2], int(COLORS[0][5:], 16) / 255)
    assert np.allclose(picture[right][:, 2], int(COLORS[1][5:], 16) / 255)
    plain = plot.LatentMapDisplay(Z, density=True).plot(ax=Figure().subplots()).ax_
    assert plain.collections[0].get_array().sum() == 500
    shade = plot.LatentMapDisplay(Z, Z[:, 0], density=True).plot(ax=Figure().subplots()).ax_
    means = shade.collections[0].get_array()
    assert means.min() < -1 < 1 < means.max()
    many = np.tile(Z, (60, 1))

    vae, _ = images
    monkeypatch.setattr(vae, "transform", lambda X: X)
    for rows in (many, many[:100]):
        auto = plot.LatentMapDisplay.from_estimator(vae, rows, ax=Figure().subplots())
        assert auto.density == (len(rows) > 20_000)


def test_thumbnails_stand_where_their_points_are(images, ax):
    vae, X = images
    display = plot.LatentMapDisplay.from_estimator(vae, X, thumbnails=6, ax=ax)
    shown = display.thumbnails
    assert 2 <= len(shown.index) <= 6
    for image, i in zip(ax.get_images(), shown.index, strict=True):
        left, right, bottom, top = image.get_extent()
        assert np.allclose([(left + right) / 2, (bottom + top) / 2], display.Z[i])
        assert np.array_equal(image.get_array(), X[i, 0])
    assert len(set(shown.index)) == len(shown.index)


def test_more_dimensions_are_chosen_by_their_kl(digits, ax):
    vae, X = fitted_on("images", digits, n_components=4)
    best = np.argsort(-vae.kl_per_dimension(X))[:2]
    display = plot.LatentMapDisplay.from_estimator(vae, X, ax=ax)
    assert display.dimensions == tuple(best)
    assert f"dimension {best[0] + 1}" in ax.get_xlabel()


def test_labels_do_not_cover_each_other():
    points = np.array([[0.0, 0.0], [0.01, 0.0], [0.0, 0.02], [5.0, 5.0]])
    moved = _map_labels.spread_out(points, 0.5)
    gaps = np.linalg.norm(moved[:, None] - moved[None], axis=-1) + 9 * np.eye(4)
    assert gaps.min() > 0.45
    assert np.array_equal(moved[3], points[3])


def test_classes_differ_in_colour_also_beyond_the_palette():
    colors = [color_of_class(i) for i in range(20)]
    assert colors[:7] == [c.lower() for c in COLORS]
    assert len({*colors}) == 20


def test_maps_that_make_no_sense(images, digits):
    vae, X = images
    make = plot.LatentMapDisplay.from_estimator
    for y, message in (
        (digits[1][:39], r"y has shape \(39,\), but there are 40 rows"),
        (np.zeros((40, 2)), r"y has shape \(40, 2\)"),
        (np.zeros(40, int), "y has 1 class among 40 labelled rows. Leave y out"),
    ):
        with pytest.raises(DataError, match=message):
            make(vae, X, y)
    with pytest.raises(ParameterError, match=r"dimensions=\(0, 2\) must be two numbers from 0"):
        make(vae, X, dimensions=(0, 2))
    with pytest.raises(DataError, match="All 5 rows have the same place"):
        make(vae, np.repeat(X[:1], 5, 0))
    with pytest.raises(DataError, match="contains infinity"):
        make(vae, np.full_like(X, np.inf))
    one, X1 = fitted_on("table", digits, n_components=1)
    with pytest.raises(ParameterError, match=r"the model has one. Fit with n_components=2"):
        make(one, X1)
    with pytest.raises(NotFittedError):
        make(VAE(), X)


# -- rows -----------------------------------------------------------------------------------


def test_reconstructions_stand_below_their_rows(images, ax):
    vae, X = images
    display = plot.ReconstructionDisplay.from_estimator(vae, X[:5], ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["data", "reconstruction"]
    assert np.array_equal(display.rows["data"], X[:5])
    assert np.allclose(display.rows["reconstruction"], vae.inverse_transform(vae.transform(X[:5])))
    assert len(ax.get_images()) == 10
    some = plot.ReconstructionDisplay.from_estimator(vae, X, n_rows=3, ax=ax)
    assert np.array_equal(some.rows["data"], X[[0, 20, 39]])


def test_versions_of_bars_have_a_legend(models, ax):
    vae, X = models["table"]
    plot.ReconstructionDisplay.from_estimator(vae, X, ax=ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["data", "reconstruction"]
    assert [t.get_text() for t in ax.get_yticklabels()][:3] == ["a", "b", "c"]
    assert ax.get_xlabel() == "standard deviations from the mean"


def test_a_classifier_reconstructs_with_the_class_that_it_believes(digits, ax):
    X, y = digits[0][:60].reshape(-1, 1, 8, 8), digits[1][:60]
    clf = VAEClassifier(2, model="m2", hidden_layer_sizes=(8,), max_epochs=2, random_state=0)
    clf.fit(X, y)
    display = plot.ReconstructionDisplay.from_estimator(clf, X, ax=ax)
    shown = display.rows["reconstruction"]
    assert shown.shape == (10, 1, 8, 8)
    blurred = clf.inverse_transform(clf.transform(display.rows["data"]))
    assert np.abs(shown - blurred).max() > 1e-4
    plot.TraversalDisplay.from_estimator(clf, X, ax=ax)
    plot.ManifoldDisplay.from_estimator(clf, n=3, ax=ax)


def test_samples_stand_beside_their_nearest_rows(images, ax):
    vae, X = images
    display = plot.SamplesDisplay.from_estimator(vae, X, n_samples=4, random_state=0, ax=ax)
    samples = vae.sample(4, kind="mean", random_state=0)
    assert np.array_equal(display.samples, samples)
    distance = ((samples[:, None] - X[None]) ** 2).sum((2, 3, 4))  # (4, 40)
    assert np.array_equal(display.beside, X[distance.argmin(1)])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["sample", "nearest\nrow of X"]


def test_the_nearest_text_differs_in_fewest_steps(models):
    vae, X = models["texts"]
    assert [X[i] for i in vae.nearest(["trer", "restt", "seat"], X)] == ["tree", "rest", "seat"]


def test_marginals_set_samples_against_data(models, ax):
    vae, X = models["table"]
    display = plot.SamplesDisplay.from_estimator(vae, X, random_state=0, ax=ax)
    assert display.kind == "marginals"
    assert len(display.samples) == 2000
    assert [own.get_title() for own in ax.child_axes] == ["a", "b", "c"]
    bars = ax.child_axes[1].containers[0]
    assert sum(bar.get_height() * bar.get_width() for bar in bars) == pytest.approx(1)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["data", "samples"]


def test_histograms_of_few_whole_numbers_have_a_bin_for_each(ax):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 4, 200).astype(float)
    _histograms.two_histograms(ax, {"a": whole, "b": whole + rng.normal(size=200) / 9})
    heights = [bar.get_height() for bar in ax.containers[0]]
    shares = [h for h in heights if h]
    assert np.allclose(shares, np.bincount(whole.astype(int)) / 200)
    far = _histograms._edges(whole, np.array([1e6]))  # not a million bins
    assert len(far) == 31
    same = _histograms._edges(np.full(3, 0.5), np.full(2, 0.5))
    assert same.tolist() == [0.0, 1.0]


def test_samples_that_make_no_sense(models, images):
    make = plot.SamplesDisplay.from_estimator
    with pytest.raises(ParameterError, match="kind must be 'auto', 'rows' or 'marginals'"):
        make(images[0], kind="all")
    with pytest.raises(ParameterError, match="pass X"):
        make(models["table"][0], kind="marginals")
    with pytest.raises(ParameterError, match="show kind='rows'"):
        make(*images, kind="marginals")
    with pytest.raises(DataError, match="X has no rows"):
        make(images[0], images[1][:0])


def test_the_plane_is_decoded_from_the_top_left(images, ax):
    vae, _ = images
    display = plot.ManifoldDisplay.from_estimator(vae, n=4, ax=ax)
    assert display.rows.shape == (16, 1, 8, 8)
    top_left = vae.inverse_transform([[display.values[0], display.values[-1]]])
    assert np.allclose(display.rows[0], top_left)
    assert np.allclose(display.values, -display.values[::-1])
    canvas = ax.get_images()[0].get_array()
    assert np.allclose(canvas[:8, :8], top_left[0, 0])
    assert len(canvas) == 4 * 8 + 3  # small images have a gap


def test_the_plane_of_a_table_is_a_map_of_each_column(models, ax):
    vae, _ = models["table"]
    display = plot.ManifoldDisplay.from_estimator(vae, n=5, ax=ax)
    maps = ax.get_images()
    assert len(maps) == 3
    column = display.rows["b"].to_numpy().reshape(5, 5)
    assert np.corrcoef(column.ravel(), maps[1].get_array().ravel())[0, 1] == pytest.approx(1)
    assert [t.get_text() for t in ax.texts] == ["a", "b", "c"]


def test_a_plane_needs_two_dimensions(digits):
    vae, _ = fitted_on("images", digits, n_components=3)
    with pytest.raises(ParameterError, match=r"z of this model has 3. Fit with n_components=2"):
        plot.ManifoldDisplay.from_estimator(vae)
    codes = VAE(2, posterior="categorical", **SMALL).fit(digits[0][:40])
    with pytest.raises(ParameterError, match="with posterior='categorical' they are not free"):
        plot.ManifoldDisplay.from_estimator(codes)
    with pytest.raises(ParameterError, match="they are not free"):
        plot.TraversalDisplay.from_estimator(codes, digits[0][:40])


def test_traversals_are_ordered_by_kl(digits, ax):
    vae, X = fitted_on("images", digits, n_components=4)
    kl = vae.kl_per_dimension(X)
    display = plot.TraversalDisplay.from_estimator(vae, X, row=3, n_dimensions=3, n_steps=5, ax=ax)
    order = np.argsort(-kl)[:3]
    assert display.dimensions == tuple(order)
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert labels == [f"z{i + 1}  {kl[i]:.2f} nats" for i in order]
    z = np.repeat(vae.transform(X[3:4]), 5, 0)
    z[:, order[1]] = np.linspace(-2.5, 2.5, 5)
    assert np.allclose(list(display.rows.values())[1], vae.inverse_transform(z))
    with pytest.raises(ParameterError, match="row 40 must be one of the 40 rows"):
        plot.TraversalDisplay.from_estimator(vae, X, row=40)
    with pytest.raises(ParameterError, match="dimension=4 must be below 4"):
        vae.traverse(X[0], 4, [0.0])
    without = plot.TraversalDisplay.from_estimator(vae, ax=Figure().subplots())
    assert len(without.rows) == 4


def test_dimensions_whose_kl_does_not_split_are_ordered_by_their_spread(digits, ax):
    X = digits[0][:40]
    vae = VAE(3, posterior="flow", **SMALL).fit(X)
    display = plot.TraversalDisplay.from_estimator(vae, X, ax=ax)
    assert display.dimensions == tuple(np.argsort(-vae.transform(X).var(0)))
    assert "nats" not in next(iter(display.rows))


def test_interpolations_are_those_of_the_estimator(images, ax):
    vae, X = images
    display = plot.InterpolationDisplay.from_estimator(vae, X, ends=(2, 7), n_steps=4, ax=ax)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["linear", "spherical", "data"]
    assert np.allclose(display.rows["linear"], vae.interpolate(X[2], X[7], 4))
    along = vae.interpolate(X[2], X[7], 4, path="data", along=X)
    assert np.allclose(display.rows["data"], along)
    one = plot.InterpolationDisplay.from_estimator(vae, X, paths="linear", ax=Figure().subplots())
    assert list(one.rows) == ["linear"]
    with pytest.raises(ParameterError, match="row 50 must be one of the 40 rows"):
        plot.InterpolationDisplay.from_estimator(vae, X, ends=(0, 50))
    with pytest.raises(ParameterError, match="at least one path"):
        plot.InterpolationDisplay.from_estimator(vae, X, paths=())


def test_steps_of_lines_are_told_by_a_scale(models, ax):
    vae, X = models["sequences"]
    plot.TraversalDisplay.from_estimator(vae, X, n_steps=3, ax=ax)
    assert len(ax.figure.axes) == 2
    assert len({line.get_color() for line in ax.lines}) == 3
    assert len(ax.texts) == 2


def test_rows_in_files_are_drawn(images, tmp_path, ax):
    vae, X = images
    np.save(tmp_path / "part.npy", X)
    stream = plot.ReconstructionDisplay.from_estimator(vae, tmp_path, n_rows=3, ax=ax)
    expected = plot.ReconstructionDisplay.from_estimator(vae, X, n_rows=3, ax=ax)
    assert np.array_equal(stream.rows["data"].values, expected.rows["data"])
    mapped = plot.LatentMapDisplay.from_estimator(
        vae, files.open_rows(tmp_path), thumbnails=3, ax=Figure().subplots()
    )
    assert np.allclose(mapped.Z, vae.transform(X))


# -- training -------------------------------------------------------------------------------


def test_training_curve(ax):
    history = History(
        [{"epoch": i, "train_elbo": -100.0 / i, "valid_elbo": -101.0 / i} for i in range(1, 21)]
    )
    plot.TrainingCurveDisplay([history]).plot(ax=ax)
    assert [line.get_label() for line in ax.lines] == ["training", "held out"]
    assert len({line.get_linestyle() for line in ax.lines}) == 2  # also without colours
    assert ax.get_ylim()[0] > -50  # the first epochs do not squeeze the rest
    assert "nats" in ax.get_ylabel()
    with pytest.raises(ParameterError, match="never trained"):
        plot.TrainingCurveDisplay([History()]).plot(ax=ax)


def test_without_axes_pyplot_is_used(images):
    vae, _ = images
    display = plot.TrainingCurveDisplay.from_estimator(vae)
    assert pyplot.get_fignums()
    pyplot.close(display.figure_)


# -- imputation -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imputer():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "sort": rng.choice(["a", "b"], 60)})
    frame["whole"] = np.arange(60.0)
    frame.loc[::4, "size"] = np.nan
    frame.loc[1::4, "sort"] = None
    return VAEImputer(max_epochs=2, hidden_layer_sizes=(8,), n_members=2, random_state=0).fit(
        frame
    ), frame


@pytest.mark.parametrize(("column", "n_cells"), [("size", 15), ("sort", 15)])
def test_imputed_cells_stand_beside_observed_ones(imputer, column, n_cells):
    display = plot.ImputationDisplay.from_estimator(*imputer, column, n_imputations=4)
    assert len(display.shown.observed) == 60 - n_cells
    assert len(display.shown.imputed) == 4 * n_cells
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["observed", "imputed"]
    assert display.ax_.get_xlabel() == column
    if column == "sort":
        heights = [bar.get_height() for bar in display.ax_.patches]
        assert sum(heights[:2]) == pytest.approx(1)
        assert sum(heights[2:]) == pytest.approx(1)
        assert heights[0] == pytest.approx(np.mean(display.shown.observed == "a"))
    else:
        observed = display.ax_.containers[0]
        area = sum(bar.get_height() * bar.get_width() for bar in observed)
        assert area == pytest.approx(1)


def test_imputed_cells_of_arrays_and_of_what_is_not_there(imputer):
    make = plot.ImputationDisplay.from_estimator
    with pytest.raises(DataError, match=r"no column 'colour'; its columns are 'size', 'sort'"):
        make(*imputer, "colour")
    with pytest.raises(DataError, match=r"'whole' of X has no missing cell"):
        make(*imputer, "whole")
    with pytest.raises(ParameterError, match=r"missing cells are 'size', 'sort'\."):
        make(*imputer)
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[:5, 1] = np.nan
    own = VAEImputer(max_epochs=1, hidden_layer_sizes=(8,), random_state=0).fit(X)
    column = own.schema_.columns[1].name
    display = make(own, X, column, n_imputations=2)
    assert (len(display.shown.observed), len(display.shown.imputed)) == (35, 10)


def test_a_vae_fills_columns_too(models, ax):
    vae, X = models["table"]
    holes = with_holes(X)
    make = plot.ImputationDisplay.from_estimator
    display = make(vae, holes, "b", n_imputations=3, random_state=0, ax=ax)
    assert np.array_equal(display.shown.observed, X["b"][1::2])
    assert len(display.shown.imputed) == 3 * 30
    with pytest.raises(DataError, match="'b' of X has no observed cell"):
        make(vae, X.assign(b=np.nan), "b")
    with pytest.raises(DataError, match="'a' of X has no missing cell"):
        make(vae, holes, "a")
    with pytest.raises(DataError, match="no column 'z'"):
        make(vae, holes, "z")
    with pytest.raises(ParameterError, match="at most 24 columns"):
        make(*models["wide"], 3)


def test_rows_are_shown_before_and_after(images, ax):
    vae, X = images
    make = plot.ImputationDisplay.from_estimator
    holes = with_holes(X)
    display = make(vae, holes, truth=X, n_imputations=2, n_rows=4, random_state=0, ax=ax)
    rows = display.shown.rows
    assert list(rows) == ["seen", "truth", "mean", "draw 1", "draw 2"]
    some = [0, 12, 26, 38]
    np.testing.assert_array_equal(rows["seen"], holes[some])
    np.testing.assert_array_equal(rows["truth"], X[some])
    np.testing.assert_array_equal(rows["mean"], vae.impute(holes[some]))
    with pytest.raises(DataError, match="X has no missing cell to show"):
        make(vae, X)
    with pytest.raises(DataError, match="truth has 3 rows, but X has 40"):
        make(vae, holes, truth=X[:3])


def test_imputers_have_curves_but_no_map(imputer, ax):
    model, frame = imputer
    display = plot.TrainingCurveDisplay.from_estimator(model, ax=ax)
    assert len(display.histories) == 2
    assert len(ax.get_legend().get_texts()) == len({line.get_color() for line in ax.lines})
    for make in (
        lambda: plot.LatentMapDisplay.from_estimator(model, frame),
        lambda: plot.SamplesDisplay.from_estimator(model),
        lambda: plot.ManifoldDisplay.from_estimator(model),
        lambda: plot.TraversalDisplay.from_estimator(model, frame),
        lambda: plot.ReconstructionDisplay.from_estimator(model, frame),
        lambda: plot.InterpolationDisplay.from_estimator(model, frame),
        lambda: _choose.painter_of(model, frame),
    ):
        with pytest.raises(ParameterError, match="which a VAEImputer does not show"):
            make()
