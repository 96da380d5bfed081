"""Moments of blocks, read and written: what is written is what is read, and what is sampled."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.models import LatentFactor
from torch import Tensor, nn

from .set_blocks import perturb

GUIDES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
N_ROWS, N_COLS = 6, 4
ALL = RowBatch(torch.arange(N_ROWS), torch.zeros(N_ROWS + 1).long(), torch.zeros(0).long(), torch.zeros(0), 6, N_COLS)
SITES = {"level": (1, 1), "weights": (1, 6), "twice": (12, 1), "user": (6, 3), "item": (4, 3)}  # blocks, their sizes


class Sites(nn.Module):
    """Sites without constraint, of every kind; items each with a prior of their own; and one that is positive."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("level", dist.Normal(torch.tensor(3.0), 2.0))
        pyro.sample("weights", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2))
        pyro.sample("positive", dist.HalfNormal(torch.ones(())))
        with pyro.plate("extra", 3, dim=-2), batch.col_plate("items_again"):
            pyro.sample("twice", dist.Normal(torch.zeros(()), 1.0))
        with batch.row_plate("users"):
            pyro.sample("user", dist.Normal(torch.ones(3), torch.tensor([0.1, 1.0, 5.0])).to_event(1))
        with batch.col_plate("items"):
            pyro.sample("item", dist.Normal(torch.arange(12.0).view(4, 3), torch.rand(4, 3) + 0.5).to_event(1))


def _made(family: type, dtype: torch.dtype = torch.float64) -> NormalGuide:
    guide = family()
    guide.setup(Sites(), RowBatch.blank(N_ROWS, N_COLS))
    perturb(guide)
    return guide.to(dtype)


def _moments(guide: NormalGuide, site: str, log_variance: float = 2.0) -> tuple[Tensor, Tensor]:
    """Moments to write: variances around 10 to the power of up to `log_variance`, either way, within each block."""
    n, d = SITES[site]
    variance = 10 ** (log_variance * (2 * torch.rand(n, d) - 1))
    if guide.factorised or site in ("level", "twice"):
        return torch.randn(n, d), variance
    root = torch.randn(n, d, 2 * d)
    cov = root @ root.mT / d
    scale = (variance / cov.diagonal(dim1=1, dim2=2)).sqrt()
    return torch.randn(n, d), scale[:, :, None] * cov * scale[:, None, :]


@GUIDES
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(("dtype", "mean_tol", "cov_tol"), [(torch.float64, 1e-12, 1e-9), (torch.float32, 1e-5, 1e-4)])
def test_what_is_written_is_read(family, site, dtype, mean_tol, cov_tol):
    guide = _made(family, dtype)
    mean, cov = _moments(guide, site)
    guide.set_blocks(site, mean, cov)
    got_mean, got_cov = guide.blocks(site)
    assert got_mean.dtype == got_cov.dtype == dtype
    assert not got_mean.requires_grad
    assert not got_cov.requires_grad
    torch.testing.assert_close(got_mean.double(), mean, atol=mean_tol, rtol=mean_tol)
    torch.testing.assert_close(got_cov.double(), cov, atol=cov_tol, rtol=cov_tol)


@GUIDES
@pytest.mark.parametrize("site", SITES)
def test_what_is_read_and_written_again_is_the_same(family, site):
    guide = _made(family)
    before = {name: x.clone() for name, x in guide.state_dict().items()}
    guide.set_blocks(site, *guide.blocks(site))
    for name, x in guide.state_dict().items():
        torch.testing.assert_close(x, before[name], atol=1e-12, rtol=1e-12)


@GUIDES
@pytest.mark.parametrize("site", SITES)
def test_what_is_read_is_the_posterior(family, site):
    guide = _made(family)
    q, (mean, cov) = guide.posterior(ALL)[site], guide.blocks(site)
    assert q.sample().numel() == mean.numel()
    if site == "weights":
        q = q.base_dist  # the matrix as a vector
    torch.testing.assert_close(q.mean.reshape(mean.shape), mean)
    full = cov.ndim == 3
    torch.testing.assert_close((q.covariance_matrix if full else q.variance).reshape(cov.shape), cov)


@GUIDES
@pytest.mark.parametrize("site", ["user", "item", "twice"])
def test_a_slice_touches_its_elements_alone(family, site):
    guide, at = _made(family), slice(1, 3)
    before = guide.blocks(site)
    mean, cov = (x[at] for x in _moments(guide, site))
    guide.set_blocks(site, mean, cov, at)
    for got, old, new in zip(guide.blocks(site), before, (mean, cov), strict=True):
        torch.testing.assert_close(got[at], new)
        assert torch.equal(got[:1], old[:1])
        assert torch.equal(got[3:], old[3:])
    for got, whole in zip(guide.blocks(site, at), guide.blocks(site), strict=True):
        torch.testing.assert_close(got, whole[at])


@GUIDES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_extreme_variances_stay_finite(family, dtype):
    guide = _made(family, dtype)
    mean, cov = _moments(guide, "user", log_variance=20.0)
    guide.set_blocks("user", mean, cov)
    variances = [x if x.ndim == 2 else x.diagonal(dim1=1, dim2=2) for x in (guide.blocks("user")[1], cov)]
    torch.testing.assert_close(variances[0].double(), variances[1], atol=0, rtol=1e-4)
    assert all(x.isfinite().all() for x in (*guide.blocks("user"), *guide.parameters()))


@GUIDES
def test_scalars_of_a_latent_factor_model_have_variances(family):
    guide = family()
    guide.setup(LatentFactor(2), RowBatch.blank(N_ROWS, N_COLS))
    assert [tuple(x.shape) for x in guide.blocks("mu")] == [(1, 1), (1, 1)]
    assert [guide.n_blocks(site) for site in LatentFactor.factor_sites] == [1, N_ROWS, N_COLS]
    guide.set_blocks("mu", torch.tensor([[3.5]]), torch.tensor([[0.01]]))
    q = guide.posterior(RowBatch.blank(N_ROWS, N_COLS))["mu"]
    torch.testing.assert_close(q.mean, torch.tensor(3.5))
    torch.testing.assert_close(q.stddev, torch.tensor(0.1))


MEAN, SPREAD = torch.zeros(N_ROWS, 3), torch.ones(N_ROWS, 3)


@GUIDES
@pytest.mark.parametrize("site", ["positive", "nowhere"])
def test_sites_that_are_not_normal_are_refused(family, site):
    guide = _made(family)
    for call in (guide.blocks, guide.n_blocks, lambda name: guide.set_blocks(name, MEAN, SPREAD)):
        with pytest.raises(PlatewiseError, match=f"site without constraint, one of .*'user'.*, got '{site}'"):
            call(site)


@GUIDES
def test_moments_of_other_shapes_are_refused(family):
    guide = _made(family)
    good = guide.blocks("user")[1]
    with pytest.raises(PlatewiseError, match=r"moments of 'user' of shapes \(6, 3\) and .*, got \(1, 3\) and"):
        guide.set_blocks("user", MEAN[:1], good)


@GUIDES
@pytest.mark.parametrize("value", [-1.0, 0.0, torch.nan])
def test_moments_of_no_normal_are_refused(family, value):
    guide = _made(family)
    before = {name: x.clone() for name, x in guide.state_dict().items()}
    mean, cov = (x.clone() for x in guide.blocks("user"))
    cov[2] = value
    with pytest.raises(PlatewiseError, match="positive definite covariances for 'user', got others"):
        guide.set_blocks("user", mean, cov)
    assert all(torch.equal(x, before[name]) for name, x in guide.state_dict().items())
