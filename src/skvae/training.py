"""The training loop: fit → epoch → step, readable from top to bottom."""

import itertools
import math
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from skvae import rng
from skvae.callbacks import Epoch, Watcher
from skvae.data import Source
from skvae.distributions import draw
from skvae.evidence import Batch
from skvae.exceptions import TrainingDivergedError, TrainingInterruptedWarning
from skvae.models import LatentModule
from skvae.objectives import Objective
from skvae.priors import PriorModule

__all__ = ["Plan", "Trainer", "auto_batch_size", "auto_epochs", "fit_prior"]

MAX_GRADIENT_NORM = 1000.0
MAX_CONSECUTIVE_SKIPS = 10


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
        with rng.isolated(seed, rng.Stream.INIT, 1):
            self.running = objective.start(module.spec.latent.width)
        own = itertools.chain(module.parameters(), self.running.parameters())
        self.parameters = [p for p in own if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters, fused=device.type in ("cpu", "cuda", "mps")
        )
        self.epochs_done = 0
        self.steps_done = 0
        self._skipped = 0

    def fit(
        self,
        train: Source,
        valid: Source | None,
        plan: Plan,
        watchers: Sequence[Watcher] = (),
    ) -> None:
        """Train until the plan is done, a watcher stops it, or the user does.

        Raises
        ------
        TrainingDivergedError
            When many updates in a row were non-finite. The weights are those of the last finite
            update, or the best ones where a watcher keeps them.
        """
        steps = plan.max_epochs * math.ceil(len(train) / plan.batch_size)
        first_step = self.steps_done
        self.module.train()
        try:
            for watcher in watchers:
                watcher.fit_started(self.module)
            with _stop_at_batch_end() as interrupted, self.module.autocast(plan.dtype):
                for _ in range(plan.max_epochs):
                    epoch = self._epoch(train, valid, plan, first_step, steps, interrupted)
                    if interrupted.is_set() or epoch is None:
                        break
                    # Every watcher sees every epoch, also the one that ends training.
                    votes = [w.epoch_ended(self.module, epoch) for w in watchers]
                    if any(votes):
                        break
            if interrupted.is_set():
                warnings.warn(
                    f"Training was interrupted after {self.epochs_done} epochs and "
                    f"{self.steps_done} updates; the model keeps the best weights so far.",
                    TrainingInterruptedWarning,
                    stacklevel=4,
                )
        finally:
            self.module.eval()
            for watcher in watchers:
                watcher.fit_ended(self.module)

    def _epoch(
        self,
        train: Source,
        valid: Source | None,
        plan: Plan,
        first_step: int,
        steps: int,
        interrupted: threading.Event,
    ) -> Epoch | None:
        start = time.perf_counter()
        sums = _Sums()
        rate = plan.learning_rate
        for i, batch in enumerate(train.batches(self.epochs_done, plan.batch_size, self.device)):
            rate = plan.rate(self.steps_done - first_step, steps)
            noise = rng.generator(
                plan.seed, rng.Stream.NOISE, self.epochs_done, i, device=self.device
            )
            sums.add(self._step(batch, rate, rng.Sequential(noise)))
            if interrupted.is_set():
                return None
        self.epochs_done += 1
        values = sums.means("train_")
        if valid is not None:
            values |= self._validate(valid, plan)
        values |= {"learning_rate": rate, "seconds": time.perf_counter() - start}
        return Epoch(self.epochs_done, values)

    def _step(self, batch: Batch, rate: float, noise: rng.Noise) -> dict[str, Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        bound = self.running(self.module, batch, step=self.steps_done, noise=noise)
        bound.loss.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm + bound.loss.detach()):
            return self._skip(bound.terms)
        if norm > MAX_GRADIENT_NORM:
            torch.nn.utils.clip_grads_with_norm_(self.parameters, MAX_GRADIENT_NORM, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.steps_done += 1
        self._skipped = 0
        return bound.terms

    def _skip(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Leave the weights alone; give up when it happens again and again."""
        self._skipped += 1
        if self._skipped >= MAX_CONSECUTIVE_SKIPS:
            bad = [name for name, v in terms.items() if not torch.isfinite(v).all()]
            raise TrainingDivergedError(
                f"Training diverged in epoch {self.epochs_done + 1} after {self.steps_done} "
                f"updates: {self._skipped} in a row were not finite "
                f"({', '.join(bad) or 'the gradient'}). The weights are those of the last finite "
                "update. Try a smaller learning_rate, or look for extreme values in the data."
            )
        return {}

    @torch.no_grad()
    def _validate(self, valid: Source, plan: Plan) -> dict[str, float]:
        self.module.eval()
        sums = _Sums()
        held_out = self.objective.held_out()
        for i, batch in enumerate(valid.in_order(1024, self.device)):
            noise = rng.generator(plan.seed, rng.Stream.VALIDATION, i, device=self.device)
            bound = held_out(self.module, batch, step=0, noise=rng.Sequential(noise))
            sums.add(bound.terms)
        self.module.train()
        return sums.means("valid_")


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
    optimizer = torch.optim.Adam(parameters)
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
            optimizer.param_groups[0]["lr"] = plan.rate(step, n_steps)
            optimizer.step()
            step += 1
            if step >= n_steps:
                break
        epoch += 1


class _Sums:
    """Row-weighted means of per-row terms; a short last batch counts by its rows."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.rows = 0

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, value in terms.items():
            total = value.sum(dtype=torch.float64 if value.device.type != "mps" else None)
            self.totals[name] = self.totals[name] + total if name in self.totals else total
        self.rows += len(next(iter(terms.values()), ()))

    def means(self, prefix: str) -> dict[str, float]:
        return {prefix + name: float(t) / max(self.rows, 1) for name, t in self.totals.items()}


@contextmanager
def _stop_at_batch_end() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a flag that is read between updates; the second is immediate.

    Only the main thread may install a handler; elsewhere, and where the host program has put in a
    handler of its own, Ctrl-C stays what it is.
    """
    flag = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield flag
        return

    def handle(number: int, frame: object) -> None:
        flag.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handle)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
