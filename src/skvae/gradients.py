"""Gradients by the score function, which need no path from the parameters to the draws."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from skvae.evidence import Evidence
from skvae.exceptions import ParameterError

__all__ = ["leave_one_out", "without_path"]


def without_path(evidence: Evidence) -> Evidence:
    """Cut the gradient that would pass through the draws.

    What is left is log q at fixed points, a function of the parameters of q alone: a draw of a
    flow or a straight-through draw would bring other terms. The evidence must be that of
    ``path_only``.
    """
    if evidence.posterior is None:
        raise ParameterError("The model does not say what q(z | x) its draws come from.")
    for z in evidence.points:
        if z.requires_grad:
            z.register_hook(torch.zeros_like)
    fixed = torch.cat([z.detach() for z in evidence.draws], -1)
    return dataclasses.replace(evidence, log_qz=evidence.posterior.log_prob(fixed))


def leave_one_out(log_w: Tensor, log_qz: Tensor, bound: Callable[[Tensor], Tensor]) -> Tensor:
    """Score-function term of the gradient of a bound, with a baseline for each draw [1]_.

    The baseline of a draw is the bound with the mean of the other log-weights in its place. For
    the mean of the log-weights as bound, that is REINFORCE with a leave-one-out baseline.

    Parameters
    ----------
    log_w, log_qz : Tensor, shape (M, K, B)
        K >= 2 draws in each of M groups.
    bound : callable
        Maps log-weights (..., K, B) to (..., B).

    Returns
    -------
    Tensor, shape (M, B)
        It is 0, and has the gradient that the bound itself lacks.

    References
    ----------
    .. [1] Mnih and Rezende, "Variational Inference for Monte Carlo Objectives", 2016,
       arXiv:1602.06725
    """
    log_w = log_w.detach()
    k = log_w.shape[1]
    others = (log_w.sum(1, keepdim=True) - log_w) / (k - 1)  # (M, K, B)
    own = torch.eye(k, dtype=torch.bool, device=log_w.device).unsqueeze(-1)  # (K, K, 1)
    replaced = torch.where(own, others.unsqueeze(1), log_w.unsqueeze(1))  # (M, K, K, B)
    signal = bound(log_w).unsqueeze(1) - bound(replaced)  # (M, K, B)
    return (signal * (log_qz - log_qz.detach())).sum(1)
