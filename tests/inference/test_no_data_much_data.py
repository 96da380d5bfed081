"""Without data a guide becomes the prior; with ever more data the prior fades."""

import re

import anndata as ad
import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import PlatewiseError, RowBatch, mark, write_h5ad
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.models import LatentFactor, StudentT
from torch import nn

from .conjugate import Lines
from .normal_mean import NOISE, PRIOR_MEAN, PRIOR_SD, NormalMean, entries_around, exact

SCALES = {"sigma": 0.5, "user_scale": [0.3, 0.4, 0.7], "item_scale": 0.6, "mu_scale": 2.0}
FAMILIES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])


def empty(n_rows: int = 6, n_cols: int = 4, unstored: str = "missing") -> ad.AnnData:
    return mark(ad.AnnData(sp.csr_matrix((n_rows, n_cols), dtype=np.float32)), unstored=unstored)


def fit(model: nn.Module, guide: nn.Module, data: object, **options: object) -> Fitted:
    given = {"epochs": 200, "progress": False, "dtype": torch.float64, "allow_empty": True} | options
    return svi.fit(model, guide, data, **given)


def assert_is_prior(guide: nn.Module, site: str, scale: float | list[float]) -> None:
    mean, cov = guide.blocks(site)
    expected = torch.as_tensor(scale, dtype=mean.dtype).square().expand_as(mean)
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=5e-3, rtol=0)
    full = expected if cov.shape == mean.shape else torch.diag_embed(expected)
    torch.testing.assert_close(cov, full, atol=5e-3, rtol=0)


@FAMILIES
@pytest.mark.parametrize("likelihood", ["closed-form", "sampled"])
def test_without_entries_the_guide_becomes_the_prior(family, likelihood):
    guide = family()
    fitted = fit(LatentFactor(2, **SCALES), guide, empty(), likelihood=likelihood)
    assert fitted.elbo == pytest.approx(0.0, abs=1e-3)
    assert fitted.history["elbo"].iloc[0] < -1
    for site in ("mu", "user", "item"):
        assert_is_prior(guide, site, SCALES[f"{site}_scale"])


def test_mini_batches_of_rows_without_entries_become_the_prior_too():
    guide = RowBlockNormal()
    fitted = fit(Lines(4), guide, empty(10), batch_rows=4, epochs=100)
    assert fitted.elbo == pytest.approx(0.0, abs=1e-3)
    assert_is_prior(guide, "theta", [1.5, 0.8])


def test_an_empty_file_is_fitted_as_an_empty_matrix(tmp_path):
    write_h5ad(empty(), tmp_path / "empty.h5ad")
    fits = [fit(LatentFactor(2, **SCALES), RowBlockNormal(), x, epochs=3) for x in (empty(), tmp_path / "empty.h5ad")]
    assert fits[0].elbo == fits[1].elbo
    assert fits[0].fingerprint == fits[1].fingerprint


def test_every_number_of_a_fit_without_entries_is_finite(capsys):
    fitted = fit(LatentFactor(2, **SCALES), RowBlockNormal(), empty(), epochs=3, progress=True)
    assert np.isfinite(fitted.history).all(axis=None)
    assert (fitted.history["entries_per_second"] == 0).all()
    assert (fitted.obs["n_entries"] == 0).all()
    assert (fitted.n_rows, fitted.n_cols, fitted.stopped[:12]) == (6, 4, "all 3 epochs")
    assert re.search(r"ELBO -\d+\.\d+, no entries", " ".join(capsys.readouterr().err.split()))


def test_a_matrix_of_observed_zeros_has_no_entries_but_data():
    """Noise of zeros: the scale that is learned goes down, and the bound is far from 0."""
    model = LatentFactor(1, unstored="zero")
    start = model.sigma.item()
    fitted = fit(model, MeanFieldNormal(), empty(unstored="zero"), epochs=60, progress=True)
    assert np.isfinite(fitted.history).all(axis=None)
    assert model.sigma.item() < 0.5 * start
    assert fitted.elbo > 10


