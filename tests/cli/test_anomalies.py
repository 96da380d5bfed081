"""`platewise anomalies` shows and writes what `posterior.anomalies` finds, for factor models and VAEs."""

import json

import pandas as pd
import pytest
import torch
from platewise.data import read_h5ad, write_h5ad
from platewise.guides import AmortizedNormal, MeanFieldNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import anomalies

from ..count_data import small_counts

OPTIONS = {"epochs": 3, "batch_rows": 20, "device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Counts, a fit of a VAE, and one of the factor model with all entries."""
    folder = tmp_path_factory.mktemp("cells")
    write_h5ad(small_counts(), folder / "cells.h5ad")
    for name, model, guide in (
        ("vae", VAE(2, hidden=8), AmortizedNormal(hidden=8)),
        ("factors", LatentFactor(2, unstored="zero"), MeanFieldNormal()),
    ):
        svi.fit(model, guide, small_counts(), dtype=torch.float32, **OPTIONS).save(folder / name)
    return folder


def test_ratings(folder, platewise):
    result = platewise("anomalies", folder / "run", folder / "test.h5ad", "-n", "7", "-o", "odd.csv")
    assert result.code == 0
    assert "most surprising entries" in result.out
    assert "all 7 are in odd.csv" in result.out
    expected = anomalies(Fitted.load(folder / "run"), read_h5ad(folder / "test.h5ad"), n=7)
    pd.testing.assert_frame_equal(pd.read_csv("odd.csv"), expected, check_dtype=False, rtol=1e-5)
    shares = ", ".join(f"{x:.2g} below {p}" for p, x in expected.attrs["calibration"].items())
    last = result.out.strip().splitlines()[-1]
    said = (
        f"Calibration: of {expected.attrs['scored']:,} entries scored, a share of {shares}; about as the model expects."
    )
    assert last == said


@pytest.mark.parametrize(("run", "entries"), [("vae", "stored"), ("vae", "all"), ("factors", "all")])
def test_cells_as_json(cells, platewise, run, entries):
    options = ["-n", "4", "--tail", "upper", "--entries", entries, "--draws", "2", "--json"]
    result = platewise("anomalies", cells / run, cells / "cells.h5ad", *options)
    found = json.loads(result.out)
    assert found["scored"] == (60 * 25 if entries == "all" else small_counts().X.nnz)
    assert set(found["calibration"]) == {"0.01", "0.001", "0.0001"}
    assert len(found["anomalies"]) == 4
    assert set(found["anomalies"][0]) >= {"row", "col", "value", "expected", "sd", "tail_probability", "p_adjusted"}


@pytest.mark.parametrize(("run", "header"), [("vae", ["cell", "gene"]), ("factors", ["cell", "gene"])])
def test_the_table_calls_rows_what_they_are(cells, platewise, run, header):
    shown = platewise("anomalies", cells / run, cells / "cells.h5ad", "-n", 1, "--draws", 2).out
    assert [line.split()[:2] for line in shown.splitlines() if "expected" in line and "value" in line] == [header]


def test_other_data_and_options_are_refused(folder, cells, platewise):
    result = platewise("anomalies", cells / "vae", folder / "test.h5ad")
    assert (result.code, result.err.count("\n")) == (2, 1)
    result = platewise("anomalies", cells / "vae", cells / "cells.h5ad", "--tail", "both")
    assert "Expected tail among" in result.err
    result = platewise("anomalies", folder / "run", folder / "test.h5ad", "--entries", "all")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "--entries" in result.err
