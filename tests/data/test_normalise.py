"""Counts normalised, and later matrices as a fit took its own."""

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from platewise.data import log_normalise, mark, meaning
from platewise.data.errors import PlatewiseError
from platewise.data.preparation import is_expression, prepared, prepared_like, require_gaps_like

COUNTS = np.array([[1.0, 0, 3], [0, 2, 0], [5, 5, 0]], dtype=np.float32)


def marked(x, unstored="zero"):
    return mark(ad.AnnData(sp.csr_matrix(x)), unstored=unstored)


def test_the_formula_and_what_is_kept():
    counts = marked(COUNTS)
    counts.obs["batch"] = ["a", "b", "a"]
    counts.obsm["place"] = np.eye(3)
    made = log_normalise(counts, 100.0)
    np.testing.assert_allclose(made.X.toarray(), np.log1p(100 * COUNTS / COUNTS.sum(1, keepdims=True)), rtol=1e-6)
    assert (made.X.dtype, made.X.nnz) == (np.float32, 5)
    assert meaning(made)["normalised"] == 100.0
    assert list(made.obs["batch"]) == ["a", "b", "a"]
    assert made.obsm["place"].shape == (3, 3)
    np.testing.assert_array_equal(made.layers["counts"].toarray(), COUNTS)
    np.testing.assert_array_equal(counts.X.toarray(), COUNTS)
    assert "normalised" not in meaning(counts)


def test_what_it_records_survives_a_file(tmp_path):
    log_normalise(marked(COUNTS)).write_h5ad(tmp_path / "x.h5ad")
    assert meaning(ad.read_h5ad(tmp_path / "x.h5ad"))["normalised"] == 10_000.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(st.integers(0, 2**20), min_size=3, max_size=3), min_size=1, max_size=5), st.floats(1.0, 1e6))
def test_rows_have_the_target_as_total_and_zeros_stay(rows, target):
    x = np.array(rows, dtype=np.float64) + np.array([1, 0, 0])
    made = log_normalise(marked(x), target).X.toarray().astype(np.float64)
    np.testing.assert_allclose(np.expm1(made).sum(1), target, rtol=1e-4)
    assert ((made == 0) == (x == 0)).all()


def test_a_stored_zero_is_kept():
    x = sp.csr_matrix(COUNTS)
    x.data[1] = 0
    assert log_normalise(mark(ad.AnnData(x), unstored="zero")).X.nnz == 5


@pytest.mark.parametrize(
    ("adata", "target", "message"),
    [
        (marked(COUNTS * [[1], [0], [1]]), 1e4, "Expected cells with counts, got 1 of 3 without any, the first '1'"),
        (marked(COUNTS / 2), 1e4, "Expected counts, whole numbers from 0 on, got others"),
        (marked(-COUNTS), 1e4, "Expected counts, whole numbers"),
        (marked(COUNTS * [[np.nan], [1], [1]]), 1e4, "Expected counts, whole numbers"),
        (log_normalise(marked(COUNTS)), 1e4, "got counts log-normalised to 10,000 a row"),
        (marked(COUNTS, "missing"), 1e4, r"Expected counts .* for normalising, got ratings"),
        (mark(ad.AnnData(COUNTS), unstored="zero"), 1e4, "Expected a sparse matrix"),
        (marked(COUNTS), 0.0, "Expected a target above 0, got 0.0"),
        (marked(COUNTS), np.inf, "Expected a target above 0, got inf"),
    ],
)
def test_what_is_refused(adata, target, message):
    with pytest.raises(PlatewiseError, match=message) as raised:
        log_normalise(adata, target)
    assert "\n" not in str(raised.value)


def test_a_new_fit_takes_counts_normalised_and_the_rest_as_it_is():
    made = prepared(marked(COUNTS))
    assert meaning(made)["normalised"] == 10_000.0
    assert prepared(made) is made
    other = prepared(marked(COUNTS / 2))
    assert meaning(other)["normalised"] == "elsewhere"
    np.testing.assert_array_equal(other.X.toarray(), COUNTS / 2)
    ratings = marked(COUNTS, "missing")
    assert prepared(ratings) is ratings
    assert [is_expression(meaning(x)) for x in (made, other, ratings)] == [True, True, False]


def test_zeros_may_be_taken_as_missing_and_not_the_other_way_round():
    taken = prepared(marked(COUNTS), "missing")
    assert (meaning(taken)["unstored"], meaning(taken)["recorded"]) == ("missing", "zero")
    assert is_expression(meaning(taken))
    with pytest.raises(PlatewiseError, match=r'for unstored="zero", got ratings'):
        prepared(marked(COUNTS, "missing"), "zero")
    with pytest.raises(PlatewiseError, match="got 'none'"):
        prepared(marked(COUNTS), "none")


@pytest.mark.parametrize("unstored", ["zero", "missing"])
def test_later_counts_are_made_what_the_first_were(unstored):
    first = prepared(marked(COUNTS), unstored)
    for later in (marked(COUNTS), log_normalise(marked(COUNTS)), first):
        require_gaps_like(later, meaning(first), needed_by="a test")
        made = prepared_like(later, meaning(first))
        np.testing.assert_array_equal(made.X.toarray(), first.X.toarray())
        assert meaning(made)["unstored"] == unstored


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        (COUNTS, COUNTS / 2, "Expected counts log-normalised to 10,000 a row, or the counts themselves, .* elsewhere"),
        (COUNTS / 2, COUNTS, "Expected entries normalised elsewhere, as in the fit, got counts"),
        (COUNTS, log_normalise(marked(COUNTS), 50.0), "got counts log-normalised to 50 a row"),
    ],
)
def test_other_values_are_refused(first, later, message):
    about = meaning(prepared(marked(first)))
    with pytest.raises(PlatewiseError, match=message):
        prepared_like(later if isinstance(later, ad.AnnData) else marked(later), about)


def test_a_fit_of_the_counts_themselves_stays_with_counts():
    about = meaning(marked(COUNTS))
    np.testing.assert_array_equal(prepared_like(marked(COUNTS), about).X.toarray(), COUNTS)
    with pytest.raises(PlatewiseError, match="Expected counts, as in the fit, got counts log-normalised"):
        prepared_like(log_normalise(marked(COUNTS)), about)
