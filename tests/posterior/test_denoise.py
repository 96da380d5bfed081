"""Denoised expression: against closed forms, in the units asked for, in other batches, and what is refused."""

import importlib
from functools import cache

import anndata as ad
import numpy as np
import pytest
import torch
from platewise.data import log_normalise, write_h5ad
from platewise.data.errors import PlatewiseError
from platewise.data.loader import MemoryRows, RowLoader
from platewise.guides import AmortizedNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, svi
from platewise.models import VAE, CountFactor, LatentFactor
from platewise.posterior import denoise, fold_in, predict

from ..count_data import N_CELLS, N_GENES, small_counts

OPTIONS = {"epochs": 5, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}


@cache
def vae(likelihood: str = "negative-binomial", layers: int = 1) -> Fitted:
    return svi.fit(VAE(2, likelihood, hidden=8, layers=layers), AmortizedNormal(hidden=8), small_counts(), **OPTIONS)


@cache
def vae_of_batches() -> Fitted:
    model = VAE(2, hidden=8, categories={"batch": 2}, continuous={"depth": 1})
    cells = small_counts()
    covariates = {"batch": cells.obs["batch"].to_numpy(), "depth": np.linspace(-1, 1, N_CELLS)}
    return svi.fit(model, AmortizedNormal(hidden=8), cells, covariates=covariates, **OPTIONS)


@cache
def factor_fit(guide: type = RowBlockNormal) -> Fitted:
    adata = log_normalise(small_counts())
    return coordinate_ascent.fit(LatentFactor(2, unstored="zero"), guide(), adata, sweeps=3, progress=False)


def of_batches(**options) -> ad.AnnData:
    covariates = {"batch": small_counts().obs["batch"].to_numpy(), "depth": np.linspace(-1, 1, N_CELLS)}
    return denoise(vae_of_batches(), small_counts(), draws=4, covariates=covariates, **options)


def test_a_linear_normal_decoder_has_normal_expectations(monkeypatch) -> None:
    monkeypatch.setattr(importlib.import_module("platewise.posterior.denoise"), "MAX_DRAWN", 30 * 150 * 3)
    fitted, cells = vae("gaussian", layers=0), small_counts(1)
    found = denoise(fitted, cells, genes=["gene3", "gene1", "gene7"], prob=0.8, draws=150)
    assert list(found.var_names) == ["gene3", "gene1", "gene7"]
    batch = next(RowLoader(MemoryRows(cells.X), N_CELLS, dtype=torch.float64).in_order())
    with torch.no_grad():
        fitted.guide.eval()
        q, output = fitted.guide.posterior(batch)["z"], fitted.model.decoder.output
        mean = output(q.mean)[:, [3, 1, 7]].numpy()
        sd = (q.variance @ output.weight.T.square()).sqrt()[:, [3, 1, 7]].numpy()
    for layer, away in (("mean", 0.0), ("lower", -1.2816), ("upper", 1.2816)):
        standard = (found.layers[layer] - mean) / sd
        np.testing.assert_allclose(standard, away, atol=0.8)  # 6 standard errors, of 150 draws
        assert standard.mean() == pytest.approx(away, abs=0.08)


def test_counts_are_of_the_library_size_asked_for() -> None:
    cells = small_counts()
    own, common = (denoise(vae(), cells, library_size=size, draws=5) for size in ("observed", 1e4))
    totals = np.asarray(cells.X.sum(1))
    np.testing.assert_allclose(own.layers["mean"].sum(1, keepdims=True), totals, rtol=1e-5)
    for layer in ("mean", "lower", "upper"):
        np.testing.assert_allclose(common.layers[layer], own.layers[layer] * 1e4 / totals, rtol=1e-5)
    assert (own.layers["lower"] <= own.layers["mean"]).all()
    assert (own.layers["mean"] <= own.layers["upper"]).all()


@pytest.mark.parametrize("likelihood", ["zero-inflated-negative-binomial", "poisson", "multinomial"])
def test_expectations_add_up_to_the_total_whatever_hides_them(likelihood: str) -> None:
    found = denoise(vae(likelihood), small_counts(), draws=2)
    np.testing.assert_allclose(found.layers["mean"].sum(1), np.asarray(small_counts().X.sum(1)).ravel(), rtol=1e-5)


