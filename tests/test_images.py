"""Images: where their channels are, what they take in memory, and folders of files."""

import json
import pickle
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from skvae import VAE, _images, _rows, data, files, load, plot
from skvae.cli import main
from skvae.data import Source, Transform
from skvae.estimators._fit_rows import InMemory
from skvae.exceptions import (
    DataError,
    DataWarning,
    MissingExtraError,
    ModelFileError,
    ParameterError,
)
from skvae.likelihoods import Likelihood
from skvae.streams import open_rows

CPU = torch.device("cpu")
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


# -- memory ------------------------------------------------------------------------------------


SMALL_TYPES = ("bool", "uint8", "int8", "int16", "float16")


def small_rows(dtype, n=50):
    X = np.random.default_rng(0).integers(-128, 128, (n, 6))
    X[0] = -128  # whose magnitude is no int8
    return {
        "bool": X > 0,
        "uint8": X + 128,
        "float16": X / 7,
    }.get(dtype, X).astype(dtype)  # fmt: skip


def batches(rows, transform, binarize=None):
    source = rows.source(transform, (2, 3), binarize=binarize, seed=4)
    every = [*source.batches(1, 8, CPU), *source.in_order(16, CPU)]
    return source.x.dtype, [b.x for b in every]


@pytest.mark.parametrize("dtype", SMALL_TYPES)
@pytest.mark.parametrize("mode", ["none", "shared", "per_feature"])
def test_small_types_stay_small_and_give_the_same_batches(dtype, mode):
    X = small_rows(dtype)
    small, large = InMemory(X, 3), InMemory(X.astype(np.float32), 3)
    first, second = small.transform(mode), large.transform(mode)
    assert np.array_equal(first.shift, second.shift)
    assert np.array_equal(first.unit, second.unit)
    assert np.array_equal(small.mean(), large.mean())
    assert np.array_equal(small.some(7), large.some(7))
    assert (small.binary, small.varied) == (large.binary, large.varied)
    for part, same in zip(small.hold_out(9), large.hold_out(9), strict=True):
        assert part.X.dtype == dtype
        assert np.array_equal(part.X, same.X)
    held, got = batches(small, first)
    _, expected = batches(large, second)
    assert held == getattr(torch, dtype)
    for one, same in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        assert one.shape[1:] == (2, 3)
        assert torch.equal(one, same)


