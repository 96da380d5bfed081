import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from platewise.data import PlatewiseError, simulate_ratings
from platewise.data import simulate as simulate_module
from platewise.models import LatentFactor
from torch import nn

MODEL = {"rank": 2, "sigma": 0.5, "user_scale": 0.4, "item_scale": [0.5, 0.3, 0.6]}


@pytest.fixture(scope="module")
def drawn() -> tuple:
    return simulate_ratings(LatentFactor(**MODEL), 1000, 600, 30_000, given={"mu": 3.5}, seed=1)


def test_there_are_exactly_as_many_ratings_as_asked_for(drawn):
    ratings, _ = drawn
    assert ratings.shape == (1000, 600)
    assert ratings.X.nnz == 30_000
    assert ratings.X.has_canonical_format  # sorted, and no cell twice
    assert np.diff(ratings.X.indptr).min() >= 1
    assert ratings.X.dtype == np.float32
    assert ratings.obs_names[:2].tolist() == ["1", "2"]


def test_activity_and_popularity_are_as_skewed_as_movielens(drawn):
    """In MovieLens 1M the top tenth of users gives 38 % of ratings, and that of items gets 44 %."""
    x = drawn[0].X
    activity, popularity = np.diff(x.indptr), np.bincount(x.indices, minlength=600)
    assert 0.28 < _share_of_top(activity, 0.1) < 0.45
    assert 0.75 < _share_of_top(activity, 0.5) < 0.90  # 0.85 there
    assert 0.35 < _share_of_top(popularity, 0.1) < 0.55
    assert 0.88 < _share_of_top(popularity, 0.5) < 0.97  # 0.92 there


def _share_of_top(counts: np.ndarray, fraction: float) -> float:
    return np.sort(counts)[::-1][: int(fraction * len(counts))].sum() / counts.sum()


def test_the_truth_explains_the_ratings_up_to_the_noise(drawn):
    ratings, truth = drawn
    x = ratings.X.tocoo()
    i, j = x.row, x.col
    mean = truth["mu"] + truth["a"][i] + truth["b"][j] + (truth["A"][i] * truth["B"][j]).sum(-1)
    residual = (x.data - mean) / MODEL["sigma"]
    n = len(residual)
    assert abs(residual.mean()) < 4 / n**0.5
    assert abs(residual.var() - 1) < 4 * (2 / n) ** 0.5
    assert np.corrcoef(mean, x.data)[0, 1] > 0.7


def test_latents_have_the_priors_scales(drawn):
    _, truth = drawn
    assert truth["mu"] == 3.5
    np.testing.assert_allclose(truth["user"].std(0), 0.4, rtol=0.1)
    np.testing.assert_allclose(truth["item"].std(0), MODEL["item_scale"], rtol=0.15)
    np.testing.assert_array_equal(truth["user"], np.column_stack([truth["A"], truth["a"]]))


def test_one_seed_is_one_data_set():
    one, two, other = (simulate_ratings(LatentFactor(**MODEL), 30, 20, 200, seed=s)[0].X for s in (3, 3, 4))
    assert (one != two).nnz == 0
    assert (one != other).nnz > 0


def test_the_global_generators_are_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    simulate_ratings(LatentFactor(**MODEL), 30, 20, 200)
    assert torch.equal(torch.get_rng_state(), before)


def test_ratings_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch):
    whole, _ = simulate_ratings(LatentFactor(2, sigma=1e-6), 40, 30, 500)
    monkeypatch.setattr(simulate_module, "CHUNK_ENTRIES", 37)
    parts, _ = simulate_ratings(LatentFactor(2, sigma=1e-6), 40, 30, 500)
    np.testing.assert_array_equal(whole.X.indices, parts.X.indices)
    np.testing.assert_allclose(whole.X.data, parts.X.data, atol=1e-4)


class Extra(nn.Module):
    """A deterministic site after the observed one, in the same plate."""

    def forward(self, batch) -> None:
        with batch.row_plate("rows"):
            level = pyro.sample("level", dist.Normal(torch.tensor(100.0), 1.0))
        with batch.entries("entries"):
            y = pyro.sample("y", dist.Normal(batch.at_rows(level, 0), 0.1), obs=batch.value)
            pyro.deterministic("negative", -y)


def test_any_model_of_the_contract_can_be_drawn_from():
    ratings, truth = simulate_ratings(Extra(), 20, 10, 100)
    level = np.repeat(truth["level"], np.diff(ratings.X.indptr))
    np.testing.assert_allclose(ratings.X.data, level, atol=0.6)


@pytest.mark.parametrize(
    ("shape", "given", "message"),
    [
        ((10, 10, 9), {}, "Expected between 10 .one a user. and 50 ratings"),
        ((10, 10, 51), {}, "Expected between 10 .one a user. and 50 ratings .half of the cells., got 51"),
        ((10, 10, 40), {"nu": 3.5}, r"Expected given sites among \['item', 'mu', 'user'\], got \['nu'\]"),
        ((10, 10, 40), {"A": 3.5}, "Expected given sites among"),
        ((10, 10, 40), {"rating": 3.5}, "Expected given sites among"),
    ],
)
def test_what_cannot_be_drawn_is_refused(shape, given, message):
    with pytest.raises(PlatewiseError, match=message):
        simulate_ratings(LatentFactor(**MODEL), *shape, given=given)
