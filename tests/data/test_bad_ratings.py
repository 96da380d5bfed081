"""Every broken input ends in one clear line."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from platewise.data.errors import PlatewiseError
from platewise.data.ratings import read_ratings

GOOD = "user,item,rating,timestamp\n1,1,5,0\n2,2,4,1\n1,2,3,2\n"


def refused(source, message, **options):
    with pytest.raises(PlatewiseError, match=message) as caught:
        read_ratings(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("\n\n", "blank lines"),
        ("user,item,rating\n", "header only"),
        ("user,item,rating\n\n\n", "header only"),
        (GOOD + "\n3,1,great,4\n", "number, got 'great' in line 6"),
        ("1,1,5\n2,2,abc\n", "number, got 'abc' in line 2"),
        (GOOD + "3,1,nan,4\n3,2,,4\n3,1,inf,5\n", "3 that are NaN, empty or infinite, the first in line 5"),
        (GOOD + "3,1,1e39,4\n", "1 that are NaN, empty or infinite"),
        (GOOD + "3,1\n", "Expected 4 fields, got 2 in line 5"),
        (GOOD + "3,1,2,soon\n", "timestamp like the first one, got 'soon' in line 5"),
        (GOOD + "3,1,2,\n", "Expected the timestamp of every row, got none in line 5"),
        (GOOD + ",1,2,3\n", "Expected the user of every row, got none in line 5"),
        (GOOD + "3, ,2,3\n", "Expected the item of every row, got none in line 5"),
        ("who,what,how much\na,b,1\n", "column of users .* got the columns who, what, how much. Name it"),
        ("user,item,opinion\n1,1,5\n2,2,4\n", "column of ratings .* user, item, opinion"),
        ("user,item\n1,1\n2,2\n", "column of ratings"),
        ("1,1,5\n1,2,4\n", "two users at least, got 1 user"),
        ("1,1,5\n2,1,4\n", "two items at least, got 1 item"),
    ],
)
def test_text(tmp_path, text, message):
    path = tmp_path / "r.csv"
    path.write_text(text)
    refused(path, message)


def test_double_colons(tmp_path):
    (tmp_path / "r.dat").write_text("1::1::5::0\n2::2::five::0\n")
    refused(tmp_path / "r.dat", "got 'five' in line 2")
    (tmp_path / "r.dat").write_text("1::1::5::0\n2::2::5\n")
    refused(tmp_path / "r.dat", "Expected 4 fields, got 3 in line 2")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "r.csv").write_bytes(b"user,item,rating\n1,\xff\xfe,3\n")
    refused(tmp_path / "r.csv", "UTF-8")
    rows = b"".join(b"%d,a,3\n" % i for i in range(9))
    (tmp_path / "r.csv").write_bytes(b"user,item,rating\n" + rows + b"1,\xff\xfe,3\n")
    refused(tmp_path / "r.csv", "UTF-8")


def test_missing_and_truncated_files(tmp_path):
    refused(tmp_path / "none.csv", "no such file")
    (tmp_path / "r.csv.gz").write_bytes(gzip.compress(GOOD.encode())[:-9])
    refused(tmp_path / "r.csv.gz", "Expected a whole file")
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as file:
        file.writestr("ratings.csv", GOOD)
    whole = (tmp_path / "r.zip").read_bytes()
    (tmp_path / "r.zip").write_bytes(whole[:-30])
    refused(tmp_path / "r.zip", "damaged or truncated")
    (tmp_path / "r.zip").write_bytes(whole.replace(b"1,1,5,0", b"1,1,4,0"))
    refused(tmp_path / "r.zip", "Bad CRC-32")
    pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]}).to_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.parquet").write_bytes((tmp_path / "r.parquet").read_bytes()[:-20])
    refused(tmp_path / "r.parquet", "whole Parquet file")


def test_parquet_within_gzip(tmp_path):
    pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]}).to_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.parquet.gz").write_bytes(gzip.compress((tmp_path / "r.parquet").read_bytes()))
    refused(tmp_path / "r.parquet.gz", "within gzip: .*parquet.gz. Decompress it first")
    (tmp_path / "r.h5ad.gz").write_bytes(gzip.compress(b"\x89HDF\r\n\x1a\n"))
    refused(tmp_path / "r.h5ad.gz", "got HDF5")


def test_folders_and_other_files(tmp_path):
    (tmp_path / "a.csv").write_text(GOOD)
    (tmp_path / "b.csv").write_text(GOOD)
    refused(tmp_path, r"ratings.csv, ratings.dat, u.data in .* got a.csv, b.csv")
    (tmp_path / "movies.dat").write_text("1::A::Drama\nnonsense\n")
    (tmp_path / "ratings.dat").write_text("1::1::5::0\n2::2::5::0\n")
    refused(tmp_path, "as MovieLens publishes it")
    (tmp_path / "ratings").write_bytes(b"\x89HDF\r\n\x1a\n")
    refused(tmp_path / "ratings", "HDF5")
    refused("movielens-3m", "movielens-100k")
    refused(3.5, "Expected a path, a DataFrame")


def test_options():
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]})
    refused(frame, 'duplicates="last"', duplicates="first")
    refused(frame, "column 'stars' of ratings", rating="stars")
    refused(frame, "column 7 of users", user=7)
    refused(frame, "used twice", user="item")
    refused(frame, "column of timestamps", timestamp=True)


def frame(**columns):
    return pd.DataFrame({"user": [1, 2, 3], "item": ["a", "b", "c"], "rating": [1.0, 2.0, 3.0]} | columns)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (frame()[:0], "without rows"),
        (frame(user=[1, "b", 3]), "users of one type"),
        (frame(user=[1.5, 2, 3]), "fractional"),
        (frame(user=[1, None, 3]), r"user of every row, got none in row 1 \(iloc\)"),
        (frame(user=[True, False, True]), "bool"),
        (frame(rating=["1", "x", "3"]), "numbers, got '1' in row 0"),
        (frame(rating=[1, np.nan, np.inf]), "2 that are NaN, empty or infinite, the first in row 1"),
        (frame(rating=pd.to_datetime([1, 2, 3])), "numbers, got timestamp"),
        (frame(timestamp=["now", "then", "2020-01-01"]), "numbers or dates"),
        (frame(timestamp=pd.to_datetime([1, None, 3])), "timestamp of every row.*timestamp=False"),
    ],
)
def test_frames(table, message):
    refused(table, message)


def test_duplicates_refused():
    refused(frame(user=[1, 1, 2], item=["a", "a", "b"]), "got 1 duplicate ratings", duplicates="error")


def test_matrices():
    refused(sp.csr_matrix((3, 3)), "without stored entries")
    refused(sp.csr_matrix(np.ones((1, 3))), "two users")
    refused(sp.csr_matrix(np.array([[1, np.nan], [1, 1]])), "1 that are NaN")
    refused(sp.csr_matrix(np.eye(2)), "Expected 2 user ids", row_ids=[1])
    refused(sp.csr_matrix(np.eye(2)), "mixed", row_ids=[1, "b"])
    refused(np.eye(2), "scipy sparse matrix")
