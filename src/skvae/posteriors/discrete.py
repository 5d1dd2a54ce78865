"""Discrete posteriors: categorical variables, and the nearest entries of a codebook."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from skvae.discrete import OneHot, PointMass, RelaxedOneHot
from skvae.exceptions import ParameterError
from skvae.latent import Latent
from skvae.posteriors.base import Posterior, PosteriorModule
from skvae.spec import at_least

__all__ = [
    "Categorical",
    "CategoricalModule",
    "Quantized",
    "VectorQuantized",
    "VectorQuantizedModule",
]

GOLDEN = (math.sqrt(5) - 1) / 2
DEAD = 0.1  # share of the mean use below which a code is given a new place


@dataclass(frozen=True)
class Categorical(Posterior, name="categorical"):
    """Independent categorical variables, trained through Gumbel-softmax draws [1]_ [2]_.

    In training, a draw is the softmax of (log p + Gumbel noise) / temperature over the categories
    of each variable; in inference it is an exact draw. The KL term is exact in both.

    The gradient is that of the relaxed draws, which is biased for the discrete model;
    ``objectives.IWAE(gradient="vimco")`` has an unbiased one.

    Parameters
    ----------
    n_categories : int
        Number of values of each variable.
    temperature : float
        How soft the relaxed draws are. Towards 0 they become indicators, and their gradient less
        biased and noisier; large values make all draws alike.
    straight_through : bool
        True: the decoder sees exact indicators in training too, with the gradient of the relaxed
        draws. False: it sees the relaxed draws, and what the training history then says of the
        ELBO is not a bound for the discrete model (validation and scores are).

    References
    ----------
    .. [1] Jang, Gu and Poole, "Categorical Reparameterization with Gumbel-Softmax", 2017,
       arXiv:1611.01144
    .. [2] Maddison, Mnih and Teh, "The Concrete Distribution", 2017, arXiv:1611.00712
    """

    n_categories: int = 10
    temperature: float = 0.67
    straight_through: bool = True

    space = "one_hot"
    reparameterized = False

    def __post_init__(self) -> None:
        at_least(self.n_categories, 2, "Categorical: n_categories")
        if not 0 < self.temperature < math.inf:
            raise ParameterError(
                f"Categorical: temperature must be finite and > 0; received {self.temperature!r}."
            )

    @property
    def has_score(self) -> bool:  # type: ignore[override]
        """Relaxed draws do not follow the law whose probabilities are known."""
        return self.straight_through

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d variables and ``context`` features."""
        return CategoricalModule(self, d, context)

    def latent(self, n_components: int) -> Latent:
        """Return the space of z."""
        return Latent(n_components, "one_hot", self.n_categories)


class CategoricalModule(PosteriorModule):
    """A linear map to the logits of every category of every variable."""

    def __init__(self, spec: Categorical, d: int, context: int) -> None:
        super().__init__()
        self.spec, self.d = spec, d
        self.head = nn.Linear(context, d * spec.n_categories)

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        logits = self.head(features).unflatten(-1, (self.d, self.spec.n_categories))
        if self.training:
            return RelaxedOneHot(logits, self.spec.temperature, self.spec.straight_through)
        return OneHot(logits)


@dataclass(frozen=True)
class VectorQuantized(Posterior, name="vector_quantized"):
    """Nearest entries of a learned codebook: VQ-VAE [1]_.

    The encoder makes one vector for each latent variable, and q(z | x) puts all probability on
    the nearest code z*; the decoder sees the codes. All variables share one codebook. The bound is
    that of a point mass, log p(x | z*) + log p(z*) <= log p(x), and as all draws are equal, more
    importance samples do not tighten it. After training, ``fit_prior(X, "autoregressive")`` learns
    p(z), which raises the bound and makes better samples.

    The gradient passes straight through from the codes to the encoder's vectors. The codes are
    running means of the vectors that chose them. They start as vectors of the first training
    batch, and a code whose running use falls below a tenth of the mean is put on a vector of the
    batch.

    Parameters
    ----------
    n_codes : int
        Size of the codebook.
    code_size : int
        Length of one code.
    decay : float
        Of the running means, in [0, 1).
    commitment : float
        Weight of the squared distance between the encoder's vectors and their codes in the loss.

    References
    ----------
    .. [1] van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning", 2017,
       arXiv:1711.00937, with the running means of its appendix A.1
    """

    n_codes: int = 64
    code_size: int = 16
    decay: float = 0.99
    commitment: float = 0.25

    space = "one_hot"
    reparameterized = False
    has_score = False
    smooth_mean = False

    def __post_init__(self) -> None:
        at_least(self.n_codes, 2, "VectorQuantized: n_codes")
        at_least(self.code_size, 1, "VectorQuantized: code_size")
        if not 0 <= self.decay < 1:
            raise ParameterError(
                f"VectorQuantized: decay must be in [0, 1); received {self.decay!r}."
            )
        if not 0 <= self.commitment < math.inf:
            raise ParameterError(
                "VectorQuantized: commitment must be finite and >= 0; "
                f"received {self.commitment!r}."
            )

    def build(self, d: int, context: int) -> PosteriorModule:
        """Return the module for d variables and ``context`` features."""
        return VectorQuantizedModule(self, d, context)

    def latent(self, n_components: int) -> Latent:
        """Return the space of z."""
        return Latent(n_components, "one_hot", self.n_codes)


