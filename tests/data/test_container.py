import os

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data.container import col_ids, make_ratings, row_ids
from platewise.data.errors import PlatewiseError
from platewise.data.meaning import mark, require_unstored
from platewise.data.storage import fingerprint, read_h5ad, size_of, write_h5ad


@pytest.fixture
def ratings():
    x = sp.csr_matrix((np.array([1, 0, 5, 2], np.float32), np.array([0, 2, 1, 2]), [0, 2, 2, 4]), shape=(3, 3))
    var = pd.DataFrame({"title": ["A", "B", ""]})
    obs = pd.DataFrame({"age": [1, 2, 3]})
    return make_ratings(x, [7, 5, 10], ["x", "y", "z"], obs=obs, var=var, timestamp=np.array([4, 3, 2, 1]))


def test_the_shape_of_the_container(ratings):
    assert ratings.X.dtype == np.float32
    assert ratings.X.nnz == 4  # the stored zero is a rating
    assert ratings.uns["platewise"] == {
        "unstored": "missing",
        "row_ids": "int",
        "col_ids": "str",
        "row_name": "user",
        "col_name": "item",
    }
    assert row_ids(ratings).tolist() == [7, 5, 10]
    assert col_ids(ratings).tolist() == ["x", "y", "z"]
    assert ratings.obs_names.tolist() == ["7", "5", "10"]
    times = ratings.layers["timestamp"]
    assert times.dtype == np.int64
    assert np.shares_memory(times.indices, ratings.X.indices)
    assert np.shares_memory(times.indptr, ratings.X.indptr)


def test_unsorted_entries_are_sorted_with_their_times():
    x = sp.csr_matrix((np.array([1.0, 2.0]), np.array([1, 0]), [0, 2]), shape=(1, 2))
    adata = make_ratings(x, ["u"], [1, 2], timestamp=np.array([10, 20]))
    assert adata.X.data.tolist() == [2, 1]
    assert adata.layers["timestamp"].data.tolist() == [20, 10]
    assert x.data.tolist() == [1, 2]  # the caller's matrix is as it was


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 2)), [1, 2], [1, 2]), "scipy sparse matrix"),
        ((sp.eye(2, format="csr"), [1], [1, 2]), "Expected 2 user ids"),
        ((sp.eye(2, format="csr"), [1, 1], [1, 2]), "unique"),
        ((sp.eye(2, format="csr"), [1, 2], [1, "b"]), "mixed"),
        ((sp.csr_matrix((np.ones(2), np.zeros(2, int), [0, 2]), shape=(1, 1)), [1], [1]), "duplicates"),
    ],
)
def test_bad_matrices(arguments, message):
    with pytest.raises(PlatewiseError, match=message):
        make_ratings(*arguments)


def test_bad_side_tables_and_times():
    x = sp.eye(2, format="csr")
    with pytest.raises(PlatewiseError, match="obs with 2 rows"):
        make_ratings(x, [1, 2], [1, 2], obs=pd.DataFrame({"a": [1]}))
    with pytest.raises(PlatewiseError, match="one timestamp per stored entry"):
        make_ratings(x, [1, 2], [1, 2], timestamp=np.arange(3))


def test_meaning_is_asked_for(ratings):
    require_unstored(ratings, "missing", needed_by="LatentFactor")
    with pytest.raises(PlatewiseError, match=r"Expected counts .* for VAE, got ratings"):
        require_unstored(ratings, "zero", needed_by="VAE")
    with pytest.raises(PlatewiseError, match="mark"):
        require_unstored(ad.AnnData(sp.eye(2, format="csr")), "zero", needed_by="VAE")
    with pytest.raises(PlatewiseError, match="unstored"):
        mark(ratings, unstored="nothing")


def test_concatenation_drops_the_meaning_and_mark_sets_it_again(ratings):
    both = ad.concat([ratings[:1], ratings[1:]])
    with pytest.raises(PlatewiseError):
        require_unstored(both, "missing", needed_by="LatentFactor")
    require_unstored(mark(both, unstored="missing"), "missing", needed_by="LatentFactor")


def test_h5ad_round_trip(ratings, tmp_path):
    path = tmp_path / "r.h5ad"
    write_h5ad(ratings, path)
    back = read_h5ad(path)
    assert fingerprint(back) == fingerprint(ratings)
    assert (back.X != ratings.X).nnz == 0
    assert back.X.nnz == 4
    assert back.uns["platewise"] == ratings.uns["platewise"]
    assert back.var["title"].tolist() == ["A", "B", ""]
    assert np.shares_memory(back.X.indices, back.layers["timestamp"].indices)
    assert os.listdir(tmp_path) == ["r.h5ad"]


