import pytest
import torch
from platewise.data import PlatewiseError, RowBatch, RowLoader, simulate_ratings
from platewise.data.loader import MemoryRows
from platewise.data.sites import deterministic_sites, latent_sites, observed_sites
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import svi
from platewise.models import LatentFactor
from pyro import poutine

from ..guides.set_blocks import perturb


def _batch(n_rows: int = 5, n_cols: int = 7) -> RowBatch:
    ratings, _ = simulate_ratings(LatentFactor(2), n_rows, n_cols, 2 * n_rows, given={"mu": 3.5})
    return RowLoader(MemoryRows(ratings.X), n_rows, dtype=torch.float64).batch(torch.arange(n_rows).numpy())


def test_the_story_site_by_site():
    trace = poutine.trace(LatentFactor(2)).get_trace(_batch())
    shapes = {name: tuple(site["value"].shape) for name, site in latent_sites(trace).items()}
    parts = {name: tuple(site["value"].shape) for name, site in deterministic_sites(trace).items()}
    assert shapes == {"mu": (), "user": (5, 3), "item": (7, 3)}
    assert parts == {"A": (5, 2), "a": (5,), "B": (7, 2), "b": (7,)}
    assert list(observed_sites(trace)) == ["rating"]


def test_the_log_joint_is_the_story_written_out():
    batch, model = _batch(), LatentFactor(2, sigma=0.7, user_scale=[0.3, 0.4, 0.5], item_scale=0.6)
    trace = poutine.trace(model).get_trace(batch)
    mu, user, item = (trace.nodes[name]["value"] for name in ("mu", "user", "item"))
    mean = mu + user[batch.row, 2] + item[batch.col, 2] + (user[batch.row, :2] * item[batch.col, :2]).sum(-1)
    normal = torch.distributions.Normal
    expected = normal(0.0, 100.0).log_prob(mu) + normal(mean, 0.7).log_prob(batch.value).sum()
    expected += normal(0.0, torch.tensor([0.3, 0.4, 0.5])).log_prob(user).sum() + normal(0.0, 0.6).log_prob(item).sum()
    torch.testing.assert_close(trace.log_prob_sum(), expected, atol=1e-6, rtol=0)


def test_learned_scales_are_parameters_and_given_ones_are_not():
    learned = {name for name, _ in LatentFactor(3).named_parameters()}
    assert learned == {"log_sigma", "log_user_scale", "log_item_scale"}
    assert not list(LatentFactor(3, sigma=1.0, user_scale=0.5, item_scale=[0.1, 0.2, 0.3, 0.4]).parameters())
    assert LatentFactor(3).log_user_scale.shape == (4,)


def test_the_config_makes_the_same_model_again():
    given = {"rank": 3, "sigma": 0.8, "user_scale": [0.1, 0.2, 0.3, 0.4], "item_scale": None}
    given |= {"mu_scale": 2.0, "unstored": "zero"}
    assert LatentFactor(**LatentFactor(**given).config).config == given


def test_learned_scales_can_be_set_and_given_ones_cannot():
    model = LatentFactor(2, user_scale=0.5, mu_scale=3.0).float()
    assert model.learned == {"item", "noise"}
    item = torch.tensor([0.1, 0.2, 0.3])
    model.set_scales(item=item, noise=torch.tensor(0.7))
    expected = {"mu": torch.tensor(3.0), "user": torch.full((3,), 0.5), "item": item, "noise": torch.tensor(0.7)}
    torch.testing.assert_close(model.scales(), {name: x.float() for name, x in expected.items()})
    assert not any(x.requires_grad for x in model.scales().values())
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with pytest.raises(
        PlatewiseError, match=r"Expected scales that are learned, among \['item', 'noise'\], got \['user'\]"
    ):
        model.set_scales(user=item, noise=torch.tensor(0.1))
    torch.testing.assert_close(model.sigma, torch.tensor(0.7, dtype=torch.float32))


