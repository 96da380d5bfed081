"""Rows' log-probabilities under the negative binomial on the CPU, in float32: the kernel on tensors' memory."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..data.parallel import in_parallel, ranges
from . import negative_binomial_kernel as kernel
from .stored import Stored

ROWS = 32  # that one thread takes at a time; sums over rows are added up by so many, whatever the number of threads


def compiled_log_prob(
    stored: Stored, log_mean: Float[Tensor, "n n_cols"], log_theta: Float[Tensor, "*rows n_cols"]
) -> Float[Tensor, " n"]:
    """Log-probability of each row; log theta is one per column, or one per entry."""
    out: Tensor = _LogProb.apply(log_mean, log_theta if log_theta.ndim > 1 else log_theta[None], *stored)
    return out


class _LogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, log_mean: Tensor, log_theta: Tensor, crow: Tensor, col: Tensor, flat: Tensor, value: Tensor
    ) -> Tensor:
        log_mean, log_theta = log_mean.contiguous(), log_theta.contiguous()
        out, slopes = log_mean.new_empty(len(log_mean)), log_mean.new_empty(len(col), 2)
        arrays = [x.numpy() for x in (crow, col, value, log_mean, log_theta, out, slopes)]
        in_parallel(lambda at: kernel.log_prob(*at, *arrays), ranges(len(log_mean), ROWS))
        ctx.save_for_backward(crow, col, log_mean, log_theta, slopes)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        crow, col, log_mean, log_theta, slopes = ctx.saved_tensors
        by_mean, parts = torch.empty_like(log_mean), ranges(len(log_mean), ROWS)
        shared = len(log_theta) == 1
        by_theta = log_theta.new_empty(len(parts) if shared else len(log_mean), log_theta.shape[1])
        arrays = [x.numpy() for x in (crow, col, log_mean, log_theta, slopes, grad.contiguous(), by_mean)]
        into = by_theta.numpy()

        def work(at: tuple[int, int]) -> None:
            k = at[0] // ROWS
            kernel.gradients(*at, *arrays, into[k : k + 1] if shared else into[slice(*at)])

        in_parallel(work, parts)
        return by_mean, by_theta.sum(0, keepdim=True) if shared else by_theta, None, None, None, None
