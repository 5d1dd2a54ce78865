"""Models of rows with classes in which an auxiliary variable makes q more flexible."""

import abc
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints
from torch.nn import functional as F

from skvae import distributions, rng
from skvae.discrete import OneHot
from skvae.evidence import Batch
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.models.base import LatentModule
from skvae.models.classes import ClassEvidence, ClassModel, ClassPrior
from skvae.models.classifying import ClassifyingModule, logits_of
from skvae.networks import Network, running_statistics
from skvae.networks.base import ACTIVATIONS
from skvae.posteriors.gaussian import Diagonal, DiagonalModule
from skvae.spec import at_least

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["ADGM", "SDGM", "AuxiliaryModule", "AuxiliaryPosterior", "AuxiliaryPrior"]

N_POINTS = 16  # for a where q(y | x) is to be deterministic


@dataclass(frozen=True)
class AuxiliaryModel(ClassModel):
    """q(a | x) q(y | a, x) q(z | a, y, x): q(y | x) and q(z | x, y) are mixtures over a."""

    n_classes: int = 2
    class_prior: tuple[float, ...] | str = ()
    n_auxiliary: int = 100
    hidden_size: int = 256
    activation: str = "silu"
    judge: Network | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self.n_auxiliary, 1, f"{type(self).__name__}: n_auxiliary")

    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of z, y and a together."""
        width = self.prior_latent(parts).width + self.n_classes + self.n_auxiliary
        return Latent(width, "mixed")

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of z alone."""
        return Latent(parts.n_components)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together."""
        super().check(parts)
        if not isinstance(parts.posterior, Diagonal):
            raise ParameterError(
                f"model={self.name!r} does not go with posterior={parts.posterior.name!r}: the "
                "posteriors of a and z are diagonal Gaussians. Use posterior='diagonal'."
            )


@dataclass(frozen=True)
class ADGM(AuxiliaryModel, name="adgm"):
    """p(y) p(z) p(a | x, y, z) p(x | y, z): `M2` whose q has an auxiliary variable a [1]_.

    Rows are made as in M2. Only q, which is q(a | x) q(y | a, x) q(z | a, y, x), has more to it:
    p(a | x, y, z), which sees as much of x as is observed, lets the bound hold. Known classes are
    given, unknown ones summed over, exactly, at each draw of a.

    A flat z is [z, y, a], y as indicators; the prior is that of z. As a has no part in making
    rows, it stands there as standard normal, and what p(a | x, y, z) says instead counts with x.

    Parameters
    ----------
    n_classes : int
    class_prior : tuple of float or "learned"
        p(y); ``()`` is uniform.
    n_auxiliary : int
        Size of a.
    hidden_size : int
        Width of the layers in which a, y and z meet what is seen of x.
    activation : str
        Of these layers, as in `networks.MLP`.
    judge : networks.Network or None
        Body of q(y | a, x); None is one like the encoder's, which q(a | x) and q(z | a, y, x)
        share. That of p(a | x, y, z) is one like the encoder's, too.

    References
    ----------
    .. [1] Maaløe et al., "Auxiliary Deep Generative Models", 2016, arXiv:1602.05473
    """

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return ADGMModule(parts, self)


@dataclass(frozen=True)
class SDGM(AuxiliaryModel, name="sdgm"):
    """p(y) p(z) p(a | y, z) p(x | a, y, z): `ADGM` whose a is a layer of p, too [1]_.

    A flat z is [z, y, a], y as indicators; the prior is that of z.

    Parameters
    ----------
    n_classes : int
    class_prior : tuple of float or "learned"
        p(y); ``()`` is uniform.
    n_auxiliary : int
        Size of a.
    hidden_size : int
        Width of the layers in which a, y and z meet what is seen of x.
    activation : str
        Of these layers, as in `networks.MLP`.
    judge : networks.Network or None
        Body of q(y | a, x); None is one like the encoder's, which q(a | x) and q(z | a, y, x)
        share.

    References
    ----------
    .. [1] Maaløe et al., "Auxiliary Deep Generative Models", 2016, arXiv:1602.05473
    """

    def build(self, parts: "Assembly") -> LatentModule:
        """Return the module."""
        return SDGMModule(parts, self)


class Meeting(nn.Module):
    """Hidden layer in which a vector and a class meet what is already known of a row."""

    def __init__(self, width: int, n_classes: int, model: AuxiliaryModel) -> None:
        super().__init__()
        self.from_vector = nn.Linear(width, model.hidden_size)
        self.from_class = nn.Linear(n_classes, model.hidden_size, bias=False)
        self.activation = ACTIVATIONS[model.activation]()

    def forward(self, below: Tensor, codes: Tensor) -> Tensor:
        """Return features (..., H) from the sum of what is known and indicators (..., C)."""
        features: Tensor = self.activation(below + self.from_class(codes))
        return features


class AuxiliaryModule(ClassifyingModule):
    """The wiring with an auxiliary variable. Subclasses say what p makes of it."""

    points: Tensor

    def __init__(self, spec: "Assembly", model: AuxiliaryModel) -> None:
        super().__init__(spec)
        self.n_classes, self.n_auxiliary = model.n_classes, model.n_auxiliary
        self.d, hidden = spec.n_components, model.hidden_size
        self.judge = (model.judge or spec.network).build_encoder(self.likelihood.input_shape)
        self.auxiliary = DiagonalModule(self.n_auxiliary, self.encoder.out_features)
        self.judge_features = nn.Linear(self.judge.out_features, hidden)
        self.judge_auxiliary = nn.Linear(self.n_auxiliary, hidden, bias=False)
        self.activation = ACTIVATIONS[model.activation]()
        self.verdict = nn.Linear(hidden, self.n_classes)
        nn.init.zeros_(self.verdict.weight)
        nn.init.zeros_(self.verdict.bias)
        self.from_features = nn.Linear(self.encoder.out_features, hidden, bias=False)
        self.inferring = Meeting(self.n_auxiliary, self.n_classes, model)
        self.posterior = DiagonalModule(self.d, hidden)
        self.expecting = Meeting(self.d, self.n_classes, model)
        self.expected = DiagonalModule(self.n_auxiliary, hidden)
        self.class_logits = logits_of(model.class_prior, model.n_classes)
        self.register_buffer("points", _points(self.n_auxiliary), persistent=False)

    @abc.abstractmethod
    def _above(self, batch: Batch) -> Tensor:
        """What p(a | …) is told of x, (B, H) or, if that is nothing, (B, 1) zeros."""

    @abc.abstractmethod
    def _shown(self, z: Tensor) -> Tensor:
        """What the decoder sees of [z, y, a]."""

    def expect(self, above: Tensor, z: Tensor, codes: Tensor) -> Distribution:
        """p(a | …) for z (..., d) and indicators (..., C), given what it is told of x."""
        law: Distribution = self.expected(
            self.expecting(above + self.expecting.from_vector(z), codes)
        )
        return law

    def judged(self, own: Tensor, a: Tensor) -> Tensor:
        """Log q(y | a, x), (..., B, C), given what the judge makes of x (B, H)."""
        features = self.activation(own + self.judge_auxiliary(a))
        return torch.log_softmax(self.verdict(features), -1)

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them."""
        super().calibrate(mean, unit, rows)
        with torch.no_grad():
            shown, _ = self.likelihood.represent(rows, ~rows.isnan())
        self._calibrate_more(mean if shown is rows else shown.mean(0), shown)

    def _calibrate_more(self, mean: Tensor, shown: Tensor) -> None:
        self.judge.calibrate(mean, shown)

    def log_class(self, batch: Batch, noise: rng.Noise | None = None) -> Tensor:
        """Return log q(y | x), shape (B, C).

        With noise, it is log q(y | a, x) at one draw of a; without, the mean over a is taken with
        a few points that are the same for all rows.
        """
        q = self.infer(batch)
        if noise is not None:
            return q.log_class(distributions.draw(q.auxiliary, (), noise))
        a = q.auxiliary.mean + q.auxiliary.stddev * self.points[:, None]  # (16, B, n)
        return distributions.log_mean_exp(q.log_class(a))

    def infer(self, batch: Batch) -> "AuxiliaryPosterior":
        """q(z, y, a | x), batch shape (B,), event shape (d + C + n,); hidden cells are ignored."""
        shown = self.likelihood.represent(batch.x, batch.mask)
        return AuxiliaryPosterior(
            self, self._body(self.encoder, *shown), self._body(self.judge, *shown)
        )

    def _prior(self) -> Distribution:
        p: Distribution = self.prior(self.infer_prior_part)
        return p

    def prior_distribution(self) -> "AuxiliaryPrior":
        """Law of [z, y, a] from which rows are made, event shape (d + C + n,)."""
        return AuxiliaryPrior(
            ClassPrior(self._prior(), OneHot(self.class_logits[None])),
            self._auxiliary_of,
            self.n_auxiliary,
        )

    @abc.abstractmethod
    def _auxiliary_of(self, above: Tensor) -> Distribution:
        """Law of a for [z, y] (..., d + C) in `prior_distribution`."""

    def generate(self, z: Tensor) -> Distribution:
        """p(x | …) for [z, y, a] (..., d + C + n), batch shape (..., *event)."""
        return self._emit(self._shown(z))

    def further(self, above: Tensor, noise: rng.Noise | None) -> Tensor:
        """Return [z, y, a] for [z, y]."""
        law = self._auxiliary_of(above)
        a = law.mean if noise is None else distributions.draw(law, (), noise)
        return torch.cat([above, a], -1)

    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> ClassEvidence:
        """Log-densities at ``n_samples`` draws of a, each with one z for each class possible.

        The KL has a column for z, one for a, and one for y. With ``path_only``, gradients are
        those of the bound itself all the same.
        """
        rows, classes = self.pairs(batch)  # (P,) each
        q = self.infer(batch)
        codes = F.one_hot(classes, self.n_classes).to(q.auxiliary.mean.dtype)  # (P, C)
        # All noise of a draw at once: that of a row does not depend on how many there are.
        like = codes.new_empty(len(batch.x), self.n_auxiliary + self.n_classes * self.d)
        of_a, of_z = noise.normal((n_samples,), like).split(
            [self.n_auxiliary, self.n_classes * self.d], -1
        )
        a = q.auxiliary.mean + q.auxiliary.stddev * of_a  # (K, B, n)
        law = q.given(q.below(a)[:, rows], codes)
        eps = of_z.unflatten(-1, (self.n_classes, self.d))[:, rows, classes]
        z = law.mean + law.stddev * eps  # (K, P, d)
        of_pair = a[:, rows]
        flat = torch.cat([z, codes.expand(n_samples, -1, -1), of_pair], -1)
        source = rng.Repeated(noise, self.n_classes) if batch.y is None else noise
        # The classes of a single row are no sample that batch normalisation could learn from.
        with running_statistics(self) if len(batch.x) == 1 else nullcontext():
            log_px = self._log_px(batch.rows(rows), self.generate(flat), source)  # (K, P)
        log_pa = self.expect(self._above(batch)[rows], z, codes).log_prob(of_pair)
        log_pz, log_qz = self._prior().log_prob(z), law.log_prob(z)
        log_qa = q.auxiliary.log_prob(a)  # (K, B)
        weight, of_class = self.weigh(batch, q.log_class(a))  # (K, B, C) and (K, B)

        def averaged(values: Tensor) -> Tensor:
            """Weighted sum over the classes of values (K, P), shape (K, B)."""
            return torch.zeros_like(log_qa).index_add(-1, rows, values * weight[:, rows, classes])

        log_p = torch.log_softmax(self.class_logits, -1)
        joint = log_px + log_pz + log_pa - log_qz - log_qa[:, rows] + log_p[classes]
        table = joint.new_full((*log_qa.shape, self.n_classes), -torch.inf)
        each = torch.arange(n_samples, device=rows.device)[:, None]
        table = table.index_put((each, rows, classes), joint)  # (K, B, C)
        kl_z, kl_a = averaged(log_qz - log_pz), log_qa - averaged(log_pa)
        return ClassEvidence(
            log_px=averaged(log_px),
            log_pz=averaged(log_pz + log_pa),
            log_qz=averaged(log_qz) + log_qa + of_class,
            kl=torch.stack([kl_z, kl_a, of_class], -1).mean(0),
            posterior=q,
            log_joint=torch.logsumexp(table, -1),
            bound=table.mean(0),
        )


