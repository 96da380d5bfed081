"""Highly variable genes: by the variance of log-normalised counts, or as scanpy has them."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp

from .errors import PlatewiseError
from .matrix import require_csr
from .meaning import require_unstored
from .normalise import TARGET

logger = logging.getLogger("platewise")

LOG_VARIANCE = "log-variance"
_SCANPY = ("seurat_v3", "seurat", "cell_ranger")
_LOGARITHMS = ("seurat", "cell_ranger")  # of these scanpy wants log-normalised values
_CHUNK = 1 << 22


def variable_genes(
    adata: ad.AnnData, n: int = 2000, flavor: str = LOG_VARIANCE, batch_key: str | None = None
) -> ad.AnnData:
    """Restrict counts to the genes that vary most from cell to cell.

    Args:
        adata: Raw counts. ``var["variable"]`` is set in place: whether a gene is one of them.
        n: Number of genes.
        flavor: ``"log-variance"``: the variance of log1p(1e4 x / total), total the counts of the cell; or scanpy's
            ``"seurat_v3"``, ``"seurat"`` or ``"cell_ranger"``, where scanpy is installed.
        batch_key: Column of ``obs``: genes that vary within batches are wanted, not those that differ between them.
            Log-variance is then pooled over batches, each around its own mean.

    Returns:
        A copy with these genes, in their order; ``uns["platewise"]["variable_genes"]`` holds the flavor.

    Raises:
        PlatewiseError: The matrix holds no counts, or no CSR; ``n`` is none of 1 to the number of genes; the flavor is
            not known, or scanpy is not installed; or there is no such column, or it has gaps.
    """
    require_unstored(adata, "zero", needed_by="variable genes")
    require_csr(adata.X)
    if not 1 <= n <= adata.n_vars:
        raise PlatewiseError(
            f"Expected 1 to {adata.n_vars} variable genes, as there are genes, got {n}. Take fewer (--variable-genes)."
            if n > 0
            else f"Expected 1 variable gene or more, got {n}. Take more (--variable-genes)."
        )
    batches = _batches(adata, batch_key)
    if flavor == LOG_VARIANCE:
        variance = _pooled_variance(adata.X, batches)
        chosen = np.zeros(adata.n_vars, dtype=bool)
        chosen[np.argsort(-variance, kind="stable")[:n]] = True
    else:
        chosen = _by_scanpy(adata, n, flavor, batch_key)
    adata.var["variable"] = chosen
    restricted = adata[:, chosen].copy()
    restricted.uns["platewise"]["variable_genes"] = flavor
    if n_empty := int(np.count_nonzero(np.diff(restricted.X.indptr) == 0)):
        logger.info("%d cells have no count of these %d genes", n_empty, n)
    return restricted


def _batches(adata: ad.AnnData, batch_key: str | None) -> np.ndarray:
    """A code per cell; one for all without a key."""
    if batch_key is None:
        return np.zeros(adata.n_obs, dtype=np.int64)
    if batch_key not in adata.obs:
        there = ", ".join(adata.obs.columns) or "none"
        raise PlatewiseError(f"Expected a column {batch_key!r} of cells, got {there}. Name one of these (--batch-key).")
    codes = adata.obs[batch_key].astype("category").cat.codes.to_numpy().astype(np.int64)
    if (codes < 0).any():
        raise PlatewiseError(
            f"Expected a batch for every cell in {batch_key!r}, got {int((codes < 0).sum())} cells without. "
            "Fill or drop them."
        )
    return codes


def _pooled_variance(x: sp.csr_matrix, batches: np.ndarray) -> np.ndarray:
    """Variance within batches, by gene; their squares about the batch's own mean are added up."""
    sizes = np.bincount(batches)
    squares = np.zeros(x.shape[1])
    for batch, size in enumerate(sizes):
        part = x if size == len(batches) else x[batches == batch]
        total, total_squares = _log_moments(part)
        squares += np.maximum(total_squares - total**2 / size, 0.0)
    return squares / max(len(batches) - len(sizes), 1)


def _log_moments(x: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Sum and sum of squares of log1p(1e4 x / total) by gene: zeros add nothing to either."""
    scale = TARGET / np.maximum(np.asarray(x.sum(axis=1, dtype=np.float64)).ravel(), 1.0)
    sums, squares = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    step = max(int(_CHUNK / max(x.nnz / x.shape[0], 1.0)), 1)
    for start in range(0, x.shape[0], step):
        indptr = x.indptr[start : start + step + 1]
        entries = slice(indptr[0], indptr[-1])
        y = np.log1p(x.data[entries] * np.repeat(scale[start : start + step], np.diff(indptr)))
        sums += np.bincount(x.indices[entries], weights=y, minlength=x.shape[1])
        squares += np.bincount(x.indices[entries], weights=y * y, minlength=x.shape[1])
    return sums, squares


def _by_scanpy(adata: ad.AnnData, n: int, flavor: str, batch_key: str | None) -> np.ndarray:
    if flavor not in _SCANPY:
        known = ", ".join((LOG_VARIANCE, *_SCANPY))
        raise PlatewiseError(
            f"Expected a flavor of variable genes out of {known}, got {flavor!r}. Choose one (--flavor)."
        )
    try:
        sc: Any = import_module("scanpy")
    except ImportError as error:
        raise PlatewiseError(
            f'Expected scanpy for flavor "{flavor}", got none installed. '
            f'Install it, or take "{LOG_VARIANCE}" (--flavor).'
        ) from error
    given: Any = ad.AnnData(adata.X.copy(), obs=adata.obs.copy(), var=adata.var[[]].copy())
    if flavor in _LOGARITHMS:
        sc.pp.normalize_total(given, target_sum=TARGET)
        sc.pp.log1p(given)
    try:
        sc.pp.highly_variable_genes(given, n_top_genes=n, flavor=flavor, batch_key=batch_key)
    except ImportError as error:  # seurat_v3 wants scikit-misc
        reason = " ".join(str(error).split()).rstrip(".")
        raise PlatewiseError(f"Expected all that scanpy needs for {flavor!r}, got: {reason}. Install it.") from error
    return given.var["highly_variable"].to_numpy(dtype=bool)
