"""Matrices and settings at the edge: every number stays finite, and the bound rises."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data import make_ratings, simulate_ratings
from platewise.inference import Fitted, coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import evaluate, predict

from .small_factors import FAMILIES, MEANINGS, container, small_matrix

FITS = [(FAMILIES[0], torch.float64), (FAMILIES[1], torch.float64), (FAMILIES[1], torch.float32)]
everywhere = pytest.mark.parametrize(("family", "dtype"), FITS)
ROUNDING = 1e-9  # relative fall of the bound in float64


def _dense(values: np.ndarray) -> sp.csr_matrix:
    """A matrix whose every entry is stored."""
    n, m = values.shape
    return sp.csr_matrix((values.ravel(), np.tile(np.arange(m), n), np.arange(n + 1) * m), (n, m))


def _fit(
    data: ad.AnnData,
    family: type,
    dtype: torch.dtype,
    rank: int = 2,
    sweeps: int = 15,
    rounding: float = ROUNDING,
    **given: object,
) -> Fitted:
    """A fit, after checks that hold for every fit."""
    model = LatentFactor(rank, **given)
    about = {"sweeps": sweeps, "tolerance": 1e-3, "seed": 1, "progress": False}
    fitted = coordinate_ascent.fit(model, family(), data, dtype=dtype, **about)
    _assert_sound(fitted, data)
    ends, elbo = ["converged", f"all {sweeps} sweeps done"], fitted.history["elbo"].to_numpy()
    if dtype == torch.float64:
        assert (np.diff(elbo) >= -rounding * np.abs(elbo[1:]).clip(data.X.nnz)).all()
    if dtype == torch.float32 or rounding > ROUNDING:
        ends.append("the bound fell")
    assert fitted.stopped.startswith(tuple(ends))
    return fitted


def _assert_sound(fitted: Fitted, data: ad.AnnData) -> None:
    assert np.isfinite(fitted.history.drop(columns=["learning_rate", "skipped"], errors="ignore")).all(axis=None)
    for module in (fitted.model, fitted.guide):
        assert all(x.isfinite().all() for x in module.state_dict().values())
    predicted = predict(fitted, data.obs_names, data.var_names[0])
    assert np.isfinite(predicted[["mean", "sd", "lower", "upper"]]).all(axis=None)
    assert (predicted["sd"] > 0).all()
    if fitted.model.unstored == "missing":
        scores = evaluate(fitted, data)
        assert np.isfinite([scores.rmse, scores.crps, scores.log_predictive_density]).all()


@everywhere
@pytest.mark.parametrize("unstored", MEANINGS)
def test_rows_with_no_entry_one_and_all(family, dtype, unstored):
    matrix = small_matrix(12, 7).tolil()
    matrix[2] = 0
    matrix[2, 3] = 4.0
    matrix[:, 5] = 0
    _fit(container(sp.csr_matrix(matrix), unstored), family, dtype, unstored=unstored)


@everywhere
@pytest.mark.parametrize("value", [3.7, 0.0, -1e-3])
def test_ratings_that_are_all_the_same(family, dtype, value):
    """Sigma goes to its floor, and the fit says so."""
    pattern = small_matrix(20, 9)
    pattern.data[:] = value
    fitted = _fit(container(pattern), family, dtype, sweeps=100)
    assert "sigma is at its floor" in fitted.stopped
    size = abs(value) or 1.0
    assert predict(fitted, 3, fitted.var.index)["mean"].to_numpy() == pytest.approx(value, abs=0.01 * size)
    assert fitted.model.sigma.item() == pytest.approx(1e-3 * size, rel=1e-3)


@everywhere
def test_a_matrix_of_zeros(family, dtype):
    matrix = sp.csr_matrix((np.zeros(1), ([4], [2])), (10, 6))
    _fit(container(matrix, "zero"), family, dtype, unstored="zero")


@everywhere
def test_a_matrix_of_rank_one(family, dtype):
    rng = np.random.default_rng(0)
    values = np.outer(rng.normal(size=20), rng.normal(size=8))
    fitted = _fit(container(_dense(values)), family, dtype)
    assert evaluate(fitted, container(_dense(values))).rmse < 0.05 * values.std()


@everywhere
@pytest.mark.parametrize(("unstored", "share"), [("missing", 0.5), ("missing", 1.0), ("zero", 0.5)])
def test_a_rank_above_what_the_data_hold(family, dtype, unstored, share):
    matrix = small_matrix(16, 10, share)
    _fit(container(matrix, unstored), family, dtype, rank=10, unstored=unstored)


@everywhere
@pytest.mark.parametrize("stored", [4, 1])
def test_two_rows_and_two_columns(family, dtype, stored):
    row, col = np.divmod(np.arange(stored), 2)
    matrix = sp.csr_matrix((np.array([1.0, 2.0, 4.0, 3.0])[:stored], (row, col)), (2, 2))
    for rank in (1, 2):
        _fit(container(matrix), family, dtype, rank=rank)


EXTREMES = [
    {"sigma": 1e-6},
    {"sigma": 1e6},
    {"user_scale": 1e-6},
    {"user_scale": 1e6},
    {"sigma": 1e-6, "user_scale": 1e6, "item_scale": 1e6},
    {"sigma": 1e6, "user_scale": 1e-6, "item_scale": 1e-6},
    {"user_scale": [1e6, 1e-6, 1.0], "item_scale": [1e-6, 1e6, 1.0]},
    {"mu_scale": 1e-6},
    {"mu_scale": 1e6},
]


CASES = [*((given, "missing") for given in EXTREMES), *((given, "zero") for given in EXTREMES[4:7])]


@everywhere
@pytest.mark.parametrize(("given", "unstored"), CASES, ids=str)
def test_extreme_scales_that_are_given(family, dtype, given, unstored):
    beyond = given.get("sigma") == 1e-6  # precisions then span more than float64 does
    rounding = 0.01 if beyond else ROUNDING
    _fit(container(small_matrix(14, 8), unstored), family, dtype, rounding=rounding, unstored=unstored, **given)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("unstored", MEANINGS)
@pytest.mark.parametrize("size", [2.0**20, 2.0**-20])
def test_predictions_scale_with_the_ratings(family, unstored, size):
    """By powers of two, so that data are the same to the bit."""
    matrix, found = small_matrix(14, 8), []
    for by in (1.0, size):
        model = LatentFactor(2, mu_scale=100 * by, unstored=unstored)
        about = {"sweeps": 10, "tolerance": 1e-12, "seed": 1, "progress": False, "dtype": torch.float64}
        fitted = coordinate_ascent.fit(model, family(), container(matrix * by, unstored), **about)
        predicted = predict(fitted, fitted.obs.index, fitted.var.index[3])
        found.append(predicted[["mean", "sd", "lower", "upper"]].to_numpy() / by)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6, atol=1e-8)


@everywhere
@pytest.mark.parametrize("size", [1e6, 1e-6])
def test_ratings_of_any_size(family, dtype, size):
    _fit(container(small_matrix(14, 8) * size), family, dtype)


@everywhere
def test_ratings_far_from_zero(family, dtype):
    """A mean a million times the spread, as far as float32 data hold it."""
    matrix = small_matrix(14, 8)
    matrix.data = (np.round(matrix.data * 4) + 1e6).astype(np.float32)
    fitted = _fit(container(matrix), family, dtype, mu_scale=1e7)
    assert fitted.model.sigma.item() < 10


@everywhere
def test_one_rating_far_from_all_others(family, dtype):
    matrix = small_matrix(14, 8)
    matrix.data[5] = 1e8
    _fit(container(matrix), family, dtype)


def test_ids_that_are_numbers_stay_numbers():
    data = make_ratings(small_matrix(14, 8), np.arange(14) * 10, np.arange(8))
    fitted = _fit(data, FAMILIES[1], torch.float32)
    assert predict(fitted, [20], [3])["user"].tolist() == [20]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sweep_that_float32_cannot_hold_is_undone_and_said(family):
    """Far more factors than the data hold, and next to no noise: means grow until rounding is all there is."""
    data = simulate_ratings(LatentFactor(3), 60, 40, 900, seed=1)[0]
    model, guide = LatentFactor(20, sigma=1e-5), family()
    fitted = coordinate_ascent.fit(model, guide, data, dtype=torch.float32, progress=False)
    assert fitted.converged is False
    assert "the bound" in fitted.stopped
    assert all(bool(parameter.isfinite().all()) for parameter in guide.parameters())
