"""Recommendations: seen items left out, filters, unknown users, and the same whatever the size of a group."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from platewise.data.errors import PlatewiseError
from platewise.data.storage import write_h5ad
from platewise.posterior import predict, recommend


@pytest.fixture
def train(split):
    """What the fits were made on."""
    return split[0]


def seen_by(train, user):
    """Items that a user has rated."""
    return set(train.var_names[train.X[train.obs_names.get_loc(str(user))].indices].astype(int))


def test_the_best_of_what_is_not_seen(fitted, train):
    found = recommend(fitted, [7, 3], 5, data=train)
    assert list(found.columns) == ["user", "rank", "item", "title", "mean", "sd", "lower", "upper", "reason"]
    assert found["user"].tolist() == [7] * 5 + [3] * 5
    assert found["rank"].tolist() == [1, 2, 3, 4, 5] * 2
    assert set(found["reason"]) == {"highest predicted"}
    for user, lines in found.groupby("user"):
        fresh = sorted(set(train.var_names.astype(int)) - seen_by(train, user))
        scores = predict(fitted, user, fresh).sort_values("mean", ascending=False).head(5)
        assert lines["item"].tolist() == scores["item"].tolist()
        columns = ["mean", "sd", "lower", "upper"]
        np.testing.assert_allclose(lines[columns], scores[columns], rtol=1e-10)
    assert found["title"].tolist() == [f"Film {item}" for item in found["item"]]


def test_seen_items_may_come_back(block_fit):
    found = recommend(block_fit, 7, 100, exclude_seen=False)
    assert sorted(found["item"]) == list(range(1, 101))
    assert found["mean"].is_monotonic_decreasing


def test_filters(block_fit, train):
    found = recommend(block_fit, 7, 50, exclude_seen=False, items=[3, "4", 5, 6], exclude=[4, "never heard of"])
    assert sorted(found["item"]) == [3, 5, 6]
    fresh = set(range(1, 101)) - seen_by(train, 7)
    assert set(recommend(block_fit, 7, 1000, data=train)["item"]) == fresh


def test_ranking_by_the_lower_bound(block_fit, train):
    found = recommend(block_fit, 7, 20, data=train, by="lower", of="mean", level=0.95)
    assert found["lower"].is_monotonic_decreasing
    assert not found["mean"].is_monotonic_decreasing


def test_an_unknown_user_gets_what_is_rated_most(block_fit, train):
    found = recommend(block_fit, ["nobody", 7], 3, data=train)
    unknown = found[found["user"] == "nobody"]
    assert set(unknown["reason"]) == {"unknown user: most rated"}
    counts = block_fit.var["n_entries"].loc[unknown["item"].astype(str)]
    assert counts.tolist() == sorted(block_fit.var["n_entries"], reverse=True)[:3]
    np.testing.assert_allclose(unknown["mean"], predict(block_fit, "nobody", unknown["item"])["mean"])
    assert found["user"].tolist() == ["nobody"] * 3 + [7] * 3


def test_groups_of_any_size_give_the_same(block_fit, train, monkeypatch):
    import sys

    users = [*range(1, 30), "nobody"]
    whole = recommend(block_fit, users, 4, data=train)
    monkeypatch.setattr(sys.modules["platewise.posterior.recommend"], "MAX_SCORES", 250)
    pd.testing.assert_frame_equal(recommend(block_fit, users, 4, data=train), whole)


def test_scores_held_at_once_are_bounded(block_fit, train, monkeypatch):
    import sys

    module = sys.modules["platewise.posterior.recommend"]
    sizes, intervals = [], module.intervals

    def counted(reader, request, *rest):
        sizes.append(len(request))
        return intervals(reader, request, *rest)

    monkeypatch.setattr(module, "MAX_SCORES", 1000)
    monkeypatch.setattr(module, "intervals", counted)
    recommend(block_fit, range(1, 101), 2, data=train)
    assert max(sizes) <= 1000
    assert sum(sizes) == 100 * 100


def test_a_path_will_do(block_fit, train, tmp_path):
    write_h5ad(train, tmp_path / "train.h5ad")
    found = recommend(block_fit, 7, 3, data=tmp_path / "train.h5ad")
    pd.testing.assert_frame_equal(found, recommend(block_fit, 7, 3, data=train))


def test_another_model_recommends_by_sampling(regression, people):
    answers, x = people
    found = recommend(regression, ["p1", "p2"], 8, data=answers, covariates={"x": x}, n_samples=20)
    for user, lines in found.groupby("user"):
        row = answers.X[answers.obs_names.get_loc(user)]
        assert set(lines["item"]) == set(answers.var_names) - set(answers.var_names[row.indices])
    assert "title" not in found


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda f, d: recommend(replace(f, data=None), 7),
            "Expected the training data, .* Pass data=, or exclude_seen=False",
        ),
        (lambda f, d: recommend(f, 7, data=d[:, :50].copy()), "fingerprints differ"),
        (lambda f, d: recommend(f, 7, 0, data=d), "k of at least 1, got 0"),
        (lambda f, d: recommend(f, 7, data=d, items=[1, 12345]), "items that the fit knows, got '12345'"),
        (lambda f, d: recommend(f, 7, data=d, items=[1], exclude=["1"]), "got none left"),
        (lambda f, d: recommend(f, 7, data=d, by="upper"), "by among .* got 'upper'"),
        (lambda f, d: recommend(f, [], data=d), "at least one id"),
        (lambda f, d: recommend(f, 7, data=d, level=2.0), "level between 0 and 1, got 2.0"),
    ],
)
def test_invalid_use(block_fit, train, call, message):
    with pytest.raises(PlatewiseError, match=message):
        call(block_fit, train)
