"""The semi-supervised classifier."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from skvae.estimators._auto import RECIPES, recipe_of
from skvae.estimators._base import Array, Rows, Seed, joined
from skvae.estimators._containers import to_numpy, widened
from skvae.estimators._labels import UNKNOWN, class_number, encode_labels
from skvae.estimators._spreading import Spreading
from skvae.estimators.vae import VAE
from skvae.exceptions import DataError, ModelFileError, ParameterError, TrainingDivergedError
from skvae.spec import Spec

if TYPE_CHECKING:
    import torch

    from skvae.estimators._core import FirstLabels, Kind
    from skvae.estimators._fit_rows import FitRows, LabelledRows
    from skvae.models import GenerativeModel
    from skvae.networks import Network
    from skvae.objectives import Objective

__all__ = ["VAEClassifier"]

Model = Literal["auto", "m1", "m2", "m1+m2", "adgm", "sdgm", "ladder", "mixture"] | Spec


class VAEClassifier(ClassifierMixin, VAE):  # type: ignore[misc]
    """Variational autoencoder that learns classes from few labels and many rows without one [1]_.

    A row has a class y beside its latent vector, p(y) p(z) p(x | y, z), with q(y | x) as the
    classifier. Rows without a label are explained by all classes, each as far as q(y | x) holds
    it possible; this sum is exact.

    Parameters
    ----------
    n_components : int, default=50
        Number of latent dimensions beside the class.
    model : {"auto", "m1", "m2", "m1+m2", "adgm", "sdgm", "ladder", "mixture"} or spec, \
default="auto"
        How rows and classes hang together:

        - ``"auto"``: what works best by default; ``choice_`` says what that is.
        - ``"m1"``: a VAE of all rows, and ``classifier`` on its posterior means [1]_.
        - ``"m2"``: p(y) p(z) p(x | y, z) [1]_.
        - ``"m1+m2"``: M2 of the latent vectors of a VAE of all rows [1]_.
        - ``"adgm"``, ``"sdgm"``: M2 with an auxiliary variable, and with that in the decoder [4]_.
        - ``"ladder"``: M2 with the several latent vectors of a ladder [2]_.
        - ``"mixture"``: each class is a Gaussian of the latent vector, which is all that x is made
          of (`models.ClassMixture`).
    alpha : float, default=0.1
        Weight of the mean of −log q(y | x) over the labelled rows, beside the mean of the bound
        over all. The paper's α, which is multiplied by the number of rows there.
    pseudo_labels : float, default=0
        Share of the rows, from 0 to 1, whose class is first taken to be what labels make of it
        that spread along a graph of nearest neighbours among the posterior means of a VAE of all
        rows [3]_: the surest ones, for half of the epochs. 0 is the papers' own way.
    class_prior : {"labelled", "uniform", "learned"} or array of shape (n_classes,)
        p(y): as often as in the labelled rows, where one more of each is counted; all alike;
        learned from all rows; or given, in the order of ``classes_``.
    base : VAE or None, default=None
        The VAE of ``"auto"``, ``"m1"``, ``"m1+m2"`` and ``pseudo_labels``. One that is fitted is
        used as it is; another one is cloned and fitted to all rows; None is one with this
        estimator's parameters.
    classifier : classifier of scikit-learn, or None
        Of the posterior means in ``"m1"``, fitted to the labelled rows, and if it is one of its
        semi-supervised ones to all. None lets labels spread along a graph of nearest neighbours.
    likelihood, posterior, prior, network, hidden_layer_sizes, objective, binarize, augment, \
