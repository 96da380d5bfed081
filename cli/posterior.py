"""`platewise posterior`: posterior draws as a netCDF file for ArviZ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Output, Run, Seed, Threads, Trust

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted

MAX_HELD_OUT = 1000  # ratings in the file: predictive draws are stored for each


def posterior(
    run: Run,
    output: Output,
    row: Annotated[list[str] | None, typer.Option("--row", help="A row's (user's) id; may be repeated.")] = None,
    col: Annotated[list[str] | None, typer.Option("--col", help="A column's (item's) id; may be repeated.")] = None,
    draws: Annotated[int, typer.Option(help="Number of posterior draws.")] = 1000,
    test: Annotated[
        Path | None,
        typer.Option(
            help=f"An .h5ad of held-out ratings to predict; of more than {MAX_HELD_OUT:,}, so many at random."
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The training .h5ad, for densities of the rows; the run remembers it.")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write posterior draws of the globals and of chosen rows and columns, to be opened in ArviZ.

    Example:
        platewise posterior RUN -o posterior.nc --row 42 --col 10 --test test.h5ad

    Then, in Python:

        idata = platewise.posterior.load_netcdf("posterior.nc"); arviz.summary(idata)
    """
    from .start import start

    start(threads)
    from ..data.writing import require_free
    from ..posterior import save_netcdf, to_arviz
    from .output import count, print_json
    from .row_latents import refuse_row_latents
    from .training import training_or_notice

    require_free(output, force=force)
    fitted = load_run(run, device, trust)
    if not row:
        refuse_row_latents(fitted, "draws without --row", "All latents of a VAE are of cells: name some with --row.")
    held_out = None if test is None else _sample(fitted, test, seed)
    training = training_or_notice(run, fitted, data, "log_p of the rows is") if row or data else None
    idata = to_arviz(fitted, row, col, draws, heldout=held_out, data=training, container="DataTree", seed=seed)
    save_netcdf(idata, output, force=force)
    recalibration = idata["posterior"].attrs["recalibration"]
    names = (fitted.meaning["row_name"], fitted.meaning["col_name"])
    if json:
        about = {"rows": row or [], "cols": col or [], "recalibration": recalibration}
        print_json({"output": str(output), "draws": draws} | about)
        return
    chosen = f"{count(len(row or []), names[0])} and {count(len(col or []), names[1])}"
    typer.echo(f"{output}: {draws:,} draws of the globals, {chosen}")
    if fitted.recalibration is not None:
        typer.echo(recalibration)


def _sample(fitted: Fitted, test: Path, seed: int) -> ad.AnnData:
    """Some of the held-out ratings, at random."""
    import numpy as np
    import scipy.sparse as sp

    from ..data.preparation import is_expression
    from ..data.storage import read_h5ad
    from ..posterior.columns import on_columns_of
    from .matrix import require_kind

    require_kind(test, fitted.meaning, "--test")
    adata = read_h5ad(test)
    if is_expression(fitted.meaning):
        adata = on_columns_of(fitted, adata)  # a row's total is over all its entries
    entries = adata.X.tocoo()
    if entries.nnz > MAX_HELD_OUT:
        kept = np.random.default_rng(seed).choice(entries.nnz, MAX_HELD_OUT, replace=False)
        place = (entries.row[kept], entries.col[kept])
        adata.layers.clear()
        adata.X = sp.csr_matrix((entries.data[kept], place), shape=entries.shape)
    return adata
