"""The table of noise: what it says of the tenth that is farthest off."""

import importlib
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def noise(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("noise")


def test_the_worst_tenth_is_found_at_every_level_with_its_sign(noise):
    lines = [("row", 0.9, 0.91), ("row", 0.5, 0.47), ("row", 0.9, 0.875), ("row", 0.5, 0.51), ("column", 0.5, 0.9)]
    tenths = pd.DataFrame(lines, columns=["by", "level", "coverage"])
    assert noise.worst(tenths, "row") == "-0.030 -0.025"


def test_chance_alone_is_wider_of_fewer_entries(noise):
    assert noise.by_chance(20_000) == "0.020 0.016 0.012 0.009"
    assert noise.by_chance(2_000).startswith("0.065")
