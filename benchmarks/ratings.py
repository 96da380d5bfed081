"""Platewise and its peers on one split of ratings, in one run: accuracy, honesty of the intervals, speed.

Every method runs in a process of its own with two threads, seed by seed in turn, so that a slow moment of
the machine falls on all alike; the table shows medians over seeds.

    python benchmarks/ratings.py --rank 16 --seeds 3 --peers cmfrec,surprise,myfm,pyro
"""

import argparse
import os
from dataclasses import fields
from pathlib import Path
from statistics import median

from measure import OURS, PEERS, TITLES, Scores, data_folder, in_subprocess, require_files
from tables import cell, show, show_markdown

SLOW = ["myfm-gibbs"]
FIGURES = ["method", "seconds", "M ratings/s", "RMSE", "90 % covers", "log density", "CRPS", "peak MB"]
SETTINGS = ["version", "options"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=data_folder() / "ml-1m" / "train.csv.gz")
    parser.add_argument("--test", type=Path, default=data_folder() / "ml-1m" / "test.csv.gz")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (0, 1, ...)")
    parser.add_argument("--methods", default=",".join(OURS), help="ours: mean-field, row-block; '' for none")
    parser.add_argument("--peers", default=",".join(name for name in PEERS if name not in SLOW), help="'' for none")
    parser.add_argument("--slow", action="store_true", help="also the peers that take minutes a seed")
    return parser.parse_args()


def methods(given: argparse.Namespace) -> list[str]:
    """Names asked for, ours first; one that is unknown ends the run."""
    names = [name for name in f"{given.methods},{given.peers}".split(",") if name]
    names += [name for name in SLOW if given.slow and name not in names]
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        raise SystemExit(f"Expected methods among {', '.join(TITLES)}, got {', '.join(unknown)}.")
    return names


def medians(runs: list[Scores]) -> Scores:
    """Median of every figure over seeds; words are those of the first run, a problem wins."""
    failed = [run for run in runs if run.problem]
    if failed:
        return failed[0]
    values = {}
    for name in (column.name for column in fields(Scores)):
        each = [getattr(run, name) for run in runs]
        if isinstance(each[0], float):
            values[name] = median(each)
        elif isinstance(each[0], list):
            values[name] = [median(decile) for decile in zip(*each, strict=True)]
        else:
            values[name] = each[0]
    return Scores(**values)


def row(scores: Scores) -> list[str]:
    """The cells of one method, in the order of `FIGURES` and `SETTINGS`."""
    if scores.problem:
        return [scores.method, *["-"] * 7, "", scores.problem]
    return [
        scores.method,
        cell(scores.seconds, ".1f"),
        cell(scores.ratings_per_second and scores.ratings_per_second / 1e6, ".2f"),
        cell(scores.rmse, ".4f"),
        cell(scores.coverage, ".3f"),
        cell(scores.log_density, ".3f"),
        cell(scores.crps, ".4f"),
        cell(scores.peak_mb, ".0f"),
        scores.version,
        scores.options,
    ]


def show_scores(title: str, scores: list[Scores]) -> None:
    """Print figures and settings of every method."""
    rows = [row(each) for each in scores]
    width = len(FIGURES)
    show(title, FIGURES, [cells[:width] for cells in rows])
    show("versions and options", ["method", *SETTINGS], [[cells[0], *cells[width:]] for cells in rows])
    show_markdown([*FIGURES, *SETTINGS], rows)


def show_deciles(scores: list[Scores]) -> None:
    """Print coverage by decile of user activity, of the methods that give it."""
    rows = [[each.method, *(f"{share:.3f}" for share in each.deciles)] for each in scores if each.deciles]
    headings = ["method", *(str(decile) for decile in range(1, 11))]
    if rows:
        show("90 % coverage by decile of the user's training ratings, fewest first", headings, rows)
        show_markdown(headings, rows)


def main() -> None:
    """Run every method with every seed, then print the tables."""
    given = options()
    names = methods(given)
    require_files(given.train, given.test)
    load = os.getloadavg()[0]
    if load > 0.5:
        print(f"Load average {load:.1f} before the run: on a busy machine threads wait for each other.")
    runs: dict[str, list[Scores]] = {name: [] for name in names}
    for seed in range(given.seeds):
        for name in names:
            runs[name].append(in_subprocess(name, given.train, given.test, given.rank, seed))
            print(f"seed {seed}: {' | '.join(row(runs[name][-1]))}", flush=True)
    scores = [medians(each) for each in runs.values()]
    title = f"{given.train.name}, rank {given.rank}, medians of {given.seeds} seeds, load before {load:.1f}"
    show_scores(title, scores)
    show_deciles(scores)


if __name__ == "__main__":
    main()
