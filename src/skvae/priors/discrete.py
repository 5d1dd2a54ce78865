"""Priors of discrete latent variables."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from skvae import discrete
from skvae.discrete import OneHot
from skvae.latent import Latent
from skvae.priors.base import Infer, Prior, PriorModule
from skvae.spec import check_sizes

__all__ = ["Autoregressive", "AutoregressiveModule", "Categorical", "CategoricalModule"]


@dataclass(frozen=True)
class Categorical(Prior, name="categorical"):
    """Independent categorical variables, uniform at the start.

    Parameters
    ----------
    learned : bool
        False keeps them uniform.
    """

    learned: bool = True

    space = "one_hot"

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return CategoricalModule(latent, self.learned)


class CategoricalModule(PriorModule):
    """Logits of every category of every variable."""

    def __init__(self, latent: Latent, learned: bool) -> None:
        super().__init__()
        logits = torch.zeros(latent.n_components, latent.n_categories)
        self.logits = nn.Parameter(logits, requires_grad=learned)

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return OneHot(self.logits)


@dataclass(frozen=True)
class Autoregressive(Prior, name="autoregressive"):
    """Each variable given those before it, p(z) = Π p(z_i | z_<i), by a masked network [1]_.

    Its probabilities take one pass, drawing takes one pass for each variable. It is learned with
    the model, or after training by ``fit_prior(X, "autoregressive")``, which is what a VQ-VAE
    needs in order to generate.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Widths of the network's hidden layers.

    References
    ----------
    .. [1] Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", 2015,
       arXiv:1502.03509
    """

    hidden_layer_sizes: tuple[int, ...] = (128,)

    space = "one_hot"

    def __post_init__(self) -> None:
        sizes = check_sizes(self.hidden_layer_sizes, "Autoregressive: hidden_layer_sizes")
        object.__setattr__(self, "hidden_layer_sizes", sizes)

    def build(self, latent: Latent, event_shape: tuple[int, ...]) -> PriorModule:
        """Return the module."""
        return AutoregressiveModule(latent, self.hidden_layer_sizes)


class MaskedLinear(nn.Linear):
    """A linear layer that has only the connections which its mask (out, in) allows."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return F.linear(x, self.weight * self.mask, self.bias)


class AutoregressiveModule(PriorModule):
    """A network in which every unit has a degree m and depends on the first m variables alone."""

    def __init__(self, latent: Latent, hidden_layer_sizes: tuple[int, ...]) -> None:
        super().__init__()
        n, k = latent.n_components, latent.n_categories
        variable = torch.arange(1, n + 1).repeat_interleave(k)
        hidden = [torch.arange(size) % max(1, n - 1) + 1 for size in hidden_layer_sizes]
        layers: list[nn.Module] = []
        for below, above in itertools.pairwise([variable, *hidden]):
            layers += [MaskedLinear((above.unsqueeze(1) >= below).float()), nn.SiLU()]
        last = MaskedLinear((variable.unsqueeze(1) > [variable, *hidden][-1]).float())
        with torch.no_grad():  # start near uniform
            last.weight.mul_(0.01)
            last.bias.zero_()
        self.shape = (n, k)
        self.body, self.head = nn.Sequential(*layers), last

    def _logits(self, z: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(z)).unflatten(-1, self.shape)
        return logits

    def forward(self, infer: Infer) -> Distribution:
        """Return p(z)."""
        return discrete.Autoregressive(self._logits, self.head.bias.detach().view(self.shape))
