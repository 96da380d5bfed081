"""The mistakes that are made most in models and guides: each has its own message, with the line to change."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import PlatewiseError, RowBatch, make_ratings
from platewise.guides import MeanFieldNormal
from platewise.inference import svi
from platewise.models import PoissonRows
from pyro.infer.autoguide import AutoDelta
from torch import nn

from . import broken_models as broken

STARS = sp.csr_matrix([[5, 0, 3, 1], [4, 2, 0, 0], [0, 1, 1, 3.5], [2, 0, 0, 5], [1, 1, 2, 0]], dtype="float32")
DATA = make_ratings(STARS, list("abcde"), list("wxyz"))


def unit() -> dist.Normal:
    return dist.Normal(torch.zeros(()), 1.0)


def levels(batch: RowBatch) -> torch.Tensor:
    with batch.row_plate("rows"):
        return pyro.sample("level", unit())


def observe(batch: RowBatch, mean: torch.Tensor) -> None:
    with batch.entries("entries"):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=batch.value)


def latent_without_a_plate(batch: RowBatch) -> None:
    level = pyro.sample("level", unit().expand([len(batch.rows)]))
    observe(batch, batch.at_rows(level, 0))


def likelihood_in_a_plate_of_its_own(batch: RowBatch) -> None:
    mean = batch.at_rows(levels(batch), 0)
    with pyro.plate("ratings", len(batch.value)):
        pyro.sample("y", dist.Normal(mean, 0.5), obs=batch.value)


def likelihood_in_no_plate(batch: RowBatch) -> None:
    mean = batch.at_rows(levels(batch), 0)
    pyro.sample("y", dist.Normal(mean, 0.5).to_event(1), obs=batch.value)


def forgotten_data(batch: RowBatch) -> None:
    mean = batch.at_rows(levels(batch), 0)
    with batch.entries("entries"):
        pyro.sample("y", dist.Normal(mean, 0.5))


def stars_as_clicks(batch: RowBatch) -> None:
    logits = batch.at_rows(levels(batch), 0)
    with batch.entries("entries"):
        pyro.sample("y", dist.Bernoulli(logits=logits), obs=batch.value)


def half_stars_as_counts(batch: RowBatch) -> None:
    rate = batch.at_rows(levels(batch), 0).exp()
    with batch.entries("entries"):
        pyro.sample("y", dist.Poisson(rate), obs=batch.value)


def negative_scale(batch: RowBatch) -> None:
    scale = -1 - pyro.sample("mu", unit()) ** 2
    with batch.row_plate("rows"):
        level = pyro.sample("level", dist.Normal(0.0, scale))
    observe(batch, batch.at_rows(level, 0))


def logarithm_of_a_negative_number(batch: RowBatch) -> None:
    rate = (-1 - levels(batch) ** 2).log()
    with batch.entries("entries"):
        pyro.sample("y", dist.Normal(batch.at_rows(rate, 0), 0.5), obs=batch.value)


def rows_by_global_index(batch: RowBatch) -> None:
    level = levels(batch)
    mean = level[batch.rows][batch.row]
    observe(batch, mean)


def rows_not_spread_over_entries(batch: RowBatch) -> None:
    level = levels(batch)
    with batch.entries("entries"):
        pyro.sample("y", dist.Normal(level, 0.5), obs=batch.value)


def one_name_twice(batch: RowBatch) -> None:
    level = levels(batch)
    mu = pyro.sample("level", unit())
    observe(batch, mu + batch.at_rows(level, 0))


def plate_made_twice(batch: RowBatch) -> None:
    level = levels(batch)
    with batch.row_plate("rows"):
        other = pyro.sample("other", unit())
    observe(batch, batch.at_rows(level + other, 0))


def columns_inside_rows(batch: RowBatch) -> None:
    with batch.row_plate("rows"), batch.col_plate("items"):
        pyro.sample("level", unit())


def discrete_latent(batch: RowBatch) -> None:
    with batch.row_plate("rows"):
        likes = pyro.sample("likes", dist.Bernoulli(0.5))
    observe(batch, batch.at_rows(likes, 0))


def gamma_of_zeros(batch: RowBatch) -> None:
    rate = batch.at_rows(levels(batch), 0).exp()
    with batch.entries("entries"):
        pyro.sample("y", dist.Gamma(2.0, rate), obs=batch.value - 1)


def rate_that_overflows(batch: RowBatch) -> None:
    rate = (1000 + batch.at_rows(levels(batch), 0)).exp()
    with batch.entries("entries"):
        pyro.sample("y", dist.Poisson(rate), obs=batch.value.round())


def rate_that_overflows_in_whole_rows(batch: RowBatch) -> None:
    counts = replace(batch, value=batch.value.round())
    with batch.row_plate("rows"):
        level = pyro.sample("level", unit())
        log_rate = (1000 + level)[..., None] + batch.value.new_zeros(batch.n_cols)
        pyro.sample("y", PoissonRows(counts, log_rate), obs=counts.value)


def factor_that_overflows(batch: RowBatch) -> None:
    level = batch.at_rows(levels(batch), 0)
    with batch.entries("entries"):
        pyro.factor("y", -batch.value * (1000 + level).exp())


class WantsMore(nn.Module):
    def forward(self, values: torch.Tensor, n_users: int) -> None:
        pass


class Mistake(NamedTuple):
    """A broken program, what the message says, the text of the line that it names, and the guide."""

    model: Callable
    message: str
    line: str
    guide: Callable = MeanFieldNormal


MISTAKES = {
    "a latent of rows in no plate": Mistake(
        latent_without_a_plate, "'level', of the batch's 3 rows, .* got it in none", 'level = pyro.sample("level"'
    ),
    "a plate that draws its own rows": Mistake(
        broken.OwnRows(), "plate 'rows' of site 'level' .* got one that draws its own", 'with pyro.plate("rows"'
    ),
    "a plate of the batch's size": Mistake(
        broken.PlateOfTheBatch(), "one of the batch's size 3 .* has no scale. Write", 'with pyro.plate("rows", len('
    ),
    "a site that the guide lacks": Mistake(
        broken.Levels(), "Add 'mu' .* to it", 'mu = pyro.sample("mu"', broken.LacksASite
    ),
    "a site that the model lacks": Mistake(
        broken.Levels(), "Remove 'nu' .* from it", 'pyro.sample("nu"', broken.MoreSites
    ),
    "a guide without the row plate": Mistake(
        broken.Levels(), "'level' in the plate of the batch's rows", 'pyro.sample("level"', broken.OutsideThePlate
    ),
    "log-probabilities that broadcast": Mistake(
        broken.Broadcasts(), r"shape \(\d+,\), got \(\d+, \d+\) .* Something broadcasts", 'pyro.sample("y", dist.Norm'
    ),
    "entries inside rows": Mistake(
        broken.EntriesInRows(), "'entries' outside any row plate, got it inside 'rows'", "with batch.entri"
    ),
    "a likelihood in a plate of its own": Mistake(
        likelihood_in_a_plate_of_its_own, "in plate 'ratings' of its own .* batch.entries.'rat", 'with pyro.plate("rati'
    ),
    "a likelihood in no plate": Mistake(
        likelihood_in_no_plate, "to all rows, got it in no plate .* batch.entries.'entries'", 'pyro.sample("y"'
    ),
    "forgotten data": Mistake(forgotten_data, "'y' in the plate of entries. Pass obs=batch.value", 'pyro.sample("y"'),
    "forgotten data, by a guide of Pyro's": Mistake(
        forgotten_data, "'y' of the batch's entries to be observed, .* Pass obs=", 'pyro.sample("y"', None
    ),
    "pyro.param": Mistake(broken.GlobalParameter(), "got pyro.param.'level'. .* Make it an", "level = pyro.param("),
    "stars under a Bernoulli": Mistake(
        stars_as_clicks, "'y' to be 0 or 1, as Bernoulli has them, got [2-5]", 'pyro.sample("y", dist.Bernoulli'
    ),
    "half stars under an integer law": Mistake(
        half_stars_as_counts, "whole numbers from 0, as Poisson has them, got 3.5", 'pyro.sample("y", dist.Poisson'
    ),
    "a negative scale": Mistake(
        negative_scale, r"scale of Normal to be numbers above 0, got -.* Take .exp\(\)", 'level = pyro.sample("level"'
    ),
    "parameters that are not numbers": Mistake(
        logarithm_of_a_negative_number, "loc of Normal .* not NaN, got nan .* Look for", 'pyro.sample("y", dist.N'
    ),
    "values of no density": Mistake(
        gamma_of_zeros, "'y', got -inf for the value 0 under Gamma .* Choose a likelihood", 'pyro.sample("y", dist.Gam'
    ),
    "a rate that overflows": Mistake(
        rate_that_overflows, r"'y', got nan for the value \d under Poisson .* bounds: softp", 'pyro.sample("y", dist.P'
    ),
    "a rate that overflows in whole rows": Mistake(
        rate_that_overflows_in_whole_rows, r"'y', got -inf for row \d under PoissonRows", 'pyro.sample("y", Poisson'
    ),
    "a factor that overflows": Mistake(factor_that_overflows, "'y', got -inf .test_", 'pyro.factor("y"'),
    "rows by global index": Mistake(
        rows_by_global_index, r"row \d of a tensor that holds the . of the batch .* batch.at_rows", "mean = level[batch"
    ),
    "rows not spread over entries": Mistake(
        rows_not_spread_over_entries, r"'y' of size \d, as plate 'entries' .* size 3 .* batch.at_row", 'pyro.sample("y"'
    ),
    "one name twice": Mistake(one_name_twice, "every name once .* got 'level' again", 'mu = pyro.sample("level"'),
    "a plate made twice": Mistake(plate_made_twice, "got 'rows' again .* make a plate once", "with batch.row_plate("),
    "columns inside rows": Mistake(columns_inside_rows, "got 'items' inside 'rows' .* Close 'rows'", "with batch.row_"),
    "a discrete latent": Mistake(
        discrete_latent, "Expected continuous latent sites, got 'likes' with support", 'likes = pyro.sample("likes"'
    ),
    "a model that does not take a batch": Mistake(
        WantsMore(), r"called as model\(batch\), got forward of WantsMore with arguments \(values", "def forward("
    ),
}  # fmt: skip


def message_of(mistake: Mistake, batch_rows: int) -> str:
    guide = AutoDelta(pyro.poutine.block(mistake.model, hide=["y"])) if mistake.guide is None else mistake.guide()
    with pytest.raises(PlatewiseError) as error:
        svi.fit(mistake.model, guide, DATA, epochs=1, batch_rows=batch_rows, progress=False)
    return str(error.value)


@pytest.mark.parametrize("name", MISTAKES)
def test_each_is_told_in_one_line_with_the_line_to_change(name):
    mistake = MISTAKES[name]
    message = message_of(mistake, batch_rows=3)
    assert re.search(mistake.message, message), message
    assert "\n" not in message
    assert re.match(r"Expected .*, got .*\. [A-Z].*\.$", message), message
    where = re.search(r"\((\w+\.py), line (\d+): `([^`]*)`\)", message)
    assert where, message
    assert where[3].startswith(mistake.line), message
    assert where[1] in ("broken_models.py", "test_commonest_mistakes.py")


def test_no_two_mistakes_have_one_message():
    messages = [mistake.message for mistake in MISTAKES.values()]
    assert len(set(messages)) == len(MISTAKES) >= 10


class DrawsLikes(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        with batch.row_plate("rows"):
            pyro.sample("likes", dist.Bernoulli(0.5))


def test_a_discrete_latent_is_refused_with_a_guide_by_hand_too():
    with pytest.raises(PlatewiseError, match=r"got 'likes' of Bernoulli, .* line \d+: `likes = .* Sum it out"):
        svi.fit(discrete_latent, DrawsLikes(), DATA, epochs=1, progress=False)


HIDDEN = ("a plate that draws its own rows", "a plate of the batch's size", "rows by global index")


@pytest.mark.parametrize("name", HIDDEN)
def test_a_batch_of_all_rows_hides_none(name):
    """Where every row is in the batch, the mistake shows with fewer rows alone."""
    expected = MISTAKES[name].message.replace("size 3", "size 5").replace("the . of", "the 2 of")
    assert re.search(expected, message_of(MISTAKES[name], batch_rows=5))
