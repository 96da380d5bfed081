import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from platewise.data import PlatewiseError, RowBatch
from pyro import poutine

from ..sparse_strategies import as_batch, batches, matrices, some

FEW = RowBatch(
    rows=torch.tensor([4, 1, 7]),
    crow=torch.tensor([0, 2, 2, 5]),
    col=torch.tensor([0, 3, 1, 2, 3]),
    value=torch.tensor([1.0, 0.0, 2.0, 3.0, 4.0], dtype=torch.float64),
    n_rows=12,
    n_cols=4,
    covariates={"x": torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64), "code": torch.tensor([2, 0, 1])},
)


@some
@given(matrices())
def test_dense_is_what_scipy_says(matrix):
    np.testing.assert_array_equal(as_batch(matrix).dense().numpy(), matrix.toarray())


@some
@given(batches)
def test_every_entry_knows_its_row(batch):
    expected = np.repeat(np.arange(len(batch.rows)), batch.crow.diff().numpy())
    np.testing.assert_array_equal(batch.row.numpy(), expected)


@some
@given(batches)
def test_at_rows_and_at_cols_are_indexing_with_its_gradient(batch):
    for pick, index, n in ((batch.at_rows, batch.row, len(batch.rows)), (batch.at_cols, batch.col, batch.n_cols)):
        for shape, event_dim in (((n,), 0), ((2, n), 0), ((n, 3), 1), ((2, n, 3), 1), ((n, 2, 2), 2)):
            x = torch.randn(shape, requires_grad=True)
            dim = -1 - event_dim
            got, expected = pick(x, event_dim), x.index_select(dim, index)
            assert torch.equal(got, expected)
            weight = torch.randn(expected.shape)
            (ours,), (theirs,) = (torch.autograd.grad((y * weight).sum(), x) for y in (got, expected))
            torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_scale_is_rows_in_the_plate_per_row_in_the_batch():
    assert FEW.scale == 4.0


@pytest.mark.parametrize("n_entries", [0, 5])
def test_entries_have_the_rows_scale_whatever_their_number(n_entries):
    value = torch.zeros(n_entries)
    batch = RowBatch(FEW.rows, torch.tensor([0, 0, 0, n_entries]), torch.arange(n_entries), value, 12, 6)

    def model():
        with batch.entries("ratings"):
            pyro.sample("rating", dist.Normal(torch.tensor(1.0), 1.0), obs=value)

    site = poutine.trace(model).get_trace().nodes["rating"]
    assert site["scale"] == 4.0
    assert site["fn"].batch_shape == (n_entries,)
    assert site["cond_indep_stack"][0].size == n_entries


def test_row_plate_has_the_rows_and_their_scale():
    def model():
        with FEW.row_plate("users"):
            pyro.sample("a", dist.Normal(0.0, 1.0))

    trace = poutine.trace(model).get_trace()
    assert torch.equal(trace.nodes["users"]["value"], FEW.rows)
    assert trace.nodes["a"]["scale"] == 4.0
    assert trace.nodes["a"]["value"].shape == (3,)


def test_col_plate_is_whole():
    def model():
        with FEW.col_plate("items"):
            pyro.sample("b", dist.Normal(0.0, 1.0))

    site = poutine.trace(model).get_trace().nodes["b"]
    assert site["scale"] == 1.0
    assert site["value"].shape == (4,)


def test_entries_inside_a_row_plate_are_refused():
    def model():
        with FEW.row_plate("users"), FEW.entries("ratings"):
            pass

    with pytest.raises(PlatewiseError, match=r"'ratings' outside any row plate.*Close the row plate first"):
        model()


def test_no_plate_stays_open_after_a_refusal():
    with pytest.raises(PlatewiseError), FEW.row_plate("users"), FEW.entries("ratings"):
        pass
    with FEW.entries("ratings"):
        pass


def test_moving_changes_floats_and_leaves_indices():
    moved = FEW.to("cpu", torch.float32)
    assert moved.value.dtype == moved.covariates["x"].dtype == torch.float32
    assert moved.covariates["code"].dtype == moved.rows.dtype == moved.col.dtype == torch.int64
    assert (moved.n_rows, moved.n_cols) == (12, 4)
    assert FEW.value.dtype == torch.float64


def test_moving_to_another_device_moves_everything():
    moved = FEW.to("meta")
    tensors = (moved.rows, moved.crow, moved.col, moved.value, *moved.covariates.values(), moved.cols, moved.index)
    assert {x.device.type for x in tensors} == {"meta"}


def test_a_blank_batch_has_one_row_and_one_entry():
    blank = RowBatch.blank(10, 5, {"x": torch.ones(1, 2)})
    assert (len(blank.rows), len(blank.value), blank.n_rows, blank.n_cols) == (1, 1, 10, 5)
    assert blank.covariates["x"].shape == (1, 2)
