"""`platewise embed`: embeddings of rows, and of columns where the model has them, beside the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Output, Run, Threads, Trust


def embed(
    run: Run,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The .h5ad that the run was fitted on; of a VAE any.")],
    output: Output,
    key: Annotated[str, typer.Option(help="Name of the embedding in obsm, and in varm.")] = "X_platewise",
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write DATA again with the posterior means of embeddings in obsm (and varm), standard deviations beside them.

    scanpy goes on from there: `sc.pp.neighbors(adata, use_rep="X_platewise")`, `sc.tl.umap(adata)`.

    Example:
        platewise embed RUN cells.h5ad -o embedded.h5ad
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad, write_h5ad
    from ..data.writing import require_free
    from ..posterior import embed as embedded
    from .output import count, print_json

    require_free(output, force=force)
    fitted = load_run(run, device, trust)
    adata = embedded(fitted, read_h5ad(data), key=key)
    write_h5ad(adata, output, force=force)
    width = adata.obsm[key].shape[1]
    if json:
        print_json({"data": str(output), "key": key, "rows": adata.n_obs, "dimensions": width})
    else:
        of = fitted.meaning["row_name"]
        typer.echo(f"{output}: {count(adata.n_obs, of)} in {width} dimensions, obsm[{key!r}]")
