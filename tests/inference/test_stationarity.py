"""What is asked of draws: against ArviZ, and on series whose truth is known."""

import arviz as az
import numpy as np
import pytest
import torch
from platewise.inference.stationarity import effective_size, mc_error, split_r_hat


def _autoregressive(t: int, k: int, rho: float) -> torch.Tensor:
    rng = np.random.default_rng(3)
    x = np.empty((t, k))
    x[0] = rng.normal(size=k)
    for i in range(1, t):
        x[i] = rho * x[i - 1] + np.sqrt(1 - rho**2) * rng.normal(size=k)
    return torch.from_numpy(x)


@pytest.mark.parametrize("t", [12, 31, 400])
@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.7])
def test_r_hat_and_effective_size_are_those_of_arviz(t, rho):
    draws = _autoregressive(t, 6, rho)
    kept = torch.cat([draws[: t // 2], draws[-(t // 2) :]])  # ArviZ leaves out the last of an odd number
    for k in range(6):
        x = kept[:, k].numpy()[None]
        assert float(split_r_hat(draws)[k]) == pytest.approx(az.rhat(x.reshape(2, -1), method="identity"), rel=1e-9)
        assert float(effective_size(draws)[k]) == pytest.approx(az.ess(x, method="mean"), rel=1e-6)
        assert float(mc_error(kept)[k]) == pytest.approx(az.mcse(x, method="mean"), rel=1e-3)


def test_a_stationary_series_passes_and_a_trend_fails():
    draws = _autoregressive(200, 100, 0.5)
    trend = draws + torch.linspace(0, 6, 200)[:, None]
    assert split_r_hat(draws).median() < 1.02
    assert split_r_hat(trend).median() > 1.5
    assert effective_size(trend).median() < 10


def test_the_effective_size_of_an_autoregressive_series_is_the_known_one():
    rho, t = 0.8, 4000
    size = effective_size(_autoregressive(t, 50, rho)).mean()
    assert float(size) == pytest.approx(t * (1 - rho) / (1 + rho), rel=0.1)


def test_numbers_that_never_move_agree_with_themselves():
    draws = torch.full((10, 2), 3.0)
    assert split_r_hat(draws).tolist() == [1.0, 1.0]
    assert effective_size(draws).tolist() == [10.0, 10.0]
    assert mc_error(draws).tolist() == [0.0, 0.0]


def test_halves_that_rest_in_two_places_do_not_agree():
    draws = torch.tensor([[0.0]] * 5 + [[1.0]] * 5)
    assert split_r_hat(draws).isinf().all()


def test_three_draws_are_too_few():
    with pytest.raises(ValueError, match="Expected 4 draws or more, got 3"):
        split_r_hat(torch.zeros(3, 1))
