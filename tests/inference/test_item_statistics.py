"""What rows say of columns: sums over all of them, and estimates from some."""

from itertools import combinations

import numpy as np
import pytest
import torch
from platewise.data import RowLoader
from platewise.data.loader import MemoryRows
from platewise.inference.bound import Residual
from platewise.inference.entries import batch_matrix
from platewise.inference.item_statistics import Tally
from platewise.inference.moments import Moments, sums_of, unpack
from platewise.inference.row_update import Given, Half
from torch import Tensor

from .small_factors import FAMILIES, block_of, random_fit, random_moments, small_matrix

N, M, D = 7, 6, 3
CENTRE = 0.5
MATRIX = small_matrix(N, M, share=0.4, seed=2)
MATRIX.data[MATRIX.indices == 5] = 0
MATRIX.eliminate_zeros()  # a column without entries
COUNT = torch.tensor(MATRIX.getnnz(0), dtype=torch.float64)
PRECISION, PULL = (torch.tensor(x, dtype=torch.float64) for x in ([1.0, 2.0, 3.0], [0.1, 0.0, -0.2]))
GIVEN = Given(PRECISION.diag(), PULL, 2.5, 0.3)
LIKE = torch.zeros(0, dtype=torch.float64)
EXACT = {"atol": 1e-9, "rtol": 1e-9}


@pytest.fixture(params=[True, False], ids=["factorised", "block"])
def users(request):
    """Blocks of all rows."""
    return random_moments(N, D, request.param)


def _add(tally: Tally, users: Moments, rows: object, weight: float = 1.0) -> None:
    at = np.sort(np.asarray(list(rows)))
    matrix = batch_matrix(RowLoader(MemoryRows(MATRIX), N, dtype=torch.float64).batch(at), CENTRE)
    mean, cov = users.mean[at], users.cov[at]
    part = Moments(mean, cov, sums_of(mean, cov, users.factorised), users.factorised)
    n = len(matrix.rows.value)
    tally.add(matrix, part, Residual(n, 2.0 * n, 0.5 * n), weight)


def _tally(users: Moments, *blocks: object) -> Tally:
    tally = Tally.empty(M, D, "cpu")
    for rows in blocks:
        _add(tally, users, rows)
    return tally


def _natural(tally: Tally) -> tuple[Tensor, Tensor]:
    """Natural parameters of the columns' full covariances: linear in the sums."""
    moments = tally.items(COUNT, GIVEN, LIKE, False).moments
    precision = torch.linalg.inv(unpack(moments.cov, D))
    return precision, (precision @ moments.mean[:, :, None])[:, :, 0]


def test_the_sums_of_all_rows_by_brute_force(users):
    tally, block, dense = _tally(users, range(N)), block_of(users), MATRIX.toarray()
    full = torch.diag_embed(block.cov) if users.factorised else block.cov
    for j in range(M):
        gram, rhs = torch.zeros(D, D), torch.zeros(D)
        for i in np.flatnonzero(dense[:, j]):
            x = torch.cat([block.mean[i, :-1], torch.ones(1)])  # factors, and one for the column's bias
            gram += torch.outer(x, x)
            gram[:-1, :-1] += full[i, :-1, :-1]
            rhs += x * (dense[i, j] - CENTRE - block.mean[i, -1])
            rhs[:-1] -= full[i, :-1, -1]
        torch.testing.assert_close(unpack(tally.gram, D)[j], gram, **EXACT)
        torch.testing.assert_close(tally.rhs[j], rhs, **EXACT)
    assert torch.equal(tally.count, COUNT)


@pytest.mark.parametrize("blocks", [[range(4), range(4, N)], [[i] for i in range(N)], [[5, 0, 3], [1, 2, 4, 6]]])
def test_blocks_of_rows_add_up_to_all(users, blocks):
    apart, whole = _tally(users, *blocks), _tally(users, range(N))
    for name, got in vars(apart).items():
        torch.testing.assert_close(got, getattr(whole, name), **EXACT)


def test_weights_and_decay(users):
    tally = Tally.empty(M, D, "cpu")
    _add(tally, users, [0, 2, 3], 0.5)
    tally.decay(0.4)
    _add(tally, users, [1, 4, 5, 6], 0.6)
    parts = [_tally(users, rows) for rows in ([0, 2, 3], [1, 4, 5, 6])]
    for name, got in vars(tally).items():
        one, two = (getattr(part, name) for part in parts)
        torch.testing.assert_close(got, 0.2 * one + 0.6 * two, **EXACT)


