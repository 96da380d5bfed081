"""Platewise and scvi-tools on the same cells, in one run: held-out likelihood, embeddings, speed.

First every number of epochs is tried on a tenth of the training cells, held out; scvi-tools gets the one that is best
there, ours its default, and also the fewest of --ours-epochs that reach scvi-tools' best there. The cells of
`obs["split"] == "test"` are read in the last step only, which --final asks for: every method is then trained on all
training cells, seed by seed in turn, each time in a process of its own with two threads.

    python benchmarks/cells.py --data pbmc3k,sc_mixology --ours-epochs 20,40,60
    python benchmarks/cells.py --data pbmc3k --seeds 5 --final
    python benchmarks/cells.py --speed
"""

import argparse
from dataclasses import fields
from pathlib import Path
from statistics import mean, median

from cell_data import SETS, require_sets
from cell_speed import show_speed
from measure_cells import TITLES, CellScores
from processes import run_fresh, warn_if_busy
from tables import cell, show, show_markdown

MEANS = ("ari", "nmi", "neighbours", "silhouette")  # over seeds; of all others medians
DEFAULT_EPOCHS = {"platewise": 0, "factors": 0}  # 0: as recommended
CURVES = 3  # seeds that are followed along the fit
FORMS = {
    "epochs": ("epochs", ".0f"),
    "loss": ("-ELBO", ".1f"),
    "loss_iw": ("-log p(x)", ".1f"),
    "seconds": ("seconds", ".1f"),
    "cells_per_second": ("cells/s", ",.0f"),
    "ari": ("ARI", ".3f"),
    "nmi": ("NMI", ".3f"),
    "neighbours": ("15-NN", ".3f"),
    "silhouette": ("batch silhouette", ".3f"),
    "peak_mb": ("peak MB", ".0f"),
}
FIGURES = ["method", *(heading for heading, _ in FORMS.values())]
Run = tuple[str, int]  # a method and its epochs


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them, or none."""
    return [int(part) for part in text.split(",") if part]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="pbmc3k,sc_mixology", help=f"sets, of {', '.join(SETS)}")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (0, 1, ...) of --final")
    parser.add_argument("--methods", default=",".join(TITLES), help=f"of {', '.join(TITLES)}")
    parser.add_argument("--epochs", type=numbers, default=[100, 200, 400], help="of scvi-tools, to choose from")
    parser.add_argument("--ours-epochs", type=numbers, default=[], help="of a short fit of ours, to choose from")
    parser.add_argument("--rank", type=int, default=16, help="of the factor model")
    parser.add_argument("--draws", type=int, default=200, help="of each cell's embedding, for both bounds")
    parser.add_argument("--final", action="store_true", help="after that choice, score the test cells")
    parser.add_argument("--speed", action="store_true", help="time epochs of equal networks instead")
    given = parser.parse_args()
    given.data, given.methods = given.data.split(","), given.methods.split(",")
    if unknown := [*set(given.data) - set(SETS), *set(given.methods) - set(TITLES)]:
        parser.error(f"expected data among {', '.join(SETS)} and methods among {', '.join(TITLES)}, got {unknown[0]}")
    return given


def measured(data: str, run: Run, seed: int, given: argparse.Namespace, *, final: bool = False) -> CellScores:
    """Measure a method in a fresh process, and print it; one that dies comes back as a `problem`."""
    settings = {"epochs": run[1], "seed": seed, "draws": given.draws, "rank": given.rank}
    words = [part for name, value in settings.items() for part in (f"--{name}", value)]
    words += ["--final"] if final else []
    words += ["--curve"] if final and seed < CURVES else []  # it takes a second fit, off the clock
    found = run_fresh(Path(__file__).parent / "measure_cells.py", run[0], data, *words)
    scores = CellScores(**{"method": TITLES[run[0]], "epochs": run[1]} | found)
    print(f"{data}, seed {seed}: {' | '.join(row(scores))}", flush=True)
    return scores


def candidates(given: argparse.Namespace) -> list[Run]:
    """What is tried on the cells held out of training."""
    epochs = {name: [n] for name, n in DEFAULT_EPOCHS.items()} | {"scvi": given.epochs}
    epochs["platewise"] = sorted({*epochs["platewise"], *given.ours_epochs})
    return [(name, n) for name in given.methods for n in epochs[name]]


def chosen(tried: dict[Run, CellScores]) -> list[Run]:
    """Default runs, scvi-tools' best, and the shortest of ours that reaches it."""
    losses = {run: scores.loss for run, scores in tried.items() if scores.loss is not None}
    runs = [run for run in tried if DEFAULT_EPOCHS.get(run[0]) == run[1]]
    theirs = {run: loss for run, loss in losses.items() if run[0] == "scvi"}
    if theirs:
        best = min(theirs, key=theirs.__getitem__)
        runs.append(best)
        short = {run: loss for run, loss in losses.items() if run[0] == "platewise" and run not in runs}
        reach = [run for run, loss in short.items() if loss <= theirs[best]]
        runs += [run for run in sorted(reach)[:1] if run not in runs]
    return runs


