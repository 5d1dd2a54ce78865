"""A model of rows with classes on top of a VAE's latent vectors: M1 and M2 stacked."""

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from skvae import distributions, rng
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.likelihoods import Gaussian
from skvae.models.base import GenerativeModel, LatentModule
from skvae.models.classes import M2, ClassEvidence, ClassModule
from skvae.models.classifying import ClassifyingModule, check_class_prior
from skvae.networks import MLP, check_activation
from skvae.posteriors import Diagonal
from skvae.priors import PriorModule
from skvae.spec import at_least, check_sizes

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["M1M2", "StackedModule"]


@dataclass(frozen=True)
class M1M2(GenerativeModel, name="m1+m2"):
    """p(y) p(z₂) p(z₁ | y, z₂) p(x | z₁): `M2` for the latent vectors z₁ of a VAE [1]_.

    A flat z is [z₂, y, z₁]. The parts of the assembly are those of the VAE, but for the prior,
    which is that of z₂. One bound holds for all of it; the paper, and `VAEClassifier`, train the
    VAE first, with a standard normal for z₁, and leave it then as it is.

    Parameters
    ----------
    n_classes : int
    class_prior : tuple of float or "learned"
        p(y); ``()`` is uniform.
    n_components : int
        Size of z₂.
    kept : tuple of int
        Which variables of z₁ there are: q(z | x) of the others says nothing of x, and they stay
        standard normal. ``()`` is all.
    hidden_layer_sizes : tuple of int
        Of the networks between z₁ and z₂.
    hidden_size : int
        Width of the layer in which q(z₂ | z₁, y) sees the class.
    activation : str

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298
    """

    n_classes: int = 2
    class_prior: tuple[float, ...] | str = ()
    n_components: int = 50
    kept: tuple[int, ...] = ()
    hidden_layer_sizes: tuple[int, ...] = (300,)
    hidden_size: int = 300
    activation: str = "silu"

    def __post_init__(self) -> None:
        for name, least in (("n_classes", 2), ("n_components", 1), ("hidden_size", 1)):
            at_least(getattr(self, name), least, f"M1M2: {name}")
        check_class_prior("M1M2", self.class_prior, self.n_classes)
        check_activation(self.activation)
        sizes = check_sizes(self.hidden_layer_sizes, "M1M2: hidden_layer_sizes")
        object.__setattr__(self, "hidden_layer_sizes", sizes)
        if list(self.kept) != sorted(set(self.kept)) or any(i < 0 for i in self.kept):
            raise ParameterError(
                f"M1M2: kept must be numbers of latent variables, rising; received {self.kept!r}."
            )

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return StackedModule(parts, self)

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of z₂, y and z₁ together."""
        width = parts.posterior.latent(parts.n_components).width
        return Latent(self.n_components + self.n_classes + width, "mixed")

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of z₂."""
        return Latent(self.n_components)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        reason = None
        if parts.prior.name == "vamp":
            reason = f"prior={parts.prior.name!r}: q(z₂ | x) is a mixture over classes there"
        if not parts.posterior.has_density or parts.posterior.space != "real":
            reason = f"posterior={parts.posterior.name!r}: the law p(z₁ | y, z₂) is Gaussian"
        if self.kept and self.kept[-1] >= parts.posterior.latent(parts.n_components).width:
            reason = f"n_components={parts.n_components}: kept={self.kept!r} names more"
        if reason:
            raise ParameterError(f"model={self.name!r} does not go with {reason}.")

    def upper(self, parts: "Assembly", width: int) -> "Assembly":
        """Return the parts of the model of z₁, of which ``width`` variables are kept."""
        given = {f.name: getattr(parts, f.name) for f in fields(parts)}
        own = {
            "event_shape": (width,),
            "n_components": self.n_components,
            "likelihood": Gaussian(scale="per_cell"),
            "posterior": Diagonal(),
            "network": MLP(self.hidden_layer_sizes, activation=self.activation),
            "model": M2(self.n_classes, self.class_prior, self.hidden_size, self.activation),
            "missingness": None,
        }
        return type(parts)(**(given | own))


