"""Cost of a fit as the ratings grow: time of a sweep, peak memory, and the way from a file to a run directory.

Ratings are simulated (`big_ratings.py`) into an .h5ad, then read, fitted for a few sweeps and saved, each size in a
process of its own with two threads. Up to 32 million ratings the fit is coordinate ascent in memory; 100 million are
streamed from disk by natural gradient, without a table of users (`hold_rows=False`).

    python benchmarks/scale.py                                      1M and 10M: some minutes
    python benchmarks/scale.py --sizes 32M                          as many ratings as MovieLens 32M
    python benchmarks/scale.py --sizes 100M --passes 1 --folder F   F keeps the file, 0.8 GB, for a second run
    python benchmarks/scale.py --sizes 6040x3706x500000 12080x7412x1000000
"""

import argparse
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from processes import run_fresh, warn_if_busy
from tables import show, show_markdown

HERE = Path(__file__).parent
STREAMED = 50_000_000  # ratings from which a fit streams from disk, unless an algorithm is named
COST = [
    "ratings",
    "users x items",
    "algorithm",
    "s a sweep",
    "ns a rating",
    "ratio to the first",
    "peak MB",
    "of it before the data",
    "bytes a rating",
]
WHOLE = ["ratings", "sweeps", "read s", "fit s", "save s", "file to run directory s", "run directory MB"]


@dataclass(frozen=True)
class Size:
    """Users, items and ratings of a simulated matrix."""

    users: int
    items: int
    ratings: int

    @property
    def file(self) -> str:
        """Name of its file."""
        return f"{self.users}x{self.items}x{self.ratings}.h5ad"


SIZES = {
    "1M": Size(6_040, 3_706, 1_000_000),
    "10M": Size(69_878, 10_677, 10_000_000),
    "32M": Size(200_948, 87_585, 32_000_000),
    "100M": Size(600_000, 200_000, 100_000_000),
}


def size(text: str) -> Size:
    """A size by its name, or as USERSxITEMSxRATINGS."""
    if text in SIZES:
        return SIZES[text]
    if not re.fullmatch(r"\d+x\d+x\d+", text):
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(SIZES)}, or USERSxITEMSxRATINGS, got {text}")
    return Size(*map(int, text.split("x")))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    small = [SIZES["1M"], SIZES["10M"]]
    parser.add_argument("--sizes", type=size, nargs="+", default=small, help=f"{', '.join(SIZES)} or UxIxR")
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--passes", type=int, default=3, help="sweeps of coordinate ascent, passes of natural gradient")
    parser.add_argument("--algorithm", choices=["coordinate-ascent", "natural-gradient"], help="for every size")
    parser.add_argument("--folder", type=Path, help="keeps the files, and uses those that are there")
    return parser.parse_args()


@contextmanager
def folder_for(given: Path | None) -> Iterator[Path]:
    """The folder named, or one that is removed at the end."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def simulated(wanted: Size, folder: Path) -> Path:
    """The file of a size, made if it is not there."""
    path = folder / wanted.file
    if not path.exists():
        part = path.with_suffix(".part.h5ad")
        part.unlink(missing_ok=True)
        counts = ["--users", wanted.users, "--items", wanted.items, "--ratings", wanted.ratings]
        made = sound(run_fresh(HERE / "big_ratings.py", part, *counts), wanted)
        part.rename(path)
        print(f"simulated {made['entries']:,} ratings in {made['seconds']:.0f} s, peak {made['peak_mb']:.0f} MB")
    return path


def sound(result: dict[str, Any], wanted: Size) -> dict[str, Any]:
    """A result without a problem; one with it ends the run."""
    if "problem" in result:
        raise SystemExit(f"{wanted.ratings:,} ratings: {result['problem']}")
    return result


def measured(wanted: Size, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Simulate, then measure, each in a fresh process."""
    path = simulated(wanted, folder)
    algorithm = given.algorithm or ("natural-gradient" if wanted.ratings >= STREAMED else "coordinate-ascent")
    result = run_fresh(HERE / "measure_size.py", path, algorithm, given.rank, given.passes)
    if given.folder is None:
        path.unlink()
    return sound(result, wanted) | {"algorithm": algorithm}


def cost(wanted: Size, run: dict[str, Any], first: float | None) -> list[str]:
    """The cells of one size in the table of sweeps."""
    each = nanoseconds(run)
    return [
        f"{run['entries']:,}",
        f"{wanted.users:,} x {wanted.items:,}",
        run["algorithm"],
        f"{median(run['pass_seconds']):.3g}",
        f"{each:.0f}",
        f"{each / (first or each):.2f}",
        f"{run['peak_mb']:.0f}",
        f"{run['base_mb']:.0f}",
        f"{(run['peak_mb'] - run['base_mb']) * 2**20 / run['entries']:.1f}",
    ]


def nanoseconds(run: dict[str, Any]) -> float:
    """Time of a sweep a rating."""
    return median(run["pass_seconds"]) / run["entries"] * 1e9


def whole(run: dict[str, Any]) -> list[str]:
    """The cells of one size in the table of whole runs."""
    parts = [run[f"{part}_seconds"] for part in ("read", "fit", "save")]
    figures = [f"{seconds:.1f}" for seconds in (*parts, sum(parts))]
    return [f"{run['entries']:,}", str(len(run["pass_seconds"])), *figures, f"{run['run_mb']:.0f}"]


def main() -> None:
    """Measure every size, then print the tables."""
    given = options()
    load = warn_if_busy()
    with folder_for(given.folder) as folder:
        runs = []
        for wanted in given.sizes:
            runs.append(measured(wanted, folder, given))
            print(" | ".join(cost(wanted, runs[-1], nanoseconds(runs[0]))), flush=True)
    rows = [cost(wanted, run, nanoseconds(runs[0])) for wanted, run in zip(given.sizes, runs, strict=True)]
    show(f"rank {given.rank}, load before {load:.1f}; bytes a rating: what the peak adds to imports", COST, rows)
    show_markdown(COST, rows)
    show("from an .h5ad to a run directory", WHOLE, [whole(run) for run in runs])
    show_markdown(WHOLE, [whole(run) for run in runs])


if __name__ == "__main__":
    main()
