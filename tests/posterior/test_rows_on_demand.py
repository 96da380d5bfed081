"""Read-outs of a fit whose guide holds no rows: those of the same fit with all rows held."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from platewise.data import PlatewiseError, write_h5ad
from platewise.guides import MeanFieldNormal, NormalGuide, RowBlockNormal
from platewise.inference import Fitted, natural_gradient, svi
from platewise.models import LatentFactor
from platewise.posterior import Evaluation, evaluate, factors, predict, recommend, to_arviz

SAME = {"rtol": 1e-6, "atol": 1e-6}
OPTIONS = {"passes": 3, "batch_rows": 60, "progress": False, "dtype": torch.float64}
SITES = ("mu", "item")


def _without_rows(fitted: Fitted) -> Fitted:
    """The same fit without its table of rows."""
    old, guide = fitted.guide, type(fitted.guide)(hold_rows=False)
    guide.setup(fitted.model, fitted.blank_batch())
    guide.to(fitted.device, fitted.dtype)
    for site in SITES:
        guide.set_blocks(site, *old.blocks(site))
    return replace(fitted, guide=guide)


@pytest.fixture(scope="module", params=[MeanFieldNormal, RowBlockNormal])
def held(request, split):
    """A fit that holds its rows."""
    return natural_gradient.fit(LatentFactor(3), request.param(), split[0], **OPTIONS)


@pytest.fixture(scope="module")
def lean(held):
    """The same fit without."""
    return _without_rows(held)


@pytest.fixture
def saved(lean, split, tmp_path):
    """Saved, with the file of its data, and read again."""
    write_h5ad(split[0], tmp_path / "train.h5ad")
    lean.save(tmp_path / "run", data=tmp_path / "train.h5ad")
    return Fitted.load(tmp_path / "run", device="cpu")


def _assert_same(one: pd.DataFrame, two: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(one, two, check_exact=False, **SAME)


def _table(evaluation: Evaluation) -> pd.DataFrame:
    return pd.json_normalize(evaluation.to_dict()).explode(["coverage_by_row_decile.0.9", "coverage_by_col_decile.0.9"])


def test_both_are_fitted_to_the_same_from_one_start(held, split):
    """The algorithm does not ask whether rows are kept."""
    model, guide = LatentFactor(3), type(held.guide)()
    guide.setup(model, held.blank_batch())
    start = replace(held, model=model, guide=guide)
    pairs = [(deepcopy(model), guide), (deepcopy(model), _without_rows(start).guide)]
    one, two = (natural_gradient.fit(*pair, split[0], **OPTIONS) for pair in pairs)
    assert one.history["elbo"].to_numpy() == pytest.approx(two.history["elbo"].to_numpy(), rel=1e-8)
    _assert_same(factors(one).obs, factors(two).obs)


@pytest.mark.parametrize("method", ["closed-form", "sampled"])
def test_evaluations(held, lean, split, method):
    options = {"method": method, "n_samples": 20}
    _assert_same(_table(evaluate(lean, split[1], **options)), _table(evaluate(held, split[1], **options)))


@pytest.mark.parametrize("method", ["closed-form", "sampled"])
def test_predictions(held, lean, method):
    """Of rows in any order, and of ids that the fit never saw."""
    users, items = held.obs.index[[5, 3, 3, 0, 7]].tolist(), held.var.index[[0, 2, 4, 4, 1]].tolist()
    pairs = ([*users, "nobody", users[0]], [*items, items[0], "nothing"])
    options = {"method": method, "n_samples": 20}
    _assert_same(predict(lean, *pairs, **options), predict(held, *pairs, **options))


def test_recommendations(held, lean):
    users = held.obs.index[:5].tolist()
    for options in ({}, {"exclude_seen": False}, {"by": "lower"}):
        _assert_same(recommend(lean, users, k=4, **options), recommend(held, users, k=4, **options))


def test_factors(held, lean):
    one, two = factors(lean), factors(held)
    for name in ("X_factors", "X_factors_sd"):
        np.testing.assert_allclose(one.obsm[name], two.obsm[name], **SAME)
    _assert_same(one.obs, two.obs)
    assert one.mu == pytest.approx(two.mu)


def test_draws_for_arviz(held, lean):
    rows, cols = held.obs.index[[9, 2]].tolist(), held.var.index[:3].tolist()
    one, two = (to_arviz(fitted, rows, cols, n_draws=5) for fitted in (lean, held))
    for group in ("posterior", "sample_stats"):
        for name, values in one[group].items():
            np.testing.assert_allclose(values, two[group][name], **SAME)
    assert set(to_arviz(lean, n_draws=2)["posterior"]) == {"mu"}


def test_a_run_directory_and_its_data(lean, saved, split, tmp_path):
    assert saved.guide.hold_rows is False
    assert saved.data == tmp_path / "train.h5ad"
    assert all(torch.equal(x, saved.guide.state_dict()[name]) for name, x in lean.guide.state_dict().items())
    users, items = lean.obs.index[:3].tolist(), lean.var.index[:3].tolist()
    _assert_same(predict(saved, users, items), predict(lean, users, items))
    _assert_same(_table(evaluate(saved, split[1])), _table(evaluate(lean, split[1])))
    _assert_same(recommend(saved, users, k=3), recommend(lean, users, k=3))


def test_a_fit_streamed_from_a_file_reads_it_again(split, tmp_path):
    write_h5ad(split[0], tmp_path / "train.h5ad")
    fitted = natural_gradient.fit(LatentFactor(2), RowBlockNormal(hold_rows=False), tmp_path / "train.h5ad", **OPTIONS)
    fitted.save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run", device="cpu")
    pair = fitted.obs.index[0], fitted.var.index[0]
    _assert_same(predict(fitted, *pair), predict(loaded, *pair))
    held = natural_gradient.fit(LatentFactor(2), RowBlockNormal(), split[0], **OPTIONS)
    sizes = [sum(x.numel() for x in one.guide.state_dict().values()) for one in (fitted, held)]
    assert sizes[1] - sizes[0] == 200 * held.guide.width(3)


def _readouts(fitted: Fitted, **given: object) -> list:
    user, item = fitted.obs.index[0], fitted.var.index[0]
    return [
        lambda: predict(fitted, user, item, **given),
        lambda: predict(fitted, "nobody", item, **given),
        lambda: recommend(fitted, user, exclude_seen=False, **given),
        lambda: to_arviz(fitted, [user], n_draws=2, **given),
        lambda: to_arviz(fitted, n_draws=2, **given),
    ]


def test_without_the_training_data_one_line_says_so(saved, split, tmp_path):
    (tmp_path / "train.h5ad").unlink()
    loaded = Fitted.load(tmp_path / "run", device="cpu")
    assert loaded.data is None
    for call in (*_readouts(loaded), lambda: evaluate(loaded, split[1]), lambda: factors(loaded)):
        with pytest.raises(PlatewiseError, match=r"^Expected the training data, .* Pass data=\.$"):
            call()
    for call in (*_readouts(loaded, data=split[0]), lambda: evaluate(loaded, split[1], data=split[0])):
        call()
    with pytest.raises(PlatewiseError, match="fingerprints differ"):
        predict(loaded, loaded.obs.index[0], loaded.var.index[0], data=split[1])


def _svi(guide: NormalGuide, split: tuple, model: LatentFactor | None = None) -> Fitted:
    options = {"epochs": 2, "progress": False, "dtype": torch.float64}
    return svi.fit(model or LatentFactor(3), guide, split[0], learning_rate=0.01, **options)


def test_svi_has_no_way_to_find_rows_that_are_not_held(split):
    with pytest.raises(PlatewiseError, match="Fit it by natural_gradient, or make it with hold_rows=True") as said:
        _svi(RowBlockNormal(hold_rows=False), split)
    assert "\n" not in str(said.value)


def test_svi_goes_on_from_natural_gradients_with_rows_at_their_best(split):
    """Given the columns; the gradient in those is then that of the bound."""
    first = natural_gradient.fit(LatentFactor(3), RowBlockNormal(hold_rows=False), split[0], **OPTIONS)
    again = _svi(first.guide, split, first.model)
    assert again.elbo > first.elbo - 0.01 * abs(first.elbo)
    assert evaluate(again, split[1]).rmse < 1
