"""Commands that a fit whose latents are all of rows (a VAE) has no use for, and what to ask instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..inference import Fitted


def refuse_row_latents(fitted: Fitted, what: str, instead: str) -> None:
    """Check that a fit has latents of columns, or none that are read off the rows' entries.

    Args:
        fitted: The fit.
        what: What was asked for, in words.
        instead: What to do.

    Raises:
        PlatewiseError: If all its latents are of rows, and read off their entries.
    """
    from ..data.errors import PlatewiseError
    from ..posterior.rows import are_latents_of_rows

    if are_latents_of_rows(fitted):
        raise PlatewiseError(f"Expected a latent factor model for {what}, got {type(fitted.model).__name__}. {instead}")
