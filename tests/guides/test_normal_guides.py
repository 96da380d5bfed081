import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.guides.normal import INITIAL_SCALE
from platewise.models import LatentFactor
from pyro import poutine
from torch import nn
from torch.distributions import constraints, transform_to

from .set_blocks import perturb, set_block

GUIDES = pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
N_ROWS, N_COLS = 6, 4
BATCH = RowBatch(torch.tensor([1, 4]), torch.tensor([0, 1, 2]), torch.tensor([0, 3]), torch.zeros(2), N_ROWS, N_COLS)


class Sites(nn.Module):
    """A site of every kind; names that a module's attributes could not have."""

    def forward(self, batch: RowBatch) -> None:
        pyro.sample("values", dist.Normal(torch.zeros(()), 2.0))
        pyro.sample("scale.of.all", dist.HalfNormal(torch.ones(())))
        pyro.sample("weights", dist.Normal(torch.zeros(3, 2), 1.0).to_event(2))
        with pyro.plate("extra", 3, dim=-2), batch.col_plate("items"):
            pyro.sample("twice", dist.Normal(torch.zeros(()), 1.0))
        with batch.row_plate("users"):
            pyro.sample("mixture", dist.Dirichlet(torch.ones(3)))
            pyro.sample("user", dist.Normal(torch.ones(2), 0.5).to_event(1))
        with batch.col_plate("items_again"):
            pyro.sample("positive", dist.LogNormal(torch.zeros(2), 1.0).to_event(1))


SHAPES = {
    "values": (), "scale.of.all": (), "weights": (3, 2), "twice": (3, 4),
    "mixture": (2, 3), "user": (2, 2), "positive": (4, 2),
}  # fmt: skip


def _made(family: type, model: nn.Module) -> nn.Module:
    guide = family()
    guide.setup(model, RowBatch.blank(N_ROWS, N_COLS))
    return guide.double()


@GUIDES
def test_every_kind_of_site_is_sampled_in_its_plates_and_support(family):
    model, guide = Sites(), _made(family, Sites())
    perturb(guide)
    q = poutine.trace(guide).get_trace(BATCH)
    p = poutine.trace(poutine.replay(model, q)).get_trace(BATCH)
    for name, shape in SHAPES.items():
        site, prior = q.nodes[name], p.nodes[name]
        assert site["value"].shape == shape
        assert prior["fn"].support.check(site["value"]).all()
        assert [(f.name, f.dim, f.size) for f in site["cond_indep_stack"]] == [
            (f.name, f.dim, f.size) for f in prior["cond_indep_stack"]
        ]
        assert site["scale"] == prior["scale"]


@GUIDES
def test_draws_are_reparameterised(family):
    guide = _made(family, Sites())
    values = guide(BATCH)
    sum(x.sum() for x in values.values()).backward()
    assert all(p.grad is not None for p in guide.parameters())


@GUIDES
def test_a_step_touches_the_rows_of_the_batch_alone(family):
    guide = _made(family, LatentFactor(2))
    guide(BATCH)["user"].sum().backward()
    grad = guide.tables["user"].table.weight.grad
    assert grad.is_sparse
    assert grad.coalesce().indices()[0].tolist() == [1, 4]
    assert grad.shape[0] == N_ROWS


@GUIDES
def test_the_posterior_is_what_is_sampled(family):
    guide = _made(family, LatentFactor(2))
    perturb(guide)
    with torch.no_grad():
        with pyro.plate("draws", 4000, dim=-2):
            draws = guide(BATCH)["item"]
        q = guide.posterior(BATCH)["item"]
    error = draws.std(0) / 4000**0.5
    assert ((draws.mean(0) - q.mean).abs() < 5 * error).all()
    torch.testing.assert_close(draws.var(0), q.variance, rtol=0.15, atol=0)


def test_blocks_of_a_row_block_guide_are_correlated_and_those_of_mean_field_are_not():
    mean, lower = torch.randn(N_ROWS, 3), torch.eye(3) + torch.randn(N_ROWS, 3, 3).tril(-1)
    for family in (MeanFieldNormal, RowBlockNormal):
        guide = _made(family, LatentFactor(2))
        set_block(guide, "user", mean, lower)
        q = guide.posterior(BATCH)["user"]
        torch.testing.assert_close(q.mean, mean[BATCH.rows])
        if family is RowBlockNormal:
            torch.testing.assert_close(q.covariance_matrix, (lower @ lower.mT)[BATCH.rows])
        else:
            torch.testing.assert_close(q.variance, torch.ones(2, 3))


