"""What "auto" and names mean: parts of a model, the device, the precision."""

import torch

from skvae import distributed
from skvae.estimators._fit_rows import FitRows
from skvae.estimators._sequence_rows import SequenceRows, check_network, sequence_likelihood
from skvae.exceptions import ParameterError
from skvae.likelihoods import Bernoulli, Gaussian, Likelihood
from skvae.models import ConvLadder, GenerativeModel, Ladder, LatentModule
from skvae.networks import MLP, RNN, Conv, Network, Table
from skvae.posteriors import Posterior
from skvae.priors import Prior

__all__ = [
    "choose_likelihood",
    "choose_model",
    "choose_network",
    "choose_prior",
    "pick_device",
    "pick_precision",
]

SMALLEST_IMAGE = 8  # sides; below, there is nothing to convolve
WIDTHS = (256, 256)  # the estimators' default

SIMPLEST = {"real": "standard", "sphere": "sphere", "one_hot": "categorical"}


def choose_likelihood(choice: object, rows: FitRows) -> Likelihood:
    """Resolve a likelihood; ``"auto"`` is Bernoulli for binary data, else Gaussian."""
    if isinstance(rows, SequenceRows):
        return sequence_likelihood(choice, rows)
    if choice != "auto":
        return Likelihood.resolve(choice, argument="likelihood")
    return Bernoulli() if rows.binary else Gaussian(scale="per_feature")


def choose_network(
    choice: object,
    hidden_layer_sizes: tuple[int, ...],
    event_shape: tuple[int, ...],
    likelihood: Likelihood,
    *,
    of_cells: bool = False,
) -> Network:
    """Resolve a network; a name takes what it needs from the others.

    ``"auto"`` is a recurrent network for sequences, and a convolutional one for images and
    volumes with channels, unless widths for a fully connected one were set. For flat rows with
    holes or of mixed columns (``of_cells``), it is one that sees which cells are missing.
    """
    if choice == "auto":
        image = len(event_shape) > 2 and min(event_shape[1:]) >= SMALLEST_IMAGE
        choice = Conv.name if image and tuple(hidden_layer_sizes) == WIDTHS else MLP.name
        choice = RNN.name if likelihood.sequential else choice
        if choice == MLP.name and of_cells and len(event_shape) == 1:
            choice = Table.name
    network: Network
    if choice == Table.name:
        network = Table(hidden_layer_sizes=hidden_layer_sizes)
    elif choice == MLP.name:
        network = MLP(hidden_layer_sizes=hidden_layer_sizes)
    elif choice == Conv.name:
        network = Conv.of(event_shape)
    else:
        network = Network.resolve(choice, argument="network")
    check_network(network, likelihood)
    return network


def choose_model(choice: object, network: Network) -> GenerativeModel:
    """Resolve a wiring; the ladder of a convolutional network is one of maps."""
    if choice == Ladder.name and isinstance(network, Conv):
        return ConvLadder()
    return GenerativeModel.resolve(choice, argument="model")


def choose_prior(choice: object, posterior: Posterior) -> Prior:
    """Resolve a prior; ``"auto"`` is the simplest one for the space of the posterior."""
    if choice == "auto":
        choice = SIMPLEST[posterior.space]
    return Prior.resolve(choice, argument="prior")


def pick_device(choice: str) -> torch.device:
    """Resolve ``"auto"`` to the best device present.

    Raises
    ------
    ParameterError
        The named device is unknown or not there.
    """
    if choice == "auto":
        if torch.cuda.is_available():
            return distributed.own_device(torch.device("cuda"))
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = distributed.own_device(torch.device(choice))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ParameterError(
            f"device={choice!r} cannot be used: {str(error).splitlines()[0]} "
            "Choose 'auto' or 'cpu'."
        ) from error
    return device


def pick_precision(choice: str, device: torch.device, module: LatentModule) -> torch.dtype | None:
    """Return the lower precision for network bodies, or None for full float32.

    ``"auto"`` is bfloat16 where the hardware multiplies it natively, the network is large enough
    to gain from it, and the likelihood takes rounded parameters.
    """
    if choice == "float32":
        return None
    if choice == "bfloat16":
        return torch.bfloat16
    large = sum(p.numel() for p in module.parameters()) >= module.spec.network.rounded_from
    if not large or not module.spec.likelihood.takes_rounded:
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else None
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return torch.bfloat16 if device.type == "cpu" and native and native() else None
