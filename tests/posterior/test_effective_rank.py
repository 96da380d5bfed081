"""Factors that the data support, counted from learned scales."""

import math
from dataclasses import replace

import pytest
import torch
from platewise.data.errors import PlatewiseError
from platewise.data.simulate import simulate_ratings
from platewise.guides import MeanFieldNormal, RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import effective_rank
from platewise.posterior.effective_rank import LEAST


@pytest.fixture
def fitted(split):
    return coordinate_ascent.fit(LatentFactor(rank=4), RowBlockNormal(), split[0], sweeps=1, progress=False)


def with_strengths(fitted, *shares):
    """The fit with factors of these strengths, in what the data can show."""
    shape = (fitted.n_rows, fitted.n_cols)
    visible = 0.25 * math.sqrt(math.prod(shape)) / float(fitted.obs["n_entries"].sum())
    scale = torch.tensor([*(math.sqrt(math.sqrt(x * visible)) for x in shares), 0.7])
    fitted.model.set_scales(user=scale, item=scale, noise=torch.tensor(0.5))
    return fitted


@pytest.mark.parametrize(
    ("shares", "rank"),
    [
        ((9, 5, 2, 1), 4),
        ((1.01 * LEAST, 9, 0.99 * LEAST, 5), 3),
        ((0.01, 9, 0.01, 0.01), 1),
        ((0.01, 0.01, 0.01, 0.01), 0),
    ],
)
def test_factors_that_show(fitted, shares, rank):
    assert effective_rank(with_strengths(fitted, *shares)) == rank


def test_of_cells_every_one_counts(fitted):
    fitted = with_strengths(fitted, 1, 1, 1, 0.05)
    assert effective_rank(fitted) == 3
    assert effective_rank(replace(fitted, meaning=fitted.meaning | {"unstored": "zero"})) == 4


@pytest.mark.parametrize("guide", [RowBlockNormal, MeanFieldNormal])
def test_the_rank_of_the_truth_is_found(guide):
    truth = LatentFactor(rank=3, sigma=0.5, user_scale=0.6, item_scale=0.6)
    ratings, _ = simulate_ratings(truth, 200, 150, 9000, given={"mu": 3.5}, seed=0)
    fitted = coordinate_ascent.fit(LatentFactor(rank=10), guide(), ratings, tolerance=1e-5, progress=False)
    assert effective_rank(fitted) == 3


def test_entries_that_are_more_precise_show_more(split):
    noisy = coordinate_ascent.fit(LatentFactor(4, noise="rows"), RowBlockNormal(), split[0], sweeps=1, progress=False)
    noisy = with_strengths(noisy, 9, 0.5 * LEAST, 0.2 * LEAST, 0.01 * LEAST)
    busy = noisy.obs["n_entries"].to_numpy() > noisy.obs["n_entries"].mean()
    for weight, rank in ((1.0, 1), (3.0, 2), (9.0, 3)):
        level = torch.where(torch.from_numpy(busy), math.log(weight), 0.0)[:, None]
        noisy.guide.set_blocks("user_log_precision", level, torch.full_like(level, 1e-12))
        assert effective_rank(noisy) == rank


@pytest.mark.parametrize("user_shape", [1.5, 100.0])
def test_the_rank_of_the_truth_is_found_where_users_differ_in_their_noise(user_shape):
    truth = LatentFactor(rank=3, sigma=0.5, user_scale=0.6, item_scale=0.6, noise="rows", user_shape=user_shape)
    ratings, _ = simulate_ratings(truth, 200, 150, 9000, given={"mu": 3.5}, seed=0)
    fitted = coordinate_ascent.fit(
        LatentFactor(rank=10, noise="rows"), RowBlockNormal(), ratings, tolerance=1e-5, progress=False
    )
    assert effective_rank(fitted) == 3


def test_a_guide_that_does_not_tell_the_noise_is_refused(split):
    fitted = coordinate_ascent.fit(LatentFactor(4, noise="rows"), RowBlockNormal(), split[0], sweeps=1, progress=False)
    fitted.guide = torch.nn.Identity()
    with pytest.raises(PlatewiseError, match="Expected a guide with normal blocks for user_log_precision, got"):
        effective_rank(fitted)


def test_scales_that_are_given_prune_nothing(split, amortised):
    given = LatentFactor(rank=2, user_scale=0.5)
    fitted = coordinate_ascent.fit(given, RowBlockNormal(), split[0], sweeps=1, progress=False)
    for fit in (fitted, amortised):
        with pytest.raises(PlatewiseError, match="Expected a model with learned scales per factor"):
            effective_rank(fit)
