"""Moments of a + b + A . B over all pairs, written out; and blocks to try them on."""

import torch
from platewise.models.bilinear import Block
from torch import Tensor

D = 3


def random_block(n: int, full: bool) -> Block:
    mean = torch.randn(n, D)
    root = torch.randn(n, D, D)
    return Block(mean, root @ root.mT / D if full else torch.rand(n, D) + 0.1)


def brute_force(user: Block, item: Block) -> tuple[Tensor, Tensor]:
    """Mean and variance of a + b + A . B for all pairs, from E[form^2] by fourth moments written out."""
    cov_u = user.cov if not user.factorised else torch.diag_embed(user.cov)
    cov_z = item.cov if not item.factorised else torch.diag_embed(item.cov)
    r = D - 1
    second_u = cov_u + user.mean[:, :, None] * user.mean[:, None, :]
    second_z = cov_z + item.mean[:, :, None] * item.mean[:, None, :]
    mean = user.mean[:, None, r] + item.mean[None, :, r] + user.mean[:, :r] @ item.mean[:, :r].mT
    square = torch.einsum("ikl,jkl->ij", second_u[:, :r, :r], second_z[:, :r, :r])
    square += second_u[:, None, r, r] + second_z[None, :, r, r] + 2 * user.mean[:, None, r] * item.mean[None, :, r]
    square += 2 * torch.einsum("ik,jk->ij", second_u[:, :r, r], item.mean[:, :r])
    square += 2 * torch.einsum("ik,jk->ij", user.mean[:, :r], second_z[:, :r, r])
    return mean, square - mean**2
