"""Which painter draws the rows of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from skvae.exceptions import DataError, ParameterError
from skvae.plot._bars import MOST_BARS, Bars
from skvae.plot._lines import Lines, as_signals
from skvae.plot._mixed import Mixed
from skvae.plot._painter import Items, Painter
from skvae.plot._rows import numbers
from skvae.plot._tiles import Tiles, is_image
from skvae.plot._words import Words

if TYPE_CHECKING:
    from skvae.estimators import VAE

__all__ = ["check_latent", "painter_of"]


def painter_of(vae: VAE, reference: Any) -> Painter:
    """Return what draws the rows of a model.

    Images are tiles; rows of a table are bars, or a line where there are more than 24 columns;
    sequences of numbers and signals are lines; texts and codes are written.

    Parameters
    ----------
    vae : VAE
        Fitted.
    reference : rows as the model takes or returns them
        Set the units of bars and the range of lines.

    Raises
    ------
    DataError
        Rows of this shape have no picture.
    """
    check_latent(vae)
    shape, form = vae.event_shape_, vae._form
    if form is not None:
        return Lines(reference) if form.kind == "numbers" else Words(reference)
    if vae.likelihood_.sequential:
        return _Steps(shape, numbers(reference))
    if is_image(shape):
        return Tiles(vae)
    if len(shape) == 2:
        return _Signals(shape, numbers(reference), channels_last=vae.channels_last)
    if vae._schema is not None:
        return Mixed(vae._schema, reference)
    if len(shape) == 1 and shape[0] <= MOST_BARS:
        return Bars(_names(vae), reference)
    if len(shape) == 1:
        return _Steps((shape[0], 1), numbers(reference), "column")
    raise DataError(
        f"Rows of shape {shape} have no picture here. There are pictures of images (h, w) or "
        "(c, h, w) with 1, 3 or 4 channels, of tables, and of sequences."
    )


def check_latent(estimator: object) -> None:
    """Check that an estimator has a latent space to show.

    Raises
    ------
    ParameterError
        It is an imputer of tables, or something else.
    NotFittedError
    """
    if not hasattr(estimator, "interpolate"):
        raise ParameterError(
            f"this picture is of the latent space of a VAE, which a {type(estimator).__name__} "
            "does not show. For imputers there are ImputationDisplay and TrainingCurveDisplay."
        )
    check_is_fitted(estimator)


class _Steps(Lines):
    """Rows of one length: steps (T, F) of sequences, or columns of a table."""

    def __init__(self, shape: tuple[int, ...], reference: Any, name: str = "step") -> None:
        self.shape = shape
        super().__init__(reference, name)

    def items(self, rows: Any) -> Items:
        """Return lines (T, F)."""
        return super().items(numbers(rows).reshape(-1, *self.shape))


class _Signals(Lines):
    """Signals (c, L), or (L, c) where the model has channels last."""

    def __init__(self, shape: tuple[int, ...], reference: Any, *, channels_last: bool) -> None:
        self.shape, self.channels_last = shape, channels_last
        super().__init__(reference)

    def items(self, rows: Any) -> Items:
        """Return lines (L, c)."""
        signals = as_signals(numbers(rows), self.shape, channels_last=self.channels_last)
        return super().items(signals)


def _names(vae: VAE) -> list[str]:
    names = getattr(vae, "feature_names_in_", None)
    if names is None:
        return [f"x{i}" for i in range(vae.n_features_in_)]
    return [str(name) for name in names]
