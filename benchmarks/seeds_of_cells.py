"""Does every seed give a fit? The VAE at its defaults on raw counts, seed after seed, with what could go wrong counted.

Of every data set the most variable genes are taken, or all with --genes 0; PLATEWISE_TEST_DATA names the folder.
"""

import argparse
import math
from statistics import median

import torch
from anndata import AnnData
from measure import data_folder
from platewise.data import read_cells, variable_genes
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.posterior import score_rows
from tables import show_markdown

FIGURES = [
    "data",
    "genes",
    "seeds",
    "not finite",
    "steps skipped",
    "ended early",
    "-ELBO per cell: least",
    "middle",
    "most",
]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="pbmc3k,kang_ifnb", help="names of .h5ad files of raw counts")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--genes", type=int, default=2000, help="most variable genes to take; 0 for all")
    return parser.parse_args()


def cells_of(name: str, n_genes: int) -> AnnData:
    """A data set's cells on its most variable genes."""
    cells = read_cells(data_folder() / f"{name}.h5ad")
    return variable_genes(cells, n=n_genes) if n_genes else cells


def tried(cells: AnnData, seed: int) -> tuple[float, int, bool]:
    """-ELBO per cell of a fit, steps that were skipped, and whether it ended early."""
    fitted = svi.fit(VAE(), AmortizedNormal(), cells, seed=seed, progress=False)
    loss = -float(score_rows(fitted, cells, draws=5)["elbo"].mean())
    parameters = [*fitted.model.parameters(), *fitted.guide.parameters()]
    if not all(bool(torch.isfinite(x).all()) for x in parameters):
        loss = math.nan
    print(f"seed {seed}: -ELBO {loss:.1f}; {fitted.stopped}", flush=True)
    return loss, int(fitted.history["skipped"].iloc[-1]), not fitted.stopped.startswith("all ")


def main() -> None:
    """Fit every seed on every data set, and count."""
    given, rows = options(), []
    for name in given.data.split(","):
        cells = cells_of(name, given.genes)
        losses, skipped, early = zip(*(tried(cells, seed) for seed in range(given.seeds)), strict=True)
        bad = sum(not math.isfinite(loss) for loss in losses)
        spread = (min(losses), median(losses), max(losses))
        counts = [cells.n_vars, given.seeds, bad, sum(skipped), sum(early)]
        rows.append([name, *map(str, counts), *(f"{loss:.1f}" for loss in spread)])
    show_markdown(FIGURES, rows)


if __name__ == "__main__":
    main()
