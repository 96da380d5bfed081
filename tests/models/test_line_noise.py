"""Noise of rows and columns in the latent factor model: the story, closed forms, what is new to a fit, wrong use."""

import pyro
import pytest
import torch
from platewise.data import PlatewiseError, RowBatch, RowLoader, simulate_ratings
from platewise.data.loader import MemoryRows
from platewise.data.sites import latent_sites
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import natural_gradient
from platewise.inference.elbo import ClosedFormELBO, SampledELBO
from platewise.models import LatentFactor
from platewise.models.log_gamma import LogGamma
from platewise.testing.contract import ContractTests
from pyro import poutine

from ..guides.set_blocks import perturb
from ..inference.monte_carlo import assert_agree, average

NOISES = ["rows", "columns", "both"]
SITES = {"rows": "user_log_precision", "columns": "item_log_precision"}
GIVEN = {"sigma": 0.7, "user_scale": 0.4, "item_scale": 0.6}
RATINGS, _ = simulate_ratings(LatentFactor(2, **GIVEN), 12, 8, 45, given={"mu": 3.5})


def _batch() -> RowBatch:
    return RowLoader(MemoryRows(RATINGS.X), 12, dtype=torch.float64).look(12)


def _fit(noise: str, family: type = RowBlockNormal) -> tuple[LatentFactor, MeanFieldNormal | RowBlockNormal]:
    """A model and a guide somewhere."""
    model, guide = LatentFactor(2, noise=noise), family()
    guide.setup(model, _batch(), {"mu": (torch.tensor(3.5), torch.tensor(0.5))})
    perturb(guide)
    return model, guide


@pytest.mark.parametrize("noise", NOISES)
def test_the_log_joint_is_the_story_written_out(noise):
    batch, model = _batch(), LatentFactor(2, noise=noise, **GIVEN)
    trace = poutine.trace(model).get_trace(batch)
    values = {name: site["value"] for name, site in latent_sites(trace).items()}
    g, h = (values.get(name, torch.zeros(n)) for name, n in zip(SITES.values(), (12, 8), strict=True))
    user, item = values["user"][batch.row], values["item"][batch.col]
    mean = values["mu"] + user[:, 2] + item[:, 2] + (user[:, :2] * item[:, :2]).sum(-1)
    sd = 0.7 * (-0.5 * (g[batch.row] + h[batch.col])).exp()
    normal, gamma = torch.distributions.Normal, torch.distributions.Gamma(5.0, 5.0)
    expected = normal(0.0, 100.0).log_prob(values["mu"]) + normal(mean, sd).log_prob(batch.value).sum()
    expected += normal(0.0, 0.4).log_prob(values["user"]).sum() + normal(0.0, 0.6).log_prob(values["item"]).sum()
    for x in (values[name] for name in SITES.values() if name in values):
        expected += (gamma.log_prob(x.exp()) + x).sum()
    assert [name for name in SITES.values() if name in values] == [x for x in model.precision_sites if x]
    torch.testing.assert_close(trace.log_prob_sum(), expected, atol=1e-8, rtol=0)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("family", [MeanFieldNormal, RowBlockNormal])
def test_the_closed_form_is_the_expectation_of_the_sampled_bound(noise, family):
    model, guide = _fit(noise, family)
    exact, sampled = ClosedFormELBO(model, guide), SampledELBO(model, guide, particles=200)
    with torch.no_grad():
        assert_agree(average(lambda: sampled(_batch()), 60), (exact(_batch()), torch.zeros(())))


