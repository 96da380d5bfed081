"""Cells from disk beside cells in memory: the loader alone, and training on what it gives, in turn.

python benchmarks/streaming.py --cells 50000
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pyro
import torch
from million_cells import N_GENES, steps, write_cells
from platewise.data import RowLoader, read_h5ad, source_of
from platewise.data.loader import Rows
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.inference.svi_options import chosen_options
from platewise.models import VAE
from processes import warn_if_busy
from tables import show, show_markdown

BATCHES, ROUNDS = (64, 128, 512), 5
HEADINGS = ["cells a batch", "what", "memory, cells/s", "disk, cells/s", "disk / memory"]


def loading(rows: Rows, batch_rows: int, epoch: int) -> float:
    """Cells a second of one epoch of the loader."""
    began = time.perf_counter()
    n_cells = sum(len(batch.rows) for batch in RowLoader(rows, batch_rows).epoch(epoch))
    return n_cells / (time.perf_counter() - began)


def training(rows: Rows, batch_rows: int, epoch: int) -> float:
    """Cells a second of one epoch of training."""
    settings = chosen_options(VAE(), {"epochs": 1, "batch_rows": batch_rows})
    with pyro.validation_enabled(False):
        state = svi.init(VAE(), AmortizedNormal(), RowLoader(rows, batch_rows), settings)
        state.elbo.train()
        began = time.perf_counter()
        steps(state, state.loader.epoch(epoch))
    return rows.shape[0] / (time.perf_counter() - began)


def compared(path: Path) -> list[list[str]]:
    """Both sources in turn, medians over rounds."""
    sources = {"memory": source_of(read_h5ad(path)).rows, "disk": source_of(path).rows}
    lines = []
    for batch_rows in BATCHES:
        for what, timed, rounds in (("loading", loading, ROUNDS), ("training", training, 3)):
            speeds = {name: [] for name in sources}
            for epoch in range(rounds):
                for name, rows in sources.items():
                    speeds[name].append(timed(rows, batch_rows, epoch))
            memory, disk = median(speeds["memory"]), median(speeds["disk"])
            lines.append([str(batch_rows), what, f"{memory:,.0f}", f"{disk:,.0f}", f"{disk / memory:.2f}"])
    return lines


def main() -> None:
    """Write a file, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=50_000)
    given, load = parser.parse_args(), warn_if_busy()
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        write_cells(path, given.cells)
        lines = compared(path)
    show(f"{given.cells:,} x {N_GENES:,}, file in the page cache, load before {load:.1f}", HEADINGS, lines)
    show_markdown(HEADINGS, lines)


if __name__ == "__main__":
    main()
