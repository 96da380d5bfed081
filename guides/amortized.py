"""Amortised normal: q(z_i | x_i) = Normal(m(x_i), diag s^2(x_i)), one encoder for all rows.

The encoder reads log(1 + x) of a row's stored entries; entries not stored add nothing to its first layer. Rows need no
table: a new row's posterior costs one pass through the network.

References:
    Kingma and Welling (2014), Auto-encoding variational Bayes (the recognition model).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import latent_sites, plate_of
from .prior_means import PriorMeans

LOG_SD = (-6.0, 3.0)  # bounds of log s: beyond them a density over- or underflows


class AmortizedNormal(nn.Module):
    """An encoder for the one vector that a model has for each row, independent normal given the row's entries.

    Args:
        hidden: Units in a hidden layer.
        layers: Hidden layers, at least 1.
        dropout: Share of hidden units left out in training.

    Raises:
        PlatewiseError: If a number is out of range.
    """

    def __init__(self, hidden: int = 128, layers: int = 1, dropout: float = 0.4) -> None:
        super().__init__()
        if hidden < 1 or layers < 1 or not 0 <= dropout < 1:
            raise PlatewiseError(
                f"Expected hidden and layers of at least 1 and dropout from 0 to below 1, got {hidden}, {layers} and "
                f"{dropout}. Leave them out for the defaults."
            )
        self.config: dict[str, Any] = {"hidden": hidden, "layers": layers, "dropout": dropout}

    def setup(self, model: Any, batch: RowBatch, starts: Mapping[str, tuple[Tensor, Tensor]] | None = None) -> None:
        """Make the encoder for a model's one latent vector per row.

        Args:
            model: The model; it is run once to find its sites.
            batch: Any batch: `RowBatch.blank(n_rows, n_cols)` will do.
            starts: Not read: a network starts where its weights do.

        Raises:
            PlatewiseError: If the model has other latent sites.
        """
        with torch.no_grad(), pyro.validation_enabled(False), PriorMeans():
            trace = poutine.trace(model).get_trace(batch)
        self.site, self.plate, self.d = _the_row_vector(trace, batch)
        self.encoder = Encoder(batch.n_cols, 2 * self.d, **self.config)

    def posterior(self, batch: RowBatch) -> dict[str, Distribution]:
        """The distribution of the batch's rows' vectors."""
        loc, log_sd = self.encoder(batch).chunk(2, -1)
        return {self.site: dist.Normal(loc, log_sd.clamp(*LOG_SD).exp()).to_event(1)}

    def forward(self, batch: RowBatch) -> dict[str, Tensor]:
        """Sample the site in the plate of the batch's rows."""
        with batch.row_plate(self.plate):
            return {name: pyro.sample(name, q) for name, q in self.posterior(batch).items()}


class Encoder(nn.Module):
    """Network from a row's entries to `width` numbers: the first layer sums over stored entries alone."""

    def __init__(self, n_cols: int, width: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(hidden, n_cols), a=5**0.5).T.contiguous())
        further = (nn.Sequential(nn.Linear(hidden, hidden), *_block(hidden, dropout)) for _ in range(layers - 1))
        self.blocks, self.output = nn.Sequential(_block(hidden, dropout), *further), nn.Linear(hidden, width)

    def forward(self, batch: RowBatch) -> Float[Tensor, "b width"]:
        """The numbers of each row of a batch."""
        weights = torch.log1p(batch.value.clamp_min(0))
        out: Tensor = self.output(self.blocks(batch.sparse.sum_over_cols(self.first, weights)))
        return out


def _block(hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(hidden), nn.ReLU(), nn.Dropout(dropout))


def _the_row_vector(trace: Any, batch: RowBatch) -> tuple[str, str, int]:
    """Name, plate and dimensions of the only latent site, a real vector per row."""
    sites = latent_sites(trace)
    vectors = {
        name: site
        for name, site in sites.items()
        if plate_of(site, trace, batch) == "rows" and len(site["fn"].event_shape) == 1
    }
    if len(sites) != 1 or not vectors or not _is_real(next(iter(vectors.values()))):
        raise PlatewiseError(
            f"Expected a model with one latent site, a real vector per row, got {sorted(sites)}. Use another guide, or "
            "gather what a row has into one site."
        )
    ((name, site),) = vectors.items()
    return name, site["cond_indep_stack"][0].name, site["fn"].event_shape[0]


def _is_real(site: Any) -> bool:
    support = getattr(site["fn"].support, "base_constraint", site["fn"].support)
    return support is constraints.real
