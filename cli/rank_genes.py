"""`platewise rank-genes`: the genes that some cells express more than others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .loaded import load_run
from .options import Device, Force, Json, Run, Seed, Table, Threads, Trust


def rank_genes(
    run: Run,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="The .h5ad of the cells; of a VAE any.")],
    cells: Annotated[str, typer.Option("--cells", help="The cells, by their columns: \"label == 'B'\".")],
    against: Annotated[
        str | None, typer.Option(help="The cells to compare with, likewise; all others if not given.")
    ] = None,
    gene: Annotated[list[str] | None, typer.Option("--gene", help="Rank these genes only; may be repeated.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Genes to show, and to write.")] = 30,
    draws: Annotated[int, typer.Option(help="Draws from the posterior.")] = 1000,
    output: Table = None,
    seed: Seed = 0,
    device: Device = "auto",
    trust: Trust = False,
    threads: Threads = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Rank genes by how much more the chosen cells express them than the others, as the fit sees it.

    Of a factor model the score is the inner product of a gene's embedding with the cells' mean embedding less the
    others'; of a VAE it is a log2 fold change of decoded expression. The probability is that of a score above 0.
    Mean entries of both sets are as DATA has them.

    Examples:
        platewise rank-genes RUN cells.h5ad --cells "label == 'B'"

        platewise rank-genes RUN cells.h5ad --cells "stim == 'yes'" --against "stim == 'no'" --top 100 -o genes.csv
    """
    from .start import start

    start(threads)
    from ..data.storage import read_h5ad
    from ..data.writing import require_free
    from ..posterior import rank_genes as ranked
    from .output import show_frame

    if output is not None:
        require_free(output, force=force)
    fitted, adata = load_run(run, device, trust), read_h5ad(data)
    settings = {"against": against, "genes": gene, "draws": draws, "seed": seed}
    table = ranked(fitted, adata, cells, **settings).head(top)  # type: ignore[arg-type]
    title = f"{run}: genes of {cells}\nscore: {table.attrs['score']}; mean_in, mean_out: as in {data}"
    show_frame(table.reset_index(), title, json, output, force)
