"""Covariates of a fit: columns of obs as codes and standardised numbers, arrays as they are, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from platewise.data import PlatewiseError
from platewise.inference.covariates import read_covariates
from platewise.inference.obs_columns import read_column, read_like
from platewise.models import VAE

OBS = pd.DataFrame(
    {
        "batch": ["b", "a", "b", "c"],
        "stage": pd.Categorical(["late", "early", "late", "early"], ["early", "mid", "late"]),
        "lane": pd.Categorical([10, 9, 10, 9]),
        "run": [10, 9, 10, 9],
        "treated": [True, False, True, True],
        "age": [1.0, 2.0, 3.0, 6.0],
        "flat": [0.1, 0.1, 0.1, 0.1],
        "gap": ["x", None, "x", None],
        "hole": [1.0, np.nan, np.inf, 2.0],
        "when": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"]),
        "n_entries": [1.0, 2.0, 3.0, 4.0],
    },
    index=list("pqrs"),
)


@pytest.mark.parametrize(
    ("column", "codes", "levels"),
    [
        ("batch", [1, 0, 1, 2], ["a", "b", "c"]),
        ("stage", [1, 0, 1, 0], ["early", "late"]),
        ("lane", [1, 0, 1, 0], ["9", "10"]),
        ("run", [1, 0, 1, 0], ["9", "10"]),
        ("treated", [1, 0, 1, 1], ["False", "True"]),
    ],
)
def test_labels_become_codes_in_the_order_of_their_categories(column, codes, levels):
    found, about = read_column("x", column, OBS)
    assert (found.tolist(), found.dtype) == (codes, np.int64)
    assert about == {"shape": [], "dtype": "int64", "column": column, "levels": levels}


def test_real_numbers_are_standardised_and_flat_ones_centred():
    found, about = read_column("x", "age", OBS)
    np.testing.assert_allclose([found.mean(), found.std()], [0, 1], atol=1e-12)
    assert (about["mean"], about["sd"]) == (3.0, pytest.approx(np.std([1, 2, 3, 6])))
    found, about = read_column("x", "flat", OBS)
    np.testing.assert_allclose(found, 0, atol=1e-15)
    assert about["sd"] == 1.0
    assert read_column("x", "run", OBS, "continuous")[1]["mean"] == 9.5


@pytest.mark.parametrize("column", ["batch", "stage", "lane", "treated", "age"])
def test_later_rows_are_read_as_those_of_the_fit(column):
    """Through JSON, in another order, and with other categories."""
    found, about = read_column("x", column, OBS)
    later = OBS.iloc[[3, 1]].copy()
    if column == "batch":
        later[column] = pd.Categorical(later[column], ["z", "c", "a"])
    np.testing.assert_array_equal(read_like("x", later[column], json.loads(json.dumps(about))), found[[3, 1]])


def test_columns_and_arrays_go_together():
    given = {"batch": "batch", "age": np.arange(8.0).reshape(4, 2)}
    arrays, about = read_covariates(given, OBS, VAE(categories={"batch": 3}, continuous={"age": 2}))
    assert about["age"] == {"shape": [2], "dtype": "float32"}
    assert about["batch"]["levels"] == ["a", "b", "c"]
    np.testing.assert_array_equal(arrays["age"], given["age"])


def test_the_model_says_what_whole_numbers_are():
    assert "levels" in read_covariates({"run": "run"}, OBS, VAE(categories={"run": 2}))[1]["run"]
    assert "mean" in read_covariates({"run": "run"}, OBS, VAE(continuous={"run": 1}))[1]["run"]
    assert "levels" in read_covariates({"run": "run"}, OBS)[1]["run"]


TWO, WIDE = VAE(categories={"x": 2}), VAE(continuous={"x": 1})


@pytest.mark.parametrize(
    ("given", "model", "message"),
    [
        ("nope", None, "column 'nope' in obs for covariate 'x', got batch, stage, "),
        ("n_entries", None, "column 'n_entries' in obs"),
        ("gap", None, "every row, got 2 of 4 rows where it is missing"),
        ("hole", None, "every row, got 2 of 4 rows where it is missing or not finite"),
        ("hole", TWO, "every row, got 1 of 4 rows where it is missing"),
        ("when", None, "labels or real numbers, got datetime64"),
        ("batch", WIDE, "as numbers, which the model takes it as, got object in column 'batch'"),
        ("batch", TWO, "from 0 to 1, which the model has levels for, got 2"),
        (np.array([0, 1, 5, -1]), TWO, r"got 5 \(rows with such codes: 2\)"),
        (np.array([0.0, 1, 1, 0]), TWO, "one whole number per row, from 0 to 1, got float64"),
        (np.array([True] * 4), TWO, "got bool"),
        (np.array([[0]] * 4), TWO, r"of shape \(4, 1\)"),
        (np.array([0.0, np.nan, np.inf, 1]), WIDE, "finite numbers, got 2 of 4 rows with others"),
        (np.zeros((4, 3)), WIDE, "as 1 numbers per row, as the model takes it, got 3"),
        (np.zeros(3), None, "numbers for 4 rows, got float64 of shape"),
        (np.array(list("abcd")), None, "or the name of an obs column"),
        ("age", VAE(), r"covariates that the model reads \(none\), got 'x'"),
    ],
)
def test_misuse_gets_one_line(given, model, message):
    with pytest.raises(PlatewiseError, match=message) as error:
        read_covariates({"x": given}, OBS, model)
    assert "\n" not in str(error.value)


def test_a_level_that_the_fit_never_saw_is_named():
    about = read_column("x", "batch", OBS)[1]
    with pytest.raises(PlatewiseError, match=r"that the fit saw \(a, b, c\), got 'new' \(rows with such levels: 2\)"):
        read_like("x", pd.Series(["a", "new", "old"]), about)
