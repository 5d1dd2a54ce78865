"""The VAEImputer estimator."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import TransformerMixin
from sklearn.utils._param_validation import Interval, MissingValues, StrOptions
from sklearn.utils.validation import _check_feature_names_in, check_is_fitted

from skvae.estimators._base import Array, Seed, at_least, seed_of
from skvae.estimators._table_face import TableFace
from skvae.exceptions import (
    NotIdentifiedWarning,
    ParameterError,
    UnreliableEstimateWarning,
)
from skvae.spec import Spec

if TYPE_CHECKING:
    import torch

    from skvae._cell_scores import ImputationReport
    from skvae.callbacks import History
    from skvae.conditional import Sampler
    from skvae.estimators._cells import CellDistribution
    from skvae.estimators._members import Members
    from skvae.estimators._sensitivity import Sensitivity
    from skvae.likelihoods import Likelihood
    from skvae.networks import Network
    from skvae.schema import Schema

__all__ = ["VAEImputer"]


class VAEImputer(TransformerMixin, TableFace):  # type: ignore[misc]
    """Fill in the missing cells of a table, once or many times, by a VAE [1]_.

    Columns may be numbers, categories and dates, each with a likelihood of its own. The model is
    trained on the observed cells alone, which is right where a cell is missing at random given
    those that are observed. `transform` then fills in conditional means, `sample` draws whole
    tables for multiple imputation, `interval` and `cell_distribution` say how sure each cell is,
    and `evaluate` shows whether all this helps on your table.

    Parameters
    ----------
    n_components : int or "auto", default="auto"
        Number of latent dimensions; ``"auto"`` is at most 10.
    kinds : mapping or None, default=None
        What columns are, where it shall not be inferred: ``{"age": "count", "share": ("bounded",
        0, 1), "grade": ("ordinal", ["low", "high"]), "id": "text"}``. See `skvae.schema`.
    likelihoods : mapping or None, default=None
        Likelihood by name of a column or by kind: ``{"real": "student_t"}``.
    n_members : int, default=1
        Models that are trained apart. Their mean is a better guess, and imputations that are
        spread over them show what one model cannot: how uncertain its own weights are. Five are
        a good choice for multiple imputation.
    bootstrap : bool, default=False
        Train each member on a bootstrap sample of the rows: a somewhat worse guess, but draws
        that differ as much as other tables would make them.
    unseen : {"missing", "error"}, default="missing"
        What a category that `fit` never saw means to the model: nothing, with a warning, or an
        error. The cell itself stays as it is.
    missing_values : scalar, default=NaN
        What marks a missing cell, besides NaN, None and the missing values of frames.
    add_indicator : bool, default=False
        Append a column for each one with holes in `fit`, which says where cells were missing.
    keep_empty_features : bool, default=False
        Keep columns that had no value at all in `fit`; numbers are then 0, as in scikit-learn.
    network : str or spec, default="auto"
        Bodies of encoder and decoder; ``"auto"`` is ``networks.Table(hidden_layer_sizes)``.
    hidden_layer_sizes : tuple of int, default=(128, 128)
        Widths of the encoder's hidden layers, mirrored in the decoder.
    posterior, prior, model, objective : str or spec
        As in `VAE`; the objective ``"auto"`` is ``objectives.IWAE(10, gradient="dreg")`` [1]_.
    hide : float, default=0.8
        In training, the encoder also learns rows of which up to this share of the observed cells
        is hidden, so that it knows patterns of holes that the table does not have
        (`skvae.objectives.WakePhase`); 0 for not.
    calibrate : bool, default=True
        Train one more model, without a tenth of the rows and of the cells of the others, and
        correct by what it says of these: guesses that stray too far from the mean of their column
        are drawn back, and the distribution of a number is mixed with its guess and the errors
        that guesses have, so far that 90 % of the cells lie in their 90 % interval
        (`skvae.calibration`). This doubles the time of `fit` for one member. Scores stay those of
        the model. Not with ``mnar``.
    method : {"auto", "importance", "gibbs", "metropolis"}, default="auto"
        How p(missing | observed) is sampled. ``"importance"`` weighs draws from the encoder [1]_;
        ``"auto"`` does so too, and looks for better ones where Pareto-k̂ says that these are wrong.
        ``"metropolis"`` runs Markov chains that are exact in the limit and many times slower
        [2]_; ``"gibbs"``, those that trust the encoder, for comparison [3]_.
    mnar : str, spec or None, default=None
        How cells go missing if not at random: ``"self_masking"``, by their own values, or
        ``missingness.SelfMasking(columns, sign)`` [4]_. No data can show whether that is so, and
        a flexible decoder may explain the holes in its own way; ``network=networks.Table(())``,
        a linear one, is more robust. `sensitivity` is the safer tool.
    n_samples : int, default=256
        Draws per row to begin with. `transform`, which needs means alone, makes do with a quarter
        of this and of the next two, and does not look for better draws.
    effective_samples : float, default=20
        Rows whose weights rest on fewer samples than this get more.
    max_samples : int, default=1024
        How many a row gets at most.
    max_epochs, batch_size, learning_rate, device, random_state, verbose
        As in `VAE`. By default, training takes about 2,500 updates of 64 rows.

    Attributes
    ----------
    schema_ : Schema
        What each column is.
    n_features_in_ : int
    feature_names_in_ : ndarray of str
    likelihood_ : Columns
        The likelihood of each modelled column.
    history_ : list of History
        Of each member.

    References
    ----------
    .. [1] Mattei and Frellsen, "MIWAE: Deep Generative Modelling and Imputation of Incomplete Data
       Sets", 2019, arXiv:1812.02633
    .. [2] Mattei and Frellsen, "Leveraging the Exact Likelihood of Deep Latent Variable Models",
       2018, arXiv:1802.04826
    .. [3] Rezende, Mohamed and Wierstra, "Stochastic Backpropagation", 2014, arXiv:1401.4082
    .. [4] Ipsen, Mattei and Frellsen, "not-MIWAE: Deep Generative Modelling with Missing not at
       Random Data", 2021, arXiv:2006.12871

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from skvae import VAEImputer
    >>> X = load_diabetes().data.copy()
    >>> X[::3, 2] = np.nan
    >>> imputer = VAEImputer(max_epochs=5, random_state=0).fit(X)
    >>> bool(np.isnan(imputer.transform(X)).any())
    False
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "kinds": [Mapping, None],
        "likelihoods": [Mapping, None],
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "bootstrap": ["boolean"],
        "unseen": [StrOptions({"missing", "error"})],
        "missing_values": [MissingValues()],
        "add_indicator": ["boolean"],
        "keep_empty_features": ["boolean"],
        "network": [str, Spec],
        "hidden_layer_sizes": [tuple, list],
        "posterior": [str, Spec],
        "prior": [str, Spec],
        "model": [str, Spec],
        "objective": [str, Spec],
        "hide": [Interval(Real, 0, 1, closed="both")],
        "calibrate": ["boolean"],
        "method": [StrOptions({"auto", "importance", "gibbs", "metropolis"})],
        "mnar": [str, Spec, None],
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "effective_samples": [Interval(Real, 0, None, closed="neither")],
        "max_samples": [Interval(Integral, 1, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state", np.random.Generator],
        "verbose": ["verbose"],
    }

    schema_: Schema
    history_: list[History]
    likelihood_: Likelihood
    _seed: int
    _members: Members | None

    def __init__(
        self,
        n_components: int | Literal["auto"] = "auto",
        *,
        kinds: Mapping[Any, Any] | None = None,
        likelihoods: Mapping[Any, Any] | None = None,
        n_members: int = 1,
        bootstrap: bool = False,
        unseen: Literal["missing", "error"] = "missing",
        missing_values: Any = np.nan,
        add_indicator: bool = False,
        keep_empty_features: bool = False,
        network: str | Spec = "auto",
        hidden_layer_sizes: tuple[int, ...] = (128, 128),
        posterior: str | Spec = "diagonal",
        prior: str | Spec = "auto",
        model: str | Spec = "vae",
        objective: str | Spec = "auto",
        hide: float = 0.8,
        calibrate: bool = True,
        method: Literal["auto", "importance", "gibbs", "metropolis"] = "auto",
        mnar: str | Spec | None = None,
        n_samples: int = 256,
        effective_samples: float = 20.0,
        max_samples: int = 1024,
        max_epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.004,
        device: str = "auto",
        random_state: Seed = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.kinds = kinds
        self.likelihoods = likelihoods
        self.n_members = n_members
        self.bootstrap = bootstrap
        self.unseen = unseen
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.network = network
        self.hidden_layer_sizes = hidden_layer_sizes
        self.posterior = posterior
        self.prior = prior
        self.model = model
        self.objective = objective
        self.hide = hide
        self.calibrate = calibrate
        self.method = method
        self.mnar = mnar
        self.n_samples = n_samples
        self.effective_samples = effective_samples
        self.max_samples = max_samples
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    # -- fit ------------------------------------------------------------------------------

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the columns of X and train on its observed cells.

        Parameters
        ----------
        X : array or DataFrame (pandas, polars), shape (n, p); or path of a Parquet file
            NaN, None and other missing values mark what is missing. A file is read into memory,
            here and elsewhere, and comes back as a frame.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            X has infinity, two columns of one name, or a column of mixed types; the message names
            column and value.
        ParameterError, InvalidParameterError
            A parameter has a value that makes no sense.
        TrainingDivergedError
            Loss or gradients stayed non-finite.

        Warns
        -----
        NotIdentifiedWarning
            With ``mnar``.
        """
        with self._all_or_nothing():
            values = self._learned(X)
            self._seed = seed_of(self.random_state)
            self._train(values)
        return self

    def _train(self, values: Array) -> None:
        """Train the members on values (n, D); no modelled column needs none."""
        self.history_, self._members = [], None
        if not values.shape[1]:
            return
        if self.mnar is not None:
            warnings.warn(
                f"mnar={self.mnar!r} is an assumption about why cells are missing, which cannot "
                "be checked from the data: a model of data missing at random may fit all that is "
                "observed as well. sensitivity() shows how much depends on it, and is the safer "
                "tool.",
                NotIdentifiedWarning,
                stacklevel=3,
            )
        from skvae.estimators._train_members import train

        self._members, self.history_ = train(self, values, self._seed)
        self.likelihood_ = self._members.cores[0].spec.likelihood

    # -- fill in --------------------------------------------------------------------------

    def transform(self, X: Any) -> Any:
        """Fill in each missing cell by what is expected of it; deterministic.

        That is E[missing | observed] for numbers and dates, the most probable category, and the
        median of ordered ones. What a row gets depends on no other row, up to rounding in single
        precision.

        Parameters
        ----------
        X : shape (n, p)
            With the columns of `fit`; any pattern of holes, also rows without any value.

        Returns
        -------
        X : the same container, shape (n, p) or with columns left out and appended as asked
            Observed cells are bit-identical. Cells of columns that are not modelled, such as free
            text, stay missing.

        Warns
        -----
        UnseenCategoryWarning
            A category is new.
        """
        check_is_fitted(self)
        table, values = self._encoded(X)
        return self._completed(table, self._filled_in(values, self.schema_.missing(table)))

    def _filled_in(self, values: Array, missing: NDArray[np.bool_]) -> Array:
        todo = np.flatnonzero(missing[:, list(self.schema_.modelled)].any(1))
        if self._members is None or not len(todo):
            return values
        filled = values.copy()
        filled[todo], _ = self._members.mean(values[todo], self._guesser, self._seed)
        return filled

    def sample(self, X: Any, n_imputations: int = 5, *, random_state: Seed = None) -> list[Any]:
        """Draw completed tables from p(missing | observed), for multiple imputation.

        The missing cells of a row are drawn together, not one by one, and they are drawn, not
        averaged. The draws are spread over the members. Analyse each table, and combine the
        results with `skvae.pool`.

        Parameters
        ----------
        X : shape (n, p)
        n_imputations : int
        random_state : int, RandomState, Generator or None

        Returns
        -------
        tables : list of n_imputations containers as `transform` returns them
        """
        check_is_fitted(self)
        m = at_least("n_imputations", n_imputations, 1)
        seed = seed_of(random_state)
        table, values = self._encoded(X)
        todo = np.flatnonzero(self.schema_.missing(table)[:, list(self.schema_.modelled)].any(1))
        draws = np.repeat(values[None], m, 0)  # (m, n, D)
        if self._members is not None and len(todo):
            draws[:, todo] = self._members.draws(values[todo], m, self._sampler, seed)
        return [self._completed(table, one) for one in draws]

    def interval(self, X: Any, coverage: float = 0.9) -> tuple[Any, Any]:
        """Return where each missing cell lies with a given probability.

        Parameters
        ----------
        X : shape (n, p)
        coverage : float
            Between 0 and 1.

        Returns
        -------
        lower, upper : containers as X
            The quantiles (1 − coverage) / 2 and (1 + coverage) / 2 of p(cell | observed) for
            numbers, dates and ordered categories. Observed cells are as in X. Other categories
            have no order; their cells are the most probable one in both.
        """
        check_is_fitted(self)
        if not isinstance(coverage, Real) or not 0 < coverage < 1:
            raise ParameterError(
                f"coverage must be a number between 0 and 1; received {coverage!r}."
            )
        cells = self.cell_distribution(X, quantiles=((1 - coverage) / 2, (1 + coverage) / 2))
        table, values = self._encoded(X, quiet=True)
        ends = []
        for i in range(2):
            filled = values.copy()
            filled[cells.row, cells.position] = cells.ends[:, i]
            ends.append(self._completed(table, filled))
        return ends[0], ends[1]

    def cell_distribution(
        self, X: Any, *, quantiles: tuple[float, ...] = (0.05, 0.25, 0.5, 0.75, 0.95)
    ) -> CellDistribution:
        """Return what is known of each missing cell.

        Parameters
        ----------
        X : shape (n, p)
        quantiles : tuple of float
            Between 0 and 1.

        Returns
        -------
        cells : CellDistribution
            Row and column, mean, standard deviation and quantiles of each number, and the
            probabilities of the categories.
        """
        check_is_fitted(self)
        from skvae.estimators._cells import describe

        table, values = self._encoded(X)
        missing = self.schema_.missing(table)[:, list(self.schema_.modelled)]
        return describe(
            self.schema_, self._members, values, missing, quantiles, self._sampler, self._seed
        )

    # -- judge ----------------------------------------------------------------------------

    def score_samples(self, X: Any, *, rate: float = 0.2) -> NDArray[np.float64]:
        """Return how well cells of each row are predicted from the others.

        Some observed cells are hidden, which ones is a function of the row and of the seed of
        `fit`; the value is log p(hidden | the others). With ``mnar`` they are predicted as cells
        that went missing in that way, which they did not: a low score is no evidence against it.

        Parameters
        ----------
        X : shape (n, p)
        rate : float
            Share of the observed cells that are hidden.

        Returns
        -------
        log_score : ndarray of float64, shape (n,)
            In nats per hidden cell, in the units of the data; NaN for a row without hidden cells.
        """
        check_is_fitted(self)
        score, count = self._log_scores(X, rate)
        unknown = np.full(len(score), np.nan)
        return np.asarray(np.divide(score, count, out=unknown, where=count > 0))

    def score(self, X: Any, y: object = None) -> float:
        """Return the mean of log p(hidden | the others), in nats per hidden cell.

        A fifth of the observed cells is hidden, as in `score_samples`: larger is better, which is
        what searches over parameters need.
        """
        check_is_fitted(self)
        score, count = self._log_scores(X, 0.2)
        return float(score.sum() / max(1, count.sum()))

    def _log_scores(self, X: Any, rate: float) -> tuple[Array, NDArray[np.intp]]:
        if not isinstance(rate, Real) or not 0 < rate < 1:
            raise ParameterError(f"rate must be a number between 0 and 1; received {rate!r}.")
        _, values = self._encoded(X)
        if self._members is None:
            return np.zeros(len(values)), np.zeros(len(values), int)
        hidden = self._members.chosen(values, float(rate), self._seed)
        return self._members.log_scores(values, hidden, self._sampler, self._seed)

    def evaluate(
        self,
        X: Any,
        rate: float = 0.2,
        mechanism: Literal["mcar", "mar", "mnar"] = "mcar",
        *,
        random_state: Seed = None,
        compare: tuple[str, ...] = ("mean", "knn", "forest"),
    ) -> ImputationReport:
        """Show how well known cells of X are found when they are hidden.

        A clone of this imputer is trained on what is left, which takes as long as `fit`, and so
        are simpler ways to fill in a table. This imputer stays as it is.

        Parameters
        ----------
        X : shape (n, p)
        rate : float
            Share of the known cells that are hidden. Columns that would be left without two
            values are spared.
        mechanism : {"mcar", "mar", "mnar"}
            Which cells, see `skvae.missing.make_missing`.
        random_state : int, RandomState, Generator or None
        compare : tuple of {"mean", "knn", "forest"}
            Mean and most frequent category, which is always there; five nearest rows; and
            missForest.

        Returns
        -------
        report : ImputationReport
            ``print(report)`` shows it as a table; ``report.helps`` says whether the VAE is better
            than the mean.
        """
        check_is_fitted(self)
        from skvae.estimators._evaluate import evaluate

        table, values = self._encoded(X)
        return evaluate(
            self, table, values, rate, mechanism, tuple(compare), seed_of(random_state)
        )

    def reliability(self, X: Any) -> dict[str, NDArray[np.float64]]:
        """Return how far the draws for each row can be trusted.

        Parameters
        ----------
        X : shape (n, p)

        Returns
        -------
        figures : dict
            Of each row, the worst of all members: ``"effective_sample_size"``; ``"pareto_k"``,
            above 0.7 if importance weights may mislead [1]_, NaN for chains; and for these
            ``"acceptance"``, the share of accepted proposals, and ``"r_hat"``, above 1.1 if the
            chains do not agree [2]_.

        Warns
        -----
        UnreliableEstimateWarning
            Pareto-k̂ is above 0.7, or R̂ above 1.1, in more than a fifth of the rows.

        References
        ----------
        .. [1] Vehtari et al., "Pareto Smoothed Importance Sampling", 2024, arXiv:1507.02646
        .. [2] Gelman et al., "Bayesian Data Analysis", third edition, 2013, section 11.4
        """
        check_is_fitted(self)
        _, values = self._encoded(X)
        if self._members is None:
            n = len(values)
            return {"effective_sample_size": np.full(n, np.inf), "pareto_k": np.full(n, -np.inf)}
        figures = self._members.reliability(values, self._sampler, self._seed)
        for name, symbol, limit in (("pareto_k", "Pareto-k̂", 0.7), ("r_hat", "R̂", 1.1)):
            share = float(np.mean(figures.get(name, np.zeros(1)) > limit))
            if share > 0.2:
                warnings.warn(
                    f"{symbol} is above {limit} in {share:.0%} of the rows: their draws may "
                    "mislead. Raise n_samples and max_samples, or train longer.",
                    UnreliableEstimateWarning,
                    stacklevel=2,
                )
        return figures

    def sensitivity(
        self,
        X: Any,
        deltas: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0),
        columns: Sequence[Any] | None = None,
        statistic: Callable[[Any], float] | None = None,
    ) -> Sensitivity:
        """Return what would change if missing numbers were larger or smaller than imputed.

        The table is filled in as by `transform`; then the imputed cells of one column after the
        other are shifted by δ standard deviations of its observed cells [1]_. A conclusion that
        holds for every δ that could be true does not depend on why cells are missing.

        Parameters
        ----------
        X : shape (n, p)
        deltas : sequence of float
        columns : sequence of names (numbers, for arrays) or None
            Columns of numbers; None is each one with holes in X.
        statistic : callable or None
            From a completed table to a number; None is the mean of the column that is shifted.

        Returns
        -------
        report : Sensitivity
            It prints as a table.

        Raises
        ------
        ParameterError
            A δ is no finite number, or a column is not one of numbers.

        References
        ----------
        .. [1] van Buuren, "Flexible Imputation of Missing Data", 2018, section 3.9, after Rubin,
           "Formalizing Subjective Notions about the Effect of Nonrespondents in Sample Surveys",
           1977
        """
        check_is_fitted(self)
        from skvae.estimators._sensitivity import shifted

        table, values = self._encoded(X)
        filled = self._filled_in(values, self.schema_.missing(table))
        return shifted(
            self.schema_,
            table,
            values,
            filled,
            deltas,
            columns,
            statistic,
            lambda values: self._completed(table, values),
        )

    @property
    def _sampler(self) -> Sampler:
        """The method, with the numbers of draws."""
        from skvae.chains import Chains
        from skvae.conditional import Accuracy, Importance

        n = int(self.n_samples)
        accuracy = Accuracy(n, float(self.effective_samples), max(n, int(self.max_samples)))
        samplers: dict[str, Sampler] = {
            "auto": Importance(accuracy),
            "importance": Importance(accuracy, fall_back=False),
            "gibbs": Chains(accuracy, metropolis=False),
            "metropolis": Chains(accuracy),
        }
        return samplers[self.method]

    @property
    def _guesser(self) -> Sampler:
        """What samples for means alone."""
        from skvae.conditional import Importance

        sampler = self._sampler
        return sampler.for_means() if isinstance(sampler, Importance) else sampler

    # -- keep -----------------------------------------------------------------------------

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[Any]:
        """Return the names of the columns that `transform` returns.

        Parameters
        ----------
        input_features : array of str or None
            Names for columns that have none.

        Returns
        -------
        names : ndarray of str
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        indicators = [f"missingindicator_{names[j]}" for j in self._indicated]
        return np.array([*names[self._kept], *indicators], dtype=object)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write schema and models as one safe file; `skvae.load` reads it back.

        Parameters
        ----------
        path : path
            Usually ``*.safetensors``.
        overwrite : bool
            Replace an existing file (atomically).

        Raises
        ------
        FileExistsError
            The file exists and ``overwrite`` is False.
        OSError
            It could not be written; an older file is intact.
        """
        from skvae import serialization
        from skvae.estimators._keep_table import described

        check_is_fitted(self)
        manifest, tensors = described(self)
        serialization.write(path, manifest, tensors, overwrite=overwrite)

    @classmethod
    def _from_manifest(
        cls, manifest: dict[str, Any], tensors: dict[str, torch.Tensor], network: Network | None
    ) -> Self:
        from skvae.estimators._keep_table import params_of, restored

        self = cls(**params_of(manifest))
        self._validate_params()
        restored(self, manifest, tensors, network)
        if network is not None:
            self.network = network
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
