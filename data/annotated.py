"""Counts within an AnnData or an .h5ad, wherever in it they are: X, layers["counts"], raw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import h5py
import pandas as pd

from .counts import REMEDY, Counts, as_csr, fault_of, settled
from .errors import PlatewiseError
from .storage import require_h5ad

LAYER = "layers['counts']"


@dataclass(frozen=True)
class _Candidate:
    where: str
    load: Callable[[], Any]
    var: pd.DataFrame


def counts_of_anndata(adata: ad.AnnData, label: str = "the AnnData") -> Counts:
    """Raw counts of an AnnData in memory, which stays as it is.

    Raises:
        PlatewiseError: It says that it holds ratings, or holds no raw counts in any of the three places.
    """
    _require_counts(dict(adata.uns.get("platewise", {})), label)
    return _first_counts(_candidates(adata), adata.obs, dict(adata.obsm), adata.uns.get("platewise", {}), label)


def _candidates(adata: ad.AnnData) -> Iterator[_Candidate]:
    if adata.X is not None:
        yield _Candidate("X", lambda: adata.X.copy(), adata.var)
    if "counts" in adata.layers:
        yield _Candidate(LAYER, lambda: adata.layers["counts"].copy(), adata.var)
    if adata.raw is not None:
        yield _Candidate("raw", lambda: adata.raw.X.copy(), adata.raw.var)


def counts_of_h5ad(path: Path) -> Counts:
    """Raw counts of an .h5ad: one matrix of it is in memory at a time, and nothing else of its layers.

    Raises:
        PlatewiseError: As `counts_of_anndata`; or the file is missing, damaged or no .h5ad.
    """
    require_h5ad(path)
    try:
        with h5py.File(path, "r") as file:
            said = _element(file, "uns/platewise", {})
            _require_counts(said, str(path))
            obs, obsm = _element(file, "obs", None), _element(file, "obsm", {})
            return _first_counts(_stored_candidates(file), obs, obsm, said, str(path))
    except PlatewiseError:
        raise
    except Exception as error:  # anndata and h5py raise a dozen types on a damaged file
        raise PlatewiseError(
            f"Expected a whole .h5ad file, got a truncated or damaged one: {path}. Make it again."
        ) from error


def _stored_candidates(file: h5py.File) -> Iterator[_Candidate]:
    var = ad.io.read_elem(file["var"])
    for where, name, table in (("X", "X", "var"), (LAYER, "layers/counts", "var"), ("raw", "raw/X", "raw/var")):
        if name in file and file[name].attrs.get("encoding-type") != "null":
            stored = file[name]
            # What is dense on disk is read by blocks of rows.
            load = (lambda x=stored: x) if isinstance(stored, h5py.Dataset) else (lambda x=stored: ad.io.read_elem(x))
            yield _Candidate(where, load, var if table == "var" else ad.io.read_elem(file[table]))


def _element(file: h5py.File, name: str, default: Any) -> Any:
    return ad.io.read_elem(file[name]) if name in file else default


def recorded_unstored(path: Path) -> str | None:
    """What an .h5ad says that entries not stored mean: "missing", "zero", or "" for nothing; None if it is no .h5ad."""
    try:
        with h5py.File(path, "r") as file:
            value = _element(file, "uns/platewise", {}).get("unstored", "")
            return str(value) if "obs" in file and "var" in file else None
    except Exception:  # damaged or missing: whoever reads it says so
        return None


def _require_counts(said: dict[str, Any], label: str) -> None:
    if said.get("unstored") == "missing":
        raise PlatewiseError(
            f"Expected counts (entries not stored are zeros), got ratings (they are missing): {label}. "
            "Read it with read_ratings (without --cells); if it says so wrongly, make it again from its source."
        )


def _first_counts(
    candidates: Iterator[_Candidate], obs: pd.DataFrame, obsm: dict[str, Any], said: dict[str, Any], label: str
) -> Counts:
    """The first candidate that is raw counts."""
    faults = []
    for candidate in candidates:
        x = as_csr(candidate.load())
        fault = fault_of(x, obs, candidate.var)
        if fault is None:
            kinds = {kind: said.get(kind, "str") for kind in ("row_ids", "col_ids")}
            return Counts(settled(x), obs, candidate.var, obsm, candidate.where, **kinds)
        faults.append(f"{candidate.where} with {fault}")
    raise PlatewiseError(f"Expected raw counts in {label}, got {'; '.join(faults) or 'no matrix'}. {REMEDY}")
