"""Normalizing flows that are conditioned on x."""

from dataclasses import dataclass

from torch import Tensor
from torch.distributions import Distribution

from skvae.flows import FlowKind, build_flow, check_flow
from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.posteriors.gaussian import DiagonalModule

__all__ = ["Flow", "FlowModule"]


@dataclass(frozen=True)
class Flow(Posterior, name="flow"):
    """Diagonal Gaussian pushed through a normalizing flow that is conditioned on x [1]_.

    The decoder sees the flow's output, and the density is that of the same point.

    Parameters
    ----------
    kind : str
        ``"iaf"`` [2]_, ``"coupling"`` and ``"spline"`` need few transforms; ``"planar"`` [1]_,
        ``"radial"`` [1]_, ``"householder"`` and ``"sylvester"`` are simple maps, of which many
        are chained. See `skvae.flows`.
    n_transforms : int
    hidden_layer_sizes : tuple of int
        Widths of the networks inside the flow; ``()`` for linear maps.

    References
    ----------
    .. [1] Rezende and Mohamed, "Variational Inference with Normalizing Flows", 2015,
       arXiv:1505.05770
    .. [2] Kingma et al., "Improving Variational Inference with Inverse Autoregressive Flow",
       2016, arXiv:1606.04934
    """

    kind: FlowKind = "iaf"
    n_transforms: int = 2
    hidden_layer_sizes: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        check_flow(self)

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d latent dimensions and ``context`` features."""
        return FlowModule(self, d, context)


class FlowModule(PosteriorModule):
    """A diagonal Gaussian, then the flow."""

    def __init__(self, spec: Flow, d: int, context: int) -> None:
        super().__init__()
        self.base = DiagonalModule(d, context)
        self.flow = build_flow(spec, d, context)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        return self.flow(self.base(features), features)  # type: ignore[no-any-return]
