"""The training loop: fit → epoch → step, readable from top to bottom."""

import functools
import itertools
import math
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from skvae import rng
from skvae.callbacks import Epoch, Watcher
from skvae.checkpoint import Checkpoint, fingerprint_of
from skvae.data import Source
from skvae.distributed import Part, World
from skvae.distributions import draw
from skvae.exceptions import (
    DistributedError,
    ParameterError,
    TrainingDivergedError,
    TrainingInterruptedWarning,
)
from skvae.models import LatentModule
from skvae.objectives import Bound, Objective
from skvae.optimizers import Adam
from skvae.priors import PriorModule

__all__ = ["Plan", "Trainer", "auto_batch_size", "auto_epochs", "fit_prior"]

MAX_GRADIENT_NORM = 1000.0
MAX_SKIPPED = 5  # updates in a row that are not finite before going back
MAX_RECOVERIES = 3
RECENT = 64


def auto_batch_size(n: int) -> int:
    """Small enough that a small table still gets many updates, large enough for full speed."""
    return min(256, max(16, 1 << max(0, round(math.log2(max(n, 1) / 64)))))


def auto_epochs(n: int, batch_size: int) -> int:
    """About 6,000 updates, but at least 20 and at most 2,000 passes."""
    return min(2000, max(20, math.ceil(6000 * batch_size / max(n, 1))))


