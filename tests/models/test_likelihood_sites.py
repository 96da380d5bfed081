"""Likelihoods of rows as sites of Pyro programs, and what they say to mistakes."""

import re

import pyro
import pytest
import torch
from platewise.data import RowBatch
from platewise.data.errors import PlatewiseError
from platewise.models import LIKELIHOODS, BernoulliRows, MultinomialRows, NegativeBinomialRows, PoissonRows
from pyro import poutine

from .likelihood_rows import NAMES, a_batch, parameters_of


class _Rows(torch.nn.Module):
    """x_i ~ the likelihood, given its parameters."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.parameters_ = name, parameters_of(name, (3, 4))

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("cells"):
            pyro.sample("count", LIKELIHOODS[self.name](batch, *self.parameters_), obs=batch.value)


@NAMES
@pytest.mark.parametrize("validate", [True, False])
def test_in_a_model_the_log_density_is_scaled_by_the_plate_and_by_handlers(name, validate):
    batch, model = a_batch(name), _Rows(name)
    expected = LIKELIHOODS[name](batch, *model.parameters_).log_prob(batch.value)
    with pyro.validation_enabled(validate):
        trace = poutine.trace(poutine.scale(model, scale=0.5)).get_trace(batch)
        trace.compute_log_prob()
    site = trace.nodes["count"]
    assert site["log_prob"].shape == (3,)
    torch.testing.assert_close(site["log_prob"], expected * 0.5 * 9 / 3)
    assert "count" in trace.format_shapes()


@NAMES
def test_a_particle_plate_expands_the_rows(name):
    batch, model = a_batch(name), _Rows(name)
    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(model).get_trace(batch)
    trace.compute_log_prob()
    assert trace.nodes["count"]["log_prob"].shape == (5, 3)


@NAMES
def test_unconditioned_a_model_draws_dense_rows(name):
    batch, model = a_batch(name), _Rows(name)
    trace = poutine.trace(poutine.uncondition(model)).get_trace(batch)
    assert trace.nodes["count"]["value"].shape == (3, 4)
    trace.compute_log_prob()
    assert trace.nodes["count"]["log_prob"].isfinite().all()


WRONG = {
    "columns": (lambda b: PoissonRows(b, torch.zeros(3, 5)), "log_rate of shape (..., 3, 4), got (3, 5)"),
    "no rows": (lambda b: PoissonRows(b, torch.zeros(4)), "log_rate of shape (..., 3, 4), got (4,)"),
    "rows": (lambda b: BernoulliRows(b, torch.zeros(2, 4)), "logits of shape (..., 3, 4), got (2, 4)"),
    "dispersion": (
        lambda b: NegativeBinomialRows(b, torch.zeros(3, 4), torch.zeros(3)),
        "log_inverse_dispersion of shape (..., 3, 4) or (4,), got (3,)",
    ),
    "particles": (
        lambda b: NegativeBinomialRows(b, torch.zeros(2, 3, 4), torch.zeros(5, 3, 4)),
        "the same particles, got log_mean (2, 3, 4), log_inverse_dispersion (5, 3, 4)",
    ),
    "values": (lambda b: PoissonRows(b, torch.zeros(3, 4)).log_prob(torch.zeros(7)), "5 stored values or a dense"),
    "dense": (lambda b: PoissonRows(b, torch.zeros(3, 4)).log_prob(torch.zeros(3, 6)), "(..., 3, 4), got shape (3, 6)"),
    "dense rows": (lambda b: PoissonRows(b, torch.zeros(3, 4)).log_prob(torch.zeros(2, 4)), "got shape (2, 4)"),
    "dense particles": (
        lambda b: PoissonRows(b, torch.zeros(2, 3, 4)).log_prob(torch.zeros(5, 3, 4)),
        "got shape (5, 3, 4)",
    ),
    "fractions": (lambda b: PoissonRows(b, torch.zeros(3, 4)).log_prob(b.value + 0.5), "counts (whole numbers"),
    "binary": (lambda b: BernoulliRows(b, torch.zeros(3, 4)).log_prob(b.value), "values that are 1 or 0, got 2"),
    "totals": (lambda b: MultinomialRows(b, torch.zeros(3, 4)).log_prob(b.value + 1), "totals of the batch's rows"),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_one_line(call, message):
    with pytest.raises(PlatewiseError, match=re.escape(message)) as caught:
        call(a_batch())
    assert "\n" not in str(caught.value)
