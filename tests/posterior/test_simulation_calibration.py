"""Simulation-based calibration: a closed form passes, narrow and shifted posteriors fail, and fits of a fit's kind."""

import numpy as np
import pandas as pd
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import AmortizedNormal, FullNormal, MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, natural_gradient, svi
from platewise.models import VAE, CountFactor, LatentFactor
from platewise.posterior.simulated_fits import LOG_LIKELIHOOD, simulation_calibration_of
from platewise.posterior.simulation_calibration import SimulationCalibration, simulation_calibration

from ..count_data import small_counts

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
SCALES = {"sigma": 0.5, "user_scale": 0.5, "item_scale": 0.5, "mu_scale": 3.0}


def normal_normal(width: float = 1.0, shift: float = 0.0) -> SimulationCalibration:
    """theta ~ Normal(0, 1), five y ~ Normal(theta, 1): draws of the posterior, `width` times as wide, and shifted."""

    def simulate(seed: int):
        rng = np.random.default_rng(seed)
        theta = rng.normal()
        return theta + rng.normal(size=5), {"theta": theta, "square": theta**2}

    def refit(y: np.ndarray) -> tuple[float, float]:
        return y.sum() / 6 + shift * 6**-0.5, width * 6**-0.5

    def quantities(fit: tuple[float, float], draws: int, seed: int):
        theta = np.random.default_rng(seed).normal(*fit, size=draws)
        return {"theta": theta, "square": theta**2}

    return simulation_calibration(simulate, refit, quantities, replicates=150, draws=100)


def test_the_exact_posterior_passes() -> None:
    table = normal_normal().table()
    assert (table[["chi_squared_p", "ecdf_p", "asymmetry_p"]] > 0.01).all(axis=None)
    assert (table["says"] == "no departure seen").all()
    assert table["spread"].between(0.9, 1.1).all()


def test_a_posterior_half_as_wide_has_ranks_like_a_u() -> None:
    found = normal_normal(width=0.5)
    line = found.table().loc["theta"]
    assert line["ecdf_p"] < 0.01
    assert line["chi_squared_p"] < 0.01
    assert line["asymmetry_p"] > 0.01
    assert line["says"] == "posteriors are too narrow"
    outer = (found.ranks["theta"] < 10) | (found.ranks["theta"] > 90)
    assert outer.mean() > 0.35


def test_a_posterior_twice_as_wide_is_said_to_be() -> None:
    assert normal_normal(width=2.0).table().loc["theta", "says"] == "posteriors are too wide"


@pytest.mark.parametrize(("shift", "says"), [(1.0, "posteriors are too high"), (-1.0, "posteriors are too low")])
def test_a_shifted_posterior_fails_the_test_of_asymmetry(shift: float, says: str) -> None:
    line = normal_normal(shift=shift).table().loc["theta"]
    assert line["asymmetry_p"] < 0.01
    assert line["shift"] * shift < 0
    assert line["says"] == says


def test_ties_are_broken_at_random() -> None:
    """Of a quantity that is the same in all draws and in truth, ranks are uniform."""

    def same(fit: None, draws: int, seed: int):
        return {"same": np.zeros(draws)}

    found = simulation_calibration(
        lambda seed: (None, {"same": 0.0}), lambda data: None, same, replicates=200, draws=20
    )
    assert found.table().loc["same", "ecdf_p"] > 0.01
    assert set(found.ranks["same"]) == set(range(21))


@pytest.mark.parametrize(
    ("drawn", "message"),
    [({"a": np.zeros(3)}, "shape \\(3,\\)"), ({}, "draws of 'a'"), ({"a": np.full(20, np.nan)}, "finite")],
)
def test_draws_that_cannot_be_ranked_are_refused(drawn, message: str) -> None:
    with pytest.raises(PlatewiseError, match=message):
        simulation_calibration(
            lambda seed: (None, {"a": 0.0}), lambda data: None, lambda *_: drawn, replicates=2, draws=20
        )


@pytest.fixture(scope="module")
def ratings():
    return simulate_ratings(LatentFactor(2, **SCALES), 60, 40, 700, seed=1)[0]


def test_a_fits_own_kind(ratings) -> None:
    fitted = coordinate_ascent.fit(LatentFactor(2), RowBlockNormal(), ratings, **OPTIONS)
    before = {name: x.clone() for name, x in fitted.model.state_dict().items()}
    one, two = (simulation_calibration_of(fitted, rows=12, cols=8, replicates=4, draws=20) for _ in range(2))
    pd.testing.assert_frame_equal(one.ranks, two.ranks)
    assert one.ranks.shape == (4, 6)
    assert one.ranks.to_numpy().min() >= 0
    assert one.ranks.to_numpy().max() <= 20
    assert LOG_LIKELIHOOD in one.ranks
    assert "4 fits of LatentFactor under RowBlockNormal by coordinate-ascent to data of 12 x 8" in one.about
    assert all(torch.equal(x, before[name]) for name, x in fitted.model.state_dict().items())
    assert "user" in fitted.model.learned


def test_other_algorithms_and_guides(ratings) -> None:
    quick = {"rows": 10, "cols": 6, "replicates": 2, "draws": 10}
    for fitted in (
        svi.fit(LatentFactor(1), FullNormal(MeanFieldNormal()), ratings, epochs=2, **OPTIONS),
        natural_gradient.fit(LatentFactor(1), RowBlockNormal(hold_rows=False), ratings, **OPTIONS),
    ):
        assert simulation_calibration_of(fitted, ratings, **quick).ranks.shape == (2, 6)


def test_a_decoder_is_held_and_takes_all_of_its_columns() -> None:
    cells = small_counts()
    fitted = svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), cells, epochs=3, **OPTIONS)
    found = simulation_calibration_of(fitted, cells, rows=10, cols=5, replicates=2, draws=10)
    assert "data of 10 x 25" in found.about


def test_what_cannot_be_simulated_is_refused(ratings) -> None:
    cells = small_counts()
    fitted = svi.fit(CountFactor(2), RowBlockNormal(), cells, epochs=2, **OPTIONS)
    with pytest.raises(PlatewiseError, match="the prior is wide"):
        simulation_calibration_of(fitted, replicates=5, draws=5)
    with pytest.raises(PlatewiseError, match="at least 2 rows"):
        simulation_calibration_of(fitted, rows=1)
    normal = coordinate_ascent.fit(LatentFactor(1), RowBlockNormal(), ratings, sweeps=1, **OPTIONS)
    with pytest.raises(PlatewiseError, match="2 replicates"):
        simulation_calibration_of(normal, replicates=1)
