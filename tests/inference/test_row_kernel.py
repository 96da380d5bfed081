"""The compiled update of rows against batches of tensors, and against dense matrices written out."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.inference.entries import Entries, entries_of
from platewise.inference.moments import Moments, pack, packed_size, unpack
from platewise.inference.row_batched import BatchedRows, solve_batched
from platewise.inference.row_compiled import CompiledRows, solve_compiled
from platewise.inference.row_kernel import TILE_BYTES, WIDTH
from platewise.inference.row_update import Given, Half, table_of, update_rows
from torch import Tensor

from .small_factors import block_of, random_moments, small_matrix

FACTORISED = pytest.mark.parametrize("factorised", [False, True])
PRECISIONS = pytest.mark.parametrize(("dtype", "exact"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])


def _entries(matrix: sp.csr_matrix, dtype: torch.dtype = torch.float64) -> Entries:
    kind = np.float64 if dtype == torch.float64 else np.float32
    return entries_of(sp.csr_matrix(matrix, dtype=kind), matrix.shape[1])


def _update(matrix: sp.csr_matrix, columns: Moments, given: Given, factorised: bool) -> Half:
    entries = _entries(matrix, columns.mean.dtype).to(columns.mean.device)
    return update_rows(entries, table_of(columns), given, columns.mean, factorised)


def _given(d: int) -> Given:
    """A prior that is neither diagonal nor at zero, as it is in a frame that has moved."""
    root = torch.randn(d, d) / d**0.5
    return Given(root @ root.mT + torch.eye(d), torch.randn(d), 1.7, 0.4)


def _dense_row(y: Tensor, mean: Tensor, cov: Tensor, given: Given) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gram matrix and right-hand side of one row, its posterior's precision, and its mean."""
    d = mean.shape[1]
    x = torch.cat([mean[:, :-1], torch.ones(len(mean), 1)], 1)
    gram, rhs = x.mT @ x, x.mT @ (y - mean[:, -1])
    gram[:-1, :-1] += cov[:, :-1, :-1].sum(0)
    rhs[:-1] -= cov[:, :-1, -1].sum(0)
    precision = given.tau * gram + given.precision
    found = torch.linalg.solve(precision, given.tau * (rhs - given.mu * gram[-1]) + given.pull)
    return gram, rhs, precision, found.reshape(d)


def _dense(matrix: sp.csr_matrix, columns: Moments, given: Given, factorised: bool) -> dict[str, Tensor]:
    """Everything that an update of rows returns, row by row in float64."""
    block = block_of(columns)
    cov = torch.diag_embed(block.cov) if columns.factorised else block.cov
    rows = []
    for i in range(matrix.shape[0]):
        j, y = torch.from_numpy(matrix[i].indices).long(), torch.from_numpy(matrix[i].data).double()
        gram, rhs, precision, mean = _dense_row(y, block.mean[j].double(), cov[j].double(), given)
        sigma = (1 / precision.diagonal()).diag() if factorised else torch.linalg.inv(precision)
        second = sigma + torch.outer(mean, mean)
        error, total = (gram * second).sum() - 2 * rhs @ mean, gram[-1] @ mean
        rows.append((gram, rhs, mean, sigma, second, sigma.logdet(), error, total))
    names = ("gram", "rhs", "mean", "cov", "second", "logdet", "error", "total")
    return {name: torch.stack(parts) for name, parts in zip(names, zip(*rows, strict=True), strict=True)}


def _close(got: Tensor | float, expected: Tensor, exact: float) -> None:
    """Check that two tensors agree, relative to the largest number in them."""
    got = torch.as_tensor(got).double()
    torch.testing.assert_close(got, expected, atol=exact * max(expected.abs().max().item(), 1.0), rtol=0)


def _compare(half: Half, expected: dict[str, Tensor], exact: float) -> None:
    moments = half.moments
    cov = block_of(moments).cov
    _close(moments.mean, expected["mean"], exact)
    _close(torch.diag_embed(cov) if moments.factorised else cov, expected["cov"], exact)
    _close(moments.sums.first, expected["mean"].sum(0), exact)
    _close(moments.sums.second, expected["second"].sum(0), exact)
    _close(moments.sums.logdet, expected["logdet"].sum(), exact)
    _close(half.error, expected["error"].sum(), exact)
    _close(half.total, expected["total"].sum(), exact)


@FACTORISED
@PRECISIONS
@pytest.mark.parametrize("rank", [1, 2, 7, 16])
def test_the_update_is_that_of_dense_matrices(rank, factorised, dtype, exact):
    """Rows without entries, with one and with all; a last group of rows that does not fill a vector."""
    matrix, d = small_matrix(37, 20), rank + 1
    columns, given = random_moments(20, d, factorised, dtype), _given(d)
    assert packed_size(d) % WIDTH
    half = _update(matrix, columns, given, factorised)
    assert half.moments.mean.dtype == half.moments.cov.dtype == dtype
    _compare(half, _dense(matrix, columns, given, factorised), exact)


