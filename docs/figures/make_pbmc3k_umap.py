"""The picture of docs/cells.md: cells of pbmc3k by the VAE's embedding, coloured by the cell types of the tutorial.

    python docs/figures/make_pbmc3k_umap.py pbmc3k.h5ad

The types were found by others, by clustering, and the fit does not see them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import matplotlib
import scanpy as sc
import typer
from platewise.data import read_cells, variable_genes
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.posterior import embed

matplotlib.use("Agg")

HERE = Path(__file__).parent


def main(
    source: Annotated[Path | None, typer.Argument(help="pbmc3k.h5ad; in $PLATEWISE_TEST_DATA if not given.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The picture.")] = HERE / "pbmc3k_umap.png",
    epochs: Annotated[int | None, typer.Option(help="Passes over the cells; the VAE's own if not given.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the fit and of the layout.")] = 0,
) -> None:
    """Fit a VAE to the 2,000 most variable genes, and draw its embedding of the cells."""
    cells = variable_genes(read_cells(source or published()), n=2000)
    given: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    fitted = svi.fit(VAE(), AmortizedNormal(), cells, seed=seed, **given)
    typer.echo(fitted.stopped)
    draw(embed(fitted, cells), output, seed)
    typer.echo(f"{output}: {cells.n_obs:,} cells")


def published() -> Path:
    """Where the tests' data are."""
    if "PLATEWISE_TEST_DATA" not in os.environ:
        raise typer.BadParameter("Expected SOURCE, or a folder in PLATEWISE_TEST_DATA, got neither. Name pbmc3k.h5ad.")
    return Path(os.environ["PLATEWISE_TEST_DATA"]) / "pbmc3k.h5ad"


def draw(cells: ad.AnnData, output: Path, seed: int) -> None:
    """Lay cells out by their embedding, and write the picture."""
    sc.pp.neighbors(cells, use_rep="X_platewise", random_state=seed)
    sc.tl.umap(cells, random_state=seed)
    figure = sc.pl.umap(cells, color="cell_type", frameon=False, title="", return_fig=True)
    figure.savefig(output, dpi=120, bbox_inches="tight")


if __name__ == "__main__":
    typer.run(main)
