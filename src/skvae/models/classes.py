"""The variational autoencoder whose rows have classes, known or not: M2."""

import abc
import functools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
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
from skvae.models.classifying import ClassifyingModule, check_class_prior, logits_of
from skvae.networks import Network, check_activation, running_statistics
from skvae.networks.base import ACTIVATIONS
from skvae.spec import at_least

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = [
    "M2",
    "ClassConditionalModule",
    "ClassEvidence",
    "ClassModel",
    "ClassModule",
    "ClassPosterior",
    "ClassPrior",
]


class ClassModel(GenerativeModel, abc.ABC):
    """p(y) p(z) p(x | y, z) with q(y | x) q(z | x, y), whatever z is made of."""

    n_classes: int
    class_prior: tuple[float, ...] | str
    hidden_size: int
    activation: str
    judge: Network | None

    def __post_init__(self) -> None:
        name = type(self).__name__
        at_least(self.n_classes, 2, f"{name}: n_classes")
        at_least(self.hidden_size, 1, f"{name}: hidden_size")
        check_activation(self.activation)
        check_class_prior(name, self.class_prior, self.n_classes)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if parts.prior.name == "vamp":
            raise ParameterError(
                f"model={self.name!r} does not go with prior={parts.prior.name!r}: q(z | x) is a "
                "mixture over classes there."
            )


@dataclass(frozen=True)
class M2(ClassModel, name="m2"):
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
        if not parts.posterior.has_density or parts.posterior.space == "one_hot":
            raise ParameterError(
                f"model={self.name!r} does not go with posterior={parts.posterior.name!r}: the "
                "bounds of the classes are compared, for which q(z | x, y) needs a density on "
                "continuous z."
            )


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


class ClassConditionalModule(ClassifyingModule):
    """A wiring with an encoder for q(y | x), and one for q(z | x, y) in a layer that sees both.

    Subclasses say what z is.
    """

    def __init__(self, spec: "Assembly", model: ClassModel) -> None:
        super().__init__(spec)
        self.n_classes = model.n_classes
        self.judge = (model.judge or spec.network).build_encoder(self.likelihood.input_shape)
        self.verdict = nn.Linear(self.judge.out_features, model.n_classes)
        nn.init.zeros_(self.verdict.weight)
        nn.init.zeros_(self.verdict.bias)
        self.from_features = nn.Linear(self.encoder.out_features, model.hidden_size)
        self.from_class = nn.Embedding(model.n_classes, model.hidden_size)
        self.activation = ACTIVATIONS[model.activation]()
        self.class_logits = logits_of(model.class_prior, model.n_classes)

    @abc.abstractmethod
    def _laws(self, contexts: Tensor) -> Sequence[Distribution]:
        """q(z | x, y) of each class for contexts (C, B, H), batch shape (B,)."""

    @abc.abstractmethod
    def _prior(self) -> Distribution:
        """p(z), event shape (d,)."""

    @abc.abstractmethod
    def _of_pairs(
        self, pairs: Batch, classes: Tensor, contexts: Tensor, n_samples: int, noise: rng.Noise
    ) -> Evidence:
        """Evidence of P rows, each with its class (P,), given what q is made of (P, H)."""

    def log_class(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x), shape (B, C)."""
        return torch.log_softmax(self.verdict(self.judged(batch)), -1)

    def judged(self, batch: Batch) -> Tensor:
        """What the body of q(y | x) makes of x, (B, judge.out_features)."""
        return self._body(self.judge, *self.likelihood.represent(batch.x, batch.mask))

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them."""
        super().calibrate(mean, unit, rows)
        with torch.no_grad():
            shown, _ = self.likelihood.represent(rows, ~rows.isnan())
        self.judge.calibrate(mean if shown is rows else shown.mean(0), shown)

    def infer(self, batch: Batch) -> "ClassPosterior":
        """q(z, y | x), batch shape (B,), event shape (d + C,); hidden cells are ignored."""
        return self._mixture(self._contexts(self._features(batch)), self.log_class(batch))

    def prior_distribution(self) -> "ClassPrior":
        """p(z) p(y), event shape (d + C,)."""
        return ClassPrior(self._prior(), OneHot(self.class_logits[None]))

    def _mixture(self, contexts: Tensor, log_class: Tensor) -> "ClassPosterior":
        return ClassPosterior(functools.partial(self._laws, contexts), self.d, log_class)

    def _emit_of(self, shown: Tensor, classes: Tensor) -> Distribution:
        """p(x | z, y) from what the decoder is to see of z (K, P, ·), for classes (P,)."""
        code = F.one_hot(classes, self.n_classes).to(shown.dtype)
        return self._emit(self._seen(shown, code.expand(len(shown), *code.shape)))

    def _seen(self, shown: Tensor, code: Tensor) -> Tensor:
        """What the decoder sees of z (..., ·) and of y as indicators (..., C)."""
        return torch.cat([shown, code], -1)

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
        own = contexts[classes, rows]
        source = rng.Repeated(noise, self.n_classes) if batch.y is None else noise
        # The classes of a single row are no sample that batch normalisation could learn from.
        with running_statistics(self) if len(batch.x) == 1 else nullcontext():
            pairs = self._of_pairs(batch.rows(rows), classes, own, n_samples, source)
        kl = pairs.kl_rows[:, None] if pairs.kl is None else pairs.kl  # (P, g)
        log_q, log_p = self.log_class(batch), torch.log_softmax(self.class_logits, -1)
        weight, of_class = self.weigh(batch, log_q)
        of_pair = weight[rows, classes]
        size = len(batch.x)

        def averaged(values: Tensor) -> Tensor:
            """Weighted sum over the classes of values (..., P), shape (..., B)."""
            out = values.new_zeros(*values.shape[:-1], size)
            return out.index_add(-1, rows, values * of_pair)

        joint = pairs.log_w + log_p[classes]
        table = joint.new_full((n_samples, size, self.n_classes), -torch.inf)
        bound = joint.new_full((size, self.n_classes), -torch.inf)
        return ClassEvidence(
            log_px=averaged(pairs.log_px),
            log_pz=averaged(pairs.log_pz),
            log_qz=averaged(pairs.log_qz) + of_class,
            kl=torch.cat([averaged(kl.T).T, of_class[:, None]], -1),
            posterior=self._mixture(contexts, log_q),
            log_joint=torch.logsumexp(
                table.index_put((torch.arange(n_samples)[:, None], rows, classes), joint), -1
            ),
            bound=bound.index_put((rows, classes), pairs.elbo + log_p[classes]),
        )


