"""How good a fitted model is, its maps and its samples, with what to compare each figure with.

These functions take numbers, not estimators, so that every estimator can use them. Importing
them does not import torch.
"""

from skvae._cell_scores import CellScores, ImputationReport
from skvae.evaluation.factors import (
    DisentanglementReport,
    beta_vae_score,
    dci_scores,
    disentanglement,
    factor_vae_score,
    mutual_information,
)
from skvae.evaluation.features import ClassifierFeatures
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
from skvae.evaluation.samples import GenerationReport, generation
from skvae.evaluation.two_samples import (
    Copies,
    Support,
    TwoSampleTest,
    copies,
    expected_coverage,
    frechet_distance,
    frechet_distance_of_gaussians,
    kernel_distance,
    support,
    two_sample_test,
)

__all__ = [
    "CellScores",
    "ClassifierFeatures",
    "Copies",
    "DisentanglementReport",
    "EmbeddingReport",
    "GenerationReport",
    "ImputationReport",
    "LikelihoodBounds",
    "LikelihoodReport",
    "Support",
    "TwoSampleTest",
    "beta_vae_score",
    "copies",
    "dci_scores",
    "disentanglement",
    "embedding",
    "expected_coverage",
    "factor_vae_score",
    "frechet_distance",
    "frechet_distance_of_gaussians",
    "generation",
    "imputation_rmse",
    "kernel_distance",
    "likelihood_bounds",
    "likelihood_report",
    "mutual_information",
    "support",
    "two_sample_test",
    "warn_of_collapse",
    "warn_of_heavy_tails",
]
