"""The example's moves change factors and bound, and no prediction; the canonical frame undoes them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "examples"
MOVES = {
    "turned": (50.0, 1.0, (0.0, 0.0)),
    "stretched": (0.0, 1.6, (0.0, 0.0)),
    "shifted": (0.0, 1.0, (0.8, -0.5)),
    "all three": (50.0, 1.6, (0.8, -0.5)),
}


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield importlib.import_module("degeneracy")


@pytest.fixture(scope="module")
def fit(script):
    return script.fitted(script.simulated(30, 20, 250, seed=0)[0], seed=0)


@pytest.mark.parametrize("move", MOVES)
def test_factors_move_and_predictions_stay(script, fit, move):
    angle, stretch, shift = MOVES[move]
    moved = script.moved(fit, script.turn(angle) @ np.diag([stretch, 1 / stretch]), shift)
    assert np.abs(script.raw(moved) - script.raw(fit)).max() > 0.1
    for x, y in zip(script.predictions(moved), script.predictions(fit), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-10)
    np.testing.assert_allclose(script.canonical(moved), script.canonical(fit), atol=1e-8)


def test_an_affine_map_explains_what_it_made_and_not_noise(script):
    x = np.random.default_rng(0).normal(size=(200, 2))
    y = np.random.default_rng(1).normal(size=(200, 2))
    assert script.explained(x, x @ script.turn(30.0) + 1) == pytest.approx(1)
    assert script.explained(x, y) < 0.1
