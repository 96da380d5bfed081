"""`platewise ingest`: ratings from wherever they are into one .h5ad."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Force, Json, Output

if TYPE_CHECKING:
    import anndata as ad

Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A MovieLens folder, zip or file; any CSV, TSV or Parquet file; an .h5ad; or a name: movielens-100k.",
    ),
]
Unstored = Annotated[
    str | None,
    typer.Option(help="For an .h5ad from elsewhere: entries not stored are 'missing' (ratings) or 'zero' (counts)."),
]


def ingest(
    source: Source,
    output: Output,
    user: Annotated[str | None, typer.Option(help="Column of users, by name or position (from 0).")] = None,
    item: Annotated[str | None, typer.Option(help="Column of items.")] = None,
    rating: Annotated[str | None, typer.Option(help="Column of ratings.")] = None,
    timestamp: Annotated[str | None, typer.Option(help="Column of times.")] = None,
    no_timestamp: Annotated[bool, typer.Option("--no-timestamp", help="Leave times out.")] = False,
    duplicates: Annotated[str, typer.Option(help="Of a user's ratings of one item keep the last, mean or error.")] = (
        "last"
    ),
    unstored: Unstored = None,
    base_url: Annotated[str | None, typer.Option(help="Where published data sets lie.")] = None,
    progress: Annotated[bool, typer.Option("--progress", help="Show a bar during a download.")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Read ratings and write them as one .h5ad, which every other command takes.

    Columns are guessed where they are not named. Titles, genres and demographics of MovieLens come along.

    Examples:
        platewise ingest ml-1m.zip -o data.h5ad

        platewise ingest ratings.csv --user customer --item product --rating stars -o data.h5ad

        platewise ingest movielens-100k -o data.h5ad
    """
    from .start import start

    start()
    from ..data.storage import write_h5ad
    from ..data.writing import require_free
    from .output import print_json

    require_free(output, force=force)
    columns: dict[str, Any] = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    chosen: dict[str, Any] = {name: int(x) if x is not None and x.isdigit() else x for name, x in columns.items()}
    if no_timestamp:
        chosen["timestamp"] = False
    if progress:
        chosen["progress"] = True
    adata = _read(source, unstored, {**chosen, "duplicates": duplicates, "base_url": base_url})
    write_h5ad(adata, output, force=force)
    if json:
        print_json({"data": str(output), **_facts(adata)})
    else:
        typer.echo(f"{output}: {_sentence(adata)}")


def _read(source: str, unstored: str | None, options: dict[str, Any]) -> ad.AnnData:
    from ..data.errors import PlatewiseError
    from ..data.matrix import by_rows
    from ..data.ratings import read_ratings
    from ..data.storage import read_h5ad
    from .matrix import require_ratings

    if unstored is None:
        if source.endswith(".h5ad"):
            require_ratings(Path(source), "ingest")
        return read_ratings(source, **options)
    if not source.endswith(".h5ad"):
        raise PlatewiseError(f"Expected an .h5ad for --unstored, got {source}. Leave --unstored out: it is ratings.")
    return by_rows(read_h5ad(source, unstored=unstored))


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
    kind = "rating" if facts["unstored"] == "missing" else "stored count"
    side = [*adata.obs.columns, *adata.var.columns, *(["timestamps"] if facts["timestamps"] else [])]
    extras = f"; with {', '.join(side)}" if side else ""
    return f"{size}, {count(facts['entries'], kind)} ({share:.2g} % of cells){extras}"
