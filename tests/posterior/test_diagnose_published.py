"""Ratings of people, where they are at hand: better than biases, calibrated together, and not in tails and parts."""

import pytest
from platewise.data.ratings import read_ratings
from platewise.data.split import split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import diagnose, evaluate
from platewise.posterior.loo import subsampled_loo

pytestmark = pytest.mark.real_data


def test_left_out_ratings_are_predicted_as_well_as_held_out_ones(real_data):
    """On a part of the training ratings, held out at random: no fit was made again, and none of them was seen."""
    folder = real_data / "ml-100k"
    if not folder.is_dir():
        pytest.skip("ml-100k is not in the test data folder")
    train, part = split_entries(read_ratings(folder / "u1.base"), test=0.05, seed=0)
    fitted = coordinate_ascent.fit(LatentFactor(rank=8), RowBlockNormal(), train, device="cpu", progress=False)
    found = subsampled_loo(fitted, n=500, draws=400)
    held_out, seen = (evaluate(fitted, x).log_predictive_density for x in (part, train))
    left_out = found.elpd.value / found.n_all
    assert abs(left_out - held_out) < 0.04  # 3 standard errors of 4,000 held-out ratings
    assert seen > left_out + 0.05
    assert found.over.mean() < 0.05


def test_stars_are_predicted_well_and_not_by_their_law(real_data):
    folder = real_data / "ml-100k"
    if not folder.is_dir():
        pytest.skip("ml-100k is not in the test data folder")
    train, test = (read_ratings(folder / f"u1.{part}") for part in ("base", "test"))
    fitted = coordinate_ascent.fit(LatentFactor(rank=8), RowBlockNormal(), train, device="cpu", progress=False)
    found = diagnose(fitted, test=test, rows=10, draws=200)
    answer = {judgement.use: judgement.answer for judgement in found.verdict}
    assert answer["point predictions"] == "yes"
    assert answer["50-95 % intervals, all together"] == "yes"
    assert answer["50-95 % intervals, in every part"] == "no"  # whole stars: a normal fits no single prediction
    assert answer["tail probabilities below 1 %"] == "no"
    assert answer["new data like these"] == "no"
    rmse = found.references.set_index("predictor")["rmse"]
    assert rmse["fit"] < 0.93 < rmse["biases only"] < 0.97 < rmse["global mean"]
