"""Restarts: fits that ended agree, whatever their factors are called; those cut short, or of two modes, differ."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import make_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import AmortizedNormal, FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior.refit import made_anew
from platewise.posterior.restarts import compare_restarts
from torch import nn

from ..count_data import small_counts
from ..inference.conjugate import lines_data

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}


@pytest.fixture(scope="module")
def ratings():
    model = LatentFactor(2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    return simulate_ratings(model, 100, 50, 2000, given={"mu": 3.5}, seed=1)[0]


def test_fits_that_converged_agree_on_predictions_though_not_on_factors(ratings) -> None:
    fitted = coordinate_ascent.fit(LatentFactor(2), RowBlockNormal(), ratings, tolerance=1e-5, sweeps=300, **OPTIONS)
    table = compare_restarts(fitted, None, restarts=2, draws=100)
    assert list(table["seed"]) == [0, 1, 2]
    assert table["elbo_difference"].abs().max() < 1
    assert table["posterior_difference"].max() < 0.25
    assert table["correlation"].min() > 0.995
    assert list(table["converged"]) == [True] * 3
    assert (table.loc[0, ["elbo_difference", "prediction_difference", "posterior_difference"]] == 0).all()


def test_fits_cut_short_differ(ratings) -> None:
    fitted = svi.fit(LatentFactor(8), MeanFieldNormal(), ratings, epochs=2, **OPTIONS)
    table = compare_restarts(fitted, ratings, restarts=2, draws=50)
    assert table["posterior_difference"][1:].min() > 0.3


class Sides(nn.Module):
    """y_ij ~ Normal(|mu| + 0.1 mu, 1): two modes, of which the one above zero is better by far."""

    def forward(self, batch) -> None:
        mu = pyro.sample("mu", dist.Normal(batch.value.new_zeros(()), 3.0))
        mean = (mu.abs() + 0.1 * mu).expand(len(batch.col))
        with batch.entries("points"):
            pyro.sample("y", dist.Normal(mean, 1.0), obs=batch.value)


def test_modes_show_in_the_bound() -> None:
    x = lines_data(30)
    x.data[:] = 5 + np.random.default_rng(0).normal(size=len(x.data))
    data = make_ratings(x.astype(np.float32), np.arange(30), np.arange(5))
    fitted = svi.fit(Sides(), TwoStarts(), data, epochs=100, batch_rows=30, **OPTIONS)
    table = compare_restarts(fitted, data, restarts=3, draws=20)
    assert np.ptp(table["elbo"]) > 0.5  # log of the prior's ratio at 5 / 1.1 and at 5 / 0.9


class TwoStarts(nn.Module):
    """A normal for mu, that starts on one side or the other, by the seed."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(-2.0))
        self.loc = nn.Parameter(torch.zeros(()))
        self.is_started = False

    def forward(self, batch) -> None:
        if not self.is_started:
            self.loc.data += 4 if torch.rand(()) < 0.5 else -4
            self.is_started = True
        pyro.sample("mu", dist.Normal(self.loc, self.scale.exp()))


def test_cells_and_the_streams_of_a_run_on_disk(tmp_path) -> None:
    cells = small_counts()
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), cells, epochs=3, **OPTIONS)
    fitted.save(tmp_path / "run")
    table = compare_restarts(Fitted.load(tmp_path / "run"), cells, restarts=1, draws=20)
    pd.testing.assert_frame_equal(table, compare_restarts(fitted, cells, restarts=1, draws=20))


def test_seeds_leave_out_the_fits_own(ratings) -> None:
    fitted = svi.fit(LatentFactor(1), MeanFieldNormal(), ratings, epochs=1, seed=2, **OPTIONS)
    assert list(compare_restarts(fitted, ratings, restarts=3, draws=2)["seed"]) == [2, 1, 3, 4]


def test_guides_within_guides_are_made_anew() -> None:
    guide = FullNormal(MeanFieldNormal(), sites=["mu"])
    again = made_anew(guide, "guide")
    assert isinstance(again, FullNormal)
    assert isinstance(again.local, MeanFieldNormal)
    assert again.local is not guide.local
    assert again.names == ("mu",)


class Unknown(MeanFieldNormal):
    """A guide that does not say what it was made with."""

    def __init__(self, width: float) -> None:
        super().__init__()


def test_misuse_gets_one_line(ratings) -> None:
    fitted = svi.fit(LatentFactor(1), MeanFieldNormal(), ratings, epochs=1, **OPTIONS)
    with pytest.raises(PlatewiseError, match="at least 1 restart"):
        compare_restarts(fitted, ratings, restarts=0)
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        compare_restarts(fitted, ratings[:50].copy())
    with pytest.raises(PlatewiseError, match="settings are not known"):
        made_anew(Unknown(1.0), "guide")
    with pytest.raises(PlatewiseError, match="training data"):
        compare_restarts(replace(fitted, data=None), None)
