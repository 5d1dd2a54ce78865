"""The calls of an estimator that say how probable rows are, and how far to trust the figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skvae import evaluation, files
from skvae.estimators._base import Rows, Seed, at_least, joined, seed_of
from skvae.estimators._mixed_face import MixedFace

if TYPE_CHECKING:
    from skvae.callbacks import History

__all__ = ["Scores"]

ROWS_FOR_KL = 20_000  # of a stream, kept to split the KL


class Scores(MixedFace):
    """Log-likelihood of rows, summaries of it, and a check of the estimate."""

    history_: History

    def _warn_of_collapse(self) -> None:
        """Warn where training has ended with a KL of nothing; called by what `fit` calls."""
        spec, trainer = self._core.spec, self._core.trainer
        if trainer is None or trainer.at.steps_done < 100:  # the KL is near 0 at the start, too
            return
        if spec.posterior.has_density and len(self.history_):  # an interrupt may leave none
            kl = self.history_[-1]["train_kl"]
            evaluation.warn_of_collapse(kl, spec.latent.n_components, stacklevel=5)

    def score_samples(
        self, X: Rows, *, n_samples: int = 100, n_temperatures: int = 1
    ) -> NDArray[np.float64]:
        """Return an estimate of log p(x) of each row, in nats.

        A lower bound in expectation that rises with ``n_samples`` and ``n_temperatures``. The
        noise is fixed at `fit` and by the content of the row, so the values repeat exactly and do
        not depend on the order of the rows or on their company. With ``binarize="stochastic"``
        grey rows are binarised first, by noise that is fixed by their content.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
        n_samples : int
            Importance weights per row.
        n_temperatures : int
            Steps in which a sample goes from q(z | x) to the posterior. 1 is importance sampling.
            More is annealed importance sampling [1]_: far closer where q is far from the posterior
            (500 steps and ``n_samples=16`` are a good start), but each step costs ten gradients of
            the decoder. Importance sampling is annealing with one step, hence a number and not a
            choice of method.

        Returns
        -------
        log_likelihood : ndarray of float64, shape (n,)
            Log-density in data units (log-probability for binary data).

        References
        ----------
        .. [1] Wu, Burda, Salakhutdinov and Grosse, "On the Quantitative Analysis of Decoder-Based
           Generative Models", 2017, arXiv:1611.04273
        """
        check_is_fitted(self)
        n = at_least("n_samples", n_samples, 1)
        steps = at_least("n_temperatures", n_temperatures, 1)
        if steps > 1:
            return joined(
                [self._core.annealed(rows, n, steps) for rows in self._validated_blocks(X)]
            )
        return joined(
            [self._core.marginal(rows, n)["log_likelihood"] for rows in self._validated_blocks(X)]
        )

    def score(self, X: Rows, y: object = None) -> float:
        """Return the mean of `score_samples`, nats per row."""
        return float(np.mean(self.score_samples(X)))

    def evaluate(self, X: Rows, *, n_samples: int = 500) -> evaluation.LikelihoodReport:
        """Return mean log-likelihood with its standard error, ELBO and its terms, diagnostics.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
            Rows that were not trained on. Of files that may be larger than memory, only one
            block is kept, and a few numbers per row.
        n_samples : int
            Importance samples per row.

        Returns
        -------
        report : LikelihoodReport
            In nats per row.

        Warns
        -----
        PosteriorCollapseWarning
            The code z says nothing of the rows: the mean KL is below 0.01 nats. Single unused
            dimensions of a large code are no reason for a warning; ``report.active_units`` counts
            those in use.
        UnreliableEstimateWarning
            The weights of more than a fifth of the rows have a Pareto-k̂ above 0.7.
        """
        check_is_fitted(self)
        n = at_least("n_samples", n_samples, 1)
        stream = files.stream_of(X)
        every = 1 if stream is None else max(1, len(stream) // ROWS_FOR_KL)
        marginals, codes, kls, some = [], [], [], []
        for rows in self._validated_blocks(X if stream is None else stream):
            values = self._core.scored(rows)
            marginals.append(self._core.marginal(values, n))
            codes.append(self._core.posterior_mean(values))
            kls.append(self._core.kl_per_dimension(values))
            some.append(values[::every])
        parts = {name: joined([m[name] for m in marginals]) for name in marginals[0]}
        known = [kl for kl in kls if kl is not None]
        weights = np.array([len(z) for z in codes]) / sum(map(len, codes))
        report = evaluation.likelihood_report(
            parts["log_likelihood"],
            parts["elbo"],
            parts["kl"],
            parts["effective_sample_size"],
            n,
            posterior_mean=joined(codes),
            kl_per_dimension=weights @ np.stack(known) if known else None,
            pareto_k=parts["pareto_k"],
            kl_split=self._core.kl_split(joined(some)),
        )
        evaluation.warn_of_collapse(report.kl, self._core.spec.latent.n_components, stacklevel=3)
        evaluation.warn_of_heavy_tails(report, stacklevel=3)
        return report

    def bidirectional_check(
        self,
        *,
        n_rows: int = 100,
        n_samples: int = 16,
        n_temperatures: int = 500,
        start: Literal["posterior", "prior"] = "posterior",
        random_state: Seed = None,
    ) -> evaluation.LikelihoodBounds:
        """Bound the error of annealed log-likelihoods, on rows drawn from the model itself.

        Of a row that the model made, the z behind it is known: an exact draw from the posterior.
        Annealing from there back to the start bounds log p(x) from above [1]_, as `score_samples`
        bounds it from below. A small gap says that the same settings can be trusted on real rows
        as far as these are like the model's own. With ``n_temperatures=1`` this checks plain
        importance sampling.

        Parameters
        ----------
        n_rows : int
            Rows to draw from the model.
        n_samples, n_temperatures : int
            As in `score_samples`.
        start : {"posterior", "prior"}
            Where annealing begins. From the prior many more steps are needed; it is the choice for
            a posterior that has no density.
        random_state : int, RandomState, Generator or None

        Returns
        -------
        bounds : LikelihoodBounds
            In nats per row.

        References
        ----------
        .. [1] Grosse, Ghahramani and Adams, "Sandwiching the marginal likelihood using
           bidirectional Monte Carlo", 2015, arXiv:1511.02543
        """
        check_is_fitted(self)
        lower, upper, acceptance = self._core.bidirectional(
            at_least("n_rows", n_rows, 1),
            at_least("n_samples", n_samples, 1),
            at_least("n_temperatures", n_temperatures, 1),
            start,
            seed=seed_of(random_state),
        )
        return evaluation.likelihood_bounds(lower, upper, acceptance)
