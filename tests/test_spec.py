"""Specs: names, aliases, equality, JSON, and what they refuse."""

import pickle
from dataclasses import dataclass

import pytest

from skvae import (
    augmentation,
    likelihoods,
    missingness,
    models,
    networks,
    objectives,
    posteriors,
    priors,
)
from skvae.exceptions import ModelFileError, ParameterError
from skvae.models import Assembly
from skvae.spec import Spec

SPECS = [
    augmentation.Crop(3),
    augmentation.Flip(),
    augmentation.Shift(1),
    likelihoods.Bernoulli(),
    likelihoods.Gaussian(scale="per_cell"),
    likelihoods.StudentT("per_cell"),
    likelihoods.Laplace(),
    likelihoods.LogNormal(),
    likelihoods.ContinuousBernoulli(),
    likelihoods.Beta(),
    likelihoods.Poisson(),
    likelihoods.NegativeBinomial(),
    likelihoods.ZeroInflatedPoisson(),
    likelihoods.ZeroInflatedNegativeBinomial(),
    likelihoods.Categorical(n_categories=3),
    likelihoods.Categorical(n_categories=50, rank=2),
    likelihoods.Columns(
        (likelihoods.Gaussian(), likelihoods.Categorical(3), likelihoods.Gaussian())
    ),
    likelihoods.Ordinal(n_categories=4),
    likelihoods.DiscretizedLogisticMixture(n_mixtures=2),
    likelihoods.Sequence(),
    likelihoods.Sequence(likelihoods.Categorical(3), ragged=True),
    likelihoods.Sequence(likelihoods.ZeroInflatedNegativeBinomial(), ragged=False),
    missingness.SelfMasking(),
    missingness.SelfMasking((2, 0), "high"),
    posteriors.Deterministic(),
    posteriors.Diagonal(),
    posteriors.FullCovariance(),
    posteriors.Flow(kind="spline", hidden_layer_sizes=(3,)),
    posteriors.Flow(kind="sylvester", hidden_layer_sizes=()),
    posteriors.Mixture(3),
    posteriors.VonMisesFisher(),
    posteriors.Categorical(3, temperature=0.5),
    posteriors.VectorQuantized(5, 2),
    priors.Standard(),
    priors.Categorical(learned=False),
    priors.Autoregressive((8,)),
    priors.GaussianMixture(7),
    priors.GaussianMixture(3, covariance="full"),
    priors.Vamp(9, learned=False),
    priors.Flow(kind="maf", n_transforms=2),
    priors.Flow(kind="planar", n_transforms=2),
    priors.Sphere(),
    networks.Conv(n_dims=1, channels=4, n_blocks=2, activation="relu"),
    networks.Custom(),
    networks.MLP((3, 4), activation="relu"),
    networks.MLP((), batch_norm=True),
    networks.RNN("lstm", 5, n_layers=2, word_dropout=0.25),
    networks.RNN(hidden_size=4, bidirectional=False),
    networks.Table((6, 6, 5), activation="relu"),
    networks.Table(()),
    networks.TCN(channels=6, n_layers=2, kernel_size=4, word_dropout=0.5),
    objectives.ELBO(beta=0.5, warmup=10, free_bits=0.1),
    objectives.IWAE(3, 2, 0.5, "stl"),
    objectives.IWAE(3, 2, pooled_decoder=True),
    objectives.IWAE(3, 2, 0.5, "vimco"),
    objectives.Capacity(capacity=3.0),
    objectives.Reconstruction(),
    objectives.ELBO() + objectives.Contractive(0.5) + objectives.Contractive(0.1, 0),
    objectives.ELBO() + objectives.FactorVAE(2.0, (7, 5)) + objectives.TotalCorrelation(2.0),
    objectives.Contractive(0.25, n_probes=3),
    objectives.DecoderGradient(0.5, n_probes=2),
    objectives.DecoderWeights(0.5),
    objectives.DIP(2.0, 3.0, "ii"),
    objectives.FactorVAE(2.0, (7, 5)),
    objectives.Layout(5, 3.0, 0.5, 0.2),
    objectives.MMD(2.0, "rbf"),
    objectives.Neighbors("umap", 5, 0.5, min_dist=0.25),
    objectives.Neighbors("tsne", weight=2.0),
    objectives.Supervised(0.5),
    objectives.WakePhase(0.5, 0.3),
    objectives.TotalCorrelation(2.0),
    objectives.PseudoLabels(0.5, 0.9),
    objectives.Consistency(strong=(augmentation.Affine(5.0),)),
    objectives.VirtualAdversarial(0.5),
    objectives.Discriminative(),
    augmentation.Affine(10.0, 0.2),
    augmentation.Erase(0.3),
    models.M2(3, class_prior=(0.5, 0.25, 0.25)),
    models.M1M2(3, kept=(0, 2), hidden_layer_sizes=()),
    models.ClassMixture(3, "learned", 5),
    models.M2Regression(2, hidden_size=5, activation="tanh"),
    models.ADGM(3, (0.5, 0.25, 0.25), 4, hidden_size=5, judge=networks.MLP((3,))),
    models.SDGM(3, "learned", 4, activation="tanh"),
    models.LadderM2(3, "learned", (3, 2), (5, 4), hidden_size=6, batch_norm=False),
    models.OneLevel(),
    models.ConvLadder(n_levels=2),
    models.Hierarchical(upper=3, hidden_layer_sizes=(), activation="tanh", batch_norm=True),
    models.Ladder(upper=(3, 2), hidden_layer_sizes=(5, 4), activation="relu", batch_norm=False),
    Assembly(
        event_shape=(1, 2, 2),
        n_components=3,
        likelihood=likelihoods.Gaussian(),
        posterior=posteriors.Diagonal(),
        prior=priors.Standard(),
        network=networks.MLP((5,)),
    ),
]


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_json_round_trip_gives_an_equal_spec(spec):
    again = Spec.from_json(spec.to_json())
    assert again == spec
    assert type(again) is type(spec)
    assert hash(again) == hash(spec)
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_a_file_from_before_a_field_was_there_means_its_default():
    data = {"family": "objective", "name": "elbo", "beta": 0.5}
    assert Spec.from_json(data) == objectives.ELBO(beta=0.5)


