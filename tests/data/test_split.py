import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from platewise.data.container import make_ratings
from platewise.data.errors import PlatewiseError
from platewise.data.meaning import mark
from platewise.data.split import split_entries

WAYS = ("random", "user", "last", "time")


@st.composite
def ratings(draw):
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    stored = draw(st.lists(st.booleans(), min_size=n_users * n_items, max_size=n_users * n_items))
    rows, cols = np.nonzero(np.reshape(stored, (n_users, n_items)))
    times = draw(st.lists(st.integers(0, 5), min_size=len(rows), max_size=len(rows)))
    # Values tell the entries apart; the first one is a stored zero.
    x = sp.csr_matrix((np.arange(len(rows), dtype=np.float32), (rows, cols)), shape=(n_users, n_items))
    obs = pd.DataFrame({"age": range(n_users)})
    return make_ratings(x, range(n_users), range(n_items), obs=obs, timestamp=np.array(times, np.int64))


def triples(adata):
    coo, times = adata.X.tocoo(), adata.layers["timestamp"]
    assert np.shares_memory(adata.X.indices, times.indices)
    return set(zip(coo.row.tolist(), coo.col.tolist(), coo.data.tolist(), times.data.tolist(), strict=True))


@settings(deadline=None)
@given(ratings(), st.sampled_from(WAYS), st.floats(0.05, 0.95), st.integers(1, 3), st.integers(0, 99))
def test_parts_are_a_partition(adata, by, share, k, seed):
    assume(adata.X.nnz > 0)
    before = triples(adata)
    try:
        train, test = split_entries(adata, share, by=by, k=k, seed=seed)
    except PlatewiseError:  # so few entries that a part would be empty
        assert adata.X.nnz < 20 * adata.n_obs
        return
    assert triples(train) | triples(test) == before == triples(adata)
    assert train.X.nnz + test.X.nnz == adata.X.nnz
    for part in (train, test):
        assert part.X.has_canonical_format
        assert part.uns["platewise"] == adata.uns["platewise"]
        pd.testing.assert_frame_equal(part.obs, adata.obs)
        pd.testing.assert_frame_equal(part.var, adata.var)
    counts, in_test = np.diff(adata.X.indptr), np.diff(test.X.indptr)
    if by in ("random", "time"):
        assert test.X.nnz == round(share * adata.X.nnz)
    else:
        assert np.all(in_test <= np.maximum(counts - 1, 0))
    if by == "last":
        np.testing.assert_array_equal(in_test, np.minimum(k, np.maximum(counts - 1, 0)))
    if by == "time":
        assert train.layers["timestamp"].data.max() <= test.layers["timestamp"].data.min()


@settings(deadline=None)
@given(ratings(), st.integers(1, 3))
def test_last_is_last_for_every_user(adata, k):
    assume(np.diff(adata.X.indptr).max() > 1)
    train, test = split_entries(adata, by="last", k=k)
    for user in np.flatnonzero(np.diff(test.X.indptr)):
        earlier, later = (part.layers["timestamp"][user].data for part in (train, test))
        assert earlier.max() <= later.min()


@pytest.fixture
def many():
    x = sp.random(300, 200, 0.2, format="csr", random_state=0, dtype=np.float32)
    times = np.random.default_rng(0).integers(0, 50, x.nnz)
    return make_ratings(x, range(300), range(200), timestamp=times)


@pytest.mark.parametrize("by", WAYS)
def test_one_seed_one_split(many, by):
    first, again, other = (triples(split_entries(many, by=by, seed=seed)[1]) for seed in (1, 1, 2))
    assert first == again != other


def test_shares_of_users_are_right_on_average(many):
    _, test = split_entries(many, 0.1, by="user")
    counts = np.diff(many.X.indptr)
    assert np.all(np.abs(np.diff(test.X.indptr) - 0.1 * counts) < 1)
    assert abs(test.X.nnz - 0.1 * many.X.nnz) < 4 * np.sqrt(300) / 2


def test_equal_times_do_not_favour_any_item():
    x = sp.csr_matrix(np.ones((2000, 4), np.float32))
    adata = make_ratings(x, range(2000), "abcd", timestamp=np.zeros(x.nnz, np.int64))
    for by in ("last", "time"):
        _, test = split_entries(adata, 0.25, by=by)
        # 2,000 draws of 4: five standard deviations
        assert np.all(np.abs(test.X.sum(axis=0) - 500) < 5 * np.sqrt(2000 * 0.25 * 0.75))


def test_times_of_any_size():
    x = sp.csr_matrix(np.ones((3, 3), np.float32))
    times = np.array([-(2**62), 0, 2**62] * 3)
    _, test = split_entries(make_ratings(x, "abc", "xyz", timestamp=times), by="last")
    assert test.X.indices.tolist() == [2, 2, 2]


def test_no_timestamps_are_needed_for_random():
    adata = make_ratings(sp.csr_matrix(np.ones((3, 4), np.float32)), "abc", "wxyz")
    train, _ = split_entries(adata, 0.5)
    assert "timestamp" not in train.layers
    with pytest.raises(PlatewiseError, match="Expected timestamps"):
        split_entries(adata, by="last")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 1.5}, "between 0 and 1"),
        ({"test": 0.0}, "between 0 and 1"),
        ({"by": "item"}, "one of random, user, last, time"),
        ({"by": "last", "k": 0}, "k of 1"),
        ({"test": 1e-9}, "two parts with entries, got 0"),
    ],
)
def test_bad_options(many, options, message):
    with pytest.raises(PlatewiseError, match=message):
        split_entries(many, **options)


def test_counts_are_not_split():
    with pytest.raises(PlatewiseError, match="Expected ratings"):
        split_entries(mark(ad.AnnData(sp.eye(3, format="csr")), unstored="zero"))
