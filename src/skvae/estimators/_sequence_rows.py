"""The rows of a fit on sequences, and what such a fit needs of likelihoods and batches."""

from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray

from skvae.buckets import SequenceSource, StepTransform
from skvae.data import Binarize, Source, Transform
from skvae.estimators._fit_rows import to_hold_out
from skvae.evidence import Batch
from skvae.exceptions import DataError, ParameterError
from skvae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, Ordinal, Sequence
from skvae.likelihoods.base import Standardize, Support
from skvae.models import Assembly
from skvae.networks import Network
from skvae.sequences import Form, Ragged

__all__ = [
    "SequenceRows",
    "check_form",
    "check_network",
    "check_steps",
    "sequence_likelihood",
    "transform_of",
    "trimmed",
]

Array = NDArray[Any]

MOST_CELLS = 1 << 24  # of some rows that are looked at together
LEAST_ROWS = 64


class SequenceRows:
    """Sequences in memory, without padding.

    Parameters
    ----------
    sequences : Ragged
        In data units.
    seed : int
    length : int
        Steps of a padded row.
    ragged : bool
        Whether a padded step has a channel "alive"; False for sequences of ``length`` steps each.
    n_codes : int
        Number of different codes; 0 for numbers.
    dtype : dtype
        Of padded rows.
    y, guess : ndarray or None
        As of `LabelledRows`.
    """

    holes = False  # such sequences are refused

    def __init__(
        self,
        sequences: Ragged,
        seed: int,
        *,
        length: int,
        ragged: bool = True,
        n_codes: int = 0,
        dtype: DTypeLike = np.float32,
        y: Array | None = None,
        guess: Array | None = None,
    ) -> None:
        self.sequences, self.seed = sequences, seed
        self.y, self.guess = y, guess
        self.length, self.ragged, self.n_codes, self.dtype = length, ragged, n_codes, dtype

    @classmethod
    def of_table(cls, X: Array, event_shape: tuple[int, ...], seed: int) -> "SequenceRows":
        """Take rows (n, T · F) as sequences of T steps."""
        steps = Ragged.of_table(X, event_shape[0])
        return cls(steps, seed, length=event_shape[0], ragged=False, dtype=X.dtype)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def binary(self) -> bool:
        """Whether all values are 0 or 1."""
        values = self.sequences.values
        return bool(np.all((values == 0) | (values == 1)))

    @property
    def varied(self) -> bool:
        """Whether there are sequences that differ."""
        lengths = self.sequences.lengths
        if (lengths != lengths[0]).any():
            return True
        values = self.sequences.values.reshape(len(self), -1)
        return bool((values != values[:1]).any())

    def check(self, likelihood: Likelihood) -> None:
        """Raise a DataError for values that the likelihood does not allow."""
        check_steps(self.sequences, likelihood)

    def transform(self, mode: Standardize) -> Transform:
        """Return the map to model units, the same for all steps."""
        return StepTransform.of_steps(self.sequences, self.length, mode, ragged=self.ragged)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of each feature over all steps, for each step; that of "alive" is 0."""
        mean = self.sequences.values.mean(0, dtype=np.float64)
        return np.tile(np.append(mean, 0.0) if self.ragged else mean, self.length)

    def some(self, n: int) -> Array:
        """Return n random rows, or fewer if there are not so many or they are very long."""
        n_features = self.sequences.values.shape[1]
        n = min(n, max(LEAST_ROWS, MOST_CELLS // (self.length * (n_features + self.ragged))))
        order = np.random.default_rng([self.seed, 2]).permutation(len(self))
        return self._padded(self.sequences.take(order[:n]))

    @property
    def X(self) -> Array:
        """The sequences as padded rows, shape (n, D)."""
        return self._padded(self.sequences)

    def _padded(self, some: Ragged) -> Array:
        if self.ragged:
            return some.padded(self.length, self.dtype)
        return some.values.reshape(len(some), -1)

    def hold_out(self, n: int) -> "tuple[SequenceRows, SequenceRows]":
        """Split off n random sequences, a function of the seed; return the others and these."""
        order = to_hold_out(len(self), self.seed, self.y)
        return self.subset(order[n:]), self.subset(order[:n])

    def source(
        self, transform: Transform, event_shape: tuple[int, ...], *, binarize: Binarize, seed: int
    ) -> Source:
        """Return batches in model units."""
        y = None if self.y is None else torch.from_numpy(self.y)
        return SequenceSource(self.sequences, transform, ragged=self.ragged, seed=seed, y=y)

    def labelled(self, y: Array | None, guess: Array | None = None) -> "SequenceRows":
        """Return the same sequences with other labels."""
        return self._like(self.sequences, y, guess)

    def subset(self, index: NDArray[np.intp]) -> "SequenceRows":
        """Return some sequences."""
        y, guess = (None if one is None else one[index] for one in (self.y, self.guess))
        return self._like(self.sequences.take(index), y, guess)

    def _like(self, sequences: Ragged, y: Array | None, guess: Array | None) -> "SequenceRows":
        return SequenceRows(
            sequences,
            self.seed,
            length=self.length,
            ragged=self.ragged,
            n_codes=self.n_codes,
            dtype=self.dtype,
            y=y,
            guess=guess,
        )


def sequence_likelihood(choice: object, rows: SequenceRows) -> Sequence:
    """Resolve a likelihood for sequences; one of a step is wrapped.

    ``"auto"`` is categorical for codes and text, Bernoulli where all values are 0 or 1, and
    otherwise Gaussian.

    Raises
    ------
    ParameterError
        It does not describe codes, or not so many.
    """
    step: Likelihood
    if rows.n_codes and choice in ("auto", Categorical.name, Sequence.name):
        step = Categorical(rows.n_codes)
    elif choice == "auto":
        step = Bernoulli() if rows.binary else Gaussian(scale="per_feature")
    else:
        found = Likelihood.resolve(choice, argument="likelihood")
        step = found.step if isinstance(found, Sequence) else found
    if rows.n_codes and not _fits_codes(step, rows.n_codes):
        raise ParameterError(
            f"likelihood={step!r} does not describe the {rows.n_codes} different codes (with the "
            "one for codes that are new) of these sequences. Use likelihood='auto'."
        )
    return Sequence(step, ragged=rows.ragged)


def _fits_codes(step: Likelihood, n_codes: int) -> bool:
    return isinstance(step, Categorical | Ordinal) and step.n_categories >= n_codes


def check_network(network: Network, likelihood: Likelihood) -> None:
    """Refuse a network that cannot read sequences of different lengths where there are some.

    Raises
    ------
    ParameterError
    """
    if isinstance(likelihood, Sequence) and likelihood.ragged and not network.sequential:
        raise ParameterError(
            f"network={network.name!r} reads rows of one length, but X holds sequences. Use "
            "network='rnn' or network='tcn', or give X as an array (n, T, F)."
        )


def check_steps(sequences: Ragged, likelihood: Likelihood) -> None:
    """Raise if a value of a step is not one that the likelihood allows; NaN is.

    Raises
    ------
    DataError
        Naming the first such sequence and step, the range found and what to do.
    """
    support = likelihood.step.support if isinstance(likelihood, Sequence) else Support()
    values = sequences.values
    if support == Support():
        return
    bad = support.forbids(values)
    if not bad.any():
        return
    step, feature = np.argwhere(bad)[0]
    i, t = sequences.place(step)
    assert isinstance(likelihood, Sequence)
    raise DataError(
        f"Sequence {i}, step {t}, feature {feature} of X is {values[step, feature]:g}, but "
        f"likelihood={likelihood.step.name!r} needs {support} (found {np.nanmin(values):g} to "
        f"{np.nanmax(values):g}). "
        + (support.advice or "Rescale the data, or choose likelihood='gaussian'.")
    )


def check_form(form: Form | None, spec: Assembly) -> bool:
    """Return whether the form of sequences, or None, is what a model takes."""
    likelihood = spec.likelihood
    if form is None:
        return not (isinstance(likelihood, Sequence) and likelihood.ragged)
    return (
        isinstance(likelihood, Sequence)
        and likelihood.ragged
        and spec.event_shape == form.event_shape
        and (not form.tokens or _fits_codes(likelihood.step, len(form.tokens)))
    )


def transform_of(
    spec: Assembly, shift: NDArray[np.float64], unit: NDArray[np.float64]
) -> Transform:
    """Return the map between data units and the units of a model."""
    if isinstance(spec.likelihood, Sequence) and spec.likelihood.ragged:
        return StepTransform(shift, unit, spec.event_shape[-1])
    return Transform(shift, unit)


def trimmed(batch: Batch, likelihood: Likelihood) -> Batch:
    """Leave out the steps behind the end of the longest sequence."""
    if not (isinstance(likelihood, Sequence) and likelihood.ragged):
        return batch
    length = int(batch.x[..., -1].sum(1).max()) + 1
    return batch.map(lambda part: part[:, :length])
