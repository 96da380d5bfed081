"""The model of whole rows, zeros not stored included: its closed form against dense arrays, and against draws."""

import math
from functools import cache
from itertools import product

import anndata as ad
import numpy as np
import pyro
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from platewise.data import PlatewiseError, RowBatch, make_ratings, mark
from platewise.data.sites import observed_sites
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import svi
from platewise.inference.elbo import ClosedFormELBO
from platewise.models import LatentFactor
from platewise.models.bilinear import Block, block_of, shifted
from platewise.models.observed_zeros import expected_squared_error_of_cells
from pyro import poutine
from torch import Tensor, nn

from ..guides.set_blocks import perturb
from ..sparse_strategies import as_batch, batches, some
from .brute_force import brute_force, random_block

FAMILIES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
FULL = pytest.mark.parametrize(("user_full", "item_full"), list(product([False, True], repeat=2)))
N_ROWS, N_COLS, RANK = 60, 12, 2


@cache
def counts() -> ad.AnnData:
    """Log counts of rank two, most of them zero and not stored."""
    rng = np.random.default_rng(0)
    rate = np.exp(rng.normal(size=(N_ROWS, RANK)) @ rng.normal(size=(RANK, N_COLS)) - 1.5)
    x = sp.csr_matrix(np.log1p(rng.poisson(rate)))
    return mark(make_ratings(x, np.arange(N_ROWS), np.arange(N_COLS)), unstored="zero")


def _batch(n: int = N_ROWS) -> RowBatch:
    return as_batch(sp.csr_matrix(counts().X[:n].astype(np.float64)), N_ROWS)


def _made(family: type) -> tuple[LatentFactor, nn.Module]:
    model, guide = LatentFactor(RANK, unstored="zero"), family()
    guide.setup(model, RowBatch.blank(N_ROWS, N_COLS), model.initialise(_batch()))
    perturb(guide)
    return model, guide


@FULL
@some
@given(batches)
def test_the_sum_over_cells_is_that_of_brute_force(user_full, item_full, batch):
    user, item, centre = (
        random_block(len(batch.rows), user_full),
        random_block(batch.n_cols, item_full),
        torch.randn(()),
    )
    means, variances = brute_force(user, item)
    expected = ((batch.dense() - centre - means) ** 2 + variances).sum()
    got = expected_squared_error_of_cells(batch, centre, user, item)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-10)


@FULL
def test_gradients_of_the_sum_are_right(user_full, item_full):
    batch = as_batch(sp.csr_matrix(np.array([[0.0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 0, 1]])))
    leaves = tuple(x.requires_grad_() for x in (*random_block(3, user_full), *random_block(4, item_full)))

    def error(*parts: Tensor) -> Tensor:
        return expected_squared_error_of_cells(batch, torch.tensor(0.7), Block(*parts[:2]), Block(*parts[2:]))

    assert torch.autograd.gradcheck(error, leaves)


@FAMILIES
def test_the_closed_form_is_that_of_brute_force_and_is_never_dense(family, monkeypatch):
    (model, guide), batch = _made(family), _batch(20)
    dense = batch.dense()
    monkeypatch.setattr(RowBatch, "dense", lambda _: pytest.fail("dense"))
    with torch.no_grad():
        q = guide.posterior(batch)
        means, variances = brute_force(shifted(block_of(q["user"]), block_of(q["mu"])), block_of(q["item"]))
        squares = (dense - means) ** 2 + variances
        expected = (-0.5 * squares / model.sigma**2 - model.sigma.log() - 0.5 * math.log(2 * math.pi)).sum()
        torch.testing.assert_close(model.expected_log_likelihood(batch, q), expected, atol=1e-10, rtol=1e-10)


@FAMILIES
def test_the_closed_form_holds_in_single_precision(family):
    (model, guide), batch = _made(family), _batch()
    with torch.no_grad():
        expected = model.expected_log_likelihood(batch, guide.posterior(batch))
        single = batch.to("cpu", torch.float32)
        got = model.float().expected_log_likelihood(single, guide.float().posterior(single))
    torch.testing.assert_close(got.double(), expected, atol=0, rtol=1e-5)


@FAMILIES
@pytest.mark.parametrize("n", [N_ROWS, 20])
def test_the_bound_is_the_mean_of_draws(family, n):
    (model, guide), batch = _made(family), _batch(n)
    with torch.no_grad(), pyro.plate("particles", 4000, dim=-2):
        q = poutine.trace(guide).get_trace(batch)
        p = poutine.trace(poutine.replay(model, q)).get_trace(batch)
    draws = _log_joint(p) - _log_joint(q)
    error = draws.std() / len(draws) ** 0.5
    assert abs(draws.mean() - ClosedFormELBO(model, guide)(batch)) < 4.5 * error


def _log_joint(trace: poutine.Trace) -> Tensor:
    """Log-probability of each particle, as `Trace_ELBO` scales it."""
    trace.compute_log_prob()
    parts = [site["log_prob"] for site in trace.nodes.values() if "log_prob" in site]
    return sum(x.flatten(1).sum(1) for x in parts if x.ndim)


@FAMILIES
def test_the_bound_rises_in_a_fit(family):
    for likelihood in ("closed-form", "sampled"):
        model = LatentFactor(RANK, unstored="zero")
        fitted = svi.fit(model, family(), counts(), epochs=8, likelihood=likelihood, progress=False)
        assert fitted.history["elbo"].iloc[-1] > fitted.history["elbo"].iloc[0]


def test_whole_rows_are_observed():
    trace = poutine.trace(LatentFactor(RANK, unstored="zero")).get_trace(_batch(20))
    (site,) = observed_sites(trace).values()
    assert site["name"] == "value"
    assert torch.equal(site["value"], _batch(20).dense())
    assert site["fn"].log_prob(site["value"]).shape == (20,)
    assert site["scale"] == N_ROWS / 20


def test_scales_start_from_the_spread_of_all_cells():
    model, dense = LatentFactor(RANK, unstored="zero"), _batch().dense()
    starts = model.initialise(_batch())
    torch.testing.assert_close(starts["mu"], (dense.mean(), dense.std(correction=0)))
    torch.testing.assert_close(model.sigma, 0.7 * dense.std(correction=0))


def test_moments_of_a_stored_entry_do_not_hang_on_the_others():
    (model, guide), batch = _made(RowBlockNormal), _batch()
    other = LatentFactor(RANK)
    other.load_state_dict(model.state_dict())
    q = guide.posterior(batch)
    for got, expected in zip(model.predictive_moments(batch, q), other.predictive_moments(batch, q), strict=True):
        assert torch.equal(got, expected)


def test_data_that_mean_otherwise_are_refused():
    with pytest.raises(PlatewiseError, match=r"Expected ratings .* got counts"):
        svi.fit(LatentFactor(RANK), MeanFieldNormal(), counts(), progress=False)
