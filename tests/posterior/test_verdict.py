"""Each rule of the verdict says yes where it must, no where it must, and unknown where nothing is known."""

import numpy as np
import pandas as pd
import pytest
from platewise.posterior.calibration import Calibration
from platewise.posterior.verdict import RULES, Evidence, verdict

GRID = (np.arange(20_000) + 0.5) / 20_000


def places(pit):
    """A calibration of these places, in parts that have nothing to do with them."""
    order = np.random.default_rng(0).permutation(len(pit))
    return Calibration(pit, {"row": order, "column": order, "predicted": order}, "moment-matched normal")


def scores(fit, biases):
    return pd.DataFrame({"predictor": ["fit", "global mean", "biases only"], "rmse": [fit, 2.0, biases]})


def densities(fit, means):
    table = pd.DataFrame({"predictor": ["fit", "column means"], "log_predictive_density": [fit, means]})
    return table.assign(rmse=np.nan)


def checks(*p):
    names = [f"statistic {k}" for k in range(len(p))]
    return pd.DataFrame({"statistic": names, "observed": 1.0, "mean": 2.0, "sd": 0.1, "p": p})


def hats(what, *k_hat):
    return pd.DataFrame({"what": what, "name": "x", "k_hat": k_hat, "threshold": 0.67, "draws": 1000})


def restarts(difference):
    return pd.DataFrame({"seed": [0, 1], "prediction_difference": [0.0, difference]})


def simulation(*says):
    return pd.DataFrame({"quantity": ["mu", "level"], "replicates": 50, "says": says})


NARROW = np.clip(0.5 + 1.4 * (GRID - 0.5), 0, 1)
HEAVY_TAIL = np.where(GRID < 0.03, GRID / 6, GRID)  # all others are where they belong
WELL, POORLY = [0.2] * 20, [0.2] * 17 + [0.9] * 3
CASES = {
    "point predictions": (
        Evidence(references=scores(0.9, 1.0)),
        Evidence(references=scores(1.0, 0.9)),
        "RMSE 1.0000 against 0.9000 of biases only",
    ),
    "description of new rows": (
        Evidence(references=densities(-100, -120), of_whole_rows=True),
        Evidence(references=densities(-120, -100), of_whole_rows=True),
        "at least -120.0 nats, against -100.0 of column means",
    ),
    "50-95 % intervals, all together": (
        Evidence(calibration=places(GRID)),
        Evidence(calibration=places(NARROW)),
        "35.7, 57.1, 64.3, 67.9 % of 20,000 inside, for 50, 80, 90, 95 % (1.5 points or 3 standard errors off pass)",
    ),
    "50-95 % intervals, in every part": (
        Evidence(calibration=places(GRID)),
        Evidence(calibration=Calibration(GRID, {"predicted": np.arange(20_000)}, "")),
        "10 of 10 tenths off (2 points or 4 standard errors off pass); worst: ",
    ),
    "tail probabilities below 1 %": (
        Evidence(calibration=places(GRID), k_hats=hats("functional", *POORLY)),
        Evidence(calibration=places(HEAVY_TAIL), k_hats=hats("row", *WELL)),
        "of 20,000 held-out entries 3.00 and 1.00 % in the outermost 1 %, 0.60 and 0.10 % in the outermost 0.1 %",
    ),
    "uncertainty of expectations": (
        Evidence(k_hats=hats("row", *WELL), of_whole_rows=True),
        Evidence(k_hats=hats("functional", *POORLY)),
        "3 of 20 over 0.67, largest 0.90 (up to 10 % may be): take standard deviations for orders of magnitude at best",
    ),
    "comparisons of rows": (
        Evidence(k_hats=hats("row", *WELL)),
        Evidence(k_hats=hats("row", *POORLY)),
        "3 of 20 over 0.67, largest 0.90 (up to 10 % may be): an order by means may do",
    ),
    "comparisons of columns": (
        Evidence(k_hats=hats("column", *WELL)),
        Evidence(k_hats=hats("column", *POORLY)),
        "3 of 20 over 0.67, largest 0.90",
    ),
    "effects of globals": (
        Evidence(k_hats=hats("global", 0.3)),
        Evidence(k_hats=hats("global", np.nan)),
        "1 of 1 over 0.67, largest inf",
    ),
    "new data like these": (
        Evidence(checks=checks(0.5, 0.01)),
        Evidence(checks=checks(0.5, 1.0)),
        "statistic 1 1 against 2",
    ),
    "conclusions that do not hang on the seed": (
        Evidence(restarts=restarts(0.02)),
        Evidence(restarts=restarts(0.3)),
        "predictions of 1 other fits differ by 0.300",
    ),
    "intervals of this kind of fit, where its model is true": (
        Evidence(simulation=simulation("no departure seen", "no departure seen")),
        Evidence(simulation=simulation("no departure seen", "posteriors are too narrow")),
        "50 small data sets, 2 quantities: level: posteriors are too narrow",
    ),
}


