"""The script that sets two guides beside NUTS: that it runs, and that what it says of their widths is so."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from platewise.guides import MeanFieldNormal, RowBlockNormal

SCRIPT = Path(__file__).parents[2] / "examples" / "families.py"
QUICK = ("--users", "6", "--items", "6", "--draws", "10", "--warmup", "5")


def loaded():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("families", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_figures_and_table(tmp_path):
    command = [sys.executable, SCRIPT, "-o", str(tmp_path / "new"), *QUICK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    for name in ("expectations.png", "pairs.png"):
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")
    for said in ("factorised", "row-block", "NUTS: 2 chains of 10 draws", "expectations: largest R-hat"):
        assert said in done.stdout


def test_one_interval_is_that_of_the_normal_it_is_drawn_from():
    families = loaded()
    draws = families.xr.DataArray(
        torch.randn(1, 4000, 2, 3).numpy() + 3.5, dims=("chain", "draw", "user_id", "item_id")
    )
    one = families.predictive(draws, 1, 2, seed=0)
    sd = np.sqrt(1 + families.SIGMA**2)
    wanted = [3.5, sd, 3.5 - 1.645 * sd, 3.5 + 1.645 * sd, 1.0]
    np.testing.assert_allclose(list(one.values()), wanted, atol=0.08)


def test_expectation_of_every_cell():
    families = loaded()
    user, item = torch.randn(2, 3, 4, 2), torch.randn(2, 3, 5, 2)
    mu = torch.randn(2, 3)
    dims = {"mu": (), "user": ("user_id", "user_dim_0"), "item": ("item_id", "item_dim_0")}
    sites = {"mu": mu, "user": user, "item": item}
    got = families.expectation(
        families.xr.Dataset({k: (("chain", "draw", *dims[k]), x.numpy()) for k, x in sites.items()})
    )
    assert got.dims == ("chain", "draw", "user_id", "item_id")
    wanted = mu[..., None, None] + user[..., 1:] + item[..., None, :, 1] + user[..., :1] @ item[..., :1].mT
    np.testing.assert_allclose(got, wanted)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_guides_are_narrower_than_nuts_around_the_same_means():
    """At the script's own size; tolerances of the means in standard deviations under NUTS."""
    families = loaded()
    train, _, _ = families.simulated(30, 20, seed=0)
    posteriors = [families.fitted(guide, train, 600, 0) for guide in (MeanFieldNormal(), RowBlockNormal())]
    posteriors.append(families.sampled(train, draws=300, warmup=200, chains=2, seed=0))
    cells = [families.expectation(idata.posterior) for idata in posteriors]
    means, sds = ([getattr(x, what)(families.DRAWS).to_numpy() for x in cells] for what in ("mean", "std"))
    factorised, row_block, nuts = (sd.mean() for sd in sds)
    assert factorised < row_block < nuts
    for mean in means[:2]:
        error = (mean - means[2]) / sds[2]
        assert np.abs(error).mean() < 0.3
        assert abs(error.mean()) < 0.1