class Quantized(PointMass):
    """Point mass on the nearest codes of vectors (B, n, code_size), which it keeps."""

    def __init__(self, value: Tensor, vectors: Tensor) -> None:
        super().__init__(value)
        self.vectors = vectors


class VectorQuantizedModule(PosteriorModule):
    """A linear map to the vectors, and the codebook.

    ``use`` is the running number of vectors per update that chose each code; it is 0 everywhere
    until the first training batch.
    """

    codebook: Tensor
    use: Tensor

    def __init__(self, spec: VectorQuantized, d: int, context: int) -> None:
        super().__init__()
        self.spec, self.d = spec, d
        self.head = nn.Linear(context, d * spec.code_size)
        self.register_buffer("codebook", torch.randn(spec.n_codes, spec.code_size))
        self.register_buffer("use", torch.zeros(spec.n_codes))

    def forward(self, features: Tensor) -> Distribution:
        """Return q(z | x) for features (B, context)."""
        vectors = self.head(features).unflatten(-1, (self.d, self.spec.code_size))  # (B, n, c)
        flat = vectors.detach().flatten(0, 1)
        if self.training and not self.use.any() and torch.isfinite(flat).all():
            self.codebook.copy_(self._places(flat))
            self.use.fill_(len(flat) / self.spec.n_codes)
        # ‖v − e‖² without ‖v‖², which is the same for all codes
        distance = self.codebook.square().sum(-1) - 2 * flat @ self.codebook.T  # (B · n, k)
        nearest = F.one_hot(distance.argmin(-1), self.spec.n_codes).to(flat.dtype)
        return Quantized(nearest.unflatten(0, vectors.shape[:2]), vectors)

    def embedding_width(self, latent: Latent) -> int:
        """Return how many numbers the decoder sees: a code for each variable."""
        return latent.n_components * self.spec.code_size

    def embed(self, z: Tensor, q: Distribution | None) -> Tensor:
        """Return the codes of z (..., n · k), or their means under probabilities.

        With q, the gradient of the codes is passed on to the vectors that they stand for.
        """
        codes: Tensor = z.unflatten(-1, (self.d, self.spec.n_codes)) @ self.codebook
        codes = codes.flatten(-2)
        if isinstance(q, Quantized):
            vectors = q.vectors.flatten(-2)
            codes = codes + (vectors - vectors.detach())  # the bracket is exactly 0
        return codes

    def auxiliary(self, q: Distribution) -> Tensor | None:
        """Return the weighted squared distance of vectors and codes, shape (B,).

        It is asked for once in each update, so here the codebook learns in training.
        """
        if not isinstance(q, Quantized):
            return None
        codes = q.value @ self.codebook  # (B, n, c)
        if self.training:
            self._learn(q.value.flatten(0, 1), q.vectors.detach().flatten(0, 1))
        return self.spec.commitment * (q.vectors - codes).square().sum((-2, -1))

    @torch.no_grad()
    def _learn(self, chosen: Tensor, vectors: Tensor) -> None:
        """Update the running means, for indicators (m, k) and vectors (m, c)."""
        if not torch.isfinite(vectors).all():
            return  # the update of the weights is left out as well
        decay = self.spec.decay
        use = decay * self.use + (1 - decay) * chosen.sum(0)  # (k,)
        total = decay * self.use.unsqueeze(-1) * self.codebook + (1 - decay) * chosen.T @ vectors
        dead = use < DEAD * use.mean()
        places = torch.where(
            dead.unsqueeze(-1),
            self._places(vectors),
            total / torch.where(dead, 1, use).unsqueeze(-1),
        )
        self.codebook.copy_(places)
        self.use.copy_(torch.where(dead, use.mean(), use))

    def _places(self, vectors: Tensor) -> Tensor:
        """Choose a vector (m, c) of the batch for every code, spread over rows and variables.

        The order of the rows is random already, so steps of the golden section do: they need no
        random numbers and hit every variable alike, whatever m and n are.
        """
        steps = torch.arange(1, self.spec.n_codes + 1, dtype=torch.float64) * GOLDEN % 1
        places: Tensor = vectors[(steps * len(vectors)).long().to(vectors.device)]
        return places
