"""Which options of a VAE go with each other."""

from __future__ import annotations

import math

from ..data.errors import PlatewiseError
from .likelihoods import LIKELIHOODS

BATCH = "batch"  # the category that dispersions and library sizes may depend on


def refuse_unfit_sizes(latent: int, hidden: int, layers: int, dropout: float) -> None:
    """Check the sizes of the networks.

    Raises:
        PlatewiseError: If one is out of range.
    """
    for name, value, least in (("latent", latent, 1), ("hidden", hidden, 1), ("layers", layers, 0)):
        if value < least:
            raise PlatewiseError(f"Expected {name} of at least {least}, got {value}.")
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
