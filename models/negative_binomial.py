"""What zeros add to the negative binomial's log-probability, with and without inflation, and its gradient.

With mean mu, inverse dispersion theta, s = log mu - log theta and the probability pi of an extra zero,

    log NB(0)   = l = -theta log(1 + mu / theta) = -theta softplus(s)
    log ZINB(0) = log(pi + (1 - pi) e^l) = log1p((1 - pi) (e^l - 1))

Both gradients in closed form: few passes over a batch, and no difference of nearly equal numbers.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

LARGEST_LOG = 9.210340371976184  # log 1e4


def bounded_log(log_inverse_dispersion: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The logarithm itself for inverse dispersions from 1e-4 to 1e4; beyond, it levels off within 1 of these bounds.

    The slope is continuous and never zero, so that a gradient finds its way back. From 1e4 on, counts are Poisson for
    most purposes, and their inverse dispersion would go to infinity.
    """
    inside = log_inverse_dispersion.clamp(-LARGEST_LOG, LARGEST_LOG)
    return inside + F.softsign(log_inverse_dispersion - inside)


def zeros_log_prob(
    log_mean: Float[Tensor, "n n_cols"], log_theta: Float[Tensor, "*rows n_cols"], flat: Int[Tensor, " e"]
) -> tuple[Float[Tensor, " n"], Float[Tensor, " e"]]:
    """Sum over each row's zeros of log NB(0), and the log mean of the other entries, which are at `flat`."""
    out: tuple[Tensor, Tensor] = _Zeros.apply(log_mean, log_theta, flat)
    return out


def inflated_zeros_log_prob(
    log_mean: Float[Tensor, "n n_cols"],
    log_theta: Float[Tensor, "*rows n_cols"],
    zero_logits: Float[Tensor, "n n_cols"],
    flat: Int[Tensor, " e"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " e"]]:
    """Sum over each row's zeros of log ZINB(0), and the log mean of the other entries, which are at `flat`."""
    out: tuple[Tensor, Tensor] = _InflatedZeros.apply(log_mean, log_theta, zero_logits, flat)
    return out


class _Zeros(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_mean: Tensor, log_theta: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
        s, theta = _zeros_only(log_mean, log_theta, flat), log_theta.exp()
        t = softplus(s)
        ctx.save_for_backward(s, t, theta, flat)
        zeros = -(t @ theta) if theta.ndim == 1 else -(t * theta).sum(-1)
        return zeros, log_mean.reshape(-1).index_select(0, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_entries: Tensor) -> tuple[Tensor, Tensor | None, None]:
        s, t, theta, flat = ctx.saved_tensors
        v = s.sigmoid()
        grad_theta = None
        if ctx.needs_input_grad[1]:
            excess = _excess(t, v)
            grad_theta = -theta * (grad @ excess) if theta.ndim == 1 else excess.mul_(theta).mul_(-grad[:, None])
        grad_mean = v.mul_(theta).mul_(-grad[:, None])
        grad_mean.view(-1).index_copy_(0, flat, grad_entries)
        return grad_mean, grad_theta, None


class _InflatedZeros(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, log_mean: Tensor, log_theta: Tensor, zero_logits: Tensor, flat: Tensor
    ) -> tuple[Tensor, Tensor]:
        s, theta = _zeros_only(log_mean, log_theta, flat), log_theta.exp()
        t = softplus(s)
        log_nb = (t * theta).neg_()
        ctx.save_for_backward(s, t, theta, log_nb, zero_logits, flat)
        return _log_inflated(log_nb, zero_logits).sum(-1), log_mean.reshape(-1).index_select(0, flat)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_entries: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        s, t, theta, log_nb, zero_logits, flat = ctx.saved_tensors
        v, log_odds = s.sigmoid(), log_nb - zero_logits  # that a zero is the negative binomial's
        weight = log_odds.sigmoid().mul_(-grad[:, None])
        # sigmoid(-z) - sigmoid(l - z), as a product
        grad_zero = log_odds.neg_().sigmoid_().mul_(torch.expm1(log_nb)).mul_((-zero_logits).sigmoid_())
        grad_theta = _excess(t, v).mul_(weight.mul_(theta))
        grad_mean = v.mul_(weight)
        grad_mean.view(-1).index_copy_(0, flat, grad_entries)
        return grad_mean, grad_theta.sum(0) if theta.ndim == 1 else grad_theta, grad_zero.mul_(-grad[:, None]), None


def _zeros_only(log_mean: Tensor, log_theta: Tensor, flat: Tensor) -> Tensor:
    """The difference s at the zeros, and -inf, where every term and gradient vanishes, elsewhere."""
    s = log_mean.contiguous() - log_theta
    s.view(-1).index_fill_(0, flat, -torch.inf)
    return s


def softplus(s: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """log(1 + e^s), in full precision in double precision too, where torch by default stops at s = 20."""
    return F.softplus(s, threshold=20.0 if s.dtype == torch.float32 else 40.0)


def _excess(t: Tensor, v: Tensor) -> Tensor:
    """Softplus less sigmoid of s, t - v: where v is small and they cancel, the series of -log(1 - v) - v."""
    series = v.mul(1 / 5).add_(1 / 4).mul_(v).add_(1 / 3).mul_(v).add_(1 / 2).mul_(v).mul_(v)
    small = v.clone().lt_(torch.finfo(v.dtype).eps ** 0.2)
    return torch.sub(t, v).lerp_(series, small)  # a third of the time of torch.where


def _log_inflated(log_nb: Tensor, zero_logits: Tensor) -> Tensor:
    """log(pi + (1 - pi) e^l): either form is exact where the other cancels."""
    likely = torch.log1p((-zero_logits).sigmoid() * torch.expm1(log_nb))
    unlikely = F.softplus(log_nb - zero_logits) - F.softplus(-zero_logits)
    return torch.where(log_nb > -1, likely, unlikely)
