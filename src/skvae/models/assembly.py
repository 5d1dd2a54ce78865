"""All parts of a model together."""

from dataclasses import dataclass

from skvae import rng
from skvae.latent import Latent
from skvae.likelihoods import Likelihood
from skvae.missingness import Missingness
from skvae.models.base import GenerativeModel, LatentModule
from skvae.models.vae import OneLevel
from skvae.networks import Network
from skvae.posteriors import Posterior
from skvae.priors import Prior
from skvae.spec import Spec, at_least

__all__ = ["Assembly"]

ONE_LEVEL = OneLevel()


@dataclass(frozen=True)
class Assembly(Spec, family="assembly", name="assembly"):
    """Everything that fixes the shapes of a model's weights.

    Parameters
    ----------
    event_shape : tuple of int
        Shape of one x.
    n_components : int
        Number of latent variables (of the level next to the data, if there are several).
    likelihood, posterior, prior, network : spec
        The parts.
    model : spec
        How they are wired.
    missingness : spec or None
        Which cells are observed given what they hold; None where they are missing at random.

    Raises
    ------
    ParameterError
        The parts do not go together; the message says why.
    """

    event_shape: tuple[int, ...]
    n_components: int
    likelihood: Likelihood
    posterior: Posterior
    prior: Prior
    network: Network
    model: GenerativeModel = ONE_LEVEL
    missingness: Missingness | None = None

    def __post_init__(self) -> None:
        for size in self.event_shape:
            at_least(size, 1, "event_shape")
        at_least(self.n_components, 1, "n_components")
        self.model.check(self)

    @property
    def latent(self) -> Latent:
        """The space of z."""
        return self.model.latent(self)

    def build(self, seed: int) -> LatentModule:
        """Return the module with weights that are a function of the seed."""
        with rng.isolated(seed, rng.Stream.INIT):
            return self.model.build(self)
