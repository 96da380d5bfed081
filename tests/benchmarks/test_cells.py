"""The benchmark of cells: what it holds out, what it chooses, and what it scores by."""

import importlib

import anndata as ad
import numpy as np
import platewise.models  # noqa: F401 (some warn when imported, and inside a test that is an error)
import pytest
import torch
from platewise.data import read_h5ad

from tests.benchmarks.test_methods import FOLDER


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def folder(bench, tmp_path):
    """A published set in small: 200 cells, two batches, a tenth for testing."""
    data = bench("cell_data")
    cells = data.simulate_cells(200, 40)
    cells.obs["batch"] = np.where(np.arange(200) % 2, "b", "a")
    del cells.uns["platewise"]
    with ad.settings.override(allow_write_nullable_strings=True):
        cells.write_h5ad(tmp_path / data.SETS["sc_mixology"])
    return tmp_path


def test_test_cells_are_not_handed_out_before_the_last_step(bench, folder):
    load = bench("cell_data").load_cells
    early, final = (load("sc_mixology", folder, final=final) for final in (False, True))
    test = set(final.held_out.obs_names)
    assert len(test) == 20
    assert (final.held_out.obs["split"] == "test").all()
    assert test.isdisjoint(early.everything.obs_names)
    assert early.held_out.n_obs == 18
    assert set(early.held_out.obs_names) | set(early.fit.obs_names) == set(final.fit.obs_names)
    assert set(early.held_out.obs_names).isdisjoint(early.fit.obs_names)


def test_batches_have_the_same_codes_in_every_part(bench, folder):
    split = bench("cell_data").load_cells("sc_mixology", folder, final=True)
    assert split.n_batches == 2
    for part in (split.fit, split.held_out, split.everything):
        assert (split.codes(part) == (part.obs["batch"] == "b")).all()


def test_simulated_cells_store_about_a_ninth_of_their_entries(bench):
    cells = bench("cell_data").simulate_cells(1_000)
    assert cells.X.nnz / np.prod(cells.shape) == pytest.approx(0.11, abs=0.01)
    assert cells.X.data.min() >= 1


def test_cells_on_disk_are_written_whole(bench, tmp_path, monkeypatch):
    million = bench("million_cells")
    monkeypatch.setattr(million, "BLOCK", 40)
    million.write_cells(tmp_path / "cells.h5ad", 100)
    cells = read_h5ad(tmp_path / "cells.h5ad", unstored="zero")
    assert cells.shape == (100, million.N_GENES)
    assert cells.X.has_canonical_format
    assert cells.X.nnz / np.prod(cells.shape) == pytest.approx(million.STORED, rel=0.1)
    second = list(million.blocks(100, 0))[1]
    assert (cells.X[40:80] != second).nnz == 0


def test_negative_binomial_of_peers_is_that_of_torch(bench):
    of = bench("cell_bounds")
    x, mean, theta = torch.arange(12.0).reshape(3, 4), torch.rand(3, 4) * 5, torch.rand(4) + 0.1
    expected = torch.distributions.NegativeBinomial(theta, logits=(mean / theta).log()).log_prob(x).sum(-1)
    torch.testing.assert_close(of.coefficients(x, theta) + of.powers(x, mean, theta), expected)


def test_bounds_agree_where_the_weights_do(bench):
    weights = torch.tensor([[-3.0, -1.0], [-3.0, -5.0]])
    elbo, weighted = bench("cell_bounds").bounds_of(weights).T
    assert elbo.tolist() == [-3.0, -3.0]
    assert weighted[0].item() == pytest.approx(-3.0)
    assert weighted[1].item() == pytest.approx(np.log((np.exp(-1) + np.exp(-5)) / 2))


def scores(bench, **figures):
    return bench("measure_cells").CellScores("a method", **figures)


def test_the_shortest_of_ours_that_reaches_the_peers_best_is_chosen(bench):
    losses = {("platewise", 20): 9.0, ("platewise", 40): 7.9, ("platewise", 60): 7.0, ("platewise", 0): 6.0}
    losses |= {("scvi", 100): 8.5, ("scvi", 200): 8.0, ("scvi", 400): 8.2, ("factors", 0): None}
    chosen = bench("cells").chosen({run: scores(bench, loss=loss) for run, loss in losses.items()})
    assert chosen == [("platewise", 0), ("factors", 0), ("scvi", 200), ("platewise", 40)]


def test_no_short_fit_is_chosen_where_none_reaches_the_peer(bench):
    tried = {("platewise", 20): scores(bench, loss=9.0), ("scvi", 100): scores(bench, loss=8.5)}
    assert bench("cells").chosen(tried) == [("scvi", 100)]


def test_a_curve_is_read_at_its_first_crossing(bench):
    seconds_to = bench("cells").seconds_to
    curve = [(1.0, 9.0), (2.0, 7.0), (3.0, 8.0), (4.0, 6.0)]
    assert seconds_to(curve, 7.5) == 2.0
    assert seconds_to(curve, 5.0) is None


def test_embeddings_are_averaged_and_times_are_medians(bench):
    runs = [scores(bench, ari=ari, seconds=seconds) for ari, seconds in [(0.0, 1.0), (0.5, 2.0), (0.7, 9.0)]]
    summary = bench("cells").summary(runs)
    assert (summary.ari, summary.seconds, summary.silhouette) == (pytest.approx(0.4), 2.0, None)
    assert bench("cells").summary([*runs, scores(bench, problem="died")]).problem == "died"


def test_neighbours_vote_without_the_cell_itself(bench):
    pytest.importorskip("sklearn")
    metrics = bench("cell_metrics")
    line = np.arange(6.0)[:, None] ** 2
    codes = np.array([0, 0, 0, 1, 1, 0])
    assert metrics.neighbour_accuracy(line, codes, 1) == pytest.approx(4 / 6)  # the fourth and the last are wrong
    assert metrics.neighbour_accuracy(line, codes, 3) == pytest.approx(3 / 6)  # and the fifth


def test_clusters_that_are_the_labels_agree(bench):
    pytest.importorskip("sklearn")
    metrics = bench("cell_metrics")
    codes = np.repeat([0, 1, 2], 10)
    embedding = np.eye(3)[codes] + np.random.default_rng(0).normal(0, 0.01, (30, 3))
    assert metrics.agreement(embedding, codes, 0) == {"ari": pytest.approx(1), "nmi": pytest.approx(1)}
    assert metrics.batch_silhouette(embedding, codes) > 0.9
