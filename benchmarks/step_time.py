"""Time of one SVI step as the number of users grows, at a fixed batch and a fixed number of items.

A step's cost is the difference between a long and a short fit, so that whatever a fit does once (and that
may well grow with the number of users) is left out.

    python benchmarks/step_time.py --users 10000 100000 1000000
"""

import argparse
import time
from statistics import median

import numpy as np
import torch
from anndata import AnnData
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
    parser.add_argument("--steps", type=int, default=200, help="steps timed, beyond the short fit")
    parser.add_argument("--repeats", type=int, default=3, help="fits of either length; medians are shown")
    parser.add_argument("--guides", nargs="+", choices=["mean-field", "row-block"], default=["row-block"])
    return parser.parse_args()


def simulate(n_users: int, n_items: int, seed: int = 0) -> AnnData:
    """Random ratings 1 to 5: every user rates one item in each of 20 equal ranges of the items."""
    from platewise.data.container import make_ratings

    rng = np.random.default_rng(seed)
    width = n_items // ENTRIES_PER_USER
    first = np.arange(ENTRIES_PER_USER, dtype=np.int32) * width
    item = first + rng.integers(width, size=(n_users, ENTRIES_PER_USER), dtype=np.int32)
    value = rng.integers(1, 6, size=item.size).astype(np.float32)
    pointers = np.arange(n_users + 1, dtype=np.int64) * ENTRIES_PER_USER
    matrix = csr_matrix((value, item.reshape(-1), pointers), shape=(n_users, n_items))
    return make_ratings(matrix, np.arange(n_users), np.arange(n_items))


def fit_seconds(ratings: AnnData, guide: str, steps: int, given: argparse.Namespace) -> float:
    """Wall-clock seconds of a fit of so many steps."""
    from platewise.guides import MeanFieldNormal, RowBlockNormal
    from platewise.inference import svi
    from platewise.models import LatentFactor

    family = RowBlockNormal() if guide == "row-block" else MeanFieldNormal()
    began = time.perf_counter()
    svi.fit(LatentFactor(rank=given.rank), family, ratings, seed=0, batch_rows=given.batch, max_steps=steps)
    return time.perf_counter() - began


def step_seconds(ratings: AnnData, guide: str, given: argparse.Namespace) -> float:
    """Median seconds of a step, once the first fit has warmed everything up."""
    short = 10
    fit_seconds(ratings, guide, short, given)
    longs = [fit_seconds(ratings, guide, short + given.steps, given) for _ in range(given.repeats)]
    shorts = [fit_seconds(ratings, guide, short, given) for _ in range(given.repeats)]
    return (median(longs) - median(shorts)) / given.steps


def rows_of(guide: str, given: argparse.Namespace) -> list[list[str]]:
    """Time one guide at every number of users."""
    seconds = []
    for n_users in given.users:
        seconds.append(step_seconds(simulate(n_users, given.items), guide, given))
        print(f"{guide}, {n_users:,} users: {1e3 * seconds[-1]:.2f} ms a step", flush=True)
    return [
        [guide, f"{n_users:,}", f"{1e3 * each:.2f}", f"{each / seconds[0]:.2f}"]
        for n_users, each in zip(given.users, seconds, strict=True)
    ]


def main() -> None:
    """Time every guide, then print the table."""
    given = options()
    torch.set_num_threads(2)
    rows = [cells for guide in given.guides for cells in rows_of(guide, given)]
    show(f"batches of {given.batch} users, {given.items:,} items, rank {given.rank}", HEADINGS, rows)
    show_markdown(HEADINGS, rows)


if __name__ == "__main__":
    main()
