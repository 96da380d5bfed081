"""Sweeps that coordinate ascent needs with its accelerations (translation and rotation) and without.

Both stop where the bound's relative change a sweep falls below the tolerance. Without accelerations sweeps gain so
little that this may be far below the best bound seen with the same seed, so the table also says how many sweeps came
within so many nats a rating of it.

    python benchmarks/acceleration.py --rank 16 --seeds 3
"""

import argparse
import json
from pathlib import Path
from statistics import median

from measure import data_folder, require_files
from processes import run_fresh
from tables import cell, show, show_markdown

TITLES = {"on": "with accelerations", "off": "without"}
HEADINGS = ["coordinate ascent", "seed", "sweeps", "seconds", "ELBO per rating", "sweeps to near the best", "test RMSE"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, default=data_folder() / "ml-1m" / "train.csv.gz")
    parser.add_argument("--test", type=Path, help="also the RMSE on this file")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (0, 1, ...)")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="relative change of the bound a sweep")
    parser.add_argument("--sweeps", type=int, default=500, help="sweeps at the most")
    parser.add_argument("--near", type=float, default=0.001, help="nats a rating that count as near the best")
    parser.add_argument("--only", nargs=2, metavar=("on|off", "SEED"), help=argparse.SUPPRESS)  # the measured process
    return parser.parse_args()


def measure(given: argparse.Namespace) -> dict:
    """Fit once: seconds, the bound after each sweep in nats a rating, and the RMSE where a test file is named."""
    from ours import METHODS, first_call
    from platewise.data import read_ratings
    from platewise.posterior import evaluate

    method, (switch, seed) = METHODS["coordinate-ascent"], given.only
    ratings = read_ratings(given.train)
    first_call(method, given.rank)
    limits = {"sweeps": given.sweeps, "tolerance": given.tolerance}
    fitted = method.fit(ratings, given.rank, int(seed), accelerate=switch == "on", **limits)
    rmse = float(evaluate(fitted, read_ratings(given.test)).rmse) if given.test else None
    bound = (fitted.history["elbo"] / ratings.X.nnz).tolist()
    return {"seconds": float(fitted.history["seconds"].iloc[-1]), "bound": bound, "rmse": rmse}


def measured(switch: str, seed: int, given: argparse.Namespace) -> dict:
    """The same in a process of its own; one that fails ends the run."""
    passed = {name: getattr(given, name) for name in ("train", "rank", "tolerance", "sweeps")}
    passed |= {"test": given.test} if given.test else {}
    arguments = [part for name, value in passed.items() for part in (f"--{name}", value)]
    result = run_fresh(__file__, *arguments, "--only", switch, seed)
    if "problem" in result:
        raise SystemExit(f"{TITLES[switch]}, seed {seed}: {result['problem']}")
    return result


def row(switch: str, seed: int, runs: dict[str, dict], near: float) -> list[str]:
    """The cells of one fit; the best bound is over both fits of the seed."""
    run = runs[switch]
    best = max(run["bound"][-1] for run in runs.values())
    reached = next((k for k, bound in enumerate(run["bound"], 1) if bound >= best - near), None)
    figures = [str(len(run["bound"])), f"{run['seconds']:.1f}", f"{run['bound'][-1]:.5f}"]
    return [TITLES[switch], str(seed), *figures, "not reached" if reached is None else str(reached), rmse_of(run)]


def rmse_of(run: dict) -> str:
    """The RMSE, or `none` where no test file was named."""
    return cell(run["rmse"], ".4f")


def ratio(runs: list[dict[str, dict]]) -> str:
    """How the sweeps compare, in words."""
    without, with_them = (median(len(run[switch]["bound"]) for run in runs) for switch in ("off", "on"))
    return f"median sweeps until they stop: {with_them:.0f} with accelerations, {without:.0f} without"


def main() -> None:
    """Fit with every seed both ways, then print the table."""
    given = options()
    require_files(given.train, *([given.test] if given.test else []))
    if given.only:
        print(json.dumps(measure(given)))
        return
    runs = [{switch: measured(switch, seed, given) for switch in TITLES} for seed in range(given.seeds)]
    rows = [row(switch, seed, runs[seed], given.near) for switch in TITLES for seed in range(given.seeds)]
    near = f"near: within {given.near:g} nats a rating"
    show(f"{given.train.name}, rank {given.rank}, tolerance {given.tolerance:g}; {near}", HEADINGS, rows)
    show_markdown(HEADINGS, rows)
    print(ratio(runs))


if __name__ == "__main__":
    main()
