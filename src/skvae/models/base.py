"""What every generative model is, however it is wired: p(z), p(x | z), q(z | x) for a flat z."""

import abc
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae import distributions, rng
from skvae.autoregression import Autoregressive
from skvae.evidence import Batch, Evidence
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.likelihoods.sequence import SequenceModule
from skvae.networks import StepDecoder, running_statistics
from skvae.priors import PriorModule
from skvae.spec import Spec

if TYPE_CHECKING:
    from skvae.models.assembly import Assembly

__all__ = ["GenerativeModel", "LatentModule"]


class GenerativeModel(Spec, abc.ABC, family="model"):
    """Choice of which conditional distributions there are and how they are wired.

    A model of several latent vectors has one flat z all the same: its levels side by side. The
    laws p(z) and q(z | x) are then chains, and whatever works for one vector works for it.
    """

    @abc.abstractmethod
    def build(self, parts: "Assembly") -> "LatentModule":
        """Return the module, with weights from torch's global generator."""

    @abc.abstractmethod
    def latent(self, parts: "Assembly") -> Latent:
        """Return the space of the whole z."""

    def prior_latent(self, parts: "Assembly") -> Latent:
        """Return the space of that part of z which the prior describes: all of it by default."""
        return self.latent(parts)

    def check(self, parts: "Assembly") -> None:
        """Refuse parts that cannot stand together.

        Raises
        ------
        ParameterError
            Names the parts and the reason.
        """
        if reason := parts.prior.objection(parts.posterior):
            raise ParameterError(
                f"prior={parts.prior.name!r} does not go with "
                f"posterior={parts.posterior.name!r}: {reason}."
            )
        if parts.network.sequential and not parts.likelihood.sequential:
            raise ParameterError(
                f"network={parts.network.name!r} reads sequences, which "
                f"likelihood={parts.likelihood.name!r} does not describe. Use "
                f"likelihood=Sequence(...) around the likelihood of one step."
            )


