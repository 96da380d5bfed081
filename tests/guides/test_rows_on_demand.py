"""Guides that hold no rows: what they keep, how they find a batch's blocks, and what they cannot do."""

import pyro
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.inference.rebuild import described, rebuild
from platewise.models import LatentFactor
from pyro import poutine
from torch import Tensor

FAMILIES = [MeanFieldNormal, RowBlockNormal]
N, M, D = 1000, 6, 3


def _moments(batch: RowBatch, factorised: bool) -> tuple[Tensor, Tensor]:
    """Blocks that tell rows apart."""
    at = batch.rows.double()[:, None] / N
    root = 0.1 * torch.ones(D, D).tril() + torch.eye(D)
    cov = (1 + at[:, :, None]) * (root @ root.T)
    return at + torch.arange(D), cov.diagonal(dim1=1, dim2=2) if factorised else cov


def _guide(family: type, n: int = N, rank: int = 2) -> NormalGuide:
    guide = family(hold_rows=False)
    guide.setup(LatentFactor(rank), RowBatch.blank(n, M))
    guide.recompute = lambda batch: _moments(batch, guide.factorised)
    return guide


def _batch(*rows: int, n: int = N) -> RowBatch:
    none = torch.zeros(0, dtype=torch.long)
    return RowBatch(torch.tensor(rows), torch.zeros(len(rows) + 1, dtype=torch.long), none, torch.zeros(0), n, M)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_it_keeps_grows_with_the_rows(family):
    small, large = (sum(x.numel() for x in _guide(family, n).state_dict().values()) for n in (10, 10**7))
    assert small == large
    assert len(_guide(family).tables["user"].weight) == 0
    assert len(_guide(family).tables["item"].weight) == M


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_are_those_that_it_is_told(family):
    guide, batch = _guide(family), _batch(4, 900, 17)
    q, (mean, cov) = guide.posterior(batch)["user"], _moments(batch, guide.factorised)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance if guide.factorised else q.covariance_matrix, cov)


@pytest.mark.parametrize("family", FAMILIES)
def test_in_single_precision(family):
    """Factorised in float64: in float32 these covariances have no factor, whichever they are on this processor."""
    guide, batch = _guide(family).float(), _batch(1, 2)
    x = torch.randn(1000, D, generator=torch.Generator().manual_seed(0))
    cov = (x[:, :, None] * x[:, None, :] + 1e-7 * torch.eye(D)).float()
    without, without_in_double = (torch.linalg.cholesky_ex(c)[1] > 0 for c in (cov, cov.double()))
    cov = cov[without & ~without_in_double][:2]
    assert len(cov) == 2
    cov = cov.diagonal(dim1=1, dim2=2) if guide.factorised else cov
    guide.recompute = lambda batch: (torch.ones(2, D).float(), cov)
    q = guide.posterior(batch)["user"]
    assert q.mean.dtype == torch.float32
    torch.testing.assert_close(q.variance if guide.factorised else q.covariance_matrix, cov, rtol=1e-5, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_samples_the_batchs_rows_in_their_plate(family):
    guide, batch = _guide(family), _batch(4, 900, 17)
    trace = poutine.trace(guide).get_trace(batch)
    assert trace.nodes["user"]["value"].shape == (3, D)
    assert [(f.name, f.size) for f in trace.nodes["user"]["cond_indep_stack"]] == [("users", 3)]
    assert trace.nodes["user"]["scale"] == pytest.approx(N / 3)
    with pyro.plate("particles", 5, dim=-2):
        assert guide(batch)["user"].shape == (5, 3, D)


@pytest.mark.parametrize("family", FAMILIES)
def test_columns_and_globals_are_held(family):
    guide = _guide(family)
    mean, cov = guide.blocks("item", slice(2, 4))
    guide.set_blocks("item", mean + 1, cov, slice(2, 4))
    torch.testing.assert_close(guide.blocks("item", slice(2, 4))[0], mean + 1)
    assert (guide.n_blocks("user"), guide.n_blocks("item"), guide.n_blocks("mu")) == (N, M, 1)


@pytest.mark.parametrize("at", [slice(None), slice(0, 3), torch.tensor([1])])
def test_rows_are_neither_read_nor_written(at):
    guide, message = _guide(RowBlockNormal), "holds, got 'user' of one made with hold_rows=False. Take those of a batch"
    with pytest.raises(PlatewiseError, match=message):
        guide.blocks("user", at)
    with pytest.raises(PlatewiseError, match=message):
        guide.set_blocks("user", torch.zeros(N, D), torch.eye(D).expand(N, D, D))


def test_a_guide_that_nothing_has_fitted_says_what_to_do():
    guide = _guide(RowBlockNormal)
    guide.recompute = None
    message = "blocks of 'user', which this guide does not hold, got none. Fit it by natural_gradient, or make it with"
    for call in (guide, guide.posterior):
        with pytest.raises(PlatewiseError, match=message):
            call(_batch(1))


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(PlatewiseError, match="Expected a matrix with 1000 rows, for which the guide was made, got one"):
        _guide(RowBlockNormal).posterior(_batch(1, n=7))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("spread", [torch.nan, -1.0])
def test_moments_of_no_normal_are_refused(family, spread):
    guide = _guide(family)
    cov = torch.full((1, D), spread)
    guide.recompute = lambda batch: (torch.zeros(1, D), cov if guide.factorised else torch.diag_embed(cov))
    with pytest.raises(PlatewiseError, match="positive definite covariances for 'user', got others"):
        guide.posterior(_batch(1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("hold_rows", [True, False])
def test_it_is_made_again_as_it_was(family, hold_rows):
    made = rebuild(described(family(hold_rows=hold_rows)), "guide")
    assert type(made) is family
    assert made.hold_rows is hold_rows