@pytest.mark.parametrize("noise", NOISES)
def test_predictive_moments_are_those_of_draws(noise):
    model, guide = _fit(noise)
    batch, n = _batch(), 5000
    with torch.no_grad():
        mean, variance, of_noise = model.predictive_moments(batch, guide.posterior(batch))
        with pyro.plate("draws", n, dim=-2):
            q = poutine.trace(guide).get_trace(batch)
            rating = poutine.trace(poutine.replay(model, q)).get_trace(batch).nodes["rating"]["fn"]
    drawn, noise_drawn = rating.loc, rating.scale**2
    assert_agree((drawn.mean(0), drawn.std(0) / n**0.5), (mean, torch.zeros(())))
    assert_agree((noise_drawn.mean(0), noise_drawn.std(0) / n**0.5), (of_noise, torch.zeros(())))
    torch.testing.assert_close(drawn.var(0), variance, rtol=0.3, atol=0)


def test_noise_of_rows_and_columns_never_seen_is_the_priors():
    model, guide = LatentFactor(2, noise="both", user_shape=3.0, item_shape=2.0, **GIVEN), RowBlockNormal()
    batch = _batch()
    guide.setup(model, batch)
    q = guide.posterior(batch)
    new = {"user_log_precision": (3.0, 12), "item_log_precision": (2.0, 8)}
    q |= {name: LogGamma(a, torch.full((n,), a)) for name, (a, n) in new.items()}
    _, _, noise = model.predictive_moments(batch, q)
    torch.testing.assert_close(noise, torch.full_like(noise, 0.7**2 * 3 / 2 * 2 / 1))


def test_shapes_are_learned_unless_given_and_stay_within_their_bounds():
    model = LatentFactor(2, noise="both", item_shape=4.0)
    assert model.learned == {"user", "item", "noise", "user_shape"}
    with torch.no_grad():
        model.line_noise.log_user_shape.fill_(-3.0)
    assert model.scales()["user_shape"] == pytest.approx(1.5)
    assert model.scales()["item_shape"] == pytest.approx(4.0)
    model.line_noise.prior("user").variance.backward()
    assert model.line_noise.log_user_shape.grad < 0  # it can come back
    model.set_scales(user_shape=torch.tensor(7.0))
    assert model.scales()["user_shape"] == pytest.approx(7.0)


def test_the_config_makes_the_same_model_and_constant_noise_leaves_it_as_it_was():
    config = LatentFactor(3, noise="rows", user_shape=2.5).config
    assert LatentFactor(**config).config == config
    assert "noise" not in LatentFactor(3).config
    assert set(LatentFactor(3).state_dict()) == {"log_sigma", "log_user_scale", "log_item_scale"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": "items"}, "Expected noise among constant, rows, columns, both, got 'items'"),
        (
            {"noise": "rows", "unstored": "zero"},
            'Expected noise="constant" where entries not stored are observed zeros',
        ),
        ({"noise": "rows", "item_shape": 2.0}, "Expected item_shape with noise that differs by item, got 2.0 without"),
        ({"user_shape": 2.0}, "Expected user_shape with noise that differs by user, got 2.0 without"),
        ({"noise": "both", "user_shape": 1.0}, "Expected user_shape from 1.5 to 10000, got 1.0"),
        ({"noise": "both", "item_shape": float("nan")}, "Expected item_shape from 1.5 to 10000, got nan"),
    ],
)
def test_wrong_use(given, message):
    with pytest.raises(PlatewiseError, match=message):
        LatentFactor(2, **given)


def test_natural_gradients_refuse_it():
    with pytest.raises(PlatewiseError, match="Fit it by coordinate_ascent or svi"):
        natural_gradient.fit(LatentFactor(2, noise="rows"), RowBlockNormal(), RATINGS, progress=False)


class LineNoiseContract(ContractTests):
    global_sites = ("mu", "item", "item_log_precision")
    make_data = staticmethod(lambda: simulate_ratings(LatentFactor(2, **GIVEN), 40, 15, 200, given={"mu": 3.5})[0])
    make_model = staticmethod(lambda: LatentFactor(2, noise="both"))


class TestContractMeanField(LineNoiseContract):
    make_guide = MeanFieldNormal


class TestContractRowBlockSampled(LineNoiseContract):
    options = {"likelihood": "sampled", "particles": 2}  # noqa: RUF012
    make_guide = RowBlockNormal
