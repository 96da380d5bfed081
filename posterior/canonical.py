"""One frame for factors that are only identified up to a rotation and a shift.

Predictions mu + a_i + b_j + A_i . B_j stay what they are when, for any vectors c_A, c_B, numbers c_a, c_b and
invertible matrix R,

    A_i  becomes  R' (A_i - c_A)           a_i  becomes  a_i + A_i . c_B - c_a
    B_j  becomes  R^-1 (B_j - c_B)         b_j  becomes  b_j + B_j . c_A - c_b
    mu   becomes  mu - c_A . c_B + c_a + c_b

The canonical frame is the one in which, on average over the plate, posterior means of A, B, a and b are zero, and the
second moments of A and of B are one and the same diagonal matrix, its entries (the factors' strengths) in descending
order; each factor's sign makes the largest mean among the columns positive. It is computed once from the posterior's
moments, and then is an affine map of every draw and of every block's moments: a posterior that was factorised in the
old axes is not in the new ones, so that means and variances alone cannot be carried over.

It is for models that have sites `mu`, `user` and `item` with the deterministic parts `A`, `a`, `B` and `b`, the part a
or b last in its block, and for guides with `posterior`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.sites import deterministic_sites
from ..inference.protocols import has_independent_blocks
from ..models.bilinear import Block, block_of
from .blocks import MAX_ROWS
from .reader import Reader

PARTS = {"user": ("A", "a"), "item": ("B", "b")}  # of each block site: factors, then bias


@dataclass(frozen=True, eq=False)
class Affine:
    """The map x -> matrix x + offset of blocks (factors, bias), float64."""

    matrix: Float[Tensor, "d d"]
    offset: Float[Tensor, " d"]

    def draws(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n d"]:
        """Draws of blocks in the frame."""
        return x @ self.matrix.numpy().T + self.offset.numpy()

    def moments(self, block: Block) -> Block:
        """Means and covariances of blocks in the frame."""
        cov = torch.diag_embed(block.cov) if block.factorised else block.cov
        return Block(block.mean @ self.matrix.T + self.offset, self.matrix @ cov @ self.matrix.T)


@dataclass(frozen=True, eq=False)
class Frame:
    """The canonical frame.

    Attributes:
        user: What to do with (A_i, a_i).
        item: What to do with (B_j, b_j).
        shift: What to add to mu.
        strength: Second moment of each factor, (r,), descending.
    """

    user: Affine
    item: Affine
    shift: float
    strength: Float[np.ndarray, " r"]


def has_factors(reader: Reader) -> bool:
    """Whether the canonical frame is for this fit."""
    fitted = reader.fitted
    trace = poutine.trace(fitted.model).get_trace(fitted.blank_batch())
    parts = {part for pair in PARTS.values() for part in pair}
    named = {"mu", *PARTS} <= set(reader.places) and parts <= set(deterministic_sites(trace))
    return named and has_independent_blocks(fitted.guide, fitted.blank_batch())


def canonical_frame(reader: Reader) -> Frame:
    """The canonical frame of a fit that `has_factors`; one pass over all rows."""
    user, item = _Sums(), _Sums()
    for block in user_blocks(reader):
        user.add(block)
    for block in item_blocks(reader):
        item.add(block)
    rotation, inverse, strength = _rotation(user.spread, item.spread)
    sign = _signs(inverse, torch.cat(item.means) - item.centre)
    c_user, c_item = user.centre, item.centre
    both = c_user[:-1] @ c_item[:-1]
    return Frame(
        _affine(sign[:, None] * rotation.T, c_item[:-1], c_user[:-1], c_user[-1] + both),
        _affine(sign[:, None] * inverse, c_user[:-1], c_item[:-1], c_item[-1] + both),
        float(c_user[-1] + c_item[-1] + both),
        strength.numpy(),
    )


def user_blocks(reader: Reader) -> Iterator[Block]:
    """Moments of (A_i, a_i) under the posterior, rows in order, some thousands at a time; float64, on the host."""
    for rows in np.array_split(np.arange(reader.fitted.n_rows), math.ceil(reader.fitted.n_rows / MAX_ROWS)):
        yield _double(block_posterior(reader, reader.batch(rows))["user"])


def item_blocks(reader: Reader) -> Iterator[Block]:
    """The same of (B_j, b_j)."""
    block = block_of(block_posterior(reader, reader.any_row())["item"])
    for mean, cov in zip(block.mean.split(MAX_ROWS), block.cov.split(MAX_ROWS), strict=True):
        yield Block(mean.double().cpu(), cov.double().cpu())


def block_posterior(reader: Reader, batch: RowBatch) -> dict[str, Distribution]:
    """The guide's independent blocks."""
    guide: Any = reader.fitted.guide
    found: dict[str, Distribution] = guide.posterior(batch)
    return found


def _double(q: Distribution) -> Block:
    return Block(*(x.double().cpu() for x in block_of(q)))


class _Sums:
    """Means of all blocks of a plate, and the sum of their second moments."""

    def __init__(self) -> None:
        self.means: list[Tensor] = []
        self.second = torch.zeros((), dtype=torch.float64)

    def add(self, block: Block) -> None:
        cov = torch.diag(block.cov.sum(0)) if block.factorised else block.cov.sum(0)
        self.means.append(block.mean)
        self.second = self.second + block.mean.T @ block.mean + cov

    @property
    def centre(self) -> Float[Tensor, " d"]:
        return torch.cat(self.means).mean(0)

    @property
    def spread(self) -> Float[Tensor, "r r"]:
        """Average second moment of the factors about their centre."""
        n = sum(map(len, self.means))
        return (self.second / n - torch.outer(self.centre, self.centre))[:-1, :-1]


def _rotation(
    user: Float[Tensor, "r r"], item: Float[Tensor, "r r"]
) -> tuple[Float[Tensor, "r r"], Float[Tensor, "r r"], Float[Tensor, " r"]]:
    """R, R^-1 and the diagonal D with R' user R = R^-1 item R^-T = D, descending."""
    size, axes = torch.linalg.eigh(user)
    root = size.clamp_min(size.max() * 1e-14).sqrt()  # user = L L' with L = axes * root
    squared, turn = torch.linalg.eigh((axes * root).T @ item @ (axes * root))
    squared, turn = squared.flip(0), turn.flip(1)
    strength = squared.clamp_min(squared.max() * 1e-28).sqrt()
    rotation = (axes / root) @ turn * strength.sqrt()
    inverse = (turn / strength.sqrt()).T @ (axes * root).T
    return rotation, inverse, strength


def _signs(inverse: Float[Tensor, "r r"], centred: Float[Tensor, "n d"]) -> Float[Tensor, " r"]:
    """The sign of each factor's largest mean among the columns."""
    means = centred[:, :-1] @ inverse.T
    largest = means.gather(0, means.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest < 0, -1.0, 1.0).double()


def _affine(
    turn: Float[Tensor, "r r"], other: Float[Tensor, " r"], centre: Float[Tensor, " r"], bias: Float[Tensor, ""]
) -> Affine:
    """Factors turned about their centre; the bias takes the factors' product with the other side's centre."""
    matrix = torch.block_diag(turn, torch.ones(1, 1, dtype=torch.float64))
    matrix[-1, :-1] = other
    return Affine(matrix, torch.cat([-turn @ centre, -bias[None]]))
