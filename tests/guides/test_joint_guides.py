"""Families of the globals beside guides of the rows and columns."""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import RowBatch, simulate_ratings
from platewise.guides import (
    AmortizedNormal,
    Flow,
    FullNormal,
    LowRankNormal,
    MeanFieldNormal,
    MixtureOfNormals,
    RowBlockNormal,
)
from platewise.inference import Fitted, svi
from platewise.inference.elbo import ClosedFormELBO, SampledELBO, elbo_of
from platewise.models import LatentFactor
from platewise.posterior import evaluate, predict, to_arviz
from platewise.testing.contract import ContractTests
from pyro import poutine
from pyro.infer import Trace_ELBO
from torch import nn

from .hierarchy import GLOBALS, Hierarchy, hierarchy_data
from .joint_families import EVERY, FAMILIES, data, made
from .set_blocks import perturb


class HierarchyContract(ContractTests):
    global_sites = GLOBALS
    make_model = Hierarchy
    make_data = staticmethod(data)


class TestFull(HierarchyContract):
    make_guide = staticmethod(FullNormal)


class TestLowRank(HierarchyContract):
    make_guide = staticmethod(lambda: LowRankNormal(3, MeanFieldNormal()))


class TestMixture(HierarchyContract):
    make_guide = staticmethod(lambda: MixtureOfNormals(2))


class TestMixtureOfParticles(TestMixture):
    options = {"particles": 2}  # noqa: RUF012


class TestFlow(HierarchyContract):
    make_guide = staticmethod(lambda: Flow(MeanFieldNormal(), units=8))


class TestSomeSitesAndColumns(ContractTests):
    """Columns may be in the joint, and globals may be left to the other guide."""

    make_model = staticmethod(lambda: LatentFactor(2))
    make_guide = staticmethod(lambda: FullNormal(MeanFieldNormal(), sites=["item"]))
    make_data = staticmethod(lambda: simulate_ratings(LatentFactor(2, sigma=0.5, user_scale=0.4), 40, 6, 120)[0])


def batch() -> RowBatch:
    return next(HierarchyContract()._loader().epoch(0))


@EVERY
def test_sites_are_in_their_supports_and_have_the_densities_of_the_change_of_variables(make):
    """The density of all sites is that of the vector on the real line less the Jacobian of the map to the sites."""
    guide = made(make, Hierarchy(), (1000, 4))
    perturb(guide)
    q = poutine.trace(guide).get_trace(batch())
    sites = {name: q.nodes[name] for name in GLOBALS}
    for name, site in poutine.trace(Hierarchy()).get_trace(batch()).nodes.items():
        if name in GLOBALS:
            assert site["fn"].support.check(sites[name]["value"]).all()
            assert sites[name]["value"].shape == site["value"].shape
    u = q.nodes[guide.auxiliary]["value"]
    k = [t.n * t.d for t in guide.tables]
    assert k == [1, 1, 2, 3, 4]
    _, log_spread, on_simplex, *_ = u.split(k)
    jacobian = log_spread.sum() + _stick_breaking_jacobian(on_simplex)
    density = sum(site["fn"].log_prob(site["value"]).sum() for site in sites.values())
    torch.testing.assert_close(density, -jacobian)


def _stick_breaking_jacobian(u: torch.Tensor) -> torch.Tensor:
    """By autograd: the map to the first two shares."""
    to_simplex = torch.distributions.biject_to(dist.Dirichlet(torch.ones(3)).support)
    return torch.autograd.functional.jacobian(lambda x: to_simplex(x)[:2], u).slogdet().logabsdet


