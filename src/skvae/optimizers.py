"""The optimiser of the training loop."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.adam import adam

__all__ = ["Adam"]


class Adam(torch.optim.Adam):
    """Torch's Adam (Kingma and Ba, 2015, arXiv:1412.6980), fused, without hooks around its steps.

    Torch asks profilers and hooks about every step and sorts the parameters anew, which takes as
    long as the arithmetic of a small network.

    Parameters
    ----------
    parameters : iterable of Tensor
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        parameters = list(parameters)
        devices = {p.device.type for p in parameters}
        super().__init__(parameters, fused=devices <= {"cpu", "cuda", "mps"})

    def update(self, rate: float) -> None:
        """Make one step with a learning rate; a parameter without a gradient stays."""
        (group,) = self.param_groups
        group["lr"] = rate
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        states = [self.state[p] for p in parameters]
        if not all(states):  # a first step makes the averages
            self.step()
            return
        beta1, beta2 = group["betas"]
        with torch.no_grad():
            adam(
                parameters,
                [p.grad for p in parameters],
                [s["exp_avg"] for s in states],
                [s["exp_avg_sq"] for s in states],
                [],
                [s["step"] for s in states],
                foreach=False,
                fused=group["fused"],
                amsgrad=False,
                beta1=beta1,
                beta2=beta2,
                lr=rate,
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )
