"""A guide starts where the prior's means are, whatever the seed; and its divergence stays in closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch
from platewise.guides import MeanFieldNormal, RowBlockNormal
from torch import nn
from torch.distributions import kl_divergence


class Hierarchy(nn.Module):
    """Levels around an unknown mean, with an unknown spread and a matrix of weights."""

    def forward(self, batch: RowBatch) -> None:
        m = pyro.sample("m", dist.Normal(batch.value.new_tensor(3.0), 100.0))
        tau = pyro.sample("tau", dist.HalfCauchy(batch.value.new_tensor(2.0)))
        pyro.sample("weights", dist.Normal(batch.value.new_zeros(3, 2), 1.0).to_event(2))
        with batch.row_plate("rows"):
            a = pyro.sample("a", dist.Normal(m, tau))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(batch.at_rows(a, event_dim=0), 1.0), obs=batch.value)


@pytest.fixture(params=[MeanFieldNormal, RowBlockNormal])
def guide(request):
    made = request.param()
    made.setup(Hierarchy(), RowBatch.blank(5, 4))
    return made


def test_children_start_at_the_means_of_their_parents(guide):
    q = guide.posterior(RowBatch.blank(5, 4))
    assert q["m"].mean == 3
    assert (q["a"].mean == 3).all()
    scale = q["tau"].sample((200,)).log()  # no mean: the middle of its support on the real line
    assert scale.mean().abs() < 5 * scale.std() / 200**0.5


def test_the_divergence_of_a_matrix_is_in_closed_form(guide):
    q = guide.posterior(RowBatch.blank(5, 4))["weights"]
    prior = dist.Normal(torch.zeros(3, 2), 1.0).to_event(2)
    x = q.sample((40_000,))
    sampled = q.log_prob(x) - prior.log_prob(x)
    error = sampled.std() / len(x) ** 0.5
    assert (kl_divergence(q, prior) - sampled.mean()).abs() < 4.5 * error