class StackedModule(ClassifyingModule):
    """The wiring of M1+M2."""

    kept: Tensor
    dropped: Tensor

    def __init__(self, spec: "Assembly", model: M1M2) -> None:
        super().__init__(spec)
        self.n_classes, self.d = model.n_classes, model.n_components
        width = spec.posterior.latent(spec.n_components).width
        self.posterior = spec.posterior.build(spec.n_components, self.encoder.out_features)
        self.decoder = self._build_decoder(
            self.posterior.embedding_width(spec.posterior.latent(spec.n_components))
        )
        kept = list(model.kept) or list(range(width))
        dropped = [i for i in range(width) if i not in kept]
        self.register_buffer("kept", torch.tensor(kept), persistent=False)
        self.register_buffer("dropped", torch.tensor(dropped, dtype=torch.long), persistent=False)
        upper = model.upper(spec, len(kept))
        assert isinstance(upper.model, M2)
        self.upper = ClassModule(upper, upper.model)
        del self._modules["prior"]  # that of z₂ is the upper model's

    @property
    def prior(self) -> PriorModule:  # type: ignore[override]
        """p(z₂)."""
        return self.upper.prior

    @property
    def class_logits(self) -> nn.Parameter:  # type: ignore[override]
        """Of p(y), up to a constant."""
        return self.upper.class_logits

    def put_prior(self, prior: PriorModule) -> None:
        """Make this p(z₂)."""
        self.upper.put_prior(prior)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them."""
        super().calibrate(mean, unit, rows)
        self.calibrate_upper(Batch(rows, ~rows.isnan()))

    @torch.no_grad()
    def calibrate_upper(self, batch: Batch) -> None:
        """Let the model of z₁ start from where some rows are."""
        z = self._below(batch).mean[..., self.kept]
        self.upper.calibrate(z.mean(0), torch.ones_like(z[0]), z)

    def _below(self, batch: Batch) -> Distribution:
        """q(z₁ | x), batch shape (B,)."""
        q: Distribution = self.posterior(self._features(batch))
        return q

    def encode(self, batch: Batch, noise: rng.Noise | None = None) -> Batch:
        """Return z₁ in place of x, as the model of z₁ sees it: its mean, or with noise a draw."""
        q = self._below(batch)
        z = q.mean if noise is None else distributions.draw(q, (), noise)
        return Batch(z[..., self.kept], y=batch.y)

    def log_class(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | z₁), shape (B, C), at the mean of z₁, or with noise at a draw."""
        return self.upper.log_class(self.encode(batch, noise), noise)

    def infer(self, batch: Batch) -> "StackedPosterior":
        """q(z₂, y, z₁ | x), batch shape (B,), event shape (d₂ + C + d₁)."""
        return StackedPosterior(self._below(batch), self.upper, self.kept)

    def prior_distribution(self) -> "StackedPrior":
        """p(z₂) p(y) p(z₁ | y, z₂), event shape (d₂ + C + d₁,)."""
        return StackedPrior(self.upper, self.kept, self.dropped)

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z₁) for [z₂, y, z₁], batch shape (..., *event)."""
        return self._emit(self.posterior.embed(z[..., self.d + self.n_classes :], None))

    def further(self, above: Tensor, noise: rng.Noise | None) -> Tensor:
        """Return [z₂, y, z₁] for [z₂, y]."""
        return self.prior_distribution().further(above, noise)

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> ClassEvidence:
        """Log-densities at ``n_samples`` draws of z₁, each with one of z₂ for each class.

        With ``path_only``, gradients are those of the bound itself all the same.
        """
        q = self._below(batch)
        z = distributions.draw(q, (n_samples,), noise)  # (K, B, d)
        log_qz, log_rest = q.log_prob(z), _log_normal(z[..., self.dropped])
        log_px = self._log_px(batch, self._emit(self.posterior.embed(z, q)), noise)
        y = None if batch.y is None else batch.y.repeat(n_samples)
        rows = Batch(z[..., self.kept].flatten(0, 1), y=y)
        own = self.upper.evidence(rows, 1, rng.Repeated(noise, n_samples))

        def shaped(values: Any) -> Tensor:
            """(1, K · B) or (K · B,) as (K, B)."""
            out: Tensor = values.view(log_px.shape)
            return out

        assert own.bound is not None
        log_pz1 = shaped(own.log_px) + log_rest
        return ClassEvidence(
            log_px=log_px,
            log_pz=log_pz1 + shaped(own.log_pz),
            log_qz=log_qz + shaped(own.log_qz),
            kl=(log_qz - log_pz1 + shaped(own.kl_rows)).mean(0)[:, None],
            posterior=self.infer(batch),
            log_joint=log_px + log_rest - log_qz + shaped(own.log_w),
            bound=(log_px + log_rest - log_qz).mean(0)[:, None]
            + own.bound.unflatten(0, log_px.shape).mean(0),
        )


def _log_normal(z: Tensor) -> Tensor:
    return (-0.5 * (z.square() + math.log(2 * math.pi))).sum(-1)


class StackedPosterior(Distribution):
    """q(z₁ | x) q(z₂, y | z₁), as [z₂, y, z₁].

    Parameters
    ----------
    below : Distribution, batch shape (B,), event shape (d₁,)
    upper : ClassModule
    kept : Tensor
        Which of z₁ the model of z₁ sees.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, below: Distribution, upper: ClassModule, kept: Tensor) -> None:
        self.below, self.upper, self.kept = below, upper, kept
        event = torch.Size([upper.d + upper.n_classes + below.event_shape[0]])
        super().__init__(below.batch_shape, event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """E[z₂ | z₁] and q(y | z₁) at the mean of z₁, and that, shape (B, d₂ + C + d₁)."""
        z = self.below.mean
        return torch.cat([self._above(z).mean, z], -1)

    def _above(self, z: Tensor) -> Distribution:
        """q(z₂, y | z₁) for z₁ (..., d₁), with the rows of all leading axes as one batch."""
        return self.upper.infer(Batch(z[..., self.kept].reshape(-1, len(self.kept))))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., B, d₂ + C + d₁), shape (..., B)."""
        above, z = value.split(
            [self.event_shape[0] - self.below.event_shape[0], self.below.event_shape[0]], -1
        )
        shape = value.shape[:-1]
        own = self._above(z).log_prob(above.reshape(-1, above.shape[-1])).view(shape)
        return own + self.below.log_prob(z)


@distributions.draw.register
def _(distribution: StackedPosterior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    z = distributions.draw(distribution.below, shape, noise)  # (*shape, B, d₁)
    times = math.prod(shape)
    above = distributions.draw(distribution._above(z), (), rng.Repeated(noise, times))
    return torch.cat([above.view(*z.shape[:-1], -1), z], -1)


class StackedPrior(Distribution):
    """p(z₂) p(y) p(z₁ | y, z₂), as [z₂, y, z₁].

    Parameters
    ----------
    upper : ClassModule
    kept, dropped : Tensor
        Which of z₁ are described by the model of z₁, and which are standard normal.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, upper: ClassModule, kept: Tensor, dropped: Tensor) -> None:
        self.upper, self.kept, self.dropped = upper, kept, dropped
        self.above = upper.prior_distribution()
        self.width = len(kept) + len(dropped)
        event = torch.Size([upper.d + upper.n_classes + self.width])
        super().__init__(torch.Size(), event, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "StackedPrior":
        """Return the same law for another batch shape."""
        other = StackedPrior(self.upper, self.kept, self.dropped)
        other.above = self.above.expand(batch_shape)
        other._batch_shape = torch.Size(batch_shape)
        return other

    @property
    def mean(self) -> Tensor:
        """E[z₂], p(y), and the mean of z₁ at these."""
        return self.further(self.above.mean, None)

    def further(
        self, above: Tensor, noise: rng.Noise | None, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return [z₂, y, z₁] for [z₂, y] (*shape, B, ·), with z₁ at its mean or drawn."""
        p = self.upper.generate(above)
        z = above.new_zeros(*above.shape[:-1], self.width)
        z[..., self.kept] = p.mean
        if noise is not None:
            eps = noise.normal(shape, z.new_empty(z.shape[len(shape) :]))
            z[..., self.kept] += p.stddev * eps[..., self.kept]
            z[..., self.dropped] = eps[..., self.dropped]
        return torch.cat([above, z], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d₂ + C + d₁), shape (...)."""
        above, z = value.split([value.shape[-1] - self.width, self.width], -1)
        given = self.upper.generate(above).log_prob(z[..., self.kept]).sum(-1)
        return self.above.log_prob(above) + given + _log_normal(z[..., self.dropped])


@distributions.draw.register
def _(distribution: StackedPrior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    above = distributions.draw(distribution.above, shape, noise)
    return distribution.further(above, noise, shape)
