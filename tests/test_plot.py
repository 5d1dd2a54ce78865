"""Pictures: what is drawn, on the axes that were given."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from skvae import VAE, VAEImputer, plot
from skvae.callbacks import History
from skvae.exceptions import DataError


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(scope="module")
def images(digits):
    X = digits[0][:40].reshape(-1, 1, 8, 8)
    return VAE(
        n_components=2, likelihood="bernoulli", hidden_layer_sizes=(8,), max_epochs=2,
        random_state=0,
    ).fit(X), X  # fmt: skip


def test_tiles():
    canvas = plot.tile_images(np.arange(1, 4).reshape(3, 1, 1) * np.ones((3, 2, 2)), 2)
    assert canvas.tolist() == [
        [1, 1, 0, 2, 2],
        [1, 1, 0, 2, 2],
        [0, 0, 0, 0, 0],
        [3, 3, 0, 0, 0],
        [3, 3, 0, 0, 0],
    ]
    assert plot.tile_images(np.zeros((1, 2, 2, 3)), 1).shape == (2, 2, 3)


def test_reconstructions(images, ax):
    vae, X = images
    display = plot.ImageRowsDisplay.from_estimator(vae, X[:5], ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is ax.figure
    assert [t.get_text() for t in ax.get_yticklabels()] == ["data", "reconstruction"]
    assert np.array_equal(display.rows["data"], X[:5, 0])
    assert len(ax.get_images()) == 2


def test_holes_are_masked(ax):
    rows = {"seen": np.array([[[np.nan, 1.0], [0.0, 1.0]]])}
    plot.ImageRowsDisplay(rows).plot(ax=ax, title="t")
    shown = ax.get_images()[0].get_array()
    assert shown.mask.tolist() == [[True, False], [False, False]]
    assert ax.get_title() == "t"


def test_latent_map(images, digits, ax):
    vae, X = images
    display = plot.LatentMapDisplay.from_estimator(vae, X, digits[1][:40], ax=ax)
    assert np.allclose(display.Z, vae.transform(X))
    assert np.allclose(ax.collections[0].get_offsets(), display.Z)
    assert {t.get_text() for t in ax.texts} == {str(i) for i in range(10)}
    assert "latent dimension 1" in ax.get_xlabel()
    plain = plot.LatentMapDisplay.from_estimator(vae, X, dimensions=(1, 0), ax=Figure().subplots())
    assert np.allclose(plain.Z, display.Z[:, ::-1])
    assert not plain.ax_.texts
    many = plot.LatentMapDisplay(display.Z, np.arange(40), (0, 1)).plot(ax=Figure().subplots())
    assert not many.ax_.texts
    with pytest.raises(DataError, match="n_components=2"):
        plot.LatentMapDisplay.from_estimator(vae, X, dimensions=(0, 2))


def test_labels_do_not_cover_each_other():
    points = np.array([[0.0, 0.0], [0.01, 0.0], [0.0, 0.02], [5.0, 5.0]])
    moved = plot._spread_out(points, 0.5)
    gaps = np.linalg.norm(moved[:, None] - moved[None], axis=-1) + 9 * np.eye(4)
    assert gaps.min() > 0.45
    assert np.array_equal(moved[3], points[3])


def test_latent_grid(images, ax):
    vae, _ = images
    display = plot.LatentGridDisplay.from_estimator(vae, n=4, ax=ax)
    assert display.images.shape == (16, 8, 8)
    top_left = vae.inverse_transform([[display.values[0], display.values[-1]]])[0, 0]
    assert np.allclose(display.images[0], top_left)
    assert np.allclose(display.values, -display.values[::-1])


def test_training_curve(ax):
    history = History(
        [{"epoch": i, "train_elbo": -100.0 / i, "valid_elbo": -101.0 / i} for i in range(1, 21)]
    )
    plot.TrainingCurveDisplay(history).plot(ax=ax)
    assert [line.get_label() for line in ax.lines] == ["training", "held out"]
    assert ax.get_ylim()[0] > -50  # the first epochs do not squeeze the rest
    assert "nats" in ax.get_ylabel()


def test_without_axes_pyplot_is_used(images):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    vae, _ = images
    display = plot.TrainingCurveDisplay.from_estimator(vae)
    assert pyplot.get_fignums()
    pyplot.close(display.figure_)


def test_rows_that_are_not_images(digits):
    vae = VAE(max_epochs=1, n_components=2, random_state=0).fit(digits[0][:20])
    with pytest.raises(DataError, match=r"event_shape=\(1, h, w\)"):
        plot.as_images(vae, digits[0][:1])


def test_colour_images():
    class Fake:
        event_shape_ = (3, 2, 4)
        channels_last = False

    assert plot.as_images(Fake(), np.zeros((5, 24))).shape == (5, 2, 4, 3)


@pytest.fixture(scope="module")
def imputer():
    import pandas as pd

    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.normal(size=60), "sort": rng.choice(["a", "b"], 60)})
    frame["whole"] = np.arange(60.0)
    frame.loc[::4, "size"] = np.nan
    frame.loc[1::4, "sort"] = None
    return VAEImputer(max_epochs=2, hidden_layer_sizes=(8,), random_state=0).fit(frame), frame


@pytest.mark.parametrize(("column", "n_cells"), [("size", 15), ("sort", 15)])
def test_imputed_cells_stand_beside_observed_ones(imputer, column, n_cells):
    display = plot.ImputedCellsDisplay.from_estimator(*imputer, column, n_imputations=4)
    assert len(display.observed) == 60 - n_cells
    assert len(display.imputed) == 4 * n_cells
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["observed", "imputed"]
    assert display.ax_.get_xlabel() == column
    if column == "sort":
        heights = [bar.get_height() for bar in display.ax_.patches]
        assert sum(heights[:2]) == pytest.approx(1)
        assert sum(heights[2:]) == pytest.approx(1)
        assert heights[0] == pytest.approx(np.mean(display.observed == "a"))
    else:
        observed = display.ax_.containers[0]
        area = sum(bar.get_height() * bar.get_width() for bar in observed)
        assert area == pytest.approx(1)


def test_imputed_cells_of_arrays_and_of_what_is_not_there(imputer):
    with pytest.raises(DataError, match=r"no column 'colour'; its columns are 'size', 'sort'"):
        plot.ImputedCellsDisplay.from_estimator(*imputer, "colour")
    with pytest.raises(DataError, match=r"'whole' of X has no missing cell"):
        plot.ImputedCellsDisplay.from_estimator(*imputer, "whole")
    X = np.random.default_rng(0).normal(size=(40, 2))
    X[:5, 1] = np.nan
    own = VAEImputer(max_epochs=1, hidden_layer_sizes=(8,), random_state=0).fit(X)
    column = own.schema_.columns[1].name
    display = plot.ImputedCellsDisplay.from_estimator(own, X, column, n_imputations=2)
    assert (len(display.observed), len(display.imputed)) == (35, 10)
