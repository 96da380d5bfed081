"""Denoised expression: the posterior mean of each cell's expectation of a gene, with intervals.

    mean_ij = E_q[E[x_ij | z_i]]     lower, upper: equal-tailed quantiles of E[x_ij | z_i], z_i ~ q(z_i | x_i)

The interval is one of the expectation, and not of a count, whose own noise comes on top of it. Decoded with other
covariates than the cell's own, expectations of cells of several batches are comparable.

References:
    Lopez, Regier, Cole, Jordan and Yosef (2018), Deep generative modeling for single-cell transcriptomics.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import anndata as ad
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.normalise import NORMALISED
from ..inference.fitted import Fitted
from .chosen_genes import chosen_genes, places_of
from .covariates import Covariates
from .decoded import decoded, expectation, has_totals, shares, unit_of
from .denoised_factors import LAYERS, known_rows, of_factors
from .guide_draws import guide_draws
from .levels import Levels, chosen_levels, with_levels
from .rows import BATCH_ROWS, rows_of

logger = logging.getLogger("platewise")

LibrarySize = Literal["observed"] | float | int | str
MAX_NUMBERS = 200_000_000  # in a layer, 0.8 GB
MAX_DRAWN = 1 << 24  # numbers held at once: draws times rows times genes


@dataclass(frozen=True)
class _Wanted:
    """What is read out of the decoder."""

    cols: Int[Tensor, " k"]
    library_size: float | None
    levels: Mapping[str, float]
    prob: float
    draws: int


def denoise(
    fitted: Fitted,
    data: ad.AnnData,
    *,
    genes: object = None,
    library_size: LibrarySize = "observed",
    batch: Levels | None = None,
    prob: float = 0.9,
    draws: int = 100,
    covariates: Covariates | None = None,
    to: ad.AnnData | None = None,
    seed: int = 0,
) -> ad.AnnData:
    """Expected expression of cells and genes, with intervals of the expectation (not of a count).

    Of a VAE's counts it is in counts: of the cell's own library size, or of a common one, which makes cells comparable.
    With extra zeros it is the mean of the negative binomial, which they hide. Of a factor model of log-normalised
    expression it is its linear predictor, in that unit and in closed form. Factor models know their own cells alone, by
    name.

    Args:
        fitted: The fit.
        data: The cells, with the fit's genes; of a VAE they need not be cells of the fit.
        genes: Genes to read out, one or many; all of the fit if None.
        library_size: "observed" for a cell's own (where it is latent, draws of it), or one for all, say 1e4. Counts
            alone have one.
        batch: Level of the covariate "batch", or levels by covariate, to decode all cells with. They are encoded with
            their own.
        prob: Probability of the interval, equal tails.
        draws: Draws of each cell's latents; not read where there is a closed form. With fewer than 2 / (1 - prob) - 1,
            the interval is from the least draw to the greatest: narrower than asked for, as logger "platewise" says.
        covariates: Those of the fit, for rows of `data`, if a VAE takes any.
        to: A matrix of the same cells, whose genes the fit all knows, to write the layers into in place: `denoised`,
            `denoised_lower` and `denoised_upper`.
        seed: Seed of the draws.

    Returns:
        A container of the cells and genes without `X`, with layers `mean`, `lower` and `upper`, dense (n_cells,
        n_genes) float32, and the settings in `uns["denoise"]`, their unit among them; or `to` itself.

    Raises:
        PlatewiseError: If a gene or a level is not the fit's, an option is out of range or does not apply to the model,
            the data do not fit it, or a layer would have more than 2e8 numbers.
    """
    cols = places_of(fitted, _names(fitted, data, genes, to))
    _require_range(data.n_obs * len(cols), prob, draws)
    total, has_table = _total(library_size), hasattr(fitted.model, "factor_sites")
    if has_table and (batch is not None or covariates):
        raise PlatewiseError(
            "Expected a fit that decodes with covariates to give them or a batch, got a factor model. Fit a VAE."
        )
    if has_table and NORMALISED in fitted.meaning:
        if total is not None:
            raise _no_library_size("a factor model of log-normalised expression")
        layers, unit = of_factors(fitted, data, cols, prob), "log-normalised expression"
    else:
        wanted = _Wanted(torch.from_numpy(cols), total, chosen_levels(fitted, batch), prob, draws)
        layers, unit = _sampled(fitted, data, wanted, covariates, seed), unit_of(fitted, total)
    about = {"unit": unit, "library_size": str(library_size), "batch": _said(batch), "prob": prob, "draws": draws}
    return _written(fitted, data, cols, layers, about, to)


def _sampled(
    fitted: Fitted, data: ad.AnnData, wanted: _Wanted, covariates: Covariates | None, seed: int
) -> dict[str, np.ndarray]:
    """The layers, some rows at a time: memory beyond them is that of one block."""
    _say_if_narrow(wanted)
    k = len(wanted.cols)
    layers = {name: np.empty((data.n_obs, k), dtype=np.float32) for name in LAYERS}
    most = max(min(BATCH_ROWS, MAX_DRAWN // (wanted.draws * k)), 1)
    wanted = replace(wanted, cols=wanted.cols.to(fitted.device))
    if hasattr(fitted.model, "factor_sites"):
        opened = known_rows(fitted, data, most, seed)
    else:
        opened = _any_rows(fitted, data, most, covariates, seed)
    with opened as batches:
        for rows, batch in batches:
            drawn = _expectations(fitted, batch, wanted)
            for name, x in zip(LAYERS, _summary(drawn, wanted.prob), strict=True):
                layers[name][rows] = x.cpu().numpy()
    return layers


@contextmanager
def _any_rows(
    fitted: Fitted, data: ad.AnnData, most: int, covariates: Covariates | None, seed: int
) -> Iterator[Iterator[tuple[np.ndarray, RowBatch]]]:
    """Positions in the data, and batches, of cells whose latents are read off their entries."""
    with rows_of(fitted, data, covariates, seed) as loader:
        yield ((batch.rows.cpu().numpy(), batch) for batch in replace(loader, batch_rows=most).in_order())


def _expectations(fitted: Fitted, batch: RowBatch, wanted: _Wanted) -> Float[Tensor, "draws b k"]:
    """Draws of the expectations of the chosen genes."""
    decode_as = with_levels(batch, wanted.levels)
    drawn = batch.value.new_empty(wanted.draws, len(batch.rows), len(wanted.cols))
    for i, latents in enumerate(guide_draws(fitted.guide, batch, wanted.draws)):
        likelihood = decoded(fitted.model, decode_as, latents)
        drawn[i] = _in_units(likelihood, wanted.library_size)[:, wanted.cols]
    return drawn


def _in_units(likelihood: Distribution, library_size: float | None) -> Float[Tensor, "b n_cols"]:
    """Expectations of all entries: of each row's own total, or of a common one."""
    if library_size is None:
        return expectation(likelihood)
    if not has_totals(likelihood):
        raise _no_library_size(type(likelihood).__name__)
    return library_size * shares(likelihood)


