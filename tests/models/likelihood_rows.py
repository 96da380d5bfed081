"""Small batches and parameters for tests of likelihoods."""

import pytest
import torch
from platewise.data import RowBatch
from platewise.models import LIKELIHOODS

NAMES = pytest.mark.parametrize("name", LIKELIHOODS)
OF_EACH_ENTRY = pytest.mark.parametrize("name", [name for name in LIKELIHOODS if name != "multinomial"])


def parameters_of(name: str, shape: tuple[int, ...], per_column: bool = True) -> list[torch.Tensor]:
    """Parameters of rows of `shape`, in the order in which the likelihood takes them."""
    rest = shape[-1:] if per_column else shape[-2:]
    others = {"gaussian": [torch.rand(shape[-1]) + 0.5], "negative-binomial": [2 * torch.randn(rest)]}
    others["zero-inflated-negative-binomial"] = [2 * torch.randn(rest), torch.randn(rest)]
    return [torch.randn(shape), *others.get(name, [])]


def valued(batch: RowBatch, name: str) -> RowBatch:
    """The batch with values that the likelihood allows."""
    values = {"gaussian": batch.value, "bernoulli": (batch.value > 0).to(batch.value)}
    return with_values(batch, values.get(name, (4 * batch.value).abs()))


def with_values(batch: RowBatch, value: torch.Tensor) -> RowBatch:
    return RowBatch(batch.rows, batch.crow, batch.col, value, batch.n_rows, batch.n_cols)


def a_batch(name: str = "poisson") -> RowBatch:
    """Three rows of four columns, the second empty; one stored zero; columns out of order."""
    crow, col = torch.tensor([0, 3, 3, 5]), torch.tensor([2, 0, 1, 3, 0])
    return valued(RowBatch(torch.tensor([4, 0, 6]), crow, col, torch.tensor([0.5, 0.25, 0.0, 3.0, 0.75]), 9, 4), name)


def value_and_gradients(log_prob: torch.Tensor, of: list[torch.Tensor]) -> list[torch.Tensor]:
    weight = torch.linspace(0.5, 2.0, log_prob.numel()).view_as(log_prob)
    return [log_prob, *torch.autograd.grad((weight * log_prob).sum(), of, allow_unused=True, materialize_grads=True)]
