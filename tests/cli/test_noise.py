"""`platewise fit --noise`: what it makes, and what it refuses."""

import json

import pytest


def test_fit_evaluate_and_go_on_with_noise_of_both(folder, platewise):
    made = platewise("fit", folder / "train.h5ad", "--rank", 2, "--noise", "both", "--json", "-o", folder / "noisy")
    assert made.code == 0, made.err
    config = json.loads((folder / "noisy" / "config.json").read_text())
    assert config["model"]["config"]["noise"] == "both"
    scores = json.loads(platewise("evaluate", folder / "noisy", folder / "test.h5ad", "--json").out)
    assert scores["n"] == 200
    assert scores["rmse"] < 2


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
