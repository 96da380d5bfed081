"""`platewise diagnose`: the verdict first, tables, JSON, figures whole or not at all; and a VAE."""

import json
import shutil

import pytest
import torch
from platewise.data import write_h5ad
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE

from ..count_data import small_counts

FEW = "--rows", 10, "--draws", 100, "--loo", 100


def test_tables_begin_with_the_verdict(folder, platewise):
    result = platewise("diagnose", folder / "run", folder / "test.h5ad", *FEW)
    assert result.code == 0
    titles = (
        "what this posterior may be used for",
        "Coverage of 200 held-out entries, moment-matched normal",
        "Coverage of the 90% interval by tenth",
        "Beside simple references",
        "Pareto k-hat, given everything else",
        "Replicated data: 200 times",
        "Leave-one-out: 100 entries sampled, scaled to 1,800",
    )
    places = [result.out.index(title) for title in titles]
    assert places == sorted(places)
    for word in ("point predictions", "activity of the user", "popularity of the item", "biases only", "functional"):
        assert word in result.out
    assert "200 held-out entries are too few to tell" in result.out
    assert "The guide is taken for the posterior" in result.out
    assert "of 100; by tenth of the users' activity, lowest first, in %:" in result.out
    assert "diagnose: k-hats" in result.err


def test_json_has_all_of_it(folder, platewise):
    result = platewise("diagnose", folder / "run", folder / "test.h5ad", *FEW, "--json")
    found = json.loads(result.out)
    assert {"verdict", "calibration", "references", "checks", "k_hats", "left_out"} <= set(found)
    assert {"use", "answer", "why"} == set(found["verdict"][0])
    assert {x["answer"] for x in found["verdict"]} <= {"yes", "no", "unknown"}
    line = found["calibration"]["coverage"][0]
    assert (line["by"], line["level"], line["n"]) == ("all", 0.5, 200)
    assert found["references"][0]["predictor"] == "fit"
    assert found["columns"] is None
    assert found["loo"]["n_all"] == 1800
    assert found["loo"]["elpd_per_entry"] * 1800 == pytest.approx(found["loo"]["elpd"]["value"])


def test_figures_and_what_is_in_them(folder, platewise, tmp_path):
    command = "diagnose", folder / "run", folder / "test.h5ad", *FEW, "--figures", "found"
    result = platewise(*command)
    assert result.code == 0
    of_loo = {"loo_pit.png", "loo_k_hat.png", "replicated.png"}
    names = {"coverage.png", "pit.png", "k_hat.png", *of_loo, "diagnosis.json"}
    assert {path.name for path in (tmp_path / "found").iterdir()} == names
    assert all((tmp_path / "found" / name).stat().st_size > 1000 for name in names)
    assert json.loads((tmp_path / "found" / "diagnosis.json").read_text())["calibration"]["n"] == 200
    figures = "coverage.png, pit.png, k_hat.png, loo_pit.png, loo_k_hat.png, replicated.png"
    assert f"found: {figures}, diagnosis.json" in result.out
    assert platewise(*command).code == 2  # the folder is taken


def test_without_a_test_part_and_leave_one_out(folder, platewise):
    result = platewise("diagnose", folder / "run", *FEW, "--loo", 0)
    assert result.code == 0
    assert "Leave-one-out" not in result.out
    assert "no held-out entries were given: give a test part" in result.out
    assert "left out: calibration and references, which need held-out entries" in result.out


@pytest.mark.slow
def test_further_fits(folder, platewise):
    result = platewise("diagnose", folder / "run", *FEW, "--restarts", 1, "--replicates", 2)
    assert result.code == 0
    assert "Fits from other seeds, this one first" in result.out
    assert "Ranks of the truth in fits to 2 small simulated data sets" in result.out
    assert "conclusions that do not hang on the seed" in result.out


def test_training_data_that_are_gone(folder, platewise, tmp_path):
    for name in ("run", "train.h5ad"):
        (shutil.copytree if name == "run" else shutil.copy)(folder / name, tmp_path / name)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["file"] = str(tmp_path / "gone.h5ad")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    gone = platewise("diagnose", "run", folder / "test.h5ad", *FEW)
    assert gone.code == 0
    assert "name them with --data FILE." in gone.err
    assert "which need the training data" in gone.out
    named = platewise("diagnose", "run", folder / "test.h5ad", *FEW, "--data", "train.h5ad")
    assert "Beside simple references" in named.out


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Cells, others, and a run of a small VAE."""
    folder = tmp_path_factory.mktemp("vae")
    write_h5ad(small_counts(), folder / "cells.h5ad")
    write_h5ad(small_counts(seed=1)[:20].copy(), folder / "new.h5ad")
    torch.manual_seed(0)
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), small_counts(), epochs=2, progress=False)
    fitted.save(folder / "run", data=folder / "cells.h5ad")
    return folder


def test_a_vae_and_new_cells(cells, platewise):
    result = platewise("diagnose", cells / "run", cells / "new.h5ad", *FEW, "--figures", "found")
    assert result.code == 0
    for words in ("description of new rows", "column means", "share of zeros", "60 cells"):
        assert words in result.out
    for words in ("genes inside 95% of their replications, of 25: share of zeros", "genes farthest from their"):
        assert words in result.out
    assert "Draws are weighed to the posterior of the row's latents" in result.out
    assert "loo_pit.png, loo_k_hat.png, replicated.png, diagnosis.json" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.h5ad",), "no such file"),
        (("TRAIN",), "Expected entries held out of the fit to judge it by, got its training data"),
        (("CELLS",), "for a diagnosis"),
        (("TEST", "--data", "TEST"), "fingerprints differ"),
        (("TEST", "--draws", 10), "Invalid value for '--draws'"),
    ],
)
def test_invalid_use(folder, cells, platewise, arguments, message):
    places = {"TRAIN": folder / "train.h5ad", "TEST": folder / "test.h5ad", "CELLS": cells / "new.h5ad"}
    result = platewise("diagnose", folder / "run", *(places.get(x, x) for x in arguments))
    assert result.code == 2
    assert message in result.err
    assert result.err.count("error") == 1
