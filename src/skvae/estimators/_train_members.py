"""Training the members of an imputer on a table with holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from skvae import rng
from skvae.calibration import Calibration
from skvae.callbacks import Epoch, History, Progress, Watcher
from skvae.estimators._calibrate import calibrate, hold_out
from skvae.estimators._choices import choose_network, pick_device
from skvae.estimators._core import Core
from skvae.estimators._members import Members
from skvae.estimators._table import TableRows, table_likelihood
from skvae.likelihoods import Likelihood
from skvae.missingness import Missingness
from skvae.networks import Table
from skvae.objectives import IWAE, Objective, WakePhase
from skvae.posteriors import Posterior
from skvae.training import Plan

if TYPE_CHECKING:
    from skvae.estimators.imputer import VAEImputer

__all__ = ["train"]

MOST_COMPONENTS = 10
BATCH = 64
N_SAMPLES = 10
UPDATES = 2500
FROZEN = 0.4  # of the epochs
CALIBRATION = 1 << 20  # a number that no member has


def auto_epochs(n: int, batch_size: int) -> int:
    """About 2,500 updates, but at least 10 passes."""
    return max(10, -(-UPDATES * min(batch_size, n) // n))


def train(imputer: VAEImputer, values: NDArray[Any], seed: int) -> tuple[Members, list[History]]:
    """Train the members of an imputer whose parameters and schema are checked.

    Parameters
    ----------
    imputer : VAEImputer
    values : ndarray of float64, shape (n, D)
        NaN where a cell is missing.
    seed : int
    """
    known = values[~np.isnan(values).all(1)]  # the others say nothing
    cores, histories = [], []
    for m in range(int(imputer.n_members)):
        own_seed = rng.seed_from(seed, m) if imputer.n_members > 1 else seed
        rows = TableRows(known, own_seed)
        if imputer.bootstrap:
            rows = rows.resampled(own_seed)
        core, history = _trained(imputer, rows, own_seed)
        cores.append(core)
        histories.append(history)
    # Where cells hide themselves, cells that are hidden at random say nothing of them.
    correct = imputer.calibrate and imputer.mnar is None
    return Members(cores, _calibration(imputer, known, seed) if correct else None), histories


def _calibration(imputer: VAEImputer, known: NDArray[Any], seed: int) -> Calibration | None:
    """Train a model without some of the cells, and see what it says of them."""
    own_seed = rng.seed_from(seed, CALIBRATION)
    held = hold_out(known, own_seed)
    if held is None:
        return None
    core, _ = _trained(imputer, TableRows(held.seen, own_seed, known), own_seed)
    return calibrate(Members([core]), held, imputer._guesser, imputer._sampler, own_seed)


def _trained(imputer: VAEImputer, rows: TableRows, seed: int) -> tuple[Core, History]:
    """Train one model."""
    width = rows.X.shape[1]
    likelihood = table_likelihood(imputer.schema_, imputer.likelihoods)
    missingness = _missingness(imputer, likelihood, rows.whole)
    n_components = (
        min(MOST_COMPONENTS, width)
        if imputer.n_components == "auto"
        else int(imputer.n_components)
    )
    network = (
        Table(hidden_layer_sizes=imputer.hidden_layer_sizes)
        if imputer.network == "auto"
        else choose_network(imputer.network, imputer.hidden_layer_sizes, (width,), likelihood)
    )
    batch_size = BATCH if imputer.batch_size == "auto" else int(imputer.batch_size)
    epochs = (
        auto_epochs(len(rows.X), batch_size)
        if imputer.max_epochs == "auto"
        else int(imputer.max_epochs)
    )
    core = Core.create(
        rows,
        event_shape=(width,),
        n_components=n_components,
        likelihood=likelihood,
        posterior=Posterior.resolve(imputer.posterior, argument="posterior"),
        prior=imputer.prior,
        network=network,
        model=imputer.model,
        binarize=None,
        device=pick_device(imputer.device),
        missingness=missingness,
    )
    plan = Plan(epochs, batch_size, float(imputer.learning_rate), seed)
    history = History()
    watchers: list[Watcher] = [history]
    if imputer.verbose:
        watchers.append(Progress(epochs, type(imputer).__name__))
    if missingness is not None:
        watchers.append(Thaw(round(epochs * FROZEN)))
    core.train(rows, None, _objective(imputer), plan, watchers, epochs_done=0)
    return core, history


@dataclass
class Thaw(Watcher):
    """Train p(s | x) once p(x) is known well enough to tell what hidden cells may hold.

    Until then it would be led by the noise of the first updates, perhaps to the wrong sign, and
    p(x) would follow.

    Parameters
    ----------
    epoch : int
        The last one without.
    """

    epoch: int

    def fit_started(self, module: nn.Module) -> None:
        """Keep the weights of p(s | x) as they are."""
        module.get_submodule("missingness").requires_grad_(self.epoch == 0)

    def epoch_ended(self, module: nn.Module, epoch: Epoch) -> None:
        """Let them go."""
        if epoch.number == self.epoch:
            module.get_submodule("missingness").requires_grad_(True)

    def fit_ended(self, module: nn.Module) -> None:
        """Leave no weight frozen."""
        module.get_submodule("missingness").requires_grad_(True)


def _missingness(
    imputer: VAEImputer, likelihood: Likelihood, values: NDArray[Any]
) -> Missingness | None:
    if imputer.mnar is None:
        return None
    spec = Missingness.resolve(imputer.mnar, argument="mnar")
    holes = np.flatnonzero(np.isnan(values).any(0))
    return spec.of_table(likelihood, imputer.schema_.modelled, tuple(holes.tolist()))


def _objective(imputer: VAEImputer) -> Objective:
    if imputer.objective != "auto":
        objective: Objective = Objective.resolve(imputer.objective, argument="objective")
    else:
        objective = IWAE(n_samples=N_SAMPLES, gradient="dreg")
    return objective + WakePhase(hide=imputer.hide) if imputer.hide else objective
