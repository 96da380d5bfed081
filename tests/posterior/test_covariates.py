"""Read-outs find covariates where the fit did, and take arrays, names and labels where they are given."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from platewise.data import PlatewiseError
from platewise.guides import AmortizedNormal
from platewise.inference import Fitted, svi
from platewise.models import VAE
from platewise.posterior import embed, score_rows
from platewise.posterior.covariates import RowCovariates

from ..count_data import small_counts

OPTIONS = {"epochs": 2, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}
COLUMNS = {"batch": "donor", "age": "age"}


@cache
def cells():
    adata = small_counts()
    adata.obs["donor"] = np.array(["two", "one"])[adata.obs["batch"]]
    adata.obs["age"] = 50 + 10.0 * np.random.default_rng(1).normal(size=adata.n_obs)
    return adata


def model() -> VAE:
    return VAE(2, hidden=8, categories={"batch": 2}, continuous={"age": 1})


@cache
def fitted() -> Fitted:
    return svi.fit(model(), AmortizedNormal(hidden=8), cells(), covariates=COLUMNS, **OPTIONS)


def standardised() -> np.ndarray:
    age = cells().obs["age"].to_numpy()
    return (age - age.mean()) / age.std()


def test_a_fit_by_columns_is_the_fit_by_arrays():
    given = {"batch": 1 - cells().obs["batch"].to_numpy(), "age": standardised()}
    by_arrays = svi.fit(model(), AmortizedNormal(hidden=8), cells(), covariates=given, **OPTIONS)
    for name, x in fitted().model.state_dict().items():
        torch.testing.assert_close(x, by_arrays.model.state_dict()[name])


def test_a_loaded_run_reads_its_columns(tmp_path):
    fitted().save(tmp_path / "run")
    loaded = Fitted.load(tmp_path / "run", device="cpu")
    assert loaded.covariates == fitted().covariates
    assert loaded.covariates["batch"]["levels"] == ["one", "two"]
    assert loaded.covariates["age"]["sd"] == cells().obs["age"].std(ddof=0)
    new = small_counts(1)[:10].copy()
    new.obs["donor"], new.obs["age"] = pd.Categorical(["two"] * 10), 40.0
    pd.testing.assert_frame_equal(score_rows(loaded, new, draws=2), score_rows(fitted(), new, draws=2))
    assert embed(loaded, new).obsm["X_platewise"].shape == (10, 2)


@pytest.mark.parametrize(
    "given",
    [
        {"batch": 1 - small_counts().obs["batch"].to_numpy()},
        {"batch": cells().obs["donor"].to_numpy()},
        {"batch": cells().obs["donor"].astype("category").sample(frac=1, random_state=0)},
        {"batch": "donor", "age": standardised()},
        COLUMNS,
    ],
    ids=["codes", "labels", "by name", "column and array", "columns"],
)
def test_what_is_given_stands_for_the_column(given):
    expected = score_rows(fitted(), cells(), draws=2)
    pd.testing.assert_frame_equal(score_rows(fitted(), cells(), draws=2, covariates=given), expected)


def test_integer_ids_are_names():
    data = cells().copy()
    data.obs_names = [str(i) for i in range(data.n_obs)]
    given = pd.Series(data.obs["donor"].to_numpy(), index=range(data.n_obs)).sample(frac=1, random_state=0)
    expected = score_rows(fitted(), data, draws=1)
    pd.testing.assert_frame_equal(score_rows(fitted(), data, draws=1, covariates={"batch": given}), expected)


@pytest.mark.parametrize("read", [RowCovariates, lambda fit, given: score_rows(fit, cells(), covariates=given)])
def test_a_row_named_twice_is_refused(read):
    donor = cells().obs["donor"]
    with pytest.raises(PlatewiseError, match="once for each row, got more than one for 'cell0'"):
        read(fitted(), {"batch": pd.concat([donor, donor])})


def test_another_column_is_read_with_the_levels_of_the_fit():
    data = cells().copy()
    data.obs["swapped"] = data.obs["donor"].map({"one": "two", "two": "one"})
    swapped = score_rows(fitted(), data, draws=2, covariates={"batch": "swapped"})
    by_codes = score_rows(fitted(), data, draws=2, covariates={"batch": data.obs["batch"].to_numpy()})
    pd.testing.assert_frame_equal(swapped, by_codes)


def test_rows_of_the_fit_have_their_own():
    names = np.array(["cell7", "cell2"])
    found = RowCovariates(fitted(), None).take(names)
    assert found["batch"].tolist() == [0, 1]
    np.testing.assert_allclose(found["age"].numpy(), standardised()[[7, 2]])


@pytest.mark.parametrize(
    ("change", "covariates", "message"),
    [
        ({"donor": "three"}, None, r"that the fit saw \(one, two\), got 'three'"),
        ({"donor": None}, None, "got 60 of 60 rows where it is missing"),
        ({"age": np.nan}, None, "covariate 'age' of every row, got 60 of 60"),
        ({"age": "old"}, None, "covariate 'age' as numbers"),
        ({}, {"batch": np.full(60, 2)}, "from 0 to 1, which the model has levels for, got 2"),
        ({}, {"batch": np.zeros(3, int)}, "numbers for 60 rows"),
        ({}, {"age": np.zeros((60, 2))}, r"of shape \(60,\), got \(60, 2\)"),
        ({}, {"other": "donor"}, r"covariates of the fit, \['age', 'batch'\], got \['age', 'batch', 'other'\]"),
        ({}, {"batch": "nope"}, "column 'nope' in obs for covariate 'batch'"),
    ],
)
def test_misuse_gets_one_line(change, covariates, message):
    data = cells().copy()
    for name, value in change.items():
        data.obs[name] = value
    with pytest.raises(PlatewiseError, match=message) as error:
        score_rows(fitted(), data, draws=1, covariates=covariates)
    assert "\n" not in str(error.value)


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(PlatewiseError, match="column 'donor' in obs for covariate 'batch', got kind, batch"):
        score_rows(fitted(), small_counts(), draws=1)


def test_a_fit_by_arrays_takes_no_column():
    given = {"batch": cells().obs["batch"].to_numpy()}
    trained = svi.fit(VAE(2, hidden=8, categories={"batch": 2}), AmortizedNormal(hidden=8), cells(), covariates=given,
                      **OPTIONS)  # fmt: skip
    with pytest.raises(PlatewiseError, match="as an array, as in the fit, got the column 'donor'"):
        score_rows(trained, cells(), covariates={"batch": "donor"})
