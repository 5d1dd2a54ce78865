"""Networks of the user's own modules."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

from skvae import VAE, likelihoods, load, networks, rng
from skvae.exceptions import ModelFileError, ParameterError
from skvae.models import Assembly
from skvae.networks import Custom
from skvae.posteriors import Diagonal
from skvae.priors import Standard
from skvae.testing import check_network

SMALL = {"n_components": 2, "max_epochs": 2, "random_state": 0}
IMAGES = np.random.default_rng(0).random((41, 1, 5, 4)).astype(np.float32)


def convolutions(channels=1, d=2):
    with rng.isolated(7):
        return Custom(
            encoder=nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU()),
            decoder=nn.Sequential(nn.Linear(d, 6), nn.ReLU(), nn.Linear(6, channels * 20)),
        )


@pytest.fixture(autouse=True)
def _global_generators_are_left_alone():
    """Making torch's layers moves its generator; the library itself is looked at below."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        yield


class Lambda(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def assembly(network, likelihood=None, event_shape=(1, 5, 4)):
    likelihood = likelihood or likelihoods.Bernoulli()
    return Assembly(event_shape, 2, likelihood, Diagonal(), Standard(), network)


# -- what the wrapper does -----------------------------------------------------------------------


def test_features_are_the_flattened_output_and_hidden_cells_read_as_the_mean():
    network = convolutions()
    encoder = network.build_encoder((1, 5, 4))
    assert encoder.out_features == 3 * 2 * 1
    x = torch.from_numpy(IMAGES[:3])
    mean = torch.arange(20.0).view(1, 5, 4)
    encoder.calibrate(mean, x)
    assert torch.equal(encoder(x), network.encoder(x).flatten(1))  # nothing is subtracted
    mask = torch.rand(x.shape, generator=rng.generator(0)) < 0.5
    filled = torch.where(mask, x, mean)
    broken = torch.where(mask, x, torch.nan)
    assert torch.equal(encoder(broken, mask), network.encoder(filled).flatten(1))


def test_an_encoder_that_asks_for_the_mask_gets_it():
    class Masked(nn.Module):
        def forward(self, x, mask=None):
            share = torch.ones(len(x)) if mask is None else mask.flatten(1).float().mean(1)
            return torch.stack([x.flatten(1).sum(1), share], 1)

    encoder = Custom(Masked(), nn.Linear(2, 4)).build_encoder((4,))
    x = torch.ones(2, 4)
    mask = torch.tensor([[True, True, True, False], [False, True, False, False]])
    assert torch.equal(encoder(x, mask), torch.tensor([[3.0, 0.75], [1.0, 0.25]]))
    assert torch.equal(encoder(x), torch.tensor([[4.0, 1.0], [4.0, 1.0]]))


def test_a_decoder_may_return_any_shape_and_z_may_have_any_axes_in_front():
    linear = nn.Linear(2, 40)
    shaped = nn.Sequential(linear, nn.Unflatten(1, (4, 5, 2)))
    decoder = Custom(nn.Flatten(), shaped).build_decoder(2, (2, 1, 5, 4))
    z = torch.randn(3, 6, 2, generator=rng.generator(0))
    out = decoder(z)
    assert out.shape == (3, 6, 2, 1, 5, 4)
    for i in range(3):
        torch.testing.assert_close(out[i], linear(z[i]).view(6, 2, 1, 5, 4))
    torch.testing.assert_close(decoder(z[0, 0]), linear(z[0, 0]).view(2, 1, 5, 4))


def test_a_build_copies_and_makes_the_copy_float32():
    network = convolutions()
    network.decoder.double()
    first, second = (assembly(network).build(0) for _ in range(2))
    mine = network.encoder[0].weight
    for module in (first, second):
        copied = module.encoder.body.module[0].weight
        assert torch.equal(copied, mine)
        assert copied is not mine
        assert module.decoder.body.module[0].weight.dtype == torch.float32
    with torch.no_grad():
        first.encoder.body.module[0].weight.zero_()
    assert mine.abs().min() > 0
    assert torch.equal(second.encoder.body.module[0].weight, mine)


def test_lazy_layers_take_their_shapes_and_weights_from_the_seed():
    network = Custom(nn.Sequential(nn.Flatten(), nn.LazyLinear(7)), nn.LazyLinear(20))
    first, again, other = (assembly(network).build(seed) for seed in (0, 0, 1))
    weights = [m.encoder.body.module[1].weight for m in (first, again, other)]
    assert weights[0].shape == (7, 20)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_batch_normalisation_learns_from_several_rows_and_takes_one_as_it_is():
    norm = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4))
    encoder = Custom(norm, nn.Linear(2, 4)).build_encoder((4,))
    own = encoder.body.module[1]
    assert torch.equal(own.running_mean, torch.zeros(4))  # the trial run has not counted
    assert own.num_batches_tracked == 0
    x = torch.randn(6, 4, generator=rng.generator(0)) + 3
    encoder(x)
    torch.testing.assert_close(own.running_mean, 0.1 * x.mean(0))
    kept = own.running_mean.clone()
    expected = (x[:1] - kept) / (own.running_var + own.eps).sqrt()
    torch.testing.assert_close(encoder(x[:1]), expected)
    assert torch.equal(own.running_mean, kept)
    assert own.training
    with networks.running_statistics(encoder):
        torch.testing.assert_close(encoder(x)[:1], expected)


