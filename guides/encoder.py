"""The encoder of amortised guides: from a row's entries to numbers that describe its posterior."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.dropout import Dropout
from ..data.dropout import dropout as left_out
from ..data.errors import PlatewiseError
from ..data.sparse import sum_by_row

INPUTS = ("log-normalised", "log1p", "raw")  # log(1 + SIZE x / total of the row), log(1 + x), x itself
SIZE = 1000.0  # what rows are normalised to: near the totals of shallow cells, so that one count is about 1


class Encoder(nn.Module):
    """Network from a row's entries to `width` numbers: the first layer sums over stored entries alone.

    Without hidden layers it is linear: of rank `hidden`, or `width` if that is less.

    Args:
        n_cols: Columns.
        width: Numbers that come out.
        hidden: Units in a hidden layer.
        layers: Hidden layers; 0 for a linear map.
        dropout: Share of hidden units left out in training, and half that share of a row's entries.
        inputs: What it reads of an entry x, one of `INPUTS`.
    """

    def __init__(self, n_cols: int, width: int, hidden: int, layers: int, dropout: float, inputs: str) -> None:
        super().__init__()
        self.inputs, self.entry_dropout = inputs, dropout / 2
        self.first = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(hidden, n_cols), a=5**0.5).T.contiguous())
        further = (nn.Sequential(nn.Linear(hidden, hidden), *_block(hidden, dropout)) for _ in range(layers - 1))
        first_block = (_block(hidden, dropout),) if layers else ()
        self.blocks, self.output = nn.Sequential(*first_block, *further), nn.Linear(hidden, width)

    def forward(self, batch: RowBatch) -> Float[Tensor, "b width"]:
        """The numbers of each row of a batch.

        Raises:
            PlatewiseError: If the batch has other columns than the encoder was made for.
        """
        if batch.n_cols != len(self.first):
            raise PlatewiseError(
                f"Expected a matrix with {len(self.first)} columns, for which the guide was made, got one with "
                f"{batch.n_cols}. Make a new guide and a new model."
            )
        weights = left_out(self.read(batch), self.entry_dropout, self.training)
        out: Tensor = self.output(self.blocks(batch.sparse.sum_over_cols(self.first, weights)))
        return out

    def read(self, batch: RowBatch) -> Float[Tensor, " e"]:
        """What the first layer sees of each entry; of one that is not stored it sees 0."""
        if self.inputs == "raw":
            return batch.value
        counts = batch.value.clamp_min(0)
        if self.inputs == "log-normalised":
            counts = counts * batch.spread(SIZE / totals_of(batch))
        return torch.log1p(counts)


def totals_of(batch: RowBatch) -> Float[Tensor, " b"]:
    """Sum of each row's entries that are above 0; a row without any counts as nearly empty."""
    return sum_by_row(batch.value.clamp_min(0), batch.crow).clamp_min(1e-6)


def _block(hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(hidden), nn.ReLU(), Dropout(dropout))
