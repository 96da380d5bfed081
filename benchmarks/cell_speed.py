"""Training cells a second of equal networks, ours and scvi-tools' in turn, each time in a process of its own.

One hidden layer of 128, 10 latent dimensions, dropout 0.1, negative binomial; layers normalised in ours, batches in
theirs, as each has it. The first epoch is not timed. Run as a script, this file is one such process.
"""

import argparse
import json
import time
from itertools import pairwise
from statistics import median

from cell_data import N_CELLS, N_GENES, CellSplit, simulate_cells
from processes import run_fresh
from tables import show, show_markdown

LIBRARIES = ("platewise", "scvi")
HEADINGS = ["cells a step", "Platewise, cells/s", "scvi-tools, cells/s", "ratio"]


def ours(split: CellSplit, batch_rows: int, epochs: int) -> list[float]:
    """Seconds of each epoch after the first."""
    import pyro
    from ours_cells import start
    from platewise.inference import svi

    seconds = []
    with pyro.validation_enabled(False):
        state = start(split, 0, {"epochs": epochs + 1, "batch_rows": batch_rows}, hidden=128, dropout=0.1)
        for epoch in range(epochs + 1):
            began = time.perf_counter()
            for batch in state.loader.epoch(epoch):
                svi.step(state, batch)
            seconds.append(time.perf_counter() - began)
    return seconds[1:]


def theirs(split: CellSplit, batch_rows: int, epochs: int) -> list[float]:
    """Seconds of each epoch after the first."""
    from peer_scvi import EpochClock, model_of, train

    model, clock = model_of(split, 0), EpochClock()
    train(model, epochs + 1, clock, batch_rows=batch_rows)
    return [later - earlier for earlier, later in pairwise(clock.seconds)]


def show_speed(load: float, batches: tuple[int, ...] = (128, 512), rounds: int = 3) -> None:
    """Time both libraries in turn, then print cells a second and their ratio, medians over rounds."""
    rows = []
    for batch_rows in batches:
        speeds: dict[str, list[float]] = {name: [] for name in LIBRARIES}
        for _ in range(rounds):
            for name in LIBRARIES:
                found = run_fresh(__file__, name, batch_rows)
                if "problem" in found:
                    raise SystemExit(f"{name}: {found['problem']}")
                speeds[name].append(found["cells_per_second"])
        us, them = (median(speeds[name]) for name in LIBRARIES)
        rows.append([str(batch_rows), f"{us:,.0f}", f"{them:,.0f}", f"{us / them:.2f}"])
    show(f"{N_CELLS:,} x {N_GENES:,} simulated counts, medians of {rounds}, load before {load:.1f}", HEADINGS, rows)
    show_markdown(HEADINGS, rows)


def main() -> None:
    """Time the library named on the command line, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("batch_rows", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--cells", type=int, default=N_CELLS)
    given = parser.parse_args()
    cells = simulate_cells(given.cells)
    timed = ours if given.library == "platewise" else theirs
    seconds = timed(CellSplit(cells, cells, cells, None), given.batch_rows, given.epochs)
    print(json.dumps({"cells_per_second": given.cells / median(seconds)}))


if __name__ == "__main__":
    main()
