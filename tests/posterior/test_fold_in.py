"""Rows folded into a fit: exact, aligned by name, read like any others."""

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from platewise.data import mark
from platewise.data.errors import PlatewiseError
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, natural_gradient
from platewise.models import LatentFactor
from platewise.posterior import evaluate, factors, fold_in, predict, recommend, to_arviz

GUIDES = {"mean-field": MeanFieldNormal, "row-block": RowBlockNormal}
EXACT = {"progress": False, "dtype": torch.float64}


def fit_to(adata, guide, unstored="missing"):
    return coordinate_ascent.fit(LatentFactor(rank=2, unstored=unstored), guide, adata, sweeps=4, **EXACT)


@pytest.fixture(scope="module")
def fits(split):
    return {name: fit_to(split[0], guide()) for name, guide in GUIDES.items()}


@pytest.fixture(params=list(GUIDES))
def fitted(request, fits):
    return fits[request.param]


@pytest.fixture
def new(split):
    """Some of the test ratings as those of new people, items in another order, one of them unknown."""
    adata = split[1][:30].copy()[:, np.random.default_rng(0).permutation(split[1].n_vars)].copy()
    adata.obs_names = [f"new{name}" for name in adata.obs_names]
    adata.var_names = ["unknown", *adata.var_names[1:]]
    adata.uns["platewise"]["row_ids"] = "str"
    return adata


def by_hand(fitted, cols, values):
    """Mean and covariance of one row's block, or its variances: E[x x'] summed over the row's entries."""
    scales = {name: x.double().numpy() for name, x in fitted.model.scales().items()}
    mu = float(fitted.guide.blocks("mu")[0])
    mean, spread = (x.numpy()[cols] for x in fitted.guide.blocks("item"))
    covariance = spread[:, :, None] * np.eye(mean.shape[1]) if fitted.guide.factorised else spread
    x = np.concatenate([mean[:, :-1], np.ones((len(cols), 1))], 1)
    inner = np.zeros_like(covariance)
    inner[:, :-1, :-1] = covariance[:, :-1, :-1]
    cross = np.concatenate([covariance[:, :-1, -1], np.zeros((len(cols), 1))], 1)  # of factors with the item's bias
    precision = np.diag(scales["user"] ** -2) + (inner + x[:, :, None] * x[:, None, :]).sum(0) / scales["noise"] ** 2
    pull = (x * (values - mu - mean[:, -1])[:, None] - cross).sum(0) / scales["noise"] ** 2
    found = 1 / np.diag(precision) if fitted.guide.factorised else np.linalg.inv(precision)
    return np.linalg.solve(precision, pull), found


def test_each_row_has_its_exact_posterior(fitted, new):
    folded = fold_in(fitted, new)
    for i, name in enumerate(new.obs_names):
        row = new.X[i]
        cols, values = new.var_names[row.indices], row.data
        known = cols != "unknown"
        mean, cov = by_hand(fitted, fitted.var.index.get_indexer(cols[known]), values[known].astype(float))
        got = folded.guide.blocks("user", slice(i, i + 1))
        assert folded.obs.index[i] == name
        np.testing.assert_allclose(got[0][0], mean, atol=1e-9)
        np.testing.assert_allclose(got[1][0], cov, atol=1e-9)


def test_globals_and_columns_are_those_of_the_fit(fitted, new):
    before = {name: x.clone() for name, x in fitted.guide.state_dict().items()}
    folded = fold_in(fitted, new)
    for site in ("mu", "item"):
        for got, expected in zip(folded.guide.blocks(site), fitted.guide.blocks(site), strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)
    assert all(torch.equal(x, before[name]) for name, x in fitted.guide.state_dict().items())
    assert folded.model is not fitted.model
    assert (folded.var["n_entries"] == fitted.var["n_entries"]).all()


@pytest.mark.parametrize("guide", GUIDES.values())
def test_known_rows_get_back_what_they_had(split, guide):
    """The last pass of natural gradients is over the rows, given the columns as they stay."""
    fitted = natural_gradient.fit(LatentFactor(rank=2), guide(), split[0], passes=3, **EXACT)
    folded = fold_in(fitted, split[0])
    for got, expected in zip(folded.guide.blocks("user"), fitted.guide.blocks("user"), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-8)
    assert evaluate(folded, split[1]).rmse == pytest.approx(evaluate(fitted, split[1]).rmse, abs=1e-8)