@pytest.mark.parametrize("binarize", ["threshold", "stochastic"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16"])
def test_small_types_are_binarised_as_floats_are(dtype, binarize):
    X = np.random.default_rng(0).random((50, 6))
    X = (X if dtype == "float16" else X > 0.5).astype(dtype)
    identity = Transform(np.zeros(6), np.ones(6))
    _, got = batches(InMemory(X, 3), identity, binarize)
    _, expected = batches(InMemory(X.astype(np.float32), 3), identity, binarize)
    assert all(map(torch.equal, got, expected))
    assert {v for x in got for v in x.unique().tolist()} == {0.0, 1.0}


def test_grey_levels_are_told_from_finer_ones_in_every_chunk():
    X = np.tile(np.arange(256) / 255, (40, 1)).astype(np.float32)
    exact = Source(torch.from_numpy(X), binarize="stochastic").x
    assert exact.dtype == torch.uint8
    assert torch.equal(exact[0], torch.arange(256, dtype=torch.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "ROWS_PER_CHUNK", 16)
        X[39, 100] += 0.1 / 255
        assert Source(torch.from_numpy(X), binarize="stochastic").x.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["uint8", "int16", "bool"])
def test_a_fit_on_a_small_type_is_that_on_floats(dtype):
    X = small_rows(dtype)
    settings = SMALL | {"likelihood": "gaussian", "validation_fraction": 0.3}
    small, large = VAE(**settings).fit(X), VAE(**settings).fit(X.astype(np.float32))
    assert np.array_equal(small.transform(X), large.transform(X))
    assert small.transform(X).dtype == np.float32
    assert small.sample(2, random_state=0).dtype == np.float32
    assert np.array_equal(small.sample(2, random_state=0), large.sample(2, random_state=0))
    images = X.reshape(50, 1, 3, 2)
    turned = VAE(channels_last=True, **settings).fit(np.moveaxis(images, 1, -1))
    assert np.array_equal(turned.transform(X), small.transform(X))


def test_values_that_are_not_allowed_are_found_in_small_types_too():
    X = small_rows("uint8")
    bad = np.zeros((9000, 3), dtype=np.uint8)
    bad[0, 1], bad[8999, 2] = 255, 7
    with pytest.raises(DataError, match=r"X\[0, 1\] = 255, .* \(found 0 to 255\)"):
        VAE(likelihood="bernoulli", **SMALL).fit(bad)
    bad[0, 1] = 1
    with pytest.raises(DataError, match=r"X\[8999, 2\] = 7"):
        VAE(likelihood="bernoulli", **SMALL).fit(bad)
    with pytest.raises(DataError, match="Negative values"):
        VAE(likelihood="poisson", **SMALL).fit(small_rows("int8"))
    broken = X.astype(np.float16)
    broken[3, 2] = np.inf
    with pytest.raises(DataError, match="row 3, column 2"):
        VAE(**SMALL).fit(broken)


def test_what_a_fit_goes_on_with_is_known_by_its_scaling_too():
    X = torch.zeros(3, 2, dtype=torch.uint8)
    plain = Source(X).identity()
    assert len(plain) == 1
    scaled = Source(X, transform=Transform(np.ones(2), np.full(2, 3.0))).identity()
    assert [t.tolist() for t in scaled] == [X.tolist(), [1, 1], [3, 3]]


def test_rows_that_need_nothing_are_not_copied():
    X = small_rows("float16").astype(np.float32)
    identity = Transform(np.zeros(6), np.ones(6))
    source = InMemory(X, 0).source(identity, (6,), binarize=None, seed=0)
    assert source.x.data_ptr() == X.ctypes.data
    X.flags.writeable = False
    read_only = InMemory(X, 0).source(identity, (6,), binarize=None, seed=0)
    assert torch.equal(read_only.x, source.x)
    fortran = InMemory(np.asfortranarray(X), 0).source(identity, (6,), binarize=None, seed=0)
    assert fortran.x.is_contiguous()
    for shift, unit in ((1.0, 1.0), (0.0, 2.0)):
        transform = Transform(np.full(6, shift), np.full(6, unit))
        assert not transform.is_identity
        scaled = InMemory(X, 0).source(transform, (6,), binarize=None, seed=0)
        assert torch.equal(scaled.x, (torch.from_numpy(X.copy()) - shift) / unit)


@pytest.mark.parametrize("likelihood", ["gaussian", "poisson"])
def test_many_bytes_are_never_a_float_array(likelihood):
    X = np.random.default_rng(0).integers(0, 256, (60_000, 784), dtype=np.uint8)
    vae = VAE(likelihood=likelihood, **SMALL)
    tracemalloc.start()
    try:
        rows = vae._rows_to_fit(X, reset=True)
        train, valid = vae._hold_out(rows)
        spec = Likelihood.resolve(likelihood)
        rows.check(spec)
        transform = rows.transform(spec.standardize)
        rows.mean()
        assert not rows.binary
        assert rows.varied
        source = train.source(transform, (1, 28, 28), binarize=None, seed=0)
        next(source.batches(0, 256, CPU))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.x.dtype == torch.uint8
    assert len(source) == 54_000
    assert len(valid) == 6_000
    # The rows that are trained on and a chunk in float64 with what is computed from it; a float32
    # copy alone would be 188 MB.
    assert peak < 170e6


# -- folders of files --------------------------------------------------------------------------


def grey_images(n=12, size=(5, 4), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *size), dtype=np.uint8)


def write_all(folder, images, ending="png"):
    for i, image in enumerate(images):
        place = folder / f"part{i % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02}.{ending}")
    return [*range(0, len(images), 2), *range(1, len(images), 2)]  # in order of the names


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "PNG"])
def test_a_folder_of_images_is_read_in_order_of_the_names(tmp_path, ending):
    images = grey_images()
    colour = np.stack([images, 255 - images, images // 2], -1)
    extra = {"lossless": True} if ending == "webp" else {}
    for i, image in enumerate(colour):
        place = tmp_path / f"part{i % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02}.{ending}", **extra)
    rows = files.open_images(tmp_path)
    order = [*range(0, 12, 2), *range(1, 12, 2)]
    assert rows.event_shape == (3, 5, 4)
    assert rows.dtype == np.float32
    assert len(rows) == 12
    assert rows.read().dtype == np.float32
    assert np.array_equal(rows.read(), first(colour[order]))


def test_grey_is_one_channel_unless_a_mode_says_otherwise(tmp_path):
    images = grey_images()
    order = write_all(tmp_path, images)
    (tmp_path / "_hidden.png").write_bytes(b"nothing")
    (tmp_path / "notes.txt").write_text("not an image")
    rows = open_rows(tmp_path)
    assert rows.event_shape == (1, 5, 4)
    assert np.array_equal(rows.read()[:, 0], images[order])
    colour = files.open_images(tmp_path, mode="RGB")
    assert np.array_equal(colour.read(), np.repeat(images[order][:, None], 3, 1))
    Image.fromarray(np.stack([images[0]] * 3, -1)).save(tmp_path / "z.png")
    assert files.open_images(tmp_path).event_shape == (3, 5, 4)
    grey = files.open_images(tmp_path, mode="L")
    assert grey.event_shape == (1, 5, 4)
    assert np.array_equal(grey.read()[-1, 0], images[0])
    one = files.read(tmp_path / "z.png").values
    assert np.array_equal(one, np.stack([images[0]] * 3)[None])


def test_unusual_modes_become_bytes(tmp_path):
    bits = np.random.default_rng(0).random((5, 4)) > 0.5
    Image.fromarray(bits).save(tmp_path / "a.png")
    Image.fromarray(np.stack([bits * np.uint8(90), bits * np.uint8(9)], -1), "LA").save(
        tmp_path / "b.png"
    )
    rows = files.open_images(tmp_path)
    assert rows.event_shape == (1, 5, 4)
    assert np.array_equal(rows.read()[:, 0], [bits * 255, bits * 90])
    Image.fromarray(np.full((5, 4), 300, dtype=np.uint16)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png has more than 8 bits per pixel \(mode 'I;16'"):
        files.open_images(tmp_path, on_error="skip")


def test_images_of_several_sizes_are_named_and_can_be_resized(tmp_path):
    write_all(tmp_path, grey_images())
    flat = np.full((6, 8), 77, dtype=np.uint8)
    Image.fromarray(flat).save(tmp_path / "z.png")
    message = r"00\.png has 5 × 4 pixels .*z\.png has 6 × 8\. Pass size=\(h, w\)"
    with pytest.raises(DataError, match=message):
        files.open_images(tmp_path)
    rows = files.open_images(tmp_path, size=(3, 2))
    assert rows.event_shape == (1, 3, 2)
    assert np.array_equal(rows.read()[-1], np.full((1, 3, 2), 77))
    stripes = np.tile(np.array([[0, 255]], dtype=np.uint8), (8, 4))
    Image.fromarray(stripes).save(tmp_path / "zz.png")
    small = files.open_images(tmp_path, size=(4, 4)).read()[-1]
    assert np.all(np.abs(small - 127.5) < 40)  # without a filter first, all would be 0 or 255


def test_unreadable_images_are_named_or_left_out_and_counted(tmp_path):
    images = grey_images()
    order = write_all(tmp_path, images)
    whole = (tmp_path / "part0" / "00.png").read_bytes()
    (tmp_path / "a.png").write_bytes(b"this is no image")
    with pytest.raises(DataError, match=r"a\.png is not a readable image: .*on_error='skip'"):
        files.open_images(tmp_path)
    (tmp_path / "a.png").unlink()
    broken = tmp_path / "part0" / "99.png"
    broken.write_bytes(whole[:45])  # its header is whole
    rows = files.open_images(tmp_path)
    with pytest.raises(DataError, match=r"99\.png is not a readable image"):
        rows.read()
    with pytest.raises(DataError, match=r"99\.png is not a readable image"):
        VAE(**SMALL).fit(tmp_path)
    for i in range(4):
        (tmp_path / f"b{i}.jpg").write_bytes(b"")
    with pytest.warns(
        DataWarning, match=r"5 of 17 .* left out: b0\.jpg, b1\.jpg, b2\.jpg, …"
    ) as seen:
        rows = files.open_images(tmp_path, on_error="skip")
    assert seen[0].filename == __file__
    assert np.array_equal(rows.read()[:, 0], images[order])
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(DataError, match=r"None of the 1 images .*a\.gif"):
        files.open_images(tmp_path / "none", on_error="skip")


def test_arguments_that_make_no_sense_are_refused(tmp_path):
    for bad in ({"size": 3}, {"size": (3,)}, {"size": (0, 3)}, {"size": (2.0, 3)}, {"size": "ab"}):
        with pytest.raises(ParameterError, match=r"size must be \(height, width\)"):
            files.open_images(tmp_path, **bad)
    with pytest.raises(ParameterError, match="mode must be"):
        files.open_images(tmp_path, mode="CMYK")
    with pytest.raises(ParameterError, match="on_error must be"):
        files.open_images(tmp_path, on_error="ignore")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        files.open_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no image file \(\.bmp"):
        files.open_images(tmp_path)


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_photographs_stand_upright(tmp_path, on_error):
    pixels = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise"
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels.T).save(tmp_path / "upright.png")
    rows = files.open_images(tmp_path, on_error=on_error)
    assert rows.event_shape == (1, 6, 4)
    assert np.array_equal(rows.read()[0, 0], np.rot90(pixels, -1))
    assert np.array_equal(rows.read()[1, 0], pixels.T)


def test_without_pillow_the_message_says_what_to_install(tmp_path, monkeypatch):
    write_all(tmp_path, grey_images())
    monkeypatch.setitem(sys.modules, "PIL", None)
    for on_error in ("raise", "skip"):
        with pytest.raises(MissingExtraError, match=r"'pillow'.*scikit-vae\[data\]"):
            files.open_images(tmp_path, on_error=on_error)


def test_what_is_decoded_stays_in_memory_as_bytes_where_it_fits(tmp_path, monkeypatch):
    write_all(tmp_path, grey_images())
    monkeypatch.setattr(_rows, "BLOCK_ROWS", 5)
    rows = files.open_images(tmp_path)
    assert rows.sizes.tolist() == [5, 5, 2]
    assert rows.origin(2) == (str(tmp_path), 10)
    before = rows.read()
    monkeypatch.setattr(_images, "_opened", None)
    assert np.array_equal(rows.read(), before)
    assert {pixels.dtype.name for pixels in rows._kept.values()} == {"uint8"}
    assert pickle.loads(pickle.dumps(rows))._kept == {}
    monkeypatch.undo()
    monkeypatch.setattr(_images, "KEPT_BYTES", 12 * 20 - 1)
    rows = files.open_images(tmp_path)
    assert np.array_equal(rows.read(), before)
    assert rows._kept == {}


@pytest.mark.parametrize("last", [False, True])
def test_a_model_is_fitted_on_a_folder(tmp_path, last):
    images = grey_images()
    colour = np.stack([images, 255 - images, images // 2], -1)
    order = write_all(tmp_path, colour)
    settings = SMALL | {"early_stopping": False, "channels_last": last}
    vae = VAE(**settings).fit(tmp_path)
    assert vae.event_shape_ == (3, 5, 4)
    assert vae.likelihood_.name == "gaussian"
    X = colour[order] if last else first(colour[order])
    assert vae.sample(2).shape == (2, *X.shape[1:])
    np.save(tmp_path / "_x.npy", X)
    same = VAE(**settings).fit(files.NpyRows([tmp_path / "_x.npy"]))
    assert np.array_equal(vae.transform(X), same.transform(X))
    np.testing.assert_allclose(vae.transform(tmp_path), vae.transform(X), rtol=1e-6)
    assert vae.score(str(tmp_path)) == pytest.approx(vae.score(X), rel=1e-6)


def test_the_command_line_reads_folders(tmp_path, capsys):
    folder, model, latent = tmp_path / "photos", tmp_path / "m.safetensors", tmp_path / "z.npy"
    folder.mkdir()
    write_all(folder, grey_images(size=(9, 7)))
    Image.fromarray(grey_images(1, (8, 8))[0]).save(folder / "other.png")
    (folder / "broken.png").write_bytes(b"")

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        return ended.value.code, capsys.readouterr()

    small = [
        "--hidden-layer-sizes",
        5,
        "--n-components",
        2,
        "--max-epochs",
        2,
        "--random-state",
        0,
    ]
    fit = ["fit", folder, "-o", model, *small, "--divide-by", 255, "--likelihood", "bernoulli"]
    code, said = run(*fit)
    assert code == 3
    assert "--skip-unreadable" in said.err
    code, said = run(*fit, "--skip-unreadable")
    assert code == 3
    assert "--image-size h w" in said.err
    images = ["--image-size", 6, 5, "--skip-unreadable"]
    code, said = run(*fit, *images)
    assert code == 0
    assert "skvae: 1 of 14 images" in said.err
    assert "training on 13 rows of 30 features" in said.err
    vae = load(model)
    assert vae.event_shape_ == (1, 6, 5)
    assert run("transform", model, folder, *images, "--divide-by", 255, "-o", latent)[0] == 0
    with pytest.warns(DataWarning, match="broken"):
        rows = files.open_images(folder, (6, 5), on_error="skip")
    Z = vae.transform(rows.read() / np.float32(255))
    np.testing.assert_allclose(np.load(latent), Z, rtol=1e-5)
    code, said = run("score", model, folder, *images, "--divide-by", 255, "--json")
    assert code == 0
    assert json.loads(said.out)["n_rows"] == 13
    assert run("score", model, folder, *images, "--image-mode", "RGB")[0] == 3
    assert "--image-size" in run("fit", "--help")[1].out
