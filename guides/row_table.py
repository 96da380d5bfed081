"""Variational parameters of one latent site: a table with a row per element of the site's plate.

Elements of the plate of rows (one per user or cell) are looked up by a batch's indices and get sparse gradients, so
a step costs O(batch). Elements of other plates, and global sites, are dense parameters. Constraints are applied
after the look-up, by the family.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from pyro.distributions import TransformedDistribution
from pyro.distributions.transforms import ReshapeTransform
from torch import Tensor, nn
from torch.distributions import Distribution, biject_to, constraints

from ..data.batches import RowBatch
from ..data.errors import PlatewiseError
from ..data.sites import Plate

Start = tuple[Tensor, Tensor]  # location and scale


class SiteTable(nn.Module):
    """Parameters of one site's variational distribution, `width` unconstrained numbers an element.

    Numbers are in units of the prior: an element's location is `loc + unit * (its location parameters)`, so that one
    step size suits ratings from 1 to 5 and counts of a million alike.

    Attributes:
        plate: Whose plate the site stands in.
        frames: Name, size and dim of each plate around the site.
        event_shape: Shape of one element, on the real line.
        loc: Where location parameters of zero are, (d,) or (n, d).
        unit: The unit of location and scale, of the same shape.
    """

    loc: Tensor
    unit: Tensor

    def __init__(self, name: str, site: Any, plate: Plate, batch: RowBatch, start: Start | None = None) -> None:
        super().__init__()
        self.name, self.plate, self.support = name, plate, site["fn"].support
        self.frames = [(frame.name, frame.size, frame.dim) for frame in site["cond_indep_stack"]]
        self._refuse_unfit()
        self.event_shape = self.bijection.inverse_shape(site["fn"].event_shape)
        self.batch_shape = torch.Size() if plate == "rows" else site["fn"].batch_shape
        self.n = batch.n_rows if plate == "rows" else self.batch_shape.numel()
        values = _prior_start(site, self.bijection, self.is_real, first=plate == "rows") if start is None else start
        for key, value in zip(("loc", "unit"), values, strict=True):
            full = value.detach().expand(self.batch_shape + self.event_shape)
            self.register_buffer(key, full.reshape(*self.batch_shape, self.d).clone())

    @property
    def d(self) -> int:
        """Numbers in one element."""
        return self.event_shape.numel()

    def allocate(self, raw: Float[Tensor, "n width"]) -> None:
        """Set the parameters: an embedding for rows, a dense parameter for everything else."""
        if self.plate == "rows":
            self.table = nn.Embedding.from_pretrained(raw, freeze=False, sparse=True)
        else:
            self.dense = nn.Parameter(raw)

    def raw(self, batch: RowBatch) -> Float[Tensor, "... width"]:
        """Parameters of the batch's elements, one axis for each plate."""
        self.require_size(batch)
        if self.plate == "rows":
            return self.table(batch.rows)
        return self.dense.reshape(*self.batch_shape, self.dense.shape[-1])

    @property
    def weight(self) -> Float[Tensor, "n width"]:
        """The parameters of all elements."""
        weight: Tensor = self.table.weight if self.plate == "rows" else self.dense
        return weight

    def origin(self, at: slice | Tensor) -> Start:
        """`loc` and `unit` of some elements, (k, d) each."""
        loc, unit = (x.reshape(-1, self.d).expand(self.n, self.d)[at] for x in (self.loc, self.unit))
        return loc, unit

    @property
    def bijection(self) -> Any:
        """The map from the real line to the site's support."""
        return biject_to(self.support)

    @property
    def is_real(self) -> bool:
        """Whether the site has no constraint."""
        base = self.support
        while isinstance(base, constraints.independent):
            base = base.base_constraint
        return isinstance(base, type(constraints.real))  # not `is`: a copy of a guide has a copy of it

    def shaped(self, base: Distribution) -> Distribution:
        """The distribution of the site, from that of its elements as vectors on the real line."""
        transforms = []
        if len(self.event_shape) > 1:
            transforms.append(ReshapeTransform((self.d,), self.event_shape))
        if not self.is_real:
            transforms.append(self.bijection)
        return TransformedDistribution(base, transforms) if transforms else base

    def require_size(self, batch: RowBatch) -> None:
        """Check that a batch is of a matrix of the size that the site was made for.

        Raises:
            PlatewiseError: If it is not.
        """
        if self.plate not in ("rows", "cols"):
            return
        made_for = self.n if self.plate == "rows" else self.batch_shape[-1]
        size = batch.n_rows if self.plate == "rows" else batch.n_cols
        if made_for != size:
            raise PlatewiseError(
                f"Expected a matrix with {made_for} {self.plate}, for which the guide was made, got one with {size}. "
                "Make a new guide."
            )

    def _refuse_unfit(self) -> None:
        if self.plate == "entries":
            raise PlatewiseError(
                f"Expected latent sites of rows, columns or the whole, got {self.name!r} in the plate of entries. Pass "
                "obs=batch.value if it is the data; else sum it out in the model, or write a guide for it."
            )
        if self.support.is_discrete:
            raise PlatewiseError(
                f"Expected continuous latent sites, got {self.name!r} with support {self.support}. Sum it out in the "
                "model, or write a guide for it."
            )
        if self.plate == "rows" and len(self.frames) > 1:
            names = ", ".join(frame[0] for frame in self.frames)
            raise PlatewiseError(
                f"Expected site {self.name!r} in the row plate alone, got plates {names}. Put its other axes into the "
                "event with .to_event()."
            )


def _prior_start(site: Any, bijection: Any, is_real: bool, first: bool) -> Start:
    """Mean and standard deviation of the prior on the real line; 0 and 1 where it has none there."""
    mean, sd = _moments(site["fn"])
    loc = mean if is_real else bijection.inv(mean)
    unit = torch.where(sd.isfinite() & (sd > 0), sd, 1.0) if is_real else torch.ones_like(loc)
    loc = torch.where(loc.isfinite(), loc, 0.0)
    return (loc[0], unit[0]) if first else (loc, unit)


def _moments(prior: Any) -> Start:
    shape = prior.shape()
    try:
        return prior.mean.expand(shape), prior.stddev.expand(shape)
    except NotImplementedError:
        return torch.full(shape, torch.nan), torch.full(shape, torch.nan)
