"""Generative models: which conditional distributions there are and how they are wired."""

from skvae.models.assembly import Assembly
from skvae.models.auxiliary import ADGM, SDGM, AuxiliaryModule
from skvae.models.base import GenerativeModel, LatentModule
from skvae.models.class_ladder import ClassLadderModule, LadderM2
from skvae.models.class_mixture import ClassMixture, ClassMixtureModule
from skvae.models.classes import M2, ClassModule
from skvae.models.classifying import ClassifyingModule
from skvae.models.conv_ladder import ConvLadder
from skvae.models.hierarchical import Hierarchical
from skvae.models.ladder import Ladder
from skvae.models.stacked import M1M2, StackedModule
from skvae.models.targets import M2Regression, TargetModule
from skvae.models.vae import OneLevel, VAEModule

__all__ = [
    "ADGM",
    "M1M2",
    "M2",
    "SDGM",
    "Assembly",
    "AuxiliaryModule",
    "ClassLadderModule",
    "ClassMixture",
    "ClassMixtureModule",
    "ClassModule",
    "ClassifyingModule",
    "ConvLadder",
    "GenerativeModel",
    "Hierarchical",
    "Ladder",
    "LadderM2",
    "LatentModule",
    "M2Regression",
    "OneLevel",
    "StackedModule",
    "TargetModule",
    "VAEModule",
]
