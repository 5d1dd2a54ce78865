"""Codes whose coordinates vary independently of each other over the data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent
from torch.nn.functional import softplus

from skvae.distributions import log_mean_exp
from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.networks import MLP
from skvae.penalties.base import Penalty
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import check_finite, check_sizes

__all__ = ["DIP", "FactorVAE", "TotalCorrelation"]

Kind = Literal["i", "ii"]

PRODUCT = "it needs a posterior that is a product over the latent dimensions, such as 'diagonal'"


def product(q: Distribution | None) -> Independent:  # type: ignore[type-arg]
    """Return q as a product over coordinates.

    Raises
    ------
    ParameterError
        It is none: a model of several levels chains its posteriors.
    """
    if not isinstance(q, Independent):
        raise ParameterError(f"The penalty does not go with this model: {PRODUCT}.")
    return q


@dataclass(frozen=True)
class TotalCorrelation(Penalty, name="total_correlation"):
    """KL(q(z) || Π_j q(z_j)) of the aggregate posterior: with the ELBO, the β-TC-VAE [1]_.

    The KL of the ELBO is the sum of the information between rows and codes, of this total
    correlation, and of the KL of each q(z_j) to the prior. So
    ``ELBO() + TotalCorrelation(beta - 1)`` weights the total correlation with β, the rest with 1.

    q(z) is the average of the posteriors of the batch. That is unbiased where the batch is the
    whole data set; otherwise the posterior that z came from counts for more than its share. The
    "minibatch-weighted" estimate of [1]_ differs by (d − 1) log n, which has no gradient.

    Parameters
    ----------
    weight : float

    References
    ----------
    .. [1] Chen et al., "Isolating Sources of Disentanglement in Variational Autoencoders", 2018,
       arXiv:1802.04942
    """

    weight: float = 5.0

    def __post_init__(self) -> None:
        check_finite(self, "weight")

    def objection(self, posterior: Posterior) -> str | None:
        """The density of each coordinate must be known."""
        return None if posterior.factorizes else PRODUCT

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        z = evidence.draws[0].unsqueeze(2)  # (K, B, 1, d)
        log_q = product(evidence.posterior).base_dist.log_prob(z)  # (K, B, B, d)
        joint = log_mean_exp(log_q.sum(-1), 2)  # (K, B): one weight for all coordinates of a row
        marginals = log_mean_exp(log_q, 2).sum(-1)
        return self.weight * (joint - marginals).mean()


@dataclass(frozen=True)
class FactorVAE(Penalty, name="factor"):
    """Total correlation by a discriminator that is trained along with the model [1]_.

    The discriminator tells codes from codes whose coordinates come from different rows; its logit
    estimates log q(z) − Σ_j log q(z_j). Unlike `TotalCorrelation` it needs no density, and no
    batch that stands for the data set; it does need a while to learn.

    Parameters
    ----------
    weight : float
    hidden_layer_sizes : tuple of int
        Widths of the discriminator's hidden layers.

    References
    ----------
    .. [1] Kim and Mnih, "Disentangling by Factorising", 2018, arXiv:1802.05983
    """

    weight: float = 10.0
    hidden_layer_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        check_finite(self, "weight")
        sizes = check_sizes(self.hidden_layer_sizes, "FactorVAE: hidden_layer_sizes")
        object.__setattr__(self, "hidden_layer_sizes", sizes)

    def objection(self, posterior: Posterior) -> str | None:
        """Coordinates must be able to vary independently, and draws must have a gradient."""
        if posterior.space != "real":
            return "the coordinates of its z depend on each other by construction"
        if not posterior.reparameterized:
            return "the penalty has a gradient through the draws alone, and these have none"
        return None

    def start(self, width: int) -> Penalty:
        """Return the penalty with a fresh discriminator."""
        return FactorRun(self, width)

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Refuse: there is no discriminator yet."""
        raise ParameterError(
            "FactorVAE learns a discriminator: call what `start(width)` returns instead."
        )


class FactorRun(Penalty):
    """One training run of `FactorVAE`."""

    def __init__(self, spec: FactorVAE, width: int) -> None:
        self.spec = spec
        self.discriminator = MLP(spec.hidden_layer_sizes[::-1]).build_decoder(width, (1,))

    def parameters(self) -> Iterator[nn.Parameter]:
        """Weights of the discriminator."""
        return self.discriminator.parameters()

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Return the weighted penalty plus the discriminator's cross-entropy.

        The model's weights get the gradient of the first alone, the discriminator's that of the
        second alone.
        """
        z = evidence.draws[0][0]  # (B, d)
        discriminator = self.discriminator.to(z)
        fixed = {name: p.detach() for name, p in discriminator.named_parameters()}
        logits: Tensor = torch.func.functional_call(discriminator, fixed, z)
        z = z.detach()
        codes, mixed = discriminator(z), discriminator(shuffled(z, noise))
        cross_entropy = 0.5 * (softplus(-codes) + softplus(mixed)).mean()
        return self.spec.weight * logits.mean() + cross_entropy


def shuffled(z: Tensor, noise: Noise) -> Tensor:
    """Permute each coordinate of z (B, d) over the rows, independently of the others."""
    mixed: Tensor = z.gather(0, noise.uniform((), z).argsort(0))
    return mixed


@dataclass(frozen=True)
class DIP(Penalty, name="dip"):
    """Distance of the codes' covariance over the batch from the identity: the DIP-VAE [1]_.

    ``off_diagonal · Σ_{i≠j} C_ij² + diagonal · Σ_i (C_ii − 1)²``.

    Parameters
    ----------
    off_diagonal, diagonal : float
        Weights.
    kind : {"i", "ii"}
        ``"i"``: C is the covariance of the posterior means. ``"ii"``: C is that of z itself, to
        which the mean of the posterior variances is added.

    References
    ----------
    .. [1] Kumar, Sattigeri and Balakrishnan, "Variational Inference of Disentangled Latent
       Concepts from Unlabeled Observations", 2018, arXiv:1711.00848
    """

    off_diagonal: float = 10.0
    diagonal: float = 10.0
    kind: Kind = "i"

    def __post_init__(self) -> None:
        check_finite(self, "off_diagonal", "diagonal")
        if self.kind not in get_args(Kind):
            raise ParameterError(f"DIP: kind must be 'i' or 'ii'; received {self.kind!r}.")

    def objection(self, posterior: Posterior) -> str | None:
        """The identity must be a covariance that z can have."""
        if posterior.space != "real":
            return "the coordinates of its z cannot be uncorrelated with variance 1"
        return PRODUCT if self.kind == "ii" and not posterior.factorizes else None

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty."""
        q = evidence.posterior or model.infer(batch)
        centred = q.mean - q.mean.mean(0)  # (B, d)
        covariance = centred.T @ centred / len(centred)  # (d, d)
        if self.kind == "ii":
            covariance = covariance + torch.diag(product(q).variance.mean(0))
        own = covariance.diagonal()
        between = (covariance - torch.diag(own)).square().sum()
        return self.off_diagonal * between + self.diagonal * (own - 1).square().sum()
