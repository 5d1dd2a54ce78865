"""Images: where their channels are, what they take in memory, and folders of files."""

import numpy as np
import pandas as pd
import pytest

from skvae import VAE, load, plot
from skvae.exceptions import DataError, DataWarning, ModelFileError, ParameterError

SMALL = {"n_components": 2, "hidden_layer_sizes": (5,), "max_epochs": 2, "random_state": 0}
SHAPES = {"sequence": (7, 2), "image": (4, 5, 3), "volume": (3, 2, 4, 2)}


def rows_of(shape, n=40, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape)) * np.arange(1, shape[-1] + 1)


def first(X):
    return np.moveaxis(X, -1, 1)


# -- channels last -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_channels_last_is_a_matter_of_the_outside_alone(shape, tmp_path):
    X = rows_of(shape)
    vae = VAE(channels_last=True, **SMALL).fit(X)
    same = VAE(**SMALL).fit(np.ascontiguousarray(first(X)))
    assert vae.event_shape_ == same.event_shape_ == (shape[-1], *shape[:-1])
    Z = vae.transform(X)
    assert np.array_equal(Z, same.transform(first(X)))
    assert np.array_equal(vae.score_samples(X), same.score_samples(first(X)))
    assert vae.inverse_transform(Z).shape == (40, *shape)
    assert np.array_equal(first(vae.inverse_transform(Z)), same.inverse_transform(Z))
    drawn = vae.sample(3, random_state=1)
    assert drawn.shape == (3, *shape)
    assert np.array_equal(first(drawn), same.sample(3, random_state=1))
    holes = X.copy()
    holes[::2, 1:3, ..., 0] = np.nan
    full = vae.impute(holes)
    assert np.array_equal(full[~np.isnan(holes)], holes[~np.isnan(holes)])
    assert np.array_equal(first(full), same.impute(first(holes)))
    draws = vae.impute(holes, n_draws=2, random_state=1)
    expected = same.impute(first(holes), n_draws=2, random_state=1)
    assert draws.shape == (2, 40, *shape)
    assert np.array_equal(np.moveaxis(draws, -1, 2), expected)
    vae.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again.channels_last is True
    assert np.array_equal(again.transform(X), Z)
    assert np.array_equal(again.sample(3, random_state=1), drawn)
    again.set_params(channels_last=False)  # for the next fit
    assert np.array_equal(again.transform(X), Z)


def test_flat_rows_and_frames_say_their_shape(tmp_path):
    X = rows_of((4, 5, 3))
    flat = X.reshape(40, -1)
    settings = SMALL | {"channels_last": True, "event_shape": (4, 5, 3)}
    whole = VAE(channels_last=True, **SMALL).fit(X)
    vae = VAE(**settings).fit(flat)
    assert vae.event_shape_ == (3, 4, 5)
    Z = whole.transform(X)
    assert np.array_equal(vae.transform(flat), Z)
    out = vae.inverse_transform(Z)
    assert out.shape == (40, 60)
    assert np.array_equal(out.reshape(X.shape), whole.inverse_transform(Z))
    frame = pd.DataFrame(flat, columns=[f"c{i}" for i in range(60)])
    framed = VAE(**settings).fit(frame)
    assert np.array_equal(framed.inverse_transform(Z).to_numpy(), out)
    holes = frame.copy()
    holes.iloc[3, 7] = np.nan
    full = framed.impute(holes)
    assert full.notna().all().all()
    assert full.drop(columns="c7").equals(frame.drop(columns="c7"))
    expected = whole.impute(holes.to_numpy().reshape(X.shape)).reshape(40, 60)[3, 7]
    assert full.loc[3, "c7"] == expected


