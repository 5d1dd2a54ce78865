"""What happens between epochs: history, progress, early stopping."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

__all__ = ["EarlyStopping", "Epoch", "History", "Progress", "Watcher"]


@dataclass(frozen=True)
class Epoch:
    """One pass over the training data.

    Attributes
    ----------
    number : int
        Counts from 1 over the model's whole life.
    values : dict of str to float
        ``train_elbo``, ``train_reconstruction``, ``train_kl`` and, where rows are held out,
        ``valid_...``, all mean nats per row; ``learning_rate``; ``seconds``.
    """

    number: int
    values: dict[str, float]


class Watcher:
    """Called by the training loop; the methods do nothing unless overridden."""

    def fit_started(self, module: nn.Module) -> None:
        """React to the start of training."""

    def epoch_ended(self, module: nn.Module, epoch: Epoch) -> bool | None:
        """React to a finished epoch; True stops training."""
        return None

    def fit_ended(self, module: nn.Module) -> None:
        """React to the end of training, however it came about."""

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return JSON values and tensors that a checkpoint keeps."""
        return {}, {}

    def load_state(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Go on from what `state` returned."""


class History(Watcher, Sequence[dict[str, float]]):
    """The epochs of a fit.

    ``history[3]`` is the fourth epoch as a dict; ``history["valid_elbo"]`` is a column as an array
    of shape (n_epochs,) with NaN where an epoch has no such value; ``history.columns`` names them.
    """

    def __init__(self, rows: Sequence[dict[str, float]] = ()) -> None:
        self.rows = [dict(row) for row in rows]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all values in the order of their first appearance."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    @overload
    def __getitem__(self, key: int) -> dict[str, float]: ...
    @overload
    def __getitem__(self, key: slice) -> "History": ...
    @overload
    def __getitem__(self, key: str) -> NDArray[np.float64]: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        """Return an epoch, a slice of epochs, or a column."""
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"no column {key!r} in the history; it has {self.columns}")
            return np.array([row.get(key, np.nan) for row in self.rows])
        return History(self.rows[key]) if isinstance(key, slice) else self.rows[key]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"History(n_epochs={len(self)}, columns={self.columns})"

    def epoch_ended(self, module: nn.Module, epoch: Epoch) -> None:
        """Append the epoch."""
        self.rows.append({"epoch": float(epoch.number), **epoch.values})

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the epochs so far."""
        return {"rows": self.rows}, {}

    def load_state(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Replace the epochs."""
        self.rows = [dict(row) for row in values["rows"]]


@dataclass
class EarlyStopping(Watcher):
    """Keep the best weights; stop when the watched value no longer rises.

    Parameters
    ----------
    patience : int or None
        Epochs without improvement before stopping; None never stops but still keeps the best.
    tol : float
        An improvement smaller than this many nats does not reset the patience.
    """

    patience: int | None
    tol: float = 1e-4
    watch: str = "valid_elbo"
    best: float = field(default=-np.inf, init=False)
    best_epoch: int = field(default=0, init=False)
    _weights: dict[str, torch.Tensor] | None = field(default=None, init=False, repr=False)
    _reference: float = field(default=-np.inf, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)

    def epoch_ended(self, module: nn.Module, epoch: Epoch) -> bool:
        """Compare with the best epoch so far."""
        value = epoch.values[self.watch]
        if value > self.best:
            self.best, self.best_epoch = value, epoch.number
            self._weights = {k: v.detach().clone() for k, v in module.state_dict().items()}
        if value > self._reference + self.tol:
            self._reference, self._waited = value, 0
        else:
            self._waited += 1
        return self.patience is not None and self._waited >= self.patience

    def state(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the best weights and what they are compared by."""
        if self._weights is None:
            return {}, {}
        names = ("best", "best_epoch", "_reference", "_waited")
        return {name: getattr(self, name) for name in names}, self._weights

    def load_state(self, values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Go on from the best weights so far, if there are any."""
        for name, value in values.items():
            setattr(self, name, value)
        self._weights = tensors or None

    def fit_ended(self, module: nn.Module) -> None:
        """Restore the best weights."""
        if self._weights is not None:
            module.load_state_dict(self._weights)
            self._weights = None


class Progress(Watcher):
    """Show the epochs on a stream: a live bar on a terminal, otherwise a line now and then.

    Parameters
    ----------
    total : int
        Planned number of epochs.
    title : str
    stream : text stream, default standard error
    interval : float
        Seconds between lines where there is no terminal.
    """

    def __init__(
        self, total: int, title: str = "fit", stream: TextIO | None = None, interval: float = 10.0
    ) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.stream = stream or sys.stderr
        self.title, self.total, self.interval = title, total, interval
        self.last = -np.inf  # the first epoch is shown at once: it says how long the rest takes
        console = Console(file=self.stream)
        self.live = console.is_terminal and not console.is_dumb_terminal
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not self.live,
        )
        self.task = self.bar.add_task(title, total=total, note="starting")

    def fit_started(self, module: nn.Module) -> None:
        """Open the bar."""
        self.bar.start()

    def epoch_ended(self, module: nn.Module, epoch: Epoch) -> None:
        """Show the epoch."""
        parts = [f"train ELBO {epoch.values['train_elbo']:.2f}"]
        if "valid_elbo" in epoch.values:
            parts.append(f"validation {epoch.values['valid_elbo']:.2f}")
        parts.append(f"KL {epoch.values['train_kl']:.2f} nats")
        note = ", ".join(parts)
        self.bar.advance(self.task)
        self.bar.update(self.task, note=note)
        now = time.monotonic()
        if not self.live and now - self.last >= self.interval:
            self.last = now
            self.stream.write(f"{self.title}: epoch {epoch.number}/{self.total}, {note}\n")
            self.stream.flush()

    def fit_ended(self, module: nn.Module) -> None:
        """Close the bar."""
        self.bar.stop()