@pytest.mark.parametrize("likelihood", ["negative-binomial", "poisson", "multinomial"])
def test_an_empty_cell_has_shares_too(likelihood: str) -> None:
    cells = small_counts()
    x = cells.X.tolil()
    x[3] = 0
    cells.X = x.tocsr()
    found = denoise(vae(likelihood), cells, library_size=50, draws=2)
    np.testing.assert_allclose(found.layers["mean"].sum(1), 50, rtol=1e-5)


def test_too_few_draws_for_the_interval_are_said(caplog) -> None:
    caplog.set_level("WARNING", logger="platewise")
    denoise(vae(), small_counts(), draws=19)
    assert not caplog.messages
    denoise(vae(), small_counts(), draws=9)
    assert caplog.messages == ["of 9 draws, no interval is wider than 80%: 90% takes 19"]


def test_denoised_is_nearer_to_the_truth_than_the_counts() -> None:
    cells = small_counts()
    share = np.stack([cells.X[cells.obs["kind"].to_numpy() == kind].sum(0).A1 for kind in (0, 1)])
    truth = (share / share.sum(1, keepdims=True))[cells.obs["kind"]]
    model, guide = VAE(2, hidden=8, dropout=0.0), AmortizedNormal(hidden=8, dropout=0.0)
    fitted = svi.fit(model, guide, cells, **{**OPTIONS, "epochs": 60})
    mean = denoise(fitted, cells, library_size=1.0, draws=20).layers["mean"]
    raw = cells.X.toarray() / cells.X.sum(1).A1[:, None]
    assert np.square(mean - truth).sum() < 0.2 * np.square(raw - truth).sum()


def test_cells_are_decoded_with_the_covariates_chosen() -> None:
    own, first = of_batches(), of_batches(batch=0)
    in_first = small_counts().obs["batch"].to_numpy() == 0
    np.testing.assert_array_equal(first.layers["mean"][in_first], own.layers["mean"][in_first])
    assert (first.layers["mean"][~in_first] != own.layers["mean"][~in_first]).all()
    both = of_batches(batch={"batch": "0", "depth": 0.5})
    assert not np.allclose(both.layers["mean"], first.layers["mean"])
    assert both.uns["denoise"]["batch"] == "batch=0, depth=0.5"


def test_levels_are_those_of_the_column_that_the_fit_read() -> None:
    cells = small_counts()
    cells.obs["site"] = np.where(cells.obs["batch"] == 0, "north", "south")
    model = VAE(2, hidden=8, categories={"batch": 2})
    fitted = svi.fit(model, AmortizedNormal(hidden=8), cells, covariates={"batch": "site"}, **OPTIONS)
    own, south = denoise(fitted, cells, draws=2), denoise(fitted, cells, draws=2, batch="south")
    is_south = cells.obs["site"].to_numpy() == "south"
    np.testing.assert_array_equal(own.layers["mean"][is_south], south.layers["mean"][is_south])
    with pytest.raises(PlatewiseError, match="among north, south, got 'west'"):
        denoise(fitted, cells, batch="west")


def test_one_seed_one_result_and_genes_are_columns_of_the_whole() -> None:
    whole, some = denoise(vae(), small_counts(), draws=3), denoise(vae(), small_counts(), genes="gene4", draws=3)
    np.testing.assert_array_equal(whole[:, "gene4"].layers["upper"], some.layers["upper"])
    other = denoise(vae(), small_counts(), genes="gene4", draws=3, seed=1)
    assert (some.layers["mean"] != other.layers["mean"]).all()


@pytest.mark.parametrize("guide", [RowBlockNormal, MeanFieldNormal])
def test_a_factor_model_gives_its_linear_predictor(guide: type) -> None:
    fitted, some = factor_fit(guide), small_counts()[5:8].copy()
    found = denoise(fitted, some, genes=["gene2", "gene9"], prob=0.8)
    expected = predict(fitted, np.repeat(some.obs_names, 2), ["gene2", "gene9"] * 3, level=0.8, of="mean")
    for layer in ("mean", "lower", "upper"):
        np.testing.assert_allclose(found.layers[layer].ravel(), expected[layer], rtol=1e-5)
    assert found.uns["denoise"]["unit"] == "log-normalised expression"


def test_a_factor_model_of_counts_gives_expected_counts_of_its_cells() -> None:
    fitted = svi.fit(CountFactor(2), MeanFieldNormal(), small_counts(), **OPTIONS)
    some = small_counts()[[7, 3, 30]].copy()
    own, common = (denoise(fitted, some, library_size=size, draws=5) for size in ("observed", 100))
    alone = denoise(fitted, some[1:2].copy(), draws=200)
    np.testing.assert_allclose(np.log(own.layers["mean"][1:2] / alone.layers["mean"]), 0, atol=1.5)
    np.testing.assert_allclose(common.layers["mean"].sum(1), 100, rtol=1e-5)
    assert np.corrcoef(own.layers["mean"].ravel(), some.X.toarray().ravel())[0, 1] > 0.5
    some.obs_names = ["new", "cell3", "cell30"]
    with pytest.raises(PlatewiseError, match="got 'new'"):
        denoise(fitted, some)


