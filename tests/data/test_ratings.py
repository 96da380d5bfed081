import bz2
import gzip
import io
import logging
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from platewise.data import text
from platewise.data.container import col_ids, row_ids
from platewise.data.ratings import read_ratings
from platewise.data.separator import SingleByteSeparator
from platewise.data.storage import read_h5ad, write_h5ad

FRAME = pd.DataFrame(
    {
        "user": [10, 2, 10, 3],
        "item": ["b", "a", "a", "b"],
        "rating": [1.0, 0.5, 0.0, 4.5],
        "timestamp": [4, 3, 2, 1],
    }
)


def as_frame(adata):
    coo = adata.X.tocoo()
    frame = pd.DataFrame({"user": row_ids(adata)[coo.row], "item": col_ids(adata)[coo.col], "rating": coo.data})
    if "timestamp" in adata.layers:
        frame["timestamp"] = adata.layers["timestamp"].data
    return frame


def check(adata, *, timestamp=True):
    expected = FRAME.sort_values(["user", "item"], ignore_index=True)
    expected = expected if timestamp else expected.drop(columns="timestamp")
    pd.testing.assert_frame_equal(as_frame(adata), expected, check_dtype=False)
    assert adata.uns["platewise"]["unstored"] == "missing"
    assert row_ids(adata).tolist() == [2, 3, 10]  # integers sorted as integers
    assert adata.X.has_canonical_format


def test_data_frame():
    check(read_ratings(FRAME))


@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("header", [True, False])
def test_delimited_text(tmp_path, separator, header):
    FRAME.to_csv(tmp_path / "r.txt", sep=separator, header=header, index=False)
    check(read_ratings(tmp_path / "r.txt"))


def test_double_colons(tmp_path):
    lines = ["::".join(map(str, row)) for row in FRAME.itertuples(index=False)]
    (tmp_path / "r.dat").write_text("\n".join(lines))
    check(read_ratings(tmp_path / "r.dat"))


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress], ids=["gz", "bz2"])
def test_compressed(tmp_path, compress):
    (tmp_path / "r.csv.z").write_bytes(compress(FRAME.to_csv(index=False).encode()))
    check(read_ratings(str(tmp_path / "r.csv.z")))


def test_zip_with_a_single_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as file:
        file.writestr("anything.csv", FRAME.to_csv(index=False))
    check(read_ratings(tmp_path / "r.zip"))


@pytest.mark.parametrize("dtype", ["int32", "Int64", "float64", "category"])
def test_parquet_and_types_of_ids(tmp_path, dtype):
    frame = FRAME.astype({"user": dtype, "rating": "float32"})
    frame.to_parquet(tmp_path / "r.parquet")
    check(read_ratings(tmp_path / "r.parquet"))
    check(read_ratings(frame))


def test_h5ad_and_container(tmp_path):
    adata = read_ratings(FRAME)
    write_h5ad(adata, tmp_path / "r.h5ad")
    check(read_ratings(tmp_path / "r.h5ad"))
    assert read_h5ad(tmp_path / "r.h5ad").uns["platewise"]["duplicates"] == 0
    assert read_ratings(adata) is adata


@pytest.mark.parametrize(
    "names",
    [
        ["userId", "movieId", "rating", "timestamp"],
        ["User-ID", "ISBN", "Book-Rating", "date"],
        ["user_id:token", "item_id:token", "rating:float", "timestamp:float"],
        ["reviewerID", "asin", "overall", "unixReviewTime"],
    ],
)
def test_guessed_columns(tmp_path, names):
    FRAME.set_axis(names, axis=1).assign(noise="x").to_csv(tmp_path / "r.csv", index=False)
    check(read_ratings(tmp_path / "r.csv"))


def test_named_columns_win(tmp_path):
    wrong = FRAME.rename(columns={"rating": "mine"}).assign(rating=9.0, when=FRAME["timestamp"])
    wrong.to_csv(tmp_path / "r.csv", index=False)
    check(read_ratings(tmp_path / "r.csv", rating="mine", timestamp="when"))
    check(read_ratings(wrong, rating=wrong.columns.get_loc("mine"), timestamp=False), timestamp=False)


def test_blank_lines_a_byte_order_mark_and_carriage_returns(tmp_path):
    raw = "\r\n" + FRAME.to_csv(index=False, lineterminator="\r\n\r\n")
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbf" + raw.encode())
    check(read_ratings(tmp_path / "r.csv"))
    (tmp_path / "bare.csv").write_bytes(b"\xef\xbb\xbf" + FRAME.to_csv(index=False, header=False).encode())
    check(read_ratings(tmp_path / "bare.csv"))


