"""Affine maps of blocks, x -> T x - s, of their moments and of the sums over them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from .moments import Moments, Sums, pack, slices, unpack


class Affine(NamedTuple):
    """The map x -> matrix x - shift of blocks of one side; float64 on the host."""

    matrix: Float[Tensor, "d d"]
    shift: Float[Tensor, " d"]

    def after(self, first: Affine) -> Affine:
        """This map of what `first` gives."""
        return Affine(self.matrix @ first.matrix, self.matrix @ first.shift + self.shift)

    def of_sums(self, sums: Sums) -> Sums:
        """Sums over the mapped blocks."""
        first = self.matrix @ sums.first
        cross = torch.outer(first, self.shift)
        square = sums.n * torch.outer(self.shift, self.shift)
        second = self.matrix @ sums.second @ self.matrix.T - cross - cross.T + square
        logdet = sums.logdet + 2 * sums.n * float(torch.linalg.slogdet(self.matrix).logabsdet)
        return Sums(sums.n, first - sums.n * self.shift, second, logdet)

    def prior(self, variance: Float[Tensor, " d"]) -> tuple[Tensor, Tensor]:
        """Precision (d, d), and precision times mean (d,), of x where the mapped x is Normal(0, diag variance)."""
        weighted = self.matrix.T / variance
        return weighted @ self.matrix, weighted @ self.shift

    def of(self, moments: Moments) -> Moments:
        """Mapped blocks; factorised ones may only be shifted."""
        cov = moments.cov if moments.factorised else self.of_covariances(moments.cov)
        return Moments(self.of_means(moments.mean), cov, self.of_sums(moments.sums), moments.factorised)

    def of_means(self, mean: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Means of mapped blocks."""
        return mean @ self.matrix.T.to(mean) - self.shift.to(mean)

    def of_covariances(self, packed: Float[Tensor, "n p"]) -> Float[Tensor, "n p"]:
        """Packed covariances of mapped blocks."""
        d, matrix, mapped = len(self.shift), self.matrix.to(packed), torch.empty_like(packed)
        for at in slices(len(packed), d):
            half = unpack(packed[at], d) @ matrix.T
            mapped[at] = pack(half.mT.contiguous() @ matrix.T)
        return mapped


def identity(d: int) -> Affine:
    """The map that changes nothing."""
    return Affine(torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64))


class Frame(NamedTuple):
    """The frame that a fit's priors speak of, seen from the one that its blocks are stored in.

    Moves that leave every prediction unchanged map all blocks of both sides and shift the grand mean. They are kept
    here and blocks stay where they are; updates take the prior into the stored frame instead.

    Attributes:
        users: Map of the rows' stored blocks.
        items: Map of the columns' stored blocks.
        gain: What the grand mean is to gain.
    """

    users: Affine
    items: Affine
    gain: float = 0.0

    def after(self, first: Frame) -> Frame:
        """This move made after another."""
        maps = self.users.after(first.users), self.items.after(first.items)
        return Frame(*maps, self.gain + first.gain)


def at_rest(d: int) -> Frame:
    """The frame of blocks stored where the priors speak of them."""
    return Frame(identity(d), identity(d))