def test_an_existing_path_needs_force(ratings, tmp_path):
    path = tmp_path / "r.h5ad"
    path.write_text("precious")
    with pytest.raises(PlatewiseError, match="--force"):
        write_h5ad(ratings, path)
    assert path.read_text() == "precious"
    write_h5ad(ratings, path, force=True)
    assert read_h5ad(path).n_obs == 3


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_half_written(ratings, tmp_path, monkeypatch, error):
    def fail(self, path, **_):
        with open(path, "wb") as file:
            file.write(b"half")
        raise error

    monkeypatch.setattr(ad.AnnData, "write_h5ad", fail)
    with pytest.raises((PlatewiseError, KeyboardInterrupt), match=r"No space left|^$"):
        write_h5ad(ratings, tmp_path / "r.h5ad")
    assert os.listdir(tmp_path) == []


def test_files_that_are_no_containers(ratings, tmp_path):
    with pytest.raises(PlatewiseError, match="no such file"):
        read_h5ad(tmp_path / "none.h5ad")
    with pytest.raises(PlatewiseError, match="a folder"):
        read_h5ad(tmp_path)
    (tmp_path / "text.h5ad").write_text("hello")
    with pytest.raises(PlatewiseError, match="something else"):
        read_h5ad(tmp_path / "text.h5ad")
    write_h5ad(ratings, tmp_path / "whole.h5ad")
    whole = (tmp_path / "whole.h5ad").read_bytes()
    (tmp_path / "cut.h5ad").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PlatewiseError, match="truncated or damaged"):
        read_h5ad(tmp_path / "cut.h5ad")
    with pytest.raises(PlatewiseError, match="does not exist"):
        write_h5ad(ratings, tmp_path / "nowhere" / "r.h5ad")


def test_a_file_from_elsewhere_must_be_given_its_meaning(tmp_path):
    path = tmp_path / "cells.h5ad"
    ad.AnnData(sp.eye(2, format="csr")).write_h5ad(path)
    with pytest.raises(PlatewiseError, match='unstored="zero"'):
        read_h5ad(path)
    assert read_h5ad(path, unstored="zero").uns["platewise"]["row_name"] == "cell"


def test_fingerprint_depends_on_entries_and_names_only(ratings):
    digest = fingerprint(ratings)
    other = ratings.copy()
    other.obs["age"] = 0
    other.X.indices = other.X.indices.astype(np.int64)
    assert fingerprint(other) == digest
    other.X.data[0] = 4
    assert fingerprint(other) != digest
    renamed = ratings.copy()
    renamed.obs_names = ["7", "5", "11"]
    assert fingerprint(renamed) != digest


def test_a_file_that_says_another_thing_is_not_read(ratings, tmp_path):
    write_h5ad(ratings, tmp_path / "r.h5ad")
    with pytest.raises(PlatewiseError, match=r'not stored are "zero", got "missing". Leave unstored'):
        read_h5ad(tmp_path / "r.h5ad", unstored="zero")
    assert read_h5ad(tmp_path / "r.h5ad", unstored="missing").n_obs == 3


def test_the_command_that_says_what_is_meant_is_named(tmp_path):
    unmarked = ad.AnnData(sp.eye(2, format="csr"))
    unmarked.write_h5ad(tmp_path / "r.h5ad")
    command = r"platewise ingest FILE --unstored missing\|zero -o data.h5ad"
    with pytest.raises(PlatewiseError, match=command):
        read_h5ad(tmp_path / "r.h5ad")
    with pytest.raises(PlatewiseError, match=command):
        require_unstored(unmarked, "zero", needed_by="VAE")
    with pytest.raises(PlatewiseError, match=r"platewise ingest FILE --unstored zero -o data.h5ad"):
        require_unstored(mark(unmarked, unstored="missing"), "zero", needed_by="VAE")


@pytest.mark.parametrize("layer", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("of", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_a_container_of_any_format_is_written(tmp_path, of, layer):
    dense = np.arange(600, dtype=np.float32).reshape(20, 30)
    adata = mark(ad.AnnData(of(dense), layers={"other": layer(dense)}), unstored="zero")
    assert size_of(adata) >= 2 * dense.nbytes
    write_h5ad(adata, tmp_path / "c.h5ad")
    assert read_h5ad(tmp_path / "c.h5ad").shape == (20, 30)
