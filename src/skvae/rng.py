"""Randomness as a function of ``(seed, purpose, counters)``.

Nothing here keeps hidden state: the same key always gives the same stream. A run that was stopped
can therefore go on exactly, and the global generators of NumPy and torch stay untouched.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "Noise",
    "PerRow",
    "Repeated",
    "Sequential",
    "Shard",
    "Stream",
    "generator",
    "isolated",
    "seed_from",
]

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
    PRIOR = 9
    AUGMENT = 10
    GUIDE = 11
    ENCODE = 12
    NEIGHBOR = 13


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


class Noise(Protocol):
    """A source of noise for rows of data."""

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape); axis 0 of ``like`` is the row."""
        ...

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        ...


class Sequential:
    """Noise from one generator, row after row: fast, independent, for training and sampling."""

    def __init__(self, source: torch.Generator) -> None:
        self.source = source

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape)."""
        noise = torch.empty((*shape, *like.shape), dtype=like.dtype, device=self.source.device)
        return noise.normal_(generator=self.source).to(like.device)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        noise = torch.empty((*shape, *like.shape), dtype=like.dtype, device=self.source.device)
        return noise.uniform_(generator=self.source).to(like.device)


class PerRow:
    """Noise that is a function of ``(seed, content of the row, count)`` alone.

    What a row gets depends neither on its place, nor on its company, nor on how the work is cut
    into batches, and yet different rows get independent numbers. (One set of noise shared by all
    rows would also repeat exactly, but then the errors of all rows point the same way: their mean
    is no better than a single row's, and its standard error is wrong.)

    Parameters
    ----------
    x : Tensor, shape (B, ...)
        The rows; compared as float32.
    seed : int
    """

    def __init__(self, x: Tensor, seed: int) -> None:
        rows = x.detach().flatten(1).float().cpu().contiguous().numpy() + np.float32(0)  # −0 is 0
        salt = (seed % 2**128).to_bytes(16, "little")
        digests = [hashlib.blake2b(row.data, digest_size=8, salt=salt).digest() for row in rows]
        self.keys = torch.from_numpy(np.frombuffer(b"".join(digests), dtype="<i8").copy())
        self.used = 0

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape)."""
        noise: Tensor = torch.special.ndtri(self._uniform(shape, like))
        return noise.to(like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        below_one = 1 - torch.finfo(like.dtype).eps / 2
        return self._uniform(shape, like).clamp_(max=below_one).to(like)

    def _uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        event = tuple(like.shape[1:])
        count = math.prod(shape) * math.prod(event)
        counter = torch.arange(self.used + 1, self.used + count + 1).view(*shape, 1, *event)
        self.used += count
        # splitmix64 (Steele, Lea and Flood, 2014): position `counter` of the row's own sequence.
        bits = self.keys.view(-1, *[1] * len(event)) + counter * _signed(0x9E3779B97F4A7C15)
        bits = (bits ^ _shift(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
        bits = (bits ^ _shift(bits, 27)) * _signed(0x94D049BB133111EB)
        bits = bits ^ _shift(bits, 31)
        uniform: Tensor = (_shift(bits, 11).double() + 0.5) * 2.0**-53  # never 0 or 1
        return uniform


class Shard:
    """Some rows of the noise for a larger batch: what they would get with all the others there.

    Tensors with another number of rows are no part of the batch; for these nothing is cut out.

    Parameters
    ----------
    noise : Noise
        Of the whole batch.
    start, stop, total : int
        The rows are those from ``start`` to ``stop`` of ``total``.
    """

    def __init__(self, noise: Noise, start: int, stop: int, total: int) -> None:
        self.noise, self.start, self.stop, self.total = noise, start, stop, total

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape)."""
        return self._rows(self.noise.normal, shape, like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        return self._rows(self.noise.uniform, shape, like)

    def _rows(
        self,
        draw: Callable[[tuple[int, ...], Tensor], Tensor],
        shape: tuple[int, ...],
        like: Tensor,
    ) -> Tensor:
        if like.shape[:1] != (self.stop - self.start,):
            return draw(shape, like)
        whole = like.new_empty(()).expand(self.total, *like.shape[1:])  # takes no memory
        return draw(shape, whole).narrow(len(shape), self.start, self.stop - self.start)


class Tempered:
    """Noise whose normal numbers are wider or narrower; uniform ones stay.

    Parameters
    ----------
    noise : Noise
    temperature : float
        Their standard deviation.
    """

    def __init__(self, noise: Noise, temperature: float) -> None:
        self.noise, self.temperature = noise, temperature

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Normal numbers, shape (*shape, *like.shape)."""
        return self.temperature * self.noise.normal(shape, like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        return self.noise.uniform(shape, like)


class Repeated:
    """Noise for rows that are there several times over, new at each time.

    Parameters
    ----------
    noise : Noise
        Of the B rows.
    times : int
        Tensors have ``times`` · B rows: all B, and all again.
    """

    def __init__(self, noise: Noise, times: int) -> None:
        self.noise, self.times = noise, times

    def normal(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Standard normal numbers, shape (*shape, *like.shape)."""
        return self._rows(self.noise.normal, shape, like)

    def uniform(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Uniform numbers in [0, 1), shape (*shape, *like.shape)."""
        return self._rows(self.noise.uniform, shape, like)

    def _rows(
        self,
        draw: Callable[[tuple[int, ...], Tensor], Tensor],
        shape: tuple[int, ...],
        like: Tensor,
    ) -> Tensor:
        once = like[: len(like) // self.times]
        numbers = draw((*shape, self.times), once)  # (*shape, times, B, ...)
        return numbers.flatten(len(shape), len(shape) + 1)


def _signed(constant: int) -> int:
    return constant - 2**64 if constant >= 2**63 else constant


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift right without the sign: torch has no unsigned arithmetic."""
    shifted: Tensor = (bits >> by) & (2 ** (64 - by) - 1)
    return shifted
