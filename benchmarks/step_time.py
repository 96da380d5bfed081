"""Time of one SVI step as the number of users grows, at a fixed batch and a fixed number of items.

A step is timed with the loading of its batch; what a fit does once (making its tables), and an epoch once
(shuffling), is left out. Sizes are interleaved over repeats, so that a slow moment of the machine falls on all of them.

    python benchmarks/step_time.py --users 10000 100000 1000000
"""

import argparse
import time
from collections.abc import Iterator
from itertools import chain, count, islice
from statistics import median

import numpy as np
import pyro
import torch
from anndata import AnnData
from platewise.data import RowBatch, RowLoader, make_ratings, source_of
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import svi
from platewise.models import LatentFactor
from scipy.sparse import csr_matrix
from tables import show, show_markdown

ENTRIES_PER_USER = 20
HEADINGS = ["guide", "users", "ms a step", "ratio to the fewest"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--items", type=int, default=4_000)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--batch", type=int, default=512, help="users a step")
    parser.add_argument("--steps", type=int, default=100, help="steps timed at once")
    parser.add_argument("--repeats", type=int, default=5, help="timings of each size; medians are shown")
    parser.add_argument("--guides", nargs="+", choices=["mean-field", "row-block"], default=["mean-field", "row-block"])
    return parser.parse_args()


def simulate(n_users: int, n_items: int, seed: int = 0) -> AnnData:
    """Random ratings 1 to 5: every user rates one item in each of 20 equal ranges of the items."""
    rng = np.random.default_rng(seed)
    width = n_items // ENTRIES_PER_USER
    first = np.arange(ENTRIES_PER_USER, dtype=np.int32) * width
    item = first + rng.integers(width, size=(n_users, ENTRIES_PER_USER), dtype=np.int32)
    value = rng.integers(1, 6, size=item.size).astype(np.float32)
    pointers = np.arange(n_users + 1, dtype=np.int64) * ENTRIES_PER_USER
    matrix = csr_matrix((value, item.reshape(-1), pointers), shape=(n_users, n_items))
    return make_ratings(matrix, np.arange(n_users), np.arange(n_items))


def prepared(ratings: AnnData, guide: str, given: argparse.Namespace) -> tuple[svi.State, Iterator[RowBatch]]:
    """A fit of one long epoch, ready to step, and its batches."""
    family = RowBlockNormal() if guide == "row-block" else MeanFieldNormal()
    loader = RowLoader(source_of(ratings).rows, given.batch, seed=0)
    state = svi.init(LatentFactor(rank=given.rank), family, loader, svi.Options(epochs=1, batch_rows=given.batch))
    return state, chain.from_iterable(loader.epoch(k) for k in count())


def step_seconds(state: svi.State, batches: Iterator[RowBatch], steps: int) -> float:
    """Seconds a step, over so many steps."""
    began = time.perf_counter()
    for batch in islice(batches, steps):
        svi.step(state, batch)
    return (time.perf_counter() - began) / steps


def rows_of(guide: str, given: argparse.Namespace) -> list[list[str]]:
    """Time one guide at every number of users."""
    fits = [prepared(simulate(n_users, given.items), guide, given) for n_users in given.users]
    for state, batches in fits:
        step_seconds(state, batches, 10)  # warm up, and shuffle the first epoch
    times = [[step_seconds(*fit, given.steps) for fit in fits] for _ in range(given.repeats)]
    seconds = [median(of_size) for of_size in zip(*times, strict=True)]
    return [
        [guide, f"{n_users:,}", f"{1e3 * each:.2f}", f"{each / seconds[0]:.2f}"]
        for n_users, each in zip(given.users, seconds, strict=True)
    ]


def main() -> None:
    """Time every guide, then print the table."""
    given = options()
    torch.set_num_threads(2)
    pyro.enable_validation(False)  # as during a fit
    rows = [cells for guide in given.guides for cells in rows_of(guide, given)]
    show(f"batches of {given.batch} users, {given.items:,} items, rank {given.rank}", HEADINGS, rows)
    show_markdown(HEADINGS, rows)


if __name__ == "__main__":
    main()