def test_the_grand_mean_has_the_scale_that_it_is_given():
    for model, scale in ((LatentFactor(2), 100.0), (LatentFactor(2, mu_scale=5.0), 5.0)):
        assert poutine.trace(model).get_trace(_batch()).nodes["mu"]["fn"].scale == scale


def test_learned_scales_start_from_the_spread_of_the_ratings():
    model, batch = LatentFactor(2, user_scale=0.5), _batch()
    starts = model.initialise(batch)
    sd = batch.value.std(correction=0)
    torch.testing.assert_close(starts["mu"], (batch.value.mean(), sd))
    torch.testing.assert_close(model.sigma, 0.7 * sd)
    torch.testing.assert_close(model.log_user_scale.exp(), torch.full((3,), 0.5))


@pytest.mark.parametrize("value", [[], [4.0], [3.0, 3.0, 3.0]])
def test_scales_stay_finite_where_the_ratings_have_no_spread(value):
    n = len(value)
    batch = RowBatch(torch.arange(2), torch.tensor([0, n, n]), torch.arange(n), torch.tensor(value), 4, 5)
    model = LatentFactor(2)
    starts = model.initialise(batch)
    assert all(p.isfinite().all() and (p.abs() < 3).all() for p in model.parameters())
    assert all(x.isfinite() for start in starts.values() for x in start)


def test_ratings_that_are_all_the_same_can_be_fitted():
    ratings, _ = simulate_ratings(LatentFactor(2), 20, 10, 80)
    ratings.X.data[:] = 4.0
    fitted = svi.fit(LatentFactor(2), RowBlockNormal(), ratings, epochs=3, progress=False)
    assert all(p.isfinite().all() for p in fitted.guide.parameters())


@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
def test_predictive_moments_are_those_of_draws(family):
    batch, model, guide = _batch(), LatentFactor(2, sigma=0.3), family()
    guide.setup(model, batch)
    perturb(guide)
    with torch.no_grad():
        mean, spread, noise = model.predictive_moments(batch, guide.posterior(batch))
        draws = torch.stack([_means(model, guide, batch) for _ in range(500)])
    assert ((draws.mean(0) - mean).abs() < 5 * (spread / 500).sqrt()).all()
    torch.testing.assert_close(draws.var(0), spread, rtol=0.5, atol=0)
    torch.testing.assert_close(noise, torch.full_like(mean, 0.09))


def _means(model, guide, batch) -> torch.Tensor:
    trace = poutine.trace(poutine.condition(model, data=guide(batch))).get_trace(batch)
    return trace.nodes["rating"]["fn"].mean


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank": 0}, "Expected a rank of at least 1, got 0"),
        ({"rank": 2, "sigma": 0.0}, "Expected sigma positive and finite"),
        ({"rank": 2, "sigma": float("nan")}, "Expected sigma positive and finite"),
        ({"rank": 2, "user_scale": float("inf")}, "Expected user_scale positive and finite"),
        ({"rank": 2, "mu_scale": 0.0}, "Expected mu_scale positive and finite, got 0.0"),
        ({"rank": 2, "mu_scale": float("inf")}, "Expected mu_scale positive and finite, got inf"),
        ({"rank": 2, "unstored": "gone"}, 'Expected unstored="missing" .* or "zero" .*, got \'gone\''),
        ({"rank": 2, "item_scale": [0.1, 0.2]}, r"item_scale .* of shape \(3,\), got \[0.1, 0.2\]"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given, message):
    with pytest.raises(PlatewiseError, match=message):
        LatentFactor(**given)


def test_a_rank_above_the_smaller_side_is_refused():
    ratings, _ = simulate_ratings(LatentFactor(2), 20, 5, 40)
    with pytest.raises(PlatewiseError, match="rank of at most 5, the smaller side of the matrix, got 6"):
        svi.fit(LatentFactor(6), MeanFieldNormal(), ratings, progress=False)
