"""Small generated images whose factors of variation are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from skvae.exceptions import ParameterError

__all__ = ["Sprites", "make_sprites"]

SIDE = 16
FINE = 4  # points along each side of a pixel, whose share inside the shape is its ink
RADII = (2.0, 3.0, 4.0)
SHADES = (0.4, 0.7, 1.0)
KINDS = ("square", "disc", "cross")
MARGIN = 4.5  # of the centres to the border: the largest shape fits


@dataclass(frozen=True, eq=False)
class Sprites:
    """Images of one shape each, one for every combination of its factors.

    Attributes
    ----------
    X : ndarray of uint8, shape (n, 256)
        One image per row, values from 0 to `max_value`.
    factors : ndarray of int, shape (n, 5)
        Value of each factor, from 0.
    names : tuple of str
        ``("x", "y", "size", "shade", "kind")``.
    categorical : tuple of int
        Columns of factors whose values have no order: the kind, square, disc or cross.
    event_shape : tuple of int
        ``(1, 16, 16)``.
    max_value : int
        The value of full ink.
    """

    X: npt.NDArray[np.uint8] = field(repr=False)
    factors: npt.NDArray[np.int64] = field(repr=False)
    names: tuple[str, ...] = ("x", "y", "size", "shade", "kind")
    categorical: tuple[int, ...] = (4,)
    event_shape: tuple[int, int, int] = (1, SIDE, SIDE)
    max_value: int = 255


def make_sprites(n_positions: int = 8, *, random_state: int | None = 0) -> Sprites:
    """Draw a shape at every place, in every size, shade and kind.

    In the way of dSprites [1]_, but small, and made here: to judge whether codes separate what
    varies independently (`skvae.evaluation.disentanglement`).

    Parameters
    ----------
    n_positions : int
        Places along each side, from 2 to 64. The number of images is 27 times its square: 1,728
        for 8.
    random_state : int or None
        Of the order of the rows; None leaves them sorted by their factors.

    Returns
    -------
    Sprites

    Raises
    ------
    ParameterError

    References
    ----------
    .. [1] Matthey, Higgins, Hassabis and Lerchner, "dSprites: Disentanglement testing Sprites
       dataset", 2017

    Examples
    --------
    >>> from skvae import datasets
    >>> sprites = datasets.make_sprites()
    >>> sprites.X.shape, sprites.factors.max(0).tolist()
    ((1728, 256), [7, 7, 2, 2, 2])
    """
    if not isinstance(n_positions, int) or not 2 <= n_positions <= 64:
        raise ParameterError(f"n_positions must be an int from 2 to 64; received {n_positions!r}.")
    if random_state is not None and (not isinstance(random_state, int) or random_state < 0):
        raise ParameterError(
            f"random_state must be an int >= 0 or None; received {random_state!r}."
        )
    places = np.linspace(MARGIN, SIDE - MARGIN, n_positions)
    counts = (n_positions, n_positions, len(RADII), len(SHADES), len(KINDS))
    factors = np.array(list(product(*map(range, counts))), np.int64)
    inks = {
        (x, y, size, kind): _ink(places[x], places[y], RADII[size], KINDS[kind])
        for x, y, size, _, kind in factors.tolist()
    }
    X = np.stack(
        [
            np.rint(255 * SHADES[shade] * inks[x, y, size, kind]).astype(np.uint8).ravel()
            for x, y, size, shade, kind in factors.tolist()
        ]
    )
    if random_state is not None:
        order = np.random.default_rng(random_state).permutation(len(X))
        X, factors = X[order], factors[order]
    return Sprites(X, factors)


def _ink(x: float, y: float, radius: float, kind: str) -> npt.NDArray[np.float64]:
    """Return the share of each pixel (SIDE, SIDE) inside a shape."""
    points = (np.arange(SIDE * FINE) + 0.5) / FINE
    u, v = np.abs(points - x) / radius, np.abs(points - y)[:, None] / radius
    inside: dict[str, Any] = {
        "square": np.maximum(u, v) <= 0.85,
        "disc": u**2 + v**2 <= 1,
        "cross": (np.minimum(u, v) <= 0.3) & (np.maximum(u, v) <= 1),
    }
    cells = inside[kind].reshape(SIDE, FINE, SIDE, FINE)
    share: npt.NDArray[np.float64] = cells.mean((1, 3))
    return share
