"""What looks like a mistake in one batch and is none passes; faults of a program's own keep their traceback."""

import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import RowBatch
from platewise.guides import MeanFieldNormal
from platewise.inference.constraint_words import first_violation, in_words
from platewise.inference.contract import check_contract, one_line
from platewise.inference.contract_runs import fewer_rows
from pyro import poutine
from torch import nn
from torch.distributions import constraints

from . import broken_models as broken


def batch_of(n_rows: int = 5, b: int = 5, n_cols: int = 5, per_row: int = 2) -> RowBatch:
    """Rows from the last to the first, each with as many entries, of values 0 and 1."""
    col = torch.arange(b * per_row) % n_cols
    crow = torch.arange(b + 1) * per_row
    rows = torch.arange(n_rows).flip(0)[:b]
    return RowBatch(rows, crow, col, (col % 2).double(), n_rows, n_cols, {"group": rows % 5})


def unit() -> dist.Normal:
    return dist.Normal(torch.zeros(()), 1.0)


def observe(batch: RowBatch, mean: torch.Tensor) -> None:
    with batch.entries("entries"):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=batch.value)


def five_groups(batch: RowBatch) -> None:
    with pyro.plate("groups", 5):
        effect = pyro.sample("effect", unit())
    observe(batch, batch.at_rows(effect[batch.covariates["group"]], 0))


def five_shares(batch: RowBatch) -> None:
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(5)))
    observe(batch, batch.at_rows(shares[batch.covariates["group"]], 0))


def level_of_every_row(batch: RowBatch) -> None:
    """Wasteful, and right: the plate is whole."""
    with pyro.plate("all", batch.n_rows):
        level = pyro.sample("level", unit())
    observe(batch, batch.at_rows(level[batch.rows], 0))


def scaled_by_hand(batch: RowBatch) -> None:
    mu = pyro.sample("mu", unit())
    with poutine.scale(scale=batch.scale):
        pyro.sample("y", dist.Normal(mu, 0.5).expand([len(batch.value)]).to_event(1), obs=batch.value)


def some_masked(batch: RowBatch) -> None:
    probs = pyro.sample("mu", dist.Beta(torch.ones(()), 1.0))
    with batch.entries("entries"), poutine.mask(mask=batch.value < 1):
        pyro.sample("y", dist.Bernoulli(probs), obs=batch.value * 7)


def a_factor(batch: RowBatch) -> None:
    mu = pyro.sample("mu", unit())
    with batch.entries("entries"):
        pyro.factor("y", -((batch.value - mu) ** 2))


def without_data(batch: RowBatch) -> None:
    pyro.sample("mu", unit())


def cannot_do_with_fewer_rows(batch: RowBatch) -> None:
    mu = pyro.sample("mu", unit())
    if 0 not in batch.rows:
        raise RuntimeError("Where is the first row?")
    observe(batch, mu)


MODELS = [
    five_groups,
    five_shares,
    level_of_every_row,
    scaled_by_hand,
    some_masked,
    a_factor,
    without_data,
    broken.Levels(),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [batch_of(), batch_of(9), batch_of(9, b=1), batch_of(9, per_row=0), batch_of(5, 2)])
def test_it_passes(model, batch):
    guide = MeanFieldNormal()
    guide.setup(model, batch)
    with pyro.validation_enabled(False):  # as in a fit
        check_contract(model, guide, batch)


def test_a_model_that_fewer_rows_do_not_suit_passes():
    guide = MeanFieldNormal()
    guide.setup(cannot_do_with_fewer_rows, batch_of())
    check_contract(cannot_do_with_fewer_rows, guide, batch_of())


class AuxiliarySite(broken.LevelsGuide):
    """The grand mean through a site of the guide's own."""

    def mu(self) -> None:
        raw = pyro.sample("raw", dist.Normal(self.mu_loc, self.scale), infer={"is_auxiliary": True})
        pyro.sample("mu", dist.Delta(2 * raw))


def test_auxiliary_sites_of_a_guide_pass():
    check_contract(broken.Levels(), AuxiliarySite(), batch_of(12))


def latent_per_entry(batch: RowBatch) -> None:
    with batch.entries("entries"):
        noise = pyro.sample("noise", unit())
        pyro.sample("y", dist.Normal(noise, 0.5), obs=batch.value)


