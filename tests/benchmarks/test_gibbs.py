"""The reference sampler: exact where there is a closed form, and in line with its own joint distribution."""

import importlib
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from platewise.data.errors import PlatewiseError
from scipy.stats import norm

FOLDER = Path(__file__).parents[2] / "benchmarks"
ALL = frozenset({"user", "item", "noise"})


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture
def gibbs(load):
    return load("gibbs")


def scales(rank, *, size=0.7, noise=0.5, mu=1.0):
    block = torch.full((rank + 1,), size)
    return {"mu": torch.tensor(mu), "user": block, "item": block.clone(), "noise": torch.tensor(noise)}


def made(rng, shape=(6, 5), density=0.6):
    """Ratings of some cells, with a row and a column that have none."""
    rated = rng.random(shape) < density
    rated[-1], rated[:, -1] = False, False
    return sp.csr_matrix(np.where(rated, 3 + rng.standard_normal(shape), 0))


def test_blocks_given_the_other_side_are_those_of_linear_regression(gibbs):
    """Rows that are all alike are so many draws of one posterior."""
    rng, n, mu, noise = np.random.default_rng(0), 20_000, 3.0, 0.5
    item, value = torch.from_numpy(rng.standard_normal((4, 3))), 3 + rng.standard_normal(4)
    scale = torch.tensor([0.5, 1.0, 2.0])
    entries = gibbs.ratings_of(sp.csr_matrix(np.tile(value, (n, 1)))).rows
    draws = gibbs.draw_blocks(entries, item, mu, scale, torch.tensor(noise), rng).numpy()
    x = np.column_stack([item[:, :-1], np.ones(4)])
    cov = np.linalg.inv(np.diag(scale.numpy() ** -2) + x.T @ x / noise**2)
    mean = cov @ x.T @ (value - mu - item[:, -1].numpy()) / noise**2
    error = np.sqrt(np.diag(cov) / n)
    np.testing.assert_array_less(np.abs(draws.mean(0) - mean), 5 * error)
    np.testing.assert_allclose(np.cov(draws.T), cov, atol=8 * np.diag(cov).max() / math.sqrt(n))


def test_rows_without_entries_keep_their_prior(gibbs):
    empty = gibbs.ratings_of(sp.csr_matrix((20_000, 3))).rows
    scale = torch.tensor([0.5, 2.0])
    draws = gibbs.draw_blocks(empty, torch.ones(3, 2), 1.0, scale, torch.tensor(0.1), np.random.default_rng(0))
    torch.testing.assert_close(draws.std(0), scale, rtol=0.03, atol=0.0)


def test_expectations_are_those_of_the_model(gibbs):
    rng = np.random.default_rng(0)
    ratings = gibbs.ratings_of(made(rng))
    state = gibbs.prior_draw(ratings, scales(2), rng)
    dense = state.mu + state.user[:, -1:] + state.item[:, -1] + state.user[:, :-1] @ state.item[:, :-1].T
    at = ratings.cells
    np.testing.assert_allclose(gibbs.expectations(state, at), dense.numpy()[at.row, at.col])


@pytest.mark.parametrize("side", ["user", "item"])
def test_a_moved_constant_changes_no_prediction(gibbs, side):
    rng = np.random.default_rng(0)
    ratings = gibbs.ratings_of(made(rng))
    state = gibbs.prior_draw(ratings, scales(2), rng)
    moved = gibbs.shift_bias(state, side, rng)
    assert moved.mu != state.mu
    np.testing.assert_allclose(
        gibbs.expectations(moved, ratings.cells), gibbs.expectations(state, ratings.cells), atol=1e-12
    )


def statistics(gibbs, state, cells, learned):
    """Numbers whose law the prior knows."""
    users, items = state.user.square().mean(0).sqrt(), state.item.square().mean(0).sqrt()
    about = [state.mu, abs(state.mu), state.user[:, -1].mean(), state.item[:, -1].mean(), *users, *items]
    precisions = [state.scales[name].reshape(-1)[0] ** -2 for name in sorted(learned)]
    return [float(x) for x in (*about, *precisions, np.abs(gibbs.expectations(state, cells)).mean())]


