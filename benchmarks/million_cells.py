"""A million cells that are never in memory together: reading alone, and one training epoch of the VAE, from disk.

Counts are simulated and written some cells at a time, uncompressed; then a fresh process with two threads reads them
in batches, and trains. Before either, the system is asked to forget the file, so that it comes off the disk (Linux;
elsewhere it may lie in the page cache). The peak is what training adds to the memory in use once the model is made.

    python benchmarks/million_cells.py --folder /scratch
    python benchmarks/million_cells.py --cells 50000
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pyro
from anndata import AnnData
from platewise.data import RowBatch, RowLoader, mark, source_of
from platewise.data.row_writer import write_rows
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.inference.svi_options import chosen_options
from platewise.models import VAE
from processes import peak_megabytes, run_fresh, warn_if_busy
from scale import folder_for
from scipy.sparse import csr_matrix
from tables import show, show_markdown

N_GENES, N_KINDS = 2_000, 20
STORED = 0.1  # of the entries
BLOCK = 5_000  # cells drawn at once
BATCH_ROWS = 512
HEADINGS = ["cells", "entries", "file MB", "reading, cells/s", "training, cells/s", "MB once made", "peak adds MB"]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keeps the file, and uses the one that is there")
    parser.add_argument("--measure", type=Path, help="only measure this file, in this process")
    return parser.parse_args()


def write_cells(path: Path, n_cells: int, seed: int = 0) -> None:
    """Write simulated counts of a few kinds of cells, as `read_h5ad` reads them, off to the disk."""
    empty = mark(AnnData(csr_matrix((n_cells, N_GENES), dtype=np.float32)), unstored="zero")
    write_rows(empty, blocks(n_cells, seed), path, n_entries=round(STORED * n_cells * N_GENES))
    with path.open("rb") as written:
        os.fsync(written.fileno())


def blocks(n_cells: int, seed: int) -> Iterator[csr_matrix]:
    """Draw cells block by block: a gene is seen with its kind's probability, and then counts 1 + Poisson."""
    rng = np.random.default_rng(seed)
    seen = rng.beta(0.5, 0.5 / STORED - 0.5, (N_KINDS, N_GENES)).astype(np.float32)
    for start in range(0, n_cells, BLOCK):
        kind = rng.integers(N_KINDS, size=min(BLOCK, n_cells - start))
        cell, gene = np.nonzero(rng.random((len(kind), N_GENES), dtype=np.float32) < seen[kind])
        value = 1 + rng.poisson(2 * seen[kind[cell], gene])
        pointers = np.searchsorted(cell, np.arange(len(kind) + 1))
        yield csr_matrix((value.astype(np.float32), gene.astype(np.int32), pointers), shape=(len(kind), N_GENES))


def forget(path: Path) -> None:
    """Ask the system to drop what it holds of a file, where it can be asked."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_megabytes() -> float:
    """Memory in use now; the peak so far where the system does not say."""
    if not sys.platform.startswith("linux"):
        return peak_megabytes()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def reading(path: Path) -> float:
    """Cells a second of the loader alone."""
    forget(path)
    began, n_cells = time.perf_counter(), 0
    for batch in RowLoader(source_of(path).rows, BATCH_ROWS).epoch(0):
        n_cells += len(batch.rows)
    return n_cells / (time.perf_counter() - began)


def training(path: Path) -> dict[str, float]:
    """One epoch of the VAE: cells a second, memory once the model is made, and what the peak adds to it."""
    source = source_of(path)
    settings = chosen_options(VAE(), {"epochs": 1, "batch_rows": BATCH_ROWS})
    with pyro.validation_enabled(False):
        state = svi.init(VAE(), AmortizedNormal(), RowLoader(source.rows, BATCH_ROWS), settings)
        state.elbo.train()
        forget(path)
        made, began = resident_megabytes(), time.perf_counter()
        steps(state, state.loader.epoch(0))
    speed = source.rows.shape[0] / (time.perf_counter() - began)
    return {"training": speed, "made_mb": made, "added_mb": peak_megabytes() - made}


def steps(state: svi.State, batches: Iterator[RowBatch]) -> None:
    """Train on every batch."""
    for batch in batches:
        svi.step(state, batch)


def measure(path: Path) -> dict[str, float]:
    """All figures of a file; training first, whose peak the reading would hide."""
    figures = training(path)
    with h5py.File(path, "r") as file:
        entries = len(file["X/data"])
    return figures | {"reading": reading(path), "entries": entries, "file_mb": path.stat().st_size / 2**20}


def main() -> None:
    """Write the file, measure it in a fresh process, and print."""
    given = options()
    if given.measure is not None:
        print(json.dumps(measure(given.measure)))
        return
    load = warn_if_busy()
    with folder_for(given.folder) as folder:
        path = folder / f"cells-{given.cells}.h5ad"
        if not path.exists():
            write_cells(path, given.cells)
        found = run_fresh(__file__, "--measure", path)
    if "problem" in found:
        raise SystemExit(found["problem"])
    figures = ("entries", "file_mb", "reading", "training", "made_mb", "added_mb")
    row = [f"{given.cells:,}", *(f"{found[name]:,.0f}" for name in figures)]
    show(f"{N_GENES:,} genes, batches of {BATCH_ROWS}, load before {load:.1f}", HEADINGS, [row])
    show_markdown(HEADINGS, [row])


if __name__ == "__main__":
    main()
