"""What all likelihoods share: the two contracts, the allowed values, smooth bounds."""

import abc
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Distribution

from skvae.distributions import bounded
from skvae.likelihoods.readers import Numbers, Reader, log_of_counts, sum_up
from skvae.likelihoods.summaries import Mean, Summary
from skvae.spec import Spec, at_least

__all__ = [
    "Likelihood",
    "LikelihoodModule",
    "Mode",
    "Standardize",
    "Support",
    "at_least",
    "bounded",
    "bounded_scale",
]

Mode = Literal["none", "shared", "per_feature", "scale"]
Standardize = Mode | tuple[Mode, ...]


@dataclass(frozen=True)
class Support:
    """The values that a likelihood allows.

    Parameters
    ----------
    low, high : float
    integral : bool
        Only whole numbers.
    open : bool
        Without ``low`` and ``high`` themselves.
    advice : str
        What to do about other values; the empty string leaves it to `skvae.data.check_support`.
    likelihood : str
        Name of the likelihood of which this is a rule, where there are several.
    """

    low: float = -math.inf
    high: float = math.inf
    integral: bool = False
    open: bool = False
    advice: str = ""
    likelihood: str = ""

    def __str__(self) -> str:
        kind = "whole numbers" if self.integral else "values"
        brackets = "()" if self.open else "[]"
        left = "(" if self.low == -math.inf else brackets[0]
        right = ")" if self.high == math.inf else brackets[1]
        return f"{kind} in {left}{self.low:g}, {self.high:g}{right}"

    def forbids(self, X: NDArray[Any]) -> NDArray[np.bool_]:
        """Return where X breaks the rule; NaN, a missing cell, does not."""
        bad = (self.low > X) | (self.high < X)
        if self.open:
            bad |= (self.low == X) | (self.high == X)
        if self.integral:
            bad |= (np.floor(X) != X) & ~np.isnan(X)
        return np.asarray(bad)

    def at(self, column: int) -> "Support":
        """Return the rule for one column of flat rows (n, D); here it is the same for all."""
        return self


class LikelihoodModule(nn.Module, abc.ABC):
    """A likelihood for one event shape.

    Attributes
    ----------
    event_shape : tuple of int
        Shape of one x.
    param_shape : tuple of int
        Shape of what the decoder must put out for one x: ``event_shape``, with one axis in front
        where a cell needs several numbers.
    """

    event_shape: tuple[int, ...]
    param_shape: tuple[int, ...]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one x as `represent` shows it to networks."""
        return self.event_shape

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """Shape of the data's units, which broadcasts to ``event_shape``."""
        return self.event_shape

    @abc.abstractmethod
    def forward(self, h: Tensor) -> Distribution:
        """Return p(x | z) with batch shape ``(..., *event)`` for h of ``(..., *param_shape)``.

        Its ``log_prob`` must be finite at x = 0, which is what hidden cells hold, and it must
        have a ``mean`` and a rule in `skvae.distributions.draw`.
        """

    def calibrate(self, mean: Tensor, unit: Tensor, rows: Tensor | None = None) -> None:
        """Learn from the training data before the first update; does nothing by default.

        Parameters
        ----------
        mean : Tensor, shape (*event,)
            Mean of the training data in model units.
        unit : Tensor, shape () or (*event,)
            How many data units one model unit is.
        rows : Tensor, shape (n, *event), or None
            Some training rows in model units; NaN where hidden.
        """

    def adapt(self, p: Distribution, x: Tensor, mask: Tensor | None) -> Distribution:
        """Fit p(x | z) to the batch that it is about to score; returns it as it is by default.

        For parameters with a closed-form optimum, in training mode only.

        Parameters
        ----------
        p : Distribution, batch shape (K, B, *event)
            What `forward` returned.
        x : Tensor, shape (B, *event)
            In model units; any finite number where hidden.
        mask : Tensor of bool, shape (B, *event), or None
            True where a cell is observed.
        """
        return p

    def represent(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return x (B, *event) and its mask as networks see them, (B, *input); as they are here.

        Hidden cells may hold anything.
        """
        return x, mask

    def counted(self, x: Tensor, mask: Tensor | None) -> Tensor | None:
        """Return the mask of the cells whose density counts; here those that are observed."""
        return mask

    def conditioned(self, p: Distribution, x: Tensor) -> Distribution:
        """Return p(x | z) given what of x (B, *event) is never hidden; here that is nothing."""
        return p

    def statistics(self, p: Distribution) -> Tensor:
        """Return what is averaged over draws of z to describe x; here the mean, (..., *event)."""
        mean: Tensor = p.mean
        return mean

    def pool(self, weighted: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Sum up `statistics` and weights, which broadcast to them; here to the weighted mean.

        Returns x, shape (B, *event).
        """
        return sum_up(weighted)

    def split(self, h: Tensor) -> tuple[Tensor, ...]:
        """Unbind the axis in front of the event, (..., k, *event) -> k of (..., *event)."""
        return h.unbind(-1 - len(self.event_shape))


class Likelihood(Spec, abc.ABC, family="likelihood"):
    """Choice of p(x | z).

    Properties say what the data must be like: ``support``, the allowed values, and
    ``standardize``, how the data are rescaled before the network sees them. ``takes_rounded`` says
    whether parameters of eight significant bits serve as well as exact ones, so that the networks
    may be trained in bfloat16, ``sequential`` whether an x is a sequence of steps, and
    ``cellwise`` whether it describes cells, so that others can be made of it.
    """

    takes_rounded: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    cellwise: ClassVar[bool] = True

    @property
    def support(self) -> Support:
        """Allowed values; a plain pair is a closed interval."""
        return Support()

    @property
    def standardize(self) -> Standardize:
        """How the data are rescaled.

        ``"shared"``: centred, one unit for all cells; ``"per_feature"``: one for each;
        ``"scale"``: positive numbers divided by the geometric mean of their feature. A tuple has
        a mode for each feature.
        """
        return "none"

    @abc.abstractmethod
    def build(self, event_shape: tuple[int, ...]) -> LikelihoodModule:
        """Return the module for one event shape."""

    def reader(self, n_features: int) -> Reader:
        """Return how networks that read step after step see a step of ``n_features`` cells.

        Whole numbers without an upper limit are shown by their logarithm.
        """
        counts = self.support.integral and self.support.high == math.inf
        return Numbers(n_features, log_of_counts if counts else None)

    def column_reader(self, n_features: int) -> Reader:
        """Return how networks see ``n_features`` columns of a table; as a step by default."""
        return self.reader(n_features)

    @property
    def summary(self) -> Summary:
        """The one value that stands for a cell of a table; the mean by default."""
        return Mean()


def bounded_scale(raw: Tensor) -> Tensor:
    """Map any real number to a standard deviation in (1e-3, 1e3), 0 to 1, smoothly."""
    return torch.exp(bounded(raw, math.log(1e3)))
