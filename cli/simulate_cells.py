"""What `platewise simulate --cells` does: cells drawn from the VAE, written as they are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

OF_CELLS: dict[str, Any] = {
    "genes": 2000,
    "types": 8,
    "batches": 2,
    "latent": 10,
    "likelihood": "negative-binomial",
    "stored": 0.1,
}


def draw_cells(output: Path, n_cells: int, options: dict[str, Any], seed: int, force: bool, json: bool) -> None:
    """Write cells and the truth behind them into one file.

    Args:
        output: The .h5ad.
        n_cells: Number of cells.
        options: A value for each name in `OF_CELLS`.
        seed: Seed of all draws.
        force: Replace a file that is there.
        json: Print one JSON object.
    """
    from ..models import simulate_cells
    from .output import count, print_json

    n_genes = options["genes"]
    others = {name: value for name, value in options.items() if name != "genes"}
    simulate_cells(n_cells, n_genes, seed=seed, to=output, force=force, **others)
    n_entries = _entries_in(output)
    if json:
        print_json({"data": str(output), "cells": n_cells, "genes": n_genes, "entries": n_entries})
        return
    share = f"{100 * n_entries / (n_cells * n_genes):.1f}% of the entries not zero"
    typer.echo(f"{output}: {count(n_cells, 'cell')} of {count(n_genes, 'gene')}, {share}, and the truth behind them")


def _entries_in(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return int(file["X/data"].shape[0])
