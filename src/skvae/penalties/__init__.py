"""Terms that are added to an objective: ``ELBO() + Contractive(0.1)``."""

from skvae.penalties.base import Penalty
from skvae.penalties.classes import Supervised
from skvae.penalties.contractive import Contractive
from skvae.penalties.decoder import DecoderGradient, DecoderWeights
from skvae.penalties.disentangle import DIP, FactorVAE, TotalCorrelation
from skvae.penalties.layout import Layout
from skvae.penalties.mmd import MMD
from skvae.penalties.neighbors import Neighbors
from skvae.penalties.unlabelled import Consistency, PseudoLabels, VirtualAdversarial
from skvae.penalties.wake import WakePhase

__all__ = [
    "DIP",
    "MMD",
    "Consistency",
    "Contractive",
    "DecoderGradient",
    "DecoderWeights",
    "FactorVAE",
    "Layout",
    "Neighbors",
    "Penalty",
    "PseudoLabels",
    "Supervised",
    "TotalCorrelation",
    "VirtualAdversarial",
    "WakePhase",
]
