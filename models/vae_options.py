"""Which options of a VAE go with each other, and its likelihood with the values of a batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral

from torch import nn

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from .likelihoods import LIKELIHOODS

BATCH = "batch"  # the category that dispersions and library sizes may depend on


def refuse_unfit_sizes(latent: int, hidden: int, layers: int, dropout: float) -> None:
    """Check the sizes of the networks.

    Raises:
        PlatewiseError: If one is out of range, or no whole number.
    """
    for name, value, least in (("latent", latent, 1), ("hidden", hidden, 1), ("layers", layers, 0)):
        if not isinstance(value, Integral) or value < least:
            raise PlatewiseError(f"Expected {name} of at least {least}, got {value}. Give a whole number.")
    if not 0 <= dropout < 1:
        raise PlatewiseError(f"Expected dropout from 0 to below 1, got {dropout}. Leave it out for 0.4.")


def refuse_unfit_options(
    likelihood: str, library: str, dispersion: str, sigma: float | str | None, has_batch: bool
) -> None:
    """Check the options of a likelihood.

    Raises:
        PlatewiseError: If a name is not known, or an option does not go with the likelihood.
    """
    if likelihood not in LIKELIHOODS:
        raise PlatewiseError(f"Expected a likelihood among {', '.join(LIKELIHOODS)}, got {likelihood!r}. Choose one.")
    choices = {"library": (library, ("observed", "latent")), "dispersion": (dispersion, ("gene", "gene-batch"))}
    for name, (value, known) in choices.items():
        if value not in known:
            raise PlatewiseError(f"Expected {name} among {', '.join(known)}, got {value!r}. Choose one.")
    if library == "latent" and likelihood != "poisson" and "negative-binomial" not in likelihood:
        raise PlatewiseError(
            f"Expected poisson or a negative binomial for a latent library, got {likelihood}, which has no library "
            'size. Leave library at "observed".'
        )
    if dispersion == "gene-batch" and not ("negative-binomial" in likelihood and has_batch):
        got = f"{likelihood} without one" if "negative-binomial" in likelihood else likelihood
        raise PlatewiseError(
            f'Expected a negative binomial and a category "batch" for dispersion="gene-batch", got {got}. '
            'Say categories={"batch": ...}, or dispersion="gene".'
        )
    _refuse_unfit_sigma(likelihood, sigma)


def _refuse_unfit_sigma(likelihood: str, sigma: float | str | None) -> None:
    if sigma is None:
        return
    if likelihood != "gaussian":
        raise PlatewiseError(f"Expected sigma for gaussian alone, got it for {likelihood}. Leave it out.")
    if sigma != "shared" and (isinstance(sigma, str) or not (math.isfinite(sigma) and sigma > 0)):
        raise PlatewiseError(
            f'Expected sigma positive and finite, or "shared", got {sigma!r}. Leave it out to learn it.'
        )


def refuse_unfit_covariates(categories: Mapping[str, int], continuous: Mapping[str, int]) -> None:
    """Check the covariates that a decoder is to read.

    Raises:
        PlatewiseError: If one has no levels or numbers, is named twice, or as no part of a module can be.
    """
    for name, size in (*categories.items(), *continuous.items()):
        if not isinstance(size, Integral) or size < 1:
            raise PlatewiseError(
                f"Expected covariate {name!r} with its number of levels (categories) or width (continuous), 1 or more, "
                f"got {size!r}. The column to read it off goes to fit: covariates={{{name!r}: column}}."
            )
    if both := set(categories) & set(continuous):
        raise PlatewiseError(f"Expected each covariate once, got {min(both)!r} as both kinds. Leave one out.")
    for name in categories:  # its offsets are a part of the decoder by this name
        if not name or "." in name or hasattr(nn.ModuleDict, name):
            raise PlatewiseError(
                f"Expected names of categories without dots that torch does not use itself, got {name!r}. Name it "
                "otherwise; the column to read it off may be called anything."
            )


def refuse_unfit_values(likelihood: str, batch: RowBatch) -> None:
    """Check that some rows hold what a likelihood is of.

    Raises:
        PlatewiseError: If a value has no probability, or an entry is stored twice.
    """
    place = batch.row * batch.n_cols + batch.col
    if len(place.unique()) < len(place):
        raise PlatewiseError("Expected each entry once, got duplicate entries. Merge them, e.g. X.sum_duplicates().")
    kind = LIKELIHOODS[likelihood]
    valid = kind.entry.check(batch.value)
    if not valid.all():
        wrong = batch.value[~valid][0].item()
        raise PlatewiseError(
            f"Expected {kind.entry_is} for {likelihood}, got {wrong:g}. Give the raw counts, or choose a likelihood or "
            "model for such values."
        )
