"""Rows from their entries alone: the exact update, and Bayesian linear regression where columns are all but known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from platewise.data import RowBatch, RowLoader
from platewise.data.loader import MemoryRows
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.inference.fold_in import fold_rows
from platewise.models import LatentFactor
from torch import Tensor

from .small_factors import FAMILIES, GIVEN, MEANINGS, block_of, random_fit, small_matrix, whole

MATRIX = small_matrix()
EXACT = {"atol": 1e-8, "rtol": 1e-8}


def _rows(*rows: int) -> RowBatch:
    return RowLoader(MemoryRows(MATRIX), 30, dtype=torch.float64).batch(np.array(rows))


def _assert_same(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], **tolerance: float) -> None:
    for x, y in zip(got, expected, strict=True):
        torch.testing.assert_close(x, y, **(EXACT | tolerance))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
@pytest.mark.parametrize("given", ["learned", "given"])
def test_it_is_the_rows_update_of_coordinate_ascent(family, unstored, given):
    model, guide, state = random_fit(family, unstored, **GIVEN[given])
    state.update_users()
    users = block_of(state.users)
    _assert_same(fold_rows(model, guide, whole(MATRIX)), (users.mean, users.cov))
    some = [29, 3, 1, 17]  # alone, in any order
    _assert_same(fold_rows(model, guide, _rows(*some)), (users.mean[some], users.cov[some]))


def _certain(family: type, unstored: str) -> tuple[LatentFactor, NormalGuide, Tensor]:
    """A model with given scales, a guide all but certain of columns and grand mean, and the columns."""
    model, guide = LatentFactor(2, unstored=unstored, **GIVEN["given"]), family()
    guide.setup(model, whole(MATRIX))
    items = torch.randn(14, 3)
    tiny = torch.full((14, 3), 1e-14)
    guide.set_blocks("item", items, tiny if guide.factorised else torch.diag_embed(tiny))
    guide.set_blocks("mu", torch.tensor([[1.5]]), torch.tensor([[1e-14]]))
    return model, guide, items


def _regression(items: Tensor, i: int, unstored: str) -> tuple[Tensor, Tensor]:
    """Mean and precision of row i: y - mu - b_j = (B_j, 1) . (A_i, a_i) + noise."""
    dense = torch.from_numpy(MATRIX.toarray()).double()[i]
    seen = torch.ones(14, dtype=torch.bool) if unstored == "zero" else dense != 0
    design = torch.cat([items[seen, :-1], torch.ones(int(seen.sum()), 1)], 1)
    target = dense[seen] - 1.5 - items[seen, -1]
    precision = design.T @ design / 0.7**2 + torch.diag(1 / torch.tensor([0.4, 0.9, 0.5]) ** 2)
    return torch.linalg.solve(precision, design.T @ target / 0.7**2), precision


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
def test_with_columns_known_it_is_bayesian_linear_regression(family, unstored):
    model, guide, items = _certain(family, unstored)
    mean, cov = fold_rows(model, guide, whole(MATRIX))
    for i in range(30):
        expected, precision = _regression(items, i, unstored)
        spread = 1 / precision.diagonal() if guide.factorised else torch.linalg.inv(precision)
        _assert_same((mean[i], cov[i]), (expected, spread))


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_without_entries_have_the_prior(family):
    model, guide, _ = random_fit(family)
    variance = model.scales()["user"] ** 2
    blank = RowBatch(torch.arange(2), torch.zeros(3, dtype=torch.long), torch.zeros(0).long(), torch.zeros(0), 30, 14)
    for batch, row in ((whole(MATRIX), 1), (_rows(1), 0), (blank, 0), (blank, 1)):
        mean, cov = fold_rows(model, guide, batch)
        spread = variance if guide.factorised else variance.diag()
        _assert_same((mean[row], cov[row]), (torch.zeros(3), spread))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
def test_the_order_of_entries_does_not_matter(family, unstored):
    model, guide, _ = random_fit(family, unstored)
    batch = whole(MATRIX)
    order = torch.cat([start + torch.randperm(n) for start, n in zip(batch.crow, batch.crow.diff(), strict=False)])
    mixed = replace(batch, col=batch.col[order], value=batch.value[order])
    assert not torch.equal(mixed.col, batch.col)
    _assert_same(fold_rows(model, guide, mixed), fold_rows(model, guide, batch))


def test_only_columns_with_entries_are_read():
    model, guide, _ = random_fit(RowBlockNormal)
    batch = _rows(2, 5)
    expected = fold_rows(model, guide, batch)
    unused = np.setdiff1d(np.arange(14), batch.col)
    assert len(unused)
    guide.tables["item"].weight.data[unused] = 7.0
    _assert_same(fold_rows(model, guide, batch), expected)


def test_other_rows_and_their_table_do_not_matter():
    model, guide, _ = random_fit(RowBlockNormal)
    expected = fold_rows(model, guide, whole(MATRIX))
    guide.tables["user"].weight.data.fill_(torch.nan)
    _assert_same(fold_rows(model, guide, whole(MATRIX)), expected)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
def test_in_single_precision_it_is_the_same_but_for_rounding(family, unstored):
    model, guide, _ = random_fit(family, unstored)
    expected = fold_rows(model, guide, whole(MATRIX))
    found = fold_rows(model.float(), guide.float(), whole(MATRIX, torch.float32))
    assert {x.dtype for x in found} == {torch.float32}
    _assert_same([x.double() for x in found], expected, atol=1e-4, rtol=1e-4)


def test_what_it_finds_has_no_gradient():
    model, guide, _ = random_fit(MeanFieldNormal)
    assert not any(x.requires_grad for x in fold_rows(model, guide, whole(MATRIX)))
