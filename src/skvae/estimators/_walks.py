"""What an estimator does in its latent space: ways between rows, directions, what each says.

The paths themselves are in `skvae.paths`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skvae import paths
from skvae.estimators._base import Array, Rows, at_least, joined
from skvae.estimators._keep import Kept
from skvae.exceptions import DataError, ParameterError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Path", "Walks"]

Path = Literal["linear", "spherical", "data"]


class Walks(Kept):
    """Ways through the latent space and directions in it, and what is decoded on them."""

    if TYPE_CHECKING:
        transform: Callable[[Rows], Array]
        inverse_transform: Callable[[ArrayLike], Any]

        @property
        def _n_features_out(self) -> int: ...

    def interpolate(
        self, x0: Any, x1: Any, n_steps: int = 8, *, path: Path = "linear", along: Any = None
    ) -> Any:
        """Decode points of a path between the posterior means of two rows.

        Parameters
        ----------
        x0, x1 : array of shape (D,) or (*event,), DataFrame of one row, or one sequence
        n_steps : int
            Number of points, at equal distances and with both ends.
        path : {"linear", "spherical", "data"}
            ``"linear"``: the straight line. ``"spherical"``: the arc around the origin, whose
            points are as far out as the ends. ``"data"``: the shortest path from one row of
            ``along`` to a near one, so that it stays where rows are (see `skvae.paths`).
        along : rows as for `fit`, or None
            Needed by, and only for, ``path="data"``.

        Returns
        -------
        X : shape (n_steps, D) or (n_steps, *event), in the container that `fit` saw
            E[x | z] at each point; the first and the last are reconstructions of x0 and x1.

        Raises
        ------
        ParameterError
            There is no such path, or ``along`` does not go with it.
        """
        check_is_fitted(self)
        n = at_least("n_steps", n_steps, 2)
        if path not in ("linear", "spherical", "data"):
            raise ParameterError(
                f"path must be 'linear', 'spherical' or 'data'; received {path!r}."
            )
        if (path == "data") != (along is not None):
            raise ParameterError(
                "path='data' goes along rows: pass some hundreds of them or more as along=X."
                if along is None
                else f"along= is for path='data'; received path={path!r}."
            )
        z0, z1 = (self._codes(self._as_one(x, name))[0] for x, name in ((x0, "x0"), (x1, "x1")))
        if path == "data":
            way = paths.along(z0, z1, n, self._codes(along))
        else:
            way = (paths.linear if path == "linear" else paths.spherical)(z0, z1, n)
        return self._contained(self._core.decode(way.astype(np.result_type(z0, z1))))

    def attribute(self, X: Rows, has: ArrayLike) -> Array:
        """Return the direction in latent space of an attribute that some rows have [1]_.

        The mean of z over the rows that have it, less the mean over those that do not. Added to
        the z of a row, it gives the row the attribute; subtracted, it takes it away.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)
        has : array of bool, shape (n,)
            Whether a row has it.

        Returns
        -------
        direction : ndarray, as wide as what `transform` returns

        Raises
        ------
        DataError
            ``has`` is of another length, is not yes or no, or is the same for all rows.

        References
        ----------
        .. [1] Larsen, Sønderby, Larochelle and Winther, "Autoencoding beyond pixels using a
           learned similarity metric", 2016, arXiv:1512.09300

        Examples
        --------
        >>> from skvae import VAE
        >>> from skvae.datasets import load_digits
        >>> data = load_digits()
        >>> X = data.X_train / 16
        >>> vae = VAE(likelihood="bernoulli", max_epochs=5, random_state=0).fit(X)
        >>> slanted = X[:, :32].sum(1) > X[:, 32:].sum(1)
        >>> direction = vae.attribute(X, slanted)
        >>> more = vae.inverse_transform(vae.transform(X[:3]) + direction)
        >>> more.shape
        (3, 64)
        """
        check_is_fitted(self)
        Z = np.asarray(self.transform(X))
        flags = _yes_or_no(has, len(Z))
        return np.asarray(Z[flags].mean(0) - Z[~flags].mean(0))

    def kl_per_dimension(self, X: Rows) -> NDArray[np.float64] | None:
        """Return the mean KL(q(z | x) ‖ p(z)) of each latent dimension, in nats.

        What a dimension tells of a row; one that tells nothing has 0.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        kl : ndarray, shape (n_components,), or None
            None where the KL does not split, as that of flows and other priors than
            ``"standard"``.
        """
        check_is_fitted(self)
        blocks = list(self._validated_blocks(X))
        found = [self._core.kl_per_dimension(rows) for rows in blocks]
        known = [kl for kl in found if kl is not None]
        if not known:
            return None
        return np.asarray(np.average(known, axis=0, weights=[len(rows) for rows in blocks]))

    def reconstruct(self, X: Rows) -> Any:
        """Return E[x | z] at the posterior mean of each row, with all that a flat z holds.

        Of a `VAE` this is ``inverse_transform(transform(X))``; models with classes or targets
        keep what they believe these to be.

        Parameters
        ----------
        X : shape (n, D) or (n, *event)

        Returns
        -------
        X : shape (n, D) or (n, *event), in the container that `fit` saw
        """
        check_is_fitted(self)
        return self._contained(self._core.decode(self._codes(X)))

    def traverse(self, x: Any, dimension: int, values: ArrayLike) -> Any:
        """Decode the z of a row with one of its dimensions set to each of several values.

        Parameters
        ----------
        x : array of shape (D,) or (*event,), DataFrame of one row, or one sequence
        dimension : int
            Which latent dimension, from 0.
        values : array, shape (m,)
            Of N(0, 1), from about −2.5 to 2.5 is what the decoder has seen.

        Returns
        -------
        X : shape (m, D) or (m, *event), in the container that `fit` saw

        Raises
        ------
        ParameterError
            There is no such dimension, or z is not made of numbers that can be set one by one.
        """
        check_is_fitted(self)
        self._need_real("traverse")
        d = self._n_features_out
        if not 0 <= at_least("dimension", dimension, 0) < d:
            raise ParameterError(f"dimension={dimension} must be below {d}, the width of z.")
        given = np.asarray(values, dtype=np.float64).ravel()
        z = np.repeat(self._codes(self._as_one(x, "x")), len(given), 0)
        z[:, dimension] = given
        return self._contained(self._core.decode(z))

    def decode_grid(self, n: int = 20) -> tuple[Any, NDArray[np.float64]]:
        """Decode a square grid over the two latent dimensions of a model that has two.

        Parameters
        ----------
        n : int
            Points along a side, at equally spaced quantiles of N(0, 1).

        Returns
        -------
        X : shape (n · n, D) or (n · n, *event), in the container that `fit` saw
            E[x | z], row by row from the top left, where the second dimension is largest.
        values : ndarray, shape (n,)
            Coordinates along either dimension.

        Raises
        ------
        ParameterError
            z has other than two dimensions, or is not made of numbers.
        """
        from scipy.special import ndtri

        check_is_fitted(self)
        n = at_least("n", n, 2)
        self._need_real("decode_grid")
        if self._n_features_out != 2:
            raise ParameterError(
                f"a grid over the plane needs two latent dimensions, but z of this model has "
                f"{self._n_features_out}. Fit with n_components=2, or look at one dimension at a "
                "time: VAE.traverse, plot.TraversalDisplay."
            )
        values = ndtri((np.arange(n) + 0.5) / n)
        z1, z2 = np.meshgrid(values, values[::-1])
        Z = np.stack([z1.ravel(), z2.ravel()], 1).astype(self._dtype)
        return self.inverse_transform(Z), values

    def nearest(self, rows: Any, X: Rows) -> NDArray[np.int64]:
        """Return which row of X is nearest to each of other rows, such as samples.

        A model that has learned its training rows by heart samples rows that equal them.

        Parameters
        ----------
        rows, X : shape (n, D) or (n, *event), or sequences

        Returns
        -------
        index : ndarray of int, shape (n,)
            By Euclidean distance of rows as the model sees them: standardised if the
            likelihood is; of texts and codes, by the number of steps that differ.
        """
        from sklearn.metrics import pairwise_distances_argmin

        check_is_fitted(self)
        codes = self._form is not None and self._form.kind != "numbers"
        own, others = (
            joined([self._core.shown(block) for block in self._validated_blocks(one)])
            for one in (rows, X)
        )
        metric = "hamming" if codes else "euclidean"
        return np.asarray(pairwise_distances_argmin(own, others, metric=metric))

    def _need_real(self, call: str) -> None:
        space = self._core.spec.latent.space
        if space in ("one_hot", "sphere"):
            raise ParameterError(
                f"{call} sets numbers of z one by one, but with posterior="
                f"{self._core.spec.posterior.name!r} they are not free. Fit with "
                "posterior='diagonal' for that, or use interpolate."
            )

    def _codes(self, X: Any) -> Array:
        """Return posterior means with all that a flat z of this model holds."""
        return joined([self._core.posterior_mean(rows) for rows in self._validated_blocks(X)])


def _yes_or_no(has: ArrayLike, n: int) -> NDArray[np.bool_]:
    given = column_or_1d(np.asarray(has))
    if len(given) != n:
        raise DataError(f"has must say of each of the {n} rows of X yes or no; got {len(given)}.")
    flags = np.array([bool(value) for value in given])
    if not all(value in (0, 1) for value in given.tolist()):
        odd = next(value for value in given.tolist() if value not in (0, 1))
        raise DataError(
            f"has must be True or False for each row; received {odd!r}. Of classes, ask for one: "
            "attribute(X, y == 3)."
        )
    if flags.all() or not flags.any():
        raise DataError(
            f"has is {bool(flags[0])} for all {n} rows, but a direction needs rows that have the "
            "attribute and rows that do not."
        )
    return flags
