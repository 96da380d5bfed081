"""Each model of the gallery finds what it simulated, and predicts what it has not seen better than column means do."""

from functools import cache

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from platewise.data import split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import Fitted, svi
from platewise.posterior import evaluate
from scipy.stats import bernoulli, norm, poisson

from .models_gallery import (
    GroupsOfUsers,
    ItemResponse,
    MissingDataPCA,
    PoissonFactorization,
    covered,
    drawn,
    posterior,
    some_entries,
)

pytestmark = pytest.mark.slow
QUICK = {"device": "cpu", "progress": False}
GROUP = np.arange(200) % 4
N_KNOWN = 180  # users in the fit of groups; the others come later


def column_means(train: ad.AnnData, test: ad.AnnData) -> tuple[np.ndarray, np.ndarray, float]:
    """Held-out entries, their column's mean in training, and the spread of training entries around theirs."""
    x, y, n_cols = train.X.tocoo(), test.X.tocoo(), train.n_vars
    mean = np.bincount(x.col, x.data, n_cols) / np.bincount(x.col, minlength=n_cols)
    return y.data, mean[y.col], float(np.std(x.data - mean[x.col]))


@cache
def counts() -> tuple[Fitted, ad.AnnData, ad.AnnData, dict[str, np.ndarray]]:
    """A fit, its data, later counts of the same users, and the truth."""
    model, places = PoissonFactorization(3), some_entries((120, 50), 1.0)
    data, truth = drawn(model, "count", {"size": torch.tensor(2.0)}, places)
    held = {name: torch.as_tensor(x) for name, x in truth.items() if name in ("size", "xi", "eta", "theta", "beta")}
    later, _ = drawn(model, "count", held, places)
    return (
        svi.fit(PoissonFactorization(5), RowBlockNormal(), data, epochs=150, batch_rows=60, **QUICK),
        data,
        later,
        truth,
    )


def test_poisson_factorization_recovers_rates() -> None:
    fitted, data, _, truth = counts()
    draws = posterior(fitted, data)
    found, rate = draws["theta"] @ draws["beta"].swapaxes(1, 2), truth["theta"] @ truth["beta"].T
    assert np.corrcoef(np.log(found).mean(0).ravel(), np.log(rate).ravel())[0, 1] > 0.8
    assert 0.6 < covered(found, rate) < 0.98  # users and items are independent in the guide: narrow


def test_poisson_factorization_predicts_counts_to_come() -> None:
    fitted, data, later, _ = counts()
    x = data.X.toarray() + 1e-2
    independent = poisson.logpmf(later.X.toarray(), np.outer(x.sum(1), x.sum(0)) / x.sum()).mean()
    scores = evaluate(fitted, later, n_samples=100)
    assert scores.log_predictive_density > independent + 0.1
    assert scores.coverage["0.9"] > 0.9  # of counts, an interval holds what it says or more


@cache
def groups() -> tuple[Fitted, ad.AnnData, ad.AnnData, dict[str, np.ndarray]]:
    """A fit of most users, the rest of their ratings, the newcomers' ratings, and the truth."""
    given = {"mu": 3.5, "sigma": 0.5, "tau": [0.8, 0.8, 0.6], "kappa": [0.3, 0.3, 0.3]}
    data, truth = drawn(GroupsOfUsers(2, {"group": 4}), "rating", given, some_entries((200, 25), 0.4), group=GROUP)
    train, test = split_entries(data[:N_KNOWN].copy(), test=0.1, seed=0)
    model, about = GroupsOfUsers(2, {"group": 4}), {"group": GROUP[:N_KNOWN]}
    fitted = svi.fit(model, RowBlockNormal(), train, covariates=about, epochs=100, batch_rows=90, **QUICK)
    return fitted, test, data[N_KNOWN:].copy(), truth


def test_groups_of_users_recovers_what_groups_like() -> None:
    fitted, test, _, truth = groups()
    x = posterior(fitted, test, group=GROUP[:N_KNOWN])
    found = np.einsum("sgk,sjk->sgj", x["group"][..., :-1], x["item"][..., :-1]) + x["group"][..., -1:]
    found += x["item"][:, None, :, -1] + x["mu"][:, None, None]
    group, item = truth["group"], truth["item"]
    expected = group[:, :-1] @ item[:, :-1].T + group[:, -1:] + item[:, -1] + truth["mu"]
    assert np.corrcoef(found.mean(0).ravel(), expected.ravel())[0, 1] > 0.95
    assert covered(found, expected) > 0.6  # narrow, as above


