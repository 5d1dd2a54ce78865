"""The VAE estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import check_array, check_is_fitted

from skvae import files
from skvae.estimators._base import (
    Array,
    Rows,
    Seed,
    at_least,
    joined,
    seed_of,
)
from skvae.estimators._containers import to_numpy, widened
from skvae.estimators._walks import Walks
from skvae.exceptions import DataError, ParameterError, TrainingDivergedError
from skvae.spec import Spec

if TYPE_CHECKING:
    from skvae.callbacks import History
    from skvae.distributed import World
    from skvae.estimators._core import FirstLabels, Kind
    from skvae.estimators._fit_rows import FitRows
    from skvae.objectives import Objective

__all__ = ["VAE"]

N_GIVEN = 1024  # importance samples for a row of which cells are given


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Walks):  # type: ignore[misc]
    """Variational autoencoder [1]_: generate, look, fill in, and score.

    An encoder gives a Gaussian q(z | x) for each row, a decoder gives p(x | z), and both are
    trained together on the evidence lower bound on log p(x).

    Parameters
    ----------
    n_components : int, default=10
        Number of latent dimensions.
    likelihood : str or spec, default="auto"
        p(x | z): ``"bernoulli"`` (also ``"bce"``) for values in [0, 1], ``"gaussian"`` with a
        learned standard deviation for each feature, ``"mse"`` for a Gaussian of unit variance,
        ``"student_t"``, ``"poisson"``, ``"negative_binomial"`` and others (see
        `skvae.likelihoods`), or a spec such as ``likelihoods.Gaussian(scale="per_cell")``.
        ``"auto"`` takes Bernoulli where all values are 0 or 1 and Gaussian otherwise; see the
        attribute ``likelihood_``. For sequences it is that of one step, and ``"auto"`` is
        categorical for text and other codes.
    posterior : str or spec, default="diagonal"
        Approximate posterior q(z | x): ``"diagonal"``, ``"full_covariance"``, ``"mixture"``,
        ``"flow"``, ``"von_mises_fisher"`` for z on a sphere, ``"categorical"`` and
        ``"vector_quantized"`` for discrete z, ``"deterministic"`` (an autoencoder), or a spec
        such as ``posteriors.Flow(kind="spline")``.
    prior : str or spec, default="auto"
        Prior p(z): ``"standard"`` (which ``"auto"`` means for real z), ``"gaussian_mixture"``,
        ``"vamp"``, ``"flow"``; ``"sphere"`` on a sphere, ``"categorical"`` or
        ``"autoregressive"`` for discrete z; or a spec such as ``priors.Vamp(n_components=100)``.
        See also `fit_prior`.
    network : str or spec, default="auto"
        Bodies of encoder and decoder: ``"mlp"`` with ``hidden_layer_sizes``, ``"conv"`` for
        images, signals and volumes of any size, or a spec such as
        ``networks.MLP((500, 500), activation="relu")`` or ``networks.Conv(channels=64)``, for
        which ``hidden_layer_sizes`` is ignored. ``"auto"`` is ``"conv"`` for events
        ``(c, height, width)`` or ``(c, depth, height, width)`` with sides of at least 8, unless
        ``hidden_layer_sizes`` is set. Sequences are read by ``"rnn"``, which ``"auto"`` means for
        them, or ``"tcn"``.
        ``networks.Custom(encoder=..., decoder=...)`` takes any torch modules.
    model : str or spec, default="vae"
        How the parts are wired: ``"vae"`` has one latent vector; ``"ladder"`` and
        ``"hierarchical"`` have several, each given the one above, with ``n_components`` in the
        one next to the data, which comes first in z. With ``network="conv"``, the levels of
        ``"ladder"`` are stacks of ``n_components`` maps. See `skvae.models`.
    hidden_layer_sizes : tuple of int, default=(256, 256)
        Widths of the encoder's hidden layers, mirrored in the decoder; ``()`` is a linear model.
    objective : str or spec, default="elbo"
        What is maximised: ``"elbo"``, ``"iwae"``, ``"capacity"``, ``"reconstruction"``, for maps
        ``"elbo+layout"`` and ``"elbo+neighbors"``, or a spec such as
        ``objectives.ELBO(beta=4.0)`` or ``objectives.IWAE(n_samples=5)``, to which penalties can
        be added: ``ELBO() + objectives.TotalCorrelation(5.0)``.
    binarize : {None, "threshold", "stochastic"}, default=None
        For data in [0, 1] under a Bernoulli likelihood. ``"threshold"`` compares with 0.5.
        ``"stochastic"`` draws the training targets afresh in every epoch and the rows that are
        scored once, with noise fixed by their content: the literature's "dynamic" protocol.
    augment : str, spec, tuple of these or None, default=None
        How training images are changed at random in every epoch: ``"shift"``, ``"crop"``,
        ``"flip"``, or specs such as ``augmentation.Shift(pixels=1)``, one after the other. Rows
        that are held out or scored stay as they are.
    event_shape : tuple of int or None, default=None
        Shape of one row where rows come flat, for example ``(1, 28, 28)``. Arrays of more than
        two dimensions bring their own. ``(T, F)`` for sequences of F numbers per step lets later
        ones have up to T steps; by default, the longest of `fit` is the limit.
    channels_last : bool, default=False
        Whether rows (and ``event_shape``) are (h, w, c) instead of (c, h, w), or (length, c), or
        volumes with the channels last. What comes back is like that, too.
    max_epochs : int or "auto", default="auto"
        Passes over the training rows; ``"auto"`` gives about 6,000 updates (20 to 2,000 passes).
    batch_size : int or "auto", default="auto"
        Rows per update; ``"auto"`` is 16 to 256 depending on the number of rows.
    learning_rate : float, default=0.002
        Peak learning rate of Adam. It rises over the first updates and then falls to zero along
        half a cosine.
    early_stopping : bool or "auto", default="auto"
        Hold out rows, stop when their ELBO no longer rises, and restore the best weights.
        ``"auto"`` does so where at least 10 rows can be held out.
    validation_fraction : float, default=0.1
        Share of rows that are held out.
    n_iter_no_change : int, default=10
        Epochs without improvement after which training stops.
    tol : float, default=1e-4
        Improvement in nats per row that counts.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the network bodies during training. ``"auto"`` is bfloat16 where that was
        measured to be faster and no worse: on hardware that multiplies it natively, with a
        Bernoulli likelihood and at least 200,000 weights (600,000 with ``"conv"``). Densities and
        weights are always float32, and inference follows the dtype of X (float64 rows are
        computed in float64).
    device : str, default="auto"
        ``"cpu"``, ``"cuda"``, ``"mps"``, ...
    checkpoint : str or None, default=None
        Directory for the state of the fit, written every 30 seconds. A fit that was ended from
        outside goes on from there when it is started again with the same data and parameters, and
        ends with the same weights, bit for bit. A completed fit removes it.
    warm_start : bool, default=False
        Go on from the last fit's weights instead of starting afresh.
    random_state : int, RandomState, Generator or None, default=None
        An int makes fit and scores reproducible to the last bit on one machine. Global random
        generators are never touched.
    verbose : int, default=0
        1 shows progress on standard error.

    Attributes
    ----------
    n_features_in_ : int
        Number of features D of one row; of one step, for sequences of different lengths.
    feature_names_in_ : ndarray of str, shape (n_features_in_,)
        Column names, where X had them.
    event_shape_ : tuple of int
        Shape of one row as the network sees it, channels first.
    likelihood_ : spec
        The likelihood, also where it was chosen by ``"auto"``.
    history_ : History
        Epoch by epoch: ``history_["train_elbo"]``, ``history_["valid_elbo"]``, ...
    n_iter_ : int
        Number of epochs trained.

    References
    ----------
    .. [1] Kingma and Welling, "Auto-Encoding Variational Bayes", 2014, arXiv:1312.6114

    Examples
    --------
    >>> from skvae import VAE
    >>> from skvae.datasets import load_digits
    >>> X = load_digits().X_train / 16
    >>> vae = VAE(n_components=2, likelihood="bernoulli", max_epochs=5, random_state=0).fit(X)
    >>> vae.transform(X).shape
    (1437, 2)
    >>> vae.sample(3, random_state=1).shape
    (3, 64)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "likelihood": [str, Spec],
        "posterior": [str, Spec],
        "prior": [str, Spec],
        "network": [str, Spec],
        "model": [str, Spec],
        "hidden_layer_sizes": [tuple, list],
        "objective": [str, Spec],
        "binarize": [StrOptions({"threshold", "stochastic"}), None],
        "augment": [str, tuple, list, Spec, None],
        "event_shape": [tuple, list, None],
        "channels_last": ["boolean"],
        "max_epochs": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "early_stopping": [Options(bool, {True, False}), StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "device": [str],
        "checkpoint": [str, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state", np.random.Generator],
        "verbose": ["verbose"],
    }

    history_: History

    def __init__(
        self,
        n_components: int = 10,
        *,
        likelihood: str | Spec = "auto",
        posterior: str | Spec = "diagonal",
        prior: str | Spec = "auto",
        network: str | Spec = "auto",
        model: str | Spec = "vae",
        hidden_layer_sizes: tuple[int, ...] = (256, 256),
        objective: str | Spec = "elbo",
        binarize: Literal["threshold", "stochastic"] | None = None,
        augment: Sequence[str | Spec] | tuple[str, ...] | Spec | None = None,
        event_shape: tuple[int, ...] | None = None,
        channels_last: bool = False,
        max_epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.002,
        early_stopping: bool | Literal["auto"] = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        precision: Literal["float32", "bfloat16", "auto"] = "auto",
        device: str = "auto",
        checkpoint: str | None = None,
        warm_start: bool = False,
        random_state: Seed = None,
        verbose: int = 0,
    ) -> None:
        self.n_components = n_components
        self.likelihood = likelihood
        self.posterior = posterior
        self.prior = prior
        self.network = network
        self.model = model
        self.hidden_layer_sizes = hidden_layer_sizes
        self.objective = objective
        self.binarize = binarize
        self.augment = augment
        self.event_shape = event_shape
        self.channels_last = channels_last
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.precision = precision
        self.device = device
        self.checkpoint = checkpoint
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    # -- fit ------------------------------------------------------------------------------

    def fit(self, X: Rows, y: object = None) -> Self:
        """Train on X.

        Parameters
        ----------
        X : array, DataFrame, tensor, path or files.Table; shape (n, D) or (n, *event)
            NaN is a missing cell, which counts nowhere; rows that are streamed, and sequences,
            must be complete. A frame may have columns of categories and dates, too (see
            `skvae.schema`); each column then has a likelihood of its own. Arrays of bytes and
            other small types stay so in memory. A path is read by `skvae.files.read`, but streamed
            with bounded memory where it is a directory, a Parquet file or a ``.npy`` file above
            512 MiB; so is a `skvae.streams.Rows`. At most 10,000 rows of a stream are held out. A
            list of strings, or a list of arrays (L, F) or
            (L,) or of lists of codes that differ in their lengths, is a set of sequences; so is
            any list with ``network="rnn"`` or ``"tcn"``. Files of these are ``.txt`` and
            ``.jsonl``, with one sequence on each line.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        DataError
            X has infinity or values that the likelihood does not allow, or NaN where rows must be
            complete.
        ParameterError, InvalidParameterError
            A parameter has a value that makes no sense.
        TrainingDivergedError
            Loss or gradients stayed non-finite; the estimator keeps the last good weights.
        DistributedError
            Of several processes that train one model, another one is lost.
        """
        from skvae.distributed import joined

        with self._all_or_nothing(TrainingDivergedError), joined() as world:
            going_on = self.warm_start and hasattr(self, "_core")
            rows = self._rows_to_fit(X, reset=not going_on, world=world)
            if not going_on:
                self._start(rows)
            self._train(rows, world)
        return self

    def partial_fit(self, X: Rows, y: object = None) -> Self:
        """Make one pass over X at a constant learning rate; never starts afresh.

        The first call fixes the scaling of the data and, for ``likelihood="auto"``, the
        likelihood, so its rows should be typical.

        Parameters
        ----------
        X : array, DataFrame or tensor; shape (n, D) or (n, *event)
        y : ignored

        Returns
        -------
        self
        """
        from skvae.distributed import joined

        with self._all_or_nothing(TrainingDivergedError), joined() as world:
            first = not hasattr(self, "_core")
            rows = self._rows_to_fit(X, reset=first, world=world)
            if first:
                self._start(rows)
            self._train(rows, world, one_pass=True)
        return self

    def fit_prior(
        self, X: Rows, prior: str | Spec = "gaussian_mixture", *, n_steps: int = 3000
    ) -> Self:
        """Fit a prior to where the posteriors of X lie, after training; encoder and decoder stay.

        Samples from N(0, I) fall into places that no row's posterior covers. A prior fitted to
        the aggregate posterior makes better samples, and can only raise the bound on the data
        that it was fitted to.

        Parameters
        ----------
        X : rows as for `fit`
        prior : str or spec
            ``"gaussian_mixture"``, ``"vamp"``, ``"flow"``, for discrete z ``"autoregressive"``,
            or a spec.
        n_steps : int
            Number of updates.

        Returns
        -------
        self
        """
        from skvae.priors import Prior

        check_is_fitted(self)
        steps = at_least("n_steps", n_steps, 1)
        rows = self._rows_to_fit(X)
        self._core.fit_prior(rows, Prior.resolve(prior, argument="prior"), steps)
        return self

    def _begin(self) -> None:
        """Forget what an earlier fit has left."""
        from skvae.callbacks import History

        self.history_ = History()

    def _start(self, rows: FitRows) -> None:
        from skvae.estimators._choices import choose_network, pick_device
        from skvae.estimators._core import Core
        from skvae.posteriors import Posterior

        self._begin()
        self.likelihood_ = self._chosen_likelihood(rows)
        self._core = Core.create(
            rows,
            event_shape=self.event_shape_,
            n_components=int(self.n_components),
            likelihood=self.likelihood_,
            posterior=Posterior.resolve(self.posterior, argument="posterior"),
            prior=self.prior,
            network=choose_network(
                self._body,
                self.hidden_layer_sizes,
                self.event_shape_,
                self.likelihood_,
                of_cells=rows.holes or self._schema is not None,
            ),
            model=self._wiring(),
            binarize=self.binarize,
            device=pick_device(self.device),
        )

    def _train(
        self,
        rows: FitRows,
        world: World,
        *,
        one_pass: bool = False,
        objective: Objective | None = None,
        stage: str = "",
        **how: Any,
    ) -> None:
        """Train as the parameters say, or for another objective; ``how`` is for `Core.train`.

        A fit of several stages names them: each has checkpoints of its own.
        """
        from skvae.callbacks import EarlyStopping, Progress, Watcher
        from skvae.estimators._choices import pick_precision
        from skvae.training import Plan, auto_batch_size, auto_epochs

        train, valid = (rows, None) if one_pass else self._hold_out(rows)
        batch_size = auto_batch_size(len(train)) if self.batch_size == "auto" else self.batch_size
        epochs = (
            auto_epochs(len(train), batch_size) if self.max_epochs == "auto" else self.max_epochs
        )
        plan = Plan(
            max_epochs=1 if one_pass else int(epochs),
            batch_size=int(batch_size),
            learning_rate=float(self.learning_rate),
            seed=self._core.seed,
            schedule=not one_pass,
            dtype=pick_precision(self.precision, self._core.device, self._core.module),
        )
        objective = objective or self._bound()
        watchers: list[Watcher] = [self.history_]
        if valid is not None:
            watch = f"valid_{objective.watch}"
            watchers.append(EarlyStopping(int(self.n_iter_no_change), float(self.tol), watch))
        if self.verbose and world.is_main:
            watchers.append(Progress(plan.max_epochs, type(self).__name__))
        place = None if one_pass or self.checkpoint is None else Path(self.checkpoint, stage)
        try:
            self._core.train(
                train,
                valid,
                objective,
                plan,
                watchers,
                epochs_done=len(self.history_),
                checkpoint=place,
                world=world,
                guide=self._guide(train),
                first=self._first(train, plan.max_epochs),
                **({"augment": self.augment} | how),
            )
        finally:
            self.n_iter_ = max(1, len(self.history_))
        # Equal rows need no code.
        if not one_pass and objective.of_rows and world.is_main and train.varied:
            self._warn_of_collapse()

    @property
    def _body(self) -> str | Spec:
        """The network of encoder and decoder."""
        return self.network

    def _wiring(self) -> str | Spec:
        """What is built."""
        return self.model

    def _bound(self) -> Objective:
        """What is maximised."""
        from skvae.objectives import Objective

        return Objective.resolve(self.objective, argument="objective")

    def _guide(self, rows: FitRows) -> FitRows | None:
        """Rows of known class, where there are classes."""
        return None

    def _first(self, rows: FitRows, n_epochs: int) -> FirstLabels | None:
        """Guesses of classes that training begins with, where there are any."""
        return None

    # -- look -----------------------------------------------------------------------------

    def transform(self, X: Rows) -> Array:
        """Return the posterior means E[z | x]; deterministic.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
            Files that may be larger than memory are read a block at a time; Z must fit.

        Returns
        -------
        Z : ndarray, shape (n, n_components), or as wide as all levels of z together
            For discrete latent variables, shape (n, n_components · n_categories): the
            probabilities of the categories of each, side by side.
        """
        check_is_fitted(self)
        return self._means(X)

    def _means(self, X: Rows) -> Array:
        """Return what `transform` does, whatever container that is to give."""
        d = self._n_features_out
        return joined(
            [self._core.posterior_mean(rows)[:, :d] for rows in self._validated_blocks(X)]
        )

    def inverse_transform(self, Z: ArrayLike) -> Any:
        """Return E[x | z] in data units, in the kind of container that `fit` saw.

        Parameters
        ----------
        Z : as `transform` returns it

        Returns
        -------
        X : shape (n, D) or (n, *event)
        """
        check_is_fitted(self)
        values = check_array(widened(to_numpy(Z)), dtype=[np.float64, np.float32], input_name="Z")
        d = self._core.spec.latent.width
        if values.shape[1] != d:
            raise DataError(f"Z has {values.shape[1]} columns, but z of this model has {d}.")
        return self._contained(self._core.decode(values))

    # -- generate -------------------------------------------------------------------------

    def sample(
        self,
        n_samples: int = 1,
        *,
        given: Any = None,
        kind: Kind = "draw",
        temperature: float = 1.0,
        random_state: Seed = None,
    ) -> Any:
        """Draw new rows from the model, of all kinds or with some cells given.

        Parameters
        ----------
        n_samples : int
        given : one row with holes, a mapping from names of columns to values, or None
            Cells that all rows have; NaN (in sequences None) and names left out are drawn from
            p(missing | observed), as `impute` does.
        kind : {"draw", "mean"}
            ``"draw"``: z from the prior, then x from p(x | z), a true sample of the model.
            ``"mean"``: E[x | z] at such z, which is what pictures usually show.
        temperature : float
            Multiplies the Gaussian noise that z is made of [1]_: below 1, samples are more typical
            and less diverse. 1 is the model.
        random_state : int, RandomState, Generator or None

        Returns
        -------
        X : shape (n_samples, D) or (n_samples, *event), in the container that `fit` saw

        References
        ----------
        .. [1] Kingma and Dhariwal, "Glow", 2018, arXiv:1807.03039
        """
        check_is_fitted(self)
        return self._sampled(n_samples, given, kind, temperature, random_state)

    def _sampled(
        self,
        n_samples: int,
        given: Any,
        kind: Kind,
        temperature: float,
        random_state: Seed,
        **label: Any,
    ) -> Any:
        """Draw rows, as `sample` says; a label is for `Core.sample`."""
        n, kind = at_least("n_samples", n_samples, 0), _kind(kind)
        warmth, seed = _temperature(temperature), seed_of(random_state)
        if given is None:
            dtype = np.dtype(self._dtype)
            rows = self._core.sample(
                n, seed=seed, kind=kind, dtype=dtype, temperature=warmth, **label
            )
            return self._contained(rows)
        if warmth != 1 or any(value is not None for value in label.values()):
            raise ParameterError(
                "given does not go with temperature or y: z follows from the cells that are given."
            )
        row = self._validated(self._as_one(given, "given"), allow_nan=True)
        draws = self._core.impute(row, max(1, n), n_samples=N_GIVEN, seed=seed, kind=kind)
        return self._contained(draws[:n, 0])

    # -- fill in --------------------------------------------------------------------------

    def impute(
        self,
        X: Rows,
        *,
        n_draws: int | None = None,
        kind: Kind = "draw",
        n_samples: int = 256,
        random_state: Seed = None,
    ) -> Any:
        """Fill in missing cells (NaN) given the observed ones.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
            NaN marks what is missing; in lists of codes, or of the characters of a text, None.
        n_draws : int or None
            None returns the conditional mean E[x_missing | x_observed], by self-normalised
            importance weights; deterministic. A number returns that many draws from
            p(x_missing | x_observed), independent between rows.
        kind : {"draw", "mean"}
            For draws: x from p(x | z), or E[x | z] at the drawn z.
        n_samples : int
            Importance samples per row.
        random_state : int, RandomState, Generator or None
            For draws.

        Returns
        -------
        X : same shape and container as X
            Observed cells are bit-identical. With ``n_draws``, arrays get a leading axis of that
            length, and for DataFrames a list is returned.
        """
        check_is_fitted(self)
        if n_draws is not None:
            n_draws = at_least("n_draws", n_draws, 1)
        n_samples = at_least("n_samples", n_samples, 1)
        seed = self._core.seed if n_draws is None else seed_of(random_state)
        rows: Any = files.in_memory(X)
        values = self._validated(rows, allow_nan=True)
        filled = self._outward(
            self._core.impute(values, n_draws, n_samples=n_samples, seed=seed, kind=_kind(kind))
        )
        return self._completed(rows, values, filled)

    @property
    def _n_features_out(self) -> int:
        return self._core.spec.latent.width

    def _needs_positive_data(self) -> bool:
        if self.likelihood == "auto":
            return False
        from skvae.likelihoods import Likelihood

        try:
            return Likelihood.resolve(self.likelihood).support.low >= 0
        except ParameterError:  # `fit` says so
            return False

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "density_estimator"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        tags.input_tags.positive_only = self._needs_positive_data()
        return tags


def _temperature(value: object) -> float:
    number = float(value) if isinstance(value, Real) else np.nan
    if not 0 <= number < np.inf:
        raise ParameterError(f"temperature must be a number >= 0; received {value!r}.")
    return number


def _kind(kind: Kind) -> Kind:
    if kind not in ("draw", "mean"):
        raise ParameterError(f"kind must be 'draw' or 'mean'; received {kind!r}.")
    return kind