def test_a_guide_without_rows_folds_them_in(split, new):
    fitted = natural_gradient.fit(LatentFactor(rank=2), RowBlockNormal(hold_rows=False), split[0], passes=2, **EXACT)
    folded = fold_in(fitted, new)
    assert folded.guide.hold_rows
    assert len(folded.guide.blocks("user")[0]) == new.n_obs


def test_entries_of_unknown_columns_are_left_out_and_counted(fitted, new, caplog):
    n = new.X[:, [0]].nnz
    with caplog.at_level(logging.INFO, logger="platewise"):
        folded = fold_in(fitted, new)
    assert caplog.messages == [f"left out: {n} entries of 1 items that the fit does not know"]
    assert folded.obs["n_entries"].sum() == new.X.nnz - n


def test_a_row_without_entries_is_the_prior(fitted, new):
    new.X = sp.csr_matrix(new.shape)
    folded = fold_in(fitted, new)
    mean, cov = folded.guide.blocks("user")
    variance = cov if fitted.guide.factorised else cov.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(mean, torch.zeros_like(mean))
    torch.testing.assert_close(variance, folded.model.scales()["user"].square().expand_as(variance))
    assert not predict(folded, new.obs_names[0], folded.var.index[:2])["known_user"].any()


def test_every_read_out(fitted, new):
    folded = fold_in(fitted, new)
    name = new.obs_names[0]
    assert evaluate(folded, new).n_unknown_rows == 0
    assert predict(folded, name, ["1", "2"])["known_user"].all()
    rated = {int(x) for x in new.var_names[new.X[0].indices] if x != "unknown"}
    best = recommend(folded, name, k=200)
    assert set(best["item"]) == {int(x) for x in folded.var.index} - rated
    assert factors(folded).obsm["X_factors"].shape == (30, 2)
    assert to_arviz(folded, [name], n_draws=5, container="DataTree")["posterior"].sizes["user"] == 1


def test_saved_and_loaded(fitted, new, tmp_path):
    folded = fold_in(fitted, new)
    folded.save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run")
    pd.testing.assert_frame_equal(predict(loaded, new.obs_names, ["1"]), predict(folded, new.obs_names, ["1"]))
    assert (loaded.algorithm, loaded.converged, len(loaded.history)) == ("fold-in", None, 0)


@pytest.fixture(scope="module")
def cells():
    counts = np.random.default_rng(0).poisson(1.0, (40, 12)).astype(np.float64)
    return mark(ad.AnnData(sp.csr_matrix(counts)), unstored="zero")


@pytest.mark.parametrize("guide", GUIDES.values())
def test_cells_whose_zeros_are_observed(cells, guide):
    fitted = fit_to(cells, guide(), "zero")
    folded = fold_in(fitted, cells[5:8].copy())
    for i in range(3):
        mean, cov = by_hand(fitted, np.arange(12), cells.X[5 + i].toarray()[0])
        np.testing.assert_allclose(folded.guide.blocks("user")[0][i], mean, atol=1e-9)
        np.testing.assert_allclose(folded.guide.blocks("user")[1][i], cov, atol=1e-9)
    with pytest.raises(PlatewiseError, match=r"Expected all 12 genes of the fit, because .* got 11"):
        fold_in(fitted, cells[:, :11].copy())


def renamed(adata, rows=None, cols=None):
    copy = adata.copy()
    copy.obs_names, copy.var_names = rows or copy.obs_names, cols or copy.var_names
    return copy


def test_what_cannot_be_folded_in(fitted, new, cells):
    twice, bad = [new.obs_names[0], *new.obs_names[:-1]], new.copy()
    bad.X.data[0] = np.nan
    same = [new.var_names[1], *new.var_names[1:]]
    dense = new.copy()
    dense.X = new.X.toarray()
    for adata, message in (
        (renamed(new, rows=twice), f"each user once, got '{twice[0]}' more than once"),
        (renamed(new, cols=same), "each item once, got one more than once"),
        (renamed(new, cols=[f"x{i}" for i in range(new.n_vars)]), "items that the fit knows, such as '.*', got none"),
        (bad, "finite entries to fold in, got some that are not finite"),
        (new[:0].copy(), "got no user"),
        (dense, "Expected a sparse matrix"),
        (cells, "Expected ratings"),
    ):
        with pytest.raises(PlatewiseError, match=message):
            fold_in(fitted, adata)


def test_models_without_exact_updates_are_refused(amortised, people):
    with pytest.raises(PlatewiseError, match=r"exact updates .* to fold rows in, got Levels and Means"):
        fold_in(amortised, people[0])
