"""The variational autoencoder with one latent vector: p(z) p(x | z) and q(z | x)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae import distributions, rng
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.likelihoods import Likelihood
from skvae.models.base import GenerativeModel
from skvae.networks import Network
from skvae.posteriors import Posterior
from skvae.priors import Prior

__all__ = ["VAEModel", "VAEModule"]


@dataclass(frozen=True)
class VAEModel(GenerativeModel, name="vae"):
    """Everything that fixes the shapes of a model's weights.

    Parameters
    ----------
    event_shape : tuple of int
        Shape of one x.
    n_components : int
        Number of latent dimensions d.
    likelihood, posterior, prior, network : spec
        The parts.
    """

    event_shape: tuple[int, ...]
    n_components: int
    likelihood: Likelihood
    posterior: Posterior
    prior: Prior
    network: Network

    def __post_init__(self) -> None:
        if reason := self.prior.objection(self.posterior):
            raise ParameterError(
                f"prior={self.prior.name!r} does not go with posterior={self.posterior.name!r}: "
                f"{reason}."
            )

    def build(self, seed: int) -> "VAEModule":
        """Return the module with weights that are a function of the seed."""
        with rng.isolated(seed, rng.Stream.INIT):
            return VAEModule(self)


class VAEModule(nn.Module):
    """Wires encoder, posterior, prior, decoder and likelihood.

    Takes x in model units; log p(x | z) is in data units all the same.
    """

    log_unit: Tensor

    def __init__(self, spec: VAEModel) -> None:
        super().__init__()
        self.spec = spec
        self._body_dtype: torch.dtype | None = None
        self.register_buffer("log_unit", torch.zeros(spec.event_shape))
        self.likelihood = spec.likelihood.build(spec.event_shape)
        self.encoder = spec.network.build_encoder(spec.event_shape)
        self.posterior = spec.posterior.build(spec.n_components, self.encoder.out_features)
        self.prior = spec.prior.build(spec.n_components, spec.event_shape)
        self.decoder = spec.network.build_decoder(spec.n_components, self.likelihood.param_shape)

    @contextmanager
    def autocast(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Run the bodies of encoder and decoder in a lower precision; all densities stay as is."""
        self._body_dtype = dtype
        try:
            yield
        finally:
            self._body_dtype = None

    def _body(self, body: nn.Module, x: Tensor, *args: Tensor | None) -> Tensor:
        if self._body_dtype is None:
            out: Tensor = body(x, *args)
            return out
        with torch.autocast(x.device.type, self._body_dtype):
            out = body(x, *args)
        return out.to(x.dtype)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them.

        Parameters
        ----------
        mean, unit : Tensor, shape (*event,)
            Mean in model units, and how many data units one model unit is.
        rows : Tensor, shape (n, *event)
            Some rows in model units, in random order.
        """
        self.log_unit.copy_(unit.log())
        self.encoder.calibrate(mean, rows)
        self.likelihood.calibrate(mean, unit, rows)
        self.prior.calibrate(rows)

    def infer(self, batch: Batch) -> Distribution:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""
        q: Distribution = self.posterior(self._body(self.encoder, batch.x, batch.mask))
        return q

    def prior_distribution(self) -> Distribution:
        """p(z), event shape (d,)."""
        p: Distribution = self.prior(lambda x: self.infer(Batch(x)))
        return p

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""
        p: Distribution = self.likelihood(self._body(self.decoder, z))
        return p

    def log_joint(
        self, batch: Batch, z: Tensor, prior: Distribution | None = None
    ) -> tuple[Tensor, Tensor]:
        """Log p(x | z) over the observed cells and log p(z), each (K, B), for z (K, B, d)."""
        x = batch.x
        if batch.mask is not None:  # NaN in a hidden cell would poison the gradient
            x = torch.where(batch.mask, x, torch.zeros((), dtype=x.dtype))
        event_dims = len(self.spec.event_shape)
        p = self.likelihood.adapt(self.generate(z), x, batch.mask)
        log_px = distributions.masked_sum(p.log_prob(x), batch.mask, event_dims)
        # d(model units) / d(data units), of the cells that count
        log_unit = self.log_unit if batch.mask is None else self.log_unit.expand_as(x)
        log_px = log_px - distributions.masked_sum(log_unit, batch.mask, event_dims)
        return log_px, (prior or self.prior_distribution()).log_prob(z)

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x)."""
        features = self._body(self.encoder, batch.x, batch.mask)
        q: Distribution = self.posterior(features)
        z = distributions.draw(q, (n_samples,), noise)  # (K, B, d)
        prior = self.prior_distribution()
        log_px, log_pz = self.log_joint(batch, z, prior)
        fixed = self._fixed_posterior(features) if path_only else q
        kl = distributions.kl_per_dimension(q, prior)
        return Evidence(log_px, log_pz, fixed.log_prob(z), kl, (z,))

    def _fixed_posterior(self, features: Tensor) -> Distribution:
        """The same q(z | x), cut off from the gradient of its parameters."""
        weights = {name: p.detach() for name, p in self.posterior.named_parameters()}
        q: Distribution = torch.func.functional_call(self.posterior, weights, features.detach())
        return q
