"""Columns beside their replications: inside where these are like them, outside and named where they are not."""

import json

import numpy as np
import pytest
from platewise.posterior.column_checks import STATISTICS, ColumnChecks

N_ROWS = 80
NAMES = np.array([f"gene{j}" for j in range(30)])
RATE = np.linspace(0.1, 3, 30)


def by_column(x):
    return np.stack([(x == 0).mean(0), x.mean(0), x.var(0)])


def checks(observed, draws=200):
    rng = np.random.default_rng(0)
    drawn = [by_column(rng.poisson(RATE, (N_ROWS, 30))) for _ in range(draws)]
    return ColumnChecks.of(NAMES, by_column(observed), drawn, N_ROWS)


@pytest.fixture
def counts():
    return np.random.default_rng(1).poisson(RATE, (N_ROWS, 30))


def test_columns_of_the_same_law_are_inside(counts):
    found = checks(counts)
    shares = found.shares()
    assert shares["statistic"].tolist() == list(STATISTICS)
    assert (shares["columns"] == 30).all()
    assert (shares["inside"] >= 0.8).all()
    assert found.outermost()["distance"].abs().max() < 4


def test_a_column_with_extra_zeros_is_outside_and_named_first(counts):
    counts[: N_ROWS // 2, 20] = 0
    counts[:, 29] *= 3
    found = checks(counts)
    outermost = found.outermost()
    assert set(outermost["column"][:2]) == {"gene20", "gene29"}
    assert len(outermost) == outermost["column"].nunique() == 5
    lines = found.table.set_index(["column", "statistic"])
    assert not lines.loc[("gene20", "share of zeros"), "inside"]
    assert lines.loc[("gene20", "share of zeros"), "distance"] > 4
    assert not lines.loc[("gene29", "mean"), "inside"]


def test_one_count_where_there_never_was_one_is_no_surprise(counts):
    """Where all replications are the same, distances are in steps of one count in one row."""
    zeros = [np.stack([np.ones(1), np.zeros(1), np.zeros(1)])] * 20
    one = np.zeros((N_ROWS, 1))
    one[0] = 1
    found = ColumnChecks.of(NAMES[:1], by_column(one), zeros, N_ROWS)
    assert np.isfinite(found.table["distance"]).all()
    assert found.table["distance"].abs().max() < 1.1
    assert not found.table["inside"].any()
    assert ColumnChecks.of(NAMES[:1], zeros[0], zeros, N_ROWS).table["inside"].all()


def test_it_is_json(counts):
    found = checks(counts, draws=20).to_dict()
    assert json.loads(json.dumps(found))["shares"][0]["columns"] == 30
    assert len(found["outermost"]) == 5