def test_dropout_follows_from_the_seed_and_the_number_of_the_call():
    def outputs(seed):
        encoder = assembly(Custom(nn.Sequential(nn.Flatten(), nn.Dropout()), nn.Linear(2, 20)))
        encoder = encoder.build(seed).encoder
        return [encoder(torch.ones(2, 1, 5, 4)) for _ in range(3)], encoder

    (first, again, other), encoder = outputs(0)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert not torch.equal(first, again)
    assert not torch.equal(again, other)
    for one, same in zip((first, again, other), outputs(0)[0], strict=True):
        assert torch.equal(one, same)
    assert not torch.equal(first, outputs(1)[0][0])
    assert encoder.body.calls == 3
    encoder.eval()
    assert torch.equal(encoder(torch.ones(2, 1, 5, 4)), torch.ones(2, 20))
    assert encoder.body.calls == 3
    assert not convolutions().build_encoder((1, 5, 4)).body.random


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (Lambda(lambda x: (x, x)), None, "the encoder must return one tensor; it returned tuple"),
        (Lambda(lambda x: x.sum()), None, r"one entry for each row; .* \(2, 1, 5, 4\) .* \(\)"),
        (Lambda(lambda x: x.flatten(0, 1)[:1]), None, "one entry for each row"),
        (Lambda(lambda x: x > 0), None, "must return floats, not torch.bool"),
        (nn.Linear(3, 3), None, r"encoder failed on .* \(2, 1, 5, 4\): RuntimeError: mat1"),
        (None, nn.Linear(3, 20), r"'bernoulli', z of 2 numbers: .* decoder failed .* \(2, 2\)"),
        (
            None,
            nn.Linear(2, 40),
            r"likelihood='bernoulli', .* returns 40 numbers for each z, but 20 are needed, which "
            r"become \(1, 5, 4\)\. Give its last layer 20 outputs",
        ),
    ],
)
def test_modules_that_do_not_fit_are_refused_with_what_to_do(encoder, decoder, message):
    network = Custom(encoder or nn.Flatten(), decoder or nn.Linear(2, 20))
    with pytest.raises(ParameterError, match=message):
        assembly(network).build(0)


def test_what_a_likelihood_needs_counts():
    network = convolutions(channels=2)
    assembly(network, likelihoods.Gaussian(scale="per_cell")).build(0)
    with pytest.raises(ParameterError, match=r"'poisson'.* returns 40 .* 20 are needed"):
        assembly(network, likelihoods.Poisson()).build(0)


def test_what_is_no_module_is_refused():
    with pytest.raises(ParameterError, match=r"encoder must be .*Pass an instance"):
        Custom(nn.Flatten, nn.Flatten())
    with pytest.raises(ParameterError, match=r"decoder must be .* received None"):
        Custom(encoder=nn.Flatten())
    with pytest.raises(ParameterError, match="needs modules"):
        VAE(network="custom", **SMALL).fit(IMAGES)


# -- a spec as any other -------------------------------------------------------------------------


def test_it_passes_the_contract_checks():
    check_network(convolutions(), (1, 5, 4), 2, likelihoods.Bernoulli())
    check_network(convolutions(channels=2), (1, 5, 4), 2)
    with pytest.raises(ParameterError, match="returns 20 numbers for each z, but 40 are needed"):
        check_network(convolutions(), (1, 5, 4), 2)
    dropout = Custom(nn.Sequential(nn.Flatten(), nn.Dropout()), nn.Linear(2, 40))
    check_network(dropout, (1, 5, 4), 2)


def test_it_is_equal_where_the_modules_are_the_same():
    network = convolutions()
    assert network == Custom(network.encoder, network.decoder) != convolutions()
    assert hash(network) == hash(Custom(network.encoder, network.decoder))
    assert repr(network) == "Custom(encoder=<Sequential>, decoder=<Sequential>)"
    assert repr(Custom()) == "Custom(encoder=None, decoder=None)"
    assert copy.deepcopy(network) == network
    assert network.to_json() == {"family": "network", "name": "custom"}
    vae = VAE(network=network, **SMALL)
    assert clone(vae).get_params()["network"] == network
    assert "network=Custom(encoder=<Sequential>, decoder=<Sequential>)" in repr(vae)
    with pytest.raises(AttributeError):
        network.encoder = nn.Flatten()


