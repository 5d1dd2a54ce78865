"""Encoder and decoder that are any two torch modules of the user's."""

import copy
import inspect
import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from skvae import rng
from skvae.exceptions import ModelFileError, ParameterError
from skvae.networks.base import Encoder, Network, running_statistics

__all__ = ["Custom", "CustomDecoder", "CustomEncoder"]

ROWS = 2  # of the trial run: one row alone would not tell rows from features


@dataclass(frozen=True, repr=False)
class Custom(Network, name="custom"):
    """Two torch modules of your own.

    Each fit trains copies, in float32, that start from the weights which the modules have. Two of
    these specs are equal where they hold the same modules. A model file holds the weights but
    neither the modules nor the name of their code: it is read by
    ``load(path, network=Custom(encoder=..., decoder=...))``.

    Parameters
    ----------
    encoder : nn.Module
        From x (B, *event), in model units, to features (B, ...), which are flattened. Hidden cells
        hold the training mean; a ``forward`` with an argument ``mask`` gets it by that name: True
        where a cell is observed, or None where all are.
    decoder : nn.Module
        From z (B, d) to (B, ...), as many numbers for each row as the likelihood needs: one for
        each cell, or several blocks of one for each cell, in whatever shape.

    Notes
    -----
    Batch normalisation takes its running statistics for a batch of one row. What a module draws
    at random in training (dropout), it draws from a stream of its own that follows from the seed
    of the fit and the number of the call. Weights that the two modules share are copied twice,
    and no longer shared.
    """

    encoder: nn.Module | None = None  # None in what a file says
    decoder: nn.Module | None = None

    def __post_init__(self) -> None:
        if self.encoder is None and self.decoder is None:
            return
        for name in ("encoder", "decoder"):
            value = getattr(self, name)
            if not isinstance(value, nn.Module):
                hint = " Pass an instance, not the class." if isinstance(value, type) else ""
                raise ParameterError(
                    f"Custom: {name} must be a torch.nn.Module; received {value!r}.{hint}"
                )

    def __repr__(self) -> str:
        parts = (f"{name}={_brief(getattr(self, name))}" for name in ("encoder", "decoder"))
        return f"Custom({', '.join(parts)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self  # nothing changes it, and a clone of an estimator should be equal to it

    def to_json(self) -> dict[str, Any]:
        """Return the name alone: a file holds no module."""
        return {"family": self.family, "name": self.name}

    def restored(self, given: Network | None) -> Network:
        """Return the modules that the caller of `load` passes."""
        if not isinstance(given, Custom) or given.encoder is None:
            raise ModelFileError(
                "its encoder and decoder are modules of your own, and a file holds no code. Call "
                "load(path, network=networks.Custom(encoder=..., decoder=...)) with the modules "
                "that it was trained with."
            )
        return given

    def build_encoder(self, event_shape: tuple[int, ...]) -> Encoder:
        """Return a copy of the encoder, after a trial run."""
        return CustomEncoder(_copy(self.encoder), event_shape)

    def build_decoder(self, d: int, out_shape: tuple[int, ...]) -> nn.Module:
        """Return a copy of the decoder, after a trial run."""
        return CustomDecoder(_copy(self.decoder), d, out_shape)


