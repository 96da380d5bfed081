"""Scores of held-out entries: against their definitions, aligned by name, with unknown ids counted."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data.errors import PlatewiseError
from platewise.data.meaning import mark
from platewise.data.storage import write_h5ad
from platewise.posterior import evaluate, predict
from platewise.posterior.predictive import NormalPredictive, SampledPredictive
from scipy.stats import norm


def entries(adata):
    """User ids, item ids and ratings of the stored entries."""
    x = adata.X.tocoo()
    return adata.obs_names[x.row], adata.var_names[x.col], x.data.astype(np.float64)


def close(first, second, rel=1e-9):
    """Whether two evaluations agree."""
    a, b = (pd.json_normalize(found.to_dict()).iloc[0] for found in (first, second))
    assert list(a.index) == list(b.index)
    for name in a.index:
        assert a[name] == (b[name] if isinstance(b[name], str) else pytest.approx(b[name], rel=rel)), name


def test_scores_are_what_they_say(fitted, split):
    test = split[1]
    users, items, y = entries(test)
    line = predict(fitted, users, items)
    found = evaluate(fitted, test)
    z = ((y - line["mean"]) / line["sd"]).to_numpy()
    assert found.n == len(y)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((y - line["mean"]) ** 2)))
    assert found.mae == pytest.approx(np.mean(abs(y - line["mean"])))
    assert found.log_predictive_density == pytest.approx(np.mean(norm.logpdf(y, line["mean"], line["sd"])))
    assert found.interval_width == pytest.approx(np.mean(line["upper"] - line["lower"]))
    for level, share in found.coverage.items():
        assert share == pytest.approx(np.mean(abs(z) <= norm.ppf(0.5 + float(level) / 2)))
    assert list(found.coverage) == ["0.5", "0.8", "0.9", "0.95"]
    assert found.predictive == "moment-matched normal"
    assert (found.n_unknown_rows, found.n_unknown_cols, found.n_unknown_entries) == (0, 0, 0)


def test_coverage_is_honest_where_the_model_is_true(block_fit, split):
    found = evaluate(block_fit, split[1])
    for level, share in found.coverage.items():
        # Half a binomial error more for a posterior that is learned from the data it shares with all entries.
        assert abs(share - float(level)) < 4 * np.sqrt(float(level) * (1 - float(level)) / found.n) + 0.02


def test_closed_form_scores_agree_with_sampled_ones(fitted, split):
    closed, sampled = evaluate(fitted, split[1]), evaluate(fitted, split[1], method="sampled", n_samples=500)
    assert sampled.predictive == "sampled"
    assert sampled.rmse == pytest.approx(closed.rmse, rel=0.005)
    assert sampled.crps == pytest.approx(closed.crps, rel=0.01)
    assert sampled.log_predictive_density == pytest.approx(closed.log_predictive_density, abs=0.01)
    assert sampled.interval_width == pytest.approx(closed.interval_width, rel=0.02)
    for level in closed.coverage:
        assert sampled.coverage[level] == pytest.approx(closed.coverage[level], abs=0.015)


def test_alignment_is_by_name(fitted, split, renamed):
    test = split[1]
    rng = np.random.default_rng(0)
    shuffled = test[rng.permutation(test.n_obs), rng.permutation(test.n_vars)].copy()
    close(evaluate(fitted, shuffled), evaluate(fitted, test))
    swapped = renamed(test, {"1": "2", "2": "1"}, {})
    assert evaluate(fitted, swapped).rmse != evaluate(fitted, test).rmse


def test_a_part_of_the_rows_and_columns_will_do(block_fit, split):
    part = split[1][:50, 10:60].copy()
    users, items, y = entries(part)
    line = predict(block_fit, users, items)
    assert evaluate(block_fit, part).rmse == pytest.approx(np.sqrt(np.mean((y - line["mean"]) ** 2)))


@pytest.mark.parametrize("method", ["closed-form", "sampled"])
def test_unknown_ids_get_the_prior_predictive_and_are_counted(block_fit, split, renamed, method):
    test = split[1]
    used = test.obs_names[np.diff(test.X.indptr) > 0][:2]
    item = test.var_names[test.X.indices[0]]
    new = renamed(test, {used[0]: "someone", used[1]: "else"}, {item: "something"})
    found = evaluate(block_fit, new, method=method, n_samples=50)
    in_rows = np.isin(test.obs_names, used)[test.X.tocoo().row]
    in_cols = (test.var_names == item)[test.X.tocoo().col]
    assert (found.n_unknown_rows, found.n_unknown_cols) == (2, 1)
    assert found.n_unknown_entries == np.sum(in_rows | in_cols)
    assert found.n == test.X.nnz
    assert math.isfinite(found.log_predictive_density)


def test_names_without_entries_are_not_unknown(block_fit, split, renamed):
    test = split[1].copy()
    empty = int(test.X.indptr[1])
    test.X.data[:empty] = 1.0
    keep = np.ones(test.n_obs, bool)
    keep[0] = False
    only = sp.diags(keep.astype(np.float32)).tocsr() @ test.X
    only.eliminate_zeros()
    test.X = only.tocsr()
    assert evaluate(block_fit, renamed(test, {test.obs_names[0]: "nobody"}, {})).n_unknown_rows == 0


def test_deciles_are_by_training_entries(block_fit, split, with_noise):
    test = split[1]
    users, items, y = entries(test)
    line = predict(block_fit, users, items)
    inside = ((line["lower"] <= y) & (y <= line["upper"])).to_numpy()
    for side, names in (("row", users), ("col", items)):
        table = block_fit.obs if side == "row" else block_fit.var
        count = table["n_entries"].loc[names].to_numpy()
        found = getattr(evaluate(block_fit, test), f"coverage_by_{side}_decile")["0.9"]
        assert len(found) == 10
        assert np.average(found, weights=[len(p) for p in np.array_split(inside, 10)]) == pytest.approx(inside.mean())
        cut = np.sort(count)[len(count) // 10]  # the first tenth: all below the cut, and some at it
        below, at = inside[count < cut], inside[count == cut]
        size = len(np.array_split(inside, 10)[0])
        rest = size - len(below)
        assert below.sum() + max(0, rest - (~at).sum()) <= round(found[0] * size) <= below.sum() + min(rest, at.sum())
    # Reversing who has how many reverses the deciles, if the numbers are all different.
    n = np.arange(block_fit.n_rows)
    up, down = (evaluate(with_noise(order), test).coverage_by_row_decile["0.9"] for order in (n, n[::-1]))
    assert up[0] == pytest.approx(down[-1], abs=0.1)
    assert up != down


def test_fewer_entries_than_deciles(block_fit, split):
    few = split[1].copy()
    x = few.X.tocoo()
    few.X = sp.csr_matrix((x.data[:3], (x.row[:3], x.col[:3])), shape=x.shape)
    found = evaluate(block_fit, few)
    assert [math.isnan(share) for share in found.coverage_by_row_decile["0.9"]] == [False] * 3 + [True] * 7
    assert found.to_dict()["coverage_by_row_decile"]["0.9"][3:] == [None] * 7


def test_it_is_json(block_fit, split):
    found = json.loads(json.dumps(evaluate(block_fit, split[1]).to_dict(), allow_nan=False))
    assert list(found)[:9] == [
        "n",
        "rmse",
        "mae",
        "coverage",
        "coverage_by_row_decile",
        "coverage_by_col_decile",
        "log_predictive_density",
        "crps",
        "interval_width",
    ]


def test_a_path_will_do(block_fit, split, tmp_path):
    write_h5ad(split[1], tmp_path / "test.h5ad")
    close(evaluate(block_fit, tmp_path / "test.h5ad"), evaluate(block_fit, split[1]))


def test_a_stored_zero_is_an_entry(block_fit, split):
    zeros = split[1].copy()
    zeros.X.data[:5] = 0
    assert evaluate(block_fit, zeros).n == zeros.X.nnz


def test_another_model_is_sampled(regression, people):
    answers, x = people
    found = evaluate(regression, answers, covariates={"x": x}, n_samples=200)
    assert found.predictive == "sampled"
    assert found.n == answers.X.nnz
    assert 0.8 < found.coverage["0.9"] < 0.99
    users, items, y = entries(answers)
    line = predict(regression, users, items, covariates={"x": x}, n_samples=200)
    assert found.rmse == pytest.approx(np.sqrt(np.mean((y - line["mean"]) ** 2)), rel=1e-6)


def test_crps_against_its_integral():
    grid = np.linspace(-12, 12, 20001)
    mean, sd, y = 0.3, 1.2, np.array([-1.0, 0.5, 4.0])
    exact = [np.trapezoid((norm.cdf(grid, mean, sd) - (grid >= point)) ** 2, grid) for point in y]
    closed = NormalPredictive(np.full(3, mean), np.full(3, sd))
    np.testing.assert_allclose(closed.crps(y), exact, atol=1e-3)
    draws = np.sort(np.random.default_rng(0).normal(mean, sd, (4000, 3)), axis=0)
    sampled = SampledPredictive(draws, draws.mean(0), np.zeros(3))
    np.testing.assert_allclose(sampled.crps(y), exact, atol=0.06)
    np.testing.assert_allclose(sampled.quantile(0.9), np.quantile(draws, 0.9, axis=0, method="weibull"))
    np.testing.assert_allclose(sampled.sd, draws.std(0, ddof=1))


def without_entries(adata):
    adata.X = sp.csr_matrix(adata.shape, dtype=np.float32)
    return adata


def with_nan(adata):
    adata.X.data[3] = np.nan
    return adata


def dense(adata):
    adata.X = adata.X.toarray()
    return adata


def unmarked(adata):
    del adata.uns["platewise"]
    return adata


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_entries, "Expected held-out entries, got none"),
        (with_nan, "got some that are not finite"),
        (dense, "as a sparse matrix, got ndarray"),
        (unmarked, "a matrix that says what entries not stored mean"),
        (lambda adata: mark(adata, unstored="zero"), r"Expected ratings .* for LatentFactor, got counts"),
    ],
)
def test_invalid_use(block_fit, split, spoil, message):
    with pytest.raises(PlatewiseError, match=message):
        evaluate(block_fit, spoil(split[1].copy()))


def test_a_path_that_is_not_there(block_fit, tmp_path):
    with pytest.raises(PlatewiseError, match="no such file"):
        evaluate(block_fit, tmp_path / "none.h5ad")
