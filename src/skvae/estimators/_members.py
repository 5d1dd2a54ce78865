"""The models of an imputer: one, or several that were trained apart, and what they say together.

Arrays are (n, D) with NaN where a cell is missing, D the number of modelled columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skvae import distributions, rng
from skvae.calibration import Calibration
from skvae.conditional import PosteriorSample, Sampler
from skvae.estimators._cells import by_row
from skvae.estimators._core import Core
from skvae.evidence import Batch
from skvae.likelihoods.columns import ColumnsModule
from skvae.models import LatentModule

__all__ = ["Drawn", "Members"]

Array = NDArray[Any]

ROWS_PER_BLOCK = 256
CELLS_PER_CALL = 1 << 20  # of decoded cells that are held at a time
BEST_LARGE = ("effective_sample_size", "acceptance")


@dataclass(frozen=True)
class Drawn:
    """Weighted draws of the cells of some rows.

    Attributes
    ----------
    rows : ndarray of int, shape (b,)
        Numbers of the rows.
    values : ndarray of float64, shape (b, K, D)
        In data units.
    weight : ndarray, shape (b, K)
    """

    rows: NDArray[np.intp]
    values: Array
    weight: Array


class Members:
    """Trained models that share the scaling of the data.

    Parameters
    ----------
    cores : sequence of Core
    calibration : Calibration or None
        Corrects what they say of single cells; scores are theirs.
    """

    def __init__(self, cores: Sequence[Core], calibration: Calibration | None = None) -> None:
        self.cores = tuple(cores)
        self.calibration = calibration

    def __len__(self) -> int:
        return len(self.cores)

    def mean(self, X: Array, sampler: Sampler, seed: int) -> tuple[Array, Array]:
        """Return the conditional mean of each cell, or its counterpart for codes, shape (n, D).

        What a row gets does not depend on the rows around it.

        Returns
        -------
        values : ndarray, shape (n, D)
            In data units.
        statistics : ndarray, shape (n, S)
            Means and probabilities that they follow from, in model units.
        """
        total: Tensor | None = None
        for core in self.cores:
            parts: Tensor | None = None
            for rows, module, batch, sample in self._samples(core, X, sampler, seed):
                own = self._statistics(module, batch, sample)  # (b, S)
                if parts is None:
                    parts = own.new_empty(len(X), own.shape[1])
                parts[rows] = own
            assert parts is not None
            total = parts if total is None else total + parts
        assert total is not None
        mean = (total / len(self.cores)).numpy()
        likelihood = self.cores[0].module.likelihood
        if self.calibration is not None:
            assert isinstance(likelihood, ColumnsModule)
            mean = self.calibration.statistics(likelihood, mean)
        values = likelihood.pool([(torch.from_numpy(mean), torch.ones(()))])
        return self.cores[0]._to_data(values), mean

    def draws(self, X: Array, n: int, sampler: Sampler, seed: int) -> Array:
        """Draw rows from p(missing | observed), cell by cell together, shape (n, len(X), D).

        Draw i is one of member i, i + M, ... of M: what they disagree about shows between draws.
        """
        out = self._draws(X, n, sampler, seed)
        if self.calibration is None:
            return out
        noise = np.random.default_rng([seed, rng.Stream.IMPUTE])
        for parts in self.drawn(X, sampler, seed):
            for i, draws, weight in by_row(parts):  # (K, D), (K,)
                choice = noise.random(n)
                for j in np.flatnonzero(np.isnan(X[i])).tolist():
                    out[:, i, j] = self.calibration.moved(
                        j, out[:, i, j], draws[:, j], weight, choice, noise
                    )
        return out

    def _draws(self, X: Array, n: int, sampler: Sampler, seed: int) -> Array:
        out = np.empty((n, len(X), X.shape[1]))
        for m, core in enumerate(self.cores):
            own = range(m, n, len(self.cores))
            if not own:
                break
            key = rng.seed_from(seed, m)
            for rows, module, batch, sample in self._samples(
                core, X, sampler, key, own_rows=False
            ):
                noise = rng.Sequential(rng.generator(key, rng.Stream.IMPUTE, 1, int(rows[0])))
                z, _ = sample.draws(len(own), noise)
                p = module.hidden(batch, z)
                out[np.ix_([*own], rows)] = core._to_data(distributions.draw(p, (), noise))
        return out

    def drawn(self, X: Array, sampler: Sampler, seed: int) -> Iterator[list[Drawn]]:
        """Yield all weighted draws for some rows at a time: one entry for each group of a member.

        The weights of each row sum to 1 over the members' draws together.
        """
        for start in range(0, len(X), ROWS_PER_BLOCK):
            block = X[start : start + ROWS_PER_BLOCK]
            parts = []
            for core in self.cores:
                for rows, module, batch, sample in self._samples(core, block, sampler, seed):
                    # Of one number, the key would be that of a round of `sampler`.
                    noise = rng.PerRow(batch.x, rng.seed_from(seed, rng.Stream.IMPUTE, 0))
                    z = sample.z.transpose(0, 1)  # (b, K, d): noise goes by the first axis
                    # Parts whose size goes by b would make the noise of a row depend on others.
                    size = max(1, CELLS_PER_CALL // (ROWS_PER_BLOCK * X.shape[1]))
                    values = [
                        core._to_data(distributions.draw(module.hidden(batch, some), (), noise))
                        for some in z.split(size, 1)
                    ]
                    weight = sample.weight.cpu().numpy() / len(self.cores)
                    parts.append(Drawn(start + rows, np.concatenate(values, 1), weight.T))
            yield parts

    def law(self, j: int, x: Array, weight: Array) -> tuple[Array, Array]:
        """Return draws x (K,) of a cell of column j and their weights, corrected."""
        return self.calibration.law(j, x, weight) if self.calibration else (x, weight)

    def guess(self, j: int, x: Array, weight: Array) -> float:
        """Return the mean of draws x (K,) of a number of column j, corrected."""
        return self.calibration.mean(j, x, weight) if self.calibration else float(weight @ x)

    @staticmethod
    def chosen(X: Array, rate: float, seed: int) -> NDArray[np.bool_]:
        """Choose cells at random, by noise that is a function of the seed and of each row."""
        cells = torch.from_numpy(np.nan_to_num(X))
        u = rng.PerRow(cells, rng.seed_from(seed, 2)).uniform((), cells)
        return np.asarray(u.numpy() < rate)

    def log_scores(
        self, X: Array, hidden: NDArray[np.bool_], sampler: Sampler, seed: int
    ) -> tuple[Array, Array]:
        """Return log p(hidden cells | the other observed ones), per row, and how many there are.

        Parameters
        ----------
        X : ndarray, shape (n, D)
        hidden : ndarray of bool, shape (n, D)
            Cells that are predicted; those that are NaN count for nothing.

        Returns
        -------
        log_score : ndarray of float64, shape (n,)
            In nats, in data units.
        count : ndarray of int, shape (n,)
        """
        hidden = hidden & ~np.isnan(X)
        known = np.where(hidden, np.nan, X)
        scores = np.empty((len(self.cores), len(X)))
        for m, core in enumerate(self.cores):
            for rows, module, batch, sample in self._samples(core, known, sampler, seed):
                target = core.batch_of(X[rows], module)
                mask = torch.from_numpy(hidden[rows]).to(target.x.device)
                log_p = module.log_hidden(batch, sample.z, Batch(target.x, mask))  # (K, b)
                weighted = log_p.double() + sample.weight.double().log()
                scores[m, rows] = torch.logsumexp(weighted, 0).cpu().numpy()
        pooled = np.logaddexp.reduce(scores, 0) - np.log(len(self.cores))
        return pooled, hidden.sum(1)

    def reliability(self, X: Array, sampler: Sampler, seed: int) -> dict[str, Array]:
        """Return the figures of the samples per row, by name, the worst of all members."""
        worst: dict[str, Array] = {}
        for core in self.cores:
            for rows, _, _, sample in self._samples(core, X, sampler, seed):
                for name, values in sample.figures.items():
                    all_rows = worst.setdefault(name, np.full(len(X), np.nan))
                    worse = np.fmin if name in BEST_LARGE else np.fmax
                    all_rows[rows] = worse(all_rows[rows], values.cpu().numpy())
        return worst

    def _samples(
        self, core: Core, X: Array, sampler: Sampler, seed: int, *, own_rows: bool = True
    ) -> Iterator[tuple[NDArray[np.intp], LatentModule, Batch, PosteriorSample]]:
        """Yield numbers of rows, the module, the rows in its precision, and draws for them.

        With ``own_rows`` the noise of a row is a function of its content.
        """
        module = core.module
        with torch.no_grad():
            for start in range(0, len(X), ROWS_PER_BLOCK):
                batch = core.batch_of(X[start : start + ROWS_PER_BLOCK], module)

                def noise_of(
                    rows: Tensor, turn: int, batch: Batch = batch, start: int = start
                ) -> rng.Noise:
                    if own_rows:
                        return rng.PerRow(batch.x[rows], rng.seed_from(seed, turn))
                    return rng.Sequential(rng.generator(seed, rng.Stream.IMPUTE, 0, start, turn))

                for rows, sample in sampler.samples(module, batch, noise_of):
                    part = batch.map(lambda cells, rows=rows: cells[rows])  # type: ignore[misc]
                    yield start + rows.cpu().numpy(), module, part, sample

    def _statistics(self, module: LatentModule, batch: Batch, sample: PosteriorSample) -> Tensor:
        """Return the weighted mean of the likelihood's statistics, float64, shape (b, S)."""
        likelihood = module.likelihood
        parts: Iterable[tuple[Tensor, Tensor]]
        if sample.statistics is not None:
            parts = [(sample.statistics, sample.weight)]
        else:
            size = max(1, CELLS_PER_CALL // max(1, batch.x.numel()))
            pairs = zip(sample.z.split(size), sample.weight.split(size), strict=True)
            parts = ((likelihood.statistics(module.hidden(batch, z)), w) for z, w in pairs)
        total: Tensor | None = None
        own = self.calibration
        ends = None if own is None else (own.low, own.high)
        for values, weight in parts:
            if ends is not None:
                values = values.clamp(*(torch.from_numpy(end).to(values) for end in ends))
            mean = torch.einsum("kb,kbs->bs", weight, values).double()
            total = mean if total is None else total + mean
        assert total is not None
        return total.cpu()
