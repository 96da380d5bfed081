"""The figure that the benchmark of anomalies prints."""

import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_average_precision_of_a_ranking(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    average_precision = importlib.import_module("anomalies").average_precision
    wrong = np.array([False, True, False, True])
    assert average_precision(np.array([-1.0, -9, -2, -8]), wrong) == 1
    assert average_precision(np.array([-9.0, -8, -7, -6]), wrong) == pytest.approx((1 / 2 + 2 / 4) / 2)