@pytest.mark.parametrize(("family", "width"), [(MeanFieldNormal, 6), (RowBlockNormal, 9)])
def test_a_block_has_as_few_numbers_as_it_can(family, width):
    assert family().width(3) == width
    assert _made(family, LatentFactor(2)).tables["user"].table.weight.shape == (N_ROWS, width)


@GUIDES
def test_vectors_start_at_draws_from_the_prior_with_narrower_scales(family):
    guide = _made(family, LatentFactor(2, user_scale=[0.1, 1.0, 5.0]))
    q = guide.posterior(BATCH)["user"]
    scale = torch.tensor([0.1, 1.0, 5.0])
    torch.testing.assert_close(q.stddev, (INITIAL_SCALE * scale).expand(2, 3))
    assert (q.mean.abs() < 5 * scale).all()
    assert q.mean.abs().min() > 0


@GUIDES
def test_sites_start_where_they_are_told_to(family):
    guide = family()
    starts = {"mu": (torch.tensor(3.5), torch.tensor(0.2))}
    guide.setup(LatentFactor(2), RowBatch.blank(N_ROWS, N_COLS), starts)
    q = guide.posterior(BATCH)["mu"]
    torch.testing.assert_close(q.mean, torch.tensor(3.5), atol=1e-6, rtol=0)
    torch.testing.assert_close(q.stddev, torch.tensor(0.2 * INITIAL_SCALE), atol=1e-6, rtol=0)


@GUIDES
def test_particles_are_vectorised(family):
    guide = _made(family, Sites())
    with pyro.plate("particles", 5, dim=-3):
        values = guide(BATCH)
    assert values["mixture"].shape == (5, 1, 2, 3)
    assert values["twice"].shape == (5, 3, 4)
    assert values["weights"].shape == (5, 1, 1, 3, 2)


@GUIDES
def test_all_state_is_in_the_state_dict(family):
    one, two = _made(family, Sites()), _made(family, Sites())
    two.load_state_dict(one.state_dict())
    for name in SHAPES:
        torch.manual_seed(0)
        x = one(BATCH)[name]
        torch.manual_seed(0)
        assert torch.equal(x, two(BATCH)[name])


class _Discrete(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        pyro.sample("kind", dist.Categorical(torch.ones(3)))


class _Nested(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        with pyro.plate("factors", 3, dim=-2), batch.row_plate("users"):
            pyro.sample("user", dist.Normal(torch.zeros(()), 1.0))


class _PerEntry(nn.Module):
    def forward(self, batch: RowBatch) -> None:
        with batch.entries("ratings"):
            pyro.sample("error", dist.Normal(torch.zeros(()), 1.0))


@GUIDES
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_Discrete, "Expected continuous latent sites, got 'kind'"),
        (_Nested, "Expected site 'user' in the row plate alone, got plates .*factors"),
        (_PerEntry, "got 'error' in the plate of entries"),
    ],
)
def test_sites_that_normals_cannot_do_are_refused(family, model, message):
    with pytest.raises(PlatewiseError, match=message):
        _made(family, model())


@GUIDES
@pytest.mark.parametrize(
    ("shape", "message"),
    [((8, N_COLS), "with 6 rows, .* got one with 8"), ((N_ROWS, 9), "with 4 cols, .* got one with 9")],
)
def test_a_matrix_of_another_size_is_refused(family, shape, message):
    guide = _made(family, LatentFactor(2))
    with pytest.raises(PlatewiseError, match=message):
        guide.posterior(RowBatch.blank(*shape))


def test_positive_sites_are_log_normal():
    guide = _made(MeanFieldNormal, Sites())
    q = guide.posterior(BATCH)["scale.of.all"]
    assert isinstance(q.base_dist, dist.Normal)
    expected = dist.LogNormal(q.base_dist.loc, q.base_dist.scale)
    x = transform_to(constraints.positive)(torch.randn(5))
    torch.testing.assert_close(q.log_prob(x), expected.log_prob(x))