def test_two_fits_start_alike_and_share_nothing():
    network = convolutions()
    before = copy.deepcopy(network.encoder.state_dict())
    first = VAE(network=network, likelihood="bernoulli", **SMALL).fit(IMAGES)
    second = clone(first).fit(IMAGES)
    assert np.array_equal(first.transform(IMAGES), second.transform(IMAGES))
    trained = first._core.module.encoder.body.module[0].weight
    assert not torch.equal(trained, network.encoder[0].weight)
    for name, value in network.encoder.state_dict().items():
        assert torch.equal(value, before[name])
    assert first.sample(3).shape == (3, 1, 5, 4)
    assert first.score_samples(IMAGES[:3].astype(np.float64)).shape == (3,)
    again = pickle.loads(pickle.dumps(first))
    assert np.array_equal(first.transform(IMAGES), again.transform(IMAGES))


# -- files ---------------------------------------------------------------------------------------


def test_a_file_holds_weights_and_no_code(tmp_path):
    network = convolutions()
    vae = VAE(network=network, likelihood="bernoulli", **SMALL).fit(IMAGES)
    path, again = tmp_path / "m.safetensors", tmp_path / "again.safetensors"
    vae.save(path)
    assert b"Sequential" not in path.read_bytes()
    with pytest.raises(ModelFileError, match=r"no code\. Call load\(path, network=networks\.Cus"):
        load(path)
    with pytest.raises(ModelFileError, match=r"network=networks\.Custom"):
        load(path, network=networks.MLP())
    same = load(path, network=convolutions())
    assert np.array_equal(same.transform(IMAGES), vae.transform(IMAGES))
    assert same.network == same._core.spec.network
    same.save(again)
    assert again.read_bytes() == path.read_bytes()
    wider = Custom(nn.Conv2d(1, 4, 3, stride=2), network.decoder)
    with pytest.raises(ModelFileError, match=r"weight|missing"):
        load(path, network=wider)
    longer = Custom(network.encoder, nn.Linear(2, 21))
    with pytest.raises(ModelFileError, match="21 numbers"):
        load(path, network=longer)


def test_a_file_with_a_network_of_its_own_takes_no_other(tmp_path):
    vae = VAE(hidden_layer_sizes=(3,), **SMALL).fit(IMAGES)
    vae.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match="Leave out network"):
        load(tmp_path / "m.safetensors", network=convolutions())
    load(tmp_path / "m.safetensors", network=networks.MLP((3,)))


def test_dropout_goes_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    network = Custom(
        nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(20, 4), nn.BatchNorm1d(4)),
        nn.Linear(2, 20),
    )
    settings = {"network": network, "likelihood": "bernoulli", "batch_size": 16} | SMALL
    settings["max_epochs"] = 4
    state = torch.default_generator.get_state()
    whole = VAE(**settings).fit(IMAGES)
    assert torch.equal(torch.default_generator.get_state(), state)

    class Stop(Exception):
        pass

    from skvae import checkpoint, training

    written = checkpoint.Checkpoint.write
    steps = training.Trainer._step

    def fail(self, *args):
        if self.at.steps_done == 7:
            raise Stop
        return steps(self, *args)

    always = property(lambda self: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint.Checkpoint, "due", always)
        patch.setattr(training.Trainer, "_step", fail)
        with pytest.raises(Stop):
            VAE(checkpoint=str(tmp_path), **settings).fit(IMAGES)
    assert written is checkpoint.Checkpoint.write
    assert list(tmp_path.iterdir())
    resumed = VAE(checkpoint=str(tmp_path), **settings).fit(IMAGES)
    expected = whole._core.module.state_dict()
    for name, value in resumed._core.module.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("model", ["ladder", "hierarchical"])
def test_it_stands_in_models_of_several_levels(model):
    width = {"ladder": 2, "hierarchical": None}[model]
    from skvae.models import GenerativeModel, Hierarchical

    choice = Hierarchical(upper=3) if model == "hierarchical" else GenerativeModel.resolve(model)
    network = convolutions(d=width or 5)
    vae = VAE(network=network, model=choice, likelihood="bernoulli", **SMALL).fit(IMAGES)
    assert np.isfinite(vae.score(IMAGES))


def test_a_module_that_cannot_be_copied_is_named():
    class Stubborn(nn.Flatten):
        def __deepcopy__(self, memo):
            raise RuntimeError("only one of me")

    with pytest.raises(ParameterError, match="<Stubborn> cannot be copied: only one of me"):
        assembly(Custom(Stubborn(), nn.Linear(2, 20))).build(0)


def test_a_forward_that_is_no_python_function_works():
    class Compiled(nn.Module):
        forward = staticmethod(torch.relu)

    encoder = Custom(Compiled(), nn.Linear(2, 4)).build_encoder((4,))
    x = torch.tensor([[-1.0, 2.0, -3.0, 4.0]])
    assert encoder(x, x > 0).tolist() == [[0, 2, 0, 4]]
