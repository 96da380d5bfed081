"""The five published splits of MovieLens 100K (u1 to u5: 80 % base, 20 % test), and their mean.

python benchmarks/ml100k_splits.py --ranks 8 16
"""

import argparse
from pathlib import Path
from statistics import fmean

from measure import OURS, Scores, data_folder, in_subprocess, require_files
from tables import cell, show, show_markdown

SPLITS = ["u1", "u2", "u3", "u4", "u5"]
HEADINGS = ["method", "rank", "split", "RMSE", "90 % covers", "log density", "CRPS", "seconds"]
FORMS = {"rmse": ".4f", "coverage": ".3f", "log_density": ".3f", "crps": ".4f", "seconds": ".1f"}


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=data_folder() / "ml-100k", help="holds u1.base, ...")
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--methods", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def figures(scores: Scores) -> list[str]:
    """The cells of one split, or why there are none."""
    if scores.problem:
        return [scores.problem, *["-"] * (len(FORMS) - 1)]
    return [cell(getattr(scores, name), form) for name, form in FORMS.items()]


def mean_figures(runs: list[Scores]) -> list[str]:
    """The cells of the mean over splits, where all of them ran."""
    if any(run.problem for run in runs):
        return ["-"] * len(FORMS)
    return [cell(fmean(getattr(run, name) for run in runs), form) for name, form in FORMS.items()]


def rows_of(method: str, rank: int, given: argparse.Namespace) -> list[list[str]]:
    """Run one method at one rank on every split: five rows and their mean."""
    parts = [(given.folder / f"{split}.base", given.folder / f"{split}.test") for split in SPLITS]
    runs = [in_subprocess(method, base, test, rank, given.seed) for base, test in parts]
    cells = [*map(figures, runs), mean_figures(runs)]
    return [[OURS[method], str(rank), *each] for each in with_names(cells)]


def with_names(cells: list[list[str]]) -> list[list[str]]:
    """Put the name of the split before its figures."""
    return [[name, *each] for name, each in zip([*SPLITS, "mean"], cells, strict=True)]


def main() -> None:
    """Run every method at every rank, then print the table."""
    given = options()
    require_files(*(given.folder / f"{split}.{part}" for split in SPLITS for part in ("base", "test")))
    rows: list[list[str]] = []
    for method in given.methods:
        for rank in given.ranks:
            rows += rows_of(method, rank, given)
            print(" | ".join(rows[-1]), flush=True)
    show("MovieLens 100K, published splits", HEADINGS, rows)
    show_markdown(HEADINGS, rows)


if __name__ == "__main__":
    main()