@dataclass(frozen=True)
class Plan:
    """How to train.

    Parameters
    ----------
    max_epochs, batch_size : int
    learning_rate : float
        Peak of the schedule: a linear rise, then half a cosine down to zero at ``max_epochs``.
    seed : int
        All randomness is a function of ``(seed, epoch, step)``.
    schedule : bool
        False keeps the learning rate constant.
    dtype : torch.dtype or None
        Lower precision for the network bodies, or None.
    """

    max_epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    schedule: bool = True
    dtype: torch.dtype | None = None

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of update number ``step`` out of ``steps``."""
        if not self.schedule:
            return self.learning_rate
        warmup = min(500, max(1, steps // 20))
        rise = min(1.0, (step + 1) / warmup)
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass
class Position:
    """Where a fit stands; with the seed, this decides all that comes."""

    first_epoch: int = 0  # of this fit, which may go on from an earlier one
    first_step: int = 0
    epochs_done: int = 0
    steps_done: int = 0
    rate: float = 0.0  # of the last update
    batch: int = 0  # next in the epoch that is under way
    skipped: int = 0  # updates in a row that were not finite
    tried: int = 0  # recent updates, and how many of them were skipped
    failed: int = 0
    recoveries: int = 0


class Trainer:
    """Holds a model and its optimiser across calls to `fit`.

    Parameters
    ----------
    module : LatentModule
    objective : Objective
    device : torch.device
    seed : int
        For weights that the objective may have of its own.
    """

    def __init__(
        self, module: LatentModule, objective: Objective, device: torch.device, seed: int = 0
    ) -> None:
        self.module, self.objective, self.device = module.to(device), objective, device
        self.world = World()
        with rng.isolated(seed, rng.Stream.INIT, 1):
            self.running = objective.start(module.spec.latent.width)
        own = itertools.chain(module.parameters(), self.running.parameters())
        self.parameters = [p for p in own if p.requires_grad]
        self.optimizer = Adam(self.parameters)
        self.at = Position()
        self._sums = _Sums()
        self._good: dict[str, Tensor] = {}

    def fit(
        self,
        train: Source,
        valid: Source | None,
        plan: Plan,
        watchers: Sequence[Watcher] = (),
        checkpoint: Checkpoint | None = None,
        world: World | None = None,
    ) -> None:
        """Train until the plan is done, a watcher stops it, or the user does.

        Where the checkpoint holds a state of this very fit, go on from there. The processes of a
        world, each of which calls this with the same arguments, share the work; batches are those
        of one process, and the first process alone touches the checkpoint.

        Raises
        ------
        TrainingDivergedError
            When updates stayed non-finite even with a smaller learning rate. The weights are the
            last good ones, or the best ones where a watcher keeps them.
        DistributedError
            Another process of the world is lost.
        """
        self.world = world or World()
        self.at = replace(
            Position(epochs_done=self.at.epochs_done, steps_done=self.at.steps_done),
            first_epoch=self.at.epochs_done,
            first_step=self.at.steps_done,
        )
        self._sums = _Sums()
        self._good = self._snapshot()
        self.module.train()
        complete = False
        try:
            self._check_world(train, valid, plan)
            if checkpoint is not None:
                if (found := self.world.from_main(checkpoint.read)) is not None:
                    self._load(*found, watchers)
                first = functools.partial(checkpoint.write, *self._state(watchers))
                self.world.from_main(first)
                if not self.world.is_main:
                    checkpoint = None
            for watcher in watchers:
                watcher.fit_started(self.module)
            with _stop_at_batch_end() as stop, self.module.autocast(plan.dtype):
                complete = self._epochs(train, valid, plan, watchers, checkpoint, stop)
                if checkpoint is not None and stop.agreed is not None:
                    checkpoint.write(*self._state(watchers))
            if stop.agreed == signal.SIGINT:
                warnings.warn(
                    f"Training was interrupted after {self.at.epochs_done} epochs and "
                    f"{self.at.steps_done} updates; the model keeps the best weights so far.",
                    TrainingInterruptedWarning,
                    stacklevel=4,
                )
        except DistributedError as error:
            raise DistributedError(
                f"{error} Training ended in epoch {self.at.epochs_done + 1} after "
                f"{self.at.steps_done} updates. The same call, with --resume on the command line, "
                "goes on from the checkpoint where one was kept, and otherwise begins again."
            ) from error
        finally:
            self.module.eval()
            for watcher in watchers:
                watcher.fit_ended(self.module)
        if checkpoint is not None and complete:
            checkpoint.remove()

    def _epochs(
        self,
        train: Source,
        valid: Source | None,
        plan: Plan,
        watchers: Sequence[Watcher],
        checkpoint: Checkpoint | None,
        stop: "_Stop",
    ) -> bool:
        """Run the epochs that are left; False if a signal ended them."""
        while self.at.epochs_done < self.at.first_epoch + plan.max_epochs:
            start = time.perf_counter()
            self._steps(train, plan, watchers, checkpoint, stop)
            if stop.agreed is not None:
                return False
            values = self._sums.means("train_")
            self._sums = _Sums()
            self.at.epochs_done += 1
            self.at.batch = 0
            if valid is not None:
                values |= self._validate(valid, plan)
            values |= {"learning_rate": self.at.rate, "seconds": time.perf_counter() - start}
            epoch = Epoch(self.at.epochs_done, values)
            self._good = self._snapshot()
            # Every watcher sees every epoch, also the one that ends training.
            votes = [w.epoch_ended(self.module, epoch) for w in watchers]
            if self.world.from_main(functools.partial(any, votes)):
                break
        return True

    def _steps(
        self,
        train: Source,
        plan: Plan,
        watchers: Sequence[Watcher],
        checkpoint: Checkpoint | None,
        stop: "_Stop",
    ) -> None:
        """Run the updates that are left of an epoch."""
        per_epoch = math.ceil(len(train) / plan.batch_size)
        epoch = self.at.epochs_done
        for batch in train.batches(epoch, plan.batch_size, self._whole_on, skip=self.at.batch):
            rate = plan.rate(self.at.steps_done - self.at.first_step, plan.max_epochs * per_epoch)
            self.at.rate = rate * 0.5**self.at.recoveries
            noise = rng.generator(
                plan.seed, rng.Stream.NOISE, epoch, self.at.batch, device=self.device
            )
            self.at.batch += 1
            part = self.world.part(batch, self.device)
            self._sums.add(self._step(part, part.noise(rng.Sequential(noise)), stop), part.total)
            if checkpoint is not None and checkpoint.due:
                checkpoint.write(*self._state(watchers))
            if self.world.size == 1:
                stop.agreed = stop.signal
            if stop.agreed is not None:
                break

    def _step(self, part: Part, noise: rng.Noise, stop: "_Stop") -> dict[str, Tensor]:
        """Make an update and return the sums of the terms, or nothing where it was left out."""
        self.at.tried += 1
        if self.at.tried >= RECENT:
            self.at.tried //= 2
            self.at.failed //= 2
        for parameter in self.parameters:
            parameter.grad = None
        bound = self.running(self.module, part.batch, step=self.at.steps_done, noise=noise)
        (bound.loss * part.weight).backward()
        loss, totals = self._shared(part, bound, stop)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm + loss):
            return self._skip(totals)
        if norm > MAX_GRADIENT_NORM:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, MAX_GRADIENT_NORM, norm)
        self.optimizer.update(self.at.rate)
        self.at.steps_done += 1
        self.at.skipped = 0
        return totals

    def _shared(self, part: Part, bound: Bound, stop: "_Stop") -> tuple[Tensor, dict[str, Tensor]]:
        """Turn gradients of a part into those of the batch; return its loss and sums of terms.

        All that the processes must agree on goes in one exchange: the gradients and which there
        are, the loss, whether a signal came. Buffers become those of the first process.
        """
        loss, totals = bound.loss.detach() * part.weight, _totals(part, bound.terms)
        if self.world.size == 1:
            return loss, totals
        there = loss.new_tensor([p.grad is not None for p in self.parameters])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        own = [*gradients, there, torch.stack([loss, *(t.to(loss) for t in totals.values())])]
        if not part.weight:  # also where the gradient of that one row is not finite
            own = [torch.zeros_like(t) for t in own]
        buffers = list(self.module.buffers())
        kept = [
            b.to(loss) if self.world.is_main else torch.zeros_like(b).to(loss) for b in buffers
        ]
        signals = loss.new_tensor([stop.signal == s for s in (signal.SIGTERM, signal.SIGINT)])
        summed = iter(self.world.sum([*own, *kept, signals]))
        gradients = list(itertools.islice(summed, len(gradients)))
        there, (loss, *terms) = next(summed), next(summed)
        for parameter, gradient, one in zip(self.parameters, gradients, there, strict=True):
            parameter.grad = gradient if one else None
        for buffer in buffers:
            buffer.copy_(next(summed))
        terminated, interrupted = next(summed).tolist()
        stop.agreed = signal.SIGTERM if terminated else signal.SIGINT if interrupted else None
        return loss, dict(zip(totals, terms, strict=True))

    def _skip(self, totals: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave the weights alone; when that does not help, go back and take smaller steps."""
        self.at.skipped += 1
        self.at.failed += 1
        mostly = self.at.failed >= MAX_SKIPPED and 2 * self.at.failed > self.at.tried
        if self.at.skipped < MAX_SKIPPED and not mostly:
            return {}
        if self.at.recoveries < MAX_RECOVERIES:
            self._restore(self._good)
            self.at.recoveries += 1
            self.at.skipped = self.at.tried = self.at.failed = 0
            return {}
        bad = [name for name, total in totals.items() if not torch.isfinite(total)]
        raise TrainingDivergedError(
            f"Training diverged in epoch {self.at.epochs_done + 1} after {self.at.steps_done} "
            f"updates: not finite were {', '.join(bad) or 'the gradient'}, also with the learning "
            f"rate halved {MAX_RECOVERIES} times. The weights are the last good ones. Try a "
            "smaller learning_rate, or look for extreme values in the data."
        )

    @torch.no_grad()
    def _validate(self, valid: Source, plan: Plan) -> dict[str, float]:
        self.module.eval()
        sums = _Sums()
        held_out = self.objective.held_out()
        for i, batch in enumerate(valid.in_order(1024, self._whole_on)):
            source = rng.generator(plan.seed, rng.Stream.VALIDATION, i, device=self.device)
            part = self.world.part(batch, self.device)
            noise = part.noise(rng.Sequential(source))
            bound = held_out(self.module, part.batch, step=0, noise=noise)
            sums.add(_totals(part, bound.terms), part.total)
        self.module.train()
        totals = self.world.sum(list(sums.totals.values()))
        sums.totals = dict(zip(sums.totals, totals, strict=True))
        return sums.means("valid_")

    @property
    def _whole_on(self) -> torch.device:
        """Where whole batches are made: a part of one goes to the device alone."""
        return self.device if self.world.size == 1 else torch.device("cpu")

    def _check_world(self, train: Source, valid: Source | None, plan: Plan) -> None:
        """Refuse to train where the processes were given different things."""
        if self.world.size == 1:
            return
        own = fingerprint_of(
            {
                "plan": {**asdict(plan), "dtype": str(plan.dtype)},
                "rows": [len(train), 0 if valid is None else len(valid)],
                "position": asdict(self.at),
            },
            *self.module.state_dict().values(),
        )
        first = self.world.from_main(lambda: own)
        differing = sorted(k for k in own if own[k] != first[k])
        (count,) = self.world.sum([torch.tensor(float(bool(differing)))])
        if count:
            raise ParameterError(
                f"The {self.world.size} processes of a group train one model, so each must call "
                "fit with the same data and the same parameters; here they differ"
                f"{' in: ' + ', '.join(differing) if differing else ''}."
            )

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that updates change: weights, buffers, and the optimiser's averages."""
        tensors = {f"module.{k}": v for k, v in self.module.state_dict().items()}
        tensors |= {f"running.{i}": p.data for i, p in enumerate(self.running.parameters())}
        for i, parameter in enumerate(self.parameters):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{i}.{name}"] = value
        return tensors

    def _snapshot(self) -> dict[str, Tensor]:
        return {k: v.detach().clone() for k, v in self._tensors().items()}

    @torch.no_grad()
    def _restore(self, tensors: dict[str, Tensor]) -> None:
        for name, tensor in self._tensors().items():
            if not name.startswith("optimizer."):
                tensor.copy_(tensors[name])
        self.optimizer.state.clear()
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, i, key = name.split(".")
                self.optimizer.state[self.parameters[int(i)]][key] = value.detach().clone()

    def _state(self, watchers: Sequence[Watcher]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return all that `_load` needs to go on exactly."""
        tensors = {f"now.{k}": v for k, v in self._tensors().items()}
        tensors |= {f"good.{k}": v for k, v in self._good.items()}
        tensors |= {f"sums.{k}": v for k, v in self._sums.totals.items()}
        described = []
        for i, watcher in enumerate(_lasting(watchers)):
            values, own = watcher.state()
            described.append(values)
            tensors |= {f"watcher.{i}.{k}": v for k, v in own.items()}
        state = {"at": asdict(self.at), "rows": self._sums.rows, "watchers": described}
        return state, tensors

    def _load(
        self, state: dict[str, Any], tensors: dict[str, Tensor], watchers: Sequence[Watcher]
    ) -> None:
        tensors = {k: v.to(self.device) for k, v in tensors.items()}
        self._restore(_below("now.", tensors))
        self._good = _below("good.", tensors)
        self._sums.totals, self._sums.rows = _below("sums.", tensors), int(state["rows"])
        self.at = Position(**state["at"])
        pairs = zip(_lasting(watchers), state["watchers"], strict=True)
        for i, (watcher, values) in enumerate(pairs):
            watcher.load_state(values, _below(f"watcher.{i}.", tensors))


def _lasting(watchers: Sequence[Watcher]) -> list[Watcher]:
    """Watchers with a state; whether progress is shown differs between runs and processes."""
    return [w for w in watchers if type(w).state is not Watcher.state]


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def fit_prior(
    module: LatentModule, prior: PriorModule, source: Source, *, n_steps: int, seed: int
) -> None:
    """Fit a prior to the aggregate posterior of a trained model, which stays as it is.

    Maximises E[log p(z)] over rows and draws z ~ q(z | x): the part of the ELBO that depends on
    the prior.
    """
    device = next(module.parameters()).device
    prior.to(device)
    parameters = [p for p in prior.parameters() if p.requires_grad]
    if not parameters:  # a prior without weights is put in as it is
        return
    optimizer = Adam(parameters)
    plan = Plan(1, 512, 0.01, seed)
    step, epoch = 0, 0
    while step < n_steps:
        for batch in source.batches(epoch, plan.batch_size, device):
            noise = rng.Sequential(rng.generator(seed, rng.Stream.PRIOR, step, device=device))
            with torch.no_grad():
                z = module.prior_part(draw(module.infer(batch), (), noise))
            loss = -prior(module.infer_prior_part).log_prob(z).mean()
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter.grad = gradient
            torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            optimizer.update(plan.rate(step, n_steps))
            step += 1
            if step >= n_steps:
                break
        epoch += 1


def _totals(part: Part, terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums of per-row terms over the rows of a part."""
    rows = {k: v if part.weight else torch.zeros_like(v) for k, v in terms.items()}
    return {
        k: v.sum(dtype=torch.float64 if v.device.type != "mps" else None) for k, v in rows.items()
    }


class _Sums:
    """Row-weighted means of per-row terms; a short last batch counts by its rows."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.rows = 0

    def add(self, totals: dict[str, Tensor], rows: int) -> None:
        for name, total in totals.items():
            self.totals[name] = self.totals[name] + total if name in self.totals else total
        self.rows += rows if totals else 0

    def means(self, prefix: str) -> dict[str, float]:
        return {prefix + name: float(t) / max(self.rows, 1) for name, t in self.totals.items()}


@dataclass
class _Stop:
    """The signal that asked for an end, if one did: here, and in any process of the world."""

    signal: int | None = None
    agreed: int | None = None  # read between updates, so that all end after the same one


@contextmanager
def _stop_at_batch_end() -> Iterator[_Stop]:
    """Turn the first Ctrl-C or SIGTERM into a flag that is read between updates.

    The second Ctrl-C is immediate; after SIGTERM, whatever handled it before does so at the end.
    Only the main thread may install handlers; elsewhere, and where the host program has put in a
    handler of its own for Ctrl-C, it stays what it is.
    """
    stop = _Stop()
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            before[signal.SIGINT] = signal.default_int_handler
        before[signal.SIGTERM] = signal.getsignal(signal.SIGTERM)

    def handle(number: int, frame: object) -> None:
        stop.signal = number
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if signal.SIGTERM in (stop.signal, stop.agreed):
            os.kill(os.getpid(), signal.SIGTERM)
