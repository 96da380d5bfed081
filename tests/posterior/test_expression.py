"""Reading fits of whole rows: every cell of a matrix is an entry, zeros that are not stored included."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import log_normalise, mark, meaning, simulate_ratings, write_h5ad
from platewise.data.errors import PlatewiseError
from platewise.data.preparation import prepared
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, natural_gradient
from platewise.models import LatentFactor
from platewise.posterior import diagnose, evaluate, fold_in, predict, predictive, recommend, to_arviz
from scipy.stats import norm

EXACT = {"progress": False, "dtype": torch.float64}
N_GENES = 12


def made(n_cells, seed, prefix="c"):
    rng = np.random.default_rng(seed)
    rate = np.exp(rng.normal(size=(n_cells, 2)) @ np.random.default_rng(9).normal(size=(2, N_GENES)) * 0.7)
    counts = rng.poisson(rate).astype(np.float32)
    counts[:, 0], counts[:, 3] = counts[:, 0] + 1, 0  # no empty cell; one gene without a count
    adata = ad.AnnData(sp.csr_matrix(counts))
    adata.obs_names = [f"{prefix}{i}" for i in range(n_cells)]
    adata.var_names = [f"g{j}" for j in range(N_GENES)]
    return mark(adata, unstored="zero")


@pytest.fixture(scope="module")
def counts():
    return made(50, 0)


@pytest.fixture(scope="module")
def fits(counts):
    adata = log_normalise(counts)
    guides = {"row-block": RowBlockNormal, "mean-field": MeanFieldNormal}
    return {
        name: coordinate_ascent.fit(LatentFactor(2, unstored="zero"), guide(), adata, sweeps=6, **EXACT)
        for name, guide in guides.items()
    }


@pytest.fixture(params=["row-block", "mean-field"])
def fitted(request, fits):
    return fits[request.param]


@pytest.fixture
def block_fit(fits):
    return fits["row-block"]


def predicted(fitted, names):
    """Mean and sd of every cell of some rows, by predict."""
    table = predict(fitted, np.repeat(names, N_GENES), list(fitted.var.index) * len(names))
    return [table[x].to_numpy().reshape(len(names), N_GENES) for x in ("mean", "sd")]


def test_every_cell_is_scored(fitted, counts, monkeypatch):
    monkeypatch.setattr(predictive, "MAX_ENTRIES", 7 * N_GENES)  # several blocks
    scores = evaluate(fitted, counts)
    y = log_normalise(counts).X.toarray()
    mean, sd = predicted(fitted, list(counts.obs_names))
    assert scores.n == y.size
    assert scores.rmse == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)))
    assert scores.mae == pytest.approx(np.abs(y - mean).mean())
    assert scores.log_predictive_density == pytest.approx(norm.logpdf(y, mean, sd).mean())
    inside = np.abs(y - mean) <= norm.ppf(0.95) * sd
    assert scores.coverage["0.9"] == pytest.approx(inside.mean())
    by_genes = np.argsort(counts.X.getnnz(0), kind="stable")
    parts = [inside[:, part].mean() for part in np.array_split(by_genes, 10)]
    np.testing.assert_allclose(scores.coverage_by_col_decile["0.9"], parts)
    by_cells = np.argsort(counts.X.getnnz(1), kind="stable")
    parts = [inside[part].mean() for part in np.array_split(by_cells, 10)]
    np.testing.assert_allclose(scores.coverage_by_row_decile["0.9"], parts)


def test_counts_and_what_is_made_of_them_score_alike_in_any_order(block_fit, counts, tmp_path):
    rng = np.random.default_rng(0)
    shuffled = counts[rng.permutation(50)].copy()[:, rng.permutation(N_GENES)].copy()
    write_h5ad(counts, tmp_path / "counts.h5ad")
    expected = evaluate(block_fit, counts)
    for test in (log_normalise(counts), shuffled, tmp_path / "counts.h5ad"):
        assert evaluate(block_fit, test).rmse == pytest.approx(expected.rmse, rel=1e-12)


def test_rows_that_the_fit_never_saw_get_the_prior_and_are_counted(block_fit, counts):
    new = made(5, 1, "new")
    both = ad.concat([counts[:3].copy(), new])
    scores = evaluate(block_fit, mark(both, unstored="zero"))
    assert (scores.n_unknown_rows, scores.n_unknown_cols, scores.n_unknown_entries) == (5, 0, 5 * N_GENES)
    y = log_normalise(mark(both, unstored="zero")).X.toarray()
    mean, sd = predicted(block_fit, list(both.obs_names))
    assert scores.log_predictive_density == pytest.approx(norm.logpdf(y, mean, sd).mean())


def test_new_cells_folded_in_from_counts(fitted):
    new = made(8, 1, "new")
    folded = fold_in(fitted, new)
    np.testing.assert_allclose(folded.data.X.toarray(), log_normalise(new).X.toarray())
    spread = folded.guide.blocks("user")[1]
    torch.testing.assert_close(spread, spread[:1].expand_as(spread))  # one Gram matrix for all rows
    assert evaluate(folded, new).rmse < evaluate(fitted, new).rmse


def test_extra_genes_do_not_count_towards_a_total(block_fit, counts):
    wider = ad.AnnData(sp.hstack([counts.X, sp.csr_matrix(np.full((50, 1), 7.0, np.float32))], format="csr"))
    wider.obs_names, wider.var_names = counts.obs_names, [*counts.var_names, "extra"]
    scores = evaluate(block_fit, mark(wider, unstored="zero"))
    assert scores.rmse == pytest.approx(evaluate(block_fit, counts).rmse)


def test_a_gene_without_counts_is_known(block_fit):
    table = predict(block_fit, ["c0", "c0", "nobody"], ["g3", "nothing", "g3"])
    assert table["known_gene"].tolist() == [True, False, True]
    assert table["known_cell"].tolist() == [True, True, False]
    assert table["sd"][0] < table["sd"][1]


def test_arviz_holds_densities_of_whole_rows(block_fit):
    data = to_arviz(block_fit, rows=["c0"], cols=["g3"], n_draws=10)
    assert np.isfinite(data.sample_stats["log_p"].to_numpy()).all()


def test_cells_are_scored_by_draws_as_in_closed_form(fitted, counts):
    closed, sampled = (evaluate(fitted, counts, method=method, n_samples=2000) for method in ("closed-form", "sampled"))
    assert sampled.predictive == "sampled"
    assert sampled.rmse == pytest.approx(closed.rmse, rel=1e-3)
    assert sampled.log_predictive_density == pytest.approx(closed.log_predictive_density, abs=0.01)
    single = predict(fitted, ["c0", "c4"], ["g0", "g7"], method="sampled", n_samples=2000)  # of rows that are not whole
    exact = predict(fitted, ["c0", "c4"], ["g0", "g7"])
    np.testing.assert_allclose(single["sd"], exact["sd"], rtol=0.1)
    np.testing.assert_allclose(single["mean"], exact["mean"], atol=0.1 * exact["sd"].max())


def test_all_of_a_diagnosis_of_cells(block_fit, counts):
    found = diagnose(block_fit, test=made(20, 1, "new"), data=log_normalise(counts), rows=5, draws=100, loo=50)
    assert found.columns.n_columns == N_GENES
    assert (found.loo.n_all, found.loo.corrected) == (50 * N_GENES, False)
    assert found.left_out == [
        f"k-hats of {what}: the model observes whole rows" for what in ("columns", "expected values")
    ]
    mean = found.checks.set_index("statistic").loc["mean"]
    assert abs(mean["observed"] - mean["mean"]) < 4 * mean["sd"]


def test_zeros_taken_as_missing(counts):
    taken = prepared(counts, "missing")
    model = LatentFactor(2, unstored="missing")
    fitted = coordinate_ascent.fit(model, RowBlockNormal(), taken, sweeps=3, **EXACT)
    assert evaluate(fitted, counts).n == counts.X.nnz
    assert fold_in(fitted, made(4, 1, "new")).meaning["unstored"] == "missing"
    assert not predict(fitted, "c0", "g3")["known_gene"][0]
    with pytest.raises(PlatewiseError, match="gene expression"):
        recommend(fitted, "c0")


def test_guides_that_keep_no_rows_find_the_counts_again(counts, tmp_path):
    write_h5ad(counts, tmp_path / "counts.h5ad")
    guide = RowBlockNormal(hold_rows=False)
    fitted = natural_gradient.fit(LatentFactor(2), guide, prepared(counts, "missing"), passes=2, **EXACT)
    before = predict(fitted, "c0", "g0")["mean"][0]
    fitted.data = tmp_path / "counts.h5ad"
    assert predict(fitted, "c0", "g0")["mean"][0] == pytest.approx(before)


def test_what_is_refused(block_fit, counts, split):
    empty = counts.copy()
    empty.X = sp.csr_matrix(counts.X.multiply(np.arange(50)[:, None] > 0))
    fewer = counts[:, :11].copy()
    for read, message in (
        (lambda: recommend(block_fit, "c0"), "Expected a fit of ratings to recommend from, got one of gene expression"),
        (lambda: evaluate(block_fit, split[1]), "Expected counts .* for LatentFactor, got ratings"),
        (lambda: evaluate(block_fit, fewer), "Expected all 12 genes of the fit"),
        (lambda: evaluate(block_fit, empty), "Expected cells with counts, got 1 of 50 without any, the first 'c0'"),
        (lambda: to_arviz(block_fit, heldout=counts), "Expected no heldout="),
        (lambda: simulate_ratings(LatentFactor(2, unstored="zero"), 10, 10, 20), "Expected a model of ratings, got a"),
    ):
        with pytest.raises(PlatewiseError, match=message) as raised:
            read()
        assert "\n" not in str(raised.value)


def test_a_fit_remembers_how_its_counts_were_normalised(block_fit, counts, tmp_path):
    block_fit.save(tmp_path / "run")
    loaded = type(block_fit).load(tmp_path / "run")
    assert loaded.meaning == meaning(log_normalise(counts))
    assert evaluate(loaded, counts).rmse == evaluate(block_fit, counts).rmse
