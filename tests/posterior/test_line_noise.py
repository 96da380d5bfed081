"""Read-outs of fits whose rows and columns have a noise of their own."""

import copy
import math
from dataclasses import replace

import anndata as ad
import numpy as np
import pytest
import torch
from platewise.data import mark, simulate_ratings, split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import anomalies, evaluate, fold_in, predict, recalibrate, recommend, to_arviz
from platewise.posterior.blocks import Request
from platewise.posterior.mixed_predictive import MixedPredictive
from platewise.posterior.moments import latents
from platewise.posterior.names import align_seen
from platewise.posterior.noise_law import noise_law
from platewise.posterior.predictive import NormalPredictive, Settings, predictives
from platewise.posterior.reader import reading
from platewise.posterior.recalibrate import temperatures
from scipy.special import ndtr

TRUTH = {"sigma": 0.6, "user_scale": 0.4, "item_scale": 0.4}
FULL = {"progress": False, "dtype": torch.float64}


@pytest.fixture(scope="module")
def split() -> tuple[ad.AnnData, ad.AnnData]:
    """Ratings whose users differ a lot in their noise."""
    model = LatentFactor(1, noise="both", user_shape=1.5, item_shape=3.0, **TRUTH)
    return split_entries(simulate_ratings(model, 120, 50, 2500, given={"mu": 3.5})[0], test=0.2, seed=0)


@pytest.fixture(scope="module")
def fits(split) -> dict[str, Fitted]:
    return {
        noise: coordinate_ascent.fit(LatentFactor(1, noise=noise), RowBlockNormal(), split[0], **FULL)
        for noise in ("constant", "both")
    }


def _request(fitted: Fitted, users: list[int], items: list[int]) -> Request:
    """Pairs of ids, which may be new."""
    rows, cols = (
        align_seen(np.array(ids, str).astype(object), fitted, of) for ids, of in ((users, "obs"), (items, "var"))
    )
    return Request(rows, cols, np.full(len(users), 3.0))


def test_held_out_ratings_are_more_probable_and_covered_as_they_should_be(fits, split):
    constant, both = (evaluate(fits[noise], split[1]) for noise in ("constant", "both"))
    assert both.log_predictive_density > constant.log_predictive_density + 0.03
    assert both.coverage["0.9"] == pytest.approx(0.9, abs=0.06)
    assert abs(both.coverage["0.5"] - 0.5) < abs(constant.coverage["0.5"] - 0.5)


def test_intervals_are_as_wide_as_the_users_noise(fits, split):
    fitted = fits["both"]
    mean = fitted.guide.blocks("user_log_precision")[0][:, 0].numpy()
    names = split[0].obs_names.astype(int).to_numpy()
    busy = np.diff(split[0].X.indptr) >= 15
    calm, noisy = (names[busy][of(mean[busy])] for of in (np.argmax, np.argmin))
    item = int(split[0].var_names[0])
    sd = predict(fitted, [calm, noisy], [item, item])["sd"].to_numpy()
    assert sd[1] > 1.5 * sd[0]


def test_closed_forms_are_those_of_sampling_for_known_and_new_ids(fits):
    ids = [1, 10_000], [1, 10_000]
    closed = predict(fits["both"], *ids, method="closed-form")
    sampled = predict(fits["both"], *ids, method="sampled", n_samples=300)
    np.testing.assert_allclose(closed["mean"], sampled["mean"], atol=0.25)
    np.testing.assert_allclose(closed["sd"], sampled["sd"], rtol=0.25)


@pytest.mark.parametrize("users", [[3, 7, 11], [10_000] * 3])
@pytest.mark.parametrize("items", [[1, 4, 9], [10_000] * 3])
def test_the_law_of_the_noise_is_that_of_the_models_scale_for_known_and_new_ids(fits, users, items):
    model, n = fits["both"].model, 50_000
    with reading(fits["both"], 0) as reader:
        (block,) = _request(fits["both"], users, items).blocks(reader, 10)
        q = latents(reader, block)
        law = noise_law(model, block, q)
        g, h = (q[name].sample((n,)) for name in model.precision_sites)
        scale = model.line_noise.scale(block.batch, model.sigma, g, h).numpy()
    for p in (0.1, 0.5, 0.9):
        y = np.quantile(scale, p, axis=0)  # distribution functions of ratings, whose means are known, around there
        found = ndtr(y[:, None] / np.sqrt(law.variance)) @ law.weight
        np.testing.assert_allclose(found, ndtr(y / scale).mean(0), atol=5 * 0.2 / n**0.5)


