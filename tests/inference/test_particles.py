"""Programs that index from the left are told so where a fit draws several particles at once, and only there."""

import re
from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch
from platewise.guides import MeanFieldNormal
from platewise.inference import svi
from torch import nn

from .test_commonest_mistakes import DATA, observe, unit


def vector(size: int) -> dist.Distribution:
    return dist.Normal(torch.zeros(size), 1.0).to_event(1)


def first_of_two(batch: RowBatch) -> None:
    line = pyro.sample("line", vector(2))
    observe(batch, line[0] + line[1] * batch.col)


def first_of_one(batch: RowBatch) -> None:
    """Every particle reads the first one's draw, and nothing broadcasts."""
    mu = pyro.sample("mu", vector(1))
    observe(batch, mu[0] + torch.zeros_like(batch.value))


def unpacked(batch: RowBatch) -> None:
    slope, intercept = pyro.sample("line", vector(2))
    observe(batch, intercept + slope * batch.col)


def axis_added_to_a_global(batch: RowBatch) -> None:
    mu = pyro.sample("mu", unit())
    observe(batch, mu[..., None] + torch.zeros_like(batch.value))


def first_factor_of_rows(batch: RowBatch) -> None:
    with batch.row_plate("rows"):
        z = pyro.sample("z", vector(3))
    observe(batch, batch.at_rows(z[:, 0], 0))


def rows_by_hand(batch: RowBatch) -> None:
    with batch.row_plate("rows"):
        level = pyro.sample("level", unit())
    observe(batch, level[batch.row])


def sum_of_everything(batch: RowBatch) -> None:
    observe(batch, pyro.sample("w", vector(4)).sum().expand(len(batch.value)))


FROM_THE_LEFT = {
    first_of_two: "several particles at once, got RuntimeError, The size .* `observe.batch, line.0.",
    first_of_one: "'y' to have the log-probabilities of each particle's own draw, got some of others",
    unpacked: "got ValueError, too many values to unpack .* `slope, intercept",
    axis_added_to_a_global: r"'y' with log-probabilities of its plates' shape \(4, \d+\), got \(4, 4, \d+\)",
    first_factor_of_rows: "'y' to have the log-probabilities of each particle's own draw, got some of others",
    rows_by_hand: r"several particles at once, got (IndexError|ValueError, Shape mismatch)",
    sum_of_everything: "'y' to have the log-probabilities of each particle's own draw, got some of others",
}


def fit(model: Callable | nn.Module, particles: int) -> None:
    svi.fit(model, MeanFieldNormal(), DATA, epochs=1, batch_rows=3, progress=False, particles=particles)


@pytest.mark.parametrize("model", FROM_THE_LEFT)
def test_what_indexes_from_the_left_is_told_so_in_one_line(model):
    fit(model, particles=1)
    with pytest.raises(PlatewiseError) as error:
        fit(model, particles=4)
    message = str(error.value)
    assert re.search(FROM_THE_LEFT[model], message), message
    assert re.match(r"Expected .*, got .*\.py, line \d+: .*[Ii]ndex from the right .*; or set particles=1\.$", message)
    assert "\n" not in message


class FromTheRight(nn.Module):
    """A global, a line and factors of rows; dropout and noise of its own, which no two runs share."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch: RowBatch) -> None:
        line = pyro.sample("line", vector(2))
        with batch.row_plate("rows"):
            z = pyro.sample("z", vector(3))
        mean = batch.at_rows(self.dropout(z)).sum(-1) + line[..., 0] + line[..., 1] * batch.col
        observe(batch, mean + self.noise(batch))

    def noise(self, batch: RowBatch) -> torch.Tensor:
        return torch.zeros_like(batch.value)


class Noisy(FromTheRight):
    """With noise of its own."""

    def noise(self, batch: RowBatch) -> torch.Tensor:
        return torch.randn_like(batch.value)


@pytest.mark.parametrize("make", [FromTheRight, Noisy])
def test_what_indexes_from_the_right_passes(make):
    model = make()
    fit(model, particles=4)
    assert model.dropout.training
