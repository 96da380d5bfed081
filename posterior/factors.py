"""The factors of a fit in their canonical frame, ready to be put beside the data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import anndata as ad
import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch.distributions import Distribution

from ..data.errors import PlatewiseError
from ..inference.fitted import Fitted
from ..models.bilinear import Block
from .canonical import Affine, block_posterior, canonical_frame, has_factors, item_blocks, user_blocks
from .reader import reading

DRAWS = 4000  # of a mean that has no closed form


@dataclass(frozen=True, eq=False)
class Factors:
    """Posterior means and standard deviations of embeddings and biases, in the canonical frame.

    Attributes:
        obsm: `X_factors` and `X_factors_sd`, (n_rows, r), rows in the fit's order.
        varm: `factors` and `factors_sd`, (n_cols, r).
        obs: `bias` and `bias_sd` of the rows, by name.
        var: The same of the columns.
        mu: Posterior mean of the grand mean.
        strength: Second moment of each factor, (r,), descending: how much it moves predictions.
    """

    obsm: dict[str, Float[np.ndarray, "n_rows r"]]
    varm: dict[str, Float[np.ndarray, "n_cols r"]]
    obs: pd.DataFrame
    var: pd.DataFrame
    mu: float
    strength: Float[np.ndarray, " r"]

    def write_to(self, adata: ad.AnnData) -> ad.AnnData:
        """Put everything into the `obsm`, `varm`, `obs` and `var` of a matrix, in place.

        Raises:
            PlatewiseError: If its rows and columns are not the fit's, in the fit's order.
        """
        self.require_same_names(adata)
        adata.obsm.update(self.obsm)
        adata.varm.update(self.varm)
        for table, columns in ((adata.obs, self.obs), (adata.var, self.var)):
            table[columns.columns] = columns
        return adata

    def require_same_names(self, adata: ad.AnnData) -> None:
        """Check that a matrix has the fit's rows and columns.

        Raises:
            PlatewiseError: If it has not, or in another order.
        """
        if not (adata.obs_names.equals(self.obs.index) and adata.var_names.equals(self.var.index)):
            raise PlatewiseError("Expected the rows and columns of the fit, got others. Pass the training data.")


def factors(fitted: Fitted) -> Factors:
    """Embeddings and biases of all rows and columns, centred, rotated, ordered by strength, with their signs fixed.

    Raw factors are only identified up to a rotation and a shift; in the canonical frame (see `posterior.canonical`) the
    same posterior always gives the same numbers, and every prediction is what it was.

    Raises:
        PlatewiseError: If the model has no factors, or the guide no closed-form blocks.
    """
    with reading(fitted, 0) as reader:
        if not has_factors(reader):
            raise PlatewiseError(
                f"Expected a model with sites mu, user and item and a guide with `posterior`, got "
                f"{type(fitted.model).__name__} and {type(fitted.guide).__name__}. Use to_arviz."
            )
        frame = canonical_frame(reader)
        rows, row_sd = _moments(user_blocks(reader), frame.user)
        cols, col_sd = _moments(item_blocks(reader), frame.item)
        mu = _mean(block_posterior(reader, reader.any_row())["mu"]) + frame.shift
    return Factors(
        obsm={"X_factors": rows[:, :-1], "X_factors_sd": row_sd[:, :-1]},
        varm={"factors": cols[:, :-1], "factors_sd": col_sd[:, :-1]},
        obs=pd.DataFrame({"bias": rows[:, -1], "bias_sd": row_sd[:, -1]}, index=fitted.obs.index),
        var=pd.DataFrame({"bias": cols[:, -1], "bias_sd": col_sd[:, -1]}, index=fitted.var.index),
        mu=mu,
        strength=frame.strength,
    )


def _mean(q: Distribution) -> float:
    """The mean of a number; by draws, where its family knows none."""
    try:
        return float(q.mean)
    except NotImplementedError:
        return float(q.sample(torch.Size([DRAWS])).mean())


def _moments(blocks: Iterator[Block], by: Affine) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of blocks in the frame, (n, d) each."""
    means, sds = [], []
    for block in map(by.moments, blocks):
        means.append(block.mean)
        sds.append(block.cov.diagonal(dim1=-2, dim2=-1).sqrt())
    return torch.cat(means).numpy(), torch.cat(sds).numpy()
