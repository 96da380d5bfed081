"""The plan of stages, and what is predicted of the next."""

import math

import pytest
from platewise.inference.stages import Plan, predicted_gain, worth


def test_a_geometric_series_is_predicted_to_its_limit():
    bounds = [-100.0 - 64 * 0.5**k for k in range(5)]
    assert bounds[-1] + predicted_gain(bounds) == pytest.approx(-100)


def test_two_stages_predict_nothing():
    assert predicted_gain([-3.0, -2.0]) == math.inf


def test_gains_that_do_not_fall_off_are_predicted_to_go_on():
    assert predicted_gain([-30.0, -20.0, -10.0]) == pytest.approx(90)
    assert predicted_gain([-30.0, -29.0, -10.0]) == pytest.approx(171)


def test_a_bound_that_falls_or_stays_predicts_no_gain():
    assert predicted_gain([-30.0, -20.0, -20.5]) == 0
    assert predicted_gain([-20.0, -20.0, -20.0]) == 0


def test_a_bound_about_zero_is_judged_by_its_entries():
    assert worth(0.0, 1000) == worth(-500.0, 1000) == pytest.approx(0.05)
    assert worth(-2000.0, 1000) == pytest.approx(0.1)


def test_epochs_of_few_steps_count_as_parts():
    assert Plan().stretched(12) == Plan().stretched(100) == Plan()
    assert Plan().stretched(1).window == 12 * Plan().window


def test_the_first_stage_rises_to_its_peak_before_its_window():
    plan = Plan()
    assert plan.learning_rate(0, 0.5, 0.0) == pytest.approx(0.05)
    assert plan.learning_rate(0, 0.5, float(plan.first_window(0))) == 0.5
    assert plan.learning_rate(2, 0.5, 40.0) == pytest.approx(0.125)
