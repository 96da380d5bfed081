"""`fit --until converged`: what it says, and what does not go with it."""

import json

import pytest
import torch
from platewise.inference.run_directory import load

SVI = ("--algorithm", "svi", "--rank", 2)


def test_a_fit_that_is_cut_off_warns_and_is_written(folder, platewise):
    result = platewise("fit", folder / "train.h5ad", *SVI, "--until", "converged", "--max-epochs", 3, "-o", "run")
    assert result.code == 0
    assert "not converged after 3 epochs" in result.out
    assert "next: platewise evaluate run" in result.out
    assert result.err.count("warning: the fit has not converged") == 1
    assert "Raise --max-epochs to go on, or take --algorithm coordinate-ascent where it is possible" in result.out
    assert "go on with `platewise fit --resume run --max-epochs 6`" in result.err
    assert load("run").converged is False
    for same in ((), ("--max-epochs", 3)):
        assert "nothing to go on with: not converged" in platewise("fit", "--resume", "run", *same).err


def test_a_fit_that_was_cut_off_goes_on_as_if_it_had_not_been(folder, platewise):
    data = folder / "train.h5ad"
    platewise("fit", data, *SVI, "--max-epochs", 2, "-o", "run")
    went_on = platewise("fit", "--resume", "run", "--max-epochs", 4)
    assert went_on.code == 0, went_on.err
    assert "not converged after 4 epochs" in went_on.out
    platewise("fit", data, *SVI, "--max-epochs", 4, "-o", "whole")
    resumed, whole = load("run"), load("whole")
    assert resumed.options == whole.options
    assert resumed.history["elbo"].tolist() == whole.history["elbo"].tolist()
    assert all(torch.equal(x, whole.guide.state_dict()[name]) for name, x in resumed.guide.state_dict().items())


def test_a_run_of_an_earlier_version_goes_on(folder, platewise):
    platewise("fit", folder / "train.h5ad", *SVI, "--max-epochs", 2, "-o", "run")
    fitted = load("run")
    for name in ("weight_decay", "kl_warmup"):
        del fitted.options[name]
    fitted.save("earlier", data=folder / "train.h5ad")
    assert platewise("fit", "--resume", "earlier", "--max-epochs", 3).code == 0
    assert load("earlier").options["weight_decay"] == 0


@pytest.mark.parametrize(
    ("made", "options", "part"),
    [
        ("--max-epochs 3", "--max-epochs 1", "Expected --max-epochs above 3, the epochs that the fit has done, got 1"),
        ("--max-epochs 3", "--epochs 9", "Expected --resume with the settings of the interrupted fit, got --epochs"),
        ("--epochs 2", "--max-epochs 9", "Expected --max-epochs with --resume of a fit --until converged, got one by"),
    ],
)
def test_what_is_not_gone_on_with_is_said_in_one_line(folder, platewise, made, options, part):
    platewise("fit", folder / "train.h5ad", *SVI, *made.split(), "-o", "run")
    result = platewise("fit", "--resume", "run", *options.split())
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert part in result.err


def test_a_most_of_epochs_alone_means_until_converged(folder, platewise):
    printed = json.loads(platewise("fit", folder / "train.h5ad", *SVI, "--max-epochs", 2, "--json", "-o", "run").out)
    assert printed["converged"] is False
    assert load("run").options["until"] == "converged"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--until never", "Expected until among ('converged', 'epochs'), got 'never'"),
        ("--until converged --epochs 3", "Expected --max-epochs with --until converged"),
        ("--epochs 3 --max-epochs 3", "Give one or the other."),
        ("--until epochs --max-epochs 3", "Say --until converged."),
        ("--until converged --validation 0.1", "Expected no rows held out with --until converged"),
        ("--max-epochs 0", "Expected --max-epochs above 0, got 0"),
    ],
)
def test_lengths_that_do_not_go_together_are_refused_in_one_line(folder, platewise, options, part):
    result = platewise("fit", folder / "train.h5ad", *SVI, *options.split(), "-o", "run")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert part in result.err
