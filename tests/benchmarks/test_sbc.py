"""Simulation-based calibration: NUTS on closed forms, what cannot be recorded, and tables that pass and fail."""

import importlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import scipy.sparse as sp
import torch
from platewise.data import RowLoader, make_ratings, simulate_ratings, source_of
from platewise.data.errors import PlatewiseError
from platewise.models import LatentFactor
from torch import nn

FOLDER = Path(__file__).parents[2] / "benchmarks"
QUANTITIES = ["f(0, 0)", "f(7, 3)", "log-likelihood", "mu"]


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


class GammaPoisson(nn.Module):
    """rate ~ Gamma(2, 1), counts ~ Poisson(rate): the posterior is Gamma(2 + sum, 1 + n)."""

    def forward(self, batch):
        rate = pyro.sample("rate", dist.Gamma(batch.value.new_tensor(2.0), 1.0))
        with batch.entries("counts"):
            pyro.sample("count", dist.Poisson(rate), obs=batch.value)


class Branching(GammaPoisson):
    """A program that looks at a value of its latents, in numpy."""

    def forward(self, batch):
        rate = pyro.sample("rate", dist.Gamma(batch.value.new_tensor(2.0), 1.0))
        with batch.entries("counts"):
            pyro.sample("count", dist.Poisson(rate * float(rate.detach().numpy())), obs=batch.value)


def counts():
    return make_ratings(sp.csr_matrix(np.array([[3.0, 1.0], [2.0, 4.0]])), np.arange(2), np.arange(2))


def test_draws_are_those_of_a_closed_form_on_the_support_of_the_site(load):
    found = load("nuts").sampled(GammaPoisson(), counts(), 300, 60, 0)
    (rate,) = found.sites["rate"].numpy()
    assert rate.min() > 0
    assert rate.mean() == pytest.approx(12 / 5, abs=0.2)
    assert rate.std() == pytest.approx(12**0.5 / 5, rel=0.2)
    assert found.divergent == 0
    assert found.gradients > 360


def test_a_record_is_the_program_at_other_points(load):
    data = simulate_ratings(LatentFactor(2, sigma=0.5), 6, 5, 14, seed=0)[0]
    (batch,) = RowLoader(source_of(data).rows, 6, dtype=torch.float64).in_order()
    nuts = load("nuts")
    with pyro.validation_enabled(False):
        ran, played = (nuts.Potential(LatentFactor(2, sigma=0.5), of) for of in (batch, nuts._PlainBatch.of(batch)))
        played.record()
    for _ in range(3):
        z = ran.start().requires_grad_(True)
        energy = [potential({"z": z}) for potential in (ran, played)]
        torch.testing.assert_close(*energy)
        torch.testing.assert_close(*(torch.autograd.grad(x, z)[0] for x in energy))
    assert (ran.gradients, played.gradients) == (3, 3)


def test_a_program_that_takes_another_path_elsewhere_is_not_recorded(load):
    sampled = load("nuts").sampled
    with pytest.raises(PlatewiseError, match="recorded=False"):
        sampled(Branching(), counts(), 5, 5, 0)
    assert sampled(Branching(), counts(), 5, 5, 0, recorded=False).sites["rate"].shape == (1, 5)


