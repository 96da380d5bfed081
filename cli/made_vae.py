"""A VAE and its guide made for cells: the likelihood that their values allow, covariates from columns of obs."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .made import Made, size_on_disk
from .models import OF_VAE
from .values import require_values, taken

if TYPE_CHECKING:
    import pandas as pd

BATCH = "batch"  # the covariate that --batch-key is
OF_THE_MODEL = ("likelihood", "latent", "hidden", "layers", "dispersion", "library")


def vae(choice: dict[str, Any], options: dict[str, Any], data: Path, from_disk: bool) -> Made:
    """The VAE of a file's rows.

    Raises:
        PlatewiseError: If the file's values are not what the likelihood is of, or columns not what they are named as.
    """
    from .. import guides
    from ..models import VAE
    from .matrix import size_of

    shape, _ = size_of(data)
    columns, about = _covariates(choice, data)
    settings: dict[str, Any] = {name: choice[name] for name in OF_THE_MODEL if name in choice}
    model = VAE(**settings, categories=about["categories"], continuous=about["continuous"])
    require_values(data, "vae", choice["likelihood"], from_disk)
    hidden, layers = model.config["hidden"], model.config["layers"]
    guide = getattr(guides, OF_VAE[choice["guide"]])(hidden=hidden, layers=max(layers, 1))
    size = size_on_disk(shape, shape[1] * 2 * (hidden + 2))
    return Made(model, guide, partial(taken, data, choice["likelihood"], from_disk), options, size, columns)


def _covariates(choice: dict[str, Any], data: Path) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Columns by the names of their covariates, and what the model is to take."""
    from ..data.errors import PlatewiseError

    key, others = choice.get("batch_key"), choice.get("covariate", [])
    columns = columns_of(key, others)
    if choice.get("dispersion") == "gene-batch" and BATCH not in columns:
        raise PlatewiseError("Expected --batch-key with --dispersion gene-batch, got none. Name the column of batches.")
    said: dict[str, dict[str, int]] = {"categories": {}, "continuous": {}}
    obs = obs_of(data)
    for name, column in columns.items():
        n_levels = _levels(name, column, obs, is_batch=column == key)
        said["categories" if n_levels else "continuous"][name] = n_levels or 1
    return columns, said


def columns_of(batch_key: str | None, others: list[str]) -> dict[str, str]:
    """Columns of obs by the names that a model has for them: a batch key is `batch`, others are as they are called.

    Raises:
        PlatewiseError: If two columns would have one name.
    """
    from ..data.errors import PlatewiseError

    named = [] if batch_key is None else [(BATCH, batch_key)]
    for column in others:
        name = _as_a_name(column)
        if name in dict(named):
            raise PlatewiseError(f"Expected each covariate once, got {name!r} twice. Leave one --covariate out.")
        named.append((name, column))
    return dict(named)


def _as_a_name(column: str) -> str:
    """A name that a torch module may have a part by: without dots, and none of its methods'."""
    from torch import nn

    name = re.sub(r"\W", "_", column)
    return f"{name}_" if hasattr(nn.ModuleDict, name) else name


def _levels(name: str, column: str, obs: pd.DataFrame, is_batch: bool) -> int:
    """Levels of a column of labels; 0 for real numbers.

    Raises:
        PlatewiseError: If it is not there, lacks values, or may be either.
    """
    from pandas.api.types import is_integer_dtype

    from ..data.errors import PlatewiseError
    from ..inference.obs_columns import read_column

    if not is_batch and column in obs and is_integer_dtype(obs[column].dtype):
        raise PlatewiseError(
            f"Expected labels or real numbers in column {column!r} for --covariate, got whole numbers, which may be "
            f"either. Say --batch-key {column} for labels, or write the column as a categorical one or as floats."
        )
    about = read_column(name, column, obs, "categories" if is_batch else None)[1]
    return len(about.get("levels", []))


def obs_of(path: Path) -> pd.DataFrame:
    """The table of the rows of an .h5ad, without its entries."""
    import anndata as ad
    import h5py

    with h5py.File(path, "r") as file:
        obs: pd.DataFrame = ad.io.read_elem(file["obs"])
    return obs
