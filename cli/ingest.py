"""`platewise ingest`: ratings from wherever they are into one .h5ad."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Force, Json, Output

if TYPE_CHECKING:
    import anndata as ad

Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Ratings: a MovieLens folder, zip or file; any CSV, TSV or Parquet file; an .h5ad; or a name: "
        "movielens-100k. Counts, one source or several: a 10x folder or .h5, .mtx, .npz, .h5ad, CSV or TSV.",
    ),
]
_CELLS = "Counts of cells"
Cells = Annotated[
    bool,
    typer.Option(
        "--cells",
        help="SOURCE holds raw counts. Needed for an .h5ad that does not say so, CSV and TSV; other kinds always do.",
        rich_help_panel=_CELLS,
    ),
]
VariableGenes = Annotated[
    int | None,
    typer.Option(help="Keep this many genes, those that vary most from cell to cell.", rich_help_panel=_CELLS),
]
Flavor = Annotated[
    str | None,
    typer.Option(
        help="How they are chosen: log-variance if not given; seurat_v3, seurat, cell_ranger with scanpy installed.",
        rich_help_panel=_CELLS,
    ),
]
BatchKey = Annotated[
    str | None,
    typer.Option(
        help="Several sources: column for their names, 'batch' if not given. One source: its column of batches. "
        "Variable genes vary within batches.",
        rich_help_panel=_CELLS,
    ),
]
Join = Annotated[
    str | None,
    typer.Option(help="Several sources: genes of all (inner, if not given) or of any (outer).", rich_help_panel=_CELLS),
]
EmptyCells = Annotated[
    str | None, typer.Option(help="Cells without counts: drop (if not given), keep, error.", rich_help_panel=_CELLS)
]
EmptyGenes = Annotated[
    str | None, typer.Option(help="Genes without counts: keep (if not given), drop, error.", rich_help_panel=_CELLS)
]
DuplicateGenes = Annotated[
    str | None,
    typer.Option(
        help="Genes that share a name: unique (numbers are appended; if not given), sum, error.",
        rich_help_panel=_CELLS,
    ),
]
GenesIn = Annotated[
    str | None,
    typer.Option(
        help="Genes are the rows (.mtx, if not given) or columns (.npz, CSV, TSV, if not given) of the matrix.",
        rich_help_panel=_CELLS,
    ),
]
FeatureType = Annotated[
    str | None,
    typer.Option(help="Features of 10x to keep: 'Gene Expression' if not given, or all.", rich_help_panel=_CELLS),
]
Unstored = Annotated[
    str | None,
    typer.Option(help="For an .h5ad from elsewhere: entries not stored are 'missing' (ratings) or 'zero' (counts)."),
]


def ingest(
    source: Sources,
    output: Output,
    user: Annotated[str | None, typer.Option(help="Column of users, by name or position (from 0).")] = None,
    item: Annotated[str | None, typer.Option(help="Column of items.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    no_timestamp: Annotated[bool, typer.Option("--no-timestamp", help="Leave times out.")] = False,
    duplicates: Annotated[
        str | None, typer.Option(help="Of a user's ratings of one item keep the last (if not given), mean or error.")
    ] = None,
    unstored: Unstored = None,
    base_url: Annotated[str | None, typer.Option(help="Where published data sets lie.")] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Show a bar during a download.")] = False,
    cells: Cells = False,
    variable_genes: VariableGenes = None,
    flavor: Flavor = None,
    batch_key: BatchKey = None,
    join: Join = None,
    empty_cells: EmptyCells = None,
    empty_genes: EmptyGenes = None,
    duplicate_genes: DuplicateGenes = None,
    genes_in: GenesIn = None,
    feature_type: FeatureType = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Read ratings, or counts of cells, and write them as one .h5ad, which every other command takes.

    Columns of ratings are guessed where they are not named. Titles, genres and demographics of MovieLens come along.
    Counts must be raw: they are looked for in X, layers['counts'] and raw.

    Examples:
        platewise ingest ml-1m.zip -o data.h5ad

        platewise ingest ratings.csv --user customer --item product --rating stars -o data.h5ad

        platewise ingest movielens-100k -o data.h5ad

        platewise ingest filtered_feature_bc_matrix --variable-genes 2000 -o cells.h5ad
    """
    from .start import start

    start()
    from ..data.storage import write_h5ad
    from ..data.writing import require_free

    require_free(output, force=force)
    of_ratings = {"user": user, "item": item, "rating": rating, "timestamp": timestamp, "no_timestamp": no_timestamp}
    of_ratings |= {"duplicates": duplicates, "base_url": base_url, "progress": progress}
    of_counts: dict[str, Any] = {"variable_genes": variable_genes, "flavor": flavor, "batch_key": batch_key}
    of_counts |= {"join": join, "empty_cells": empty_cells, "empty_genes": empty_genes}
    of_counts |= {"duplicate_genes": duplicate_genes, "genes_in": genes_in, "feature_type": feature_type}
    adata = _read(source, unstored, cells, of_ratings, of_counts)
    write_h5ad(adata, output, force=force)
    _say(adata, output, json)


