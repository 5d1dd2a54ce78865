"""Normalizing flows as priors."""

from dataclasses import dataclass

from torch.distributions import Distribution

from skvae.flows import FlowKind, build_flow, check_flow
from skvae.latent import Latent
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.priors.gaussian import StandardModule

__all__ = ["Flow", "FlowPriorModule"]


@dataclass(frozen=True)
class Flow(Prior, name="flow"):
    """N(0, I) pushed through a normalizing flow, learned with the model [1]_.

    Parameters
    ----------
    kind : str
        ``"coupling"`` and ``"spline"`` are fast in both directions, ``"radial"`` too, of which
        many are needed; see `skvae.flows`.
    n_transforms : int
    hidden_layer_sizes : tuple of int
        Widths of the networks inside the flow, where it has any.

    References
    ----------
    .. [1] Chen et al., "Variational Lossy Autoencoder", 2017, arXiv:1611.02731
    """

    kind: FlowKind = "coupling"
    n_transforms: int = 6
    hidden_layer_sizes: tuple[int, ...] = (128, 128)

    def __post_init__(self) -> None:
        check_flow(self)

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return FlowPriorModule(self, latent.width)


class FlowPriorModule(PriorModule):
    """N(0, I), then the flow."""

    def __init__(self, spec: Flow, d: int) -> None:
        super().__init__()
        self.base = StandardModule(d)
        self.flow = build_flow(spec, d, 0)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return self.flow(self.base(infer))  # type: ignore[no-any-return]
