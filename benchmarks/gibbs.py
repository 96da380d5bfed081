"""Gibbs sampling of the latent factor model with missing entries: the reference that guides are judged by.

The model is that of `platewise.models.LatentFactor`: given the rest, all rows' blocks (A_i, a_i) are independent
normals, so are all columns' blocks and the grand mean, and each is drawn exactly. Two kinds of runs (`gibbs_chains`):

- scales held fixed, at those of a fit: the very posterior that the fit's guide approximates;
- scales learned, with priors InverseGamma(1/2, 1/2) on each variance (in squared units of the entries), as the diagonal
  of the Wishart priors of Bayesian probabilistic matrix factorization has them: uncertainty of the scales included.

After the blocks a constant is moved between biases and the grand mean, drawn from its own conditional: predictions
stay as they are, and the grand mean mixes in a few sweeps instead of hundreds.

References:
    Salakhutdinov and Mnih (2008), Bayesian probabilistic matrix factorization using Markov chain Monte Carlo.
    Liu and Sabatti (2000), Generalised Gibbs sampler and multigrid Monte Carlo (moves along a group).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from platewise.data.compiled import Array, compiled
from platewise.inference.entries import Entries, entries_of
from platewise.inference.moments import Moments, Sums, unpack
from platewise.inference.row_compiled import CompiledRows
from torch import Tensor

SHAPE, RATE = 0.5, 0.5  # of the inverse gammas


class Cells(NamedTuple):
    """Some entries: row, column and value of each."""

    row: Array
    col: Array
    value: Array


@dataclass(frozen=True)
class Ratings:
    """Training entries by rows, by columns, and one by one in the order of the rows."""

    rows: Entries
    cols: Entries
    cells: Cells


class State(NamedTuple):
    """One draw: grand mean, blocks (n, d) of both sides, bias last, and scales named as by `LatentFactor.scales()`."""

    mu: float
    user: Tensor
    item: Tensor
    scales: dict[str, Tensor]


def ratings_of(matrix: sp.csr_matrix) -> Ratings:
    """A matrix of stored entries; rows or columns without any have the prior for a posterior."""
    csr = matrix.astype(np.float64)
    rows, cols = entries_of(csr, csr.shape[1]), entries_of(csr.tocsc(), csr.shape[0])
    row = np.repeat(np.arange(csr.shape[0], dtype=np.int32), np.diff(csr.indptr))
    return Ratings(rows, cols, Cells(row, csr.indices, csr.data))


def prior_draw(ratings: Ratings, scales: dict[str, Tensor], rng: np.random.Generator) -> State:
    """Latents from their prior."""
    sizes = {"user": ratings.rows.n_rows, "item": ratings.rows.n_cols}
    blocks = {name: scales[name] * _normal(rng, n, len(scales[name])) for name, n in sizes.items()}
    return State(float(scales["mu"]) * rng.standard_normal(), blocks["user"], blocks["item"], scales)


def sweep(
    state: State,
    ratings: Ratings,
    rng: np.random.Generator,
    learned: frozenset[str] = frozenset(),
    prior: tuple[float, float] = (SHAPE, RATE),
) -> State:
    """Draw everything once, each given the rest."""
    scales = state.scales
    user = draw_blocks(ratings.rows, state.item, state.mu, scales["user"], scales["noise"], rng)
    item = draw_blocks(ratings.cols, user, state.mu, scales["item"], scales["noise"], rng)
    state = draw_mean(state._replace(user=user, item=item), ratings, rng)
    for side in ("user", "item"):
        state = shift_bias(state, side, rng)
    return draw_scales(state, ratings, rng, learned, prior)


def draw_blocks(
    entries: Entries, other: Tensor, mu: float, scale: Tensor, noise: Tensor, rng: np.random.Generator
) -> Tensor:
    """Blocks of all rows given the other side's: Normal(P^-1 h, P^-1), P = diag(scale^-2) + X'X / noise^2.

    X has a line (B_j, 1) for each entry of the row, and h = X'(y - mu - b) / noise^2.
    """
    (m, d), still = other.shape, torch.zeros_like(other)
    table = CompiledRows(Moments(other, still, Sums(m, still.new_zeros(d), still.new_zeros(d, d), 0.0), True))
    gram, target = table.sums(entries, 0, entries.n_rows)
    precision = unpack(gram, d) / noise**2 + torch.diag(scale**-2)
    pull = (target - mu * gram[:, -d:]) / noise**2  # the last of the packed sums are those of (B, 1)
    lower = torch.linalg.cholesky(precision)
    white = torch.linalg.solve_triangular(lower, pull[..., None], upper=False)
    white += _normal(rng, *white.shape)
    return torch.linalg.solve_triangular(lower.mT, white, upper=True)[..., 0]


def draw_mean(state: State, ratings: Ratings, rng: np.random.Generator) -> State:
    """The grand mean given both sides."""
    left = (ratings.cells.value - expectations(state._replace(mu=0.0), ratings.cells)).sum()
    noise, precision = float(state.scales["noise"]) ** -2, float(state.scales["mu"]) ** -2
    precision += noise * len(ratings.cells.value)
    return state._replace(mu=rng.normal(noise * left / precision, precision**-0.5))


def shift_bias(state: State, side: str, rng: np.random.Generator) -> State:
    """Move a constant from the biases of a side into the grand mean; no prediction changes."""
    block: Tensor = getattr(state, side)
    of_mu, of_bias = float(state.scales["mu"]) ** -2, float(state.scales[side][-1]) ** -2
    precision = of_mu + len(block) * of_bias
    pull = of_bias * float(block[:, -1].sum()) - of_mu * state.mu
    constant = rng.normal(pull / precision, precision**-0.5)
    moved: dict[str, Any] = {side: torch.cat([block[:, :-1], block[:, -1:] - constant], 1)}
    return state._replace(mu=state.mu + constant, **moved)


def draw_scales(
    state: State, ratings: Ratings, rng: np.random.Generator, learned: frozenset[str], prior: tuple[float, float]
) -> State:
    """Standard deviations given the rest, where learned."""
    scales = dict(state.scales)
    for side in sorted(learned & {"user", "item"}):  # a set has another order in each process
        block: Tensor = getattr(state, side)
        scales[side] = _scale(block.square().sum(0), len(block), rng, prior)
    if "noise" in learned:
        error = torch.from_numpy(ratings.cells.value - expectations(state, ratings.cells))
        scales["noise"] = _scale(error.square().sum(), len(error), rng, prior)
    return state._replace(scales=scales)


def _scale(squares: Tensor, n: int, rng: np.random.Generator, prior: tuple[float, float]) -> Tensor:
    rate = prior[1] + squares / 2
    return (rate / torch.from_numpy(np.asarray(rng.gamma(prior[0] + n / 2, size=rate.shape)))).sqrt()


def expectations(state: State, at: Cells) -> Array:
    """What some entries are expected to be: mu + a_i + b_j + A_i . B_j."""
    out = np.empty(len(at.value))
    _expect(state.mu, state.user.numpy(), state.item.numpy(), at.row, at.col, out)
    return out


@compiled
def _expect(mu: float, user: Array, item: Array, row: Array, col: Array, out: Array) -> None:
    last = user.shape[1] - 1
    for e in range(len(out)):
        u, v = user[row[e]], item[col[e]]
        total = mu + u[last] + v[last]
        for k in range(last):
            total += u[k] * v[k]
        out[e] = total


def _normal(rng: np.random.Generator, *shape: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape))
