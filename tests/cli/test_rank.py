"""The rank that a person gives, and the one that is left to the data."""

import json

import pytest
from platewise.cli.rank import NARROWEST, WIDEST, start_rank
from platewise.inference.run_directory import read_config


@pytest.fixture
def three(platewise):
    """Ratings of rank 3."""
    size = ("--users", 300, "--items", 200, "--ratings", 12000, "--rank", 3)
    assert platewise("simulate", "-o", "three.h5ad", *size).code == 0
    return "three.h5ad"


def test_auto_finds_the_rank_of_the_truth(three, platewise):
    result = platewise("fit", three, "--rank", "auto", "-o", "run")
    assert result.code == 0, result.err
    assert "effective rank 3 of 10" in result.out
    options = read_config("run")["options"]
    assert (options["tolerance"], options["sweeps"]) == (1e-5, 300)


def test_auto_takes_options_that_are_given(three, platewise):
    options = ("--tolerance", 0.01, "--sweeps", 2, "--guide", "mean-field", "--json")
    printed = json.loads(platewise("fit", three, "--rank", "auto", *options, "-o", "run").out)
    assert printed["rank"] == 10
    assert read_config("run")["options"]["tolerance"] == 0.01


@pytest.mark.parametrize(
    ("shape", "n_entries", "rank"),
    [
        ((6040, 3706), 900_000, 37),
        ((300, 200), 12_000, 10),
        ((300, 200), 600, NARROWEST),
        ((1000, 1000), 10**6, WIDEST),
        ((3, 1000), 2000, 3),
    ],
)
def test_where_auto_begins(shape, n_entries, rank):
    assert start_rank(shape, n_entries) == rank


@pytest.mark.parametrize(
    ("rank", "part"),
    [
        ("many", "Expected --rank as a whole number or auto, got 'many'"),
        ("2.5", "got '2.5'"),
        ("-1", "rank of at least 1, got -1"),
        ("999", "rank of at most 60"),
    ],
)
def test_ranks_that_there_are_not(folder, platewise, rank, part):
    result = platewise("fit", folder / "train.h5ad", f"--rank={rank}", "-o", "run")
    assert result.code == 2
    assert part in result.err
