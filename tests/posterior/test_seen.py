"""Ids that were listed in the training data but had no entry there are new to the fit."""

import numpy as np
import pytest
import scipy.sparse as sp
from platewise.data import make_ratings
from platewise.guides import RowBlockNormal
from platewise.inference import svi
from platewise.models import LatentFactor
from platewise.posterior import evaluate, predict, recommend, to_arviz


@pytest.fixture(scope="module")
def ratings():
    """User 3 and item 7 are listed, and have no rating."""
    rng = np.random.default_rng(0)
    x = sp.lil_matrix(np.where(rng.random((12, 9)) < 0.6, rng.integers(1, 6, (12, 9)), 0).astype(np.float32))
    x[3], x[:, 7] = 0, 0
    return make_ratings(sp.csr_matrix(x), np.arange(12), np.arange(9))


@pytest.fixture(scope="module")
def fitted(ratings):
    return svi.fit(LatentFactor(2), RowBlockNormal(), ratings, epochs=5, progress=False)


def test_they_are_flagged_and_get_the_prior(fitted):
    table = predict(fitted, [3, 1, 1, 99], [1, 7, 1, 1])
    assert table["known_user"].tolist() == [False, True, True, False]
    assert table["known_item"].tolist() == [True, False, True, True]
    assert table["mean"][0] == pytest.approx(table["mean"][3])
    assert table["sd"][0] == pytest.approx(table["sd"][3])


def test_they_are_counted(fitted):
    test = make_ratings(sp.csr_matrix(([3.0, 4.0], ([3, 1], [1, 1])), shape=(12, 9)), np.arange(12), np.arange(9))
    scores = evaluate(fitted, test)
    assert (scores.n_unknown_rows, scores.n_unknown_entries) == (1, 1)


def test_a_user_without_ratings_gets_the_popular_items(fitted, ratings):
    table = recommend(fitted, 3, 2)
    popular = np.argsort(-np.bincount(ratings.X.indices, minlength=9), kind="stable")[:2]
    assert table["item"].tolist() == popular.tolist()
    assert table["reason"].str.contains("most").all()


def test_draws_of_rows_in_any_order_and_twice(fitted):
    one = to_arviz(fitted, [1, 5, 8], n_draws=400, canonical=False).posterior["user"].mean(("chain", "draw"))
    other = (
        to_arviz(fitted, [8, 1, 5, 1], n_draws=400, canonical=False, seed=1).posterior["user"].mean(("chain", "draw"))
    )
    expected = one.values[[2, 0, 1, 0]]
    np.testing.assert_allclose(other.values, expected, atol=0.25)
