"""The line of a program, as messages tell it."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data.batches import RowBatch
from platewise.data.program_lines import ProgramLines, calling_line, raising_line
from platewise.guides import MeanFieldNormal
from platewise.inference.contract_runs import run
from platewise.models import LatentFactor


def program(batch: RowBatch) -> None:
    mu = pyro.sample(
        "mu", dist.Normal(torch.zeros(()), 1.0)
    )  # fmt: skip
    with batch.row_plate("rows"), pyro.plate("a plate whose name makes the line long", 2, dim=-2):
        pyro.sample("level", dist.Normal(mu, 1.0))


def test_sites_and_plates_have_the_line_that_made_them():
    lines = run(program, RowBatch.blank(3, 2)).lines
    assert lines.of("mu").endswith(": `mu = pyro.sample(`)")
    assert lines.of("level").endswith('`pyro.sample("level", dist.Normal(mu, 1.0))`)')
    assert lines.of("rows").startswith(" (test_program_lines.py, line ")
    assert lines.of("rows") == lines.of("a plate whose name makes the line long")
    assert len(lines.of("rows").split("`")[1]) == 60
    assert lines.of("another") == ""


def test_of_a_program_of_ours_the_line_is_ours():
    model, guide, batch = LatentFactor(1), MeanFieldNormal(), RowBatch.blank(3, 2)
    guide.setup(model, batch)
    assert run(model, batch).lines.of("rating").startswith(" (latent_factor.py, line ")
    assert run(guide, batch).lines.of("mu").startswith(" (normal.py, line ")


class Own(LatentFactor):
    """A model of ours with a part of a person's own."""

    def prior(self, batch: RowBatch):
        return super().prior(batch)


def test_of_a_program_built_on_ours_the_line_is_its_own():
    lines = run(Own(1), RowBatch.blank(3, 2)).lines
    assert lines.of("mu").endswith("`return super().prior(batch)`)")


def test_a_program_without_a_file_has_a_line_number():
    made: dict = {}
    exec("def program(batch):\n    pyro.sample('mu', dist.Normal(0.0, 1.0))\n", {"pyro": pyro, "dist": dist}, made)
    assert run(made["program"], RowBatch.blank(3, 2)).lines.of("mu") == " (<string>, line 2)"


def test_a_line_is_added_to_a_message_that_names_a_site_and_tells_none():
    with ProgramLines() as lines:
        run(program, RowBatch.blank(3, 2))
    assert "See (test_program_lines.py, line " in lines.added_to("Expected this, got 'level'. Do that.")
    for message in ("Expected this, got 'other'. Do that.", "Expected it, got 'mu' (a.py, line 3: `x`). Do that."):
        assert lines.added_to(message) == message


def test_lines_of_code_that_runs_and_of_errors():
    line = calling_line()
    assert line.endswith("`line = calling_line()`)")
    with pytest.raises(IndexError) as error:
        torch.zeros(2)[5]
    assert raising_line(error.value).endswith("`torch.zeros(2)[5]`)")
