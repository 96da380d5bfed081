"""`platewise embed` writes what `posterior.embed` finds, and refuses other data."""

import json

from platewise.data import read_h5ad, write_h5ad


def test_embed_and_read(folder, platewise):
    result = platewise("embed", folder / "run", folder / "train.h5ad", "-o", "out.h5ad")
    assert (result.code, result.out.strip()) == (0, "out.h5ad: 120 users in 2 dimensions, obsm['X_platewise']")
    adata = read_h5ad("out.h5ad")
    assert adata.obsm["X_platewise"].shape == (120, 2)
    assert adata.varm["X_platewise_sd"].shape == (60, 2)


def test_embed_as_json(folder, platewise):
    result = platewise("embed", folder / "run", folder / "train.h5ad", "--key", "Z", "--json", "-o", "out.h5ad")
    assert json.loads(result.out) == {"data": "out.h5ad", "key": "Z", "rows": 120, "dimensions": 2}


def test_other_data_are_refused_and_nothing_is_written(folder, platewise, tmp_path):
    write_h5ad(read_h5ad(folder / "train.h5ad")[:50].copy(), "some.h5ad")
    result = platewise("embed", folder / "run", "some.h5ad", "-o", "out.h5ad")
    assert result.code == 2
    assert "Pass the training data" in result.err
    assert not (tmp_path / "out.h5ad").exists()
