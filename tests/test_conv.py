"""Convolutional networks: any size, exact shapes, rows that do not know of each other."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skvae import VAE, likelihoods, load, rng, testing
from skvae.estimators._choices import choose_network
from skvae.exceptions import ParameterError
from skvae.networks import MLP, Conv
from skvae.networks.conv import Residual, Upsampling, convolution, hidden_levels

X = np.zeros((128, 1, 8, 8), np.float32)  # the upper or the lower half is lit
X[::2, :, :4] = X[1::2, :, 4:] = 1


def built(spec, event_shape, d=3):
    with rng.isolated(0):
        encoder = spec.build_encoder(event_shape).double()
        decoder = spec.build_decoder(d, event_shape).double()
    g = rng.generator(1)
    with torch.no_grad():  # the blocks begin as the identity, which would hide what they do
        for parameter in (*encoder.parameters(), *decoder.parameters()):
            noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return encoder, decoder


def rows(n, event_shape, seed=0):
    return torch.randn(n, *event_shape, generator=rng.generator(seed), dtype=torch.float64)


@given(
    sides=st.lists(st.integers(1, 19), min_size=1, max_size=3),
    n_channels=st.integers(0, 5),
    channels=st.sampled_from([1, 3, 8]),
    n_blocks=st.integers(0, 2),
)
@settings(max_examples=30, deadline=None, derandomize=True)
def test_every_size_keeps_the_contract(sides, n_channels, channels, n_blocks):
    event_shape = (*([n_channels] if n_channels else []), *sides)
    spec = Conv(n_dims=len(sides), channels=channels, n_blocks=n_blocks)
    testing.check_network(spec, event_shape)


@pytest.mark.parametrize("sides", [(256, 256), (255, 131), (8, 256)])
def test_large_colour_images_pass(sides):
    encoder, decoder = built(Conv(channels=2), (3, *sides))
    assert encoder(rows(1, (3, *sides))).shape == (1, encoder.out_features)
    assert decoder(rows(1, (3,))).shape == (1, 3, *sides)


def test_the_depth_follows_from_the_size():
    assert hidden_levels((28, 28)) == [(14, 14), (7, 7), (4, 4)]
    assert hidden_levels((256,)) == [(128,), (64,), (32,), (16,), (8,), (4,)]
    assert hidden_levels((5, 9)) == [(3, 5), (3, 3)]
    assert hidden_levels((4, 3)) == [(4, 3)]
    assert Conv(channels=5).widths(6) == [5, 10, 20, 40, 40, 40]


def test_weights_do_not_depend_on_a_sides_length_where_levels_agree():
    small, large = (built(Conv(channels=4), (1, s, s))[0] for s in (14, 16))
    shapes = [[p.shape for p in e.parameters()] for e in (small, large)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("event_shape", [(2, 11), (2, 9, 6), (2, 5, 6, 7)])
def test_a_row_does_not_depend_on_the_others(event_shape):
    encoder, decoder = built(Conv(n_dims=len(event_shape) - 1, channels=4), event_shape)
    x, z = rows(5, event_shape), rows(5, (3,))
    one = torch.cat([encoder(x[i : i + 1]) for i in range(5)])
    assert torch.allclose(encoder(x), one, atol=1e-12)
    assert torch.allclose(
        decoder(z), torch.cat([decoder(z[i]) for i in range(5)]).view(5, *event_shape), atol=1e-12
    )


def test_leading_axes_are_rows():
    _, decoder = built(Conv(channels=4), (2, 9, 6))
    z = rows(6, (3,)).view(2, 3, 3)
    assert torch.allclose(decoder(z).flatten(0, 1), decoder(z.flatten(0, 1)), atol=1e-12)


def test_hidden_cells_read_as_their_mean():
    encoder, _ = built(Conv(channels=4), (2, 9, 6))
    x = 3 + 2 * rows(20, (2, 9, 6))
    encoder.calibrate(x.mean(0), x)
    assert encoder.spread.item() == pytest.approx((x - x.mean(0)).square().mean().sqrt().item())
    mask = rows(20, (2, 9, 6), 1) > 0
    filled = torch.where(mask, x, x.mean(0))
    assert torch.allclose(encoder(x, mask), encoder(filled), atol=1e-12)
    assert not torch.allclose(encoder(x, mask), encoder(x))


def test_an_image_without_a_channel_axis_is_the_same_as_with_one():
    flat, channel = built(Conv(channels=4), (9, 6)), built(Conv(channels=4), (1, 9, 6))
    x, z = rows(3, (9, 6)), rows(3, (3,))
    assert torch.equal(flat[0](x), channel[0](x.unsqueeze(1)))
    assert torch.equal(flat[1](z), channel[1](z).squeeze(1))


def test_every_feature_sees_every_pixel_and_every_pixel_every_latent():
    encoder, decoder = built(Conv(channels=4), (1, 13, 10))
    x = rows(1, (1, 13, 10)).requires_grad_()
    (gradient,) = torch.autograd.grad(encoder(x).square().sum(), x)
    assert (gradient != 0).all()
    z = rows(1, (3,))
    jacobian = torch.autograd.functional.jacobian(decoder, z)
    assert (jacobian != 0).all()


def test_a_block_is_the_identity_before_training():
    with rng.isolated(0), torch.no_grad():
        block, x = Residual(6, 2, "silu").double(), rows(2, (6, 5, 4))
        bias = block.layers[-1].bias
        assert torch.allclose(block(x), x + bias.view(-1, 1, 1))
        weight = block.layers[-1].weight
        weight.copy_(rows(6, weight.shape[1:], 3))
        inner = torch.nn.functional.silu(torch.nn.functional.group_norm(x, 2, eps=1e-5))
        inner = torch.nn.functional.silu(block.layers[2](inner))
        assert torch.allclose(block(x), x + block.layers[-1](inner))


@pytest.mark.parametrize(("smaller", "larger"), [((4,), (7,)), ((4,), (8,)), ((3, 5), (3, 9))])
def test_upsampling_gives_each_inner_cell_equally_many_terms(smaller, larger):
    with rng.isolated(0), torch.no_grad():
        layer = Upsampling(1, 1, smaller, larger).double()
        layer.layer.weight.fill_(1.0)
        layer.layer.bias.zero_()
        out = layer(torch.ones(1, 1, *smaller, dtype=torch.float64))[0, 0]
    assert out.shape == larger
    inner = out[tuple(slice(1, -1) for _ in larger)]
    assert (inner == inner.flatten()[0]).all()


def test_a_convolution_halves_and_rounds_up():
    with rng.isolated(0):
        layer = convolution(1, 2, (2, 1))
    assert layer(torch.zeros(1, 1, 7, 5)).shape == (1, 2, 4, 5)


# -- choices --------------------------------------------------------------------------------------

GAUSSIAN = likelihoods.Gaussian()


@pytest.mark.parametrize(
    ("event_shape", "expected"),
    [
        ((1, 28, 28), Conv(n_dims=2)),
        ((3, 8, 40), Conv(n_dims=2)),
        ((1, 9, 10, 11), Conv(n_dims=3)),
        ((1, 7, 28), MLP()),
        ((28, 28), MLP()),
        ((64,), MLP()),
    ],
)
def test_auto_takes_convolutions_for_images(event_shape, expected):
    assert choose_network("auto", (256, 256), event_shape, GAUSSIAN) == expected
    assert choose_network("auto", (64,), event_shape, GAUSSIAN) == MLP((64,))


@pytest.mark.parametrize(
    ("event_shape", "n_dims"),
    [((40,), 1), ((3, 40), 1), ((7, 40), 1), ((8, 40), 2), ((1, 9, 9), 2), ((1, 5, 5, 5), 3)],
)
def test_the_name_fits_the_event(event_shape, n_dims):
    assert choose_network("conv", (256, 256), event_shape, GAUSSIAN) == Conv(n_dims=n_dims)


def test_bad_choices_are_named():
    with pytest.raises(ParameterError, match=r"Conv: n_dims must be 1 .* received 4"):
        Conv(n_dims=4)
    with pytest.raises(ParameterError, match="Conv: n_dims"):
        Conv(n_dims=True)
    with pytest.raises(ParameterError, match="Conv: channels must be an integer >= 1"):
        Conv(channels=0)
    with pytest.raises(ParameterError, match="Conv: n_blocks must be an integer >= 0"):
        Conv(n_blocks=-1)
    with pytest.raises(ParameterError, match="activation='sillu'"):
        Conv(activation="sillu")
    with pytest.raises(
        ParameterError, match=r"\(channels, height, width\).*event_shape is \(64,\)"
    ):
        Conv().build_encoder((64,))
    with pytest.raises(ParameterError, match=r"\(channels, depth, height, width\)"):
        Conv(n_dims=3).build_encoder((9, 9))
    with pytest.raises(ParameterError, match=r"\(channels, length\) or \(length\)"):
        Conv(n_dims=1).build_encoder((1, 9, 9))


# -- in a model -----------------------------------------------------------------------------------

SMALL = {"network": Conv(channels=8), "batch_size": 16, "max_epochs": 10}
SMALL |= {"learning_rate": 0.01, "random_state": 0}


@pytest.fixture(scope="module")
def fitted():
    return VAE(6, likelihood="bernoulli", early_stopping=False, **SMALL).fit(X)


def test_it_learns_more_than_the_mean(fitted):
    mean = X.mean(0)
    nats = -np.nan_to_num(X * np.log(mean) + (1 - X) * np.log1p(-mean)).sum((1, 2, 3)).mean()
    assert nats == pytest.approx(64 * np.log(2))
    assert -fitted.history_["train_elbo"][-1] < nats / 2
    assert fitted.inverse_transform(fitted.transform(X[:2])).shape == (2, 1, 8, 8)
    assert fitted.sample(3, random_state=0).shape == (3, 1, 8, 8)


def test_a_file_gives_the_same_model(fitted, tmp_path):
    fitted.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert again._core.spec == fitted._core.spec
    assert np.array_equal(again.transform(X[:9]), fitted.transform(X[:9]))
    assert np.array_equal(again.score_samples(X[:9]), fitted.score_samples(X[:9]))


def test_scores_do_not_depend_on_the_company(fitted):
    whole = fitted.score_samples(X[:20].astype(np.float64), n_samples=5)
    some = fitted.score_samples(X[7:8].astype(np.float64), n_samples=5)
    assert whole[7] == pytest.approx(some[0], abs=1e-9)


def test_bfloat16_and_other_likelihoods_train():
    for likelihood, data in (
        (likelihoods.DiscretizedLogisticMixture(n_mixtures=2), X * 255),
        (likelihoods.Gaussian(), X),
    ):
        vae = VAE(3, likelihood=likelihood, precision="bfloat16", **SMALL)
        vae.set_params(max_epochs=2).fit(data)
        assert np.isfinite(vae.history_["train_elbo"]).all()
        assert vae.history_["train_elbo"][-1] > vae.history_["train_elbo"][0]


def test_one_row_works():
    vae = VAE(2, likelihood="bernoulli", **SMALL).fit(X[:1])
    assert vae.transform(X[:1]).shape == (1, 2)


def test_volumes_and_signals_train():
    g = np.random.default_rng(0)
    for event_shape in ((2, 9), (1, 8, 9, 10)):
        data = g.normal(size=(20, *event_shape)).astype(np.float32)
        vae = VAE(2, network="conv", max_epochs=1, random_state=0).fit(data)
        assert vae.inverse_transform(vae.transform(data)).shape == data.shape
        assert vae._core.spec.network == dataclasses.replace(Conv(), n_dims=len(event_shape) - 1)
