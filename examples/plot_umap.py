"""A picture of cells: scanpy's neighbours and UMAP on an embedding by Platewise.

    platewise ingest filtered_feature_bc_matrix --variable-genes 2000 -o cells.h5ad
    platewise fit cells.h5ad --model vae -o run
    platewise embed run cells.h5ad -o embedded.h5ad
    python examples/plot_umap.py embedded.h5ad -o umap.png

scanpy reads the embedding as it would any other: nothing is converted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anndata as ad
import matplotlib
import numpy as np
import scanpy as sc
import typer

matplotlib.use("Agg")


def main(
    embedded: Annotated[Path, typer.Argument(help="What `platewise embed` wrote.", exists=True)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture to write.")] = Path("umap.png"),
    color: Annotated[str | None, typer.Option(help="A column of obs or a gene; total counts if not given.")] = None,
    key: Annotated[str, typer.Option(help="Name of the embedding in obsm.")] = "X_platewise",
    neighbors: Annotated[int, typer.Option(help="Neighbours of each cell.")] = 15,
    seed: Annotated[int, typer.Option(help="Seed of the layout.")] = 0,
) -> None:
    """Lay cells out in the plane by their embedding, and draw them."""
    adata = lay_out(ad.read_h5ad(embedded), key, neighbors, seed)
    if color is None:
        color = "log10 total count"
        adata.obs[color] = np.log10(np.asarray(adata.X.sum(1)).ravel())
    figure = sc.pl.umap(adata, color=color, frameon=False, title=f"{adata.n_obs:,} cells, {color}", return_fig=True)
    figure.savefig(output, dpi=150, bbox_inches="tight")
    typer.echo(f"{output}: {adata.n_obs:,} cells")


def lay_out(adata: ad.AnnData, key: str, neighbors: int, seed: int) -> ad.AnnData:
    """Put a UMAP layout into obsm["X_umap"]."""
    if key not in adata.obsm:
        raise typer.BadParameter(f"Expected {key!r} in obsm, got {sorted(adata.obsm)}. Run `platewise embed` first.")
    sc.pp.neighbors(adata, n_neighbors=neighbors, use_rep=key, random_state=seed)
    sc.tl.umap(adata, random_state=seed)
    return adata


if __name__ == "__main__":
    typer.run(main)
