"""Sequences of different lengths: numbers, codes or characters, and how they are kept.

Inside, a set of sequences is `Ragged`: all steps below each other, in a compact type. A model sees
padded arrays, whose last channel is "alive": 1 for the steps that exist, then 0.
"""

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from skvae.exceptions import DataError, ModelFileError, UnseenCodesWarning

__all__ = ["Form", "Ragged", "are_sequences", "count_missing", "listed"]

Array = NDArray[Any]
Kind = Literal["numbers", "codes", "characters"]
Token = str | int

MAX_TOKENS = 1 << 16
MAX_TOKEN_CHARACTERS = 1000
INTEGERS = (np.uint8, np.int16, np.int32)
UNKNOWN = {"codes": "<unk>", "characters": "\N{REPLACEMENT CHARACTER}"}


@dataclass(frozen=True)
class Ragged:
    """Sequences below each other.

    Attributes
    ----------
    values : ndarray, shape (N, F)
        The steps of all sequences.
    offsets : ndarray of int64, shape (n + 1,)
        Sequence i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Array
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, parts: Sequence[Array]) -> "Ragged":
        """Put arrays (L_i, F) below each other."""
        return cls(np.concatenate(parts), _offsets([len(part) for part in parts]))

    @classmethod
    def of_table(cls, X: Array, length: int) -> "Ragged":
        """Cut rows (n, length · F) into steps."""
        steps = X.reshape(len(X) * length, -1)
        return cls(steps, np.arange(len(X) + 1, dtype=np.int64) * length)

    @classmethod
    def unpadded(cls, X: Array, n_features: int) -> "Ragged":
        """Take out the steps that exist from rows (n, T · (F + 1))."""
        x = X.reshape(len(X), -1, n_features + 1)
        alive = x[..., -1] > 0.5  # (n, T)
        return cls(x[alive][:, :-1], _offsets(alive.sum(1)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of steps of each sequence, shape (n,)."""
        return np.diff(self.offsets)

    def take(self, index: NDArray[np.int64]) -> "Ragged":
        """Return some of the sequences, in the order of the index."""
        lengths = self.lengths[index]
        offsets = _offsets(lengths)
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        return Ragged(self.values[np.repeat(self.offsets[index], lengths) + within], offsets)

    def parts(self) -> list[Array]:
        """Return each sequence by itself, (L_i, F)."""
        return [self.values[a:b] for a, b in itertools.pairwise(self.offsets.tolist())]

    def padded(self, length: int, dtype: DTypeLike) -> Array:
        """Return rows (n, length · (F + 1)), whose last channel is 1 where a step exists."""
        alive = np.arange(length) < self.lengths[:, None]  # (n, T)
        x = np.zeros((*alive.shape, self.values.shape[1] + 1), dtype)
        x[alive, :-1] = self.values
        x[..., -1] = alive
        return x.reshape(len(x), -1)

    def place(self, step: int) -> tuple[int, int]:
        """Return which sequence a step of ``values`` belongs to, and which of its steps it is."""
        i = int(np.searchsorted(self.offsets, step, side="right")) - 1
        return i, int(step - self.offsets[i])


