"""`fit --until converged`: what it says, and what does not go with it."""

import json

import pytest
from platewise.inference.run_directory import load

SVI = ("--algorithm", "svi", "--rank", 2)


def test_a_fit_that_is_cut_off_warns_and_is_written(folder, platewise):
    result = platewise("fit", folder / "train.h5ad", *SVI, "--until", "converged", "--max-epochs", 3, "-o", "run")
    assert result.code == 0
    assert "not converged after 3 epochs" in result.out
    assert "next: platewise evaluate run" in result.out
    assert result.err.count("warning: the fit has not converged") == 1
    assert "Raise max_epochs" in result.err
    assert load("run").converged is False
    assert "nothing to go on with: not converged" in platewise("fit", "--resume", "run").err


def test_a_most_of_epochs_alone_means_until_converged(folder, platewise):
    printed = json.loads(platewise("fit", folder / "train.h5ad", *SVI, "--max-epochs", 2, "--json", "-o", "run").out)
    assert printed["converged"] is False
    assert load("run").options["until"] == "converged"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--until never", "Expected until among ('converged', 'epochs'), got 'never'"),
        ("--until converged --epochs 3", "Expected max_epochs with until='converged'"),
        ("--epochs 3 --max-epochs 3", "Give one or the other."),
        ("--until epochs --max-epochs 3", "Say until='converged'."),
        ("--until converged --validation 0.1", "Expected no rows held out with until='converged'"),
        ("--max-epochs 0", "Expected max_epochs above 0, got 0"),
    ],
)
def test_lengths_that_do_not_go_together_are_refused_in_one_line(folder, platewise, options, part):
    result = platewise("fit", folder / "train.h5ad", *SVI, *options.split(), "-o", "run")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert part in result.err