@pytest.mark.parametrize(
    ("make", "particles"),
    [
        pytest.param(make, n, id=f"{n}-{name}", marks=[pytest.mark.slow] * (n > 1 or name == "flow"))
        for n in (1, 3)
        for name, make in FAMILIES.items()
    ],
)
def test_the_bound_agrees_with_that_of_pyro(make, particles):
    """`Trace_ELBO` takes everything at the draw; ours takes divergences of rows in closed form, strata by weight."""
    guide, data = made(make, Hierarchy(), (1000, 4)), batch()
    perturb(guide, 0.1)
    ours = SampledELBO(Hierarchy(), guide, particles)
    with torch.no_grad():
        theirs = torch.tensor([-Trace_ELBO().loss(Hierarchy(), guide, data) for _ in range(300)])
        found = torch.stack([ours(data) for _ in range(300 // particles)])
    error = (theirs.var() / len(theirs) + found.var() / len(found)).sqrt()
    assert abs(theirs.mean() - found.mean()) < 4 * error


class Vector(nn.Module):
    """One vector of globals, whose divergence from the prior has a closed form."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("w", dist.Normal(torch.tensor([0.0, 1.0, -1.0]), 1.5).to_event(1))


class Matrix(nn.Module):
    """The same as a matrix."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("w", dist.Normal(torch.ones(3, 2), 1.5).to_event(2))


class Scalar(nn.Module):
    """The same as a number."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("w", dist.Normal(torch.tensor(2.0), 1.5))


@pytest.mark.parametrize("make", [FullNormal, LowRankNormal])
@pytest.mark.parametrize("model", [Vector, Matrix, Scalar])
def test_a_single_site_of_normals_has_its_divergence_in_closed_form(make, model):
    guide = made(make, model())
    perturb(guide)
    empty = _without_entries(RowBatch.blank(12, 4))
    ours = SampledELBO(model(), guide)
    first, second = ours(empty), ours(empty)
    assert first == second
    with torch.no_grad():
        theirs = torch.tensor([-Trace_ELBO().loss(model(), guide, empty) for _ in range(500)])
    assert abs(theirs.mean() - first) < 4 * theirs.std() / len(theirs) ** 0.5


class _Given(nn.Module):
    """A guide with its joint held fixed."""

    def __init__(self, guide: nn.Module, fixed: torch.Tensor) -> None:
        super().__init__()
        self.guide, self.fixed = guide, fixed

    def forward(self, batch: RowBatch) -> None:
        poutine.condition(self.guide, data={self.guide.auxiliary: self.fixed})(batch)


def _without_entries(batch: RowBatch) -> RowBatch:
    return replace(batch, crow=torch.zeros_like(batch.crow), col=batch.col[:0], value=batch.value[:0])


@EVERY
def test_rows_keep_their_closed_form_beside_a_joint(make):
    """Given the globals, the divergence of the rows has no variance over draws."""
    guide, data = made(make, Hierarchy(), (1000, 4)), _without_entries(batch())
    perturb(guide)
    fixed = poutine.trace(guide).get_trace(data).nodes[guide.auxiliary]["value"]
    elbo = SampledELBO(Hierarchy(), _Given(guide, fixed))
    first, second = (elbo.terms(data)[1] for _ in range(2))
    torch.testing.assert_close(first, second)


def test_a_full_normal_of_one_number_is_a_normal_and_the_closed_form_stays():
    data = simulate_ratings(LatentFactor(2, sigma=0.5, user_scale=0.4), 30, 12, 150, seed=1)[0]
    guide, block = FullNormal(), RowBlockNormal()
    joint = svi.fit(LatentFactor(2), guide, data, epochs=3, seed=0, progress=False, dtype=torch.float64)
    alone = svi.fit(LatentFactor(2), block, data, epochs=3, seed=0, progress=False, dtype=torch.float64)
    batch = joint.blank_batch()
    assert isinstance(elbo_of(joint.model, guide, batch), ClosedFormELBO)
    assert evaluate(joint, data).predictive == evaluate(alone, data).predictive == "moment-matched normal"


@EVERY
def test_fits_are_saved_loaded_and_read(make, tmp_path):
    guide = make(local=MeanFieldNormal())
    fitted = svi.fit(Hierarchy(), guide, data(), epochs=2, progress=False)
    fitted.save(tmp_path / "run")
    again = Fitted.load(tmp_path / "run", model=Hierarchy())
    assert type(again.guide) is type(fitted.guide)
    assert type(again.guide.local) is type(fitted.guide.local)
    first, second = (predict(x, ["0"], ["1"], n_samples=20) for x in (fitted, again))
    assert first.equals(second)
    idata = to_arviz(again, rows=["3"], n_draws=30)
    assert set(idata.posterior.data_vars) == {*GLOBALS, "x"}
    assert (idata.posterior["spread"] > 0).all()


def test_a_joint_finds_correlations_that_a_mean_field_has_not():
    """Two globals of which the data know the sum alone."""

    def sums(batch: RowBatch) -> None:
        a = pyro.sample("a", dist.Normal(batch.value.new_zeros(()), 1.0))
        b = pyro.sample("b", dist.Normal(batch.value.new_zeros(()), 1.0))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(a + b + 0 * batch.value, 0.5), obs=batch.value)

    options = {"epochs": 600, "batch_rows": 40, "particles": 8, "progress": False, "dtype": torch.float64}
    fitted = svi.fit(sums, FullNormal(), hierarchy_data(40), **options)
    n = fitted.obs["n_entries"].sum()
    precision = torch.tensor([[1.0, 0], [0, 1]]) + n / 0.25 * torch.ones(2, 2)
    cov = fitted.guide.joint().covariance_matrix
    torch.testing.assert_close(cov, torch.linalg.inv(precision), rtol=0.1, atol=0.01)


def test_an_encoder_may_stand_beside_a_joint():
    def levels(batch: RowBatch) -> None:
        scale = pyro.sample("scale", dist.HalfNormal(batch.value.new_ones(())))
        with batch.row_plate("rows"):
            z = pyro.sample("z", dist.Normal(batch.value.new_zeros(2), 1.0).to_event(1))
        with batch.entries("entries"):
            pyro.sample("y", dist.Normal(batch.at_rows(z).sum(-1), scale), obs=batch.value)

    guide = FullNormal(AmortizedNormal(hidden=4, inputs="raw"))
    fitted = svi.fit(levels, guide, data(), epochs=2, progress=False)
    assert fitted.history["elbo"].notna().all()
