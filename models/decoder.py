"""The decoder of a VAE: from a cell's embedding and covariates to one number per gene."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.batches import RowBatch
from ..data.dropout import Dropout
from ..data.errors import PlatewiseError

START_SCALE = 0.3  # of output weights, of what torch starts them at: genes begin near their intercepts


class Decoder(nn.Module):
    """output(h(z, covariates), z) + offset of each category, (..., b, n_cols), or output(z) where it is linear.

    The output layer reads the embedding beside the hidden units: they need only tell what a linear decoder cannot.

    Args:
        latent: Dimensions of z.
        n_cols: Genes.
        hidden: Units in a hidden layer.
        layers: Hidden layers; 0 for a linear decoder, whose weights are the genes' embeddings.
        dropout: Share of hidden units left out in training.
        categories: Number of levels of each categorical covariate of the batch.
        continuous: Width of each continuous covariate of the batch.
    """

    def __init__(
        self,
        latent: int,
        n_cols: int,
        hidden: int,
        layers: int,
        dropout: float,
        categories: Mapping[str, int],
        continuous: Mapping[str, int],
    ) -> None:
        super().__init__()
        self.categories, self.continuous = dict(categories), dict(continuous)
        n_direct = latent + sum(continuous.values())
        self.hidden = hidden_layers(n_direct + sum(categories.values()), hidden, layers, dropout)
        self.output = nn.Linear(n_direct + (hidden if layers else 0), n_cols)
        self.output.weight.data *= START_SCALE
        self.offsets = nn.ModuleDict({name: nn.Embedding(n, n_cols) for name, n in categories.items()})
        for offset in self.offsets.values():
            nn.init.zeros_(offset.weight)  # type: ignore[arg-type]

    def forward(self, batch: RowBatch, z: Float[Tensor, "*s b latent"]) -> Float[Tensor, "*s b n_cols"]:
        """One number per cell and gene, on the whole real line."""
        about = [covariate_of(batch, name).reshape(len(batch.rows), -1).to(z) for name in self.continuous]
        inputs = direct = _beside(z, about)
        if len(self.hidden):
            codes = [F.one_hot(self.code(batch, name), n).to(z) for name, n in self.categories.items()]
            inputs = torch.cat([self.hidden(_beside(direct, codes)), direct], -1)
        out: Tensor = self.output(inputs)
        for name, offset in self.offsets.items():
            out = out + offset(self.code(batch, name))
        return out

    def code(self, batch: RowBatch, name: str) -> Tensor:
        """Level of each of the batch's rows in a category, (b,).

        Raises:
            PlatewiseError: If the batch has no whole numbers for it.
        """
        code = covariate_of(batch, name)
        if code.is_floating_point() or code.ndim != 1:
            raise PlatewiseError(
                f"Expected covariate {name!r} as one whole number per row, from 0 to {self.categories[name] - 1}, got "
                f"{code.dtype} of shape {tuple(code.shape)}. Give its codes, e.g. pandas.factorize(...)[0]."
            )
        return code.long()


def hidden_layers(width: int, hidden: int, layers: int, dropout: float) -> nn.Sequential:
    """Linear, layer normalisation, ReLU, dropout, so many times.

    Layers are normalised and not batches: a cell's decoded row must not depend on the cells beside it.
    """
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.ReLU(), Dropout(dropout)]
        width = hidden
    return nn.Sequential(*parts)


def _beside(z: Tensor, about: list[Tensor]) -> Tensor:
    """Embeddings (..., b, latent) with more about their rows beside them, each (b, k)."""
    return torch.cat([z, *(x.expand(*z.shape[:-1], -1) for x in about)], -1) if about else z


def covariate_of(batch: RowBatch, name: str) -> Tensor:
    """A covariate of the batch's rows.

    Raises:
        PlatewiseError: If the batch has none of that name.
    """
    if name not in batch.covariates:
        raise PlatewiseError(
            f"Expected covariate {name!r}, which the model reads, got {sorted(batch.covariates)}. Pass it to fit: "
            f"covariates={{{name!r}: ...}}."
        )
    return batch.covariates[name]
