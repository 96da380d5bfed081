"""A model of a person's own made for data: what it says of entries that are not stored is checked, and kept to."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .families import family
from .made import Made, size_on_disk
from .made_vae import columns_of, obs_of
from .own_file import made_from_file

if TYPE_CHECKING:
    import anndata as ad
    from torch import nn


def own_model(choice: dict[str, Any], options: dict[str, Any], data: Path, from_disk: bool) -> Made:
    """The model that a file of Python makes, and a guide for it.

    Raises:
        PlatewiseError: If the file does not make one, or it is not for these data.
    """
    from .matrix import said_by, size_of

    shape, _ = size_of(data)
    said = said_by(data)
    model = made_from_file(choice["model"], "model", choice.get("set", ()))
    guide = family(choice["guide"])
    columns = columns_of(None, choice.get("covariate", []))
    _require_kinds(model, columns, data)
    unstored = _unstored(model, choice["model"], said, data)
    if from_disk and unstored != said:
        _refuse_from_disk(data)
    return Made(model, guide, partial(_taken, data, unstored, from_disk), options, size_on_disk(shape, 0), columns)


def _unstored(model: nn.Module, name: str, said: str, data: Path) -> str:
    """How the model takes entries that are not stored; as the data say if it does not say itself."""
    from ..data.errors import PlatewiseError
    from ..data.preparation import require_takeable

    unstored = getattr(getattr(model, "function", model), "unstored", None)
    if unstored is None and said == "zero":
        raise PlatewiseError(
            f"Expected a model that says how it takes entries that are not stored, which are zeros in {data}, got "
            f'{name} without an attribute `unstored`. Say unstored = "zero" in the class and observe whole rows (a '
            "distribution such as platewise.models.PoissonRows, or .to_event(1) of batch.dense()), or unstored = "
            '"missing" to score stored entries alone.'
        )
    require_takeable(said, unstored or said)
    return unstored or said


def _require_kinds(model: nn.Module, columns: dict[str, str], data: Path) -> None:
    """Check that each column is plainly one of labels or of real numbers, unless the model says which."""
    from pandas.api.types import is_integer_dtype

    from ..data.errors import PlatewiseError
    from ..inference.covariates import taken_by

    if not columns or taken_by(model) is not None:
        return
    obs = obs_of(data)
    for column in (column for column in columns.values() if column in obs and is_integer_dtype(obs[column].dtype)):
        raise PlatewiseError(
            f"Expected labels or real numbers in column {column!r} for --covariate, got whole numbers, which may be "
            "either. Write the column as a categorical one or as floats."
        )


def _refuse_from_disk(data: Path) -> None:
    from ..data.errors import PlatewiseError

    raise PlatewiseError(
        f'Expected a model with unstored = "zero" to stream {data}, whose entries not stored are zeros, got "missing". '
        "Leave --from-disk out."
    )


def _taken(data: Path, unstored: str, from_disk: bool) -> ad.AnnData | Path:
    """Data as the file has them; zeros taken as missing where the model says so."""
    from ..data.meaning import meaning
    from ..data.normalise import NORMALISED
    from ..data.preparation import RECORDED, prepared_like
    from ..data.storage import read_h5ad

    if from_disk:
        return data
    adata = read_h5ad(data)
    said = meaning(adata)
    if said["unstored"] == unstored:
        return adata
    how = {name: said[name] for name in (NORMALISED,) if name in said}
    return prepared_like(adata, {"unstored": unstored, RECORDED: said["unstored"], **how})
