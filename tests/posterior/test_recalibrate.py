"""Recalibration: widths that were off are mended, those that were right are left, and every read-out takes it."""

from dataclasses import replace

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
from platewise.posterior import evaluate, predict, recalibrate
from platewise.posterior.recalibrate import temperatures

SIGMA = 0.5


@pytest.fixture(scope="module")
def data():
    """Ratings for a fit, for calibration and for a test."""
    model = LatentFactor(rank=2, sigma=SIGMA, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(model, 400, 200, 30_000, given={"mu": 3.5}, seed=2)
    rest, test = split_entries(ratings, test=0.3, seed=0)
    return (*split_entries(rest, test=0.3, seed=1), test)


def fit(train, sigma) -> Fitted:
    model = LatentFactor(rank=2, sigma=sigma, user_scale=0.5, item_scale=0.5)
    return coordinate_ascent.fit(model, RowBlockNormal(), train, progress=False, dtype=torch.float64)


@pytest.fixture(scope="module", params=[0.5, 1.0, 1.8])
def case(request, data):
    """Fits whose noise is half, as large, and nearly twice as large as it ought to be."""
    return request.param, fit(data[0], SIGMA * request.param), data


def test_noise_that_is_off_is_mended_and_noise_that_is_right_is_left(case):
    off, fitted, (_, calibration, test) = case
    before, mended = evaluate(fitted, test), recalibrate(fitted, calibration, parts=1)
    after = evaluate(mended, test)
    assert temperatures(mended)["factor"][0] == pytest.approx(1 / off, rel=0.15)
    assert abs(after.coverage["0.9"] - 0.9) < 0.015
    assert after.rmse == before.rmse
    gain = after.log_predictive_density - before.log_predictive_density
    assert abs(gain) < 0.002 if off == 1 else gain > 0.1


def test_each_part_gets_its_own(data):
    """Noise twice as large for the more active half of the users."""
    train, calibration, test = (x.copy() for x in data)
    rng = np.random.default_rng(0)
    active = train.X.getnnz(1) > np.median(train.X.getnnz(1))
    for part in (train, calibration, test):
        x = part.X.tocoo()
        part.X.data += np.where(active[x.row], np.sqrt(3) * SIGMA * rng.normal(size=x.nnz), 0)
    fitted = fit(train, None)
    mended = recalibrate(fitted, calibration, parts=6)
    table = temperatures(mended)
    assert len(table) == 6
    assert table["factor"].iloc[-1] > 1.5 * table["factor"].iloc[0]
    assert (table["most"].to_numpy()[:-1] < table["least"].to_numpy()[1:]).all()
    assert table["rows"].sum() == fitted.n_rows
    off = [abs(np.array(evaluate(f, test).coverage_by_row_decile["0.9"]) - 0.9).max() for f in (fitted, mended)]
    assert off[1] < 0.5 * off[0]


def test_parts_have_500_entries_at_least(data):
    train, calibration, _ = data
    fitted = fit(train, SIGMA)
    assert len(recalibrate(fitted, calibration, parts=100).recalibration.temperatures) <= calibration.X.nnz // 500


def test_every_read_out_takes_it_and_says_so(data, tmp_path):
    train, calibration, test = data
    fitted = fit(train, SIGMA / 2)
    mended = recalibrate(fitted, calibration, parts=1)
    users, items = test.obs_names[:5], test.var_names[:5]
    factor = temperatures(mended)["factor"][0]
    plain, wide = predict(fitted, users, items), predict(mended, users, items)
    around = predict(mended, users, items, of="mean")
    assert around["sd"].to_numpy() == pytest.approx(predict(fitted, users, items, of="mean")["sd"].to_numpy())
    noise = [x["sd"] ** 2 - around["sd"] ** 2 for x in (plain, wide)]
    assert np.sqrt(noise[1] / noise[0]).to_numpy() == pytest.approx(factor)
    drawn = predict(mended, users, items, method="sampled", n_samples=600)
    assert drawn["sd"].to_numpy() == pytest.approx(wide["sd"].to_numpy(), rel=0.15)
    new = predict(mended, "nobody", items)
    assert (new["sd"] > predict(fitted, "nobody", items)["sd"]).all()
    assert evaluate(mended, test).predictive == (
        f"moment-matched normal, noise recalibrated on {calibration.X.nnz:,} entries"
    )
    mended.save(tmp_path / "run")
    assert Fitted.load(tmp_path / "run").recalibration == mended.recalibration
    assert recalibrate(mended, calibration, parts=1).recalibration == mended.recalibration


def test_what_is_refused(data):
    train, calibration, _ = data
    fitted = fit(train, SIGMA)
    with pytest.raises(PlatewiseError, match="not trained on, got its training data"):
        recalibrate(fitted, train)
    with pytest.raises(PlatewiseError, match="parts of at least 1, got 0"):
        recalibrate(fitted, calibration, parts=0)
    with pytest.raises(PlatewiseError, match="got one that was not"):
        temperatures(fitted)
    strangers = calibration.copy()
    strangers.obs_names = [f"x{name}" for name in strangers.obs_names]
    with pytest.raises(PlatewiseError, match="that the fit knows, got none"):
        recalibrate(fitted, strangers)
    full = replace(fitted, meaning=fitted.meaning | {"unstored": "zero"})
    with pytest.raises(PlatewiseError, match="observed zeros"):
        recalibrate(full, calibration)