def test_new_cells_of_a_factor_model_are_folded_in_first() -> None:
    new = small_counts(1)
    new.obs_names = [f"new{i}" for i in range(N_CELLS)]
    with pytest.raises(PlatewiseError, match=r"got 'new0'\. Fold new ones in first"):
        denoise(factor_fit(), new)
    assert denoise(fold_in(factor_fit(), new), new).shape == (N_CELLS, N_GENES)


def test_layers_are_written_beside_what_there_is() -> None:
    cells = small_counts()[:, ::-1].copy()
    assert denoise(vae(), cells, draws=2, to=cells) is cells
    apart = denoise(vae(), cells, draws=2)
    np.testing.assert_array_equal(cells.layers["denoised_lower"], apart[:, cells.var_names].layers["lower"])
    assert {"denoised", "denoised_lower", "denoised_upper"} == set(cells.layers)


def test_the_result_goes_to_disk_with_the_cells_own_columns(tmp_path) -> None:
    cells = small_counts()
    cells.obsm["X_umap"] = np.zeros((N_CELLS, 2))
    write_h5ad(denoise(vae(), cells, genes=["gene1"], draws=2), tmp_path / "out.h5ad")
    found = ad.read_h5ad(tmp_path / "out.h5ad")
    assert found.X is None
    assert set(found.obsm) == {"X_umap"}
    assert {"kind", "batch"} <= set(found.obs)
    assert found.layers["mean"].dtype == np.float32


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: denoise(vae(), small_counts(), genes=["GENE12"]), "got 'GENE12'. Did you mean gene12"),
        (lambda: denoise(vae(), small_counts(), genes=["%%%"]), "got '%%%'. Choose among"),
        (lambda: denoise(vae(), small_counts(), genes=[]), "a gene at least"),
        (lambda: denoise(vae(), small_counts(), prob=1.0), "between 0 and 1"),
        (lambda: denoise(vae(), small_counts(), draws=1), "at least 2 draws"),
        (lambda: denoise(vae(), small_counts(), library_size="own"), "'observed' or a number"),
        (lambda: denoise(vae(), small_counts(), library_size=0), "'observed' or a number"),
        (lambda: denoise(vae(), small_counts(), batch=0), "a fit with covariates to choose a level"),
        (lambda: of_batches(batch=2), "from 0 to 1, got 2"),
        (lambda: of_batches(batch=-1), "from 0 to 1, got -1"),
        (lambda: of_batches(batch="b"), "a number for 'batch'"),
        (lambda: of_batches(batch="nan"), "a number for 'batch'"),
        (lambda: of_batches(batch={"depth": float("inf")}), "a number for 'depth'"),
        (lambda: denoise(vae(), small_counts(), seed=-1), "a seed of at least 0"),
        (lambda: denoise(factor_fit(), small_counts()[:0].copy()), "at least one cell"),
        (lambda: denoise(vae("gaussian", 0), small_counts(), library_size=1e4, draws=2), "likelihood of counts"),
        (lambda: denoise(factor_fit(), small_counts(), library_size=1e4), "likelihood of counts"),
        (lambda: denoise(factor_fit(), small_counts(), batch=0), "Fit a VAE"),
        (lambda: denoise(factor_fit(), small_counts(), covariates={"batch": np.zeros(N_CELLS)}), "Fit a VAE"),
        (lambda: denoise(vae(), small_counts(), to=small_counts()[:5].copy()), "other cells"),
        (lambda: denoise(vae(), small_counts(), genes="gene1", to=small_counts()), "chosen genes"),
        (lambda: denoise(vae(), small_counts()[:, :9].copy()), "Expected all 25 genes"),
    ],
)
def test_misuse_gets_one_line(make, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        make()
    assert "\n" not in str(error.value)
    assert torch.is_grad_enabled()


def test_more_numbers_than_a_layer_takes_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(importlib.import_module("platewise.posterior.denoise"), "MAX_NUMBERS", 100)
    with pytest.raises(PlatewiseError, match=r"got 1,500. Choose genes"):
        denoise(vae(), small_counts())
