"""Small matrices, blocks and fits in progress on which exact updates are tried."""

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from platewise.data import RowBatch, RowLoader, mark
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.inference.entries import matrix_of
from platewise.inference.factor_modules import read_state
from platewise.inference.factor_state import FactorState
from platewise.inference.moments import Moments, pack, sums_of, unpack
from platewise.models import LatentFactor
from platewise.models.bilinear import Block
from torch import Tensor

from ..guides.set_blocks import perturb
from ..models.brute_force import brute_force

FAMILIES = [MeanFieldNormal, RowBlockNormal]
MEANINGS = ["missing", "zero"]
GIVEN = {  # settings of the model: which scales are learned
    "learned": {},
    "given": {"sigma": 0.7, "user_scale": [0.4, 0.9, 0.5], "item_scale": 0.6},
    "items given": {"item_scale": [0.8, 0.3, 0.5]},
    "noise given": {"sigma": 0.5},
}


def small_matrix(n: int = 30, m: int = 14, share: float = 0.5, seed: int = 0) -> sp.csr_matrix:
    """Two strong factors, biases and noise; some cells, every column with one at least, row 1 with none."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(size=(n, 2)) @ rng.normal(size=(2, m)) + rng.normal(size=(n, 1)) + rng.normal(size=m) + 3
    stored = rng.random((n, m)) < share
    stored[0], stored[1] = True, False
    row, col = np.nonzero(stored)
    value = mean[row, col] + 0.5 * rng.normal(size=len(row))
    return sp.csr_matrix((value.astype(np.float32), (row, col)), (n, m))


def container(matrix: sp.csr_matrix, unstored: str = "missing") -> ad.AnnData:
    """A matrix with names, marked with what its gaps mean."""
    data = ad.AnnData(sp.csr_matrix(matrix, dtype=np.float32))
    return mark(data, unstored=unstored)


def whole(matrix: sp.csr_matrix, dtype: torch.dtype = torch.float64) -> RowBatch:
    """All rows as one batch, in order."""
    return next(RowLoader(MemoryRows(matrix), matrix.shape[0], dtype=dtype).in_order())


def random_moments(n: int, d: int, factorised: bool, dtype: torch.dtype = torch.float64) -> Moments:
    """Blocks of random means, and covariances or variances around 0.3."""
    mean, root = torch.randn(n, d), 0.5 * torch.randn(n, d, d) / d**0.5
    full = root @ root.mT + 0.1 * torch.eye(d)
    cov = full.diagonal(dim1=1, dim2=2) if factorised else pack(full)
    mean, cov = mean.to(dtype), cov.to(dtype).contiguous()
    return Moments(mean, cov, sums_of(mean, cov, factorised), factorised)


def random_fit(
    family: type, unstored: str = "missing", seed: int = 0, *, rank: int = 2, **given: object
) -> tuple[LatentFactor, NormalGuide, FactorState]:
    """A model, a guide with random blocks, and the state that they are in, in float64."""
    torch.manual_seed(seed)
    matrix = small_matrix(seed=seed)
    model, guide = LatentFactor(rank, unstored=unstored, **given), family()
    guide.setup(model, whole(matrix), model.initialise(whole(matrix)))
    perturb(guide, 0.5)
    data = matrix_of(MemoryRows(matrix), unstored == "zero", "cpu", torch.float64)
    with torch.no_grad():
        return model, guide, read_state(model, guide, data)


def block_of(moments: Moments) -> Block:
    """The same blocks with their covariances written out."""
    return Block(moments.mean, moments.cov if moments.factorised else unpack(moments.cov, moments.mean.shape[1]))


def predictions(state: FactorState) -> tuple[Tensor, Tensor]:
    """Mean and variance of every pair's a + b + A . B, with the grand mean, of a fit of rank 2 that is settled."""
    mean, variance = brute_force(block_of(state.users), block_of(state.items))
    return mean + state.mu.mean + state.mu.centre, variance + state.mu.variance