def joint_distribution_scores(gibbs, learned, n=800, batches=20):
    """Geweke's test: latents and data drawn in turn, each given the other, have the joint law of prior and likelihood.

    Returns the differences of means in standard errors, those of the chain by batch means.
    """
    rng, start, prior = np.random.default_rng(0), scales(1), (6.0, 3.0)
    matrix = made(rng, (5, 4))
    ratings = gibbs.ratings_of(matrix)

    def forward():
        drawn = {name: gibbs._scale(torch.zeros_like(start[name]), 0, rng, prior) for name in sorted(learned)}
        return gibbs.prior_draw(ratings, start | drawn, rng)

    independent = np.array([statistics(gibbs, forward(), ratings.cells, learned) for _ in range(n)])
    state, chain = forward(), []
    for _ in range(n):
        noise = float(state.scales["noise"]) * rng.standard_normal(matrix.nnz)
        matrix.data = gibbs.expectations(state, ratings.cells) + noise
        state = gibbs.sweep(state, gibbs.ratings_of(matrix), rng, learned, prior)
        chain.append(statistics(gibbs, state, ratings.cells, learned))
    means = np.array(chain).reshape(batches, -1, independent.shape[1]).mean(1)
    error = np.sqrt(independent.var(0) / len(independent) + means.var(0, ddof=1) / batches)
    return (independent.mean(0) - means.mean(0)) / error


@pytest.mark.parametrize("learned", [frozenset(), ALL], ids=["given scales", "learned scales"])
def test_sweeps_keep_the_joint_distribution(gibbs, learned):
    assert np.abs(joint_distribution_scores(gibbs, learned)).max() < 4.5


def test_a_wrong_conditional_does_not_keep_it(gibbs, monkeypatch):
    right = gibbs.draw_blocks
    monkeypatch.setattr(gibbs, "draw_blocks", lambda *given: 0.8 * right(*given))
    assert np.abs(joint_distribution_scores(gibbs, frozenset(), n=300)).max() > 6


def test_a_tally_has_the_moments_of_its_draws(load):
    rng, value = np.random.default_rng(0), np.array([1.0, 2.0, 1e3])
    draws, sigma = value + rng.standard_normal((50, 3)), rng.uniform(0.5, 1.0, 50)
    tally = load("gibbs_chains").Tally(value)
    for draw, sd in zip(draws, sigma, strict=True):
        tally.add(draw, float(sd))
    chains = tally.chains(draws[None], draws[None, :, 0], {})
    np.testing.assert_allclose(chains.mean, draws.mean(0))
    np.testing.assert_allclose(chains.sd, np.sqrt(draws.var(0) + (sigma**2).mean()))
    each = norm(draws, sigma[:, None])
    np.testing.assert_allclose(chains.density, np.log(each.pdf(value).mean(0)))
    np.testing.assert_allclose(chains.cdf, each.cdf(value).mean(0))


def test_chains_that_disagree_are_seen(load):
    chains, blank = load("gibbs_chains").Chains, np.zeros(3)
    agreeing = np.random.default_rng(0).standard_normal((2, 500, 3))
    apart = agreeing + np.array([0.0, 3.0])[:, None, None]
    (rhat, ess), (worse, fewer) = (
        chains(blank, blank, 1.0, blank, blank, draws, draws[..., 0], {}).mixing() for draws in (agreeing, apart)
    )
    assert rhat < 1.02
    assert ess > 500
    assert worse > 1.5
    assert fewer < 20


def test_one_seed_gives_one_run(load):
    gibbs, run = load("gibbs"), load("gibbs_chains").gibbs
    matrix = made(np.random.default_rng(0))
    ratings = gibbs.ratings_of(matrix)
    settings = {"chains": 2, "sweeps": 20, "warmup": 5, "thin": 2, "watched": 4}
    one, same, other = (run(ratings, scales(1), ratings.cells, seed=seed, **settings) for seed in (3, 3, 4))
    assert one.draws.shape == (2, 10, 4)
    assert one.scales["user"].shape == (2, 10, 2)
    np.testing.assert_array_equal(one.draws, same.draws)
    assert not np.array_equal(one.mean, other.mean)
    assert not np.array_equal(one.draws[0], one.draws[1])


def test_noise_of_rows_is_refused(load):
    gibbs, run = load("gibbs"), load("gibbs_chains").gibbs
    ratings = gibbs.ratings_of(made(np.random.default_rng(0)))
    with pytest.raises(PlatewiseError, match="Expected a model whose noise is constant"):
        run(ratings, scales(1) | {"user_shape": torch.tensor(3.0)}, ratings.cells)