@pytest.mark.parametrize(
    "form",
    ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S.%f"],
)
def test_dates(tmp_path, form):
    dates = pd.to_datetime(FRAME["timestamp"], unit="s")
    FRAME.assign(timestamp=dates.dt.strftime(form)).to_csv(tmp_path / "r.csv", index=False)
    check(read_ratings(tmp_path / "r.csv"))
    check(read_ratings(FRAME.assign(timestamp=dates)))
    check(read_ratings(FRAME.assign(timestamp=dates.dt.tz_localize("UTC"))))


def test_fractional_times_lose_their_fraction(tmp_path):
    FRAME.assign(timestamp=FRAME["timestamp"] + 0.25).to_csv(tmp_path / "r.csv", index=False)
    check(read_ratings(tmp_path / "r.csv"))


def test_sparse_matrix_keeps_order_and_empty_rows():
    x = sp.coo_matrix(([1.0, 0.0, 3.0, 4.0], ([2, 2, 0, 2], [0, 1, 1, 0])), shape=(4, 2))
    adata = read_ratings(x, row_ids=["d", "c", "b", "a"], col_ids=[9, 8])
    assert row_ids(adata).tolist() == ["d", "c", "b", "a"]
    assert as_frame(adata).values.tolist() == [["d", 8, 3.0], ["b", 9, 4.0], ["b", 8, 0.0]]
    assert adata.uns["platewise"]["duplicates"] == 1
    assert row_ids(read_ratings(x.tocsr())).tolist() == [0, 1, 2, 3]


def test_sparse_matrix_is_left_alone():
    x = sp.csr_matrix((np.array([2.0, 1.0]), np.array([1, 0]), [0, 2, 2]), shape=(2, 2))
    read_ratings(x)
    assert (x.data.tolist(), x.indices.tolist()) == ([2, 1], [1, 0])


def test_duplicates_are_said(caplog):
    with caplog.at_level(logging.INFO, "platewise"):
        read_ratings(pd.concat([FRAME, FRAME[:1]]))
    assert "1 of 5 ratings were duplicates" in caplog.text


def test_many_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "_BLOCK", 1 << 12)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.permutation(9_000), "item": rng.integers(0, 9, 9_000), "rating": 3})
    frame.to_csv(tmp_path / "r.csv", index=False)
    assert (tmp_path / "r.csv").stat().st_size > 10 << 12
    adata = read_ratings(tmp_path / "r.csv")
    ordered = frame.sort_values("user")
    np.testing.assert_array_equal(row_ids(adata), ordered["user"])
    np.testing.assert_array_equal(adata.X.indices, ordered["item"])


def test_memory_above_the_result(tmp_path):
    n, rng = 400_000, np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 999, n), "item": rng.integers(0, 9999, n), "rating": 3})
    frame.assign(timestamp=rng.integers(0, 10**9, n)).to_csv(tmp_path / "r.csv", index=False)
    del frame
    tracemalloc.start()
    adata = read_ratings(tmp_path / "r.csv")
    result, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert adata.X.nnz > 0.9 * n
    assert peak - result < 40 * n


@given(st.lists(st.sampled_from([b":", b"::", b"ab", b"\n"])).map(b"".join), st.integers(1, 5))
def test_separator_stream(raw, size):
    class Drops(io.BytesIO):
        def read(self, n=-1):
            return super().read(size)

    assert SingleByteSeparator(Drops(raw)).read() == raw.replace(b"::", b"\x1f")


ROWS = st.lists(
    st.tuples(st.integers(-3, 4), st.sampled_from(["p", "q", "r"]), st.integers(0, 9), st.integers(0, 3)),
    min_size=1,
)


@settings(deadline=None)
@given(ROWS, st.sampled_from(["last", "mean"]), st.booleans())
def test_any_table_agrees_with_pandas(rows, duplicates, with_time):
    base = [(100, "y", 1, 0), (101, "z", 2, 0)]
    frame = pd.DataFrame(base + rows, columns=["user", "item", "rating", "timestamp"])
    frame = frame if with_time else frame.drop(columns="timestamp")
    adata = read_ratings(frame, duplicates=duplicates)
    ordered = frame.sort_values("timestamp", kind="stable") if with_time else frame
    columns = {"rating": duplicates} | ({"timestamp": "last"} if with_time else {})
    expected = ordered.groupby(["user", "item"], as_index=False).agg(columns)
    pd.testing.assert_frame_equal(as_frame(adata), expected, check_dtype=False)
    assert adata.uns["platewise"]["duplicates"] == len(frame) - len(expected)


def test_arrow_backed_frames():
    check(read_ratings(FRAME.convert_dtypes(dtype_backend="pyarrow")))