class LatentModule(nn.Module, abc.ABC):
    """Wires encoder, posterior, prior, decoder and likelihood.

    Takes x in model units; log p(x | z) is in data units all the same. Subclasses say how z is
    inferred, what it is before x is seen, and what x is given z; the rest follows from these.
    """

    log_unit: Tensor
    prior: PriorModule
    decoder: nn.Module

    def __init__(self, spec: "Assembly") -> None:
        super().__init__()
        self.spec = spec
        self._body_dtype: torch.dtype | None = None
        self.likelihood = spec.likelihood.build(spec.event_shape)
        self.register_buffer("log_unit", torch.zeros(self.likelihood.unit_shape))
        self.missingness = (
            None
            if spec.missingness is None
            else spec.missingness.build(spec.likelihood, spec.event_shape)
        )
        self.encoder = spec.network.build_encoder(self.likelihood.input_shape)
        self.prior = spec.prior.build(spec.model.prior_latent(spec), spec.event_shape)

    def _build_decoder(self, d: int) -> nn.Module:
        """Return the network's decoder, from d numbers to what the likelihood needs."""
        likelihood = self.likelihood
        try:
            return self.spec.network.decoder_for(d, likelihood.param_shape, likelihood.input_shape)
        except ParameterError as error:
            raise ParameterError(
                f"likelihood={self.spec.likelihood.name!r}, z of {d} numbers: {error}"
            ) from error

    @abc.abstractmethod
    def infer(self, batch: Batch) -> Distribution:
        """q(z | x), batch shape (B,), event shape (d,); hidden cells are ignored."""

    @abc.abstractmethod
    def prior_distribution(self) -> Distribution:
        """p(z), event shape (d,)."""

    @abc.abstractmethod
    def generate(self, z: Tensor) -> Distribution:
        """p(x | z) for z (..., d), batch shape (..., *event), one factor per cell."""

    @abc.abstractmethod
    def evidence(
        self, batch: Batch, n_samples: int, noise: rng.Noise, *, path_only: bool = False
    ) -> Evidence:
        """Log-densities at ``n_samples`` draws z ~ q(z | x)."""

    def put_prior(self, prior: PriorModule) -> None:
        """Make this the prior."""
        self.prior = prior

    def prior_part(self, z: Tensor) -> Tensor:
        """Return the part of z (..., d) that the prior describes."""
        return z

    def infer_prior_part(self, x: Tensor) -> Distribution:
        """Q of the part of z that the prior describes, for pseudo-inputs x (K, *event).

        They are no sample of the data: batch normalisation must not learn from them.
        """
        with running_statistics(self):
            return self.infer(Batch(x))

    @contextmanager
    def autocast(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Run the bodies of encoder and decoder in a lower precision; all densities stay as is."""
        before, self._body_dtype = self._body_dtype, dtype
        try:
            yield
        finally:
            self._body_dtype = before

    @contextmanager
    def _lowered(self, x: Tensor) -> Iterator[None]:
        if self._body_dtype is None:
            yield
            return
        with torch.autocast(x.device.type, self._body_dtype):
            yield

    def _body(self, body: Callable[..., Tensor], x: Tensor, *args: Tensor | None) -> Tensor:
        with self._lowered(x):
            out = body(x, *args)
        return out.to(x.dtype)

    def _features(self, batch: Batch) -> Tensor:
        """What the encoder makes of x as the likelihood shows it, (B, out_features)."""
        return self._body(self.encoder, *self.likelihood.represent(batch.x, batch.mask))

    def _emit(self, h: Tensor) -> Distribution:
        """p(x | z) from what the decoder is to see of z, (..., d)."""
        if isinstance(self.decoder, StepDecoder):
            assert isinstance(self.likelihood, SequenceModule)
            body = functools.partial(self._body, self.decoder)
            return Autoregressive(h, self.decoder, self.likelihood, body)
        p: Distribution = self.likelihood(self._body(self.decoder, h))
        return p

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor) -> None:
        """Pass the training data to the parts that start from them.

        Parameters
        ----------
        mean, unit : Tensor, shape (*event,)
            Mean in model units, and how many data units one model unit is.
        rows : Tensor, shape (n, *event)
            Some rows in model units, in random order.
        """
        self.log_unit.copy_(unit.log()[tuple(map(slice, self.likelihood.unit_shape))])
        self.likelihood.calibrate(mean, unit, rows)
        if self.missingness is not None:
            self.missingness.calibrate(rows)
        with torch.no_grad():
            shown, _ = self.likelihood.represent(rows, ~rows.isnan())
        # All rows are known to ``mean``, unless the encoder sees them as something else.
        self.encoder.calibrate(mean if shown is rows else shown.mean(0), shown)
        self.prior.calibrate(rows)

    def log_joint(
        self,
        batch: Batch,
        z: Tensor,
        prior: Distribution | None = None,
        p: Distribution | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Log p(x | z) over the observed cells and log p(z), each (K, B), for z (K, B, d).

        ``p`` is what z generates, where that is known already.
        """
        log_px = self._log_px(batch, p or self.generate(z))
        return log_px, (prior or self.prior_distribution()).log_prob(z)

    def _log_px(self, batch: Batch, p: Distribution, noise: rng.Noise | None = None) -> Tensor:
        """Log-density of the observed cells in data units, summed, for p (K, B, *event).

        Where the model describes which cells are observed, the log-probability of that is added.
        Where steps depend on hidden ones before them, these are drawn from the noise, so that the
        exponential of what is returned has the right mean. In training, and without noise, the
        decoder is told that they are unknown, which is fast and an approximation.
        """
        x = batch.x
        if batch.mask is not None:  # NaN in a hidden cell would poison the gradient
            x = torch.where(batch.mask, x, torch.zeros((), dtype=x.dtype))
        if isinstance(p, Autoregressive):
            if noise is not None and not self.training and not _observed(batch).all():
                return self._fill(Batch(x, batch.mask), p, noise)[1]
            p = p.given(x, batch.mask, noise)
        p = self.likelihood.adapt(p, x, batch.mask)
        log_px = self._sum(p.log_prob(x), x, batch.mask)
        if self.missingness is None:
            return log_px
        log_ps: Tensor = self.missingness(p, x, batch.mask)
        return log_px + log_ps

    def _sum(self, log_px: Tensor, x: Tensor, mask: Tensor | None) -> Tensor:
        """Sum log-densities (K, B, *event) over the cells that count, in data units."""
        event_dims = len(self.spec.event_shape)
        mask = self.likelihood.counted(x, mask)
        # d(model units) / d(data units), of the cells that count
        log_unit = self.log_unit.expand(x.shape[1:] if mask is None else x.shape)
        log_px = distributions.masked_sum(log_px, mask, event_dims)
        return log_px - distributions.masked_sum(log_unit, mask, event_dims)

    @property
    def autoregressive(self) -> bool:
        """Whether parts of x depend on others given z."""
        return isinstance(self.decoder, StepDecoder)

    def complete(self, batch: Batch, z: Tensor, noise: rng.Noise) -> Tensor:
        """Draw the hidden cells given z (..., d), without regard to what the others make of it.

        Returns x, shape (..., *event).
        """
        mask = _observed(batch)
        if self.autoregressive:
            return self.fill(batch, z, noise)[0]
        return torch.where(mask, batch.x, distributions.draw(self.hidden(batch, z), (), noise))

    def renewed(self, batch: Batch, z: Tensor, noise: rng.Noise) -> Tensor:
        """Redraw what of z (B, d) rows are not made from, given complete rows; often nothing."""
        return z

    def hidden(self, batch: Batch, z: Tensor, p: Distribution | None = None) -> Distribution:
        """p(hidden cells | observed cells, z) for z (..., d), if the model is not autoregressive.

        It is p(x | z), but for what the likelihood knows to be observed, and for what it says of
        a cell that it is hidden. ``p`` is what z generates, where that is known already.
        """
        p = self.likelihood.conditioned(p or self.generate(z), batch.x)
        return p if self.missingness is None else self.missingness.conditioned(p)

    def log_hidden(self, batch: Batch, z: Tensor, target: Batch) -> Tensor:
        """Log-density of the target's observed cells, hidden in the batch, given z (K, B, d).

        Shape (K, B), in data units.
        """
        return self._sum(self.hidden(batch, z).log_prob(target.x), target.x, target.mask)

    def fill(self, batch: Batch, z: Tensor, noise: rng.Noise) -> tuple[Tensor, Tensor]:
        """Draw the hidden cells given z (K, B, d), each given what is then known before it.

        For an autoregressive model.

        Returns
        -------
        x : Tensor, shape (K, B, *event)
        log_px : Tensor, shape (K, B)
            Log-density of the observed cells, each given the filled ones before. Its exponential
            is the weight of a draw, and has the mean p(observed | z).
        """
        p = self.generate(z)
        assert isinstance(p, Autoregressive)
        return self._fill(batch, p, noise)

    def _fill(self, batch: Batch, p: Autoregressive, noise: rng.Noise) -> tuple[Tensor, Tensor]:
        mask = _observed(batch)
        filled, log_px = p.fill(batch.x, mask, noise)
        return filled, self._sum(log_px, batch.x, mask)


def _observed(batch: Batch) -> Tensor:
    return torch.ones_like(batch.x, dtype=torch.bool) if batch.mask is None else batch.mask
