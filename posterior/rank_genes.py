"""Genes ranked by how much more some cells express them than others, by what the fit knows of them.

| model                     | score of gene j                                                             | in         |
|---------------------------|-----------------------------------------------------------------------------|------------|
| with factors              | B_j . m, with m the chosen cells' mean embedding minus the others', centred | log units  |
| VAE with a linear decoder | the same, of the gene's loadings                                            | log units  |
| VAE                       | mean contrast of decoded pairs of cells                                     | log2 units |

See `posterior.inner_product`, `posterior.loadings` and `posterior.decoded_contrast`.

Genes are in order of this score, and not of its certainty: where there are many cells all differences are certain, and
of a gene that is nearly absent the ratio may be large but what a cell holds is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from jaxtyping import Float

from ..data.errors import PlatewiseError
from ..data.matrix import by_rows
from ..data.preparation import is_expression, require_gaps_like
from ..inference.fitted import Fitted
from ..models.vae import VAE
from .chosen_genes import chosen_genes, places_of
from .covariates import Covariates
from .decoded_contrast import contrast_scores
from .inner_product import Positions, factor_scores
from .loadings import loading_scores
from .reader import reading
from .rows import rows_of
from .selection import Cells, chosen_and_others


def rank_genes(
    fitted: Fitted,
    data: ad.AnnData,
    cells: Cells,
    *,
    against: Cells | None = None,
    genes: Sequence[object] | None = None,
    draws: int = 1000,
    covariates: Covariates | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank genes by how much more the chosen cells express them than others do, as the fit has it.

    Args:
        fitted: A fit of gene expression: a model with factors, or a VAE.
        data: The cells, with the columns that a query reads in `obs`: cells of the fit for a model with factors (all of
            its training data where its guide keeps no rows), any on the fit's genes for a VAE.
        cells: The chosen ones: a query on the columns of `obs` (`"label == 'B'"`), or names.
        against: Those to compare with, likewise; all that are not chosen if None.
        genes: Which genes to rank; all if None.
        draws: Draws of the mean embeddings' difference of a model with factors; pairs of cells of a VAE.
        covariates: Those of the fit, for the rows of `data`, if a VAE takes any.
        seed: Seed of everything random.

    Returns:
        One row per gene, by name, the highest score first. `score`: in units of the fitted values (log expression)
        beyond the average gene's for a model with factors, log share beyond the average gene's for a linear decoder, a
        log2 fold change for other VAEs of counts. `sd`, and `probability` of a score above 0: of the posterior for the
        first two (of the groups' means); over pairs of a chosen cell and another for other VAEs. `mean_in` and
        `mean_out`: mean entry of the chosen cells and of the others, as `data` holds them. In `attrs`, `"score"` says
        what the score is.

    Raises:
        PlatewiseError: If the fit is of another kind, the cells or genes are unknown, none or all, or the data are not
            what the model takes.
    """
    _refuse_unfit(fitted, draws)
    require_gaps_like(data, fitted.meaning, needed_by=type(fitted.model).__name__)
    at = places_of(fitted, chosen_genes(fitted, genes))
    chosen, others = chosen_and_others(data.obs, cells, against, fitted.meaning["row_name"])
    means = [_mean_entries(fitted, data, rows) for rows in (chosen, others)]
    if hasattr(fitted.model, "factor_sites"):
        scores = _of_factors(fitted, data, chosen, others, draws, covariates, seed)
    else:
        scores = _of_vae(fitted, data, chosen, others, draws, covariates, seed)
    found = np.column_stack([scores, *means])
    table = pd.DataFrame(found, fitted.var.index, columns=["score", "sd", "probability", "mean_in", "mean_out"])
    table = table.iloc[at].rename_axis(fitted.meaning["col_name"])
    table = table.sort_values("score", ascending=False, kind="stable")
    table.attrs["score"] = _score_in_words(fitted)
    return table


def _score_in_words(fitted: Fitted) -> str:
    model: Any = fitted.model
    name = getattr(model, "likelihood_name", "gaussian")
    unit = {"gaussian": "units of the fitted values", "bernoulli": "log odds"}.get(name, "natural log units")
    if hasattr(model, "factor_sites"):
        return f"inner product of a gene's embedding with the cells' mean difference, in {unit}"
    if not len(model.decoder.hidden):
        return f"inner product of a gene's loadings with the cells' mean difference, in {unit}"
    others = {"bernoulli": "difference in the probability of a 1", "gaussian": "difference of decoded means"}
    return others.get(name, "log2 fold change of decoded expression")


def _refuse_unfit(fitted: Fitted, draws: int) -> None:
    if draws < 2:
        raise PlatewiseError(f"Expected at least 2 draws, got {draws}. Leave it out for 1000.")
    if not is_expression(fitted.meaning):
        raise PlatewiseError(
            "Expected a fit of gene expression to rank genes by, got one of ratings. Use predict or recommend."
        )
    if not (hasattr(fitted.model, "factor_sites") or isinstance(fitted.model, VAE)):
        raise PlatewiseError(
            f"Expected a model with factors or a VAE to rank genes by, got {type(fitted.model).__name__}. Fit "
            "LatentFactor or VAE."
        )


def _mean_entries(fitted: Fitted, data: ad.AnnData, rows: Positions) -> Float[np.ndarray, " n_cols"]:
    """Mean entry of each of the fit's columns over some rows, as the data hold them."""
    if not data.var_names.is_unique:
        twice = data.var_names[data.var_names.duplicated()][0]
        raise PlatewiseError(f"Expected each gene once, got {twice!r} more than once. Merge them first.")
    code = data.var_names.get_indexer(fitted.var.index)
    if (code < 0).any():
        raise PlatewiseError(
            f"Expected all {fitted.n_cols} genes of the fit, got {int((code >= 0).sum())}, without "
            f"{fitted.var.index[code < 0][0]!r}. Pass data that have them."
        )
    x: Any = by_rows(data).X
    return np.asarray(x[rows].sum(0, dtype=np.float64)).ravel()[code] / len(rows)


def _of_factors(
    fitted: Fitted,
    data: ad.AnnData,
    chosen: Positions,
    others: Positions,
    draws: int,
    covariates: Covariates | None,
    seed: int,
) -> Float[np.ndarray, "n_cols 3"]:
    code = fitted.obs.index.get_indexer(data.obs_names)
    if len(unknown := [*chosen[code[chosen] < 0], *others[code[others] < 0]]):
        raise PlatewiseError(
            f"Expected cells of the fit, got {data.obs_names[unknown[0]]!r}. Pass the training data, or fold the new "
            "cells in and read that fit."
        )
    needs_entries = not getattr(fitted.guide, "hold_rows", True)
    with reading(fitted, seed, covariates, data if needs_entries else None) as reader:
        return factor_scores(reader, np.sort(code[chosen]), np.sort(code[others]), draws)


def _of_vae(
    fitted: Fitted,
    data: ad.AnnData,
    chosen: Positions,
    others: Positions,
    draws: int,
    covariates: Covariates | None,
    seed: int,
) -> Float[np.ndarray, "n_cols 3"]:
    model: Any = fitted.model
    with rows_of(fitted, data, covariates, seed) as loader:
        if not len(model.decoder.hidden):
            return loading_scores(fitted, model, loader, chosen, others)
        return contrast_scores(fitted, model, loader, chosen, others, draws)
