"""Likelihoods of rows, against dense distributions and by sampling."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from hypothesis import given
from platewise.data import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.models import LIKELIHOODS, GaussianRows, MultinomialRows, RowLikelihood

from ..sparse_strategies import as_batch, matrices, some
from .likelihood_rows import NAMES, OF_EACH_ENTRY, a_batch, parameters_of, value_and_gradients, valued, with_values


@OF_EACH_ENTRY
@pytest.mark.parametrize("per_column", [True, False])
@some
@given(matrices().map(as_batch))
def test_values_and_gradients_are_those_of_the_dense_distribution(name, per_column, batch):
    batch = valued(batch, name)
    leaves = [x.requires_grad_() for x in parameters_of(name, (len(batch.rows), batch.n_cols), per_column)]
    rows = LIKELIHOODS[name](batch, *leaves)
    expected = value_and_gradients(rows.dense().log_prob(batch.dense()), leaves)
    for value in (batch.value, batch.dense()):
        for got, want in zip(value_and_gradients(rows.log_prob(value), leaves), expected, strict=True):
            torch.testing.assert_close(got, want, atol=1e-9, rtol=1e-9)


@some
@given(matrices().map(as_batch))
def test_multinomial_rows_are_multinomials_of_each_row(batch):
    batch = valued(batch, "multinomial")
    logits = torch.randn(len(batch.rows), batch.n_cols).requires_grad_()
    each = zip(batch.dense(), logits, strict=True)
    log_prob = torch.stack([dist.Multinomial(int(x.sum()), logits=of_row).log_prob(x) for x, of_row in each])
    expected = value_and_gradients(log_prob, [logits])
    for value in (batch.value, batch.dense()):
        got = value_and_gradients(MultinomialRows(batch, logits).log_prob(value), [logits])
        torch.testing.assert_close(got, expected, atol=1e-9, rtol=1e-9)


def test_a_multinomial_share_of_one_leaves_finite_figures():
    batch = RowBatch(torch.tensor([0]), torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([5.0, 0.0]), 1, 3)
    logits = torch.tensor([[0.0, -torch.inf, -torch.inf]], requires_grad=True)
    rows = MultinomialRows(batch, logits, validate_args=False)
    value, (gradient,) = value_and_gradients(rows.log_prob(batch.value), [logits])
    assert (value.item(), gradient.abs().sum().item()) == (0, 0)
    assert rows.mean.tolist() == [[5, 0, 0]]
    assert rows.variance.tolist() == [[0, 0, 0]]


def test_multinomial_rows_of_one_total_have_a_dense_form():
    batch = with_values(a_batch(), torch.tensor([2.0, 1.0, 0.0, 3.0, 0.0]))
    with pytest.raises(PlatewiseError, match="one total, got 2 totals"):
        MultinomialRows(batch, torch.randn(3, 4)).dense()
    full = RowBatch(torch.arange(2), torch.tensor([0, 1, 3]), torch.tensor([2, 0, 3]), torch.tensor([3.0, 1, 2]), 2, 4)
    rows = MultinomialRows(full, torch.randn(2, 4))
    torch.testing.assert_close(rows.log_prob(full.value), rows.dense().log_prob(full.dense()))
    torch.testing.assert_close(rows.variance, rows.dense().variance)


@NAMES
@pytest.mark.parametrize("per_column", [True, False])
def test_gradients_are_right(name, per_column):
    batch = a_batch(name)
    leaves = [x.requires_grad_() for x in parameters_of(name, (2, 3, 4), per_column)]
    assert torch.autograd.gradcheck(lambda *x: LIKELIHOODS[name](batch, *x).log_prob(batch.value), leaves)


@NAMES
@pytest.mark.parametrize("per_column", [True, False])
def test_particles_are_scored_one_by_one(name, per_column):
    batch = a_batch(name)
    first, *rest = parameters_of(name, (5, 3, 4), per_column)
    rows = LIKELIHOODS[name](batch, first, *rest)
    assert rows.batch_shape == (5, 3)
    assert rows.event_shape == (4,)
    expected = torch.stack([LIKELIHOODS[name](batch, x, *rest).log_prob(batch.value) for x in first])
    torch.testing.assert_close(rows.log_prob(batch.value), expected)
    torch.testing.assert_close(rows.log_prob(batch.dense()), expected)
    expanded = LIKELIHOODS[name](batch, first[0], *rest).expand((5, 3))
    assert expanded.mean.shape == expanded.variance.shape == expanded.sample().shape == (5, 3, 4)
    torch.testing.assert_close(expanded.log_prob(batch.value), expected[:1].expand(5, 3))


@pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "gaussian"])
def test_particles_may_be_in_any_parameter(name):
    batch = a_batch(name)
    parameters = parameters_of(name, (3, 4), per_column=False)
    *first, last = parameters
    got = LIKELIHOODS[name](batch, *first, last.expand(2, 3, 4)).log_prob(batch.value)
    torch.testing.assert_close(got, LIKELIHOODS[name](batch, *parameters).log_prob(batch.value).expand(2, 3))


@NAMES
@pytest.mark.parametrize("b", [1, 3])
def test_rows_without_entries_are_rows_of_zeros(name, b):
    none = torch.zeros(0, dtype=torch.long)
    batch = RowBatch(torch.arange(b), torch.zeros(b + 1, dtype=torch.long), none, torch.zeros(0), b, 4)
    leaves = [x.requires_grad_() for x in parameters_of(name, (2, b, 4))]
    rows = LIKELIHOODS[name](batch, *leaves)
    expected = torch.zeros(2, b) if name == "multinomial" else rows.dense().log_prob(torch.zeros(2, b, 4))
    got = value_and_gradients(rows.log_prob(batch.value), leaves)
    torch.testing.assert_close(got[0], expected)
    assert all(x.isfinite().all() for x in got)
    assert rows.sample((3,)).shape == (3, 2, b, 4)


@NAMES
def test_draws_have_the_moments(name):
    batch = a_batch(name)
    rows = LIKELIHOODS[name](batch, *parameters_of(name, (3, 4)))
    n = 40_000
    draws = rows.sample((n,))
    assert draws.shape == (n, 3, 4)
    error = (rows.variance / n).sqrt()
    assert ((draws.mean(0) - rows.mean).abs() <= 5 * error + 1e-12).all()
    deviation = (draws - rows.mean).square()
    spread = 6 * deviation.std(0) / math.sqrt(n)  # a standard error that is itself estimated
    assert ((deviation.mean(0) - rows.variance).abs() <= spread + 1e-12).all()
    assert rows.log_prob(draws[:7]).shape == (7, 3)
    if name != "multinomial":
        torch.testing.assert_close(rows.log_prob(draws[:7]), rows.dense().log_prob(draws[:7]))


@NAMES
def test_multinomial_totals_and_supports_hold_for_draws(name):
    batch = a_batch(name)
    draws = LIKELIHOODS[name](batch, *parameters_of(name, (2, 3, 4))).sample((6,))
    if name == "multinomial":
        torch.testing.assert_close(draws.sum(-1), batch.dense().sum(-1).expand(6, 2, 3))
    assert LIKELIHOODS[name](batch, *parameters_of(name, (2, 3, 4))).support.check(draws).all()


def test_parameters_are_checked_under_validation_alone():
    batch = a_batch("gaussian")
    with pytest.raises(ValueError, match="scale"):
        GaussianRows(batch, torch.zeros(3, 4), torch.tensor(-1.0))
    with pyro.validation_enabled(False):
        GaussianRows(batch, torch.full((3, 4), torch.nan), torch.tensor(1.0)).log_prob(batch.value)


def test_one_number_serves_all_columns():
    batch = a_batch("gaussian")
    mean = torch.randn(3, 4)
    one, each = (GaussianRows(batch, mean, scale) for scale in (torch.tensor(0.7), torch.full((4,), 0.7)))
    torch.testing.assert_close(one.log_prob(batch.value), each.log_prob(batch.value))


def test_every_likelihood_says_what_it_is():
    assert all(issubclass(kind, RowLikelihood) and kind.__doc__ for kind in LIKELIHOODS.values())