def test_uncertain_noise_is_mixed_and_known_noise_is_not(fits, split):
    request = _request(fits["both"], [3], [4])
    for noise, of, kind in (
        ("both", "rating", MixedPredictive),
        ("both", "mean", NormalPredictive),
        ("constant", "rating", NormalPredictive),
    ):
        with reading(fits[noise], 0) as reader:
            ((_, found),) = predictives(reader, request, Settings(of=of))
        assert type(found) is kind
    assert evaluate(fits["both"], split[1]).predictive == "moment-matched normals mixed over the noise"
    assert evaluate(fits["constant"], split[1]).predictive == "moment-matched normal"


def test_recalibration_finds_the_factor_that_the_noise_was_off_by(fits, split):
    fitted = fits["both"]
    off = replace(fitted, model=copy.deepcopy(fitted.model))
    with torch.no_grad():
        off.model.log_sigma += math.log(2)
    found = [temperatures(recalibrate(x, split[1], parts=1))["factor"][0] for x in (fitted, off)]
    assert found[0] == pytest.approx(1, abs=0.15)
    assert found[1] == pytest.approx(found[0] / 2, rel=1e-3)
    mended = evaluate(recalibrate(off, split[1], parts=1), split[1])
    assert mended.log_predictive_density == pytest.approx(
        evaluate(recalibrate(fitted, split[1], parts=1), split[1]).log_predictive_density, abs=1e-5
    )
    assert mended.predictive.startswith("moment-matched normals mixed over the noise, noise recalibrated on")


def test_new_rows_get_blocks_and_noise_of_their_own(fits, split):
    new = split[1][:30].copy()
    new.obs_names = [f"new{name}" for name in new.obs_names]
    new.uns["platewise"]["row_ids"] = "str"
    folded = fold_in(fits["both"], new)
    own = folded.guide.blocks("user_log_precision")[1][:, 0]
    empty = torch.from_numpy(np.diff(new.X.indptr) == 0)
    shape = fits["both"].model.scales()["user_shape"]
    assert (own[~empty] < 1 / shape).all()
    for site in ("item_log_precision", "item"):
        torch.testing.assert_close(folded.guide.blocks(site)[0], fits["both"].guide.blocks(site)[0])
    assert np.isfinite(evaluate(folded, new).log_predictive_density)


def test_the_noisiest_ratings_of_a_calm_user_are_anomalies_and_lists_are_made(fits, split):
    found = anomalies(fits["both"], split[0], n=20)
    assert len(found) == 20
    assert found["tail_probability"].is_monotonic_increasing
    assert len(recommend(fits["both"], [int(split[0].obs_names[0])], k=5)) == 5


def test_draws_hold_the_precisions(fits):
    posterior = to_arviz(fits["both"], [1, 2, 3], [1, 4], 60, seed=0).posterior
    assert posterior["user_log_precision"].shape == (1, 60, 3)
    assert posterior["item_log_precision"].shape == (1, 60, 2)
    mean = fits["both"].guide.blocks("user_log_precision")[0][:3, 0].numpy()
    np.testing.assert_allclose(posterior["user_log_precision"].mean(("chain", "draw")), mean, atol=0.5)


def test_a_fit_comes_back_from_its_run_directory(fits, split, tmp_path):
    fits["both"].save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run")
    assert loaded.model.config == fits["both"].model.config
    assert evaluate(loaded, split[1]) == evaluate(fits["both"], split[1])


def test_ratings_alone_may_have_it(split):
    zeros = mark(split[0].copy(), unstored="zero")
    with pytest.raises(ValueError, match="observed zeros"):
        coordinate_ascent.fit(LatentFactor(1, noise="both"), RowBlockNormal(), zeros, **FULL)