class _Body(nn.Module):
    """A module of the user's, made fit for training here.

    Parameters
    ----------
    module : nn.Module
    role : str
        What it is, for messages.
    like : Tensor, shape (2, ...)
        What it is tried with.
    """

    calls: Tensor
    key: Tensor

    def __init__(self, module: nn.Module, role: str, like: Tensor) -> None:
        super().__init__()
        self.module = module
        self.takes_mask = _takes_mask(module)
        self.random = False
        self.width = self._try(role, like)
        if self.random:
            # Both are exact as float32, as which processes exchange buffers.
            self.register_buffer("key", torch.randint(2**24, (), device="cpu"))
            self.register_buffer("calls", torch.zeros((), dtype=torch.int64, device="cpu"))

    def _try(self, role: str, like: Tensor) -> int:
        """Run the module once in evaluation, which also completes lazy layers; return its width.

        Whether training is random is seen from whether a copy moves the generator.
        """
        shape = tuple(like.shape)
        try:
            with torch.no_grad(), torch.device("cpu"):
                out = self.module.eval()(like, **self._hidden(None))
                trained = copy.deepcopy(self.module).train()
                before = torch.default_generator.get_state()
                trained(like, **self._hidden(None))
                self.random = not torch.equal(before, torch.default_generator.get_state())
        except Exception as error:
            raise ParameterError(
                f"Custom: the {role} failed on a tensor of shape {shape}: "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(out, Tensor):
            raise ParameterError(
                f"Custom: the {role} must return one tensor; it returned {type(out).__name__}."
            )
        if out.ndim == 0 or len(out) != len(like):
            raise ParameterError(
                f"Custom: the {role} must return one entry for each row; for an input of shape "
                f"{shape} it returned shape {tuple(out.shape)}."
            )
        if not out.is_floating_point():
            raise ParameterError(f"Custom: the {role} must return floats, not {out.dtype}.")
        self.module.train()
        return out.numel() // len(out)

    def _hidden(self, mask: Tensor | None) -> dict[str, Tensor | None]:
        return {"mask": mask} if self.takes_mask else {}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return (B, width) for x (B, ...)."""
        if not (self.random and self.training):
            return self._run(x, mask)
        with rng.isolated(int(self.key), int(self.calls)):
            self.calls = self.calls + 1
            return self._run(x, mask)

    def _run(self, x: Tensor, mask: Tensor | None) -> Tensor:
        # One row has no statistics of its own.
        with running_statistics(self.module) if len(x) == 1 else nullcontext():
            out: Tensor = self.module(x, **self._hidden(mask))
        return out.reshape(len(x), self.width)


class CustomEncoder(Encoder):
    """The encoder, which never sees a hidden cell."""

    center: Tensor

    def __init__(self, module: nn.Module, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(event_shape))
        self.body = _Body(module, "encoder", torch.zeros(ROWS, *event_shape, device="cpu"))
        self.out_features = self.body.width

    def calibrate(self, mean: Tensor, rows: Tensor) -> None:
        """Learn what hidden cells read as."""
        self.center.copy_(mean)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (B, out_features) of x (B, *event)."""
        if mask is not None:
            x = torch.where(mask, x, self.center)
        features: Tensor = self.body(x, mask)
        return features


class CustomDecoder(nn.Module):
    """The decoder, for z with any axes in front, and shaped as the likelihood needs it."""

    def __init__(self, module: nn.Module, d: int, out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = out_shape
        self.body = _Body(module, "decoder", torch.zeros(ROWS, d, device="cpu"))
        needed = math.prod(out_shape)
        if self.body.width != needed:
            raise ParameterError(
                f"Custom: the decoder returns {self.body.width} numbers for each z, but {needed} "
                f"are needed, which become {out_shape}. Give its last layer {needed} outputs."
            )

    def forward(self, z: Tensor) -> Tensor:
        """Return (..., *out_shape) for z (..., d)."""
        out: Tensor = self.body(z.reshape(-1, z.shape[-1]))
        return out.view(*z.shape[:-1], *self.out_shape)


def _copy(module: nn.Module | None) -> nn.Module:
    if module is None:
        raise ParameterError(
            "network='custom' needs modules: networks.Custom(encoder=..., decoder=...)."
        )
    try:
        return copy.deepcopy(module).float().cpu()
    except Exception as error:
        raise ParameterError(f"Custom: {_brief(module)} cannot be copied: {error}") from error


def _takes_mask(module: nn.Module) -> bool:
    try:
        return "mask" in inspect.signature(module.forward).parameters
    except ValueError:  # a compiled one says nothing of its arguments
        return False


def _brief(module: nn.Module | None) -> str:
    return "None" if module is None else f"<{type(module).__name__}>"
