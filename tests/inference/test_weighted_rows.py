"""The weighted update of rows against entries written out, and the kernel of errors against tensors."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.inference.entries import Entries, entries_of
from platewise.inference.moments import Moments
from platewise.inference.row_update import Given, table_of, update_rows
from platewise.inference.weighted_rows import LineErrors, _batched_errors, _errors, update_weighted_rows
from torch import Tensor

from ..models.brute_force import brute_force
from .small_factors import block_of, random_moments, small_matrix

FACTORISED = pytest.mark.parametrize("factorised", [False, True])
GIVEN = Given(torch.eye(3, dtype=torch.float64) * 2, torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64), 1.7, 0.4)


def _entries(matrix: sp.csr_matrix) -> Entries:
    return entries_of(sp.csr_matrix(matrix, dtype=np.float64), matrix.shape[1])


def _setting(factorised: bool) -> tuple[sp.csr_matrix, Moments, Tensor, Tensor]:
    matrix = small_matrix()
    return matrix, random_moments(14, 3, factorised), torch.rand(30) + 0.5, torch.rand(14) + 0.5


@FACTORISED
def test_weights_of_one_change_nothing(factorised):
    matrix, columns, of_rows, of_cols = _setting(factorised)
    plain = update_rows(_entries(matrix), table_of(columns), GIVEN, columns.mean, factorised)
    ones = torch.ones_like(of_rows), torch.ones_like(of_cols)
    half, lines = update_weighted_rows(_entries(matrix), columns, GIVEN, *ones, factorised)
    assert torch.equal(half.moments.mean, plain.moments.mean)
    assert torch.equal(half.moments.cov, plain.moments.cov)
    torch.testing.assert_close(lines.weight, torch.from_numpy(np.diff(matrix.indptr)).double())


@FACTORISED
def test_a_whole_weight_is_that_many_entries(factorised):
    """Weights of two are every entry twice, whose columns are known all alike."""
    matrix, columns, of_rows, of_cols = _setting(factorised)
    twice = Given(GIVEN.precision, GIVEN.pull, 2 * GIVEN.tau, GIVEN.mu)
    expected = update_rows(_entries(matrix), table_of(columns), twice, columns.mean, factorised)
    for weights in ((2 * torch.ones_like(of_rows), torch.ones_like(of_cols)),
                    (torch.ones_like(of_rows), 2 * torch.ones_like(of_cols))):  # fmt: skip
        half, _ = update_weighted_rows(_entries(matrix), columns, GIVEN, *weights, factorised)
        torch.testing.assert_close(half.moments.mean, expected.moments.mean)
        torch.testing.assert_close(half.moments.cov, expected.moments.cov)


@FACTORISED
def test_what_remains_is_that_of_every_entry_written_out(factorised):
    matrix, columns, of_rows, of_cols = _setting(factorised)
    half, lines = update_weighted_rows(_entries(matrix), columns, GIVEN, of_rows, of_cols, factorised)
    mean, variance = brute_force(block_of(half.moments), block_of(columns))
    stored = torch.from_numpy(matrix.toarray() != 0)
    weight = stored * of_cols
    away = torch.from_numpy(matrix.toarray()).double() - mean
    torch.testing.assert_close(lines.weight, weight.sum(1))
    torch.testing.assert_close(lines.total, (weight * away).sum(1))
    torch.testing.assert_close(lines.square, (weight * (away**2 + variance)).sum(1))
    errors = (weight * ((away - 0.4) ** 2 + variance + 0.05)).sum(1)
    torch.testing.assert_close(lines.errors(0.4, 0.05), errors)


def test_errors_are_not_below_zero():
    lines = LineErrors(torch.ones(1), torch.full((1,), 0.999_999_9), torch.ones(1))
    assert lines.errors(1.0, 0.0).item() == 0


@FACTORISED
@pytest.mark.parametrize("at", [(0, 30), (3, 17)])
def test_the_kernel_agrees_with_tensors(factorised, at):
    matrix, columns, of_rows, of_cols = _setting(factorised)
    entries, rows = _entries(matrix), random_moments(30, 3, factorised)
    bias, here = (columns.bias, columns.cov[:, -1].double(), of_cols), slice(*at)
    sums = table_of(columns).sums(entries, *at)
    found = (*sums, of_rows[here], rows.mean[here].contiguous(), rows.cov[here].contiguous())
    both = torch.zeros(2, 30, 3)
    for out, errors in zip(both, (_errors, _batched_errors), strict=True):
        errors(entries, bias, found, at, factorised, out)
    torch.testing.assert_close(both[0], both[1])
    assert (both[0].sum(1) != 0).sum() == at[1] - at[0] - (at[0] == 0)  # row 1 has no entries
