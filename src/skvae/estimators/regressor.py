"""The semi-supervised regressor."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_array, check_consistent_length, check_is_fitted

from skvae.estimators._base import Array, Rows, Seed, at_least, joined
from skvae.estimators._containers import to_numpy, widened
from skvae.estimators._targets import encode_targets, given_targets
from skvae.estimators.vae import VAE
from skvae.exceptions import DataError, ModelFileError, TrainingDivergedError
from skvae.spec import Spec

if TYPE_CHECKING:
    import torch

    from skvae.data import Transform
    from skvae.estimators._core import Kind
    from skvae.estimators._fit_rows import FitRows, LabelledRows
    from skvae.networks import Network
    from skvae.objectives import Objective

__all__ = ["VAERegressor"]


class VAERegressor(RegressorMixin, VAE):  # type: ignore[misc]
    """Variational autoencoder that learns a number from few known ones and many rows without [1]_.

    A row has a target y beside its latent vector: p(y) p(z) p(x | y, z), with the Gaussian
    q(y | x) as the regressor. Of rows whose target is unknown, y is drawn from q(y | x).

    Parameters
    ----------
    n_components : int, default=50
        Number of latent dimensions beside the target.
    model : {"m2"}, default="m2"
        How rows and targets hang together; M2 of the paper, with numbers in place of classes.
    alpha : float, default=1.0
        Weight of the mean of −log q(y | x) over the rows with a target, beside the mean of the
        bound over all. The paper's α, which is multiplied by the number of rows there. With its
        0.1, what explains x in the rows without a target often outweighs the known ones.
    likelihood, posterior, prior, network, hidden_layer_sizes, objective, binarize, augment, \
