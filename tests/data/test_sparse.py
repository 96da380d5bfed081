import torch
from hypothesis import given, settings
from platewise.data.sparse import _transpose_on_cpu, _transpose_on_device
from torch.autograd import gradcheck

from ..sparse_strategies import batches, some


@some
@given(batches)
def test_products_are_those_of_the_dense_matrix(batch):
    dense, n_cols = batch.dense(), batch.n_cols
    x, y = torch.randn(n_cols, 3), torch.randn(len(batch.rows), 3)
    torch.testing.assert_close(batch.sparse.matrix(batch.value) @ x, dense @ x)
    torch.testing.assert_close(batch.sparse.transposed(batch.value) @ y, dense.mT @ y)


@some
@given(batches)
def test_sums_over_columns_weigh_each_entry(batch):
    x = torch.randn(batch.n_cols, 2, requires_grad=True)
    torch.testing.assert_close(batch.sparse.sum_over_cols(x, batch.value), batch.dense() @ x)
    ones = torch.zeros_like(batch.dense()).index_put((batch.row, batch.col), torch.ones(()))
    torch.testing.assert_close(batch.sparse.sum_over_cols(x), ones @ x)


@some
@given(batches)
def test_dots_are_those_of_each_entrys_pair(batch):
    u, v = torch.randn(len(batch.rows), 3), torch.randn(batch.n_cols, 3)
    expected = (u[batch.row] * v[batch.col]).sum(-1)
    torch.testing.assert_close(batch.sparse.dots(u, v, batch.row), expected)


@settings(deadline=None, max_examples=6)
@given(batches)
def test_gradients_are_right(batch):
    u = torch.randn(len(batch.rows), 2, requires_grad=True)
    v = torch.randn(batch.n_cols, 2, requires_grad=True)
    assert gradcheck(lambda v: batch.sparse.sum_over_cols(v, batch.value), (v,))
    if len(batch.value):
        assert gradcheck(lambda u, v: batch.sparse.dots(u, v, batch.row), (u, v))
        assert gradcheck(lambda u: batch.at_rows(u), (u,))
        assert gradcheck(lambda v: batch.at_cols(v), (v,))


@some
@given(batches)
def test_both_ways_to_transpose_agree(batch):
    (starts, rows, order), (starts_, rows_, order_) = (
        transpose(batch.sparse) for transpose in (_transpose_on_cpu, _transpose_on_device)
    )
    assert starts.tolist() == starts_.tolist()
    for a, b in zip(starts.tolist(), starts.tolist()[1:], strict=False):  # the order within a column is free
        assert sorted(zip(rows[a:b].tolist(), order[a:b].tolist(), strict=True)) == sorted(
            zip(rows_[a:b].tolist(), order_[a:b].tolist(), strict=True)
        )


@some
@given(batches)
def test_nothing_is_made_dense(batch):
    """The largest tensor kept for sums has one number an entry, or one a row or column."""
    sizes = [x.numel() for x in (batch.sparse.crow, batch.sparse.col, *batch.sparse._by_column)]
    assert max(sizes) <= max(len(batch.value), len(batch.rows) + 1, batch.n_cols + 1)
