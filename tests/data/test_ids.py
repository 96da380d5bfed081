import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from platewise.data.errors import PlatewiseError
from platewise.data.ids import Codebook, as_name, name_ids, original_ids


@pytest.mark.parametrize("same", [42, np.int64(42), np.uint8(42), "42", 42.0, np.float32(42)])
def test_one_id_has_one_name(same):
    assert as_name(same) == "42"


@pytest.mark.parametrize("bad", [None, float("nan"), True, b"42", (1,)])
def test_what_is_no_id(bad):
    with pytest.raises(PlatewiseError, match="Expected an id"):
        as_name(bad)


@given(st.lists(st.integers(-(2**62), 2**62), unique=True) | st.lists(st.text(), unique=True))
def test_names_round_trip(ids):
    names, kind = name_ids(ids)
    assert all(isinstance(name, str) for name in names)
    assert original_ids(names, kind).tolist() == ids


def test_whole_floats_are_integers():
    names, kind = name_ids(np.array([1.0, 2.0]))
    assert (names.tolist(), kind) == (["1", "2"], "int")


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, "1"], "integers and text mixed"),
        ([1.5, 2.0], "fractional"),
        ([1, None], "NoneType"),
        ([True, False], "bool"),
    ],
)
def test_bad_ids(ids, message):
    with pytest.raises(PlatewiseError, match=message):
        name_ids(ids, "user ids")


def encode(*columns, from_text=False):
    book = Codebook("user ids", from_text=from_text)
    codes = np.concatenate([book.encode(pa.array(column)) for column in columns])
    ids, position = book.finish()
    return ids, position[codes]


@given(st.lists(st.lists(st.integers(-50, 50), min_size=1), min_size=1))
def test_codebook_agrees_with_unique(batches):
    ids, codes = encode(*[pa.array(batch, pa.int64()) for batch in batches])
    expected, inverse = np.unique(np.concatenate(batches), return_inverse=True)
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(codes, inverse.ravel())


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        (["10", "9", " 9", "1.0", "1"], [1, 9, 10]),  # written as integers: sorted as integers
        (["10", "9", "a"], ["10", "9", "a"]),
        (["007", "7"], ["007", "7"]),  # a leading zero is part of a name
        (["1.5", "2"], ["1.5", "2"]),
        (["99999999999999999999"], ["99999999999999999999"]),
    ],
)
def test_integers_in_text(texts, ids):
    assert encode(texts, from_text=True)[0].tolist() == ids


def test_typed_text_stays_text():
    assert encode(["10", "9"])[0].tolist() == ["10", "9"]


def test_unused_categories_are_nobody():
    column = pa.array(pd.Series(["b", "c"], dtype=pd.CategoricalDtype(["a", "b", "c"])))
    assert encode(column)[0].tolist() == ["b", "c"]


def test_types_may_not_change_between_batches():
    book = Codebook("user ids", from_text=False)
    book.encode(pa.array([1, 2]))
    with pytest.raises(PlatewiseError, match="integers and text mixed"):
        book.encode(pa.array(["a"]))
