"""`platewise denoise`: expected expression of cells and genes, with intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Output, Run, Seed, Threads, Trust


def denoise(
    run: Run,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The .h5ad of the cells; of a VAE any.")],
    output: Output,
    genes: Annotated[str | None, typer.Option(help="Genes to read out, with commas between; all if not given.")] = None,
    genes_file: Annotated[Path | None, typer.Option(help="A text file of genes, one a line, beside --genes.")] = None,
    library_size: Annotated[
        str, typer.Option(help="observed: each cell's own; or one for all cells, say 1e4. Of counts alone.")
    ] = "observed",
    batch: Annotated[
        str | None, typer.Option(help="Level of the batch to decode all cells with; each cell's own if not given.")
    ] = None,
    prob: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.9,
    draws: Annotated[int, typer.Option(help="Draws of each cell's embedding.")] = 100,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write what the model expects of cells and genes, without the noise of counts: layers mean, lower and upper.

    The interval is one of the expectation, and not of a count. With --library-size and --batch, cells of different
    depths and batches are comparable. A factor model gives log-normalised expression of the cells it was fitted on.

    Examples:
        platewise denoise RUN cells.h5ad --genes MS4A1,CD79A -o denoised.h5ad

        platewise denoise RUN cells.h5ad --genes MS4A1 --library-size 1e4 --batch 2 -o denoised.h5ad
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad, write_h5ad
    from ..data.writing import require_free
    from ..posterior import denoise as denoised
    from .output import count, print_json

    require_free(output, force=force)
    chosen = _genes(genes, genes_file)
    fitted, cells = load_run(run, device, trust), read_h5ad(data)
    made = denoised(
        fitted, cells, genes=chosen, library_size=library_size, batch=batch, prob=prob, draws=draws, seed=seed
    )
    write_h5ad(made, output, force=force)
    unit = made.uns["denoise"]["unit"]
    if json:
        print_json({"data": str(output), "rows": made.n_obs, "cols": made.n_vars, "unit": unit, "prob": prob})
        return
    size = f"{count(made.n_obs, fitted.meaning['row_name'])} by {count(made.n_vars, fitted.meaning['col_name'])}"
    typer.echo(f"{output}: {size}, {unit} with its {100 * prob:g}% interval in layers mean, lower and upper")


def _genes(named: str | None, file: Path | None) -> list[str] | None:
    """Genes named one by one and in a file; None if neither is given."""
    if named is None and file is None:
        return None
    listed = [] if file is None else file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    every = [name.strip() for name in [*(named or "").split(","), *listed]]
    return [name for name in every if name]
