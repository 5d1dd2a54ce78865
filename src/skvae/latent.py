"""The space that the latent variables of a model live in."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["Latent", "Space"]

Space = Literal["real", "sphere", "one_hot", "mixed"]


@dataclass(frozen=True)
class Latent:
    """What one z is.

    Parameters
    ----------
    n_components : int
        Number of latent variables.
    space : {"real", "sphere", "one_hot", "mixed"}
        ``"real"``: n numbers. ``"sphere"``: n numbers whose squares sum to 1. ``"one_hot"``: n
        variables with ``n_categories`` values each, z holding their indicators side by side.
        ``"mixed"``: n numbers, some of which are such indicators.
    n_categories : int
        Number of values of a discrete variable.
    """

    n_components: int
    space: Space = "real"
    n_categories: int = 1

    @property
    def width(self) -> int:
        """Number of numbers in one z."""
        return self.n_components * self.n_categories