class PerEntry(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        with batch.entries("entries"):
            pyro.sample("noise", dist.Normal(batch.value, 0.5))


def test_latents_of_entries_pass_with_a_guide_of_their_own():
    check_contract(latent_per_entry, PerEntry(), batch_of(9))


class Normalised(nn.Module):
    """A model with averages that change at every run, and a draw of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.runs = 0

    def forward(self, batch: RowBatch) -> None:
        self.runs += 1
        with batch.row_plate("rows"):
            z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        observe(batch, batch.at_rows(self.norm(z)).sum(-1))


def test_what_it_runs_besides_leaves_generators_and_averages_alone():
    """The same draws, and the same averages, as after one run of the guide and two of the model."""
    batch, states = batch_of(9), []
    for check in (check_contract, lambda model, guide, batch: _three_runs(model, guide, batch)):
        torch.manual_seed(1)
        model, guide = Normalised(), MeanFieldNormal()
        guide.setup(model, batch)
        check(model, guide, batch)
        states.append((torch.rand(3), model.norm.running_mean.clone(), model.runs))
    (draws, mean, runs), (expected_draws, expected_mean, fewer) = states
    assert runs > fewer
    assert torch.equal(draws, expected_draws)
    assert torch.equal(mean, expected_mean)


def _three_runs(model, guide, batch) -> None:
    with torch.no_grad():
        q, _ = (poutine.trace(module).get_trace(batch) for module in (guide, model))
        poutine.trace(poutine.replay(model, q)).get_trace(batch)


def own_fault(batch: RowBatch) -> None:
    without_data(batch)
    {}["a key that is not there"]


def own_index(batch: RowBatch) -> None:
    without_data(batch)
    torch.zeros(3)[7]


def own_value(batch: RowBatch) -> None:
    without_data(batch)
    raise ValueError("a reason of its own")


@pytest.mark.parametrize(("model", "kind"), [(own_fault, KeyError), (own_index, IndexError), (own_value, ValueError)])
def test_faults_of_a_program_are_let_through(model, kind):
    guide = MeanFieldNormal()
    guide.setup(without_data, batch_of())
    with pytest.raises(kind) as error, one_line():
        check_contract(model, guide, batch_of())
    assert type(error.value) is kind


def test_fewer_rows_are_those_furthest_down_with_all_their_entries():
    dense = sp.random(7, 4, 0.5, "csr", random_state=0)
    rows = torch.tensor([3, 6, 0, 5, 1])
    part = dense[rows.numpy()]
    crow, col = (torch.as_tensor(x).long() for x in (part.indptr, part.indices))
    fewer = fewer_rows(RowBatch(rows, crow, col, torch.as_tensor(part.data), 7, 4, {"x": rows * 10}))
    assert fewer.rows.tolist() == [6, 5]
    assert fewer.covariates["x"].tolist() == [60, 50]
    torch.testing.assert_close(fewer.dense(), torch.as_tensor(dense[[6, 5]].toarray()))


@pytest.mark.parametrize(
    ("constraint", "value", "words", "wrong"),
    [
        (constraints.nonnegative_integer, [0, 2.5, -1], "whole numbers from 0", "2.5"),
        (constraints.boolean, [0, 1, 5], "0 or 1", "5"),
        (constraints.positive, [1, 0], "numbers above 0", "0"),
        (constraints.unit_interval, [0, 1.5], "numbers from 0 to 1", "1.5"),
        (constraints.integer_interval(0, torch.tensor([2, 9])), [1, 10], "whole numbers from 0 to a bound of", "10"),
        (constraints.half_open_interval(0, 1), [0.5, 1], "numbers from 0 below 1", "1"),
        (constraints.independent(constraints.real, 1), [1, torch.nan], "numbers that are not NaN", "nan"),
        (constraints.simplex, [0.5, 0.2], "shares that sum to 1", r"[0.5, 0.2]"),
        (constraints.simplex, [0.1] * 5, "shares that sum to 1", r"[0.1, 0.1, 0.1, 0.1, ...]"),
        (constraints.nonnegative_integer, [0, 2], "whole numbers from 0", None),
    ],
)
def test_constraints_in_words(constraint, value, words, wrong):
    assert in_words(constraint).startswith(words)
    assert first_violation(constraint, torch.tensor(value)) == wrong
