"""Pictures: matplotlib Display objects in scikit-learn's manner.

Each has ``from_estimator(vae, ...)`` and ``plot(ax=)``, draws on the axes that it is given or on
new ones, and keeps what it drew on as ``ax_`` and ``figure_``. How rows look is decided in one
place, `painter_of`: images are tiles, rows of tables bars, sequences lines or texts. Pictures of
rows show means E[x | z], without noise.
"""

from skvae.plot._choose import painter_of
from skvae.plot._painter import Painter
from skvae.plot._tiles import as_images
from skvae.plot.imputation import ColumnCells, FilledRows, ImputationDisplay
from skvae.plot.interpolation import InterpolationDisplay
from skvae.plot.latent_map import LatentMapDisplay, Thumbnails
from skvae.plot.manifold import ManifoldDisplay
from skvae.plot.reconstruction import ReconstructionDisplay
from skvae.plot.samples import SamplesDisplay
from skvae.plot.training_curve import TrainingCurveDisplay
from skvae.plot.traversal import TraversalDisplay

__all__ = [
    "ColumnCells",
    "FilledRows",
    "ImputationDisplay",
    "InterpolationDisplay",
    "LatentMapDisplay",
    "ManifoldDisplay",
    "Painter",
    "ReconstructionDisplay",
    "SamplesDisplay",
    "Thumbnails",
    "TrainingCurveDisplay",
    "TraversalDisplay",
    "as_images",
    "painter_of",
]