class ClassModule(ClassConditionalModule):
    """The wiring of M2."""

    def __init__(self, spec: "Assembly", model: M2) -> None:
        super().__init__(spec, model)
        self.d = model.prior_latent(spec).width
        self.posterior = spec.posterior.build(spec.n_components, model.hidden_size)
        width = self.posterior.embedding_width(model.prior_latent(spec))
        self.decoder = self._build_decoder(self._width(width))

    def _width(self, of_z: int) -> int:
        """Width of `_seen`."""
        return of_z + self.n_classes

    def _laws(self, contexts: Tensor) -> Sequence[Distribution]:
        return [self.posterior(context) for context in contexts]

    def _prior(self) -> Distribution:
        p: Distribution = self.prior(self.infer_prior_part)
        return p

    def generate(self, z: Tensor) -> Distribution:
        """p(x | z, y) for [z, y] (..., d + C), batch shape (..., *event)."""
        shown = self.posterior.embed(z[..., : self.d], None)
        return self._emit(self._seen(shown, z[..., self.d :]))

    def _of_pairs(
        self, pairs: Batch, classes: Tensor, contexts: Tensor, n_samples: int, noise: rng.Noise
    ) -> Evidence:
        q = self.posterior(contexts)
        z = distributions.draw(q, (n_samples,), noise)  # (K, P, d)
        p = self._emit_of(self.posterior.embed(z, q), classes)
        prior = self._prior()
        return Evidence(
            log_px=self._log_px(pairs, p, noise),
            log_pz=prior.log_prob(z),
            log_qz=q.log_prob(z),
            kl=distributions.kl_per_dimension(q, prior),
        )


class ClassPosterior(Distribution):
    """q(z, y | x) = q(y | x) q(z | x, y), y as indicators after z.

    Parameters
    ----------
    laws : callable
        Returns q(z | x, y) of each class. It is called when they are first asked for: training
        often has no need of them.
    d : int
        Size of z.
    log_class : Tensor, shape (B, C)
        log q(y | x).
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, laws: Callable[[], Sequence[Distribution]], d: int, log_class: Tensor
    ) -> None:
        self._make, self.d, self.log_class = laws, d, log_class
        event = torch.Size([d + log_class.shape[-1]])
        super().__init__(log_class.shape[:-1], event, validate_args=False)

    @functools.cached_property
    def laws(self) -> Sequence[Distribution]:
        """q(z | x, y) of each class, batch shape (B,), event shape (d,)."""
        return self._make()

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