event_shape, channels_last, max_epochs, batch_size, learning_rate, validation_fraction, \
n_iter_no_change, tol, precision, device, checkpoint, random_state, verbose
        As in `VAE`.
    early_stopping : bool or "auto", default=False
        As in `VAE`: by the bound, which says little of q(y | x). Labelled rows are held out only
        where there are at least 50 of each class.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels, sorted, without the one for unknown.
    choice_ : str
        What ``"auto"`` chose.
    base_ : VAE
        The VAE of ``base``, where there is one, after `fit`.
    classifier_ : classifier
        That of ``"m1"`` where one was given.
    n_features_in_, feature_names_in_, event_shape_, likelihood_, history_, n_iter_
        As in `VAE`.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298
    .. [2] Sønderby et al., "Ladder Variational Autoencoders", 2016, arXiv:1602.02282
    .. [3] Zhou et al., "Learning with Local and Global Consistency", 2003
    .. [4] Maaløe et al., "Auxiliary Deep Generative Models", 2016, arXiv:1602.05473

    Examples
    --------
    >>> import numpy as np
    >>> from skvae import VAEClassifier
    >>> from skvae.datasets import load_digits
    >>> digits = load_digits()
    >>> y = np.where(np.arange(len(digits.y_train)) < 100, digits.y_train, -1)
    >>> clf = VAEClassifier(likelihood="bernoulli", max_epochs=3, random_state=0)
    >>> clf = clf.fit(digits.X_train / 16, y)
    >>> clf.predict_proba(digits.X_test / 16).shape
    (360, 10)
    >>> clf.sample(5, y=3, random_state=0).shape
    (5, 64)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **{k: v for k, v in VAE._parameter_constraints.items() if k != "warm_start"},
        "model": [StrOptions(set(RECIPES)), Spec],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "pseudo_labels": [Interval(Real, 0, 1, closed="both")],
        "class_prior": [StrOptions({"labelled", "uniform", "learned"}), "array-like"],
        "base": [VAE, None],
        "classifier": [HasMethods(["fit", "predict_proba"]), None],
    }

    _unkept = (*VAE._unkept, "base", "classifier")

    classes_: NDArray[Any]
    base_: VAE
    classifier_: Any
    _spreading: Spreading | None = None
    _judge_body: Network | None = None  # that "auto" has chosen

    def __init__(
        self,
        n_components: int = 50,
        *,
        model: Model = "auto",
        alpha: float = 0.1,
        pseudo_labels: float = 0.0,
        class_prior: Literal["labelled", "uniform", "learned"] | ArrayLike = "labelled",
        base: VAE | None = None,
        classifier: Any = None,
        likelihood: str | Spec = "auto",
        posterior: str | Spec = "diagonal",
        prior: str | Spec = "auto",
        network: str | Spec = "auto",
        hidden_layer_sizes: tuple[int, ...] = (256, 256),
        objective: str | Spec = "elbo",
        binarize: Literal["threshold", "stochastic"] | None = None,
        augment: Sequence[str | Spec] | tuple[str, ...] | Spec | None = None,
        event_shape: tuple[int, ...] | None = None,
        channels_last: bool = False,
        max_epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: float = 0.002,
        early_stopping: bool | Literal["auto"] = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        precision: Literal["float32", "bfloat16", "auto"] = "auto",
        device: str = "auto",
        checkpoint: str | None = None,
        random_state: Seed = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            n_components,
            likelihood=likelihood,
            posterior=posterior,
            prior=prior,
            network=network,
            model=model,
            hidden_layer_sizes=hidden_layer_sizes,
            objective=objective,
            binarize=binarize,
            augment=augment,
            event_shape=event_shape,
            channels_last=channels_last,
            max_epochs=max_epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            precision=precision,
            device=device,
            checkpoint=checkpoint,
            random_state=random_state,
            verbose=verbose,
        )
        self.alpha = alpha
        self.pseudo_labels = pseudo_labels
        self.class_prior = class_prior
        self.base = base
        self.classifier = classifier

    # -- fit ------------------------------------------------------------------------------

    def fit(self, X: Rows, y: Any = None) -> Self:
        """Train on rows with and without labels.

        Parameters
        ----------
        X : as in `VAE.fit`, but rows that fit into memory
        y : array, shape (n,)
            Labels of any type; −1, NaN and None for unknown ones, and of unsigned types the
            largest value, which is what NumPy makes of −1. Where there is but one other value, −1
            is a class.

        Returns
        -------
        self

        Raises
        ------
        DataError
            As from `VAE.fit`; X is streamed from files; y has less than two classes.
        ParameterError, InvalidParameterError
            A parameter has a value that makes no sense.
        TrainingDivergedError
            Loss or gradients stayed non-finite; the estimator keeps the last good weights.
        """
        from skvae.distributed import joined as together
        from skvae.estimators._fit_rows import in_memory

        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is None."
            )
        with self._all_or_nothing(TrainingDivergedError), together() as world:
            for name in ("base_", "choice_", "classifier_"):  # of another model, before
                self.__dict__.pop(name, None)
            rows = self._rows_to_fit(X, reset=True, world=world)
            rows = in_memory(rows, name)
            self.classes_, codes = encode_labels(y, name)
            check_consistent_length(rows, codes)
            rows = rows.labelled(codes)
            self._class_counts = np.bincount(codes[codes != UNKNOWN], minlength=1)
            recipe_of(self.model).fit(self, rows, world)
        return self

    @property
    def partial_fit(self) -> NoReturn:
        """Not there: the classes must be known."""
        raise AttributeError(f"{type(self).__name__} has no partial_fit.")

    def _wiring(self) -> GenerativeModel:
        from skvae import models

        given = self.class_prior
        n = len(self.classes_)
        prior: Any
        if isinstance(given, str):
            counts = self._class_counts + 1
            named: dict[str, Any] = {
                "uniform": (),
                "learned": "learned",
                "labelled": tuple((counts / counts.sum()).tolist()),
            }
            prior = named[given]
        else:
            prior = tuple(np.asarray(given, dtype=float).ravel().tolist())
        own: dict[str, Any] = {"n_classes": n, "class_prior": prior}
        if isinstance(self.model, models.GenerativeModel):
            return self.model.replace(**own)
        if self.model == "m1+m2":
            return models.M1M2(n_components=int(self.n_components), **own)
        if self.model == "auto":
            return models.M2(judge=self._judge_body, **own)
        wirings: dict[Any, Any] = {
            "m2": models.M2,
            "adgm": models.ADGM,
            "sdgm": models.SDGM,
            "ladder": models.LadderM2,
            "mixture": models.ClassMixture,
        }
        wiring: GenerativeModel = wirings[self.model](**own)
        return wiring

    def _bound(self) -> Objective:
        from skvae.objectives import Supervised

        return super()._bound() + Supervised(float(self.alpha))

    @property
    def _body(self) -> str | Spec:
        # Each of many classes has to be decoded, and a convolutional q(y | x) is enough.
        of_images = (self.model, self.network) == ("auto", "auto") and len(self.event_shape_) > 2
        return "mlp" if of_images else self.network

    def _first(self, rows: FitRows, n_epochs: int) -> FirstLabels | None:
        own: LabelledRows = rows  # type: ignore[assignment]
        if own.guess is None or n_epochs < 2:
            return None
        guessed = own.labelled(own.guess)
        return guessed, self._guide(guessed), n_epochs // 2

    def _guide(self, rows: FitRows) -> FitRows | None:
        own: LabelledRows = rows  # type: ignore[assignment]
        assert own.y is not None
        known = np.flatnonzero(own.y != UNKNOWN)
        # Where all are labelled, each batch is its own guide.
        return own.subset(known) if 0 < len(known) < len(own) else None

    # -- classify -------------------------------------------------------------------------

    def predict_log_proba(self, X: Rows) -> Array:
        """Return log q(y | x) of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        log_p : ndarray, shape (n, n_classes)
        """
        check_is_fitted(self)
        return joined([self._log_class(rows) for rows in self._validated_blocks(X)])

    def _log_class(self, X: Array) -> Array:
        if self._core.n_classes:
            return self._core.log_class(X)
        Z = self._core.posterior_mean(X)
        if self._spreading is not None:
            return self._spreading.log_proba(Z)
        p = np.zeros((len(Z), len(self.classes_)), Z.dtype)
        seen = self.classifier_.classes_
        p[:, seen[seen >= 0]] = self.classifier_.predict_proba(Z)[:, seen >= 0]
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(p))

    def predict_proba(self, X: Rows) -> Array:
        """Return q(y | x) of each class, in the order of ``classes_``.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        p : ndarray, shape (n, n_classes)
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X: Rows) -> NDArray[Any]:
        """Return the most probable class of each row.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        y : ndarray, shape (n,)
        """
        log_p = self.predict_log_proba(X)
        return np.asarray(self.classes_[log_p.argmax(1)])

    # -- look and generate ----------------------------------------------------------------

    def transform(self, X: Rows) -> Array:
        """Return the posterior means E[z | x], averaged over the classes; deterministic.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        Z : ndarray, shape (n, n_components)
        """
        check_is_fitted(self)
        return self._means(X)

    def inverse_transform(self, Z: ArrayLike, y: Any = None) -> Any:
        """Return E[x | z, y] in data units, in the kind of container that `fit` saw.

        Parameters
        ----------
        Z : shape (n, n_components)
        y : a label, or None
            The class of all rows; None for the mean over p(y).

        Returns
        -------
        X : shape (n, D) or (n, *event)
        """
        check_is_fitted(self)
        values = check_array(widened(to_numpy(Z)), dtype=[np.float64, np.float32], input_name="Z")
        if values.shape[1] != self._n_features_out:
            raise DataError(
                f"Z has {values.shape[1]} columns, but z of this model has {self._n_features_out}."
            )
        if y is not None:
            return self._contained(self._core.decode(values, self._number(y)))
        if not self._core.n_classes:
            return self._contained(self._core.decode(values))
        p = self._core.class_prior()
        mean = sum(p[c] * self._core.decode(values, c) for c in range(len(p)))
        return self._contained(np.asarray(mean, dtype=values.dtype))

    def _number(self, y: Any) -> int:
        """Return the number of a class that rows are to be made of."""
        self._need_classes()
        return class_number(y, self.classes_)

    def _need_classes(self) -> None:
        if not self._core.n_classes:
            raise ParameterError(
                f"model={self.model!r} makes rows without regard to classes: its p(x | z) has no "
                "y. Choose model='m2' or 'm1+m2' for that."
            )

    def analogies(self, X: Rows) -> list[Any]:
        """Return what rows would look like in each class: z is kept, y is changed.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        rows : list of containers as X, one for each of ``classes_``
            E[x | z, y] at the posterior mean of z.
        """
        check_is_fitted(self)
        self._need_classes()
        Z = self._means(X)
        return [self._contained(self._core.decode(Z, c)) for c in range(len(self.classes_))]

    def sample(
        self,
        n_samples: int = 1,
        *,
        y: Any = None,
        given: Any = None,
        kind: Kind = "draw",
        temperature: float = 1.0,
        random_state: Seed = None,
    ) -> Any:
        """Draw new rows from the model, of all classes or of one.

        Parameters
        ----------
        n_samples : int
        y : a label, or None
            None draws the class of each row from p(y).
        given, kind, temperature
            As in `VAE.sample`.
        random_state : int, RandomState, Generator or None

        Returns
        -------
        X : shape (n_samples, D) or (n_samples, *event), in the container that `fit` saw
        """
        check_is_fitted(self)
        chosen = None if y is None else self._number(y)
        return self._sampled(n_samples, given, kind, temperature, random_state, y=chosen)

    @property
    def _n_features_out(self) -> int:
        return self._core.width

    # -- keep -----------------------------------------------------------------------------

    def _own_manifest(self) -> dict[str, Any]:
        if hasattr(self, "classifier_"):
            raise ParameterError(
                f"A {type(self.classifier_).__name__} has no form that is safe to load, so this "
                f"{type(self).__name__} cannot be saved. Use classifier=None, or keep what "
                "base_.save() writes and the classifier apart."
            )
        return {
            "classes": self.classes_.tolist(),
            "kind_of_classes": self.classes_.dtype.str,
            "spreading": self._spreading is not None,
        }

    def _own_tensors(self) -> dict[str, torch.Tensor]:
        import torch

        if self._spreading is None:
            return {}
        return {
            "spreading.Z": torch.from_numpy(self._spreading.Z),
            "spreading.shares": torch.from_numpy(self._spreading.shares),
        }

    @classmethod
    def _from_manifest(
        cls,
        manifest: dict[str, Any],
        tensors: dict[str, torch.Tensor],
        network: Network | None,
    ) -> Self:
        self = super()._from_manifest(manifest, tensors, network)
        kind, values = manifest["kind_of_classes"], manifest["classes"]
        if not isinstance(kind, str) or kind[1:2] not in tuple("iufbU"):
            raise ModelFileError(f"classes of type {kind!r:.80} are not known.")
        self.classes_ = np.array(values, dtype=kind)
        n = len(self.classes_)
        if self.classes_.ndim != 1 or self._core.n_classes not in (0, n):
            raise ModelFileError("its classes are not those of its model.")
        self._spreading = None
        if not self._core.n_classes:
            self._spreading = _recalled(tensors, self._core.width, n)
        return self


def _recalled(tensors: dict[str, torch.Tensor], width: int, n_classes: int) -> Spreading:
    Z, shares = (tensors[f"spreading.{name}"].numpy() for name in ("Z", "shares"))
    fits = Z.shape == (len(shares), width) and shares.shape == (len(Z), n_classes) and len(Z)
    if not fits or not Z.dtype == shares.dtype == np.float32 or shares.min() < 0:
        raise ModelFileError("its labels of rows do not fit its model.")
    return Spreading(Z, shares)
