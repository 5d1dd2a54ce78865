"""Which latent dimensions tell most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from skvae.estimators import VAE

__all__ = ["by_kl"]


def by_kl(vae: VAE, X: Any) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Return the dimensions in falling order of their KL, and the KL of each, in nats.

    Where the KL does not split they are ordered by how much the posterior means vary, and the
    second value is None.
    """
    width = len(vae.get_feature_names_out())
    kl = vae.kl_per_dimension(X)
    if kl is not None and len(kl) >= width:
        return np.argsort(-kl[:width], kind="stable"), kl
    return np.argsort(-np.var(np.asarray(vae.transform(X)), 0), kind="stable"), None
