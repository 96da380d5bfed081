"""Platewise and its peers on one split of ratings, in one run: accuracy, honesty of the intervals, speed.

Every method runs in a process of its own with two threads, seed by seed in turn, so that a slow moment of
the machine falls on all alike; the table shows medians over seeds. `name:n` limits a method to n passes.

    python benchmarks/ratings.py --rank 16 --seeds 3 --methods coordinate-ascent --peers cmfrec,myfm,pyro
    python benchmarks/ratings.py --rank 16 --seeds 3 --slow
    python benchmarks/ratings.py --methods coordinate-ascent:5,coordinate-ascent:6 --peers myfm:18,myfm:20
"""

import argparse
from dataclasses import fields, replace
from pathlib import Path
from statistics import median

from measure import OURS, PEERS, TITLES, Scores, data_folder, in_subprocess, require_files
from processes import warn_if_busy
from tables import cell, show, show_markdown

SLOW = ["myfm-gibbs"]
FORMS = {
    "seconds": ("seconds", ".1f"),
    "passes": ("passes", ".0f"),
    "ratings_per_second": ("M ratings/s", ".2f"),
    "rmse": ("RMSE", ".4f"),
    "coverage": ("90 % covers", ".3f"),
    "log_density": ("log density", ".3f"),
    "crps": ("CRPS", ".4f"),
    "elbo": ("ELBO per rating", ".4f"),
    "peak_mb": ("peak MB", ".0f"),
}
FIGURES = ["method", *(heading for heading, _ in FORMS.values())]
SETTINGS = ["version", "options"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=data_folder() / "ml-1m" / "train.csv.gz")
    parser.add_argument("--test", type=Path, default=data_folder() / "ml-1m" / "test.csv.gz")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (0, 1, ...)")
    parser.add_argument("--methods", default=",".join(OURS), help=f"ours: {', '.join(OURS)}; '' for none")
    quick = [name for name in PEERS if name not in SLOW]
    parser.add_argument("--peers", default=",".join(quick), help=f"others: {', '.join(PEERS)}; '' for none")
    parser.add_argument("--slow", action="store_true", help="also the peers that take minutes a seed")
    return parser.parse_args()


def methods(given: argparse.Namespace) -> list[str]:
    """Names asked for, ours first; one that is unknown ends the run."""
    names = [name for name in f"{given.methods},{given.peers}".split(",") if name]
    names += [name for name in SLOW if given.slow and name not in names]
    unknown = [name for name in names if name.partition(":")[0] not in TITLES]
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
        return [scores.method, *["-"] * len(FORMS), "", scores.problem]
    per_second = scores.ratings_per_second
    in_millions = replace(scores, ratings_per_second=per_second and per_second / 1e6)
    figures = [cell(getattr(in_millions, name), form) for name, (_, form) in FORMS.items()]
    return [scores.method, *figures, scores.version, scores.options]


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
    load = warn_if_busy()
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
