"""The published MovieLens layouts: which file holds the ratings, and the side tables beside it.

==============  ========================  ====================================  ======================
release         ratings                   items                                 users
==============  ========================  ====================================  ======================
100K            ``u.data`` (tab)          ``u.item`` (``|``, latin-1, flags)    ``u.user`` (``|``)
1M              ``ratings.dat`` (``::``)  ``movies.dat`` (``::``, latin-1)      ``users.dat`` (``::``)
10M             ``ratings.dat`` (``::``)  ``movies.dat`` (``::``, UTF-8)
20M and later   ``ratings.csv``           ``movies.csv``
==============  ========================  ====================================  ======================

Layouts as the README files of the releases describe them (https://grouplens.org/datasets/movielens/). Age
and occupation are left as published (in 1M: the lower bound of an age group, and a code).
"""

import csv
import io
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from .errors import PlatewiseError
from .places import File, Place

RATINGS = ("ratings.csv", "ratings.dat", "u.data")
_RATINGS_FILE = re.compile(r"(ratings\.(csv|dat)|u\.data|(u[1-5ab]|r[1-5ab])\.(base|test|train))(\.gz)?")
_GENRES = (
    "unknown Action Adventure Animation Children's Comedy Crime Documentary Drama Fantasy Film-Noir Horror "
    "Musical Mystery Romance Sci-Fi Thriller War Western"
)
_GENRES_100K = _GENRES.split()


def find_ratings(place: Place) -> File:
    """The file of ratings in a folder or archive.

    A place without one of the published names will do if it holds a single file.

    Raises:
        PlatewiseError: There is none.
    """
    found = place.find(*RATINGS, *(f"{name}.gz" for name in RATINGS))
    if found is not None:
        return found
    if len(place.members) == 1:
        return place.file(place.members[0])
    held = ", ".join(place.members[:8]) or "nothing"
    raise PlatewiseError(
        f"Expected one of {', '.join(RATINGS)} in {place.label}, got {held}. Name the file of ratings itself."
    )


def is_movielens(name: str, item_column: str) -> bool:
    """Whether side tables beside a file of ratings may be taken to belong to it.

    Args:
        name: The base name of the file.
        item_column: What its column of items is called.
    """
    return bool(_RATINGS_FILE.fullmatch(name)) or item_column.lower() in {"movie", "movieid", "movie_id"}


def item_table(place: Place) -> pd.DataFrame | None:
    """Titles and genres (``"Action|Comedy"``) by id as text, or None where there is no such file."""
    return _table(place, {"movies.csv": _movies_csv, "movies.dat": _movies_dat, "u.item": _u_item})


def user_table(place: Place) -> pd.DataFrame | None:
    """Gender, age, occupation and zip by id as text, or None where there is no such file."""
    return _table(place, {"users.dat": _users_dat, "u.user": _u_user})


def _table(place: Place, readers: dict[str, Callable[[str], pd.DataFrame]]) -> pd.DataFrame | None:
    for name, reader in readers.items():
        file = place.find(name)
        if file is not None:
            try:
                return reader(_decode(file)).drop_duplicates("id").set_index("id")
            except (IndexError, ValueError, csv.Error) as error:
                raise PlatewiseError(
                    f"Expected {file.label} as MovieLens publishes it, got another layout. "
                    "Move it elsewhere, or read the ratings as a DataFrame."
                ) from error
    return None


def _decode(file: File) -> str:
    with file.open() as stream:
        raw = stream.read()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _lines(text: str, separator: str) -> list[list[str]]:
    # str.splitlines would also split at the odd control character in a latin-1 title.
    lines = text.replace("\r\n", "\n").split("\n")
    rows = [line.split(separator) for line in lines if line.strip()]
    if any(len(row) < 3 for row in rows):
        raise ValueError("too few fields")
    return rows


def _movies_csv(text: str) -> pd.DataFrame:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    return _movies([(row[0], row[1], row[2]) for row in rows[1:]])


def _movies_dat(text: str) -> pd.DataFrame:
    return _movies([(row[0], "::".join(row[1:-1]), row[-1]) for row in _lines(text, "::")])


def _u_item(text: str) -> pd.DataFrame:
    rows = _lines(text, "|")
    return _movies([(row[0], row[1], _genres(row[-len(_GENRES_100K) :])) for row in rows])


def _genres(flags: list[str]) -> str:
    return "|".join(genre for genre, flag in zip(_GENRES_100K, flags, strict=True) if int(flag))


def _movies(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["id", "title", "genres"], dtype=object)


def _users_dat(text: str) -> pd.DataFrame:
    users = pd.DataFrame([row[:5] for row in _lines(text, "::")], columns=["id", "gender", "age", "occupation", "zip"])
    return users.astype({"age": np.int64, "occupation": np.int64})


def _u_user(text: str) -> pd.DataFrame:
    users = pd.DataFrame([row[:5] for row in _lines(text, "|")], columns=["id", "age", "gender", "occupation", "zip"])
    return users.astype({"age": np.int64})[["id", "gender", "age", "occupation", "zip"]]


def align(table: pd.DataFrame | None, names: np.ndarray) -> pd.DataFrame | None:
    """The rows of a side table in the order of names.

    Args:
        table: By id as text.
        names: Names of the users or items that occur in the ratings (n,).

    Returns:
        n rows: empty text and NaN for names the table does not know; None if it knows none of them.
    """
    if table is None:
        return None
    aligned = table.reindex(names)
    if not table.index.isin(names).any():
        return None
    text = [column for column in aligned.columns if aligned[column].dtype == object]
    return aligned.fillna(dict.fromkeys(text, ""))
