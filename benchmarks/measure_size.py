"""Measure one fit from an .h5ad on disk to a run directory on disk, in a process of its own.

Run as a script by `scale.py`, it prints one line of JSON.
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from anndata import AnnData
from ours import Method, first_call
from platewise.data import read_h5ad
from platewise.inference import Fitted
from processes import peak_megabytes

METHODS = {
    "coordinate-ascent": (Method("coordinate_ascent"), {"tolerance": 1e-300}),  # never met
    "natural-gradient": (Method("natural_gradient", from_disk=True, hold_rows=False), {}),
}
PASSES = {"coordinate-ascent": "sweeps", "natural-gradient": "passes"}


@dataclass(frozen=True)
class Measured:
    """What a fit of one size took.

    Attributes:
        entries: ratings.
        read_seconds: reading the .h5ad into memory; 0 where the matrix stays on disk.
        fit_seconds: the whole call to `fit`, its checks of the data and starts included.
        pass_seconds: each sweep or pass.
        save_seconds: writing the run directory.
        run_mb: size of the run directory, MB.
        base_mb: peak resident memory before the data were touched (imports, a tiny fit), MB.
        peak_mb: peak resident memory at the end, MB.
    """

    entries: int
    read_seconds: float
    fit_seconds: float
    pass_seconds: list[float]
    save_seconds: float
    run_mb: float
    base_mb: float
    peak_mb: float


def measure(path: Path, algorithm: str, rank: int, passes: int) -> Measured:
    """Read, fit and save, with a clock around each."""
    method, settings = METHODS[algorithm]
    first_call(method, rank)
    base = peak_megabytes()
    clock = [time.perf_counter()]
    data: AnnData | Path = path if method.from_disk else read_h5ad(path)
    clock.append(time.perf_counter())
    fitted = method.fit(data, rank, progress=False, **settings, **{PASSES[algorithm]: passes})
    clock.append(time.perf_counter())
    run_mb = saved_megabytes(fitted, path)
    clock.append(time.perf_counter())
    read, fit, save = np.diff(clock).tolist()
    times = np.diff(fitted.history["seconds"], prepend=0.0).tolist()
    entries = int(fitted.obs["n_entries"].sum())
    return Measured(entries, read, fit, times, save, run_mb, base, peak_megabytes())


def saved_megabytes(fitted: Fitted, data: Path) -> float:
    """Write a run directory beside the data, and remove it again: its size in MB."""
    with tempfile.TemporaryDirectory(dir=data.parent) as folder:
        run = Path(folder) / "run"
        fitted.save(run, data=data)
        return sum(os.path.getsize(file) for file in run.iterdir()) / 1e6


def main() -> None:
    """Measure the file named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("algorithm", choices=list(METHODS))
    parser.add_argument("rank", type=int)
    parser.add_argument("passes", type=int)
    given = parser.parse_args()
    print(json.dumps(asdict(measure(given.path, given.algorithm, given.rank, given.passes))))


if __name__ == "__main__":
    main()
