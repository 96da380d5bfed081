"""Names on the command line of the benchmarks are those that can be run."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(("titles", "module", "methods"), [("OURS", "ours", "METHODS"), ("PEERS", "peers", "PEERS")])
def test_every_title_has_a_method(monkeypatch, titles, module, methods):
    monkeypatch.syspath_prepend(str(FOLDER))
    named = getattr(importlib.import_module("measure"), titles)
    assert list(named) == list(getattr(importlib.import_module(module), methods))


def test_a_process_that_dies_is_a_problem_in_words(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(FOLDER))
    (tmp_path / "dies.py").write_text("raise SystemExit('no such thing')\n")
    (tmp_path / "lives.py").write_text("print('hello')\nprint('{\"figure\": 1}')\n")
    run_fresh = importlib.import_module("processes").run_fresh
    assert run_fresh(tmp_path / "dies.py") == {"problem": "failed with exit code 1: no such thing"}
    assert run_fresh(tmp_path / "lives.py") == {"figure": 1}
