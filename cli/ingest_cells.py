"""Counts at the command line: what asks for them, how they are read, what is said of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .algorithms import as_option
from .given import only_given

if TYPE_CHECKING:
    import anndata as ad

_DEFAULT_BATCH = "batch"


def are_counts(sources: Sequence[str], asked: bool) -> bool:
    """Whether sources are to be read as counts: asked for, all of a kind that is always counts, or said by the file.

    Raises:
        PlatewiseError: There are several, and they are not.
    """
    from ..data.cells import holds_counts
    from ..data.errors import PlatewiseError

    if asked or all(holds_counts(source) for source in sources):
        return True
    if len(sources) > 1:
        raise PlatewiseError(
            f"Expected one source of ratings, got {len(sources)}. Say --cells if they are counts, to be put together."
        )
    return False


def refuse(given: Mapping[str, Any], of: str, remedy: str) -> None:
    """Check that options of the other kind of data were left alone.

    Args:
        given: Options by name, with None or False where they were not given.
        of: What is read.
        remedy: What to do.

    Raises:
        PlatewiseError: One was given.
    """
    from ..data.errors import PlatewiseError

    named = [as_option(name) for name, value in only_given(given).items() if value is not False]
    if named:
        raise PlatewiseError(f"Expected no {' or '.join(named)} for {of}, got one. {remedy}")


def read(
    sources: Sequence[str],
    *,
    variable_genes: int | None,
    flavor: str | None,
    batch_key: str | None,
    **options: Any,
) -> ad.AnnData:
    """Counts of one source or several, restricted to variable genes where they are asked for.

    Args:
        sources: Paths.
        variable_genes: Number of genes to keep; all if None.
        flavor: How they are chosen.
        batch_key: Column of cells for the names of several sources; of one source, the column of batches that it has.
        options: Of `read_cells`, None where not given; ``duplicates`` goes by ``duplicate_genes``.

    Raises:
        PlatewiseError: What `read_cells` and `variable_genes` raise; or an option has nothing to act on.
    """
    from ..data.cells import read_cells
    from ..data.errors import PlatewiseError
    from ..data.variable_genes import LOG_VARIANCE
    from ..data.variable_genes import variable_genes as restrict

    several = len(sources) > 1
    if not several and options.get("join"):
        raise PlatewiseError("Expected several sources with --join, got one. Leave it out.")
    if variable_genes is None and (flavor or (batch_key and not several)):
        option = "--flavor" if flavor else "--batch-key of one source"
        raise PlatewiseError(
            f"Expected --variable-genes with {option}, got none. Say how many genes, or leave {option.split()[0]} out; "
            "columns of obs come along in any case."
        )
    key = batch_key or (_DEFAULT_BATCH if several else None)
    source: Any = list(sources) if several else sources[0]
    adata = read_cells(source, **_arguments({**options, "batch_key": key if several else None}))
    return adata if variable_genes is None else restrict(adata, variable_genes, flavor or LOG_VARIANCE, key)


def _arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of the command as arguments of `read_cells`."""
    arguments = only_given(options)
    if "duplicate_genes" in arguments:
        arguments["duplicates"] = arguments.pop("duplicate_genes")
    if arguments.get("feature_type") == "all":
        arguments["feature_type"] = None
    return arguments


def facts(adata: ad.AnnData) -> dict[str, Any]:
    """What is said of counts, for machines."""
    said = adata.uns["platewise"]
    counted = {
        name: int(said.get(name, 0))
        for name in ("empty_cells_dropped", "empty_genes_dropped", "duplicate_genes", "duplicate_cells")
    }
    several = {"genes_left_out": int(said["genes_left_out"])} if "genes_left_out" in said else {}
    batches = {"batches": adata.obs[said["batch_key"]].value_counts(sort=False).to_dict()} if several else {}
    shape = {"cells": adata.n_obs, "genes": adata.n_vars, "entries": int(adata.X.nnz)}
    chosen = {"variable_genes": said["variable_genes"]} if "variable_genes" in said else {}
    return {**shape, "unstored": "zero", "counts_from": said["counts_from"], **counted, **several, **batches, **chosen}


def sentence(adata: ad.AnnData) -> str:
    """What is said of counts, for people."""
    from .output import count

    said = facts(adata)
    share = 100 * said["entries"] / (adata.n_obs * adata.n_vars)
    size = f"{count(adata.n_obs, 'cell')} x {count(adata.n_vars, 'gene')}"
    which = f" ({said['variable_genes']})" if "variable_genes" in said else ""
    parts = [f"{size}{which}, {count(said['entries'], 'count')} above 0 ({share:.2g} %)"]
    if said["counts_from"] != "X":
        parts.append(f"counts from {said['counts_from']}")
    parts += [f"{count(n, word)} {what}" for name, word, what in _COUNTED if (n := said.get(name, 0))]
    parts += [", ".join(f"{name}: {count(n, 'cell')}" for name, n in said.get("batches", {}).items())]
    side = [*adata.obs.columns, *adata.var.columns, *adata.obsm]
    return "; ".join([part for part in parts if part] + ([f"with {', '.join(side)}"] if side else []))


_COUNTED = (
    ("empty_cells_dropped", "empty cell", "dropped"),
    ("empty_genes_dropped", "empty gene", "dropped"),
    ("duplicate_genes", "gene", "under a name that was another's"),
    ("duplicate_cells", "cell", "under a name that was another's"),
    ("genes_left_out", "gene", "left out that not all sources have"),
)