def _summary(drawn: Float[Tensor, "draws b k"], prob: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, and the interval between whose ends the next draw falls with this probability."""
    ordered = drawn.sort(0).values
    return drawn.mean(0), _quantile(ordered, (1 - prob) / 2), _quantile(ordered, (1 + prob) / 2)


def _say_if_narrow(wanted: _Wanted) -> None:
    needed = math.ceil(2 / (1 - wanted.prob) - 1 - 1e-9)  # 19 for 0.9, whatever rounding makes of it
    if wanted.draws < needed:
        of, held = f"{100 * wanted.prob:g}%", 100 * (wanted.draws - 1) / (wanted.draws + 1)
        logger.warning("of %d draws, no interval is wider than %.3g%%: %s takes %d", wanted.draws, held, of, needed)


def _quantile(ordered: Float[Tensor, "draws b k"], p: float) -> Float[Tensor, "b k"]:
    place = min(max(p * (len(ordered) + 1) - 1, 0), len(ordered) - 1)
    low = math.floor(place)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], place - low)


def _names(fitted: Fitted, data: ad.AnnData, genes: object, to: ad.AnnData | None) -> np.ndarray:
    """Names of the genes to read out, each once."""
    if to is None:
        return chosen_genes(fitted, genes)
    if genes is not None or not to.obs_names.equals(data.obs_names):
        got = "chosen genes" if genes is not None else "other cells, or another order"
        raise PlatewiseError(
            f"Expected all genes, and the cells of the data, to write into a matrix, got {got}. Leave it out, and take "
            "what comes back."
        )
    return np.asarray(to.var_names, dtype=object)


def _require_range(n_numbers: int, prob: float, draws: int) -> None:
    if n_numbers > MAX_NUMBERS:
        raise PlatewiseError(
            f"Expected at most {MAX_NUMBERS:,} numbers in a layer, which is dense, got {n_numbers:,}. Choose genes."
        )
    if not 0 < prob < 1:
        raise PlatewiseError(f"Expected a probability between 0 and 1, got {prob}. 0.9 gives a 90 % interval.")
    if draws < 2:
        raise PlatewiseError(f"Expected at least 2 draws, got {draws}. Leave it out for 100.")


def _total(library_size: LibrarySize) -> float | None:
    """The library size for all cells; None for each cell's own."""
    if library_size == "observed":
        return None
    try:
        total = float(library_size)
    except (TypeError, ValueError):
        total = math.nan
    if not (math.isfinite(total) and total > 0):
        raise PlatewiseError(
            f"Expected a library size of 'observed' or a number above 0, got {library_size!r}. 10000 is usual."
        )
    return total


def _no_library_size(got: str) -> PlatewiseError:
    return PlatewiseError(f"Expected a likelihood of counts for a library size, got {got}. Leave it at 'observed'.")


def _said(batch: Levels | None) -> str:
    if isinstance(batch, Mapping):
        return ", ".join(f"{name}={level}" for name, level in batch.items())
    return "own" if batch is None else str(batch)


def _written(
    fitted: Fitted,
    data: ad.AnnData,
    cols: np.ndarray,
    layers: dict[str, np.ndarray],
    about: dict[str, Any],
    to: ad.AnnData | None,
) -> ad.AnnData:
    """The layers in a container of their own, or beside what a given one has."""
    if to is not None:
        to.layers.update({"denoised" if name == "mean" else f"denoised_{name}": x for name, x in layers.items()})
        to.uns["denoise"] = about
        return to
    kept = {"obs": data.obs.copy(), "obsm": dict(data.obsm)}
    return ad.AnnData(var=fitted.var.iloc[cols].copy(), layers=layers, uns={"denoise": about}, **kept)