def test_every_registered_class_is_covered():
    families = {type(s).family for s in SPECS}
    assert families == set(Spec._families)
    for family in Spec._families.values():
        own = {n for n, c in family._registry.items() if c.__module__.startswith("skvae")}
        assert own == {s.name for s in SPECS if s.family == family.family}


def test_names_and_aliases():
    resolve = likelihoods.Likelihood.resolve
    assert resolve("bce") == likelihoods.Bernoulli()
    assert resolve("mse") == likelihoods.Gaussian(scale="unit")
    assert resolve("gaussian") == likelihoods.Gaussian(scale="per_feature")
    spec = likelihoods.Gaussian(scale="global")
    assert resolve(spec) is spec


def test_a_typo_says_what_was_meant():
    with pytest.raises(ParameterError, match=r"likelihood='bernouli'.*Did you mean 'bernoulli'"):
        likelihoods.Likelihood.resolve("bernouli")
    with pytest.raises(ParameterError, match="Did you mean 'per_cell'"):
        likelihoods.Gaussian(scale="per_cel")
    with pytest.raises(TypeError, match="scael"):
        likelihoods.Gaussian(scael="unit")
    with pytest.raises(ParameterError, match=r"must be a name .* received .* of type Standard"):
        likelihoods.Likelihood.resolve(priors.Standard())
    with pytest.raises(ParameterError, match=r"\(100,\)"):
        networks.MLP(100)
    with pytest.raises(ParameterError, match="integers >= 1"):
        networks.MLP((3, 0))
    with pytest.raises(ParameterError, match="Did you mean 'silu'"):
        networks.MLP((3,), activation="sillu")
    for bad in ({"beta": -1.0}, {"beta": float("nan")}, {"warmup": -1}, {"n_samples": 0}):
        with pytest.raises(ParameterError, match=next(iter(bad))):
            objectives.ELBO(**bad)


def test_specs_are_immutable():
    with pytest.raises(AttributeError):
        likelihoods.Gaussian().scale = "unit"
    assert likelihoods.Gaussian().replace(scale="unit") == likelihoods.Gaussian(scale="unit")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {"family": "likelihood"},
        {"family": "os", "name": "system"},
        {"family": "likelihood", "name": "os.system"},
        {"family": "assembly", "name": "assembly", "event_shape": [2]},
        {"family": "likelihood", "name": "gaussian", "scale": "unit", "extra": 1},
        {"family": "likelihood", "name": "gaussian", "scale": "nonsense"},
    ],
)
def test_foreign_json_is_refused(data):
    with pytest.raises(ModelFileError):
        Spec.from_json(data)


def test_json_of_another_family_is_refused():
    with pytest.raises(ModelFileError, match="expected a Likelihood"):
        likelihoods.Likelihood.from_json(priors.Standard().to_json())


def test_a_class_of_the_user_registers_itself():
    @dataclass(frozen=True)
    class Mine(likelihoods.Likelihood, name="test-mine"):
        width: float = 2.0

        def build(self, event_shape):
            return likelihoods.Bernoulli().build(event_shape)

    try:
        assert likelihoods.Likelihood.resolve("test-mine") == Mine()
        assert Spec.from_json(Mine(width=3.0).to_json()) == Mine(width=3.0)
    finally:
        del likelihoods.Likelihood._registry["test-mine"]
