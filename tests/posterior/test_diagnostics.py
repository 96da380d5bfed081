"""One call puts all that tells how good a posterior is together, and says what it left out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from platewise.data import write_h5ad
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.data.split import split_entries
from platewise.guides import AmortizedNormal, RowBlockNormal
from platewise.inference import coordinate_ascent, svi
from platewise.models import VAE, LatentFactor
from platewise.posterior import diagnose
from platewise.posterior.diagnostics import NO_HALVES, leave_one_out

from ..count_data import small_counts

OPTIONS = {"device": "cpu", "progress": False, "dtype": torch.float64}
COMPARISONS = "comparisons with other fits by leave-one-out"
SMALL = {"rows": 10, "draws": 100, "loo": 100}


@pytest.fixture(scope="module")
def parts():
    truth = LatentFactor(rank=2, sigma=0.5, user_scale=0.5, item_scale=0.5)
    ratings, _ = simulate_ratings(truth, 150, 80, 5900, given={"mu": 3.5}, seed=1)
    return split_entries(ratings, test=0.3, seed=0)


@pytest.fixture(scope="module")
def fitted(parts):
    return coordinate_ascent.fit(LatentFactor(rank=2), RowBlockNormal(), parts[0], sweeps=40, **OPTIONS)


@pytest.fixture(scope="module")
def cells():
    return small_counts()


@pytest.fixture(scope="module")
def vae(cells):
    return svi.fit(VAE(2, hidden=8), AmortizedNormal(hidden=8), cells, epochs=3, batch_rows=60, **OPTIONS)


def answers(found):
    return {judgement.use: judgement.answer for judgement in found.verdict}


def test_a_fit_of_the_truth_is_to_be_trusted(fitted, parts, tmp_path):
    write_h5ad(parts[1], tmp_path / "test.h5ad")
    found = diagnose(fitted, test=tmp_path / "test.h5ad", **SMALL)
    trusted = answers(found)
    for use in ("point predictions", "50-95 % intervals, all together", "50-95 % intervals, in every part"):
        assert trusted[use] == "yes", found.verdict
    assert trusted["new data like these"] == "yes", found.verdict
    assert found.left_out == []
    assert set(found.k_hats["what"]) == {"row", "column", "global", "functional"}
    assert found.restarts is None


def test_too_small_a_noise_is_found(parts):
    wrong = LatentFactor(rank=2, sigma=0.25, user_scale=0.5, item_scale=0.5)
    fitted = coordinate_ascent.fit(wrong, RowBlockNormal(), parts[0], sweeps=20, **OPTIONS)
    found = diagnose(fitted, test=parts[1], **SMALL)
    for use in ("50-95 % intervals, all together", "tail probabilities below 1 %", "new data like these"):
        assert answers(found)[use] == "no", found.verdict


def test_it_is_json(fitted, parts):
    found = diagnose(fitted, test=parts[1], **SMALL).to_dict()
    names = ["verdict", "calibration", "references", "checks", "k_hats", "restarts", "simulation"]
    assert list(found) == [*names, "columns", "loo", "left_out"]
    assert found["columns"] is None
    assert found["loo"]["n"] == 100
    assert json.loads(json.dumps(found, default=float))["verdict"][0]["use"] == "point predictions"


def test_what_is_not_at_hand_is_left_out_and_said(fitted, parts):
    without_test = diagnose(fitted, **SMALL)
    assert without_test.calibration is None
    assert without_test.left_out == ["calibration and references, which need held-out entries"]
    fitted_elsewhere = coordinate_ascent.fit(LatentFactor(rank=2), RowBlockNormal(), parts[0], sweeps=1, **OPTIONS)
    fitted_elsewhere.data = None
    without_data = diagnose(fitted_elsewhere, test=parts[1])
    assert (without_data.k_hats, without_data.checks, without_data.references) == (None, None, None)
    assert without_data.calibration is not None
    assert without_data.loo is None
    assert "which need the training data" in without_data.left_out[0]


def test_further_fits_are_compared(fitted):
    found = diagnose(fitted, restarts=1, **SMALL)
    assert len(found.restarts) == 2
    assert answers(found)["conclusions that do not hang on the seed"] == "yes", found.verdict


def test_leave_one_out_is_judged_by_its_k_hats(fitted):
    found = diagnose(fitted, **SMALL)
    assert answers(found)[COMPARISONS] == ("yes" if found.loo.over.mean() <= 0.01 else "no")
    assert "the guide is taken for the posterior" in found.verdict[-1].why
    for k_hat, answer in ((2.0, "no"), (0.1, "yes")):
        found.loo.pointwise["k_hat"] = k_hat
        assert leave_one_out(found.loo).answer == answer


def test_leave_one_out_that_is_not_asked_for_or_not_to_be_had(fitted, cells):
    with pytest.raises(PlatewiseError, match="Expected at least 2 entries"):
        diagnose(fitted, **(SMALL | {"loo": 1}))
    model = VAE(2, "multinomial", hidden=8)
    of_rows = svi.fit(model, AmortizedNormal(hidden=8), cells, epochs=1, batch_rows=60, **OPTIONS)
    refused, without = (diagnose(of_rows, **(SMALL | {"loo": n})) for n in (100, 0))
    assert refused.loo is without.loo is None
    assert COMPARISONS not in answers(refused)
    assert any(x.startswith("leave-one-out: Expected rows of entries that are independent") for x in refused.left_out)
    assert not any("leave-one-out" in x for x in without.left_out)


def test_a_vae(vae, cells):
    held_out = small_counts(seed=1)[:20].copy()
    found = diagnose(vae, test=held_out, **SMALL)
    assert "one half of each" in found.calibration.predictive
    assert found.references["n"].tolist() == [20, 20]
    assert set(found.k_hats["what"]) == {"row"}
    assert {"description of new rows", "50-95 % intervals, all together"} <= set(answers(found))
    assert found.columns.n_columns == 25
    assert found.loo.corrected
    assert json.loads(json.dumps(found.to_dict(), default=float))["columns"]["shares"][0]["columns"] == 25


def test_rows_of_values_that_are_no_counts_have_no_halves(cells):
    model = VAE(2, "gaussian", hidden=8)
    fitted = svi.fit(model, AmortizedNormal(hidden=8), cells, epochs=1, batch_rows=60, **OPTIONS)
    found = diagnose(fitted, test=small_counts(seed=1)[:20].copy(), **(SMALL | {"loo": 0}))
    assert found.calibration is None
    assert any(x.startswith("calibration: Expected") for x in found.left_out)
    assert "description of new rows" in answers(found)
    said = {judgement.use: (judgement.answer, judgement.why) for judgement in found.verdict}
    for use in ("50-95 % intervals, all together", "tail probabilities below 1 %"):
        assert said[use] == ("unknown", NO_HALVES)


def test_what_is_wrong_with_rows_is_not_taken_for_values_that_are_no_counts(vae):
    wrong = small_counts(seed=1)[:20].copy()
    wrong.X.data[0] = 0.5
    with pytest.raises(PlatewiseError, match="got"):
        diagnose(replace(vae, data=None), test=wrong, **SMALL)


def test_one_seed_says_one_thing(vae):
    one, same = (diagnose(vae, seed=3, **SMALL) for _ in range(2))
    assert one.checks.equals(same.checks)
    np.testing.assert_array_equal(one.k_hats["k_hat"], same.k_hats["k_hat"])


def test_training_data_are_no_test(fitted, parts):
    with pytest.raises(PlatewiseError, match="Expected entries held out of the fit to judge it by"):
        diagnose(fitted, test=parts[0], **SMALL)
