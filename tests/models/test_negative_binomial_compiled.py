"""The compiled negative binomial (float32 on the CPU) against the one in tensors (float64)."""

import math

import pytest
import torch
from platewise.data import RowBatch
from platewise.models import NegativeBinomialRows
from platewise.models.count_rows import NegativeBinomialShares


def rows_of_counts(n_rows: int, n_cols: int, rate: float) -> RowBatch:
    """Counts at a third of the places, a stored zero and an empty row among them."""
    dense = torch.poisson(torch.full((n_rows, n_cols), rate)) + 1
    stored = torch.rand(n_rows, n_cols) < 0.3
    stored[1] = False
    crow = torch.cat([torch.zeros(1, dtype=torch.long), stored.sum(1).cumsum(0)])
    value = dense[stored].float()
    value[0] = 0
    return RowBatch(torch.arange(n_rows), crow, stored.nonzero()[:, 1], value, n_rows, n_cols)


def both(batch: RowBatch, log_mean: torch.Tensor, log_theta: torch.Tensor, weight: torch.Tensor) -> None:
    """Compare values and gradients of a weighted sum of rows."""
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.float().to(dtype).requires_grad_() for x in (log_mean, log_theta)]
        log_prob = NegativeBinomialRows(batch, *leaves).log_prob(batch.value)
        assert (log_prob.dtype, log_prob.shape) == (dtype, log_mean.shape[:-1])
        results.append([log_prob, *torch.autograd.grad((weight.to(dtype) * log_prob).sum(), leaves)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rate", [0.7, 30.0, 3000.0])
@pytest.mark.parametrize("n_rows", [2, 70])
def test_one_dispersion_per_column(n_rows, rate):
    batch = rows_of_counts(n_rows, 13, rate)
    log_mean, log_theta = torch.randn(n_rows, 13) + math.log(rate), 2 * torch.randn(13)
    both(batch, log_mean, log_theta, torch.rand(n_rows))


def test_one_dispersion_per_entry():
    batch = rows_of_counts(70, 13, 5.0)
    both(batch, torch.randn(70, 13), 2 * torch.randn(70, 13), torch.rand(70))


def test_particles_and_parameters_that_are_not_contiguous():
    batch = rows_of_counts(40, 13, 5.0)
    log_mean = torch.randn(13, 40, 3).movedim((0, 1, 2), (2, 1, 0))
    both(batch, log_mean, torch.randn(13), torch.rand(3, 40))


def test_dispersions_of_particles():
    batch = rows_of_counts(40, 13, 5.0)
    both(batch, torch.randn(3, 40, 13), torch.randn(3, 40, 13), torch.rand(3, 40))


def test_the_answer_does_not_depend_on_the_number_of_threads():
    batch, before = rows_of_counts(200, 50, 3.0), torch.get_num_threads()
    log_mean, results = torch.randn(200, 50, dtype=torch.float32), []
    for n_threads in (1, 2):
        torch.set_num_threads(n_threads)
        log_theta = torch.zeros(50, dtype=torch.float32, requires_grad=True)
        log_prob = NegativeBinomialRows(batch, log_mean, log_theta).log_prob(batch.value)
        results.append((log_prob.detach(), torch.autograd.grad(log_prob.sum(), log_theta)[0]))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_means_that_are_not_numbers_or_out_of_range():
    crow, col = torch.tensor([0, 1, 2, 3, 4, 4, 5]), torch.tensor([0, 1, 2, 3, 1])
    batch = RowBatch(torch.arange(6), crow, col, torch.ones(5), 6, 5)
    log_mean = torch.zeros(6, 5)
    log_mean[2, 1], log_mean[3, 2], log_mean[4, 0], log_mean[5, 1] = torch.nan, 200.0, -200.0, torch.nan
    rows = [
        NegativeBinomialRows(batch, log_mean.to(d), torch.zeros(5, dtype=d), validate_args=False)
        for d in (torch.float32, torch.float64)
    ]
    got, want = (r.log_prob(batch.value) for r in rows)
    assert got.isnan().tolist() == [False, False, True, False, False, True]
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5, equal_nan=True)


def test_gradients_at_the_ends_of_float32():
    batch = rows_of_counts(40, 6, 2.0)
    both(batch, torch.full((40, 6), 85.0), torch.full((6,), -9.0), torch.full((40,), 1e-30))


def test_parameters_of_two_precisions():
    batch = rows_of_counts(40, 6, 2.0)
    log_mean, log_theta = torch.randn(40, 6, dtype=torch.float32), torch.randn(6).float()
    same = NegativeBinomialRows(batch, log_mean, log_theta).log_prob(batch.value)
    mixed = NegativeBinomialRows(batch, log_mean, log_theta.double()).log_prob(batch.value)
    torch.testing.assert_close(mixed, same)


def test_what_is_not_a_count_has_no_probability():
    batch = rows_of_counts(30, 4, 1.0)
    parameters = torch.zeros(30, 4, dtype=torch.float32), torch.zeros(4)
    rows = NegativeBinomialRows(batch, *parameters, validate_args=False)
    for no_count in (batch.value + 0.5, -batch.value - 1):
        assert torch.equal(rows.log_prob(no_count) == -math.inf, batch.crow.diff() > 0)


@pytest.mark.parametrize("per_entry", [False, True])
@pytest.mark.parametrize("even", [False, True])
def test_means_as_shares_of_sizes(per_entry, even):
    batch = rows_of_counts(70, 13, 5.0)
    logits, log_size = torch.randn(2, 70, 13), 3 + torch.randn(2, 70)
    log_theta = torch.randn(2, 70, 13) if per_entry else torch.randn(13)
    weight = torch.full((2, 70), 0.3) if even else torch.rand(2, 70)
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [x.float().to(dtype).requires_grad_() for x in (logits, log_size, log_theta)]
        rows = NegativeBinomialShares(batch, *leaves)
        log_prob = rows.log_prob(batch.value)
        same = NegativeBinomialRows(batch, leaves[0].log_softmax(-1) + leaves[1][..., None], leaves[2])
        torch.testing.assert_close(log_prob, same.log_prob(batch.value), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows.mean, same.mean)
        results.append([log_prob, *torch.autograd.grad((weight.to(dtype) * log_prob).sum(), leaves)])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=3e-5)


def test_shares_expand_to_particles():
    batch = rows_of_counts(6, 4, 2.0)
    rows = NegativeBinomialShares(batch, torch.randn(6, 4), torch.randn(6), torch.zeros(4))
    dense = batch.dense().expand(3, 6, 4)
    torch.testing.assert_close(rows.log_prob(dense), rows.log_prob(batch.value).expand(3, 6))
