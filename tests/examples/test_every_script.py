"""Every script of examples/ runs to its end at a small size and leaves its figures; a new one must be listed here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
# Of each script the arguments of a quick run, and the files it leaves.
SCRIPTS = {
    "degeneracy.py": ("-o d.png --users 30 --items 20 --ratings 250", ["d.png"]),
    "families.py": ("-o f --users 8 --items 6 --draws 10 --warmup 5", ["f/expectations.png", "f/pairs.png"]),
    "minibatch_noise.py": (
        "-o n.png --users 30 --items 20 --ratings 250 --rank 2 --sizes 4 --batches 10",
        ["n.png"],
    ),
    "student_t.py": ("-o s --steps 2 --particles 4", ["s/student_t.png"]),
}
LONG = {"degeneracy.py", "families.py", "student_t.py"}  # to start; what they compute has tests of its own
TESTED_BY_ITSELF = {"plot_umap.py": "test_plot_umap.py"}  # needs an input, and a way to lay out cells quickly


@pytest.mark.parametrize("script", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in SCRIPTS])
def test_runs(tmp_path, script):
    arguments, written = SCRIPTS[script]
    command = [sys.executable, FOLDER / script, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=one_thread(), timeout=250)
    assert done.returncode == 0, done.stderr
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.png")) == written
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in written)


def one_thread() -> dict[str, str]:
    """Small matrices take longer with several threads, most of all beside other tests."""
    return os.environ | {"OMP_NUM_THREADS": "1"}


def test_every_script_is_listed():
    assert {path.name for path in FOLDER.glob("*.py")} == SCRIPTS.keys() | TESTED_BY_ITSELF.keys()


def test_those_listed_as_tested_by_themselves_are():
    for script, test in TESTED_BY_ITSELF.items():
        assert script in (Path(__file__).parent / test).read_text()


def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "ratings.h5ad").write_text("no such thing")
    command = [sys.executable, FOLDER / "minibatch_noise.py", "ratings.h5ad", "-o", "n.png"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=one_thread(), timeout=250)
    assert done.returncode == 2
    assert "Expected an .h5ad file" in done.stderr
    assert "Traceback" not in done.stderr
