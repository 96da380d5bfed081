"""What a file of cells must hold for a likelihood, checked before anything is read or computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anndata as ad


def require_values(data: Path, model: str, likelihood: str, from_disk: bool) -> None:
    """Check that a file holds what a likelihood is of.

    Args:
        data: The file.
        model: The model, for the message.
        likelihood: Its likelihood.
        from_disk: Whether the file is to be streamed, which leaves no step in which counts would be normalised.

    Raises:
        PlatewiseError: If it holds ratings, or values that the likelihood has no probability for.
    """
    from ..data.errors import PlatewiseError
    from ..data.meaning import WORDS
    from .matrix import holds_counts, holds_ones, how_to_get_counts, recorded_in, require_streamable

    instead = "--likelihood gaussian" if model == "vae" else "--model latent-factor"
    if not (said := recorded_in(data)):
        raise PlatewiseError(
            f"Expected a file made by `platewise ingest` for --model {model}, got one that does not say what it holds: "
            f"{data}. {how_to_get_counts(data)}. For log-normalised values, `platewise ingest {data} --unstored zero "
            f"-o LOGS.h5ad` and {instead}."
        )
    if said != "zero":
        raise PlatewiseError(
            f"Expected {WORDS['zero']} for --model {model}, got {WORDS[said]}: {data}. Say --model latent-factor; "
            "if they are counts, `platewise ingest SOURCE --cells -o CELLS.h5ad`, and take that file."
        )
    if likelihood == "gaussian":
        if from_disk:
            require_streamable(data, "zero")
    elif not holds_counts(data):
        raise PlatewiseError(
            f"Expected counts for --likelihood {likelihood}, got other values: {data}. {how_to_get_counts(data)}, or "
            f"say {instead}."
        )
    elif likelihood == "bernoulli" and not holds_ones(data):
        raise PlatewiseError(
            f"Expected zeros and ones for --likelihood bernoulli, got larger counts: {data}. Say --likelihood "
            "negative-binomial, or write the file with ones for all that is above 0."
        )


def taken(data: Path, likelihood: str, from_disk: bool) -> ad.AnnData | Path:
    """The file as the likelihood takes it: its path to stream, log-normalised for a gaussian, else its counts."""
    from ..data.preparation import prepared
    from ..data.storage import read_h5ad

    if from_disk:
        return data
    return prepared(read_h5ad(data)) if likelihood == "gaussian" else read_h5ad(data)
