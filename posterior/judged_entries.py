"""The entries that predictions are judged by: those held out, or all cells of some rows."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np

from ..data.errors import PlatewiseError
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .blocks import Request
from .columns import on_columns_of
from .held_out import held_out
from .names import Aligned, align_seen
from .row_references import some_rows
from .rows import are_latents_of_rows

MAX_CELLS = 1 << 18  # where all cells of rows are judged: of more, those of some rows at random


def judged_entries(fitted: Fitted, test: ad.AnnData | Path | str, seed: int = 0) -> Request:
    """Entries to judge predictions by, aligned with the fit by name.

    Args:
        fitted: The fit.
        test: Held-out entries, or their .h5ad. Where entries not stored are observed zeros, rows: all their cells are
            judged, of at most 262,144 cells (more would say no more), the rows drawn at random.
        seed: Seed of that draw.

    Raises:
        PlatewiseError: If the fit is one of whole rows (a VAE), which predicts no entries, or `test` does not fit it.
    """
    if fitted.meaning["unstored"] == "missing":
        return held_out(fitted, test)
    if are_latents_of_rows(fitted):
        raise PlatewiseError(
            f"Expected a fit that predicts entries, got {type(fitted.model).__name__}, which describes whole rows. Use "
            "score_rows and posterior_predictive_checks."
        )
    rows = on_columns_of(fitted, test if isinstance(test, ad.AnnData) else read_h5ad(test))
    some = some_rows(rows, None, max(MAX_CELLS // rows.n_vars, 1), seed)
    cols = Aligned(np.arange(rows.n_vars), rows.n_vars, [])
    return Request.of_cells(align_seen(some.obs_names, fitted, "obs"), cols, some.X.toarray())
