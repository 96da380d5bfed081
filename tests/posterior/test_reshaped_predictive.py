"""Predictives with a map of places on top: densities integrate to 1, and figures are those of the map's law."""

import numpy as np
import pytest
from platewise.inference.recalibration_map import RecalibrationMap
from platewise.posterior.mixed_predictive import MixedPredictive
from platewise.posterior.predictive import NormalPredictive, SampledPredictive
from platewise.posterior.reshaped_predictive import ReshapedPredictive
from scipy.integrate import cumulative_trapezoid

KNOTS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)
N = 5


def shape_of(*density) -> RecalibrationMap:
    area = [np.interp((np.arange(2000) + 0.5) / 2000, KNOTS, one).mean() for one in np.eye(len(KNOTS))]
    return RecalibrationMap(KNOTS, tuple((np.array(density) / (np.array(density) @ area)).tolist()))


SKEW = shape_of(2.5, 1.3, 0.8, 0.8, 1.1, 1.3, 0.2)
FLAT = RecalibrationMap(KNOTS, (1.0,) * len(KNOTS))


def normal(n=N) -> NormalPredictive:
    return NormalPredictive(np.full(n, 3.0), np.full(n, 0.5))


def mixed(n=N) -> MixedPredictive:
    variance, weight = np.array([0.1, 0.3, 0.9]), np.array([0.3, 0.5, 0.2])
    return MixedPredictive(np.full(n, 3.0), np.full(n, np.sqrt(variance @ weight)), np.tile(variance, (n, 1)), weight)


@pytest.fixture(params=[normal, mixed], ids=["normal", "mixture"])
def case(request):
    return request.param


def test_the_map_is_monotone_and_its_inverse_exact():
    u = np.linspace(0, 1, 2001)
    assert SKEW(u)[[0, -1]] == pytest.approx([0, 1], abs=1e-6)
    assert (np.diff(SKEW(u)) > 0).all()
    assert [SKEW.inverse(float(p)) for p in SKEW(u)] == pytest.approx(u, abs=1e-6)
    assert np.gradient(SKEW(u), u)[1:-1] == pytest.approx(SKEW.derivative(u)[1:-1], abs=5e-3)


def test_densities_integrate_to_one_and_to_the_distribution_function(case):
    y = np.linspace(-4, 10, 100_001)
    found = ReshapedPredictive(case(len(y)), SKEW)
    shares = cumulative_trapezoid(np.exp(found.log_density(y)), y, initial=0)
    assert shares[-1] == pytest.approx(1, abs=1e-6)
    assert shares == pytest.approx(found.cdf(y), abs=1e-6)


def test_quantiles_invert_the_distribution_function(case):
    found = ReshapedPredictive(case(), SKEW)
    for p in (1e-4, 0.05, 0.5, 0.8, 0.999):
        assert found.cdf(found.quantile(p)) == pytest.approx(np.full(N, p), abs=1e-7)
    lower, upper = found.interval(0.9)
    assert found.cdf(upper) - found.cdf(lower) == pytest.approx(np.full(N, 0.9), abs=1e-7)


def test_moments_and_crps_are_those_of_draws(case):
    y = np.array([1.0, 2.4, 3.0, 3.7, 5.5])
    found = ReshapedPredictive(case(), SKEW)
    places = (np.arange(10_000) + 0.5) / 10_000
    draws = np.interp([SKEW.inverse(float(p)) for p in places], *_table(case))
    assert found.sd[0] == pytest.approx(draws.std(), rel=2e-3)
    assert found.shift[0] == pytest.approx(draws.mean() - 3, abs=2e-3)
    assert (found.mean == 3).all()
    weight = (2 * np.arange(1, len(draws) + 1) - len(draws) - 1) / len(draws) ** 2
    expected = np.abs(draws[:, None] - y).mean(0) - weight @ draws
    assert found.crps(y) == pytest.approx(expected, abs=2e-3)


def _table(case):
    y = np.linspace(-3, 9, 20_001)
    return case(len(y)).cdf(y), y


def test_a_flat_map_changes_nothing(case):
    base, y = case(), np.array([-2.0, 2.4, 3.0, 3.7, 8.0])
    found = ReshapedPredictive(base, FLAT)
    for name in ("log_density", "cdf", "crps"):
        assert getattr(found, name)(y) == pytest.approx(getattr(base, name)(y), abs=1e-9)
    assert found.sd == pytest.approx(base.sd)
    assert found.tails(y)[0] == pytest.approx(base.tails(y)[0], abs=1e-9)


def test_tails_are_logarithms_even_where_probabilities_underflow(case):
    base, found = case(), ReshapedPredictive(case(), SKEW)
    y = np.array([-40.0, 2.4, 3.0, 3.7, 46.0])
    tails = found.tails(y)
    assert tails.below[0] == pytest.approx(base.tails(y).below[0] + np.log(SKEW.density[0]))
    assert tails.above[-1] == pytest.approx(base.tails(y).above[-1] + np.log(SKEW.density[-1]))
    assert np.exp(tails.below[1:4]) == pytest.approx(found.cdf(y)[1:4])
    assert np.exp(tails.above) + np.exp(tails.below) == pytest.approx(np.ones(N), abs=1e-6)


def test_draws_are_reshaped_as_their_law_is():
    rng = np.random.default_rng(0)
    y, n = np.array([2.0, 2.6, 3.0, 3.3, 4.0]), 4000
    drawn = np.sort(3 + 0.5 * rng.standard_normal((n, N)), axis=0)
    exact = ReshapedPredictive(normal(), SKEW)
    found = ReshapedPredictive(SampledPredictive(drawn, np.full(N, 3.0), normal().log_density(y)), SKEW)
    assert found.quantile(0.1) == pytest.approx(exact.quantile(0.1), abs=0.05)
    assert found.crps(y) == pytest.approx(exact.crps(y), abs=0.02)
    assert found.log_density(y) == pytest.approx(exact.log_density(y), abs=0.1)
    assert found.pit(y, np.zeros(N)) == pytest.approx(exact.cdf(y), abs=0.03)
    assert found.sd == pytest.approx(exact.sd, abs=0.03)
