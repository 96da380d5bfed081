"""Which options belong to which algorithm, and what each writes."""

import json

import numpy as np
import pytest
from platewise.cli.algorithms import ALGORITHMS, OPTIONS
from platewise.cli.models import DEFAULTS
from platewise.inference import coordinate_ascent, natural_gradient
from platewise.inference.run_directory import load, read_config

QUICK = {"coordinate-ascent": ("--sweeps", 3), "natural-gradient": ("--passes", 3), "svi": ("--epochs", 3)}
OTHERS = [
    ("coordinate-ascent", "--epochs 3", "got --epochs, which belongs to svi. Leave it out, or say --algorithm svi."),
    ("coordinate-ascent", "--learning-rate 0.1", "got --learning-rate, which belongs to svi"),
    ("coordinate-ascent", "--estimator auto", "got --estimator, which belongs to svi"),
    ("coordinate-ascent", "--batch-rows 9", "got --batch-rows, which belongs to natural-gradient or svi"),
    ("coordinate-ascent", "--drop-users", "got --drop-users, which belongs to natural-gradient"),
    ("coordinate-ascent", "--from-disk", "got --from-disk. Leave it out, or say --algorithm natural-gradient or svi"),
    ("natural-gradient", "--sweeps 3", "of natural-gradient (--passes, --batch-rows, --drop-users), got --sweeps"),
    ("natural-gradient", "--estimator auto", "got --estimator, which belongs to svi"),
    ("svi", "--sweeps 3", "got --sweeps, which belongs to coordinate-ascent"),
    ("svi", "--tolerance 0.1", "got --tolerance, which belongs to coordinate-ascent"),
    ("svi", "--passes 3", "got --passes, which belongs to natural-gradient"),
    ("svi", "--rank auto", "Expected a number for --rank with --algorithm svi, which does not prune factors, got auto"),
]


@pytest.mark.parametrize(("algorithm", "option", "part"), OTHERS)
def test_an_option_of_another_algorithm_is_refused(folder, platewise, tmp_path, algorithm, option, part):
    result = platewise("fit", folder / "train.h5ad", "--algorithm", algorithm, *option.split(), "-o", "run")
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert part in result.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_each_algorithm_fits_and_is_read(folder, platewise, algorithm):
    options = ("--algorithm", algorithm, *QUICK[algorithm], "--rank", 2, "--json", "-o", "run")
    result = platewise("fit", folder / "train.h5ad", *options)
    assert result.code == 0, result.err
    printed = json.loads(result.out)
    assert np.isfinite(printed["elbo"])
    assert printed["rank"] == 2
    assert (printed["effective_rank"] is None) == (algorithm == "svi")
    assert read_config("run")["algorithm"] == algorithm
    assert json.loads(platewise("evaluate", "run", folder / "test.h5ad", "--json").out)["n"] == 200


def test_the_default_is_exact(folder, platewise):
    assert DEFAULTS["latent-factor"]["algorithm"] == "coordinate-ascent"
    result = platewise("fit", folder / "train.h5ad", "--rank", 2, "-o", "run")
    assert "converged: the bound changed by" in result.out
    assert "effective rank" in result.out
    assert load("run").converged is True


def test_sweeps_that_run_out_are_no_failure(folder, platewise):
    result = platewise("fit", folder / "train.h5ad", "--rank", 2, "--sweeps", 2, "-o", "run")
    assert result.code == 0
    assert "all 2 sweeps done; the bound still changes by" in result.out
    assert "nothing to go on with: all 2 sweeps done" in platewise("fit", "--resume", "run").err


def test_users_that_are_not_kept_are_found_in_the_training_data(folder, platewise):
    train, test = folder / "train.h5ad", folder / "test.h5ad"
    options = ("--algorithm", "natural-gradient", "--passes", 3, "--rank", 2, "--from-disk")
    platewise("fit", train, *options, "-o", "kept")
    platewise("fit", train, *options, "--drop-users", "-o", "dropped")
    assert read_config("dropped")["files"]["guide.safetensors"] < read_config("kept")["files"]["guide.safetensors"]
    platewise("fold-in", "dropped", train, "-o", "found")
    dropped, found = (json.loads(platewise("evaluate", run, test, "--json").out) for run in ("dropped", "found"))
    assert dropped["rmse"] == pytest.approx(found["rmse"], rel=1e-5)
    pair = ("predict", "dropped", "--user", 1, "--item", 3, "--json")
    assert json.loads(platewise(*pair, "--data", train).out) == json.loads(platewise(*pair).out)


def test_help_tells_the_defaults(platewise):
    told = " ".join(platewise("fit", "--help").out.replace("│", " ").split())
    exact, streamed = coordinate_ascent.Options(), natural_gradient.Options()
    assert f"most sweeps; {exact.sweeps} if not given" in told
    assert f"{exact.tolerance:.4f} if not given" in told
    assert f"natural-gradient: passes over the users; {streamed.passes} if not given" in told
    assert "with natural-gradient a sixteenth of the users, 256 to 32768" in told
    sizes = [natural_gradient._batch_rows(streamed, n) for n in (1, 16000, 10**7)]
    assert sizes == [256, 1000, 32768]


def test_every_option_has_a_flag(platewise):
    told = platewise("fit", "--help").out
    for options in OPTIONS.values():
        assert all(f"--{name.replace('_', '-')}" in told for name in options)
