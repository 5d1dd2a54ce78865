"""Normalizing flows between latent vectors, on zuko's transforms and on our own.

=========== =================================================== =========== ==========
kind        transform                                           density     drawing
=========== =================================================== =========== ==========
coupling    affine coupling (Dinh et al., 2017, 1605.08803)     one pass    one pass
maf         affine autoregressive (Papamakarios, 2017,          one pass    d passes
            1705.07057)
iaf         its inverse (Kingma et al., 2016, 1606.04934)       d passes    one pass
spline      rational-quadratic coupling splines (Durkan et al., one pass    one pass
            2019, 1906.04032)
planar      shift along a direction (Rezende and Mohamed, 2015, 1 equation  one pass
            1505.05770)
radial      stretch around a point (same)                       one pass    one pass
householder rotation by two reflections (Tomczak and Welling,   one pass    one pass
            2016, 1611.09630)
sylvester   planar in min(d, 16) directions at once (van den    min(d, 16)  one pass
            Berg et al., 2018, 1803.05649)                      equations
=========== =================================================== =========== ==========

For a posterior, which must be drawn in every step, all but maf are fast; for a prior, whose
density is needed in every step, coupling, maf, spline and radial are. A point that was just drawn
carries its density with it (`FlowDistribution.draw`), so an iaf posterior never pays the d
passes, nor a planar or Sylvester one the equations, which are scalar and solved by Newton's
method.

The last four are simple maps whose parameters are functions of the context (linear ones with
``hidden_layer_sizes=()``), so many of them are needed: 8 to 32. Householder reflections give a
diagonal Gaussian a full covariance, and leave N(0, I) as it is.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from skvae import distributions, rng, transforms
from skvae._zuko import load_zuko
from skvae.exceptions import ParameterError, did_you_mean
from skvae.rng import Noise
from skvae.spec import at_least, check_sizes

__all__ = ["FlowDistribution", "FlowKind", "FlowSpec", "build_flow", "check_flow"]

FlowKind = Literal[
    "coupling", "householder", "iaf", "maf", "planar", "radial", "spline", "sylvester"
]


class FlowSpec(Protocol):
    """The fields of a spec that has a flow."""

    @property
    def kind(self) -> FlowKind:
        """Which transform."""
        ...

    @property
    def n_transforms(self) -> int:
        """How many."""
        ...

    @property
    def hidden_layer_sizes(self) -> tuple[int, ...]:
        """Widths of the networks inside."""
        ...


def check_flow(spec: Any) -> None:
    """Check the fields of a spec that has a flow.

    Raises
    ------
    ParameterError
    """
    if spec.kind not in get_args(FlowKind):
        known = get_args(FlowKind)
        raise ParameterError(
            f"Flow: kind={spec.kind!r} is not known.{did_you_mean(str(spec.kind), known)} "
            f"Known: {', '.join(map(repr, known))}."
        )
    at_least(spec.n_transforms, 1, "Flow: n_transforms")
    sizes = check_sizes(spec.hidden_layer_sizes, "Flow: hidden_layer_sizes")
    object.__setattr__(spec, "hidden_layer_sizes", sizes)


class FlowDistribution(Distribution):
    """The law of f(u), u ~ base.

    Parameters
    ----------
    transform : zuko transform
        f, with ``call_and_ladj`` and ``inv``.
    base : Distribution, event shape (d,)
    """

    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, transform: Any, base: Distribution) -> None:
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)
        self.transform, self.base = transform, base
        self._last: tuple[Tensor, Tensor] | None = None

    def expand(self, batch_shape: Any, _instance: Any = None) -> "FlowDistribution":
        """Return the same law for another batch shape."""
        return FlowDistribution(self.transform, self.base.expand(batch_shape))

    @property
    def mean(self) -> Tensor:
        """E[z], the average of 256 draws from fixed noise that is the same for every row."""
        fixed = Independent(Normal(torch.zeros(self.event_shape), 1.0), 1).expand([1])
        u = distributions.draw(fixed, (128,), rng.Sequential(rng.generator(0)))
        u = torch.cat([u, -u]).to(self.base.mean)  # antithetic: odd moments cancel
        average: Tensor = self.transform(self.base.mean + self.base.stddev * u).mean(0)
        return average

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density; for the point that was drawn last, what the drawing computed."""
        if self._last is not None and self._last[0] is value:
            return self._last[1]
        u, ladj = self.transform.inv.call_and_ladj(value)
        log_prob: Tensor = self.base.log_prob(u) + ladj
        return log_prob

    def draw(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """Draw with explicit noise, shape (*shape, *batch_shape, d)."""
        u = distributions.draw(self.base, shape, noise)
        z: Tensor
        z, ladj = self.transform.call_and_ladj(u)
        self._last = (z, self.base.log_prob(u) - ladj)
        return z


@distributions.draw.register
def _(distribution: FlowDistribution, shape: tuple[int, ...], noise: Noise) -> Tensor:
    return distribution.draw(shape, noise)


class FlowModule(nn.Module):
    """Transforms whose parameters are functions of a context, if there is one.

    Parameters
    ----------
    transforms : ModuleList
        Each maps the context to a transform.
    generates : bool
        Whether they go from the base to z, or back.
    """

    def __init__(self, transforms: nn.ModuleList, generates: bool) -> None:
        super().__init__()
        self.transforms = transforms
        self.generates = generates

    def forward(self, base: Distribution, context: Tensor | None = None) -> FlowDistribution:
        """Push a base distribution through the flow."""
        zuko = load_zuko()
        parts = [transform(context) for transform in self.transforms]
        composed = zuko.transforms.ComposedTransform(*parts)
        return FlowDistribution(composed if self.generates else composed.inv, base)


def build_flow(spec: FlowSpec, d: int, context: int) -> FlowModule:
    """Return the flow of a spec for d dimensions; ``context`` 0 is unconditional."""
    kind = KINDS[spec.kind]
    modules = [kind.build(spec, d, context, i) for i in range(spec.n_transforms)]
    return FlowModule(nn.ModuleList(modules), kind.generates)


def _autoregressive(
    spec: FlowSpec, d: int, context: int, i: int, *, coupling: bool, spline: bool = False
) -> nn.Module:
    zuko = load_zuko()
    device = torch.get_default_device().type
    options: dict[str, Any] = {}
    if spline:
        options = {
            "univariate": zuko.transforms.MonotonicRQSTransform,
            "shapes": [(8,), (8,), (7,)],
        }
    if device == "meta" and d > 1:
        n_out = d * (sum(map(math.prod, options["shapes"])) if spline else 2)
        return _outline((d + context, *spec.hidden_layer_sizes, n_out), d)
    coupling = coupling and d > 1
    # Else on the CPU whatever the default device is: zuko computes its masks while it builds.
    with torch.device("meta" if device == "meta" else "cpu"):
        transform: Any = zuko.flows.MaskedAutoregressiveTransform(
            features=d,
            context=context,
            hidden_features=tuple(spec.hidden_layer_sizes),
            order=_order(i, d, coupling),
            passes=2 if coupling else None,
            **options,
        )
    with torch.no_grad():  # start near the identity, whatever the sizes are
        last = transform.hyper[-1] if hasattr(transform, "hyper") else transform
        for parameter in last.parameters():
            parameter.mul_(0.01)
    return transform  # type: ignore[no-any-return]


def _outline(sizes: Sequence[int], d: int) -> nn.Module:
    """Return names and shapes of a masked transform's weights, without computing the masks.

    The size of a model in a file is compared on the meta device before any memory is taken.
    """
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layer = nn.Linear(n_in, n_out)
        layer.register_buffer("mask", torch.empty(n_out, n_in, dtype=torch.bool))
        layers += [layer, nn.ReLU()]
    outline = nn.Module()
    outline.register_buffer("order", torch.empty(d, dtype=torch.int64))
    outline.hyper = nn.Sequential(*layers[:-1])
    return outline


def _order(i: int, d: int, coupling: bool) -> Tensor:
    """Order of the coordinates in transform i: each is changed by others, and mixed with all."""
    if coupling:  # the first half conditions the second
        shift = i * (d // 2) + (0 if d % 2 else i // 2)
        return (torch.arange(d) + shift) % d
    return torch.arange(d).flip(0) if i % 2 else torch.arange(d)


def _amortised(
    spec: FlowSpec, d: int, context: int, i: int, *, start: Callable[[int, int], transforms.Start]
) -> nn.Module:
    return transforms.Amortised(start(d, i), context, tuple(spec.hidden_layer_sizes))


@dataclass(frozen=True)
class _Kind:
    """How transform number i is built, (spec, d, context, i), and which way it goes."""

    build: Callable[[FlowSpec, int, int, int], nn.Module]
    generates: bool = False


KINDS: dict[str, _Kind] = {
    "coupling": _Kind(partial(_autoregressive, coupling=True)),
    "householder": _Kind(partial(_amortised, start=transforms.householder), generates=True),
    "iaf": _Kind(partial(_autoregressive, coupling=False), generates=True),
    "maf": _Kind(partial(_autoregressive, coupling=False)),
    "planar": _Kind(partial(_amortised, start=transforms.planar), generates=True),
    "radial": _Kind(partial(_amortised, start=transforms.radial), generates=True),
    "spline": _Kind(partial(_autoregressive, coupling=True, spline=True)),
    "sylvester": _Kind(partial(_amortised, start=transforms.sylvester), generates=True),
}
