"""Random changes of training images."""

import json
from itertools import product

import numpy as np
import pytest
import torch

from skvae import VAE, augmentation, load, rng
from skvae.augmentation import Crop, Flip, Shift, check_images, resolve
from skvae.augmented import Augmented
from skvae.cli import main
from skvae.data import Source, Transform
from skvae.estimators._base import to_json
from skvae.estimators._core import Core
from skvae.exceptions import ParameterError

CPU = torch.device("cpu")
SMALL = {"n_components": 2, "hidden_layer_sizes": (5,), "max_epochs": 3, "random_state": 0}
SHAPES = [(2, 7), (3, 5, 4), (2, 4, 6, 5)]
EDGES = {"shift": "edge", "crop": "reflect"}


class Told:
    """Noise that says what it is told, one number per row and column."""

    def __init__(self, *values):
        self.values = iter(values)

    def uniform(self, shape, like):
        assert shape == ()
        value = torch.as_tensor(next(self.values), dtype=like.dtype)
        return value.expand(like.shape)


def rows_of(shape, n=200):
    return torch.rand(n, *shape, generator=rng.generator(0))


def noise(seed=0):
    return rng.Sequential(rng.generator(seed))


def moved(x, offsets, by, mode):
    """Rows (B, c, *space) cut out of their padded selves at one place, by NumPy."""
    padded = np.pad(x, [(0, 0), (0, 0), *[(by, by)] * (x.ndim - 2)], mode=mode)
    cut = [slice(by + o, by + o + s) for o, s in zip(offsets, x.shape[2:], strict=True)]
    return padded[(slice(None), slice(None), *cut)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", [Shift(2), Shift(1), Crop(2), Crop(1)], ids=repr)
def test_rows_move_as_a_padded_image_is_cut(spec, shape):
    """Each row is one of the (2 p + 1)^axes cuts, and each of these is equally likely."""
    most = spec.pixels if spec.name == "shift" else spec.pad
    x = rows_of(shape, n=600)
    out = spec(x, noise()).numpy()
    assert out.shape == x.shape
    places = list(product(range(-most, most + 1), repeat=len(shape) - 1))
    cuts = (moved(x.numpy(), place, most, EDGES[spec.name]) for place in places)
    hits = np.stack([(cut == out).reshape(600, -1).all(1) for cut in cuts])
    assert np.array_equal(hits.sum(0), np.ones(600))
    expected = 600 / len(places)
    chi2 = ((hits.sum(1) - expected) ** 2 / expected).sum()
    freedom = len(places) - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5


def test_each_end_of_the_range_is_reached_and_nothing_beyond():
    x = torch.arange(5.0).view(1, 1, 5)
    just_below_one = 1 - 2.0**-24
    assert Shift(2)(x, Told(0.0)).flatten().tolist() == [0, 0, 0, 1, 2]
    assert Shift(2)(x, Told(just_below_one)).flatten().tolist() == [2, 3, 4, 4, 4]
    assert Shift(2)(x, Told(0.5)).flatten().tolist() == [0, 1, 2, 3, 4]
    assert Shift(3)(x, Told(0.999999999)).flatten().tolist() == [3, 4, 4, 4, 4]  # rounds to 1
    assert Crop(2)(x, Told(0.0)).flatten().tolist() == [2, 1, 0, 1, 2]
    assert Crop(2)(x, Told(just_below_one)).flatten().tolist() == [2, 3, 4, 3, 2]


@pytest.mark.parametrize("shape", SHAPES)
def test_half_of_the_rows_are_turned_round(shape):
    x = rows_of(shape)
    out = Flip()(x, noise())
    turned = (out == x.flip(-1)).flatten(1).all(1)
    kept = (out == x).flatten(1).all(1)
    assert torch.equal(turned, ~kept)
    assert 70 < int(turned.sum()) < 130
    coin = torch.tensor([0.2, 0.49, 0.5, 0.9]).view(4, *[1] * len(shape))
    out = Flip()(x[:4], Told(coin))
    assert torch.equal(out[:2], x[:2].flip(-1))
    assert torch.equal(out[2:], x[2:4])


@pytest.mark.parametrize("spec", [Shift(2), Crop(1), Flip()], ids=repr)
def test_rows_do_not_depend_on_each_other_and_keep_their_type(spec):
    x = rows_of((3, 5, 4)).double()
    whole = spec(x, rng.PerRow(x, 1))
    assert whole.dtype == torch.float64
    assert torch.equal(spec(x[7:9], rng.PerRow(x[7:9], 1)), whole[7:9])
    assert not torch.equal(spec(x, rng.PerRow(x, 2)), whole)


# -- in training -------------------------------------------------------------------------------


def test_shuffled_batches_change_with_epoch_and_step_and_rows_in_order_do_not():
    x = rows_of((1, 5, 4), n=50)
    source = Source(x, seed=3)
    changed = Augmented(source, (Shift(1), Flip()))
    assert len(changed) == 50
    assert changed.identity()[0] is x
    first = [b.x for b in changed.batches(0, 16, CPU)]
    again = [b.x for b in Augmented(Source(x, seed=3), (Shift(1), Flip())).batches(0, 16, CPU)]
    assert all(map(torch.equal, first, again))
    for step, (batch, plain) in enumerate(zip(first, source.batches(0, 16, CPU), strict=True)):
        key = rng.Sequential(rng.generator(3, rng.Stream.AUGMENT, 0, step))
        expected = Flip()(Shift(1)(plain.x, key), key)  # in this order, from one stream
        assert torch.equal(batch, expected)
        assert not torch.equal(batch, plain.x)
    late = [b.x for b in changed.batches(0, 16, CPU, skip=2)]
    assert all(map(torch.equal, late, first[2:]))
    other = next(changed.batches(1, 16, CPU)).x
    same_rows = next(source.batches(1, 16, CPU)).x
    key = rng.Sequential(rng.generator(3, rng.Stream.AUGMENT, 1, 0))
    assert torch.equal(other, Flip()(Shift(1)(same_rows, key), key))
    in_order = torch.cat([b.x for b in changed.in_order(16, CPU)])
    assert torch.equal(in_order, x)


def test_binary_targets_stay_binary():
    x = rows_of((1, 5, 4), n=50)
    for batch in Augmented(Source(x, binarize="stochastic"), (Crop(1),)).batches(0, 16, CPU):
        assert set(batch.x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("augment", ["flip", ("shift", "flip"), Shift(pixels=1), [Crop(1)]])
def test_only_training_sees_changed_rows(augment, monkeypatch):
    X = rows_of((1, 5, 4), n=60).numpy()
    seen = []
    train = Core._source

    def watched(self, rows, seed):
        source = train(self, rows, seed)
        seen.append(source)
        return source

    monkeypatch.setattr(Core, "_source", watched)
    settings = SMALL | {"validation_fraction": 0.2, "early_stopping": True}
    vae = VAE(augment=augment, **settings).fit(X)
    assert all(type(s) is Source for s in seen)
    assert len(seen) == 2  # each is made as ever, and one is wrapped
    assert np.array_equal(VAE(augment=augment, **settings).fit(X).transform(X), vae.transform(X))
    plain = VAE(**settings).fit(X)
    assert not np.array_equal(plain.transform(X), vae.transform(X))
    assert "valid_elbo" in vae.history_[-1]


def test_held_out_rows_are_scored_as_they_are():
    """With a learning rate of almost nothing, augmentation changes what training sees alone."""
    X = rows_of((1, 5, 4), n=60).numpy()
    settings = SMALL | {"validation_fraction": 0.5, "learning_rate": 1e-12, "max_epochs": 1}
    settings |= {"early_stopping": True, "likelihood": "mse"}
    plain = VAE(**settings).fit(X)
    changed = VAE(augment=Shift(3), **settings).fit(X)
    same = pytest.approx(plain.history_[0]["valid_elbo"], abs=1e-6)
    assert changed.history_[0]["valid_elbo"] == same
    assert abs(changed.history_[0]["train_elbo"] - plain.history_[0]["train_elbo"]) > 1e-3


def test_a_fit_goes_on_from_a_checkpoint_with_the_same_changes(tmp_path):
    X = rows_of((1, 5, 4), n=60).numpy()
    settings = SMALL | {"augment": ("shift", "flip"), "early_stopping": False}
    whole = VAE(**settings).fit(X)

    class Stop(Exception):
        pass

    from skvae import checkpoint, training

    steps = training.Trainer._step

    def fail(self, *args):
        if self.at.steps_done == 5:
            raise Stop
        return steps(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "due", property(lambda self: True))
        patch.setattr(training.Trainer, "_step", fail)
        with pytest.raises(Stop):
            VAE(checkpoint=str(tmp_path), **settings).fit(X)
    with pytest.raises(ParameterError, match="different are: augment"):
        VAE(checkpoint=str(tmp_path), **settings | {"augment": "shift"}).fit(X)
    resumed = VAE(checkpoint=str(tmp_path), **settings).fit(X)
    assert np.array_equal(resumed.transform(X), whole.transform(X))


# -- as a parameter ----------------------------------------------------------------------------


def test_names_specs_and_several():
    assert resolve(None) == ()
    assert resolve("shift") == (Shift(),) == (Shift(pixels=2),)
    assert resolve(("crop", Flip())) == (Crop(pad=2), Flip())
    assert resolve([Shift(1)]) == (Shift(1),)
    with pytest.raises(ParameterError, match=r"augment='flipp'.* Did you mean 'flip'"):
        resolve(("shift", "flipp"))
    for bad in (0, 1.5, True):
        with pytest.raises(ParameterError, match="Shift: pixels must be an integer >= 1"):
            Shift(bad)
        with pytest.raises(ParameterError, match="Crop: pad must be an integer >= 1"):
            Crop(bad)


def test_rows_that_are_no_images_are_refused():
    with pytest.raises(ParameterError, match=r"augment changes images.*event_shape=\(1, h, w\)"):
        VAE(augment="shift", **SMALL).fit(rows_of((6,)).numpy())
    check_images((), (6,))
    check_images((Crop(3), Shift(9)), (1, 4, 5))
    with pytest.raises(ParameterError, match=r"Crop\(pad=4\).* smaller than each axis of \(4, 5"):
        check_images((Flip(), Crop(4)), (1, 4, 5))
    assert VAE(augment="shift", **SMALL | {"event_shape": (1, 2, 3)}).fit(
        rows_of((6,)).numpy()
    ).event_shape_ == (1, 2, 3)


@pytest.mark.parametrize("augment", [("shift", Flip()), Shift(1), "crop", None, (Crop(1),)])
def test_it_is_saved_with_the_model(augment, tmp_path, capsys):
    vae = VAE(augment=augment, **SMALL | {"max_epochs": 1}).fit(rows_of((1, 5, 4), 30).numpy())
    vae.save(tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").augment == augment
    with pytest.raises(SystemExit) as ended:
        main(["info", str(tmp_path / "m.safetensors"), "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)["parameters"]["augment"]
    flip = {"family": "augmentation", "name": "flip"}
    assert told == (["shift", flip] if augment == ("shift", Flip()) else to_json("", augment))


def test_the_command_line_takes_several(tmp_path, capsys):
    np.save(tmp_path / "x.npy", rows_of((1, 5, 4), 40).numpy())
    path = tmp_path / "m.safetensors"
    fit = ["fit", str(tmp_path / "x.npy"), "-o", str(path), "--max-epochs", "1", "--json", "-q"]
    with pytest.raises(SystemExit) as ended:
        main([*fit, "--augment", "shift", "flip"])
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["model"] == str(path)
    assert load(path).augment == ("shift", "flip")
    with pytest.raises(SystemExit) as ended:
        main([*fit, "--force", "--augment", "crop"])
    assert ended.value.code == 0
    assert load(path).augment == ("crop",)


def test_what_is_changed_is_in_model_units_and_at_the_edge_repeats():
    """A shift never brings in a value that is not in the row, whatever the scaling."""
    X = torch.full((20, 1, 4, 4), 7, dtype=torch.uint8)
    source = Source(X, transform=Transform(np.full(16, 5.0), np.full(16, 4.0)))
    for batch in Augmented(source, (augmentation.Shift(2), Crop(2))).batches(0, 8, CPU):
        assert torch.equal(batch.x, torch.full_like(batch.x, 0.5))
