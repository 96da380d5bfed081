"""Time of a sweep of coordinate ascent by rank, beside a reference script where one is named.

A sweep updates every user, every item and the scales once; ours computes the exact bound as well. Each measurement is
a process of its own with two threads, ours and the reference in turn over rounds, so that a slow moment of the machine
falls on both alike; the first sweep of every process is left out, and medians are shown.

The reference is a Python file with a class `CAVI(user, item, rating, n_users, n_items, rank)`, whose arguments are
arrays of codes from 0, and its method `sweep(rotate=True)`.

    python benchmarks/sweep_time.py --ranks 16 32 64 --reference FILE.py
"""

import argparse
import json
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median

import numpy as np
from measure import data_folder, require_files
from processes import peak_megabytes, run_fresh, warn_if_busy
from tables import show, show_markdown

NEVER = 1e-300  # a tolerance that no sweep meets
HEADINGS = ["rank", "ours, s a sweep", "ours, M ratings/s", "ours, peak MB"]
BESIDE = ["reference, s a sweep", "reference, peak MB", "reference / ours"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=data_folder() / "ml-1m" / "train.csv.gz")
    parser.add_argument("--reference", type=Path, help="Python file to compare with")
    parser.add_argument("--ranks", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--sweeps", type=int, default=5, help="sweeps timed in each process")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--only", choices=list(KINDS), help=argparse.SUPPRESS)  # the measured process
    return parser.parse_args()


def ours(given: argparse.Namespace) -> list[float]:
    """Seconds of each sweep of our coordinate ascent (n_sweeps,)."""
    from ours import METHODS, first_call
    from platewise.data import read_ratings

    method, rank = METHODS["coordinate-ascent"], given.ranks[0]
    ratings = read_ratings(given.train)
    first_call(method, rank)
    fitted = method.fit(ratings, rank, sweeps=given.sweeps + 1, tolerance=NEVER)
    return np.diff(fitted.history["seconds"]).tolist()


def reference(given: argparse.Namespace) -> list[float]:
    """Seconds of each sweep of the reference (n_sweeps,)."""
    from platewise.data import read_ratings

    ratings = read_ratings(given.train)
    x = ratings.X.tocoo()
    fit = class_of(given.reference)(x.row, x.col, x.data, *x.shape, given.ranks[0])
    times = [seconds_of(lambda: fit.sweep(rotate=True)) for _ in range(given.sweeps + 1)]
    return times[1:]


KINDS: dict[str, Callable[[argparse.Namespace], list[float]]] = {"ours": ours, "reference": reference}


def class_of(path: Path) -> type:
    """The class `CAVI` of a Python file."""
    spec = spec_from_file_location("reference", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CAVI


def seconds_of(call: Callable[[], object]) -> float:
    """Wall-clock seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def n_ratings(train: Path) -> int:
    """Entries of the training file."""
    from platewise.data import read_ratings

    return read_ratings(train).X.nnz


def measured(kind: str, rank: int, given: argparse.Namespace) -> dict:
    """Times and memory of one process; one that fails ends the run."""
    arguments = ["--only", kind, "--ranks", rank, "--sweeps", given.sweeps, "--train", given.train]
    if given.reference:
        arguments += ["--reference", given.reference]
    result = run_fresh(__file__, *arguments)
    if "problem" in result:
        raise SystemExit(f"{kind} at rank {rank} {result['problem']}")
    return result


def row(rank: int, n_entries: int, given: argparse.Namespace) -> list[str]:
    """Run every kind in turn at one rank: its cells."""
    kinds = [kind for kind in KINDS if kind == "ours" or given.reference]
    runs = {kind: [] for kind in kinds}
    for _ in range(given.rounds):
        for kind in kinds:
            runs[kind].append(measured(kind, rank, given))
    seconds = {kind: median(time for run in runs[kind] for time in run["times"]) for kind in kinds}
    peak = {kind: median(run["peak_mb"] for run in runs[kind]) for kind in kinds}
    cells = [str(rank), f"{seconds['ours']:.3f}", f"{n_entries / seconds['ours'] / 1e6:.2f}", f"{peak['ours']:.0f}"]
    if given.reference:
        ratio = seconds["reference"] / seconds["ours"]
        cells += [f"{seconds['reference']:.3f}", f"{peak['reference']:.0f}", f"{ratio:.2f}"]
    return cells


def main() -> None:
    """Time every rank, then print the table."""
    given = options()
    require_files(given.train, *([given.reference] if given.reference else []))
    if given.only:
        print(json.dumps({"times": KINDS[given.only](given), "peak_mb": peak_megabytes()}))
        return
    load = warn_if_busy()
    n_entries = n_ratings(given.train)
    rows = [row(rank, n_entries, given) for rank in given.ranks]
    headings = [*HEADINGS, *(BESIDE if given.reference else [])]
    per_kind = f"medians of {given.rounds * given.sweeps} sweeps in {given.rounds} processes"
    show(f"{given.train.name}, {n_entries:,} ratings, {per_kind}, load before {load:.1f}", headings, rows)
    show_markdown(headings, rows)


if __name__ == "__main__":
    main()