def test_groups_of_users_predicts_held_out_ratings() -> None:
    fitted, test, _, _ = groups()
    y, mean, sd = column_means(fitted.data, test)
    scores = evaluate(fitted, test, n_samples=200, covariates={"group": GROUP[:N_KNOWN]})
    assert scores.log_predictive_density > norm.logpdf(y, mean, sd).mean() + 0.2
    assert 0.82 < scores.coverage["0.9"] < 0.97


def test_a_newcomer_is_predicted_from_the_group() -> None:
    fitted, _, newcomers, _ = groups()
    ids = pd.RangeIndex(len(GROUP)).astype(str)
    right, wrong = (
        evaluate(fitted, newcomers, n_samples=200, covariates={"group": pd.Series(codes, ids)})
        for codes in (GROUP, (GROUP + 1) % 4)
    )
    assert right.n_unknown_rows == len(GROUP) - N_KNOWN
    assert right.log_predictive_density > wrong.log_predictive_density + 0.2
    assert 0.8 < right.coverage["0.9"] < 0.98


@cache
def components() -> tuple[Fitted, ad.AnnData]:
    """A fit with more components than there are, and held-out entries."""
    given = {"mu": 2.0, "sigma": 0.3, "v": [1.0, 0.7]}
    data, _ = drawn(MissingDataPCA(2), "value", given, some_entries((200, 25), 0.5))
    train, test = split_entries(data, test=0.1, seed=0)
    return svi.fit(MissingDataPCA(4), RowBlockNormal(), train, epochs=150, batch_rows=100, **QUICK), test


def test_missing_data_pca_finds_how_many_components_and_how_much_noise() -> None:
    fitted, test = components()
    x = posterior(fitted, test)
    strengths = np.sort(x["v"].mean(0))[::-1]
    assert strengths[1] > 0.4
    assert strengths[2] < 0.5 * strengths[1]
    assert abs(x["sigma"].mean() - 0.3) < 0.06


def test_missing_data_pca_predicts_held_out_entries() -> None:
    fitted, test = components()
    y, mean, sd = column_means(fitted.data, test)
    scores = evaluate(fitted, test, n_samples=200)
    assert scores.rmse < 0.5 * np.sqrt(np.mean((y - mean) ** 2))
    assert scores.log_predictive_density > norm.logpdf(y, mean, sd).mean() + 0.5
    assert 0.82 < scores.coverage["0.9"] < 0.98


@cache
def answers() -> tuple[Fitted, ad.AnnData, dict[str, np.ndarray]]:
    """A fit, held-out answers, and the truth."""
    data, truth = drawn(ItemResponse(), "answer", {"mu": 0.2, "tau": 0.8}, some_entries((300, 25), 0.7))
    train, test = split_entries(data, test=0.1, seed=0)
    return svi.fit(ItemResponse(), RowBlockNormal(), train, epochs=100, batch_rows=150, **QUICK), test, truth


def test_item_response_recovers_persons_and_questions() -> None:
    fitted, test, truth = answers()
    draws = posterior(fitted, test)
    least = {"ability": 0.85, "difficulty": 0.9, "discrimination": 0.6}
    found = {name: np.corrcoef(draws[name].mean(0), truth[name])[0, 1] for name in least}
    assert all(found[name] > least[name] for name in least), found
    assert 0.8 < covered(draws["ability"], truth["ability"]) < 0.97


def test_item_response_predicts_held_out_answers() -> None:
    fitted, test, _ = answers()
    y, mean, _ = column_means(fitted.data, test)
    scores = evaluate(fitted, test, n_samples=200)
    assert scores.log_predictive_density > bernoulli.logpmf(y, mean).mean() + 0.08
    assert scores.coverage["0.9"] > 0.9  # an interval of an answer is 0 to 1 unless the answer is all but sure
