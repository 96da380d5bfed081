"""The table of families: its divergences where they are known, and its order."""

import importlib.util
from pathlib import Path

import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch
from platewise.guides import Flow

spec = importlib.util.spec_from_file_location("families", Path(__file__).parents[2] / "benchmarks" / "families.py")
families = importlib.util.module_from_spec(spec)
spec.loader.exec_module(families)

PAIR = families.TARGETS["correlated normal"]


@pytest.mark.parametrize("name", list(families.TARGETS))
def test_targets_have_mass_one(name):
    """Under a wide law that covers them: the mean of p / q is 1."""
    target = families.TARGETS[name]
    wide = dist.MultivariateStudentT(torch.tensor(3.0), torch.zeros(target.d), 2.5 * torch.eye(target.d))
    z = wide.sample(torch.Size([400_000]))
    ratio = (target.log_prob(z) - wide.log_prob(z)).exp()
    assert abs(ratio.mean() - 1) < max(6 * float(ratio.std()) / len(ratio) ** 0.5, 0.01)


def test_quadrature_is_exact_where_the_divergence_is_known():
    truth = dist.MultivariateNormal(torch.tensor([1.0, -1.0]), torch.tensor([[1.0, 1.35], [1.35, 2.25]]))
    other = dist.MultivariateNormal(torch.tensor([0.5, -1.0]), torch.eye(2))
    expected = torch.distributions.kl_divergence(other, truth)
    assert families.by_quadrature(truth, PAIR)[0] == pytest.approx(0.0, abs=1e-9)
    assert families.by_quadrature(other, PAIR)[0] == pytest.approx(float(expected), abs=1e-6)


def test_quadrature_over_the_base_of_a_flow_agrees_with_draws():
    guide = Flow(units=4)
    guide.setup(PAIR, RowBatch.blank(1, 1))
    with torch.no_grad():
        for x in guide.double().parameters():
            x += 0.1 * torch.randn_like(x)
        exact, _ = families.by_quadrature(guide.joint(), PAIR)
        mean, error = families.by_monte_carlo(guide.joint(), PAIR)
    assert abs(exact - mean) < 5 * error + 1e-4


def test_inversions_are_those_beyond_the_error():
    row = {"factorised": (0.5, 0.0), "full": (0.6, 0.01), "flow": (0.61, 0.01), "mixture of 3": (0.5, 0.1)}
    assert list(families.inversions(row)) == [("factorised", "full"), ("factorised", "flow")]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("name", ["correlated normal", "banana", "two modes", "funnel"])
def test_no_richer_family_ends_worse(name):
    row = {
        family: families.ended(families.TARGETS[name], make, steps=1000, particles=64, seeds=3)
        for family, make in families.FAMILIES.items()
        if family != "flow"
    }
    row["flow"] = families.ended(families.TARGETS[name], Flow, steps=1000, particles=64, seeds=2)
    assert not list(families.inversions(row)), row
