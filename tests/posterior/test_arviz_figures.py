"""Pictures that ArviZ draws on our axes, of what was left out, and nothing of pyplot's left open."""

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from platewise.data.simulate import simulate_ratings
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior.arviz_figures import draw_loo_k, draw_loo_pit, draw_replicated
from platewise.posterior.loo import subsampled_loo

from ..count_data import small_counts

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
DRAWN = draw_loo_pit, draw_loo_k, draw_replicated


@pytest.fixture(scope="module")
def of_ratings():
    truth = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(truth, 40, 30, 500, given={"mu": 3.5}, seed=1)
    return subsampled_loo(
        coordinate_ascent.fit(truth, RowBlockNormal(), ratings, sweeps=10, **OPTIONS), n=120, draws=100
    )


@pytest.fixture(scope="module")
def of_counts():
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), small_counts(), epochs=2, batch_rows=60, **OPTIONS)
    return subsampled_loo(fitted, n=120, draws=100)


def drawn(draw, found):
    axes = Figure().subplots()
    draw(axes, found)
    return axes


@pytest.mark.parametrize("draw", DRAWN)
def test_each_picture_says_what_it_shows(of_ratings, of_counts, draw):
    for found in (of_ratings, of_counts):
        axes = drawn(draw, found)
        assert axes.lines or axes.collections
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert "120" in axes.get_title(loc="center")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("kind", ["of_ratings", "of_counts"])
def test_the_pits_are_those_that_were_found(kind, request):
    """Drawn are differences of sorted PITs and their ranks: of counts, places on a step are drawn at random."""
    found = request.getfixturevalue(kind)
    pit = np.sort(found.pointwise["pit"])
    distance = np.abs(pit - np.linspace(0, 1, 120)).max()
    line = max(drawn(draw_loo_pit, found).lines, key=lambda x: len(x.get_ydata()))
    assert np.abs(line.get_ydata()).max() == pytest.approx(distance, abs=0.03)


def test_the_threshold_is_drawn(of_ratings):
    axes = drawn(draw_loo_k, of_ratings)
    assert any(np.allclose(line.get_ydata(), of_ratings.threshold) for line in axes.lines)
