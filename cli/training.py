"""Where a run's training data are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

if TYPE_CHECKING:
    import anndata as ad

    from ..inference import Fitted

T = TypeVar("T")


def training_data_of(fitted: Fitted) -> ad.AnnData | None:
    """The training data that a loaded fit remembers; None if they are gone or have changed since."""
    from ..data.storage import fingerprint

    adata = as_fitted(fitted, fitted.data) if isinstance(fitted.data, Path) else None
    return adata if adata is not None and fingerprint(adata) == fitted.fingerprint else None


def as_fitted(fitted: Fitted, path: Path) -> ad.AnnData:
    """A file as a fit took it: counts log-normalised, columns of folded-in rows in the order of an older fit's."""
    from ..data.preparation import prepared_like
    from ..data.storage import read_h5ad
    from ..posterior.columns import on_columns_of

    adata = read_h5ad(path)
    return on_columns_of(fitted, adata) if fitted.algorithm == "fold-in" else prepared_like(adata, fitted.meaning)


def training_or_notice(run: Path, fitted: Fitted, named: Path | None, left_out: str) -> ad.AnnData | None:
    """The training data that are named or that the run remembers, or a notice of what is left out without them."""
    if named is not None:
        return as_fitted(fitted, named)
    found = training_data_of(fitted)
    if found is None:
        fitted.data = None  # a path that still leads to a file, but not to these data
        missing = f"the training data: {what_became_of(run)}. {left_out} left out; name them with --data FILE."
        typer.echo(missing, err=True)
    return found


def require_training(found: T | None, run: Path, needed: str, option: str) -> T:
    """Check that a run's training data were found.

    Args:
        found: What was found.
        run: The run directory.
        needed: What for, in words.
        option: How a person names them.

    Returns:
        What was found.

    Raises:
        PlatewiseError: If nothing was found.
    """
    from ..data.errors import PlatewiseError

    if found is None:
        raise PlatewiseError(
            f"Expected the training data of {run} {needed}, got {what_became_of(run)}. Name them: {option}."
        )
    return found


def what_became_of(run: Path) -> str:
    """What to say of training data that were not found."""
    from ..inference.run_directory import read_config

    file = read_config(run)["data"]["file"]
    return "no path remembered" if file is None else f"{file} gone or changed"
