"""Ranked genes: markers lead, whatever the model; scores are what predictions and draws say; batches do not lead."""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from platewise.data import log_normalise, mark, read_cells, simulate_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.preparation import prepared
from platewise.guides import AmortizedNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, natural_gradient, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import factors, predict, rank_genes
from platewise.posterior.canonical import block_posterior, canonical_frame
from platewise.posterior.reader import reading

EXACT = {"progress": False, "dtype": torch.float64}
GUIDES = {"row-block": RowBlockNormal, "mean-field": MeanFieldNormal}
MARKERS = ["gene0", "gene1", "gene2"]
N_CELLS, N_GENES = 90, 20


@cache
def cells() -> ad.AnnData:
    """Counts of two kinds of cells in two batches; three genes mark the kind "B", and one that is rare is its alone."""
    rng = np.random.default_rng(0)
    kind, batch = np.arange(N_CELLS) % 3 == 0, np.arange(N_CELLS) % 2
    rate = np.tile(rng.gamma(3.0, 3.0, N_GENES), (N_CELLS, 1))
    rate[:, :3], rate[kind, :3] = 1.0, 20.0
    rate[:, 3], rate[kind, 3] = 0.0, 0.1
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.obs_names = [f"c{i}" for i in range(N_CELLS)]
    adata.var_names = [f"gene{j}" for j in range(N_GENES)]
    adata.obs["label"], adata.obs["batch"] = np.where(kind, "B", "T"), batch
    return mark(adata, unstored="zero")


@cache
def factor_fit(guide: str):
    model = LatentFactor(2, unstored="zero")
    return coordinate_ascent.fit(model, GUIDES[guide](), log_normalise(cells()), sweeps=30, **EXACT)


@cache
def vae_fit(layers: int, likelihood: str = "negative-binomial"):
    model, guide = VAE(2, likelihood, layers=layers, hidden=16, dropout=0.0), AmortizedNormal(hidden=16, dropout=0.0)
    counts = cells() if likelihood != "gaussian" else log_normalise(cells())
    return svi.fit(model, guide, counts, epochs=40, batch_rows=45, **EXACT)


@pytest.mark.parametrize("guide", GUIDES)
def test_markers_lead_in_a_factor_model(guide):
    table = rank_genes(factor_fit(guide), cells(), "label == 'B'")
    assert set(table.index[:3]) == set(MARKERS)
    assert (table["probability"][:3] > 0.99).all()
    assert table["score"].is_monotonic_decreasing
    kind = (cells().obs["label"] == "B").to_numpy()
    np.testing.assert_allclose(table.loc["gene5", "mean_in"], cells().X[kind].mean(0)[0, 5], rtol=1e-6)
    assert table.index.name == "gene"


@pytest.mark.parametrize("guide", GUIDES)
def test_a_score_is_the_difference_of_predictions_beyond_the_average_genes(guide):
    fitted = factor_fit(guide)
    table = rank_genes(fitted, cells(), ["c0", "c3"], against=["c1", "c2", "c4"])
    mean = predict(fitted, np.repeat([f"c{i}" for i in range(5)], N_GENES), list(fitted.var.index) * 5)["mean"]
    y = mean.to_numpy().reshape(5, N_GENES)
    difference = y[[0, 3]].mean(0) - y[[1, 2, 4]].mean(0)
    found = table["score"].loc[fitted.var.index]
    np.testing.assert_allclose(found, difference - difference.mean(), atol=1e-8)


def test_against_all_others_the_order_is_that_of_the_inner_product_with_the_mean_embedding():
    fitted = factor_fit("row-block")
    kind = (cells().obs["label"] == "B").to_numpy()
    found = factors(fitted)
    product = found.varm["factors"] @ found.obsm["X_factors"][kind].mean(0)
    score = rank_genes(fitted, cells(), "label == 'B'")["score"].loc[fitted.var.index]
    np.testing.assert_allclose(score, product / (1 - kind.mean()), atol=1e-8)


