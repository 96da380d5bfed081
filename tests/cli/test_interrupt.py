"""Ctrl-C during a fit, in a process of its own: saved, said, and gone on with to the same end."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from platewise.inference.run_directory import load

SVI = ["--algorithm", "svi", "--rank", "2", "--epochs", "6", "--seed", "5"]
EXACT = ["--rank", "2", "--sweeps", "6", "--tolerance", "1e-9", "--seed", "5"]
STREAMED = ["--algorithm", "natural-gradient", "--rank", "2", "--passes", "6", "--seed", "5"]

# Presses Ctrl-C, as a terminal does, when a certain step is done.
PRESS = """
import os, signal, sys
from importlib import import_module
from platewise.cli import main
algorithm = import_module(f"platewise.inference.{sys.argv.pop(1)}")
step, count = algorithm.step, int(sys.argv.pop(1))
def pressing(*arguments):
    global count
    done = step(*arguments)
    count -= 1
    if count == 0:
        os.kill(os.getpid(), signal.SIGINT)
    return done
algorithm.step = pressing
main()
"""


def pressed_at(algorithm, step, *arguments):
    command = [sys.executable, "-c", PRESS, algorithm, str(step), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)


@pytest.mark.parametrize(
    ("algorithm", "step", "options", "done"),
    [
        pytest.param("svi", 20, SVI, "all 6 epochs done", id="memory"),
        pytest.param("svi", 20, [*SVI, "--from-disk"], "all 6 epochs done", id="disk", marks=pytest.mark.slow),
        pytest.param("coordinate_ascent", 3, EXACT, "all 6 sweeps done", id="exact"),
    ],
)
def test_resume_goes_on_as_if_it_had_never_stopped(folder, platewise, tmp_path, algorithm, step, options, done):
    result = pressed_at(algorithm, step, "fit", folder / "train.h5ad", *options, "-o", tmp_path / "run")
    assert result.returncode == 130, result.stderr
    assert f" {step} of " in result.stdout
    assert "interrupted after" in result.stdout
    assert "go on with `platewise fit --resume" in result.stderr
    assert "Traceback" not in result.stderr

    assert platewise("fit", "--resume", tmp_path / "run", "--threads", 1).code == 0
    assert platewise("fit", folder / "train.h5ad", *options, "--threads", 1, "-o", "whole").code == 0
    resumed, whole = load(tmp_path / "run"), load("whole")
    for module in ("model", "guide"):
        left, right = (getattr(fitted, module).state_dict() for fitted in (resumed, whole))
        assert all(torch.equal(x, right[name]) for name, x in left.items())
    assert resumed.history["elbo"].tolist() == whole.history["elbo"].tolist()

    again = platewise("fit", "--resume", tmp_path / "run")
    assert again.code == 0
    assert f"nothing to go on with: {done}" in again.err


def test_what_cannot_be_gone_on_with_is_saved(folder, platewise, tmp_path):
    result = pressed_at("natural_gradient", 1, "fit", folder / "train.h5ad", *STREAMED, "-o", tmp_path / "run")
    assert result.returncode == 130, result.stderr
    assert "interrupted after pass 1 of 6" in result.stdout
    assert "--resume" not in result.stderr
    assert platewise("predict", tmp_path / "run", "--user", 1, "--item", 1).code == 0
    refused = platewise("fit", "--resume", tmp_path / "run")
    assert refused.code == 2
    assert "got one by natural-gradient. Fit again." in refused.err


def test_ctrl_c_in_the_first_epoch(folder, platewise, tmp_path):
    result = pressed_at("svi", 1, "fit", folder / "train.h5ad", *SVI, "--json", "-o", tmp_path / "run")
    assert result.returncode == 130, result.stderr
    assert '"elbo": null' in result.stdout
    assert len(load(tmp_path / "run").history) == 0
    assert platewise("predict", tmp_path / "run", "--user", 1, "--item", 1).code == 0


def test_ctrl_c_during_a_demo_leaves_nothing(tmp_path):
    size = ["--users", "80", "--items", "40", "--ratings", "1500", "--rank", "2"]
    result = pressed_at("coordinate_ascent", 3, "demo", *size, "-o", tmp_path / "demo")
    assert result.returncode == 130, result.stderr
    assert "interrupted: no file was left half written" in result.stderr
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_there_is_nothing_to_save(platewise, folder, monkeypatch):
    from platewise.data import storage

    def pressed(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(storage, "read_h5ad", pressed)
    result = platewise("split", folder / "data.h5ad", "-o", "a.h5ad", "b.h5ad")
    assert result.code == 130
    assert result.err == "interrupted: no file was left half written\n"
