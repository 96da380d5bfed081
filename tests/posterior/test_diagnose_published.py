"""Ratings of people, where they are at hand: better than biases, calibrated together, and not in tails and parts."""

import pytest
from platewise.data.ratings import read_ratings
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import diagnose

pytestmark = pytest.mark.real_data


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
