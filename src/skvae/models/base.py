"""What every generative model is: a spec that fixes the shapes of its weights."""

import abc

from torch import nn

from skvae.spec import Spec

__all__ = ["GenerativeModel"]


class GenerativeModel(Spec, abc.ABC, family="model"):
    """Description of a model; `build` makes the module."""

    @abc.abstractmethod
    def build(self, seed: int) -> nn.Module:
        """Return the module with weights that are a function of the seed."""
