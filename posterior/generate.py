"""New cells from a fit: latents from their prior or from cells' posteriors, counts drawn from the likelihood.

    t   ~ cells of the data                       library size and covariates of a new cell, jointly
    z   ~ p(z)  or  q(z | x_t)                    like="prior" or "posterior"
    x   ~ likelihood(decoder(z, covariates), library size)

Where a model has a latent library size, it is drawn with the other latents. Drawn from posteriors, new cells resemble
the data's even where the posteriors together are not the prior; from the prior, they show what the model itself says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from jaxtyping import Int
from pyro import poutine

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.loader import RowLoader
from ..data.meaning import mark
from ..data.storage import read_h5ad
from ..inference.fitted import Fitted
from .covariates import Covariates
from .decoded import decoded, expectation
from .levels import Levels, chosen_levels, with_levels
from .rows import BATCH_ROWS, rows_of
from .training import training_matrix

Like = Literal["prior", "posterior"]


@dataclass(frozen=True)
class _Wish:
    """What new cells are to be like."""

    like: str
    levels: Mapping[str, float]
    library_size: float | None


def generate(
    fitted: Fitted,
    n: int,
    *,
    data: ad.AnnData | None = None,
    like: Like | str = "prior",
    library_size: float | int | None = None,
    batch: Levels | None = None,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> ad.AnnData:
    """Draw new cells.

    Args:
        fitted: A fit of counts whose latents are all of rows: a VAE.
        n: Cells to draw.
        data: Cells whose library sizes and covariates, drawn with replacement, the new ones get; the training data
            where the fit remembers them. Not read where nothing of them is needed.
        like: "prior" for embeddings from the prior; "posterior" for those of cells of the data, from their posteriors.
        library_size: One library size for all new cells, in counts; as in the data if None.
        batch: Level of the covariate "batch", or levels by covariate, for all new cells; as in the data if None.
        covariates: Those of the fit, for rows of the data.
        seed: Seed of everything random.

    Returns:
        Counts in CSR (float32) by the fit's genes, entries not stored being zeros. `obs` has the covariates, with
        levels and units of the columns they were read from; and, of cells from posteriors, `template`, the data's cell.

    Raises:
        PlatewiseError: If the fit is not one of counts with latents of rows, a level is not the fit's, or data are
            needed and there are none.
    """
    if n < 1 or like not in get_args(Like) or not (library_size is None or 0 < library_size < math.inf):
        raise PlatewiseError(
            "Expected at least 1 cell, like 'prior' or 'posterior', and a library size above 0, got "
            f"{n}, {like!r} and {library_size}. Change what is out of range."
        )
    wish = _Wish(like, chosen_levels(fitted, batch), None if library_size is None else float(library_size))
    blank = _blank_cell(fitted)
    with rows_of(fitted, blank, _blank_covariates(fitted), seed) as loader:
        needs = _needs(fitted, next(loader.in_order()), wish)
    if needs:
        cells = _cells(fitted, data, needs)
    else:
        cells, covariates = blank, _blank_covariates(fitted)
    with rows_of(fitted, cells, covariates, seed) as loader:
        picks = np.random.default_rng(seed).integers(cells.n_obs, size=n)
        parts = np.array_split(picks, math.ceil(n / BATCH_ROWS))
        counts = sp.vstack([_drawn(fitted, loader, part, wish) for part in parts], format="csr")
        about = _covariates(fitted, loader, picks, wish)
    return _labelled(fitted, counts, about, cells.obs_names[picks] if like == "posterior" else None)


def _needs(fitted: Fitted, cell: RowBatch, wish: _Wish) -> str:
    """What new cells are to get from others, in words; nothing where all of it is given or drawn by the model."""
    reads_totals = _reads_totals(fitted, cell)
    if wish.library_size is not None and not reads_totals:
        raise PlatewiseError(
            f"Expected a model that takes library sizes as given, to choose one, got "
            f"{type(fitted.model).__name__} that does not. Leave the library size out."
        )
    needs = ["embeddings"] if wish.like == "posterior" else []
    needs += ["library sizes"] if reads_totals and wish.library_size is None else []
    needs += ["covariates"] if set(fitted.covariates) - set(wish.levels) else []
    return " and ".join(needs)


def _reads_totals(fitted: Fitted, cell: RowBatch) -> bool:
    """Whether a cell's distribution depends on its total; same draws of the latents for both totals."""
    means = []
    for total in (2.0, 3.0):
        torch.manual_seed(0)
        likelihood = decoded(fitted.model, _with_total(cell, total))
        _require_discrete(fitted, likelihood.support)
        means.append(expectation(likelihood))
    return not torch.equal(*means)