@pytest.mark.parametrize("guide", GUIDES)
def test_spread_and_probability_are_those_of_draws(guide):
    fitted, n = factor_fit(guide), 4000
    with reading(fitted, 0) as reader:
        frame, q = canonical_frame(reader), block_posterior(reader, reader.batch(np.arange(5)))
        user = frame.user.draws(q["user"].sample((n,)).numpy())[..., :-1]
        item = frame.item.draws(q["item"].sample((n,)).numpy())[..., :-1]
    m = user[:, 0] - user[:, [1, 2, 4]].mean(1)
    score = (item @ m[:, :, None])[..., 0]
    table = rank_genes(fitted, cells(), ["c0"], against=["c1", "c2", "c4"]).loc[fitted.var.index]
    np.testing.assert_allclose(table["sd"], score.std(0), rtol=0.08)
    np.testing.assert_allclose(table["probability"], (score > 0).mean(0), atol=0.04)


def test_a_guide_that_keeps_no_rows_reads_them_off_the_data():
    counts = prepared(cells(), "missing")
    held, lean = (
        natural_gradient.fit(LatentFactor(2), RowBlockNormal(hold_rows=hold), counts, passes=2, **EXACT)
        for hold in (True, False)
    )
    one, two = (rank_genes(fitted, cells(), "label == 'B'") for fitted in (held, lean))
    np.testing.assert_allclose(two.loc[one.index, "score"], one["score"], atol=0.1 * one["score"].max())
    assert np.isfinite(two.to_numpy()).all()


@pytest.mark.parametrize("layers", [0, 1])
def test_markers_lead_in_a_vae(layers):
    table = rank_genes(vae_fit(layers), cells(), "label == 'B'", draws=200)
    assert set(table.index[:3]) == set(MARKERS)
    assert (table["probability"][:3] > 0.9).all()


def test_a_vae_ranks_cells_that_it_never_saw():
    new = cells()[40:].copy()
    new.obs_names = [f"new{i}" for i in range(new.n_obs)]
    assert set(rank_genes(vae_fit(1), new, "label == 'B'").index[:3]) == set(MARKERS)


def test_contrasts_are_of_decoded_rows():
    """With one cell on either side and next to no spread of the embeddings, there is one contrast."""
    fitted = vae_fit(1)
    with reading(fitted, 0, data=cells()) as reader:
        batch = reader.batch(np.array([0, 1]))
        z = fitted.guide.posterior(batch)["z"]
        draws = z.sample((3000,))
        share = fitted.model.decoder(batch, draws).softmax(-1)
    level = torch.log2(1 + 1e4 * share)
    contrast = (level[:, 0] - level[:, 1]).numpy()
    table = rank_genes(fitted, cells(), ["c0"], against=["c1"], draws=3000).loc[fitted.var.index]
    np.testing.assert_allclose(table["score"], contrast.mean(0), atol=0.1)
    np.testing.assert_allclose(table["sd"], contrast.std(0), rtol=0.15)


def test_loadings_of_values_are_not_centred():
    fitted = vae_fit(0, "gaussian")
    counts = log_normalise(cells())
    table = rank_genes(fitted, counts, "label == 'B'").loc[fitted.var.index]
    with reading(fitted, 0, data=counts) as reader:
        mean = fitted.guide.posterior(reader.batch(np.arange(N_CELLS)))["z"].mean
    kind = torch.from_numpy((cells().obs["label"] == "B").to_numpy())
    expected = fitted.model.decoder.output.weight @ (mean[kind].mean(0) - mean[~kind].mean(0))
    np.testing.assert_allclose(table["score"], expected.detach().numpy(), atol=1e-8)


