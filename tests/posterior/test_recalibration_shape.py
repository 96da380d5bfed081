"""The shape of predictives: learned where it is skewed, left where there is nothing to mend, kept with the fit."""

import numpy as np
import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.inference.fitted import Fitted
from platewise.models import LatentFactor
from platewise.posterior import anomalies, evaluate, predict, recalibrate
from platewise.posterior.calibration import calibration
from platewise.posterior.recalibration_shape import learned_shape, shares_by_place

SIGMA = 0.5


def case_of(skewed):
    """A fit, and ratings for calibration and for a test, with noise that is normal or exponential."""
    model = LatentFactor(rank=2, sigma=SIGMA if not skewed else 0.05, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(model, 400, 200, 30_000, given={"mu": 3.5}, seed=2)
    if skewed:
        ratings.X.data += SIGMA * (1 - np.random.default_rng(0).exponential(size=ratings.X.nnz))
    rest, test = split_entries(ratings, test=0.3, seed=0)
    train, kept = split_entries(rest, test=0.3, seed=1)
    model = LatentFactor(rank=2, user_scale=0.5, item_scale=0.5)
    return coordinate_ascent.fit(model, RowBlockNormal(), train, progress=False, dtype=torch.float64), kept, test


@pytest.fixture(scope="module")
def skewed():
    return case_of(skewed=True)


@pytest.fixture(scope="module")
def symmetric():
    return case_of(skewed=False)


@pytest.fixture(scope="module")
def mended(skewed):
    fitted, kept, _ = skewed
    return recalibrate(fitted, kept, parts=1)


def test_a_skew_is_mended(skewed, mended):
    fitted, kept, test = skewed
    wide = recalibrate(fitted, kept, parts=1, shape=False)
    before, after = evaluate(wide, test), evaluate(mended, test)
    off = [max(abs(x - float(p)) for p, x in found.coverage.items()) for found in (before, after)]
    assert off[0] > 0.05
    assert off[1] < 0.015
    assert after.log_predictive_density > before.log_predictive_density + 0.1
    assert after.crps < before.crps
    assert after.rmse == before.rmse
    assert calibration(mended, test).kolmogorov < 0.25 * calibration(wide, test).kolmogorov
    tails = calibration(mended, test).tails()
    assert tails["share"].to_numpy() == pytest.approx(np.full(len(tails), 0.01), abs=0.005)


def test_where_there_is_nothing_to_mend_it_is_left(symmetric):
    fitted, kept, test = symmetric
    plain, tried = (recalibrate(fitted, kept, parts=1, shape=shape) for shape in (False, True))
    gain = evaluate(tried, test).log_predictive_density - evaluate(plain, test).log_predictive_density
    assert abs(gain) < 0.002
    assert evaluate(tried, test).coverage == pytest.approx(evaluate(plain, test).coverage, abs=0.01)


def test_uniform_places_ask_for_no_shape():
    found = [learned_shape(np.random.default_rng(seed).random(4000)) for seed in range(5)]
    assert sum(shape is not None for shape in found) <= 1


def test_a_learned_density_is_that_of_the_places():
    places = np.random.default_rng(0).beta(1.3, 1.0, 50_000)
    found = learned_shape(places)
    at = np.array([0.05, 0.25, 0.5, 0.9])
    assert found(at) == pytest.approx([(places <= u).mean() for u in at], abs=0.005)
    assert min(found.density) > 0
    assert found(np.array([0.0, 1.0])) == pytest.approx([0, 1])


def test_places_that_never_occur_keep_a_density():
    places = 0.5 * np.random.default_rng(0).random(5000)
    found = learned_shape(places)
    assert min(found.density) > 0
    assert np.isfinite(found.inverse(0.9999))


def test_every_read_out_takes_it_and_says_so(skewed, mended):
    fitted, kept, test = skewed
    assert evaluate(mended, test).predictive == (
        f"moment-matched normal, noise and shape recalibrated on {kept.X.nnz:,} entries"
    )
    users, items = test.obs_names[:2], test.var_names[:2]
    plain, found = predict(fitted, users, items), predict(mended, users, items)
    assert found["mean"].to_numpy() == pytest.approx(plain["mean"].to_numpy())
    # an exponential's lower side is the long one here
    assert (found["mean"] - found["lower"] > 1.2 * (found["upper"] - found["mean"])).all()
    drawn = predict(mended, users, items, method="sampled", n_samples=400)
    assert drawn["lower"].to_numpy() == pytest.approx(found["lower"].to_numpy(), abs=0.4)
    assert drawn["sd"].to_numpy() == pytest.approx(found["sd"].to_numpy(), rel=0.2)
    of_mean = (predict(f, users, items, of="mean")["lower"].to_numpy() for f in (fitted, mended))
    assert np.array_equal(*of_mean)
    share = [anomalies(f, test, n=10, tail="lower").attrs["calibration"]["0.01"] for f in (fitted, mended)]
    assert share[0] > 0.02
    assert share[1] < 0.015


def test_it_is_kept_with_the_fit_and_replaced_by_the_next(skewed, mended, tmp_path):
    fitted, kept, test = skewed
    mended.save(tmp_path / "run")
    again = Fitted.load(tmp_path / "run")
    assert again.recalibration == mended.recalibration
    assert evaluate(again, test) == evaluate(mended, test)
    assert recalibrate(mended, kept, parts=1).recalibration == mended.recalibration
    assert recalibrate(mended, kept, shape=False).recalibration.shape is None
    table = shares_by_place(mended)
    assert table["share"].is_monotonic_increasing
    assert len(shares_by_place(fitted)) == 0


def test_few_entries_are_refused_or_left(skewed):
    fitted, kept, _ = skewed
    few, _ = split_entries(kept, test=0.75, seed=0)
    with pytest.raises(PlatewiseError, match=r"at least 2,000 calibration entries to learn a shape, got 1,\d{3}\."):
        recalibrate(fitted, few, shape=True)
    assert recalibrate(fitted, few).recalibration.shape is None
