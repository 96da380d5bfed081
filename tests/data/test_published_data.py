"""The published data sets themselves, where they are at hand: counts as their README files state them."""

import numpy as np
import pytest
from platewise.data.ratings import read_ratings

pytestmark = pytest.mark.real_data


@pytest.fixture
def folder(real_data):
    def find(name):
        if not (real_data / name).is_dir():
            pytest.skip(f"{name} is not in the test data folder")
        return real_data / name

    return find


def test_movielens_100k(folder):
    adata = read_ratings(folder("ml-100k"))
    assert adata.shape == (943, 1682)
    assert adata.X.nnz == 100_000
    assert adata.uns["platewise"]["duplicates"] == 0
    assert np.bincount(adata.X.data.astype(int)).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    assert adata.var["title"]["1"] == "Toy Story (1995)"
    assert (adata.var["title"] != "").all()
    assert adata.obs["occupation"].nunique() == 21


@pytest.mark.parametrize("fold", range(1, 6))
def test_the_published_folds_of_100k(folder, fold):
    train = read_ratings(folder("ml-100k") / f"u{fold}.base")
    test = read_ratings(folder("ml-100k") / f"u{fold}.test")
    assert (train.X.nnz, test.X.nnz) == (80_000, 20_000)
    assert "title" in test.var


def test_movielens_1m(folder):
    adata = read_ratings(folder("ml-1m") / "train.csv.gz")
    assert adata.n_obs == 6040
    assert adata.X.nnz == 900_189
    assert adata.var["title"]["1"] == "Toy Story (1995)"
    assert set(adata.obs["gender"]) == {"M", "F"}


def test_movielens_latest_small(folder):
    adata = read_ratings(folder("ml-latest-small"))
    assert adata.shape == (610, 9724)
    assert adata.X.nnz == 100_836
    assert set(np.unique(adata.X.data)) == {i / 2 for i in range(1, 11)}
