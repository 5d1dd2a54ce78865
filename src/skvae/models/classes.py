"""The variational autoencoder whose rows have classes, known or not: M2."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from skvae import distributions, rng
from skvae.discrete import OneHot
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.models.base import GenerativeModel, LatentModule
from skvae.models.classifying import ClassifyingModule, check_class_prior, known, logits_of
from skvae.networks import Network, check_activation
from skvae.networks.base import ACTIVATIONS
from skvae.posteriors import PosteriorModule
from skvae.spec import at_least

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["M2", "ClassEvidence", "ClassModule", "ClassPosterior", "ClassPrior"]


@dataclass(frozen=True)
class M2(GenerativeModel, name="m2"):
    """p(y) p(z) p(x | y, z) with q(y | x) q(z | x, y): a class y beside the latent vector [1]_.

    Where y is known, the bound is that on log p(x, y); where it is not, all classes are summed
    over, exactly. What q(y | x) has of its own is an encoder as the network's; q(z | x, y) shares
    one encoder over all classes. A flat z is [z, y], y as indicators.

    Parameters
    ----------
    n_classes : int
    class_prior : tuple of float or "learned"
        p(y); ``()`` is uniform.
    hidden_size : int
        Width of the layer in which q(z | x, y) sees the class.
    activation : str
        Of that layer, as in `networks.MLP`.
    judge : networks.Network or None
        Body of q(y | x); None is one like the encoder's.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298
    """

    n_classes: int = 2
    class_prior: tuple[float, ...] | str = ()
    hidden_size: int = 256
    activation: str = "silu"
    judge: Network | None = None

    def __post_init__(self) -> None:
        at_least(self.n_classes, 2, "M2: n_classes")
        at_least(self.hidden_size, 1, "M2: hidden_size")
        check_activation(self.activation)
        check_class_prior("M2", self.class_prior, self.n_classes)

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return ClassModule(parts, self)

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of z and y together."""
        return Latent(self.prior_latent(parts).width + self.n_classes, "mixed")

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of z alone."""
        return parts.posterior.latent(parts.n_components)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        reason = None
        if parts.prior.name == "vamp":
            reason = f"prior={parts.prior.name!r}: q(z | x) is a mixture over classes there"
        if not parts.posterior.has_density or parts.posterior.space == "one_hot":
            reason = (
                f"posterior={parts.posterior.name!r}: the bounds of the classes are compared, for "
                "which q(z | x, y) needs a density on continuous z"
            )
        if reason:
            raise ParameterError(f"model={self.name!r} does not go with {reason}.")


@dataclass(frozen=True)
class ClassEvidence(Evidence):
    """Evidence in which classes are summed over.

    The densities of `Evidence` are averages over q(y | x), or those of the known class.

    Attributes
    ----------
    log_joint : Tensor, shape (K, B)
        log Σ_y p(x, y, z_y) / q(z_y | x, y), or the term of the known class: the weights of an
        estimate of p(x), or of p(x, y), that has no need of q(y | x).
    bound : Tensor, shape (B, C)
        ELBO of log p(x, y) for each class; −inf for classes that are known to be wrong.
    """

    log_joint: Tensor | None = None
    bound: Tensor | None = None

    @property
    def log_w(self) -> Tensor:
        """Importance log-weights, shape (K, B)."""
        assert self.log_joint is not None
        return self.log_joint


class ClassModule(ClassifyingModule):
    """The wiring of M2."""

    def __init__(self, spec: "Assembly", model: M2) -> None:
        super().__init__(spec)
        self.n_classes = model.n_classes
        self.d = model.prior_latent(spec).width
        self.judge = (model.judge or spec.network).build_encoder(self.likelihood.input_shape)
        self.verdict = nn.Linear(self.judge.out_features, model.n_classes)
        nn.init.zeros_(self.verdict.weight)
        nn.init.zeros_(self.verdict.bias)
        self.from_features = nn.Linear(self.encoder.out_features, model.hidden_size)
        self.from_class = nn.Embedding(model.n_classes, model.hidden_size)
        self.activation = ACTIVATIONS[model.activation]()
        self.posterior = spec.posterior.build(spec.n_components, model.hidden_size)
        width = self.posterior.embedding_width(model.prior_latent(spec))
        self.decoder = self._build_decoder(width + model.n_classes)
        self.class_logits = logits_of(model.class_prior, model.n_classes)

    def log_class(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x), shape (B, C)."""
        shown = self.likelihood.represent(batch.x, batch.mask)
        return torch.log_softmax(self.verdict(self._body(self.judge, *shown)), -1)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them."""
        super().calibrate(mean, unit, rows)
        with torch.no_grad():
            shown, _ = self.likelihood.represent(rows, ~rows.isnan())
        self.judge.calibrate(mean if shown is rows else shown.mean(0), shown)

    def infer(self, batch: Batch) -> "ClassPosterior":
        """q(z, y | x), batch shape (B,), event shape (d + C,); hidden cells are ignored."""
        return ClassPosterior(
            self.posterior, self._contexts(self._features(batch)), self.log_class(batch)
        )

    def prior_distribution(self) -> "ClassPrior":
        """p(z) p(y), event shape (d + C,)."""
        return ClassPrior(self.prior(self.infer_prior_part), OneHot(self.class_logits[None]))

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z, y) for [z, y] (..., d + C), batch shape (..., *event)."""
        shown = self.posterior.embed(z[..., : self.d], None)
        return self._emit(torch.cat([shown, z[..., self.d :]], -1))

    def _contexts(self, features: Tensor) -> Tensor:
        """What q(z | x, y) is made of, for each class, (C, B, H)."""
        contexts: Tensor = self.activation(
            self.from_features(features) + self.from_class.weight[:, None]
        )
        return contexts

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> ClassEvidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x, y) for each class that is possible.

        With ``path_only``, gradients are those of the bound itself all the same.
        """
        rows, classes = self.pairs(batch)  # (P,) each
        contexts = self._contexts(self._features(batch))
        q: Distribution = self.posterior(contexts[classes, rows])
        every = batch.y is None
        z = distributions.draw(
            q, (n_samples,), rng.Repeated(noise, self.n_classes) if every else noise
        )  # (K, P, d)
        code = F.one_hot(classes, self.n_classes).to(z.dtype)
        shown = torch.cat([self.posterior.embed(z, q), code.expand(n_samples, *code.shape)], -1)
        own = batch.rows(rows)
        again = rng.Repeated(noise, self.n_classes) if every else noise
        log_px = self._log_px(own, self._emit(shown), again)  # (K, P)
        prior = self.prior(self.infer_prior_part)
        log_pz, log_qz = prior.log_prob(z), q.log_prob(z)
        kl = distributions.kl_per_dimension(q, prior)  # (P, g)
        if kl is None:
            kl = (log_qz - log_pz).mean(0).unsqueeze(-1)
        log_q, log_p = self.log_class(batch), torch.log_softmax(self.class_logits, -1)
        is_known = known(batch)  # (B,)
        weight = log_q.exp()
        if batch.y is not None:
            indicator = F.one_hot(batch.y.clamp(min=0), self.n_classes).to(weight.dtype)
            weight = torch.where(is_known[:, None], indicator, weight)
        of_pair = weight[rows, classes]
        size = len(batch.x)

        def averaged(values: Tensor) -> Tensor:
            """Weighted sum over the classes of values (..., P), shape (..., B)."""
            out = values.new_zeros(*values.shape[:-1], size)
            return out.index_add(-1, rows, values * of_pair)

        # −log p(y), or KL(q(y | x) || p(y))
        of_class = (weight * (torch.where(is_known[:, None], 0.0, log_q) - log_p)).sum(-1)
        joint = log_px + log_pz - log_qz + log_p[classes]
        table = joint.new_full((n_samples, size, self.n_classes), -torch.inf)
        bound = joint.new_full((size, self.n_classes), -torch.inf)
        return ClassEvidence(
            log_px=averaged(log_px),
            log_pz=averaged(log_pz),
            log_qz=averaged(log_qz) + of_class,
            kl=torch.cat([averaged(kl.T).T, of_class[:, None]], -1),
            posterior=ClassPosterior(self.posterior, contexts, log_q),
            log_joint=torch.logsumexp(
                table.index_put((torch.arange(n_samples)[:, None], rows, classes), joint), -1
            ),
            bound=bound.index_put((rows, classes), log_px.mean(0) - kl.sum(-1) + log_p[classes]),
        )


class ClassPosterior(Distribution):
    """q(z, y | x) = q(y | x) q(z | x, y), y as indicators after z.

    Parameters
    ----------
    posterior : PosteriorModule
    contexts : Tensor, shape (C, B, H)
        What it makes q(z | x, y) of.
    log_class : Tensor, shape (B, C)
        log q(y | x).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, posterior: PosteriorModule, contexts: Tensor, log_class: Tensor) -> None:
        self.laws = [posterior(context) for context in contexts]
        self.log_class = log_class
        self.d = self.laws[0].event_shape[0]
        event = torch.Size([self.d + log_class.shape[-1]])
        super().__init__(log_class.shape[:-1], event, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """E[z | x] and q(y | x), shape (B, d + C)."""
        p = self.log_class.exp()
        z = torch.stack([law.mean for law in self.laws], 1)  # (B, C, d)
        return torch.cat([(p[..., None] * z).sum(1), p], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., B, d + C), shape (..., B)."""
        z, y = value.split([self.d, self.log_class.shape[-1]], -1)
        each = torch.stack([law.log_prob(z) for law in self.laws], -1) + self.log_class
        return torch.where(y > 0.5, each, 0.0).sum(-1)


@distributions.draw.register
def _(distribution: ClassPosterior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    y = distributions.draw(OneHot(distribution.log_class[..., None, :]), shape, noise)
    drawn = [distributions.draw(law, shape, noise) for law in distribution.laws]
    z = (torch.stack(drawn, -1) * y[..., None, :]).sum(-1)
    return torch.cat([z, y], -1)


class ClassPrior(Distribution):
    """p(z) p(y), y after z.

    Parameters
    ----------
    prior : Distribution, event shape (d,)
    classes : Distribution
        Of y: `OneHot` of one variable, or of what else stands beside z.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, prior: Distribution, classes: Distribution) -> None:
        self.prior, self.classes = prior, classes
        self.d = prior.event_shape[0]
        event = torch.Size([self.d + classes.event_shape[0]])
        super().__init__(prior.batch_shape, event, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ClassPrior":
        """Return the same law for another batch shape."""
        return ClassPrior(self.prior.expand(batch_shape), self.classes.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        """E[z] and p(y)."""
        return torch.cat([self.prior.mean, self.classes.mean], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d + C), shape (...)."""
        z, y = value[..., : self.d], value[..., self.d :]
        return self.prior.log_prob(z) + self.classes.log_prob(y)


@distributions.draw.register
def _(distribution: ClassPrior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    parts = (distribution.prior, distribution.classes)
    return torch.cat([distributions.draw(part, shape, noise) for part in parts], -1)
