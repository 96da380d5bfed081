"""Ratings from wherever they are, as the one container."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import movielens
from .columns import Wanted
from .container import make_ratings
from .duplicates import Assembled, Duplicates, assemble, check_rule
from .entries import Entries, collect, entries_of
from .errors import PlatewiseError
from .matrix import by_rows, entries_by_column
from .meaning import require_unstored
from .places import File, Place, archive, file_at, folder
from .published import download, is_published
from .storage import read_h5ad, share_structure
from .tables import FrameTable, ParquetTable, Table
from .text import TextTable

logger = logging.getLogger("platewise")


def read_ratings(
    source: Any,
    *,
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    timestamp: str | int | bool | None = None,
    duplicates: Duplicates | str = "last",
    row_ids: Iterable[object] | None = None,
    col_ids: Iterable[object] | None = None,
    base_url: str | None = None,
    progress: bool = False,
) -> ad.AnnData:
    """Read ratings into a container: users x items, entries not stored are missing.

    Users and items are sorted by id (integers numerically) and are those that occur in the ratings: a title
    in a side table that nobody rated is left out. A scipy matrix keeps its own order, and its empty rows.

    Args:
        source: A path to a MovieLens folder, its zip archive or a file of it; to any CSV, TSV or Parquet
            file (gzip, bz2 and zstd are recognised); to an ``.h5ad``; the name of a published data set
            (``"movielens-100k"``, downloaded once); a DataFrame; or a scipy sparse matrix.
        user: Column of the users, by name or position; guessed if not given.
        item: Column of the items.
        rating: Column of the ratings.
        timestamp: Column of the times (whole numbers are kept as they are, dates become seconds since
            1970); guessed if not given, left out if False, and with True there must be one.
        duplicates: What becomes of a user's second rating of an item: ``"last"`` keeps the latest by
            timestamp or else by order, ``"mean"`` averages, ``"error"`` refuses. They are counted in
            ``uns["platewise"]["duplicates"]`` and said (logger "platewise").
        row_ids: Ids of the rows of a scipy matrix; 0, 1, ... if not given.
        col_ids: Ids of its columns.
        base_url: Where published data sets lie, instead of GroupLens.
        progress: Show a progress bar while a published data set comes down.

    Returns:
        The container: ``X`` CSR float32, ``layers["timestamp"]`` where there are times, titles, genres
        and demographics in ``var`` and ``obs`` where MovieLens has them.

    Raises:
        PlatewiseError: The source is missing, empty or damaged, lacks a column, holds ratings that are
            text, NaN or infinite, ids that are missing or of mixed types, one user or one item only; or an
            option has no meaning for such a source.
    """
    check_rule(duplicates)
    wanted = Wanted(user, item, rating, timestamp)
    ids = {"row_ids": row_ids, "col_ids": col_ids}
    if isinstance(source, sp.spmatrix | sp.sparray):
        _refuse(vars(wanted), "a scipy matrix")
        return _from_matrix(source, row_ids, col_ids, duplicates)
    _refuse(ids, "anything but a scipy matrix")
    if isinstance(source, ad.AnnData):
        return _as_ratings(source, wanted, duplicates)
    if isinstance(source, pd.DataFrame):
        return _from_table(FrameTable(source, wanted), None, duplicates)
    if not isinstance(source, str | os.PathLike):
        raise PlatewiseError(
            f"Expected a path, a DataFrame or a scipy sparse matrix of ratings, got {type(source).__name__}. "
            "Convert it to one of these."
        )
    name = os.fspath(source)
    path = download(name, base_url=base_url, progress=progress) if is_published(name) else Path(name)
    return _from_path(path, wanted, duplicates)


def _refuse(options: Mapping[str, object], of: str) -> None:
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise PlatewiseError(f"Expected no {' or '.join(given)} for {of}, got one. Leave it out: it cannot apply.")


def _as_ratings(adata: ad.AnnData, wanted: Wanted, duplicates: str) -> ad.AnnData:
    """A container as it is, once it is sure that it is sound."""
    asked = vars(wanted) | {"duplicates": None if duplicates == "last" else duplicates}
    _refuse(asked, "an .h5ad or AnnData, which is read as it is")
    require_unstored(adata, "missing", needed_by="ratings")
    ratings = by_rows(adata)
    entries_by_column(ratings.X, ratings.shape)
    if ratings is not adata:  # the caller's stays as it is
        share_structure(ratings)
    return ratings


def _from_path(path: Path, wanted: Wanted, duplicates: str) -> ad.AnnData:
    if path.suffix == ".h5ad":
        return _as_ratings(read_h5ad(path), wanted, duplicates)
    ratings, place = _locate(path)
    table = _open_table(ratings, wanted)
    belongs = place is not None and movielens.is_movielens(ratings.name, table.columns.item)
    return _from_table(table, place if belongs else None, duplicates)


def _locate(path: Path) -> tuple[File, Place]:
    """The file of ratings, and the place where side tables would lie."""
    if path.is_dir():
        place = folder(path)
        return movielens.find_ratings(place), place
    source = file_at(path)
    if source.starts_with(b"PK\x03\x04"):
        place = archive(path)
        return movielens.find_ratings(place), place
    return source, folder(path.parent, nested=False)


def _open_table(source: File, wanted: Wanted) -> Table:
    if source.starts_with(b"PAR1"):
        return ParquetTable(source, wanted)
    if source.holds(b"PAR1"):
        raise PlatewiseError(
            f"Expected Parquet as it was written, got it within {source.compression}: {source.label}. "
            "Decompress it first."
        )
    if source.holds(b"\x89HDF"):
        raise PlatewiseError(
            f"Expected ratings as text or Parquet, got HDF5: {source.label}. "
            "If it is an .h5ad, give it that suffix, decompressed."
        )
    return TextTable(source, wanted)


def _from_table(table: Table, place: Place | None, duplicates: str) -> ad.AnnData:
    entries, user_ids, item_ids = collect(table)
    _check_size(len(user_ids), len(item_ids), table.label)
    n_read = len(entries)
    assembled = assemble(entries, (len(user_ids), len(item_ids)), duplicates)
    obs = var = None
    if place is not None:
        obs = movielens.align(movielens.user_table(place), user_ids.astype(str).astype(object))
        var = movielens.align(movielens.item_table(place), item_ids.astype(str).astype(object))
    return _finish(assembled, user_ids, item_ids, n_read, duplicates, obs, var)


def _from_matrix(
    matrix: Any, row_ids: Iterable[object] | None, col_ids: Iterable[object] | None, duplicates: str
) -> ad.AnnData:
    n_users, n_items = matrix.shape
    _check_size(n_users, n_items, "the matrix")
    entries: Entries = entries_of(matrix.tocoo())
    if not len(entries):
        raise PlatewiseError("Expected ratings, got a matrix without stored entries. Check how it was made.")
    rows = np.arange(n_users) if row_ids is None else list(row_ids)
    cols = np.arange(n_items) if col_ids is None else list(col_ids)
    n_read = len(entries)
    return _finish(assemble(entries, (n_users, n_items), duplicates), rows, cols, n_read, duplicates)


def _finish(
    assembled: Assembled,
    user_ids: Iterable[object],
    item_ids: Iterable[object],
    n_read: int,
    duplicates: str,
    obs: pd.DataFrame | None = None,
    var: pd.DataFrame | None = None,
) -> ad.AnnData:
    adata = make_ratings(assembled.matrix, user_ids, item_ids, obs=obs, var=var, timestamp=assembled.time)
    adata.uns["platewise"]["duplicates"] = assembled.n_duplicates
    logger.info("read %d ratings of %d items by %d users", adata.X.nnz, adata.n_vars, adata.n_obs)
    if assembled.n_duplicates:
        kept = "the last of each kept" if duplicates == "last" else "averaged"
        logger.info("%d of %d ratings were duplicates: %s", assembled.n_duplicates, n_read, kept)
    return adata


def _check_size(n_users: int, n_items: int, label: str) -> None:
    for n, of in ((n_users, "user"), (n_items, "item")):
        if n < 2:
            raise PlatewiseError(
                f"Expected ratings of two {of}s at least, got {n} {of} in {label}. Is it the right column?"
            )
