"""A count matrix as a Gaussian model takes it, and later matrices in the same way.

Counts are log-normalised; a matrix that is so already is taken as it is. What was done is recorded in
`uns["platewise"]`, which a fit keeps as its `meaning`:

| key          | value                                                                                    |
|--------------|------------------------------------------------------------------------------------------|
| `unstored`   | how the model takes entries that are not stored: "missing" or "zero"                     |
| `recorded`   | what the matrix itself said of them, where that is something else                        |
| `normalised` | the total each row was scaled to before log(1 + x), or "elsewhere"; absent from ratings  |
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anndata as ad

from .errors import PlatewiseError
from .meaning import WORDS, Unstored, meaning, require_unstored
from .normalise import ELSEWHERE, NORMALISED, is_counts, log_normalise, said_of

RECORDED = "recorded"


def prepared(adata: ad.AnnData, unstored: Unstored | str | None = None) -> ad.AnnData:
    """A matrix as a new fit of a Gaussian model takes it.

    Args:
        adata: Ratings, counts, or entries that are normalised already; left as it is.
        unstored: How the model is to take entries that are not stored; as the matrix says if not given. Zeros may be
            taken as missing, but what is missing is not to be taken as zeros.

    Returns:
        Ratings as they are; counts log-normalised; others as they are, but recorded as normalised elsewhere.

    Raises:
        PlatewiseError: If missing entries are to be taken as zeros, or counts cannot be normalised.
    """
    said = meaning(adata)["unstored"]
    require_takeable(said, unstored or said)
    if said == "missing":
        return adata
    return _restated(adata if NORMALISED in meaning(adata) else _normalised(adata), unstored or said)


def require_takeable(said: str, unstored: str) -> None:
    """Check that a matrix may be taken as a model is to take it.

    Args:
        said: What the matrix says of entries not stored.
        unstored: How the model is to take them.

    Raises:
        PlatewiseError: If the model is to see zeros where the matrix says that entries are missing, or `unstored` is
            neither of the two.
    """
    if unstored not in WORDS:
        raise PlatewiseError(f'Expected unstored="missing" or "zero", got {unstored!r}. Choose one.')
    if said == "missing" and unstored == "zero":
        raise PlatewiseError(
            f'Expected {WORDS["zero"]} for unstored="zero", got {WORDS["missing"]}. Leave it out; if the '
            "file is wrong, ingest what it was made from again."
        )


def is_expression(about: Mapping[str, Any]) -> bool:
    """Whether a fit's `meaning` says that its data were counts, or made from counts."""
    return bool(about.get(RECORDED, about["unstored"]) == "zero")


def require_gaps_like(adata: ad.AnnData, about: Mapping[str, Any], *, needed_by: str) -> None:
    """Check that entries not stored mean in a later matrix what they meant in a fit's own.

    Args:
        adata: The matrix.
        about: The fit's `meaning`.
        needed_by: The name of the model, for the error.

    Raises:
        PlatewiseError: If they mean something else, or the matrix does not say.
    """
    taken, recorded = about["unstored"], about.get(RECORDED, about["unstored"])
    if not (taken != recorded and meaning(adata).get(RECORDED) == recorded):  # else it is taken as the fit's already
        require_unstored(adata, recorded, needed_by=needed_by)


def prepared_like(adata: ad.AnnData, about: Mapping[str, Any]) -> ad.AnnData:
    """A later matrix as a fit took its own.

    Args:
        adata: Entries of the fit's columns, gaps meaning what they did (`require_gaps_like`); left as it is. Counts are
            normalised as the fit's were.
        about: The fit's `meaning`.

    Raises:
        PlatewiseError: If its values are of another kind than the fit's, or counts cannot be normalised.
    """
    if not is_expression(about):
        return adata
    how, got = about.get(NORMALISED), meaning(adata).get(NORMALISED)
    if how is not None and got is None:
        got = ELSEWHERE if not is_counts(adata) else None
    if got is None and how not in (None, ELSEWHERE):
        adata = log_normalise(adata, float(how))
    elif got != how:
        also = "" if how == ELSEWHERE else ", or the counts themselves" if how else ""
        raise PlatewiseError(
            f"Expected {said_of(how)}{also}, as in the fit, got {said_of(got)}. Prepare them as the training data were."
        )
    return _restated(adata, about["unstored"])


def _normalised(adata: ad.AnnData) -> ad.AnnData:
    """Counts log-normalised; others recorded as what they seem to be."""
    return log_normalise(adata) if is_counts(adata) else _said(adata, {NORMALISED: ELSEWHERE})


def _restated(adata: ad.AnnData, unstored: str) -> ad.AnnData:
    """The same matrix, taken in another way where that is asked for."""
    said = meaning(adata)["unstored"]
    return adata if said == unstored else _said(adata, {"unstored": unstored, RECORDED: said})


def _said(adata: ad.AnnData, also: Mapping[str, str]) -> ad.AnnData:
    """The same matrix, entries and tables shared, that says something else of itself."""
    uns = dict(adata.uns) | {"platewise": meaning(adata) | dict(also)}
    return ad.AnnData(adata.X, obs=adata.obs, var=adata.var, uns=uns)
