"""A copy of a file vouches for what was run only if nothing has changed since, and nothing else was needed."""

import importlib
import site
import sys
from pathlib import Path

import numpy as np
import pytest
from platewise.data.errors import PlatewiseError
from platewise.inference.faithful_source import is_installed
from platewise.inference.own_source import own_source, run_file
from platewise.inference.rebuild import make

SOURCE = """
from __future__ import annotations

import dataclasses
import enum
import functools

import numpy
from torch import nn

SD = 2.0
seen = 0


def helper(x, by=1.0, *, power=2):
    global seen
    seen += 1
    return numpy.sin(x) ** power * by in {"a", "b", "c"}


class Kind(enum.Enum):
    ONE = 1


@dataclasses.dataclass(slots=True)
class Sizes:
    rank: int = 3


class Model(nn.Module):
    unstored = "missing"

    class Inner:
        def go(self):
            return 0

    def __init__(self, noise=1.0):
        super().__init__()
        self.noise = noise

    @property
    def sd(self):
        return [x * SD for x in (self.noise,)][0]

    @staticmethod
    @functools.cache
    def cached(x):
        return x + 1

    @functools.lru_cache
    def forward(self, batch):
        return helper(-batch)


Model.Inner.outer = Model
again = Model
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that modules are imported from; they are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def imported(place, text, name="theirs"):
    (place / f"{name}.py").write_text(text)
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_an_imported_file_that_is_as_it_was_has_a_source(place):
    module = imported(place, SOURCE)
    module.helper(0.5)
    assert own_source(module.Model).text == SOURCE.encode()
    (place / "theirs.py").write_text(f"# A note.\n{SOURCE}")
    assert own_source(module.Model).text.startswith(b"# A note")
    (place / "theirs.py").unlink()
    assert own_source(module.Model) is None


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ("helper(-batch)", "helper(batch)"),
        ("numpy.sin", "numpy.cos"),
        ("x + 1", "x + 2"),
        ('"c"', '"d"'),
        ("return 0", "return 1"),
        ("(self.noise,)", "(1.0, self.noise)"),
        ("SD = 2.0", "SD = 3.0"),
        ("noise=1.0", "noise=2.0"),
        ("power=2", "power=3"),
        ('"missing"', '"zero"'),
        ("def forward", "def onward"),
        ("class Model", "class Model("),
    ],
)
def test_an_imported_file_that_was_changed_has_none(place, was, now):
    module = imported(place, SOURCE)
    assert was in SOURCE
    (place / "theirs.py").write_text(SOURCE.replace(was, now))
    assert own_source(module.Model) is None


@pytest.mark.parametrize(
    "line",
    [
        "import beside",
        "import beside.inner",
        "from beside import OFFSET",
        "from beside.inner import *",
        "from beside.inner import f as g",
        "import importlib\nanything = importlib.import_module('beside')",
        "def f():\n    from beside import OFFSET",
        "import folder.inner",
    ],
)
def test_a_file_that_needs_one_beside_it_has_none(place, line):
    for name in ("beside", "folder"):
        (place / name).mkdir()
        (place / name / "inner.py").write_text("def f():\n    pass\n")
    (place / "beside" / "__init__.py").write_text("OFFSET = 5.0\n")
    module = imported(place, f"{SOURCE}\n{line}\n")
    assert own_source(module.Model) is None
    with pytest.raises(PlatewiseError, match=r"one file, got .*theirs\.py with an import of (beside|folder)") as raised:
        make(run_file(place / "theirs.py").Model, "model", {})
    assert "\n" not in str(raised.value)


def test_a_file_of_a_package_that_reads_another_of_it_has_none(place):
    (place / "parts").mkdir()
    (place / "parts" / "base.py").write_text("OFFSET = 5.0\n")
    (place / "parts" / "model.py").write_text("from .base import OFFSET\nclass Model:\n    pass\n")
    assert own_source(importlib.import_module("parts.model").Model) is None


def test_what_is_installed_is_known(tmp_path):
    places = [*site.getsitepackages(), site.getusersitepackages(), "/usr/lib/python3/dist-packages"]
    assert all(is_installed(Path(place) / "theirs.py") for place in places)
    assert is_installed(Path(np.__file__))
    assert is_installed(Path(importlib.__file__))
    assert not is_installed(tmp_path / "theirs.py")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "cache.py").touch()
    (tmp_path / "site-packages" / "linked.py").symlink_to(tmp_path / "cache.py")
    assert is_installed(tmp_path / "site-packages" / "linked.py")


def test_annotations_of_a_file_are_its_own_matter(tmp_path):
    (tmp_path / "noted.py").write_text("def f(x: int):\n    pass\n")
    assert run_file(tmp_path / "noted.py").f.__annotations__ == {"x": int}
