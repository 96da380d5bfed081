"""What an entry that is not stored means: missing (ratings) or an observed zero (counts)."""

from typing import Any, Literal, get_args

import anndata as ad

from .errors import PlatewiseError
from .ids import IdKind

Unstored = Literal["missing", "zero"]

INGEST = "platewise ingest FILE --unstored {} -o data.h5ad"  # how the command line says it

WORDS = {  # what a matrix is, by what its gaps mean
    "missing": "ratings (entries not stored are missing)",
    "zero": "counts (entries not stored are observed zeros)",
}


def mark(
    adata: ad.AnnData,
    *,
    unstored: Unstored | str,
    row_ids: IdKind = "str",
    col_ids: IdKind = "str",
    row_name: str | None = None,
    col_name: str | None = None,
) -> ad.AnnData:
    """Record in ``adata.uns["platewise"]`` what an entry that is not stored means.

    Args:
        adata: Changed in place.
        unstored: ``"missing"`` for ratings, ``"zero"`` for counts.
        row_ids: What the row ids were before they became names: ``"int"`` or ``"str"``.
        col_ids: Likewise for the columns.
        row_name: What a row is; "user" for ratings and "cell" for counts if not given.
        col_name: What a column is; "item" for ratings and "gene" for counts if not given.

    Returns:
        ``adata`` itself.

    Raises:
        PlatewiseError: ``unstored`` is neither of the two.
    """
    if unstored not in get_args(Unstored):
        raise PlatewiseError(f'Expected unstored="missing" (ratings) or "zero" (counts), got {unstored!r}. Choose one.')
    rows, cols = ("user", "item") if unstored == "missing" else ("cell", "gene")
    adata.uns["platewise"] = {
        "unstored": unstored,
        "row_ids": row_ids,
        "col_ids": col_ids,
        "row_name": row_name or rows,
        "col_name": col_name or cols,
    }
    return adata


def meaning(adata: ad.AnnData) -> dict[str, Any]:
    """What `mark` recorded.

    Raises:
        PlatewiseError: Nothing is recorded.
    """
    if not has_meaning(adata):
        raise PlatewiseError(
            "Expected a matrix that says what entries not stored mean, got one that does not. "
            'Call platewise.data.mark(adata, unstored="missing") for ratings, unstored="zero" for counts; '
            f"of a file: {INGEST.format('missing|zero')}."
        )
    return adata.uns["platewise"]


def has_meaning(adata: ad.AnnData) -> bool:
    """Whether the matrix says what entries not stored mean."""
    recorded = adata.uns.get("platewise")
    return isinstance(recorded, dict) and recorded.get("unstored") in get_args(Unstored)


def require_unstored(adata: ad.AnnData, unstored: Unstored, *, needed_by: str) -> None:
    """Check that entries not stored mean what a model takes them to mean.

    Args:
        adata: The matrix.
        unstored: The meaning needed.
        needed_by: The name of the model, for the error.

    Raises:
        PlatewiseError: The matrix says otherwise, or nothing.
    """
    got = meaning(adata)["unstored"]
    if got != unstored:
        raise PlatewiseError(
            f"Expected {WORDS[unstored]} for {needed_by}, got {WORDS[got]}. "
            f'Choose another model, or call mark(adata, unstored="{unstored}") if that is what they mean; '
            f"of a file from elsewhere: {INGEST.format(unstored)}."
        )