def test_a_batch_is_no_difference():
    model = VAE(2, hidden=8, categories={"batch": 2})
    batch = cells().obs["batch"].to_numpy()
    fitted = svi.fit(model, AmortizedNormal(hidden=8), cells(), epochs=1, covariates={"batch": batch}, **EXACT)
    with torch.no_grad():
        fitted.model.decoder.offsets["batch"].weight[1, 5] = 8.0  # a gene of the second batch alone
    table = rank_genes(fitted, cells(), "batch == 1", covariates={"batch": batch})
    assert abs(table.loc["gene5", "score"]) < 1


def test_genes_may_be_chosen_and_a_seed_settles_it():
    fitted = vae_fit(1)
    some = rank_genes(fitted, cells(), "label == 'B'", genes=["gene7", "gene1"], draws=50, seed=3)
    assert list(some.index) == ["gene1", "gene7"]
    again = rank_genes(fitted, cells(), "label == 'B'", draws=50, seed=3)
    pd.testing.assert_frame_equal(again.loc[some.index], some)


def ratings_fit():
    ratings, _ = simulate_ratings(LatentFactor(2), 20, 15, 150, seed=0)
    return coordinate_ascent.fit(LatentFactor(2), RowBlockNormal(), ratings, sweeps=2, progress=False), ratings


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rank_genes(*ratings_fit(), ["0"]), "got one of ratings"),
        (lambda: rank_genes(vae_fit(1), cells(), "label == 'Z'"), "at least one cell, got none"),
        (lambda: rank_genes(vae_fit(1), cells(), "label != 'Z'"), "got all 90"),
        (lambda: rank_genes(vae_fit(1), cells(), "label == 'B'", draws=1), "at least 2 draws"),
        (lambda: rank_genes(vae_fit(1), cells(), "label == 'B'", genes=["geneX"]), "got 'geneX'"),
        (lambda: rank_genes(vae_fit(1), cells()[:, :9].copy(), "label == 'B'"), "without 'gene9'"),
        (lambda: rank_genes(vae_fit(1), renamed(gene="gene0"), "label == 'B'"), "each gene once, got 'gene0'"),
        (lambda: rank_genes(vae_fit(1), mark(cells().copy(), unstored="missing"), ["c0"]), "Expected counts"),
        (
            lambda: rank_genes(factor_fit("row-block"), renamed(), ["new0"]),
            "Expected cells of the fit, got 'new0'",
        ),
    ],
)
def test_misuse_gets_one_line(call, message):
    with pytest.raises(PlatewiseError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def renamed(gene: str = "gene19") -> ad.AnnData:
    new = cells().copy()
    new.var_names = [*new.var_names[:-1], gene]
    new.obs_names = [f"new{i}" for i in range(N_CELLS)]
    return new


PUBLISHED = {"B": "MS4A1 CD79A", "CD14+ Mono": "LYZ CD14", "NK": "NKG7 GNLY", "Platelet": "PPBP PF4"}


def _require_markers(fitted, blood, column, kinds):
    for kind in kinds:
        first = rank_genes(fitted, blood, f"{column} == '{kind}'").index[:30]
        assert set(PUBLISHED[kind].split()) <= set(first), (kind, list(first))


@pytest.mark.real_data
def test_published_markers_of_blood_cells_lead_in_a_factor_model(real_data):
    blood = read_cells(real_data / "pbmc3k.h5ad")
    fitted = coordinate_ascent.fit(
        LatentFactor(20, unstored="zero"), RowBlockNormal(), log_normalise(blood), progress=False
    )
    _require_markers(fitted, blood, "cell_type", PUBLISHED)


@pytest.mark.slow
@pytest.mark.real_data
def test_published_markers_of_blood_cells_lead_in_a_vae(real_data):
    blood = read_cells(real_data / "pbmc3k_top2000.h5ad")  # without the platelets' markers
    fitted = svi.fit(VAE(), AmortizedNormal(), blood, epochs=40, progress=False)
    _require_markers(fitted, blood, "label", ["B", "CD14+ Mono", "NK"])
