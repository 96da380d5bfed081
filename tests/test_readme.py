"""Every command and every line of Python in the README runs, in the order given."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from .made_data import few_epochs, write_10x, write_ratings

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def ratings(tmp_path, monkeypatch) -> pd.DataFrame:
    """A ratings.csv of one's own, in the folder one stands in."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)  # as outside the tests
    return write_ratings(Path("ratings.csv"))


def test_commands(ratings, capfd):
    commands = commands_of(blocks("sh")[:2])
    assert len(commands) == 7
    for command in commands:
        run(command, capfd)
    assert Path("posterior.nc").is_file()


def test_commands_of_a_model_of_ones_own(ratings, capfd):
    commands = commands_of(blocks("sh")[4:])
    assert len(commands) == 5
    run("platewise ingest ratings.csv -o ratings.h5ad", capfd)
    run("platewise split ratings.h5ad --test 0.1 --seed 0 -o train.h5ad test.h5ad", capfd)
    for command in commands:
        run(command + " --epochs 2" * (" fit " in command), capfd)
    assert Path("mine.nc").is_file()
    assert blocks("python")[-1] in Path("test_my_model.py").read_text()


def test_commands_of_cells(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    for name in ("filtered_feature_bc_matrix", "B"):
        write_10x(Path(name), n_cells=40, n_genes=2050, names=("MS4A1", "CD79A"))
    commands = commands_of(blocks("sh")[2:4])
    assert len(commands) == 8
    ingest, fit, *others = commands
    Path("filtered_feature_bc_matrix").rename("A")
    run(ingest.replace("filtered_feature_bc_matrix", "A B"), capfd)  # two sources: cells are asked for by batch
    run(fit + " --epochs 2", capfd)
    for command in others:
        run(command, capfd)
    assert Path("embedded.h5ad").is_file()


def run(command: str, capfd) -> None:
    from platewise.cli import main

    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert ended.value.code in (0, None), (command, capfd.readouterr().err)


def commands_of(texts: list[str]) -> list[str]:
    return [line for block in texts for line in block.splitlines() if line.startswith("platewise ")]


@pytest.mark.parametrize(("block", "last"), [(0, "platewise recommend"), (2, "python examples/plot_umap.py")])
def test_five_commands(block, last):
    lines = blocks("sh")[block].splitlines()
    assert len(lines) == 5
    assert lines[-1].startswith(last)


def test_python(ratings, capfd):
    _, fit_and_read, own_model, _ = blocks("python")
    names: dict[str, object] = {}
    exec(fit_and_read, names)
    exec(own_model, names)
    from platewise.guides import AutoGuide

    train, test = names["train"], names["test"]
    fitted = names["svi"].fit(names["PoissonCounts"](), AutoGuide(), train, epochs=2)
    assert np.isfinite(names["evaluate"](fitted, test, n_samples=20).log_predictive_density)


def test_python_of_cells(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    write_10x(Path("filtered_feature_bc_matrix"), n_cells=60, n_genes=2050)
    few_epochs(monkeypatch)
    names: dict[str, object] = {}
    exec(blocks("python")[0], names)
    assert names["cells"].obsm["X_platewise"].shape == (60, 10)
    assert "log_likelihood_iw" in capfd.readouterr().out
