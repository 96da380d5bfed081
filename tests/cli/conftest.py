"""The program run in this process: exit code, standard output, standard error."""

from typing import NamedTuple

import pytest
import torch
from platewise.cli import main


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _process(monkeypatch, tmp_path):
    """A folder of its own, a wide terminal, and torch's settings put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)


@pytest.fixture
def platewise(capsys):
    def run(*arguments) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        return Result(stopped.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Simulated ratings in two parts, and a fit of one of them."""
    folder = tmp_path_factory.mktemp("cli")
    size = ["--users", "120", "--items", "60", "--ratings", "2000", "--rank", "2"]
    parts = ["-o", folder / "train.h5ad", folder / "test.h5ad"]
    small = ["--rank", "2", "-o", folder / "run"]
    for command in (
        ["simulate", "-o", folder / "data.h5ad", *size],
        ["split", folder / "data.h5ad", *parts],
        ["fit", folder / "train.h5ad", *small],
    ):
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in command])
        assert not stopped.value.code
    return folder