def test_the_weight_of_all_rows_does_not_matter_to_the_columns(users):
    light = Tally.empty(M, D, "cpu")
    _add(light, users, range(N), 0.01)
    whole = _tally(users, range(N))
    for got, expected in zip(_natural(light), _natural(whole), strict=True):
        torch.testing.assert_close(got, expected, **EXACT)
    n = int(COUNT.sum())
    for got, expected in zip(light.users(N), whole.users(N), strict=True):
        torch.testing.assert_close(got, expected, **EXACT)
    assert light.residual(n).square == pytest.approx(2.0 * n)
    assert light.residual(n).total == pytest.approx(0.5 * n)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_columns_estimate_is_unbiased(users, size):
    """The mean, over all blocks of so many rows that have an entry of it, is what all rows say."""
    expected, sums, n = _natural(_tally(users, range(N))), [torch.zeros(M, D, D), torch.zeros(M, D)], torch.zeros(M)
    for rows in combinations(range(N), size):
        tally = _tally(users, rows)
        seen = tally.count > 0
        n += seen
        for total, found in zip(sums, _natural(tally), strict=True):
            total[seen] += found[seen]
    for total, full in zip(sums, expected, strict=True):
        mean = total[COUNT > 0] / n[COUNT > 0].reshape(-1, *(1,) * (total.ndim - 1))
        torch.testing.assert_close(mean, full[COUNT > 0], **EXACT)


@pytest.mark.parametrize("size", [2, 4])
def test_sums_over_rows_are_unbiased(users, size):
    whole = _tally(users, range(N)).users(N)
    found = [_tally(users, rows).users(N) for rows in combinations(range(N), size)]
    assert {sums.n for sums in found} == {N}
    torch.testing.assert_close(torch.stack([sums.first for sums in found]).mean(0), whole.first, **EXACT)
    torch.testing.assert_close(torch.stack([sums.second for sums in found]).mean(0), whole.second, **EXACT)
    assert np.mean([sums.logdet for sums in found]) == pytest.approx(whole.logdet)


def test_columns_that_no_row_has_seen_have_the_prior(users):
    tally = _tally(users, [1])  # the row without entries
    assert not tally.count.any()
    moments = tally.items(COUNT, GIVEN, LIKE, False).moments
    cov = torch.linalg.inv(GIVEN.precision)
    torch.testing.assert_close(unpack(moments.cov, D), cov.expand(M, D, D), **EXACT)
    torch.testing.assert_close(moments.mean, (cov @ GIVEN.pull).expand(M, D), **EXACT)
    last = _tally(users, range(N)).items(COUNT, GIVEN, LIKE, True).moments
    torch.testing.assert_close(last.mean[5], cov @ GIVEN.pull, **EXACT)
    torch.testing.assert_close(last.cov[5], cov.diagonal(), **EXACT)


@pytest.mark.parametrize("family", FAMILIES)
def test_from_all_rows_come_the_exact_update_and_its_residual(family):
    """In parts, and whatever they were centred on; rows that say nothing say nothing."""
    _, _, state = random_fit(family)
    loader, tally = RowLoader(MemoryRows(small_matrix()), 11, dtype=torch.float64), Tally.empty(14, 3, "cpu")
    state.update_users()
    all_users = state.users
    for batch in loader.in_order():
        at = batch.rows
        mean, cov = all_users.mean[at], all_users.cov[at]
        part = Moments(mean, cov, sums_of(mean, cov, state.factorised), state.factorised)
        tally.add(batch_matrix(batch, state.mu.centre), part, Residual(len(batch.value), 0.0, 0.0))
    half: Half = tally.items(tally.count, state.given_items(), state.items.mean, state.factorised)
    state.update_items()
    torch.testing.assert_close(half.moments.mean, state.items.mean, **EXACT)
    torch.testing.assert_close(half.moments.cov, state.items.cov, **EXACT)
    found = tally.residual_under(half)
    assert found.n == state.residual.n
    assert found.square == pytest.approx(state.residual.square, rel=1e-9)
    assert found.total == pytest.approx(state.residual.total, abs=1e-8)
