"""`RowBatch`: what a model and its guide are called with, for every algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyro
import torch
from jaxtyping import Float, Int
from pyro.poutine.broadcast_messenger import BroadcastMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.runtime import _PYRO_STACK, Message
from torch import Tensor

from .errors import PlatewiseError
from .program_lines import calling_line
from .sparse import SparseRows, spread_by_row, sum_by_row


@dataclass(frozen=True, eq=False)
class RowBatch:
    """A set of rows of a sparse matrix with *all* their entries, as CSR.

    Shapes are written with `b` rows in the batch and `e` stored entries in those rows.

    Attributes:
        rows: Global indices of the rows, each once, in `[0, n_rows)`.
        crow: Start of each row's entries; `crow[-1] == e`.
        col: Column of each entry, in `[0, n_cols)`.
        value: Value of each entry.
        n_rows: Size of the plate of rows (not of this batch).
        n_cols: Size of the plate of columns.
        covariates: Named tensors whose first axis is the batch's rows.
    """

    rows: Int[Tensor, " b"]
    crow: Int[Tensor, " b_plus_1"]
    col: Int[Tensor, " e"]
    value: Float[Tensor, " e"]
    n_rows: int
    n_cols: int
    covariates: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def row(self) -> Int[Tensor, " e"]:
        """Local row (position in `rows`) of each entry."""
        return spread_by_row(torch.arange(len(self.rows), device=self.rows.device), self.crow, len(self.col))

    @cached_property
    def cols(self) -> Int[Tensor, " n_cols"]:
        """Global indices of all columns."""
        return torch.arange(self.n_cols, device=self.rows.device)

    @cached_property
    def index(self) -> Int[Tensor, " e"]:
        """Position of each entry in the batch."""
        return torch.arange(len(self.col), device=self.rows.device)

    @property
    def scale(self) -> float:
        """`n_rows / b`: what a sum over this batch is multiplied by to estimate the sum over all rows."""
        return self.n_rows / len(self.rows)

    @cached_property
    def sparse(self) -> SparseRows:
        """The batch's entries as a matrix for sums over rows and columns."""
        return SparseRows(self.crow, self.col, self.n_cols)

    def row_plate(self, name: str) -> pyro.plate:
        """The plate of rows, subsampled to this batch: `pyro.plate(name, n_rows, subsample=rows, dim=-1)`."""
        return _RowPlate(name, self.n_rows, subsample=self.rows, dim=-1, device=self.rows.device)

    def col_plate(self, name: str) -> pyro.plate:
        """The plate of all columns: `pyro.plate(name, n_cols, dim=-1)`."""
        return pyro.plate(name, self.n_cols, subsample=self.cols, dim=-1, device=self.rows.device)

    def entries(self, name: str) -> pyro.plate:
        """The plate of the batch's entries, scaled by `n_rows / b` (Horvitz-Thompson, unbiased).

        Raises:
            PlatewiseError: When entered inside a row plate, where the scale would count twice.
        """
        return _EntryPlate(name, self.index, self.scale)

    def at_rows(self, x: Tensor, event_dim: int = 1) -> Tensor:
        """`x` of each entry's row: `(..., b, *event)` to `(..., e, *event)`.

        The same as `x[..., batch.row, :]`, with a backward pass that is a sparse product and not a scatter.
        """
        return self.sparse.gather(x, self.row, -1 - event_dim, by_row=True)

    def at_cols(self, x: Tensor, event_dim: int = 1) -> Tensor:
        """`x` of each entry's column: `(..., n_cols, *event)` to `(..., e, *event)`."""
        return self.sparse.gather(x, self.col, -1 - event_dim, by_row=False)

    def totals(self) -> Float[Tensor, " b"]:
        """Sum of each row's values."""
        return self._totals

    @cached_property
    def _totals(self) -> Float[Tensor, " b"]:
        return sum_by_row(self.value, self.crow)

    def log_totals(self) -> Float[Tensor, " b"]:
        """Logarithm of each row's sum, of counts; 0 for a row without any."""
        return self.totals().clamp_min(1).log()

    @property
    def totals_were_read(self) -> bool:
        """Whether totals were asked for, as by a model whose entries go by them: of some entries they are not whole."""
        return "_totals" in vars(self)

    def spread(self, x: Float[Tensor, " b"]) -> Float[Tensor, " e"]:
        """`x` of each entry's row, without `row`, which takes longer to make."""
        return spread_by_row(x, self.crow, len(self.col))

    def dense(self) -> Float[Tensor, "b n_cols"]:
        """The batch as a dense matrix, zero where nothing is stored."""
        out = self.value.new_zeros(len(self.rows), self.n_cols)
        return out.index_put((self.row, self.col), self.value)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> RowBatch:
        """The batch on another device, values and floating covariates in another dtype if one is given."""
        index = {name: getattr(self, name).to(device, non_blocking=True) for name in ("rows", "crow", "col")}
        covariates = {name: _moved(x, device, dtype) for name, x in self.covariates.items()}
        return replace(self, value=_moved(self.value, device, dtype), covariates=covariates, **index)

    @classmethod
    def blank(cls, n_rows: int, n_cols: int, covariates: Mapping[str, Tensor] | None = None) -> RowBatch:
        """One row with one entry, of value 1: enough to trace a model's sites and their shapes."""
        zero = torch.zeros(1, dtype=torch.long)
        return cls(zero, torch.tensor([0, 1]), zero, torch.ones(1), n_rows, n_cols, dict(covariates or {}))


def _moved(x: Tensor, device: torch.device | str, dtype: torch.dtype | None) -> Tensor:
    return x.to(device, dtype if x.is_floating_point() else None, non_blocking=True)


class _RowPlate(pyro.plate):
    """A plate of rows; its own type, so that an entries plate can tell when it is opened inside one."""


class _EntryPlate(pyro.plate):
    """A plate over a batch's entries with the batch's scale, for any number of entries, none included."""

    def __init__(self, name: str, index: Int[Tensor, " e"], scale: float) -> None:
        super().__init__(name, max(len(index), 1), subsample=index, dim=-1, device=index.device)
        self.size = self.subsample_size = len(index)
        self._row_scale = scale

    def __enter__(self) -> Any:
        outer = next((frame.name for frame in _PYRO_STACK if isinstance(frame, _RowPlate)), None)
        if outer is not None:
            raise PlatewiseError(
                f"Expected entries plate {self.name!r} outside any row plate, got it inside {outer!r}{calling_line()}, "
                "where its scale would count twice. Close the row plate first, and pick rows with batch.at_rows(...)."
            )
        return super().__enter__()

    def _process_message(self, msg: Message) -> None:
        IndepMessenger._process_message(self, msg)
        BroadcastMessenger._pyro_sample(msg)
        msg["scale"] = msg["scale"] * self._row_scale