def summary(runs: list[CellScores]) -> CellScores:
    """Medians over seeds, means of what judges an embedding; a problem wins."""
    if failed := [run for run in runs if run.problem]:
        return failed[0]
    values = {}
    for name in (column.name for column in fields(CellScores)):
        each = [getattr(run, name) for run in runs]
        middle = mean if name in MEANS else median
        values[name] = middle(each) if isinstance(each[0], float) else each[0]
    return CellScores(**values)


def seconds_to(curve: list[tuple[float, float]], loss: float) -> float | None:
    """Seconds of training after which a curve is first at a -ELBO or below it."""
    return next((seconds for seconds, each in curve if each <= loss), None)


def row(scores: CellScores) -> list[str]:
    """The cells of one method, in the order of `FIGURES`, and its version or problem."""
    figures = [cell(getattr(scores, name), form) for name, (_, form) in FORMS.items()]
    return [scores.method, *figures, scores.problem or scores.version]


def show_scores(title: str, scores: list[CellScores]) -> None:
    """Print the figures of every method."""
    show(title, FIGURES, [row(each)[:-1] for each in scores])
    show_markdown([*FIGURES, "version"], [row(each) for each in scores])


def show_times(runs: dict[Run, list[CellScores]]) -> None:
    """Print the seconds that each method takes to scvi-tools' -ELBO at its end, median over seeds."""
    ends = [scores.loss for run, each in runs.items() if run[0] == "scvi" for scores in each if scores.loss is not None]
    if not ends:
        return
    target, rows = median(ends), []
    for (name, _), each in runs.items():
        if any(scores.curve for scores in each):
            times = [seconds_to(scores.curve, target) for scores in each if scores.curve]
            reached = [seconds for seconds in times if seconds is not None]
            middle = cell(median(reached) if reached else None, ".1f")
            epochs, whole = cell(summary(each).epochs, ".0f"), cell(summary(each).seconds, ".1f")
            rows.append([TITLES[name], epochs, middle, f"{len(reached)} of {len(times)}", whole])
    headings = ["method", "epochs", f"seconds to -ELBO {target:.1f}", "seeds that reach it", "seconds in all"]
    show("time to scvi-tools' held-out -ELBO at its end", headings, rows)
    show_markdown(headings, rows)


def compare(data: str, given: argparse.Namespace, load: float) -> None:
    """Choose epochs on cells held out of training; then, if asked for, score the test cells."""
    tried = {run: measured(data, run, 0, given) for run in candidates(given)}
    show_scores(f"{data}: held out of training, seed 0, load before {load:.1f}", list(tried.values()))
    if not given.final:
        return
    runs: dict[Run, list[CellScores]] = {run: [] for run in chosen(tried)}
    for seed in range(given.seeds):
        for run, scores in runs.items():
            scores.append(measured(data, run, seed, given, final=True))
    title = f"{data}: test cells, medians (of embeddings means) of {given.seeds} seeds, load before {load:.1f}"
    show_scores(title, [summary(each) for each in runs.values()])
    show_times(runs)


def main() -> None:
    """Compare on every set, or time epochs."""
    given = options()
    load = warn_if_busy()
    if given.speed:
        show_speed(load)
        return
    require_sets(given.data)
    for data in given.data:
        compare(data, given, load)


if __name__ == "__main__":
    main()
