"""The script about the two divergences: its numbers, from fits shorter than its own."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from platewise.models import StudentT
from platewise.models.quadrature import real_line

SCRIPT = Path(__file__).parents[2] / "examples" / "student_t.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("student_t_script", SCRIPT)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look it up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.mark.parametrize(
    ("family", "steps", "at_most"), [("normal", 300, 0.045), ("mixture of 3 normals", 150, 0.01), ("flow", 200, 0.02)]
)
def test_each_family_comes_near(script, family, steps, at_most):
    model, grid = StudentT().double(), real_line(1.0, n=20_001)
    found = script.fit(family, model, grid, steps=steps, particles=64, seed=0)
    line = script.table([found], model.log_prob(grid), grid).iloc[0]
    assert line["D[q||p] before"] > 0.1
    assert 0 < line["D[q||p] after"] < at_most
    assert line["location"] == pytest.approx(1.0, abs=0.15)
    assert torch.trapezoid(found.after.exp(), grid).item() == pytest.approx(1.0, abs=1e-4)


def test_one_command_prints_a_table_and_draws_a_figure(script, tmp_path, capsys):
    script.main(tmp_path / "made", steps=2, particles=4, seed=0)
    printed = capsys.readouterr().out
    assert [family for family in (*script.FAMILIES, script.MATCHED) if family not in printed] == []
    assert "0.4271" in printed  # where the normal starts
    assert "0.1948" in printed  # D[p || q] of the one whose moments match
    assert (tmp_path / "made" / "student_t.png").read_bytes().startswith(b"\x89PNG")
