"""Features in which samples are compared: the last hidden layer of a classifier of the data.

No network is downloaded: one that was trained on photographs says little of digits or tables.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from skvae.evaluation._rows import as_labels, as_rows, check_count, generator, known_labels
from skvae.exceptions import DataError, ParameterError

if TYPE_CHECKING:
    from skvae.evaluation._network import Classifier

__all__ = ["ClassifierFeatures", "event_shape_of"]

Array = NDArray[Any]

HELD_OUT = 0.1
BLOCK = 512


class ClassifierFeatures:
    """A small classifier of the data at hand, as a function from rows to 128 features.

    For images: two convolutions and a hidden layer (LeNet's layout [1]_); for flat rows: two
    hidden layers. Trained with Adam from a seed: same data, seed, versions, CPU and thread count,
    same features. Distances between samples in its features are comparable among models of the
    same data and seed, and with nothing else [2]_.

    Parameters
    ----------
    event_shape : tuple of int, optional
        ``(channels, height, width)`` of images that come as flat rows. Rows of shape
        ``(height, width)`` or ``(channels, height, width)`` are images anyway.
    n_updates : int
        Updates with 128 rows each; 1,500 are three epochs of MNIST, well under a minute on one
        core.
    random_state : int

    Attributes
    ----------
    accuracy_ : float
        Share of right labels on a tenth of the rows, which were held out.
    classes_ : ndarray, shape (n_classes,)
    event_shape_ : tuple of int

    References
    ----------
    .. [1] LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
       recognition", 1998
    .. [2] Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
       Equilibrium", 2017, arXiv:1706.08500

    Examples
    --------
    >>> from skvae import datasets
    >>> from skvae.evaluation import ClassifierFeatures
    >>> digits = datasets.load_digits()
    >>> features = ClassifierFeatures(event_shape=(1, 8, 8), n_updates=100, random_state=0)
    >>> features.fit(digits.X_train, digits.y_train)(digits.X_test).shape
    (360, 128)
    >>> features.accuracy_ > 0.9
    True
    """

    classes_: Array
    accuracy_: float
    event_shape_: tuple[int, ...]
    _model: Classifier

    def __init__(
        self,
        *,
        event_shape: tuple[int, ...] | None = None,
        n_updates: int = 1500,
        random_state: int = 0,
    ) -> None:
        self.event_shape = event_shape
        self.n_updates = n_updates
        self.random_state = random_state

    @property
    def fitted(self) -> bool:
        """Whether there are features yet."""
        return hasattr(self, "_model")

    def like(self) -> ClassifierFeatures:
        """Return one that is not fitted yet, with the same parameters."""
        return ClassifierFeatures(
            event_shape=self.event_shape, n_updates=self.n_updates, random_state=self.random_state
        )

    def fit(self, X: Any, y: Any) -> Self:
        """Train the classifier.

        Parameters
        ----------
        X : array-like, shape (n, D) or (n, *event_shape)
        y : array-like, shape (n,)
            Labels, known for all rows.

        Raises
        ------
        DataError
            Fewer than 20 rows, values that are not finite or constant, one class, or labels that
            do not fit.
        ParameterError
        """
        import torch

        from skvae.evaluation import _network

        n_updates = check_count(self.n_updates, 1, "n_updates")
        event_shape = event_shape_of(X, self.event_shape)
        rows = _as_tensor(as_rows(X, "X", minimum=20))
        if (rows == rows[:1]).all():
            raise DataError("X is constant: its rows are all the same, and have no features.")
        classes, codes = as_labels(y, "y", len(rows), "X")
        order = generator(self.random_state, 0).permutation(len(rows))
        n_held_out = math.ceil(HELD_OUT * len(rows))
        held_out, own = order[:n_held_out], order[n_held_out:]
        seed = int(generator(self.random_state, 1).integers(2**63))
        model = _network.train(
            rows[own], torch.from_numpy(codes[own]), event_shape, len(classes), n_updates, seed
        )
        self.classes_, self.event_shape_, self._model = classes, event_shape, model
        guess = self._in_blocks(rows[held_out], model.forward).argmax(1)
        self.accuracy_ = float(np.mean(guess == codes[held_out]))
        return self

    def __call__(self, X: Any) -> NDArray[np.float32]:
        """Return features (n, 128) of rows (n, D) or (n, *event_shape)."""
        rows = self._rows(X)
        return self._in_blocks(rows, self._model.features)

    def predict(self, X: Any) -> Array:
        """Return the most probable label of each row, shape (n,)."""
        rows = self._rows(X)
        guess: Array = self.classes_[self._in_blocks(rows, self._model.forward).argmax(1)]
        return guess

    def score(self, X: Any, y: Any) -> float:
        """Return the share of right labels."""
        guess = self.predict(X)
        return float(np.mean(guess == known_labels(y, "y", len(guess), "X")))

    def _rows(self, X: Any) -> Any:
        if not self.fitted:
            raise ParameterError(
                "ClassifierFeatures has not been fitted: call fit(X, y) with labelled rows first."
            )
        rows = as_rows(X, "X")
        if rows.shape[1] != math.prod(self.event_shape_):
            raise DataError(
                f"X has {rows.shape[1]} values in each row, but the classifier was fitted to "
                f"{math.prod(self.event_shape_)}."
            )
        return _as_tensor(rows)

    @staticmethod
    def _in_blocks(rows: Any, function: Any) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            found = [function(part).numpy() for part in rows.split(BLOCK)]
        return np.concatenate(found)


def _as_tensor(rows: Array) -> Any:
    """Return rows as a tensor; bytes stay bytes, all else becomes float32."""
    import torch

    kept = rows if rows.dtype == np.uint8 else rows.astype(np.float32)
    return torch.tensor(kept)


def event_shape_of(X: Any, event_shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return (D,) for flat rows, and (channels, height, width) for images.

    Raises
    ------
    DataError
        Rows of another number of axes, or that do not have the shape that was given.
    ParameterError
        The shape that was given is no shape of an image.
    """
    shape: tuple[int, ...] = tuple(np.shape(X)[1:])
    if event_shape is not None:
        given = tuple(event_shape)
        if len(given) not in (2, 3) or not all(isinstance(s, int) and s > 0 for s in given):
            raise ParameterError(
                f"event_shape must be (channels, height, width); received {event_shape!r}."
            )
        if math.prod(shape) != math.prod(given):
            raise DataError(f"Rows of shape {shape} are no images of shape {given}.")
        shape = given
    if len(shape) == 2:
        return (1, *shape)
    if len(shape) in (1, 3):
        return shape
    raise DataError(
        f"Rows must be flat or images (channels, height, width); received shape {shape}. Give "
        "features of your own (features=)."
    )
