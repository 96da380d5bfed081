"""Users that a run never saw, folded in and read."""

import json

import numpy as np
import pytest
from platewise.data import read_h5ad, write_h5ad
from platewise.inference.run_directory import load


@pytest.fixture
def new(folder, tmp_path):
    """The test ratings as those of new users, items in another order, one of them unknown."""
    adata = read_h5ad(folder / "test.h5ad")
    adata.obs_names = [f"new{name}" for name in adata.obs_names]
    adata.uns["platewise"]["row_ids"] = "str"
    adata = adata[np.flatnonzero(adata.X.getnnz(1) > 1)].copy()[:, np.arange(adata.n_vars)[::-1]].copy()
    adata.var_names = ["unknown", *adata.var_names[1:]]
    write_h5ad(adata, tmp_path / "new.h5ad")
    return adata


def test_fold_in_and_read(folder, platewise, new):
    result = platewise("fold-in", folder / "run", "new.h5ad", "-o", "folded")
    assert result.code == 0, result.err
    left_out = new.X[:, [0]].nnz
    assert f"left out: {left_out} entries of 1 items that the fit does not know" in result.err
    assert f"{new.n_obs} users with {new.X.nnz - left_out} ratings, folded in, given the columns" in result.out
    fitted = load("folded")
    assert list(fitted.obs.index) == list(new.obs_names)
    assert list(fitted.var.index) == list(load(folder / "run").var.index)
    assert platewise("evaluate", "folded", "new.h5ad").code == 0
    assert platewise("posterior", "folded", "-o", "p.nc", "--row", new.obs_names[0], "--draws", 5).code == 0
    line = json.loads(platewise("predict", "folded", "--user", new.obs_names[0], "--item", 3, "--json").out)[0]
    assert line["known_user"]


def test_recommend_to_folded_users_leaves_out_what_they_rated(folder, platewise, new):
    platewise("fold-in", folder / "run", "new.h5ad", "-o", "folded")
    user = int(np.argmax(new.X[:, 1:].getnnz(1)))
    rated = {int(new.var_names[j]) for j in new.X[user].indices if j}
    arguments = ("recommend", "folded", "--user", new.obs_names[user], "-k", 60, "--json")
    for extra in ((), ("--data", "new.h5ad")):
        lines = json.loads(platewise(*arguments, *extra).out)
        assert len(lines) == 60 - len(rated)
        assert not rated & {line["item"] for line in lines}


def test_fold_in_as_json(folder, platewise, new):
    printed = json.loads(platewise("fold-in", folder / "run", "new.h5ad", "--json", "-o", "folded").out)
    left_out = new.X[:, [0]].nnz
    used = new.X.nnz - left_out
    assert printed == {"run": "folded", "users": new.n_obs, "entries": used, "left_out": left_out}
    assert "nothing to go on with: folded in" in platewise("fit", "--resume", "folded").err


def test_what_is_refused(folder, platewise, new):
    new.var_names = [f"x{name}" for name in new.var_names]
    write_h5ad(new, "others.h5ad")
    for command, part in (
        ("others.h5ad -o o", "Expected items that the fit knows, such as"),
        ("none.h5ad -o o", "no such file: none.h5ad"),
        ("new.h5ad -o new.h5ad", "new.h5ad, which exists"),
    ):
        result = platewise("fold-in", folder / "run", *command.split())
        assert result.code == 2
        assert part in result.err
