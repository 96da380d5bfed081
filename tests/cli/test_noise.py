"""`platewise fit --noise`: what it makes, and what it refuses."""

import json

import numpy as np
import pytest
from platewise.data import read_h5ad
from platewise.inference.run_directory import load


def test_fit_evaluate_and_go_on_with_noise_of_both(folder, platewise):
    made = platewise("fit", folder / "train.h5ad", "--rank", 2, "--noise", "both", "--json", "-o", folder / "noisy")
    assert made.code == 0, made.err
    config = json.loads((folder / "noisy" / "config.json").read_text())
    assert config["model"]["config"]["noise"] == "both"
    scores = json.loads(platewise("evaluate", folder / "noisy", folder / "test.h5ad", "--json").out)
    assert scores["n"] == 200
    assert scores["rmse"] < 2


SIZE = ("--users", 150, "--items", 40, "--ratings", 2500, "--rank", 1)


def test_simulated_noise_of_users_is_found_again(platewise):
    """Log precisions of users with many ratings, against those that the ratings were drawn with."""
    assert platewise("simulate", *SIZE, "--noise", "rows", "-o", "data.h5ad").code == 0
    assert platewise("fit", "data.h5ad", "--rank", 1, "--noise", "rows", "-o", "run").code == 0
    busy = np.diff(read_h5ad("data.h5ad").X.indptr) >= 15
    found = load("run").guide.blocks("user_log_precision")[0][:, 0].numpy()
    with np.load("data.truth.npz") as truth:
        assert np.corrcoef(found[busy], truth["user_log_precision"][busy])[0, 1] > 0.5
        assert (round(float(truth["user_shape"]), 6), "item_shape" in truth) == (7, False)


@pytest.mark.parametrize(("noise", "kept"), [("constant", ()), ("columns", ("item",)), ("both", ("item", "user"))])
def test_the_truth_of_the_noise_is_beside_the_ratings(platewise, noise, kept):
    assert platewise("simulate", *SIZE, "--noise", noise, "-o", "data.h5ad").code == 0
    with np.load("data.truth.npz") as truth:
        noisy = {f"{side}_{what}" for side in kept for what in ("shape", "log_precision")}
        assert set(truth) == {"mu", "user", "item", "A", "a", "B", "b", "sigma"} | noisy


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ((*SIZE, "--noise", "users"), "Expected noise among constant, rows, columns, both, got 'users'"),
        (("--cells", 40, "--noise", "rows"), "Expected no --cells with --noise, which is for ratings"),
    ],
)
def test_noise_that_cannot_be_simulated_is_refused_in_one_line(platewise, options, part):
    result = platewise("simulate", *options, "-o", "data.h5ad")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert part in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--noise items", "Expected noise among constant, rows, columns, both, got 'items'"),
        ("--noise rows --algorithm natural-gradient", "Expected --noise constant for natural-gradient, got rows"),
        ("--noise rows --model vae", "Expected options of vae"),
    ],
)
def test_wrong_use(folder, platewise, options, message):
    result = platewise("fit", folder / "train.h5ad", "--rank", 2, *options.split(), "-o", folder / "none")
    assert result.code == 2
    assert message in result.err.replace("\n", " ")