def test_all_methods_see_the_same_data_and_a_run_goes_on(load, tmp_path, monkeypatch):
    sbc, methods = load("sbc"), load("sbc_methods")
    seen = []

    def prior(data, draws, seed):
        """Draws of the prior, which is a posterior of nothing."""
        seen.append(data.X.data)
        generator = torch.Generator().manual_seed(seed)
        shapes = {"mu": (draws,), "user": (draws, methods.USERS, 3), "item": (draws, methods.ITEMS, 3)}
        return methods.of_sites({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, 1, 7)

    monkeypatch.setattr(sbc, "BLOCK", 2)
    monkeypatch.setattr(sbc, "DRAW", dict.fromkeys(sbc.Method, prior))
    sbc.run(sbc.Method.gibbs, tmp_path, data_sets=4, seed=1)
    sbc.run(sbc.Method.nuts, tmp_path, data_sets=2, seed=1)
    sbc.run(sbc.Method.nuts, tmp_path, data_sets=4, seed=1)
    np.testing.assert_array_equal(seen[:4], seen[4:])
    assert len({x[0] for x in seen}) == 4
    one, other = (pd.read_csv(tmp_path / f"{name}.csv").drop(columns="seconds") for name in ("gibbs", "nuts"))
    pd.testing.assert_frame_equal(one, other)
    assert sbc.cost(one, sbc.Method.nuts)[-2:] == ["4", "7"]
    sbc.table(tmp_path)


@pytest.mark.slow
def test_methods_agree_on_means_and_guides_are_narrower(load):
    """Of all cells of one data set; chains of 400 draws."""
    methods = load("sbc_methods")
    data, _ = methods.simulate(0)
    drawn = {method: methods.DRAW[method](data, 100, 1).expected for method in methods.Method}
    exact = drawn[methods.Method.gibbs]
    away = {method: np.abs(x.mean(0) - exact.mean(0)) / exact.std(0) for method, x in drawn.items()}
    assert max(x.mean() for x in away.values()) < 0.2
    width = {method: (x.std(0) / exact.std(0)).mean() for method, x in drawn.items()}
    assert width[methods.Method.nuts] == pytest.approx(1, abs=0.08)
    assert width[methods.Method.mean_field] < width[methods.Method.row_block] < 0.97


def test_quantities_are_those_of_the_true_sites(load):
    methods = load("sbc_methods")
    data, truth = methods.simulate(3)
    again, sites = simulate_ratings(methods.model(), methods.USERS, methods.ITEMS, methods.RATINGS, seed=3)
    assert (data.X != again.X).nnz == 0
    i, j = methods.CELLS[1]
    expected = sites["mu"] + sites["a"][i] + sites["b"][j] + sites["A"][i] @ sites["B"][j]
    assert truth[f"f({i}, {j})"] == pytest.approx(expected)
    at = data.X.tocoo()
    mean = sites["mu"] + sites["a"][at.row] + sites["b"][at.col] + (sites["A"][at.row] * sites["B"][at.col]).sum(1)
    density = torch.distributions.Normal(torch.from_numpy(mean), methods.SCALES["sigma"])
    assert truth["log-likelihood"] == pytest.approx(float(density.log_prob(torch.from_numpy(at.data)).sum()))


def ranks(draws: int, width: float, n: int = 100) -> pd.DataFrame:
    """Of true values among draws of normals so many times as wide as they should be."""
    rng = np.random.default_rng(0)
    drawn = width * rng.standard_normal((n, draws, len(QUANTITIES)))
    return pd.DataFrame((drawn < rng.standard_normal((n, 1, len(QUANTITIES)))).sum(1), columns=QUANTITIES)


@pytest.mark.parametrize(("width", "says"), [(1.0, "no departure seen"), (0.5, "posteriors are too narrow")])
def test_a_table_passes_what_is_uniform_and_fails_what_is_narrow(load, width, says):
    sbc = load("sbc")
    *each, last = sbc.lines(ranks(sbc.DRAWS, width), sbc.Method.nuts)
    assert [row[1] for row in each] == QUANTITIES
    assert {row[-1] for row in each} == {says}
    p = last[sbc.HEADINGS.index("ecdf_p")]
    assert (float(p.removeprefix("<= ")) < 0.05) == (width < 1)
    assert last[1] == "all, 100 data sets"


def test_chains_that_stand_still_are_seen_to(load):
    rng = np.random.default_rng(0)
    mixing = load("sbc").mixing
    good, bad = mixing({"mu": rng.standard_normal(200)}), mixing({"mu": rng.standard_normal(200).cumsum()})
    assert good["R-hat"] < 1.05 < bad["R-hat"]
    assert good["least ESS"] > 120 > 20 > bad["ESS mu"]