def test_no_data_at_all():
    fitted = fit(StudentT(), MeanFieldNormal(), None, min_steps=None, epochs=5, allow_empty=False)
    assert (fitted.n_rows, fitted.n_cols, fitted.data) == (1, 1, None)
    assert np.isfinite(fitted.history).all(axis=None)


def test_a_fit_without_data_is_gone_on_with(monkeypatch):
    given = {"min_steps": None, "epochs": 6, "particles": 4}
    whole = fit(StudentT(), MeanFieldNormal(), None, **given)
    done = []
    monkeypatch.setattr("platewise.inference.svi.too_many_skipped", lambda state: done.append(1) or len(done) == 3)
    part = fit(StudentT(), MeanFieldNormal(), None, check_every=1, **given)
    monkeypatch.undo()
    part.options["check_every"] = whole.options["check_every"]
    assert len(part.history) == 2
    rest = fit(StudentT(), MeanFieldNormal(), None, resume=part, **given)
    assert rest.elbo == whole.elbo
    torch.testing.assert_close(rest.guide.blocks("x"), whole.guide.blocks("x"), atol=0, rtol=0)


def test_a_fit_without_data_is_saved_and_read(tmp_path):
    fitted = fit(StudentT(df=4.0), MeanFieldNormal(), None, min_steps=None, epochs=5)
    fitted.save(tmp_path / "run")
    read = Fitted.load(tmp_path / "run")
    assert read.model.config == {"df": 4.0, "loc": 1.0, "scale": 1.0}
    torch.testing.assert_close(read.guide.blocks("x"), fitted.guide.blocks("x"), atol=0, rtol=0)


@pytest.mark.parametrize("n", [1, 10, 100, 1000])
def test_with_ever_more_data_the_prior_fades(n):
    data, guide = entries_around(1.0, n), MeanFieldNormal()
    y = data.X.data.astype(float)
    fit(NormalMean(), guide, data, batch_rows=data.n_obs, epochs=300)
    mean, variance = (x.item() for x in guide.blocks("m"))
    expected = exact(y)
    assert mean == pytest.approx(expected[0], abs=0.01 * expected[1])
    assert variance**0.5 == pytest.approx(expected[1], rel=0.01)
    prior_weight = (mean - y.mean()) / (PRIOR_MEAN - y.mean())
    assert n * prior_weight == pytest.approx(n / (1 + n * (PRIOR_SD / NOISE) ** 2), rel=0.03)


class Forgetful(nn.Module):
    """One who forgot obs=; as a site of the rows, it looks like any latent."""

    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(0.0, 1.0))
            pyro.sample("total", dist.Normal(level, 1.0))
            pyro.deterministic("twice", 2 * level)


def test_a_model_that_observes_nothing_is_refused_where_there_are_entries():
    with pytest.raises(PlatewiseError, match=r"observes the matrix's 9 entries.*Pass obs=") as caught:
        fit(Forgetful(), MeanFieldNormal(), entries_around(1.0, 9))
    assert "\n" not in str(caught.value)
    fit(Forgetful(), MeanFieldNormal(), empty(), epochs=1)


@pytest.mark.parametrize(
    ("data", "given", "message"),
    [
        (empty(), {"allow_empty": False}, "and entries, got 6 x 4 with 0 stored"),
        (empty(0, 4), {}, "got 0 x 4 with 0 stored"),
        (empty(), {"validation": 0.5}, "Set validation=0"),
    ],
)
def test_what_is_refused(data, given, message):
    with pytest.raises(PlatewiseError, match=message):
        fit(LatentFactor(2), RowBlockNormal(), data, **given)


def test_no_data_is_refused_where_nothing_stored_is_data():
    with pytest.raises(PlatewiseError, match=r"Expected a matrix for LatentFactor, .* observed zeros, got None"):
        fit(LatentFactor(1, unstored="zero"), RowBlockNormal(), None)
