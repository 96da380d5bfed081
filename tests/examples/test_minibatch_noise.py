"""The example's formulas, over all batches of two rows there are: expectations are then exact."""

import importlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("minibatch_noise")


@pytest.fixture(scope="module")
def found(script):
    """Rows one by one, the bound, and the estimates from every pair of rows."""
    bound, loader = script.fitted(script.simulated(2, 20, 20, 120, seed=0), 2, seed=0)
    alone = pd.DataFrame([script.term(bound, batch) for batch in loader.in_order()])
    pairs = [np.array(pair) for pair in combinations(range(20), 2)]
    full = script.term(bound, loader.batch(np.arange(20)))
    return alone, full, script.estimates(bound, loader, pairs, alone)


def test_rows_add_up_to_the_data_term(found):
    alone, full, _ = found
    assert alone["log_likelihood"].sum() == pytest.approx(full["log_likelihood"], rel=1e-9)


def test_scaled_by_rows_is_unbiased_with_the_error_of_theory(script, found):
    alone, _, relative = found
    line = script.summary(2, relative, alone)
    assert line["mean / full"] == pytest.approx(1, abs=1e-9)
    assert line["error"] == pytest.approx(line["theory"], rel=1e-9)
    assert line["theory"] == pytest.approx(line["with replacement"] * np.sqrt(18 / 19))


def test_scaled_by_entries_gives_light_rows_too_much(found):
    weights = found[2].mean()
    assert weights["rows", "least active half"] == pytest.approx(1)
    assert weights["rows", "most active tenth"] == pytest.approx(1)
    assert weights["entries", "least active half"] > 1.1
    assert weights["entries", "most active tenth"] < 0.9


def test_the_batch_of_all_rows_has_no_error(script, found):
    alone, _, relative = found
    line = script.summary(20, relative[:1] * 0 + 1, alone)
    assert line["error"] == line["theory"] == line["z"] == 0