event_shape, channels_last, max_epochs, batch_size, learning_rate, validation_fraction, \
n_iter_no_change, tol, precision, device, checkpoint, random_state, verbose
        As in `VAE`.
    early_stopping : bool or "auto", default=False
        As in `VAE`: by the bound, which says little of q(y | x).

    Attributes
    ----------
    n_outputs_ : int
        Number of targets.
    n_features_in_, feature_names_in_, event_shape_, likelihood_, history_, n_iter_
        As in `VAE`; the bounds in ``history_`` are those of targets in standard deviations of the
        known ones.

    References
    ----------
    .. [1] Kingma et al., "Semi-supervised Learning with Deep Generative Models", 2014,
       arXiv:1406.5298

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from skvae import VAERegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> known = np.where(np.arange(len(y)) < 100, y, np.nan)
    >>> reg = VAERegressor(2, hidden_layer_sizes=(16,), max_epochs=3, random_state=0)
    >>> mean, std = reg.fit(X, known).predict(X[:4], return_std=True)
    >>> mean.shape, std.shape
    ((4,), (4,))
    >>> reg.sample(5, y=150, random_state=0).shape
    (5, 10)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        **{k: v for k, v in VAE._parameter_constraints.items() if k != "warm_start"},
        "model": [StrOptions({"m2"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
    }

    n_outputs_: int
    _scaling: Transform  # of the targets
    _one_target: bool  # whether y of fit was a single column

    def __init__(
        self,
        n_components: int = 50,
        *,
        model: Literal["m2"] = "m2",
        alpha: float = 1.0,
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

    # -- fit ------------------------------------------------------------------------------

    def fit(self, X: Rows, y: Any = None) -> Self:
        """Train on rows with and without targets.

        Parameters
        ----------
        X : as in `VAE.fit`, but rows that fit into memory
        y : array, shape (n,) or (n, n_targets)
            Numbers in any unit; NaN and None for unknown ones. Of several targets, each may be
            known or not.

        Returns
        -------
        self

        Raises
        ------
        DataError
            As from `VAE.fit`; X is streamed from files; a target has less than two different known
            values.
        ParameterError, InvalidParameterError
            A parameter has a value that makes no sense.
        TrainingDivergedError
            Loss or gradients stayed non-finite; the estimator keeps the last good weights.
        """
        from skvae.data import Transform
        from skvae.distributed import joined as together
        from skvae.estimators._fit_rows import in_memory

        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"This {name} estimator requires y to be passed, but the target y is None."
            )
        with self._all_or_nothing(TrainingDivergedError), together() as world:
            rows = self._rows_to_fit(X, reset=True, world=world)
            rows = in_memory(rows, name)
            targets, self._one_target = encode_targets(y, name)
            check_consistent_length(rows, targets)
            self.n_outputs_ = targets.shape[1]
            self._scaling = Transform.fit(targets, "per_feature")
            standard = (targets - self._scaling.shift) / self._scaling.unit
            rows = rows.labelled(standard.astype(np.float32))
            self._start(rows)
            self._train(rows, world)
        return self

    @property
    def partial_fit(self) -> NoReturn:
        """Not there: the unit of the targets must be known."""
        raise AttributeError(f"{type(self).__name__} has no partial_fit.")

    def _wiring(self) -> Spec:
        from skvae.models import M2Regression

        return M2Regression(self.n_outputs_)

    def _bound(self) -> Objective:
        from skvae.objectives import Supervised

        return super()._bound() + Supervised(float(self.alpha))

    def _guide(self, rows: FitRows) -> FitRows | None:
        own: LabelledRows = rows  # type: ignore[assignment]
        assert own.y is not None
        known = np.flatnonzero(~np.isnan(own.y).all(1))
        # Where all have a target, each batch is its own guide.
        return own.subset(known) if 0 < len(known) < len(own) else None

    # -- predict --------------------------------------------------------------------------

    @overload
    def predict(self, X: Rows, return_std: Literal[False] = False) -> NDArray[np.float64]: ...

    @overload
    def predict(
        self, X: Rows, return_std: Literal[True]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

    def predict(
        self, X: Rows, return_std: bool = False
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the mean of q(y | x) of each row, in the units of `fit`.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
        return_std : bool
            Return the standard deviation of q(y | x), too.

        Returns
        -------
        y : ndarray of float64, shape (n,) or (n, n_targets), as in `fit`
        std : ndarray of float64, same shape
            Where ``return_std`` is True.
        """
        check_is_fitted(self)
        parts = [self._core.target(rows) for rows in self._validated_blocks(X)]
        mean, std = (joined(list(each)).astype(np.float64) for each in zip(*parts, strict=True))
        mean, std = mean * self._scaling.unit + self._scaling.shift, std * self._scaling.unit
        if self._one_target:
            mean, std = mean[:, 0], std[:, 0]
        return (mean, std) if return_std else mean

    # -- look and generate ----------------------------------------------------------------

    def transform(self, X: Rows) -> Array:
        """Return the posterior means E[z | x, y] at the predicted targets; deterministic.

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
        y : number or array, or None
            The target of all rows or of each; of several targets, one set of them or one for
            each row. None for the mean of those of `fit`.

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
        targets = self._standard(self._scaling.shift if y is None else y, len(values))
        return self._contained(
            self._core.decode(np.concatenate([values, targets.astype(values.dtype)], 1))
        )

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
        """Draw new rows from the model, of all targets or of given ones.

        Parameters
        ----------
        n_samples : int
        y : number or array, or None
            As in `inverse_transform`; None draws the target of each row from p(y), a Gaussian of
            the mean and the standard deviation of those of `fit`.
        given, kind, temperature
            As in `VAE.sample`.
        random_state : int, RandomState, Generator or None

        Returns
        -------
        X : shape (n_samples, D) or (n_samples, *event), in the container that `fit` saw
        """
        check_is_fitted(self)
        n = at_least("n_samples", n_samples, 0)
        targets = None if y is None else self._standard(y, n)
        return self._sampled(n, given, kind, temperature, random_state, targets=targets)

    def _standard(self, y: Any, n: int) -> NDArray[np.float64]:
        """Return the targets of n rows as the model sees them, (n, n_targets)."""
        return (given_targets(y, n, self.n_outputs_) - self._scaling.shift) / self._scaling.unit

    @property
    def _n_features_out(self) -> int:
        return self._core.spec.latent.width - self.n_outputs_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    # -- keep -----------------------------------------------------------------------------

    def _own_manifest(self) -> dict[str, Any]:
        return {
            "targets": {
                "shift": self._scaling.shift.tolist(),
                "unit": self._scaling.unit.tolist(),
                "one": self._one_target,
            }
        }

    @classmethod
    def _from_manifest(
        cls,
        manifest: dict[str, Any],
        tensors: dict[str, torch.Tensor],
        network: Network | None,
    ) -> Self:
        from skvae.data import Transform

        self = super()._from_manifest(manifest, tensors, network)
        said = manifest["targets"]
        self.n_outputs_ = self._core.n_targets
        shift, unit = (np.array(said[key], dtype=np.float64) for key in ("shift", "unit"))
        fits = all(a.shape == (self.n_outputs_,) and np.isfinite(a).all() for a in (shift, unit))
        if not fits or not (unit > 0).all():
            raise ModelFileError("the scaling of its targets does not fit its model.")
        if said["one"] not in (True, False) or (said["one"] and self.n_outputs_ > 1):
            raise ModelFileError(f"one={said['one']!r:.80} makes no sense of its targets.")
        self._scaling, self._one_target = Transform(shift, unit), bool(said["one"])
        return self