class ADGMModule(AuxiliaryModule):
    """The wiring of ADGM: p(a | x, y, z) explains what q needs a for, and nothing else."""

    def __init__(self, spec: "Assembly", model: ADGM) -> None:
        super().__init__(spec, model)
        self.reader = spec.network.build_encoder(self.likelihood.input_shape)
        self.from_reader = nn.Linear(self.reader.out_features, model.hidden_size, bias=False)
        self.decoder = self._build_decoder(self.d + self.n_classes)

    def _calibrate_more(self, mean: Tensor, shown: Tensor) -> None:
        super()._calibrate_more(mean, shown)
        self.reader.calibrate(mean, shown)

    def _above(self, batch: Batch) -> Tensor:
        shown = self.likelihood.represent(batch.x, batch.mask)
        own: Tensor = self.from_reader(self._body(self.reader, *shown))
        return own

    def _shown(self, z: Tensor) -> Tensor:
        return z[..., : self.d + self.n_classes]

    def _auxiliary_of(self, above: Tensor) -> Distribution:
        return _standard(above.new_zeros(*above.shape[:-1], self.n_auxiliary))

    def log_joint(
        self,
        batch: Batch,
        z: Tensor,
        prior: Distribution | None = None,
        p: Distribution | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log p(x, a | y, z) less the standard normal of a, and log-density of [z, y, a]."""
        log_px, log_pz = super().log_joint(batch, z, prior, p)
        return log_px + self._log_excess(batch, z), log_pz

    def fill(self, batch: Batch, z: Tensor, noise: rng.Noise) -> tuple[Tensor, Tensor]:
        """Draw the hidden cells given [z, y, a]; the weight is that of a, too."""
        filled, log_px = super().fill(batch, z, noise)
        return filled, log_px + self._log_excess(batch, z)

    def renewed(self, batch: Batch, z: Tensor, noise: rng.Noise) -> Tensor:
        """Redraw a from p(a | x, y, z): cells were drawn without regard to it."""
        own, codes, _ = z.split([self.d, self.n_classes, self.n_auxiliary], -1)
        a = distributions.draw(self.expect(self._above(batch), own, codes), (), noise)
        return torch.cat([own, codes, a], -1)

    def _log_excess(self, batch: Batch, z: Tensor) -> Tensor:
        """Log p(a | x, y, z) − log N(a; 0, I), which makes up for the law of a in the prior."""
        own, codes, a = z.split([self.d, self.n_classes, self.n_auxiliary], -1)
        law = self.expect(self._above(batch), own, codes)
        return law.log_prob(a) - _standard(torch.zeros_like(a)).log_prob(a)


class SDGMModule(AuxiliaryModule):
    """The wiring of SDGM: a lies between z and x."""

    def __init__(self, spec: "Assembly", model: SDGM) -> None:
        super().__init__(spec, model)
        self.decoder = self._build_decoder(self.d + self.n_classes + self.n_auxiliary)

    def _above(self, batch: Batch) -> Tensor:
        return self.class_logits.new_zeros(len(batch.x), 1)

    def _shown(self, z: Tensor) -> Tensor:
        return z

    def _auxiliary_of(self, above: Tensor) -> Distribution:
        z, codes = above.split([self.d, self.n_classes], -1)
        return self.expect(above.new_zeros(()), z, codes)


def _standard(zeros: Tensor) -> Distribution:
    return Independent(
        Normal(zeros, torch.ones_like(zeros), validate_args=False), 1, validate_args=False
    )


def _points(n: int) -> Tensor:
    """Points for averages over N(0, I), shape (16, n).

    Along each axis they are the middles of 16 parts of equal mass, in an order of its own; each
    point has its opposite.
    """
    source = rng.generator(0)
    half = N_POINTS // 2
    middles = torch.special.ndtri(0.5 + (torch.arange(half) + 0.5) / N_POINTS)
    order = torch.rand((half, n), generator=source).argsort(0)
    sign = torch.randint(2, (half, n), generator=source) * 2 - 1
    points = sign * middles[order]
    return torch.cat([points, -points])


class AuxiliaryPosterior(Distribution):
    """q(a | x) q(y | a, x) q(z | a, y, x), as [z, y, a].

    Parameters
    ----------
    module : AuxiliaryModule
    features, judged : Tensor, shape (B, ·)
        What the encoder and the judge make of x.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(self, module: AuxiliaryModule, features: Tensor, judged: Tensor) -> None:
        self.module = module
        self.auxiliary: Distribution = module.auxiliary(features)
        self.features: Tensor = module.from_features(features)  # (B, H)
        self.judged: Tensor = module.judge_features(judged)
        event = torch.Size([module.d + module.n_classes + module.n_auxiliary])
        super().__init__(features.shape[:1], event, validate_args=False)

    def log_class(self, a: Tensor) -> Tensor:
        """Log q(y | a, x) for a (..., B, n), shape (..., B, C)."""
        return self.module.judged(self.judged, a)

    def below(self, a: Tensor) -> Tensor:
        """What q(z | a, y, x) is made of but for the class, (..., B, H)."""
        below: Tensor = self.features + self.module.inferring.from_vector(a)
        return below

    def given(self, below: Tensor, codes: Tensor) -> Distribution:
        """q(z | a, y, x) for classes as indicators (..., C)."""
        law: Distribution = self.module.posterior(self.module.inferring(below, codes))
        return law

    @property
    def mean(self) -> Tensor:
        """E[z | a, x] and q(y | a, x) at the mean of a, and that, shape (B, d + C + n)."""
        a = self.auxiliary.mean
        p = self.log_class(a).exp()
        every = torch.eye(self.module.n_classes, dtype=p.dtype, device=p.device)[:, None]
        z = self.given(self.below(a), every).mean  # (C, B, d)
        return torch.cat([(p.T[..., None] * z).sum(0), p, a], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., B, d + C + n), shape (..., B)."""
        module = self.module
        z, y, a = value.split([module.d, module.n_classes, module.n_auxiliary], -1)
        log_y = torch.where(y > 0.5, self.log_class(a), 0.0).sum(-1)
        log_z: Tensor = self.given(self.below(a), y).log_prob(z)
        return log_z + log_y + self.auxiliary.log_prob(a)


@distributions.draw.register
def _(distribution: AuxiliaryPosterior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    a = distributions.draw(distribution.auxiliary, shape, noise)  # (*shape, B, n)
    log_q = distribution.log_class(a).flatten(0, -2)  # (· B, C)
    times = math.prod(shape)
    y = distributions.draw(OneHot(log_q[:, None]), (), rng.Repeated(noise, times))
    y = y.view(*a.shape[:-1], -1)
    law = distribution.given(distribution.below(a), y)
    return torch.cat([_drawn(law, shape, noise), y, a], -1)


def _drawn(law: Distribution, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    """Draw from a Gaussian whose leading axes are those of draws of what it depends on."""
    loc = law.mean
    return loc + law.stddev * noise.normal(shape, loc.new_empty(loc.shape[len(shape) :]))


class AuxiliaryPrior(Distribution):
    """p(z) p(y) and a law of a given these, as [z, y, a].

    Parameters
    ----------
    above : ClassPrior
        Of [z, y].
    given : callable
        From [z, y] (..., d + C) to the law of a, a Gaussian.
    n_auxiliary : int
    """

    arg_constraints: dict[str, constraints.Constraint] = {}

    def __init__(
        self, above: ClassPrior, given: Callable[[Tensor], Distribution], n_auxiliary: int
    ) -> None:
        self.above, self.given, self.n_auxiliary = above, given, n_auxiliary
        event = torch.Size([above.event_shape[0] + n_auxiliary])
        super().__init__(above.batch_shape, event, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "AuxiliaryPrior":
        """Return the same law for another batch shape."""
        return AuxiliaryPrior(self.above.expand(batch_shape), self.given, self.n_auxiliary)

    @property
    def mean(self) -> Tensor:
        """E[z], p(y), and the mean of a at these."""
        above = self.above.mean
        return torch.cat([above, self.given(above).mean], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of points (..., d + C + n), shape (...)."""
        above, a = value.split([self.above.event_shape[0], self.n_auxiliary], -1)
        log_a: Tensor = self.given(above).log_prob(a)
        return self.above.log_prob(above) + log_a


@distributions.draw.register
def _(distribution: AuxiliaryPrior, shape: tuple[int, ...], noise: rng.Noise) -> Tensor:
    above = distributions.draw(distribution.above, shape, noise)
    return torch.cat([above, _drawn(distribution.given(above), shape, noise)], -1)
