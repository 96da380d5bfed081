"""Cells drawn from the VAE's program: shares and moments as asked for, a truth that explains them, files as memory."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from platewise.data import read_h5ad
from platewise.data.errors import PlatewiseError
from platewise.data.loader import DiskRows
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE, expected_counts, simulate, simulate_cells


@pytest.mark.parametrize("likelihood", simulate.COUNTS)
def test_as_many_entries_are_stored_as_asked_for(likelihood: str) -> None:
    cells = simulate_cells(600, 300, likelihood=likelihood, stored=0.15)
    assert isinstance(cells.X, sp.csr_matrix)
    assert cells.X.nnz / np.prod(cells.shape) == pytest.approx(0.15, rel=0.15)
    assert (cells.X.data >= 1).all()
    assert (cells.X.data % 1 == 0).all()
    assert cells.X.has_canonical_format


@pytest.mark.parametrize("likelihood", simulate.COUNTS)
def test_counts_have_the_moments_of_the_truth(likelihood: str) -> None:
    cells = simulate_cells(2000, 60, likelihood=likelihood, stored=0.5)
    mean, x = expected_counts(cells), cells.X.toarray()
    theta = np.inf if likelihood == "poisson" else cells.var["inverse_dispersion"].to_numpy()
    pi = 1 / (1 + np.exp(-cells.var["zero_logit"].to_numpy())) if "zero_logit" in cells.var else 0.0
    variance = mean + mean**2 * (1 / theta + pi * (1 + 1 / theta)) / (1 - pi)
    z = (x - mean).sum(0) / np.sqrt(variance.sum(0))
    assert np.abs(z).max() < 5  # of 60 genes
    assert ((x - mean) ** 2 / variance).mean() == pytest.approx(1, abs=0.15)


def test_expected_counts_of_some_cells_are_those_of_all() -> None:
    cells = simulate_cells(50, 30, batches=3)
    some = (cells.obs["batch"] == "batch3").to_numpy()
    np.testing.assert_allclose(expected_counts(cells[some]), expected_counts(cells)[some], rtol=1e-5)


def test_types_lie_apart_and_batches_shift_genes() -> None:
    cells = simulate_cells(800, 200, types=3, batches=2)
    z, label = cells.obsm["X_truth"], cells.obs["label"].cat.codes.to_numpy()
    centres = np.stack([z[label == k].mean(0) for k in range(3)])
    nearest = ((z[:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (nearest == label).mean() > 0.9
    assert cells.obs["label"].cat.categories.tolist() == ["type1", "type2", "type3"]
    assert cells.varm["batch_offsets"].shape == (200, 2)
    assert simulate_cells(50, 20, batch_effect=0.0).varm["batch_offsets"].to_numpy().std() == 0


def test_one_seed_gives_the_same_cells() -> None:
    one, two, other = (simulate_cells(50, 30, seed=seed) for seed in (1, 1, 2))
    assert (one.X != two.X).nnz == 0
    assert (one.X != other.X).nnz > 0


def test_a_file_written_in_blocks_holds_what_memory_does(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(simulate, "BLOCK_ROWS", 16)
    cells = simulate_cells(50, 30, seed=3)
    returned = simulate_cells(50, 30, seed=3, to=tmp_path / "cells.h5ad")
    read = read_h5ad(tmp_path / "cells.h5ad")
    assert (read.X != cells.X).nnz == 0
    assert returned.X.nnz == 0
    assert read.obs_names.equals(cells.obs_names)
    np.testing.assert_array_equal(expected_counts(read), expected_counts(cells))
    on_disk = DiskRows(tmp_path / "cells.h5ad")
    assert (on_disk.take(np.arange(20, 40)) != cells.X[20:40]).nnz == 0


def test_blocks_are_never_larger_than_said(monkeypatch) -> None:
    sizes, without_entries = [], simulate._without_entries
    monkeypatch.setattr(simulate, "BLOCK_ROWS", 16)
    monkeypatch.setattr(simulate, "PILOT_ROWS", 8)
    monkeypatch.setattr(
        simulate, "_without_entries", lambda rows, *rest: sizes.append(len(rows)) or without_entries(rows, *rest)
    )
    simulate_cells(50, 30)
    assert sizes == [8, 16, 16, 16, 2]


def test_a_file_that_fails_midway_is_not_there(tmp_path, monkeypatch) -> None:
    def broken(*_: object) -> None:
        yield sp.csr_matrix((4, 20), dtype=np.float32)
        raise RuntimeError("disk")

    monkeypatch.setattr(simulate, "_blocks", broken)
    with pytest.raises(PlatewiseError, match="disk"):
        simulate_cells(10, 20, to=tmp_path / "cells.h5ad")
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_if_told_to(tmp_path) -> None:
    path = tmp_path / "cells.h5ad"
    simulate_cells(10, 20, to=path)
    with pytest.raises(PlatewiseError, match="exists"):
        simulate_cells(10, 20, to=path)
    simulate_cells(12, 20, to=path, force=True)
    assert ad.read_h5ad(path).n_obs == 12


def test_a_fit_takes_them() -> None:
    cells = simulate_cells(60, 30, batches=2, stored=0.6)
    model, about = VAE(2, hidden=8, categories={"batch": 2}), {"batch": cells.obs["batch"].cat.codes.to_numpy()}
    options = {"epochs": 2, "batch_rows": 20, "device": "cpu", "progress": False}
    fitted = svi.fit(model, AmortizedNormal(hidden=8), cells, covariates=about, **options)
    assert np.isfinite(fitted.history["elbo"]).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_cells": 0}, "n_cells of at least 1"),
        ({"types": 0}, "types of at least 1"),
        ({"likelihood": "gaussian"}, "a likelihood of counts"),
        ({"stored": 0.0}, "above 0 and below 1"),
        ({"stored": 0.9999, "likelihood": "zero-inflated-negative-binomial"}, "that can be had, at most 0."),
        ({"batch_effect": -1.0}, "batch effect of 0 or more"),
        ({"batch_effect": float("nan")}, "batch effect of 0 or more"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_cannot_be_drawn_gets_one_line(given: dict, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message) as error:
        simulate_cells(**{"n_cells": 20, "n_genes": 10, **given})
    assert "\n" not in str(error.value)
