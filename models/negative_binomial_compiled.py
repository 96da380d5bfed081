"""Rows' log-probabilities under the negative binomial on the CPU, in float32: the kernel on tensors' memory."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..data.parallel import in_parallel, ranges
from .stored import Stored

ROWS = 32  # that one thread takes at a time; sums over rows are added up by so many, whatever the number of threads


def is_compiled(x: Tensor) -> bool:
    """Whether rows with such parameters are worked out here."""
    return x.dtype == torch.float32 and x.device.type == "cpu"


def compiled_log_prob(
    stored: Stored,
    f: Float[Tensor, "n n_cols"],
    log_theta: Float[Tensor, "*rows n_cols"],
    log_size: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, " n"]:
    """Log-probability of each row.

    Args:
        stored: The entries.
        f: Logarithms of the means; with `log_size`, logits of each mean's share of the row's size.
        log_theta: Logarithms of the inverse dispersions, one per column or one per entry.
        log_size: Logarithms of the rows' sizes.
    """
    log_theta = (log_theta if log_theta.ndim > 1 else log_theta[None]).to(f.dtype)
    log_size = f.new_empty(0) if log_size is None else log_size.to(f.dtype)
    learning = torch.is_grad_enabled() and any(x.requires_grad for x in (f, log_size, log_theta))
    out: Tensor = _LogProb.apply(f, log_size, log_theta, stored.crow, stored.col, stored.value, learning)
    return out


class _LogProb(torch.autograd.Function):
    """The gradient is taken beside the value, for rows of weight 1, and again if rows turn out to differ in weight."""

    @staticmethod
    def forward(
        ctx: Any,
        f: Tensor,
        log_size: Tensor,
        log_theta: Tensor,
        crow: Tensor,
        col: Tensor,
        value: Tensor,
        learning: bool,
    ) -> Tensor:
        from . import negative_binomial_kernel as kernel  # compiles: not before it is needed

        f, log_size, log_theta = f.contiguous(), log_size.contiguous(), log_theta.contiguous()
        out, slopes = f.new_empty(len(f)), f.new_empty(len(col), 2)
        gradients = _room_for_gradients(f, log_size, log_theta, learning)
        _run(kernel.log_prob, (crow, col, value, f, log_size, log_theta, out, slopes), gradients)
        ctx.save_for_backward(crow, col, f, log_size, log_theta, slopes)
        ctx.gradients = gradients
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        from . import negative_binomial_kernel as kernel

        crow, col, f, log_size, log_theta, slopes = ctx.saved_tensors
        if torch.equal(grad, grad[:1].expand_as(grad)):
            by_f, by_size, by_theta = (grad[:1] * x for x in ctx.gradients)
        else:
            by_f, by_size, by_theta = found = _room_for_gradients(f, log_size, log_theta, True)
            _run(kernel.gradients, (crow, col, f, log_size, log_theta, slopes, grad.contiguous()), found)
        return by_f, by_size, by_theta if len(log_theta) > 1 else by_theta.sum(0, keepdim=True), None, None, None, None


def _room_for_gradients(f: Tensor, log_size: Tensor, log_theta: Tensor, needed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """By f, by log l, and by log theta: of each row where theta is, of each range of rows otherwise."""
    n_parts = len(f) if len(log_theta) > 1 else len(ranges(len(f), ROWS))
    return f.new_empty(len(f) * needed, f.shape[1]), torch.empty_like(log_size), f.new_empty(n_parts, f.shape[1])


def _run(work: Any, tensors: tuple[Tensor, ...], gradients: tuple[Tensor, Tensor, Tensor]) -> None:
    by_f, by_size, by_theta = (x.numpy() for x in gradients)
    arrays, n = [x.numpy() for x in tensors], len(tensors[0]) - 1
    shared = len(by_theta) < n or n == 1
    over = ranges(n, ROWS)
    parts = {at: slice(k, k + 1) if shared else slice(*at) for k, at in enumerate(over)}
    in_parallel(lambda at: work(*at, *arrays, by_f, by_size, by_theta[parts[at]]), over)
