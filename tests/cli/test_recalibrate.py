"""`platewise recalibrate`: a run with other noise, said wherever its figures are."""

import json


def test_recalibrate_and_evaluate(folder, platewise):
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide")
    assert result.code == 0, result.err
    assert "factor on the noise" in result.out
    assert "in-sample: judge it by others" in result.out
    assert "next: platewise evaluate wide TEST.h5ad" in result.out
    shown = platewise("evaluate", "wide", folder / "test.h5ad").out
    assert "noise recalibrated on" in shown
    assert "in-sample: these are the ratings that the noise was recalibrated on." in shown


def test_recalibrate_as_json(folder, platewise):
    printed = json.loads(platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", "wide", "--json").out)
    assert printed["run"] == "wide"
    assert [set(part) for part in printed["temperatures"]] == [{"least", "most", "rows", "factor"}] * len(
        printed["temperatures"]
    )
    before, after = printed["calibration_before"], printed["calibration_after"]
    assert after["log_predictive_density"] >= before["log_predictive_density"]


def test_a_run_that_is_there_stays(folder, platewise):
    result = platewise("recalibrate", folder / "run", folder / "test.h5ad", "-o", folder / "run")
    assert result.code == 2
    assert "--force" in result.err
    result = platewise("recalibrate", folder / "run", folder / "train.h5ad", "-o", "wide")
    assert result.code == 2
    assert "got its training data" in result.err
