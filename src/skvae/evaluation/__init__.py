"""How good a fitted model is, its maps and its samples, with what to compare each figure with.

These functions take numbers, not estimators, so that every estimator can use them. Importing
them does not import torch.
"""

from skvae._cell_scores import CellScores, ImputationReport
from skvae.evaluation.likelihood import (
    LikelihoodBounds,
    LikelihoodReport,
    imputation_rmse,
    likelihood_bounds,
    likelihood_report,
    warn_of_collapse,
    warn_of_heavy_tails,
)
from skvae.evaluation.maps import EmbeddingReport, embedding

__all__ = [
    "CellScores",
    "EmbeddingReport",
    "ImputationReport",
    "LikelihoodBounds",
    "LikelihoodReport",
    "embedding",
    "imputation_rmse",
    "likelihood_bounds",
    "likelihood_report",
    "warn_of_collapse",
    "warn_of_heavy_tails",
]
