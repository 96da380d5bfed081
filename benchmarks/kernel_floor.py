"""How far the exact update of rows is from what the machine can do, on one core.

Two floors are measured in the same process: reading the numbers that an entry adds, from a table that fits the
second-level cache, in order (the sums cannot be faster than that); and multiply-adds of vectors in registers (the
factorisations cannot be faster than that). Beside them: the kernel on a real matrix.

    python benchmarks/kernel_floor.py --train ratings.csv.gz --ranks 16,32,64
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numba
import numpy as np
import torch
from measure import data_folder, require_files
from platewise.data import read_ratings
from platewise.inference.entries import Entries, entries_of
from platewise.inference.moments import Moments, packed_size, sums_of
from platewise.inference.row_compiled import CompiledRows, solve_compiled
from tables import show, show_markdown

HEADINGS = ["rank", "sums, ns an entry", "floor", "of the floor's speed", "solve, us a row", "floor", "of its speed"]
ROUNDS = 5


@numba.njit(fastmath=True)
def read_in_order(table: np.ndarray, times: int) -> float:
    """Sum a table into one row, again and again."""
    part = np.zeros(table.shape[1], table.dtype)
    for _ in range(times):
        for j in range(0, table.shape[0], 4):
            for k in range(table.shape[1]):
                part[k] += (table[j, k] + table[j + 1, k]) + (table[j + 2, k] + table[j + 3, k])
    return part.sum()


@numba.njit(fastmath=True)
def multiply_add(x: np.ndarray, times: int) -> float:
    """Multiply-adds on 64 numbers at a time: they stay in the nearest cache."""
    part = np.zeros(64)
    for _ in range(times):
        for k in range(64):
            part[k] = part[k] * x[k] + x[k]
    return part.sum()


def seconds(work: Callable[[], object]) -> float:
    """Median time of some calls, after one that warms up."""
    work()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return median(times)


def floors() -> tuple[float, float]:
    """Seconds to read one float32 from the second-level cache, and for one float64 multiply-add."""
    table = np.ones((2048, 64), np.float32)
    multiplied = np.full(64, 0.5)
    return (
        seconds(lambda: read_in_order(table, 100)) / (100 * table.size),
        seconds(lambda: multiply_add(multiplied, 1_000_000)) / 64e6,
    )


def kernel(entries: Entries, rank: int) -> tuple[float, float]:
    """Seconds an entry of the sums, and a row of the factorisations."""
    d = rank + 1
    n, m = min(entries.n_rows, 2048), entries.n_cols
    cov = torch.full((m, packed_size(d)), 0.0)
    cov[:, [k * (k + 3) // 2 for k in range(d)]] = 0.01
    mean = 0.3 * torch.randn(m, d)
    table = CompiledRows(Moments(mean, cov, sums_of(mean[:1], cov[:1], False), False))
    gram, rhs = table.sums(entries, 0, n)
    given = (torch.eye(d, dtype=torch.float64), torch.zeros(d, dtype=torch.float64), 1.0, 0.0)
    out = torch.empty(n, d), torch.empty(n, packed_size(d))
    sums = seconds(lambda: table.sums(entries, 0, n)) / int(entries.indptr[n])
    return sums, seconds(lambda: solve_compiled(gram, rhs, *given, *out, False)) / n


def main() -> None:
    """Measure every rank and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=data_folder() / "ml-1m" / "train.csv.gz")
    parser.add_argument("--ranks", default="16,32,64")
    given = parser.parse_args()
    require_files(given.train)
    torch.set_num_threads(1)
    matrix = read_ratings(given.train).X.astype(np.float32)
    entries, (read, fused) = entries_of(matrix, matrix.shape[1]), floors()
    rows = []
    for rank in map(int, given.ranks.split(",")):
        d = rank + 1
        sums, solve = kernel(entries, rank)
        least = read * (packed_size(d) + d), fused * d**3 / 2
        share = [f"{floor / took:.0%}" for floor, took in zip(least, (sums, solve), strict=True)]
        entry = [f"{sums * 1e9:.1f}", f"{least[0] * 1e9:.1f}", share[0]]
        rows.append([str(rank), *entry, f"{solve * 1e6:.2f}", f"{least[1] * 1e6:.2f}", share[1]])
    show(f"{given.train.name}, one core: the kernel and its floors", HEADINGS, rows)
    show_markdown(HEADINGS, rows)


if __name__ == "__main__":
    main()
