"""Ratings simulated block by block: a whole .h5ad of distinct entries, the same for the same seed."""

import importlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from platewise.data import fingerprint, read_h5ad

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def big_ratings(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("big_ratings")
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 500)  # several blocks
    return module


def test_a_file_that_is_read_as_ratings(big_ratings, tmp_path):
    written = big_ratings.write_ratings(tmp_path / "a.h5ad", 200, 120, 4_000)
    ratings = read_h5ad(tmp_path / "a.h5ad")
    assert ratings.uns["platewise"]["unstored"] == "missing"
    assert ratings.shape == (200, 120)
    assert ratings.X.nnz == written
    assert ratings.X.dtype == np.float32
    with h5py.File(tmp_path / "a.h5ad") as file:
        assert file["X/indices"].dtype == np.int32


def test_entries_are_distinct_and_in_order(big_ratings, tmp_path):
    big_ratings.write_ratings(tmp_path / "a.h5ad", 200, 120, 4_000)
    x = read_h5ad(tmp_path / "a.h5ad").X
    counts = np.diff(x.indptr)
    cell = np.repeat(np.arange(200), counts) * 120 + x.indices
    assert (np.diff(cell) > 0).all()
    assert counts.min() >= 1
    assert counts.max() <= 60


def test_a_seed_repeats_itself(big_ratings, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        big_ratings.write_ratings(tmp_path / f"{name}.h5ad", 50, 30, 300, seed)
    a, b, c = (fingerprint(read_h5ad(tmp_path / f"{name}.h5ad")) for name in "abc")
    assert a == b != c


def test_blocks_cover_all_users(big_ratings):
    bounds = big_ratings.bounds_of(np.array([3, 499, 800, 1, 2, 2_000, 5]))
    assert (bounds[0], bounds[-1]) == (0, 7)
    assert (np.diff(bounds) > 0).all()


def test_no_more_than_were_wanted(big_ratings):
    rng = np.random.default_rng(0)
    user = np.repeat([0, 1, 2], [5, 2, 4])
    cell = user * 10 + np.arange(11) % 10
    kept = big_ratings.at_most(rng, np.sort(cell), user, np.array([2, 3, 0]))
    assert np.bincount(kept // 10, minlength=3).tolist() == [2, 2, 0]
