"""The bound with the latents held fixed: what mini-batches must average to exactly, whatever model and guide."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from pyro import poutine
from torch import Tensor, nn

from ..data.batches import RowBatch
from ..data.sites import latent_sites, plate_of


class FixedLatents:
    """One draw of every latent site of a guide, of all rows.

    Args:
        model: The model, which says which sites are of rows.
        guide: The guide, with its parameters.
        whole: All rows, first to last.

    Attributes:
        values: The draw, as leaves that take gradients.
    """

    def __init__(self, model: nn.Module, guide: nn.Module, whole: RowBatch) -> None:
        with torch.no_grad():
            traces = [poutine.trace(part).get_trace(whole) for part in (guide, model)]
        self.values = {name: _leaf(site["value"]) for name, site in latent_sites(traces[0]).items()}
        self._of_rows = {
            name for t in traces for name, site in latent_sites(t).items() if plate_of(site, t, whole) == "rows"
        }

    def on(self, batch: RowBatch) -> dict[str, Tensor]:
        """The draw as a batch sees it: row sites at the batch's rows, the others whole."""
        return {name: x[batch.rows] if name in self._of_rows else x for name, x in self.values.items()}

    def bound(self, model: nn.Module, guide: nn.Module, batch: RowBatch) -> Tensor:
        """Log p(data, latents) - log q(latents) at the draw, estimated from a batch, in nats."""
        values = self.on(batch)
        q, p = (poutine.trace(poutine.condition(part, data=values)).get_trace(batch) for part in (guide, model))
        difference: Tensor = p.log_prob_sum() - q.log_prob_sum()
        return difference

    def averaged(
        self, model: nn.Module, guide: nn.Module, batches: Iterable[RowBatch]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The bound's mean over batches, weighted by their shares of the rows, and its gradients.

        Returns:
            The mean, and its gradient by each parameter of model and guide and by each latent, by name.
        """
        parts = [self.bound(model, guide, batch) * len(batch.rows) / batch.n_rows for batch in batches]
        total: Tensor = torch.stack(parts).sum()
        of = {**self.values, **_parameters("model", model), **_parameters("guide", guide)}
        of = {name: x for name, x in of.items() if x.requires_grad}
        grads = torch.autograd.grad(total, list(of.values()), allow_unused=True)
        dense = (torch.zeros(()) if g is None else g.to_dense() if g.is_sparse else g for g in grads)
        return total.detach(), dict(zip(of, dense, strict=True))


def _parameters(kind: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{kind}.{name}": parameter for name, parameter in module.named_parameters()}


def _leaf(x: Tensor) -> Tensor:
    return x.detach().clone().requires_grad_(x.is_floating_point())
