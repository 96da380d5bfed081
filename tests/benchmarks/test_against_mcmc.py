"""Guides beside chains: the tables' own arithmetic, that the samplers agree, and how far the guides are from them."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from platewise.data import simulate_ratings, split_entries
from platewise.guides import RowBlockNormal
from platewise.inference import coordinate_ascent
from platewise.models import LatentFactor
from platewise.posterior import evaluate
from platewise.posterior.held_out import held_out

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


@pytest.fixture(scope="module")
def made():
    """A fit and its test entries, some of a user and of an item that it never saw."""
    model = LatentFactor(1, sigma=0.5, user_scale=0.7, item_scale=0.7)
    ratings, _ = simulate_ratings(model, 30, 20, 300, given={"mu": 3.5}, seed=0)
    train, test = split_entries(ratings, test=0.3, seed=0)
    train = train[5:, 3:].copy()
    settings = {"dtype": torch.float64, "progress": False}
    return coordinate_ascent.fit(model, RowBlockNormal(), train, **settings), train, test


def test_tenths_and_scores_are_those_of_evaluate(load, made):
    table, (fit, _, test) = load("against_mcmc_movielens"), made
    request, expected = held_out(fit, test), evaluate(fit, test)
    ours = table.of_guide(fit, test, request.value, [])
    rmse, density, covered, *_ = (float(x) for x in ours.figures(request.value))
    assert rmse == pytest.approx(expected.rmse, abs=1e-4)
    assert density == pytest.approx(expected.log_predictive_density, abs=1e-4)
    assert covered == pytest.approx(expected.coverage["0.9"], abs=1e-3)
    inside = np.abs(ours.cdf - 0.5) <= 0.45
    tenths = table.tenths(fit, request)
    assert [inside[part].mean() for part in tenths["user"]] == pytest.approx(expected.coverage_by_row_decile["0.9"])
    assert [inside[part].mean() for part in tenths["item"]] == pytest.approx(expected.coverage_by_col_decile["0.9"])


def test_entries_unknown_to_the_fit_have_the_prior_under_both(load, made):
    table, (fit, train, test) = load("against_mcmc_movielens"), made
    request = held_out(fit, test)
    ours = table.of_guide(fit, test, request.value, [])
    theirs = table.of_gibbs(fit, train, request, frozenset(), table.Run(2, 400, 50, 0))
    new = ~request.rows.known & ~request.cols.known
    assert new.any()
    np.testing.assert_allclose(theirs.sd[new], ours.sd[new], rtol=0.1)
    assert np.corrcoef(theirs.mean, ours.mean)[0, 1] > 0.98


def test_nuts_has_every_site_and_one_seed_one_run(load):
    model = LatentFactor(1, sigma=0.5)  # learned scales stay as they are
    ratings, _ = simulate_ratings(model, 4, 3, 6, given={"mu": 3.5}, seed=0)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    one, same = (load("nuts").nuts(model, ratings, 5, 5, 1, chains=2, max_tree_depth=3) for _ in range(2))
    assert {name: x.shape[:2] for name, x in one.items()} == dict.fromkeys(("mu", "user", "item"), (2, 5))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["mu"][0], one["mu"][1])
    torch.testing.assert_close(model.state_dict(), before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_guides_are_as_near_the_truth_as_theory_says(load):
    """Means agree; widths are below the truth, and nearer where components may be uncertain together."""
    small = load("against_mcmc_small")
    train, heldout = small.simulated(0)
    said, mixing = small.told(train, heldout, seed=0, sweeps=2000, draws=150)
    assert mixing["Gibbs"][0] < 1.02
    truth = said["Gibbs"]["expectation"]
    distance = {name: (one["expectation"].mean - truth.mean) / truth.sd for name, one in said.items()}
    assert np.sqrt(np.mean(distance["NUTS"] ** 2)) < 0.3  # two chains of 150 draws, worth some dozens
    assert np.sqrt(np.mean(distance["row-block"] ** 2)) < 0.15
    width = {name: float(np.mean(one["expectation"].sd / truth.sd)) for name, one in said.items()}
    assert width["mean-field"] < width["row-block"] < 0.95
    assert width["row-block, by SVI"] == pytest.approx(width["row-block"], abs=0.01)
    assert width["NUTS"] == pytest.approx(1.0, abs=0.1)
