"""Generative models: which conditional distributions there are and how they are wired."""

from skvae.models.base import GenerativeModel
from skvae.models.vae import VAEModel, VAEModule

__all__ = ["GenerativeModel", "VAEModel", "VAEModule"]
