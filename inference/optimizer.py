"""One optimiser for dense parameters and row tables together.

Stock Adam refuses sparse gradients, SparseAdam dense ones, and clipping refuses sparse ones. Here a fused Adam works
on the dense parameters and `RowAdam` on the row tables, with one schedule, one gradient norm, and one decision, taken
on the device, to skip a step whose gradient is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class RowAdam(torch.optim.Optimizer):
    """Adam on the rows that a step touched; the others, and their moments, stay as they are.

    A row counts its own steps: its bias correction is that of the times it was seen. A row that stands twice in a
    gradient must carry its total both times (`merge_rows`).

    Source:
        Kingma and Ba (2015), Adam, applied by rows.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, betas: tuple[float, float], eps: float = 1e-15
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None, *, skip: Tensor | None = None) -> None:  # type: ignore[override]
        """Update the touched rows, unless `skip` is true (read on the device)."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, group, skip)

    def _update(self, table: nn.Parameter, group: Mapping[str, Any], skip: Tensor | None) -> None:
        state = self.state[table] or self._start(table)
        rows, grad = table.grad._indices()[0], table.grad._values()  # type: ignore[union-attr]
        beta1, beta2 = group["betas"]
        count = state["count"][rows] + 1
        mean = torch.lerp(state["exp_avg"][rows], grad, 1 - beta1)
        square = torch.lerp(state["exp_avg_sq"][rows], grad * grad, 1 - beta2)
        size = (1 - beta2**count).sqrt() / (1 - beta1**count) * group["lr"]
        value = table[rows] - size[:, None] * mean / (square.sqrt() + group["eps"])
        new = {"exp_avg": mean, "exp_avg_sq": square, "count": count}
        for old, fresh in [(table, value), *((state[key], x) for key, x in new.items())]:
            old.index_copy_(0, rows, fresh if skip is None else torch.where(skip, old[rows], fresh))

    def _start(self, table: nn.Parameter) -> dict[str, Tensor]:
        self.state[table] = {
            "exp_avg": torch.zeros_like(table),
            "exp_avg_sq": torch.zeros_like(table),
            "count": table.new_zeros(len(table)),
        }
        return self.state[table]


def merge_rows(grad: Tensor) -> tuple[Int[Tensor, " k"], Float[Tensor, "k width"], Int[Tensor, " k"]]:
    """Add up the gradients of rows that were looked up more than once, without waiting for the device.

    `coalesce` would wait, to learn how many rows there are. Here repeated rows stay, each to be given the same total.

    Args:
        grad: Sparse gradient of a table, with k looked-up rows.

    Returns:
        The rows, sorted; the totals, one per distinct row and zeros after them; and where each row's total stands.
    """
    rows, order = grad._indices()[0].sort()
    values = grad._values()[order]
    segment = torch.cat([rows.new_zeros(1), (rows.diff() != 0).long()]).cumsum(0)
    return rows, torch.zeros_like(values).index_add_(0, segment, values), segment


class PairedAdam:
    """Dense Adam and `RowAdam` as one.

    The learning rate is in prior standard deviations. Weights of networks know no such unit: a module with an attribute
    `step_scale` (a float) has its parameters step by that times the rate.

    Args:
        module: Whose parameters to train; those of `nn.Embedding(sparse=True)` go to the row-wise part.
        betas: Decay rates of the dense part.
        row_betas: Decay rates of the row-wise part: a row is seen once an epoch.
        clip_norm: Bound on the norm of the whole gradient, in the units of the loss.
        weight_decay: Penalty on dense parameters with two axes or more, the weights of networks.
    """

    def __init__(
        self,
        module: nn.Module,
        betas: tuple[float, float],
        row_betas: tuple[float, float],
        clip_norm: float,
        weight_decay: float = 0.0,
    ) -> None:
        tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding) and m.sparse}
        named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        self.named = named
        self.dense = [p for p in named.values() if id(p) not in tables]
        self.rows = [p for p in named.values() if id(p) in tables]
        self.parts: list[torch.optim.Optimizer] = []
        if self.dense:
            groups = _groups(self.dense, weight_decay, _step_scales(module))
            self.parts.append(torch.optim.Adam(groups, lr=0.0, betas=betas, eps=1e-15, fused=True))
        if self.rows:
            self.parts.append(RowAdam(self.rows, lr=0.0, betas=row_betas))
        self.clip_norm = clip_norm
        device = next(iter(named.values())).device
        self.skipped = torch.zeros((), device=device)

    def zero_grad(self) -> None:
        """Forget gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self, lr: float, loss: Tensor | None = None) -> Tensor:
        """Clip and update, unless the gradient or the loss is not finite; return whether it did, on the device."""
        merged = {p: merge_rows(p.grad) for p in self.rows if p.grad is not None}
        grads = [p.grad for p in self.dense if p.grad is not None] + [summed for _, summed, _ in merged.values()]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        torch._foreach_mul_(grads, (self.clip_norm / norm).clamp(max=1.0))
        for p, (rows, summed, segment) in merged.items():
            p.grad = torch.sparse_coo_tensor(rows[None], summed[segment], p.shape, check_invariants=False)
        skip = ~norm.isfinite() if loss is None else ~(norm + loss.detach()).isfinite()
        self.skipped += skip
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr * group.get("step_scale", 1.0)
            self._step_part(part, skip)
        return ~skip

    def _step_part(self, part: torch.optim.Optimizer, skip: Tensor) -> None:
        if isinstance(part, RowAdam):
            part.step(skip=skip)
            return
        part.found_inf = skip.float()  # type: ignore[attr-defined]  # the fused kernel reads it on the device
        part.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Moments and counts by parameter name, as tensors."""
        by_id = {id(p): name for name, p in self.named.items()}
        return {
            f"{by_id[id(p)]}:{key}": value
            for part in self.parts
            for p, state in part.state.items()
            for key, value in state.items()
        } | {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take up where `state_dict` left off."""
        parts = {id(p): part for part in self.parts for group in part.param_groups for p in group["params"]}
        for name, value in state.items():
            parameter, _, key = name.rpartition(":")
            if parameter:
                p = self.named[parameter]
                parts[id(p)].state[p][key] = value.clone().to(p.device)
        self.skipped = state["skipped"].clone().to(self.skipped.device)


def _groups(params: list[nn.Parameter], weight_decay: float, scales: Mapping[int, float]) -> list[dict[str, Any]]:
    """Groups of parameters: weights, which decay, apart from the others, and steps of other sizes apart."""
    kinds: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in params:
        kinds.setdefault((weight_decay if p.ndim > 1 else 0.0, scales.get(id(p), 1.0)), []).append(p)
    return [{"params": some, "weight_decay": decay, "step_scale": s} for (decay, s), some in kinds.items()]


def _step_scales(module: nn.Module) -> dict[int, float]:
    """Of parameters below a module with `step_scale`, that: what the learning rate is multiplied by for them."""
    scaled: list[Any] = [m for m in module.modules() if isinstance(getattr(m, "step_scale", None), float)]
    return {id(p): m.step_scale for m in scaled for p in m.parameters()}


def one_cycle(fraction: float, peak: float, warmup: float, final: float) -> float:
    """Learning rate after a fraction of the steps: a linear rise, then half a cosine down to `final * peak`.

    Source:
        Smith and Topin (2018), Super-convergence; Loshchilov and Hutter (2017), SGDR.
    """
    if fraction < warmup:
        return peak * (0.1 + 0.9 * fraction / warmup)
    done = (fraction - warmup) / max(1 - warmup, 1e-12)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