def _read(
    sources: list[str], unstored: str | None, cells: bool, of_ratings: dict[str, Any], of_counts: dict[str, Any]
) -> ad.AnnData:
    """Counts or ratings, and no option of the other."""
    from . import ingest_cells

    if unstored is None and ingest_cells.are_counts(sources, cells):
        ingest_cells.refuse(of_ratings, "counts", "It is for ratings: leave it out.")
        return ingest_cells.read(sources, **of_counts)
    of, remedy = "anything but counts", "Say --cells if they are counts, or leave it out."
    if unstored is not None:
        of, remedy = "--unstored", "Leave --unstored out of raw counts."
    ingest_cells.refuse({"cells": cells, **of_counts}, of, remedy)
    return _read_ratings(sources, unstored, of_ratings)


def _say(adata: ad.AnnData, output: Path, as_json: bool) -> None:
    from . import ingest_cells
    from .output import print_json

    counts = "counts_from" in adata.uns["platewise"]
    if as_json:
        print_json({"data": str(output), **(ingest_cells.facts(adata) if counts else _facts(adata))})
    else:
        typer.echo(f"{output}: {ingest_cells.sentence(adata) if counts else _sentence(adata)}")


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    """Options of `read_ratings` as they were given."""
    columns = {name: asked[name] for name in ("user", "item", "rating", "timestamp")}
    chosen: dict[str, Any] = {name: int(x) if x is not None and x.isdigit() else x for name, x in columns.items()}
    if asked["no_timestamp"]:
        chosen["timestamp"] = False
    if asked["progress"]:
        chosen["progress"] = True
    return {**chosen, "duplicates": asked["duplicates"] or "last", "base_url": asked["base_url"]}


def _read_ratings(sources: list[str], unstored: str | None, asked: dict[str, Any]) -> ad.AnnData:
    from ..data.errors import PlatewiseError
    from ..data.matrix import by_rows
    from ..data.ratings import read_ratings
    from ..data.storage import read_h5ad
    from .matrix import require_ratings

    source, *others = sources
    if others:
        raise PlatewiseError(f"Expected one source for --unstored, got {len(sources)}. Ingest one after the other.")
    if unstored is None:
        if source.endswith(".h5ad"):
            _require_said(source)
            require_ratings(Path(source), "ingest")
        return read_ratings(source, **_options(asked))
    if not source.endswith(".h5ad"):
        raise PlatewiseError(f"Expected an .h5ad for --unstored, got {source}. Leave --unstored out: it is ratings.")
    return by_rows(read_h5ad(source, unstored=unstored))


def _require_said(source: str) -> None:
    from ..data.annotated import recorded_unstored
    from ..data.errors import PlatewiseError

    if recorded_unstored(Path(source)) == "":
        raise PlatewiseError(
            f"Expected a file that says what entries not stored mean, got one that does not: {source}. Say `platewise "
            f"ingest {source} --unstored missing -o RATINGS.h5ad` if they are ratings, --cells if counts of cells."
        )


def _facts(adata: ad.AnnData) -> dict[str, Any]:
    meaning = adata.uns["platewise"]
    names = (f"{meaning['row_name']}s", f"{meaning['col_name']}s")
    return {
        **dict(zip(names, adata.shape, strict=True)),
        "entries": int(adata.X.nnz),
        "duplicates": int(meaning.get("duplicates", 0)),
        "timestamps": "timestamp" in adata.layers,
        "unstored": meaning["unstored"],
    }


def _sentence(adata: ad.AnnData) -> str:
    from .output import count

    facts, meaning = _facts(adata), adata.uns["platewise"]
    size = f"{count(adata.n_obs, meaning['row_name'])} x {count(adata.n_vars, meaning['col_name'])}"
    share = 100 * facts["entries"] / (adata.n_obs * adata.n_vars)
    kind = "rating" if facts["unstored"] == "missing" else "stored value"
    side = [*adata.obs.columns, *adata.var.columns, *(["timestamps"] if facts["timestamps"] else [])]
    extras = f"; with {', '.join(side)}" if side else ""
    return f"{size}, {count(facts['entries'], kind)} ({share:.2g} % of cells){extras}"