@dataclass(frozen=True)
class Form:
    """What the sequences of a fit are like.

    Attributes
    ----------
    kind : {"numbers", "codes", "characters"}
    length : int
        Number of steps that the longest may have.
    n_features : int
        Numbers per step, F.
    vector : bool
        Whether a sequence of numbers is an array (L, F), rather than (L,).
    tokens : tuple of str or of int
        The codes, by their numbers. The first one stands for all that `fit` never saw.
    dtype : {"float32", "float64"}
        What rows are computed in.
    """

    kind: Kind
    length: int
    n_features: int = 1
    vector: bool = False
    tokens: tuple[Token, ...] = ()
    dtype: str = "float32"

    @classmethod
    def learn(cls, X: Sequence[Any], *, coded: bool = False) -> "tuple[Form, Ragged]":
        """Find out what sequences are like, and read them.

        Parameters
        ----------
        X : sequence of sequences
        coded : bool
            Whether whole numbers are codes.

        Raises
        ------
        DataError
            They are not all of one kind, one of them is empty, or a value is missing.
        """
        kind = _kind_of(X)
        if kind == "numbers" and not coded:
            sequences, step, dtype = _numbers(X, None)
            longest = int(sequences.lengths.max())
            form = cls(kind, longest, sequences.values.shape[1], bool(step), (), dtype)
            form._check_finite(sequences, missing=False)
            return form, sequences
        if kind == "numbers":
            kind = "codes"
        tokens = _vocabulary(X, kind)
        form = cls(kind, max(map(len, X)), tokens=tokens)
        return form, form.read(X)

    @property
    def event_shape(self) -> tuple[int, int]:
        """Shape of a padded row: a step more than the longest, so that its end is seen."""
        return self.length + 1, self.n_features + 1

    def read(self, X: Sequence[Any], *, missing: bool = False) -> Ragged:
        """Check sequences and return them as numbers; a missing one is NaN.

        Raises
        ------
        DataError
            They are not like those of the fit; the message names the sequence.

        Warns
        -----
        UnseenCodesWarning
            Some codes were not in the fit.
        """
        numbered = self.kind == "codes" and isinstance(self.tokens[0], int)
        expected: Kind = "numbers" if numbered else self.kind
        kind = _kind_of(X, expected)
        if kind != expected:
            raise DataError(
                f"X holds {_SAYS[kind]}, but the model was fitted on {_SAYS[self.kind]}."
            )
        for i, item in enumerate(X):
            if len(item) > self.length:
                raise DataError(
                    f"Sequence {i} of X has {len(item)} steps, but this model takes at most "
                    f"{self.length}. Cut it, or fit with event_shape=({max(map(len, X))}, "
                    f"{self.n_features})."
                )
        if self.kind == "numbers":
            ragged, _, _ = _numbers(X, (self.n_features,) if self.vector else ())
            self._check_finite(ragged, missing=missing)
            return ragged
        return self._coded(X, missing)

    def restored(self, sequences: Ragged) -> list[Any]:
        """Return sequences as the kind of objects that they were: arrays, lists, or str."""
        if self.kind == "numbers":
            return [x if self.vector else x[:, 0] for x in sequences.parts()]
        codes = sequences.values[:, 0].astype(np.int64)
        codes = np.where(codes < len(self.tokens), codes, 0)
        tokens = [self.tokens[code] for code in codes.tolist()]
        parts = [tokens[a:b] for a, b in itertools.pairwise(sequences.offsets.tolist())]
        return ["".join(map(str, p)) for p in parts] if self.kind == "characters" else parts

    def filled(self, X: Sequence[Any], sequences: Ragged) -> list[Any]:
        """Return X with what is missing taken from the sequences."""
        new = self.restored(sequences)
        if self.kind == "numbers":
            return [_fill(x, y) for x, y in zip(map(_as_array, X), new, strict=True)]
        return [
            x
            if isinstance(x, str)
            else [b if _is_missing(a) else a for a, b in zip(x, y, strict=True)]
            for x, y in zip(X, new, strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return {**vars(self), "tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, data: Any) -> "Form":
        """Return what `to_json` described.

        Raises
        ------
        ModelFileError
            It is not that.
        """
        try:
            form = cls(**{**data, "tokens": tuple(data["tokens"])})
        except (KeyError, TypeError) as error:
            raise ModelFileError("what it says of sequences makes no sense.") from error
        tokens, kinds = form.tokens, {type(token) for token in form.tokens}
        coded = form.kind != "numbers"
        texts = [token for token in tokens if isinstance(token, str)]
        longest = 1 if form.kind == "characters" else MAX_TOKEN_CHARACTERS
        known = form.kind in ("numbers", "codes", "characters")
        sizes = type(form.length) is int and type(form.n_features) is int
        if not (
            known
            and sizes
            and min(form.length, form.n_features) >= 1
            and type(form.vector) is bool
            and form.dtype in ("float32", "float64")
            and coded == (2 <= len(tokens) <= MAX_TOKENS + 1)
            and (kinds in ({str}, {int}) if form.kind == "codes" else kinds <= {str})
            and all(len(text) <= longest for text in texts)
            and len(set(tokens)) == len(tokens)
            and (not coded or form.n_features == 1)
        ):
            raise ModelFileError("what it says of sequences makes no sense.")
        return form

    def _coded(self, X: Sequence[Any], missing: bool) -> Ragged:
        number = {token: i for i, token in enumerate(self.tokens)}
        unknown = self.tokens[0]
        offsets = _offsets(list(map(len, X)))
        flat = list(itertools.chain.from_iterable(map(_elements, X)))
        codes = [number.get(token, -1) for token in flat]
        out = np.array(codes, np.int32)
        unseen, gaps, at = 0, [], np.flatnonzero(out < 0).tolist()
        for step in at:
            token = flat[step]
            if _is_missing(token):
                gaps.append(step)
            elif _is_code(token, type(unknown)):
                unseen += 1
            else:
                i, t = Ragged(out, offsets).place(step)
                raise DataError(
                    f"Step {t} of sequence {i} is {token!r:.80}, but the codes of this model are "
                    f"{'whole numbers' if isinstance(unknown, int) else 'str'}."
                )
        ragged = Ragged(np.maximum(out, 0)[:, None].astype(_integers(0, len(number))), offsets)
        if gaps and not missing:
            i, t = ragged.place(gaps[0])
            raise DataError(_missing(len(gaps), f"step {t} of sequence {i}"))
        if unseen:
            examples = [t for t in map(flat.__getitem__, at) if not _is_missing(t)]
            shown = ", ".join(f"{t!r:.40}" for t in list(dict.fromkeys(examples))[:3])
            warnings.warn(
                f"{unseen} of {len(flat)} steps hold codes that fit never saw ({shown}); they are "
                f"read as {unknown!r}.",
                UnseenCodesWarning,
                stacklevel=2,
            )
        if gaps:
            with_gaps = ragged.values.astype(np.float32)
            with_gaps[gaps] = np.nan
            ragged = Ragged(with_gaps, offsets)
        return ragged

    def _check_finite(self, sequences: Ragged, *, missing: bool) -> None:
        values = sequences.values
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        infinite = np.isinf(values)
        bad = infinite if infinite.any() else np.isnan(values)
        if missing and not infinite.any():
            return
        step, feature = np.argwhere(bad)[0]
        i, t = sequences.place(step)
        where = f"step {t} of sequence {i}" + (f", feature {feature}" if self.vector else "")
        if infinite.any():
            raise DataError(
                f"Input X contains infinity: {int(bad.sum())} cell(s), the first in {where}. "
                "Replace or remove these values first."
            )
        raise DataError(_missing(int(bad.sum()), where))


_SAYS = {
    "numbers": "sequences of numbers",
    "codes": "sequences of codes",
    "characters": "text",
}


def listed(X: Any) -> Sequence[Any] | None:
    """Return the items of what may be a set of sequences: a list, a series, an array of objects.

    An array of three dimensions is one, too; other arrays, and frames, are tables.
    """
    if isinstance(X, list | tuple):
        return X
    if isinstance(X, np.ndarray) and (X.ndim == 3 or (X.ndim == 1 and X.dtype.kind in "OU")):
        return list(X)
    if hasattr(X, "to_list") and not hasattr(X, "columns"):  # of pandas or polars
        items: list[Any] = X.to_list()
        return items
    return None


def are_sequences(X: Any, *, meant: bool = False) -> bool:
    """Return whether X is a set of sequences rather than a table.

    Strings are; lists and arrays are if their lengths differ, or if they are ``meant`` to be: a
    list of equal rows may as well be a table.
    """
    items = None if isinstance(X, np.ndarray) and X.ndim == 3 else listed(X)
    if not items:
        return False
    if any(isinstance(item, str) for item in items):
        return True
    if not all(_is_one(item) for item in items):
        return False
    return meant or len({len(item) for item in items}) > 1


def count_missing(X: Sequence[Any]) -> int:
    """Count the cells of sequences that are missing."""
    return sum(int(np.sum([_is_missing(v) for v in np.ravel(_cells(x))])) for x in X)


def _cells(x: Any) -> Any:
    return list(x) if isinstance(x, str) else np.asarray(x, dtype=object)


def _is_one(item: Any) -> bool:
    """Return whether an item can be a sequence: a str, a list, an array (L,) or (L, F)."""
    return isinstance(item, str | list | tuple) or getattr(item, "ndim", 0) in (1, 2)


def _offsets(lengths: Any) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])


def _kind_of(X: Sequence[Any], expected: Kind | None = None) -> Kind:
    """Return the kind of all items; lists of strings may be the characters that are expected."""
    spelt = expected == "characters"
    if not len(X):
        raise DataError("X holds no sequences.")
    first: dict[Kind, int] = {}
    for i, item in enumerate(X):
        if not _is_one(item):
            raise DataError(
                f"Item {i} of X is {type(item).__name__}, not a sequence. A sequence is an array "
                "(L, F) or (L,), a list of codes, or a str."
            )
        if not len(item):
            raise DataError(
                f"Sequence {i} of X has no steps. Remove it: a sequence has at least one step."
            )
        kind = _kind_of_one(item)
        if kind is None:  # nothing but missing codes
            continue
        first.setdefault("characters" if spelt and kind == "codes" else kind, i)
    if len(first) > 1:
        (a, i), (b, j) = list(first.items())[:2]
        raise DataError(
            f"X mixes kinds of sequences: sequence {i} is {_SAYS[a].removeprefix('sequences of ')}"
            f", sequence {j} is {_SAYS[b].removeprefix('sequences of ')}."
        )
    return next(iter(first), expected or "codes")


def _kind_of_one(item: Any) -> Kind | None:
    if isinstance(item, str):
        return "characters"
    if hasattr(item, "dtype") and getattr(item.dtype, "kind", "f") not in "OU":
        return "numbers"
    known = next((element for element in item if not _is_missing(element)), None)
    if known is None:
        return None
    return "codes" if isinstance(known, str) else "numbers"


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _missing(count: int, where: str) -> str:
    return (
        f"Input X contains NaN or None: {count} missing cell(s), the first in {where}. Models are "
        "trained on complete sequences; for a fitted model, impute(X) fills in what is missing."
    )


def _elements(item: Any) -> Iterable[Any]:
    elements: Iterable[Any] = item.tolist() if hasattr(item, "tolist") else item
    return elements


def _vocabulary(X: Sequence[Any], kind: Kind) -> tuple[Token, ...]:
    """Return all codes in order, behind one for those that are not there."""
    found: set[Any] = set()
    for i, item in enumerate(X):
        for t, token in enumerate(_elements(item)):
            if _is_code(token, str):
                found.add(token)
            elif _is_code(token, int):
                found.add(int(token))
            elif _is_missing(token):
                raise DataError(_missing(1, f"step {t} of sequence {i}"))
            else:
                raise DataError(
                    f"Step {t} of sequence {i} is {token!r:.80}; codes are str or whole numbers."
                )
    texts = [token for token in found if isinstance(token, str)]
    if texts and len(texts) < len(found):
        raise DataError("X mixes kinds of codes: some are str and some are numbers.")
    if len(found) > MAX_TOKENS:
        raise DataError(
            f"X holds {len(found)} different codes; at most {MAX_TOKENS} are possible. Put rare "
            "ones together, or use characters."
        )
    longest = max(map(len, texts), default=0)
    if longest > MAX_TOKEN_CHARACTERS:
        raise DataError(f"A code has {longest} characters; at most {MAX_TOKEN_CHARACTERS} may be.")
    if not texts:
        whole = sorted(found)
        return min(-1, whole[0] - 1), *whole
    unknown = UNKNOWN[kind]
    return unknown, *sorted(set(texts) - {unknown})


def _is_code(value: Any, kind: type) -> bool:
    """Return whether a value is a str, or a whole number, as the kind says."""
    if kind is str:
        return isinstance(value, str)
    return isinstance(value, int | float | np.number) and float(value).is_integer()


def _as_array(item: Any) -> Array:
    """Return numbers as an array; None is NaN, and a torch tensor is taken from its device."""
    if hasattr(item, "detach"):
        item = item.detach().cpu()
    array = np.asarray(item)
    return array.astype(np.float64) if array.dtype.kind == "O" else array


def _numbers(
    X: Sequence[Any], step: tuple[int, ...] | None
) -> tuple[Ragged, tuple[int, ...], str]:
    """Return sequences of numbers, the shape of a step, and what to compute in."""
    parts: list[Array] = []
    for i, item in enumerate(X):
        try:
            part = _as_array(item)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"Sequence {i} of X is no array of numbers: {str(error).splitlines()[0]}"
            ) from error
        if part.dtype.kind not in "biuf" or part.ndim not in (1, 2) or not part.size:
            raise DataError(
                f"Sequence {i} of X holds {part.dtype} in shape {part.shape}, but numbers in "
                "shape (L, F) or (L,) are needed, with at least one step and one feature."
            )
        step = part.shape[1:] if step is None else step
        if part.shape[1:] != step:
            needed = f"(L, {step[0]})" if step else "(L,)"
            raise DataError(
                f"Sequence {i} of X has shape {part.shape}, but {needed} is needed, as of the "
                "sequences before it or of those of fit."
            )
        parts.append(part)
    small = all(p.dtype.itemsize <= (4 if p.dtype.kind == "f" else 2) for p in parts)
    dtype = np.dtype(np.float32 if small else np.float64)
    ragged = Ragged.of([p[:, None] if p.ndim == 1 else p for p in parts])
    values = ragged.values
    if values.dtype.kind in "biu":
        values = values.astype(_integers(values.min(), values.max()) or dtype)
    else:
        values = values.astype(dtype, copy=False)
    return Ragged(values, ragged.offsets), step or (), dtype.name


def _integers(low: Any, high: Any) -> Any:
    """Return the smallest type that holds whole numbers from low to high, or None."""
    for kind in INTEGERS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return None


def _fill(x: Array, y: Array) -> Array:
    return np.where(np.isnan(x), y, x).astype(x.dtype) if x.dtype.kind == "f" else x
