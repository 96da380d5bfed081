"""`platewise generate`: new cells drawn from a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Output, Run, Seed, Threads, Trust


def generate(
    run: Run,
    output: Output,
    n: Annotated[int, typer.Option("--cells", "-n", min=1, help="Cells to draw.")] = 1000,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="The .h5ad of cells whose library sizes and covariates new ones get; the run remembers its own.",
        ),
    ] = None,
    like: Annotated[
        str, typer.Option(help="prior: embeddings from the prior; posterior: from those of the cells of the data.")
    ] = "prior",
    library_size: Annotated[
        float | None, typer.Option(help="One library size for all new cells; as in the data if not given.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="Level of the batch of all new cells; as in the data if not given.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw new cells from a fitted VAE: counts, as sparse as those it was fitted on.

    Compared with the data, they show what the model has and has not understood; with a known origin, they test what
    comes after.

    Example:
        platewise generate RUN -n 1000 -o new.h5ad
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad, write_h5ad
    from ..data.writing import require_free
    from ..posterior import generate as generated
    from .output import count, print_json

    require_free(output, force=force)
    cells = None if data is None else read_h5ad(data)
    fitted = load_run(run, device, trust)
    made = generated(fitted, n, data=cells, like=like, library_size=library_size, batch=batch, seed=seed)
    write_h5ad(made, output, force=force)
    if json:
        print_json({"data": str(output), "rows": made.n_obs, "cols": made.n_vars, "entries": int(made.X.nnz)})
        return
    size = f"{count(made.n_obs, fitted.meaning['row_name'])} by {count(made.n_vars, fitted.meaning['col_name'])}"
    typer.echo(f"{output}: {size}, {made.X.nnz:,} stored entries")
