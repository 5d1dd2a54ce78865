"""Codes that stand where a map of the training rows has put them."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from skvae.evidence import Batch, Evidence, Model
from skvae.exceptions import ParameterError
from skvae.penalties.base import Beside, Penalty
from skvae.posteriors import Posterior
from skvae.rng import Noise
from skvae.spec import at_least, check_finite

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout(Penalty, name="layout"):
    """Posterior means stand where t-SNE has put the rows of `fit`: a map in one or two dimensions.

    Before training, the rows are laid out by t-SNE [1]_ with exaggeration [2]_, on UMAP's graph of
    nearest neighbours [3]_. The term is the mean of log(1 + r² / tolerance²) of the distances r
    between posterior means and these places, of which the standard deviation over all coordinates
    is 1, as that of N(0, I): most rows end up near their places, and a few that no smooth encoder
    can send there count little. The encoder learns from every row where it belongs; `Neighbors`,
    which says how pairs are to stand, takes many times as long. Held-out rows are judged without
    the term.

    Parameters
    ----------
    n_neighbors : int
        Nearest rows of each that count as its neighbours.
    exaggeration : float or "auto"
        How much more neighbours attract than in t-SNE. More makes tighter clusters with wider
        gaps, and loses some of the structure within; about 4 resembles UMAP [2]_. It suits many
        rows, while clusters of few shrink to lines: ``"auto"`` is 2 from 5,000 rows on, and
        otherwise 1, which is t-SNE.
    weight : float
        Of the term, beside a bound of hundreds of nats.
    tolerance : float
        Distance from its place that a row may well have.

    References
    ----------
    .. [1] van der Maaten and Hinton, "Visualizing Data using t-SNE", 2008
    .. [2] Böhm, Berens and Kobak, "Attraction-Repulsion Spectrum in Neighbor Embeddings", 2022,
       arXiv:2007.08902
    .. [3] McInnes, Healy and Melville, "UMAP", 2018, arXiv:1802.03426
    """

    n_neighbors: int = 15
    exaggeration: float | Literal["auto"] = "auto"
    weight: float = 1000.0
    tolerance: float = 0.2

    def __post_init__(self) -> None:
        at_least(self.n_neighbors, 2, "Layout: n_neighbors")
        numbers = ["weight", "tolerance"]
        if self.exaggeration != "auto":
            numbers.append("exaggeration")
        if isinstance(self.exaggeration, str) and self.exaggeration != "auto":
            raise ParameterError(
                f"Layout: exaggeration must be a number or 'auto'; received {self.exaggeration!r}."
            )
        check_finite(self, *numbers)
        for name in numbers[1:]:
            if not getattr(self, name) > 0:
                raise ParameterError(f"Layout: {name} must be above 0; received 0.")

    @property
    def beside(self) -> tuple[Beside, ...]:
        """The place of each row."""
        return (Beside(self.n_neighbors, self.exaggeration),)

    def objection(self, posterior: Posterior) -> str | None:
        """Codes must be able to stand in a plane."""
        if posterior.space == "real":
            return None
        return "its codes cannot stand wherever a map in a plane has put the rows"

    def __call__(
        self, model: Model, batch: Batch, evidence: Evidence, *, step: int, noise: Noise
    ) -> Tensor:
        """Evaluate the weighted penalty.

        Raises
        ------
        ParameterError
            The batch brings no places.
        """
        if batch.place is None:
            raise ParameterError(
                "Layout needs batches that bring the places of their rows: wrap the source of the "
                "rows in guides.Placed."
            )
        q = evidence.posterior or model.infer(batch)
        r2 = (q.mean - batch.place.to(q.mean)).square().sum(-1)  # (B,)
        return self.weight * (r2 / self.tolerance**2).log1p().mean()
