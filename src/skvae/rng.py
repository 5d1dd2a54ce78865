"""Randomness as a function of ``(seed, purpose, counters)``.

Nothing here keeps state: the same key always gives the same stream. A run that was stopped can
therefore go on exactly, and the global generators of Python, NumPy and torch stay untouched.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

__all__ = ["Stream", "generator", "isolated", "seed_from"]

_GLOBAL_RNG = threading.Lock()


class Stream(IntEnum):
    """What a stream of random numbers is for; streams of different purpose never overlap."""

    INIT = 0
    SPLIT = 1
    ORDER = 2
    NOISE = 3
    TARGETS = 4
    VALIDATION = 5
    SCORE = 6
    SAMPLE = 7
    IMPUTE = 8


def seed_from(seed: int, *key: int) -> int:
    """Mix a seed and a key into 63 well-spread bits."""
    sequence = np.random.SeedSequence(seed, spawn_key=key)
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(seed: int, *key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator that is a pure function of ``(seed, *key)``."""
    return torch.Generator(device).manual_seed(seed_from(seed, *key))


@contextmanager
def isolated(seed: int, *key: int) -> Iterator[None]:
    """Run code that can only draw from torch's global CPU generator, and put that one back.

    ``torch.nn`` initialises its layers from the global generator. The lock keeps concurrent fits
    from drawing each other's numbers.
    """
    with _GLOBAL_RNG:
        state = torch.default_generator.get_state()
        torch.default_generator.manual_seed(seed_from(seed, *key))
        try:
            yield
        finally:
            torch.default_generator.set_state(state)