def _require_discrete(fitted: Fitted, support: Any) -> None:
    if not support.is_discrete:
        raise PlatewiseError(
            f"Expected a likelihood of counts to draw sparse cells from, got {type(fitted.model).__name__} with a "
            "continuous one. Use denoise for its means."
        )


def _drawn(fitted: Fitted, loader: RowLoader, picks: Int[np.ndarray, " b"], wish: _Wish) -> sp.csr_matrix:
    """New cells, one for each pick of the data's."""
    own = loader.batch(picks)
    rows = torch.arange(len(picks), device=own.rows.device)  # a cell may be picked twice: the plate is of new ones
    own = replace(own, rows=rows, n_rows=len(picks))
    latents = poutine.trace(fitted.guide).get_trace(own) if wish.like == "posterior" else None
    given = own if wish.library_size is None else _with_total(own, wish.library_size)
    dense = decoded(fitted.model, with_levels(given, wish.levels), latents).sample()
    return sp.csr_matrix(dense.to(torch.float32).cpu().numpy())


def _with_total(batch: RowBatch, total: float) -> RowBatch:
    """The same rows with one total, in one entry each: a decoder reads no more of them."""
    n, like = len(batch.rows), batch.rows
    crow = torch.arange(n + 1, device=like.device)
    return replace(batch, crow=crow, col=torch.zeros_like(like), value=batch.value.new_full((n,), total))


def _cells(fitted: Fitted, data: ad.AnnData | None, needs: str) -> ad.AnnData:
    """The data that new cells are to take something of."""
    found = fitted.data if data is None else data
    if found is None:
        raise PlatewiseError(
            f"Expected data= whose {needs} new cells are to get, because the fit remembers none, got none. Give cells "
            "with the fit's genes."
        )
    if isinstance(found, ad.AnnData):
        return found
    remembered = read_h5ad(found)
    training_matrix(fitted, remembered)
    return remembered


def _blank_cell(fitted: Fitted) -> ad.AnnData:
    """A cell that stands for none in particular."""
    x = sp.csr_matrix(([1.0], ([0], [0])), shape=(1, fitted.n_cols), dtype=np.float32)
    named = {"obs": pd.DataFrame(index=["cell"]), "var": pd.DataFrame(index=fitted.var.index)}
    return ad.AnnData(x, uns={"platewise": dict(fitted.meaning)}, **named)


def _blank_covariates(fitted: Fitted) -> dict[str, np.ndarray]:
    return {name: np.zeros((1, *spec["shape"]), dtype=spec["dtype"]) for name, spec in fitted.covariates.items()}


def _covariates(fitted: Fitted, loader: RowLoader, picks: np.ndarray, wish: _Wish) -> dict[str, object]:
    """Covariates of the new cells, by the name of their column, in its levels and units."""
    found: dict[str, object] = {}
    for name, spec in fitted.covariates.items():
        values = loader.covariates[name][picks]
        if name in wish.levels:
            values = np.full_like(values, wish.levels[name])
        found[spec.get("column", name)] = _in_units(values, spec)
    return found


def _in_units(values: np.ndarray, spec: Mapping[str, Any]) -> object:
    if "levels" in spec:
        return pd.Categorical.from_codes(values, categories=pd.Index(spec["levels"]))
    return values * spec["sd"] + spec["mean"] if "sd" in spec else values


def _labelled(
    fitted: Fitted, counts: sp.csr_matrix, about: Mapping[str, object], template: pd.Index | None
) -> ad.AnnData:
    """The counts with names on both sides."""
    of = fitted.meaning["row_name"]
    cells = ad.AnnData(counts, var=fitted.var.drop(columns="n_entries", errors="ignore"))
    cells.obs_names = [f"{of}{i}" for i in range(counts.shape[0])]
    for name, values in about.items():
        (cells.obsm if getattr(values, "ndim", 1) > 1 else cells.obs)[name] = values
    if template is not None:
        cells.obs["template"] = np.asarray(template)
    ids = {"col_ids": fitted.meaning["col_ids"], "row_name": of, "col_name": fitted.meaning["col_name"]}
    return mark(cells, unstored="zero", **ids)
