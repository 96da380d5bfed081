"""Moves that leave every prediction as it is and raise the bound: translation and rotation.

*Translation*: the means of A and B move into b and a (A . B = (A - s) . B + s . B), those of a and b into mu, each by
the shift that is best for the bound at the scales as they are: a small linear system.

*Rotation*: A R' and B R^-1 in place of A and B. With scales learned per factor the best bound is that of any R which
makes both second moments diagonal (Hadamard's inequality); of those, the R that makes them equal. Afterwards factors
stand in the order of their strength.

Both are affine maps of blocks, x -> T x - s. They create covariances within blocks, so factorised blocks allow only
the shift of a and b into mu.

References:
    Luttinen and Ilin (2010), Transformations in variational Bayesian factor analysis to speed up learning.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .affine import Affine, Frame, identity
from .moments import Sums

RELATIVE_FLOOR = 1e-14  # of the eigenvalues of second moments, relative to the largest


def into_bias(
    one: Sums, other: Sums, one_variance: Float[Tensor, " d"], other_variance: Float[Tensor, " d"]
) -> tuple[Affine, Affine]:
    """Move the means of one side's factors into the other side's biases, by the shift that is best for the bound.

    The shift s minimises sum |A_i - s|^2 / kappa_A^2 + sum (b_j + s . B_j)^2 / kappa_b^2.
    """
    moved, taken = identity(len(one_variance)), identity(len(one_variance))
    prior = 1 / one_variance[:-1]
    system = one.n * prior.diag() + other.second[:-1, :-1] / other_variance[-1]
    shift = torch.linalg.solve(system, prior * one.first[:-1] - other.second[:-1, -1] / other_variance[-1])
    moved.shift[:-1] = shift
    taken.matrix[-1, :-1] = shift
    return moved, taken


def into_mean(users: Sums, items: Sums, variances: tuple[Tensor, Tensor, float], mean: float) -> Frame:
    """Move the means of both sides' biases into the grand mean, by the shifts that are best for the bound.

    Args:
        users: Sums of the rows' blocks.
        items: Sums of the columns' blocks.
        variances: Prior variances of rows, columns and grand mean.
        mean: The grand mean's posterior mean, its centre included.

    """
    of_user, of_item, of_mean = float(variances[0][-1]), float(variances[1][-1]), variances[2]
    system = torch.full((2, 2), 1 / of_mean, dtype=torch.float64)
    system += torch.tensor([users.n / of_user, items.n / of_item], dtype=torch.float64).diag()
    target = torch.stack([users.first[-1] / of_user, items.first[-1] / of_item]) - mean / of_mean
    shifts = torch.linalg.solve(system, target)
    maps = [identity(len(users.first)) for _ in range(2)]
    for to, by in zip(maps, shifts, strict=True):
        to.shift[-1] = by
    return Frame(maps[0], maps[1], float(shifts.sum()))


def rotation(users: Sums, items: Sums) -> Frame:
    """Turn the factors so that both sides' mean second moments are diagonal, equal, and in descending order."""
    root, inverse = _root(users.second[:-1, :-1] / users.n)
    strength, turn = torch.linalg.eigh(root.T @ (items.second[:-1, :-1] / items.n) @ root)
    strength, turn = strength.flip(0), turn.flip(1)
    quarter = strength.clamp_min(RELATIVE_FLOOR**2 * strength[0]) ** 0.25
    of_users, of_items = identity(len(users.first)), identity(len(items.first))
    of_users.matrix[:-1, :-1] = quarter[:, None] * (turn.T @ inverse)
    of_items.matrix[:-1, :-1] = (turn.T @ root.T) / quarter[:, None]
    return Frame(of_users, of_items)


def _root(second: Float[Tensor, "r r"]) -> tuple[Tensor, Tensor]:
    """A square root C of a second moment, C C' = second, and its inverse."""
    values, vectors = torch.linalg.eigh(second)
    root = values.clamp_min(RELATIVE_FLOOR * values[-1]).sqrt()
    return vectors * root, vectors.T / root[:, None]