def test_streams_are_turned_block_by_block(tmp_path):
    X = rows_of((4, 5, 3))
    settings = SMALL | {"early_stopping": False, "likelihood": "mse"}
    models = []
    for name, rows, last in (("last", X, True), ("first", first(X), False)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", rows[:25].copy())
        np.save(tmp_path / name / "b.npy", rows[25:].copy())
        models.append(VAE(channels_last=last, **settings).fit(tmp_path / name))
    vae, same = models
    assert vae.event_shape_ == (3, 4, 5)
    Z = vae.transform(X)
    assert np.array_equal(Z, same.transform(first(X)))
    np.testing.assert_allclose(vae.transform(tmp_path / "last"), Z, rtol=1e-10)
    np.testing.assert_allclose(same.transform(tmp_path / "first"), Z, rtol=1e-10)


def test_channels_last_needs_an_axis_for_them():
    with pytest.raises(
        ParameterError, match=r"channels_last=True needs .*event_shape=\(h, w, c\)"
    ):
        VAE(channels_last=True, **SMALL).fit(rows_of((6,)))


def test_a_file_with_an_odd_layout_is_refused(tmp_path):
    from skvae import serialization

    vae = VAE(**SMALL).fit(rows_of((2, 3)))
    vae.save(tmp_path / "m.safetensors")
    manifest, tensors = serialization.read(tmp_path / "m.safetensors")
    manifest.pop("tensors")
    old = {k: v for k, v in manifest.items() if k != "channels_last"}
    serialization.write(tmp_path / "old.safetensors", old, tensors)
    assert load(tmp_path / "old.safetensors").sample(2).shape == (2, 2, 3)
    odd = manifest | {"channels_last": "yes"}
    serialization.write(tmp_path / "odd.safetensors", odd, tensors)
    with pytest.raises(ModelFileError, match="form of the data"):
        load(tmp_path / "odd.safetensors")


def test_pictures_are_those_of_the_data():
    X = np.random.default_rng(0).random((40, 4, 5, 3))
    vae = VAE(channels_last=True, likelihood="bernoulli", **SMALL).fit(X)
    assert np.array_equal(plot.as_images(vae, X), X)
    same = VAE(likelihood="bernoulli", **SMALL).fit(first(X))
    assert np.array_equal(plot.as_images(same, first(X)), X)


# -- hints -------------------------------------------------------------------------------------


def test_images_of_another_size_are_named_with_what_to_do():
    vae = VAE(**SMALL).fit(rows_of((1, 6, 4)))
    with pytest.raises(DataError, match=r"rows of shape \(1, 6, 8\).* VAE .*\(1, 6, 4\)\. Resize"):
        vae.transform(rows_of((1, 6, 8)))
    with pytest.raises(DataError, match=r"shape \(4, 6\), but .* \(1, 6, 4\)\. Reshape"):
        vae.transform(rows_of((4, 6)))  # as many cells, but another image
    assert vae.transform(rows_of((6, 4, 1))).shape == (40, 2)  # the same cells in the same order
    assert vae.transform(rows_of((24,))).shape == (40, 2)


def test_channels_in_the_wrong_place_are_recognised():
    X = rows_of((4, 5, 3))
    with pytest.raises(DataError, match=r"channels come last: pass np\.moveaxis\(X, -1, 1\)"):
        VAE(**SMALL).fit(first(X)).transform(X)
    with pytest.raises(DataError, match=r"channels come first: pass np\.moveaxis\(X, 1, -1\)"):
        VAE(channels_last=True, **SMALL).fit(X).transform(first(X))
    with pytest.raises(DataError, match=r"\(4, 15\).*\(3, 4, 5\)\. Reshape"):
        VAE(**SMALL).fit(first(X)).transform(X.reshape(40, 4, 15))


@pytest.mark.parametrize(
    ("shape", "warns"),
    [
        ((8, 8, 1), True),
        ((9, 8, 3), True),
        ((8, 8, 8, 4), True),
        ((8, 8, 2), False),
        ((7, 8, 3), False),
        ((8, 3), False),
        ((3, 8, 8), False),
    ],
)
def test_a_last_axis_like_channels_gets_a_hint_at_fit(shape, warns, recwarn):
    X = rows_of(shape, n=12)
    VAE(**SMALL | {"max_epochs": 1}).fit(X)
    messages = [w for w in recwarn if w.category is DataWarning]
    assert len(messages) == warns
    if warns:
        assert "fit with channels_last=True" in str(messages[0].message)
        assert messages[0].filename == __file__
        assert f"{shape[0]} channels" in str(messages[0].message)
    recwarn.clear()
    VAE(channels_last=True, **SMALL | {"max_epochs": 1}).fit(X)
    assert not len(recwarn)
