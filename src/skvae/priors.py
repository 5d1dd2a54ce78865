"""Priors p(z)."""

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from skvae.distributions import DiagonalMixture, bounded
from skvae.flows import FlowKind, build_flow, check_flow
from skvae.spec import Spec, at_least

__all__ = ["Flow", "GaussianMixture", "Prior", "PriorModule", "Standard", "Vamp"]

Infer = Callable[[Tensor], Distribution]


class PriorModule(nn.Module, abc.ABC):
    """A prior for d latent dimensions."""

    @abc.abstractmethod
    def forward(self, infer: Infer) -> Distribution:
        """Return p(z), event shape (d,); ``infer`` maps rows (K, *event) to q(z | x)."""

    def calibrate(self, rows: Tensor) -> None:
        """Learn from some training rows (n, *event) in model units before the first update."""


class Prior(Spec, abc.ABC, family="prior"):
    """Choice of p(z)."""

    @abc.abstractmethod
    def build(self, d: int, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module for d latent dimensions and rows of a shape."""

    def objection(self, posterior: Spec) -> str | None:
        """Return why this prior cannot stand with a posterior, or None where it can."""
        return None


@dataclass(frozen=True)
class Standard(Prior, name="standard"):
    """N(0, I)."""

    def build(self, d: int, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return StandardModule(d)


class StandardModule(PriorModule):
    """N(0, I) on whatever device and in whatever precision the model is."""

    zeros: Tensor
    ones: Tensor

    def __init__(self, d: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(d), persistent=False)
        self.register_buffer("ones", torch.ones(d), persistent=False)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return Independent(
            Normal(self.zeros, self.ones, validate_args=False), 1, validate_args=False
        )


@dataclass(frozen=True)
class GaussianMixture(Prior, name="gaussian_mixture"):
    """Mixture of diagonal Gaussians, learned with the model.

    Parameters
    ----------
    n_components : int
        Number of Gaussians.
    """

    n_components: int = 50

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "GaussianMixture: n_components")

    def build(self, d: int, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return GaussianMixtureModule(d, self.n_components)


class GaussianMixtureModule(PriorModule):
    """Weights, means and scales; starts near N(0, I), with the means spread out."""

    def __init__(self, d: int, n_components: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_components))
        self.means = nn.Parameter(0.5 * torch.randn(n_components, d))
        self.log_scales = nn.Parameter(torch.zeros(n_components, d))

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        scales = torch.exp(bounded(self.log_scales, math.log(1e3)))
        return DiagonalMixture(self.logits, self.means, scales)


@dataclass(frozen=True)
class Vamp(Prior, name="vamp"):
    """Mixture of the posteriors of pseudo-inputs, p(z) = Σ_k π_k q(z | u_k) [1]_.

    Parameters
    ----------
    n_components : int
        Number of pseudo-inputs; they start as training rows.
    learned : bool
        False keeps the training rows as they are ("VampPrior data").

    References
    ----------
    .. [1] Tomczak and Welling, "VAE with a VampPrior", 2018, arXiv:1705.07120
    """

    n_components: int = 500
    learned: bool = True

    def __post_init__(self) -> None:
        at_least(self.n_components, 1, "Vamp: n_components")

    def build(self, d: int, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return VampModule(self, event_shape)

    def objection(self, posterior: Spec) -> str | None:
        """The mixture is computed from the means and scales of its components."""
        if posterior.name == "diagonal":
            return None
        return "a VampPrior is a mixture of posteriors, which must be diagonal Gaussians"


class VampModule(PriorModule):
    """Pseudo-inputs and their weights. Needs a diagonal posterior."""

    def __init__(self, spec: Vamp, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(spec.n_components))
        inputs = torch.zeros(spec.n_components, *event_shape)
        self.inputs = nn.Parameter(inputs, requires_grad=spec.learned)

    def calibrate(self, rows: Tensor) -> None:
        """Start from the training rows, again and again where there are few."""
        index = torch.arange(len(self.inputs)) % len(rows)
        with torch.no_grad():
            self.inputs.copy_(rows[index])

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        q = infer(self.inputs)
        return DiagonalMixture(self.logits, q.mean, q.stddev)


@dataclass(frozen=True)
class Flow(Prior, name="flow"):
    """N(0, I) pushed through a normalizing flow, learned with the model [1]_.

    Parameters
    ----------
    kind : str
        See `skvae.flows`; ``"coupling"`` and ``"spline"`` are fast in both directions.
    n_transforms : int
    hidden_layer_sizes : tuple of int
        Widths of the networks inside the flow.

    References
    ----------
    .. [1] Chen et al., "Variational Lossy Autoencoder", 2017, arXiv:1611.02731
    """

    kind: FlowKind = "coupling"
    n_transforms: int = 6
    hidden_layer_sizes: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        check_flow(self)

    def build(self, d: int, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return FlowPriorModule(self, d)


class FlowPriorModule(PriorModule):
    """N(0, I), then the flow."""

    def __init__(self, spec: Flow, d: int) -> None:
        super().__init__()
        self.base = StandardModule(d)
        self.flow = build_flow(spec, d, 0)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return self.flow(self.base(infer))  # type: ignore[no-any-return]
