"""Simulated ratings of any size, written to an .h5ad some users at a time: memory stays a few hundred MB.

Activity of users and popularity of items are log-normal (sd of the log 1.1 and 2), which makes the most popular items
of 200,000 users have some 100,000 ratings, as in MovieLens 32M. Ratings are a low-rank normal model's.

    python benchmarks/big_ratings.py ratings.h5ad --users 200948 --items 87585 --ratings 32000000
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from platewise.data import make_ratings, write_h5ad
from processes import peak_megabytes
from scipy.sparse import csr_matrix

BLOCK_ENTRIES = 1_000_000  # drawn at once
CHUNK = 1 << 17  # entries a chunk of the file: half a MB
ROUNDS = 12  # of drawing until a user's items are distinct
RANK, MEAN, BIAS_SD, FACTOR_SD, NOISE_SD = 8, 3.5, 0.4, 0.4, 0.85


@dataclass(frozen=True)
class Drawn:
    """The ratings of a block of users.

    Attributes:
        counts: (n_block,) ratings of each user.
        item: (n_entries,) items, ascending within a user.
        value: (n_entries,) ratings.
    """

    counts: np.ndarray
    item: np.ndarray
    value: np.ndarray


def write_ratings(path: Path, n_users: int, n_items: int, n_ratings: int, seed: int = 0) -> int:
    """Write simulated ratings as `platewise.data.read_h5ad` reads them.

    Args:
        path: The file to make.
        n_users: Users; each has at least one rating.
        n_items: Items; unpopular ones may have none.
        n_ratings: Ratings, at the most: a user has at most half of the items.
        seed: Seed of all draws.

    Returns:
        How many ratings there are.
    """
    empty = csr_matrix((n_users, n_items), dtype=np.float32)
    write_h5ad(make_ratings(empty, np.arange(1, n_users + 1), np.arange(1, n_items + 1)), path)
    rng = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        matrix = file["X"]
        for name, dtype in (("indices", np.int32), ("data", np.float32)):
            del matrix[name]
            matrix.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(CHUNK,))
        counts = []
        for block in blocks(rng, counts_of(rng, n_users, n_items, n_ratings), n_items):
            counts.append(block.counts)
            append(matrix["indices"], block.item)
            append(matrix["data"], block.value)
        matrix["indptr"][1:] = np.cumsum(np.concatenate(counts))
        return int(matrix["indptr"][-1])


def append(dataset: h5py.Dataset, values: np.ndarray) -> None:
    """Put values behind what a data set holds."""
    start = len(dataset)
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def counts_of(rng: np.random.Generator, n_users: int, n_items: int, n_ratings: int) -> np.ndarray:
    """Ratings of each user (n_users,), with skewed activity."""
    share = np.cumsum(rng.lognormal(sigma=1.1, size=n_users))
    bounds = np.floor(share / share[-1] * (n_ratings - n_users)).astype(np.int64)
    return np.minimum(np.diff(bounds, prepend=0) + 1, n_items // 2)


def blocks(rng: np.random.Generator, counts: np.ndarray, n_items: int) -> Iterator[Drawn]:
    """Draw the ratings of all users, block by block."""
    popularity = np.cumsum(rng.lognormal(sigma=2.0, size=n_items))
    popularity /= popularity[-1]
    quality = rng.normal(MEAN, BIAS_SD, n_items)
    embedding = rng.normal(0, FACTOR_SD, (n_items, RANK))
    for start, stop in pairwise(bounds_of(counts)):
        user, item = np.divmod(cells(rng, counts[start:stop], popularity), n_items)
        satisfaction = rng.normal(0, BIAS_SD, stop - start)
        taste = rng.normal(0, FACTOR_SD, (stop - start, RANK))
        mean = quality[item] + satisfaction[user] + np.einsum("er,er->e", taste[user], embedding[item])
        value = rng.normal(mean, NOISE_SD).astype(np.float32)
        yield Drawn(np.bincount(user, minlength=stop - start), item.astype(np.int32), value)


def bounds_of(counts: np.ndarray) -> list[int]:
    """Bounds of blocks of users with about `BLOCK_ENTRIES` ratings each."""
    block = np.cumsum(counts) // BLOCK_ENTRIES
    return [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(counts)]


def cells(rng: np.random.Generator, counts: np.ndarray, popularity: np.ndarray) -> np.ndarray:
    """Distinct cells, user times n_items plus item, ascending: so many of each user, drawn by popularity.

    A user who would need more than `ROUNDS` rounds of drawing has fewer.
    """
    n_items = len(popularity)
    done, drawn, missing = [], np.empty(0, np.int64), counts
    for k in range(ROUNDS):
        user = np.repeat(np.arange(len(counts)), (2 + 2 * k) * missing)
        item = np.minimum(np.searchsorted(popularity, rng.random(len(user))), n_items - 1)
        fresh = np.setdiff1d(user * n_items + item, drawn)
        fresh = at_most(rng, fresh, fresh // n_items, missing)
        drawn = np.concatenate([drawn, fresh])
        missing = missing - np.bincount(fresh // n_items, minlength=len(counts))
        complete = missing[drawn // n_items] == 0
        done.append(drawn[complete])
        drawn = drawn[~complete]
    return np.sort(np.concatenate([*done, drawn]))


def at_most(rng: np.random.Generator, cell: np.ndarray, user: np.ndarray, most: np.ndarray) -> np.ndarray:
    """Random ones of each user's cells, at most so many; `user` ascends."""
    shuffled = np.lexsort((rng.random(len(cell)), user))
    first = np.searchsorted(user, np.arange(len(most)))
    place = np.arange(len(cell)) - first[user]
    return cell[shuffled][place < most[user]]


def main() -> None:
    """Write the file named on the command line, and print what it took as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--items", type=int, required=True)
    parser.add_argument("--ratings", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.perf_counter()
    entries = write_ratings(given.path, given.users, given.items, given.ratings, given.seed)
    print(json.dumps({"entries": entries, "seconds": time.perf_counter() - began, "peak_mb": peak_megabytes()}))


if __name__ == "__main__":
    main()
