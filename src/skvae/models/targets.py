"""The variational autoencoder whose rows have numbers as targets, known or not."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from skvae import distributions, rng
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.models.base import GenerativeModel, LatentModule
from skvae.models.classes import ClassPrior
from skvae.models.vae import path_log_q
from skvae.networks import check_activation
from skvae.networks.base import ACTIVATIONS
from skvae.posteriors import PosteriorModule
from skvae.posteriors.gaussian import DiagonalModule
from skvae.spec import at_least

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["M2Regression", "TargetModule", "TargetPosterior"]


@dataclass(frozen=True)
class M2Regression(GenerativeModel, name="m2_regression"):
    """p(y) p(z) p(x | y, z) with q(y | x) q(z | x, y): real numbers y beside the latent vector.

    What M2 [1]_ is for classes, for targets that are standard normal before x is seen. Where y is
    known, the bound is that on log p(x, y); where it is not, y is drawn from the Gaussian q(y | x)
    by reparameterisation, and the bound is that on log p(x). Of several targets each may be known
    or not. What q(y | x) has of its own is an encoder as the network's; q(z | x, y) shares one
    encoder over all y. A flat z is [z, y].

    Parameters
    ----------
    n_targets : int
    hidden_size : int
        Width of the layer in which q(z | x, y) sees the targets.
    activation : str
        Of that layer, as in `networks.MLP`.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298
    """

    n_targets: int = 1
    hidden_size: int = 256
    activation: str = "silu"

    def __post_init__(self) -> None:
        at_least(self.n_targets, 1, "M2Regression: n_targets")
        at_least(self.hidden_size, 1, "M2Regression: hidden_size")
        check_activation(self.activation)

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return TargetModule(parts, self)

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of z and y together."""
        own = self.prior_latent(parts)
        return Latent(own.width + self.n_targets, "real" if own.space == "real" else "mixed")

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of z alone."""
        return parts.posterior.latent(parts.n_components)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        reason = None
        if parts.prior.name == "vamp":
            reason = f"prior={parts.prior.name!r}: q(z | x) is a mixture over targets there"
        if not parts.posterior.has_density or parts.posterior.space == "one_hot":
            reason = (
                f"posterior={parts.posterior.name!r}: the gradient of q(y | x) passes through the "
                "density of q(z | x, y), which needs continuous z"
            )
        if reason:
            raise ParameterError(f"model={self.name!r} does not go with {reason}.")


class TargetModule(LatentModule):
    """The wiring with targets.

    Attributes
    ----------
    n_targets : int
    d : int
        Size of z without y.
    """

    def __init__(self, spec: "Assembly", model: M2Regression) -> None:
        super().__init__(spec)
        self.n_targets = model.n_targets
        self.d = model.prior_latent(spec).width
        self.judge = spec.network.build_encoder(self.likelihood.input_shape)
        self.recognition = Recognition(
            model,
            self.judge.out_features,
            self.encoder.out_features,
            spec.posterior.build(spec.n_components, model.hidden_size),
            self.d,
        )
        width = self.recognition.posterior.embedding_width(model.prior_latent(spec))
        self.decoder = self._build_decoder(width + model.n_targets)

    def target(self, batch: Batch) -> Independent:  # type: ignore[type-arg]
        """q(y | x), batch shape (B,), event shape (n_targets,), whatever y the batch has."""
        q: Independent = self.recognition.target(self._judged(batch))  # type: ignore[type-arg]
        return q

    def log_label(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x) of the targets that are known, summed over these, shape (B,)."""
        known, y = _targets(batch, self.n_targets)
        return torch.where(known, self.target(batch).base_dist.log_prob(y), 0.0).sum(-1)

    def _judged(self, batch: Batch) -> Tensor:
        return self._body(self.judge, *self.likelihood.represent(batch.x, batch.mask))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them."""
        super().calibrate(mean, unit, rows)
        with torch.no_grad():
            shown, _ = self.likelihood.represent(rows, ~rows.isnan())
        self.judge.calibrate(mean if shown is rows else shown.mean(0), shown)

    def infer(self, batch: Batch) -> "TargetPosterior":
        """q(z, y | x), batch shape (B,), event shape (d + n_targets,).

        Hidden cells are ignored, and targets that are known are what they are.
        """
        known, y = _targets(batch, self.n_targets)
        q: TargetPosterior = self.recognition(self._judged(batch), self._features(batch), known, y)
        return q

    def target_prior(self) -> Independent:  # type: ignore[type-arg]
        """p(y), event shape (n_targets,)."""
        zero = next(self.recognition.parameters()).new_zeros(self.n_targets)
        return Independent(
            Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False
        )

    def prior_distribution(self) -> ClassPrior:
        """p(z) p(y), event shape (d + n_targets,)."""
        return ClassPrior(self.prior(self.infer_prior_part), self.target_prior())

    def prior_part(self, z: Tensor) -> Tensor:
        """Return z without y."""
        return z[..., : self.d]

    def of_target(self, z: Tensor, y: Tensor) -> Tensor:
        """Return [z, y] with other targets y (..., n_targets)."""
        return torch.cat([z[..., : self.d], y.to(z).expand(*z.shape[:-1], -1)], -1)

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z, y) for [z, y] (..., d + n_targets), batch shape (..., *event)."""
        shown = self.recognition.posterior.embed(z[..., : self.d], None)
        return self._emit(torch.cat([shown, z[..., self.d :]], -1))

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws of y ~ q(y | x), where it is unknown, and of z.

        The KL has a column for each target: KL(q(y | x) || p(y)), or −log p(y) where y is known,
        so that the bound is that on log p(x, y) there.
        """
        known, y = _targets(batch, self.n_targets)
        inputs = self._judged(batch), self._features(batch), known, y
        q: TargetPosterior = self.recognition(*inputs)
        z = distributions.draw(q, (n_samples,), noise)  # (K, B, d + n_targets)
        point = z.view_as(z)
        prior, p_y = self.prior(self.infer_prior_part), self.target_prior()
        joint = ClassPrior(prior, p_y)
        kl_y = torch.where(
            known,
            -p_y.base_dist.log_prob(y),
            torch.distributions.kl_divergence(q.target.base_dist, p_y.base_dist),
        )  # (B, n_targets)
        law = q.given(z[..., self.d :])
        kl_z = distributions.kl_per_dimension(law, prior)  # (K · B, g)
        if kl_z is None:
            code = z[..., : self.d].flatten(0, 1)
            kl_z = (law.log_prob(code) - prior.log_prob(code)).unsqueeze(-1)
        return Evidence(
            log_px=self._log_px(batch, self.generate(point), noise),
            log_pz=lambda: joint.log_prob(point),
            log_qz=lambda: (
                path_log_q(self.recognition, inputs, point) if path_only else q.log_prob(z)
            ),
            kl=torch.cat([kl_z.unflatten(0, (n_samples, -1)).mean(0), kl_y], -1),
            draws=(z,),
            posterior=q,
            points=(point,),
        )


def _targets(batch: Batch, n_targets: int) -> tuple[Tensor, Tensor]:
    """Return which targets are known, and their values or 0, (B, n_targets) each."""
    if batch.y is None:
        y = batch.x.new_zeros(len(batch.x), n_targets)
        return torch.zeros_like(y, dtype=torch.bool), y
    return ~batch.y.isnan(), batch.y.to(batch.x.dtype).nan_to_num(0.0)


class Recognition(nn.Module):
    """q(y | x) q(z | x, y), from what two encoders make of x."""

    def __init__(
        self,
        model: M2Regression,
        judged: int,
        features: int,
        posterior: PosteriorModule,
        d: int,
    ) -> None:
        super().__init__()
        self.d = d
        self.target = DiagonalModule(model.n_targets, judged)
        nn.init.zeros_(self.target.head.weight)  # q(y | x) starts as p(y)
        nn.init.zeros_(self.target.head.bias)
        self.from_features = nn.Linear(features, model.hidden_size)
        self.from_target = nn.Linear(model.n_targets, model.hidden_size, bias=False)
        self.activation = ACTIVATIONS[model.activation]()
        self.posterior = posterior

    def forward(
        self, judged: Tensor, features: Tensor, known: Tensor, y: Tensor
    ) -> "TargetPosterior":
        """Return q(z, y | x), where some y (B, n_targets) are known."""
        own = self.from_features(features)  # (B, H)

        def given(y: Tensor) -> Distribution:
            """Law of z for targets (..., B, n_targets); the rows are one axis, (... · B,)."""
            context = self.activation(own + self.from_target(y))
            law: Distribution = self.posterior(context.flatten(0, -2))
            return law

        return TargetPosterior(self.target(judged), given, known, y, self.d)


class TargetPosterior(Distribution):
    """q(z, y | x) = q(y | x) q(z | x, y), targets after z.

    Parameters
    ----------
    target : Independent
        q(y | x), batch shape (B,), event shape (n_targets,).
    given : callable
        From targets (..., B, n_targets) to q(z | x, y) for as many rows, all in one axis.
    known : Tensor of bool, shape (B, n_targets)
        Targets that are not drawn, and whose density counts for nothing.
    y : Tensor, shape (B, n_targets)
        Their values.
    d : int
        Size of z.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(
        self,
        target: Independent,  # type: ignore[type-arg]
        given: Callable[[Tensor], Distribution],
        known: Tensor,
        y: Tensor,
        d: int,
    ) -> None:
        self.target, self.given, self.known, self.y, self.d = target, given, known, y, d
        event = torch.Size([d + y.shape[-1]])
        super().__init__(y.shape[:1], event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """E[y | x] beside E[z | x, y] at this y, shape (B, d + n_targets)."""
        y = torch.where(self.known, self.y, self.target.mean)
        return torch.cat([self.given(y).mean, y], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., B, d + n_targets), shape (..., B)."""
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        value = value.expand(*shape, -1)
        z, y = value[..., : self.d], value[..., self.d :]
        log_z: Tensor = self.given(y).log_prob(z.flatten(0, -2)).view(shape)
        log_y = torch.where(self.known, 0.0, self.target.base_dist.log_prob(y)).sum(-1)
        return log_z + log_y


@distributions.draw.register
def _(distribution: TargetPosterior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    # Draw by draw: with all y before all z, noise by row would depend on how many there are.
    drawn = []
    for _ in range(math.prod(shape)):
        y = distributions.draw(distribution.target, (), noise)
        y = torch.where(distribution.known, distribution.y, y)
        drawn.append(torch.cat([distributions.draw(distribution.given(y), (), noise), y], -1))
    return torch.stack(drawn).view(*shape, *drawn[0].shape)
