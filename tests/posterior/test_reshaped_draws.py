"""Draws of a recalibrated shape: of the law that the map asks for, rank by rank, and exported with a word on them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.recalibration import Recalibration
from platewise.models import LatentFactor
from platewise.posterior import predict, to_arviz
from platewise.posterior.reshaped_draws import reshaped_draws
from scipy.special import ndtri

KNOTS = (0.01, 0.1, 0.5, 0.9, 0.99)
AREA = (0.055, 0.245, 0.4, 0.245, 0.055)  # of the hat around each knot
DENSITY = np.array([2.4, 1.4, 0.8, 0.95, 0.2])
SKEW = Recalibration((2.0,), (), 100, "", KNOTS, tuple((DENSITY / (DENSITY @ AREA)).tolist()))
NOISE = replace(SKEW, knots=(), density=())


@pytest.fixture(scope="module")
def fitted(split):
    model = LatentFactor(rank=2)
    return coordinate_ascent.fit(model, RowBlockNormal(), split[0], sweeps=10, progress=False, dtype=torch.float64)


@pytest.fixture
def drawn():
    return 3 + 0.5 * np.random.default_rng(0).standard_normal((8000, 3))


def test_quantiles_are_those_of_the_new_shape(drawn, fitted):
    found = reshaped_draws(drawn, replace(fitted, recalibration=SKEW))
    for p in (0.05, 0.25, 0.5, 0.9):
        exact = 3 + 0.5 * ndtri(SKEW.shape.inverse(p))
        assert np.quantile(found, p, axis=0) == pytest.approx(np.full(3, exact), abs=0.06)


def test_ranks_stay(drawn, fitted):
    found = reshaped_draws(drawn, replace(fitted, recalibration=SKEW))
    assert (np.argsort(found, axis=0) == np.argsort(drawn, axis=0)).mean() > 0.99  # but for ties at the ends
    assert np.corrcoef(found[:, 0], drawn[:, 0])[0, 1] > 0.95


def test_a_flat_map_and_none_change_nothing(drawn, fitted):
    flat = replace(SKEW, density=(1.0,) * len(KNOTS))
    assert reshaped_draws(drawn, replace(fitted, recalibration=flat)) == pytest.approx(drawn, abs=1e-9)
    for recalibration in (None, NOISE):
        assert reshaped_draws(drawn, replace(fitted, recalibration=recalibration)) is drawn
    one = drawn[:1].astype(np.float32)
    moved = reshaped_draws(one, replace(fitted, recalibration=SKEW))
    assert moved.dtype == np.float32
    assert (moved == one).all()


@pytest.mark.parametrize("recalibration", [NOISE, SKEW], ids=["noise", "shape"])
def test_exported_predictive_draws_are_those_of_the_recalibrated_fit(fitted, split, recalibration):
    wide = replace(fitted, recalibration=recalibration)
    found = to_arviz(wide, n_draws=200, heldout=split[1]).posterior_predictive["rating"][0]
    expected = predict(wide, found["user"].values, found["item"].values, level=0.8)
    inside = (found.values > expected["lower"].to_numpy()) & (found.values < expected["upper"].to_numpy())
    assert inside.mean() == pytest.approx(0.8, abs=0.02)
    assert (found.values < expected["lower"].to_numpy()).mean() == pytest.approx(0.1, abs=0.015)


def test_what_is_recalibrated_is_said(fitted, split):
    options = {"rows": [5], "n_draws": 4, "data": split[0], "heldout": split[1][:2].copy()}
    plain, noise, skew = (to_arviz(replace(fitted, recalibration=x), **options) for x in (None, NOISE, SKEW))
    assert plain.posterior.attrs["recalibration"] == "none"
    assert noise.posterior_predictive.attrs["recalibration"] == (
        "noise recalibrated on 100 entries: in posterior_predictive, not in log_p"
    )
    assert "(the shape by the ranks of its draws), not in log_p" in skew.sample_stats.attrs["recalibration"]
    np.testing.assert_array_equal(plain.sample_stats["log_p"], skew.sample_stats["log_p"])
    np.testing.assert_array_equal(plain.posterior["A"], skew.posterior["A"])
