"""The variational autoencoder with one latent vector: p(z) p(x | z) and q(z | x)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae import distributions, rng
from skvae.evidence import Batch, Evidence
from skvae.latent import Latent
from skvae.models.base import GenerativeModel, LatentModule

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["OneLevel", "VAEModule", "path_log_q"]


@dataclass(frozen=True)
class OneLevel(GenerativeModel, name="vae"):
    """One latent vector, decoded by the network [1]_.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114
    """

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return VAEModule(parts)

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of z, which the posterior decides."""
        return parts.posterior.latent(parts.n_components)


class VAEModule(LatentModule):
    """The wiring with one latent vector."""

    def __init__(self, spec: "Assembly") -> None:
        super().__init__(spec)
        self.posterior = spec.posterior.build(spec.n_components, self.encoder.out_features)
        self.decoder = self._build_decoder(self.posterior.embedding_width(spec.latent))

    def infer(self, batch: Batch) -> Distribution:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""
        q: Distribution = self.posterior(self._features(batch))
        return q

    def prior_distribution(self) -> Distribution:
        """p(z), event shape (d,)."""
        p: Distribution = self.prior(self.infer_prior_part)
        return p

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""
        return self._emit(self.posterior.embed(z, None))

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x)."""
        features = self._features(batch)
        q: Distribution = self.posterior(features)
        z = distributions.draw(q, (n_samples,), noise)  # (K, B, d)
        point = z.view_as(z)
        prior = self.prior_distribution()
        return Evidence(
            log_px=self._log_px(batch, self._emit(self.posterior.embed(point, q)), noise),
            log_pz=lambda: prior.log_prob(point),
            log_qz=lambda: (
                path_log_q(self.posterior, (features,), point) if path_only else q.log_prob(z)
            ),
            kl=distributions.kl_per_dimension(q, prior),
            draws=(z,),
            posterior=q,
            auxiliary=self.posterior.auxiliary(q),
            points=(point,),
        )


def path_log_q(posterior: nn.Module, features: tuple[Tensor, ...], z: Tensor) -> Tensor:
    """Return log q(z | x), cut off from the gradient of its parameters.

    Parameters
    ----------
    posterior : Module
        From the features, (B, ...) each, to q(z | x).
    features : tuple of Tensor
    z : Tensor, shape (K, B, d)
    """
    density = _Density(posterior)
    weights = {name: p.detach() for name, p in density.named_parameters()}
    fixed = tuple(part.detach() for part in features)
    log_q: Tensor = torch.func.functional_call(density, weights, (z, *fixed))
    return log_q


class _Density(nn.Module):
    """A posterior's density as one call: a flow looks its weights up when it is evaluated."""

    def __init__(self, posterior: nn.Module) -> None:
        super().__init__()
        self.posterior = posterior

    def forward(self, z: Tensor, *features: Tensor) -> Tensor:
        """Return log q(z | x) for z (K, B, d)."""
        log_q: Tensor = self.posterior(*features).log_prob(z)
        return log_q
