"""`platewise recalibrate`: a run with other noise, said wherever its figures are."""

import json

import numpy as np
from platewise.data.storage import read_h5ad, write_h5ad


def test_recalibrate_and_evaluate(folder, platewise):
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide")
    assert result.code == 0, result.err
    assert "factor on the noise" in result.out
    assert "in-sample: judge it by others" in result.out
    assert "next: platewise evaluate wide TEST.h5ad" in result.out
    shown = platewise("evaluate", "wide", folder / "test.h5ad").out
    assert "noise recalibrated on" in shown
    assert "in-sample: these are the ratings that the noise was recalibrated on." in shown


def test_exports_and_leave_one_out_say_so(folder, platewise):
    assert platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide").code == 0
    said = platewise("posterior", "wide", "-o", "p.nc", "--draws", 5).out
    assert "entries: in posterior_predictive, not in log_p" in said
    printed = json.loads(platewise("posterior", "wide", "-o", "q.nc", "--draws", 5, "--json").out)
    assert printed["recalibration"] in said
    assert platewise("posterior", folder / "run", "-o", "r.nc", "--draws", 5).out.count("\n") == 1
    few = "--rows", 10, "--draws", 100, "--loo", 100
    assert "Judged with noise recalibrated on" in platewise("diagnose", "wide", *few).out


def test_recalibrate_as_json(folder, platewise):
    printed = json.loads(platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide", "--json").out)
    assert printed["run"] == "wide"
    assert [set(part) for part in printed["temperatures"]] == [{"least", "most", "rows", "factor"}] * len(
        printed["temperatures"]
    )
    before, after = printed["calibration_before"], printed["calibration_after"]
    assert after["log_predictive_density"] >= before["log_predictive_density"]


def test_the_shape_is_shown_or_said_to_be_left(folder, platewise):
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide", "--no-shape")
    assert result.code == 0, result.err
    assert "shape: left as it is" in result.out
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "other", "--shape")
    assert result.code == 2
    assert "Expected at least 2,000 calibration entries to learn a shape, got" in result.err


def test_a_shape_that_is_learned(folder, platewise, tmp_path):
    """More entries of users and items that the fit knows, with errors that lean to the low side."""
    size = ["--users", "120", "--items", "60", "--ratings", "3000", "--rank", "2", "--seed", "5"]
    assert platewise("simulate", "-o", tmp_path / "more.h5ad", *size).code == 0
    more = read_h5ad(tmp_path / "more.h5ad")
    more.X.data[:] = 4 - np.random.default_rng(0).exponential(size=more.X.nnz)
    write_h5ad(more, tmp_path / "skewed.h5ad")
    arguments = ["recalibrate", folder / "run", tmp_path / "skewed.h5ad", "--parts", "1"]
    result = platewise(*arguments, "-o", tmp_path / "shaped")
    assert result.code == 0, result.err
    assert "Shape: ratings below a quantile of the noise alone" in result.out
    printed = json.loads(platewise(*arguments, "-o", tmp_path / "again", "--json").out)
    assert [line["place"] for line in printed["shape"]][:2] == [0.01, 0.05]
    shown = platewise("evaluate", tmp_path / "shaped", folder / "test.h5ad").out
    assert "noise and shape recalibrated on" in " ".join(shown.split())


def test_a_run_that_is_there_stays(folder, platewise):
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", folder / "run")
    assert result.code == 2
    assert "--force" in result.err
    result = platewise("recalibrate", folder / "run", folder / "train.h5ad", "-o", "wide")
    assert result.code == 2
    assert "got its training data" in result.err