def answers(evidence):
    return {judgement.use: judgement for judgement in verdict(evidence)}


@pytest.mark.parametrize("use", CASES)
def test_yes_and_no(use):
    good, bad, why = CASES[use]
    assert answers(good)[use].answer == "yes"
    found = answers(bad)[use]
    assert found.answer == "no"
    assert why in found.why


def test_every_rule_has_its_cases():
    assert len(CASES) == len(RULES) + 1  # the first is of entries, or of rows


def test_without_evidence_nothing_is_known():
    found = answers(Evidence())
    assert {x.answer for x in found.values()} == {"unknown"}
    assert len(found) == 7  # columns, globals, restarts and simulations are judged where there are any
    assert "give a test part" in found["50-95 % intervals, all together"].why
    assert "give data" in found["new data like these"].why


def test_tails_need_entries_and_no_k_hats():
    use = "tail probabilities below 1 %"
    few = places(GRID[::40])
    assert answers(Evidence(calibration=few))[use].why == "500 held-out entries are too few to tell"
    assert "0.1 %" not in answers(Evidence(calibration=places(GRID[::4])))[use].why
    assert answers(Evidence(k_hats=hats("row", *WELL)))[use].answer == "unknown"


def test_a_far_tail_is_seen_where_a_near_one_is_right():
    found = answers(Evidence(calibration=places(np.where(GRID < 0.005, GRID / 8, GRID))))
    assert found["tail probabilities below 1 %"].answer == "no"
    assert "0.50 and 0.10 % in the outermost 0.1 %" in found["tail probabilities below 1 %"].why


def test_intervals_of_entries_can_be_right_where_those_of_expectations_are_not():
    found = answers(Evidence(calibration=places(GRID), k_hats=hats("functional", *POORLY)))
    assert found["50-95 % intervals, all together"].answer == "yes"
    assert found["uncertainty of expectations"].answer == "no"


def test_k_hats_in_order_do_not_vouch_for_what_they_hold():
    table = pd.concat([hats(what, *WELL) for what in ("row", "column", "global", "functional")])
    found = answers(Evidence(k_hats=table))
    for use in ("uncertainty of expectations", "effects of globals"):
        assert found[use].answer == "unknown"
        assert "leave out how rows, columns and globals depend on each other" in found[use].why
    for use in ("comparisons of rows", "comparisons of columns"):
        assert found[use].answer == "yes"
        assert found[use].why.endswith("given all else as fitted")
    table = hats("row", *WELL)
    table.attrs["left_out"] = ["k-hats of columns: the model observes whole rows"]
    assert answers(Evidence(k_hats=table))["uncertainty of expectations"].answer == "unknown"


def test_one_part_in_a_hundred_off_by_chance_is_no_finding():
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = answers(Evidence(calibration=places(rng.random(3000))))
        assert found["50-95 % intervals, in every part"].answer == "yes"


def test_entries_of_new_rows_are_said():
    known = places(GRID)
    new = Calibration(known.pit, known.orders, known.predictive, n_unknown=5000)
    found = answers(Evidence(calibration=new, references=scores(0.9, 1.0)))
    for use in ("point predictions", "50-95 % intervals, all together"):
        assert found[use].why.endswith("25 % of the entries are of rows or columns new to the fit")


def test_whole_rows_have_intervals_where_they_were_judged_by_halves():
    found = answers(Evidence(of_whole_rows=True, unjudged="these are no counts"))
    uses = ["50-95 % intervals, all together", "50-95 % intervals, in every part", "tail probabilities below 1 %"]
    assert [(found[use].answer, found[use].why) for use in uses] == [("unknown", "these are no counts")] * 3
    halves = Calibration(GRID, {"row": np.arange(20_000)}, "halves, 9 draws", sorted_by={"row": "size"})
    found = answers(Evidence(calibration=halves, of_whole_rows=True))
    assert found["50-95 % intervals, all together"].answer == "yes"
    assert found["50-95 % intervals, all together"].why.endswith("standard errors off pass); of halves")
    assert found["50-95 % intervals, in every part"].why.endswith("in tenth 1 by size")