@FACTORISED
@PRECISIONS
@pytest.mark.parametrize("rank", [1, 5, 11])
def test_sums_of_both_paths_are_those_of_dense_matrices(rank, factorised, dtype, exact):
    matrix, d = small_matrix(19, 12), rank + 1
    columns, given = random_moments(12, d, factorised, dtype), _given(d)
    expected = _dense(matrix, columns, given, factorised)
    for path in (CompiledRows, BatchedRows):
        for first, last in ((0, 19), (0, 2), (7, 19), (4, 4)):
            gram, rhs = path(columns).sums(_entries(matrix, dtype), first, last)
            assert gram.dtype == rhs.dtype == torch.float64
            torch.testing.assert_close(gram, pack(expected["gram"][first:last]), atol=50 * exact, rtol=exact)
            torch.testing.assert_close(rhs, expected["rhs"][first:last], atol=50 * exact, rtol=exact)


@FACTORISED
@PRECISIONS
@pytest.mark.parametrize("n", [1, 7, 8, 21])
def test_both_solvers_agree(n, factorised, dtype, exact):
    d, p = 6, packed_size(6)
    given, root = _given(d), torch.randn(n, d, 9)
    gram, rhs, found = pack(root @ root.mT), torch.randn(n, d), []
    for solver in (solve_compiled, solve_batched):
        mean, cov = torch.empty(n, d, dtype=dtype), torch.empty(n, d if factorised else p, dtype=dtype)
        found.append((solver(gram, rhs, *given, mean, cov, factorised), mean.double(), cov.double()))
    for one, other in zip(*found, strict=True):
        _close(one, other, min(exact, 1e-6))


@PRECISIONS
@pytest.mark.parametrize("share", [0.002, 0.3])
def test_more_columns_than_a_tile_holds(share, dtype, exact):
    """Sums break at tiles: rows with entries in all of them, in some, in one."""
    tile = TILE_BYTES // (WIDTH * torch.empty(0, dtype=dtype).element_size())
    m = 2 * tile + 100
    matrix = small_matrix(9, m, share).tolil()
    matrix[2, :] = 0
    matrix[2, [tile - 1, tile, 2 * tile]] = [1.0, 2.0, 3.0]
    matrix = sp.csr_matrix(matrix)
    matrix.eliminate_zeros()
    columns, given = random_moments(m, 3, False, dtype), _given(3)
    half = _update(matrix, columns, given, False)
    _compare(half, _dense(matrix, columns, given, False), exact)


@FACTORISED
def test_the_number_of_threads_changes_no_bit(factorised):
    matrix = small_matrix(300, 40)
    columns, given, before = random_moments(40, 9, factorised, torch.float32), _given(9), torch.get_num_threads()
    halves = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            halves.append(_update(matrix, columns, given, factorised))
    finally:
        torch.set_num_threads(before)
    for other in halves[1:]:
        assert torch.equal(halves[0].moments.mean, other.moments.mean)
        assert torch.equal(halves[0].moments.cov, other.moments.cov)
        assert torch.equal(halves[0].moments.sums.second, other.moments.sums.second)
        assert halves[0][1:] == other[1:]
        assert halves[0].moments.sums.logdet == other.moments.sums.logdet


@pytest.mark.parametrize("solver", [solve_compiled, solve_batched])
def test_a_precision_that_rounding_left_indefinite_is_nudged(solver):
    """The last pivot is below zero by less than the precision of float32."""
    gram = torch.tensor([[1.0, 1.0, 1.0 - 1e-9]])  # [[1, 1], [1, 1 - 1e-9]] and no prior
    mean, cov = torch.empty(1, 2, dtype=torch.float32), torch.empty(1, 3, dtype=torch.float32)
    none = torch.zeros(2, 2), torch.zeros(2)
    sums = solver(gram, torch.ones(1, 2), *none, 1.0, 0.0, mean, cov, False)
    assert sums.isfinite().all()
    assert mean.isfinite().all()
    assert torch.linalg.eigvalsh(unpack(cov, 2).double()).min() > -1e-3 * cov.max()


def test_a_row_without_entries_gets_its_prior():
    columns, given = random_moments(6, 3, False), _given(3)
    half = _update(sp.csr_matrix((1, 6)), columns, given, False)
    _close(unpack(half.moments.cov, 3)[0], torch.linalg.inv(given.precision), 1e-12)
    _close(half.moments.mean[0], torch.linalg.solve(given.precision, given.pull), 1e-12)
    assert half.error == half.total == 0
    assert math.isclose(half.moments.sums.logdet, -given.precision.logdet().item())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@FACTORISED
@PRECISIONS
def test_a_gpu_finds_the_same(factorised, dtype, exact):
    matrix = small_matrix(70, 30)
    columns, given = random_moments(30, 5, factorised, dtype), _given(5)
    expected = _dense(matrix, columns, given, factorised)
    columns = columns._replace(mean=columns.mean.cuda(), cov=columns.cov.cuda())
    there = Given(given.precision.cuda(), given.pull.cuda(), given.tau, given.mu)
    half = _update(matrix, columns, there, factorised)
    assert half.moments.mean.is_cuda
    moments = half.moments._replace(mean=half.moments.mean.cpu(), cov=half.moments.cov.cpu())
    _compare(half._replace(moments=moments), expected, exact)
