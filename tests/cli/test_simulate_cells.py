"""`platewise simulate --cells`: what it writes, and options that are the ratings'."""

import json

import pytest
from platewise.data import read_h5ad
from platewise.models import expected_counts

SIZE = ("--cells", 40, "--genes", 30, "--types", 2, "--stored", 0.5)


def test_cells_are_written_with_their_truth(platewise) -> None:
    result = platewise("simulate", *SIZE, "-o", "cells.h5ad")
    assert result.code == 0
    assert "40 cells of 30 genes" in result.out
    cells = read_h5ad("cells.h5ad")
    assert cells.uns["platewise"]["unstored"] == "zero"
    assert set(cells.obs["label"]) == {"type1", "type2"}
    assert expected_counts(cells).shape == (40, 30)


def test_json_counts_the_entries(platewise) -> None:
    result = platewise("simulate", *SIZE, "-o", "cells.h5ad", "--json")
    n_entries = read_h5ad("cells.h5ad").X.nnz
    assert json.loads(result.out) == {"data": "cells.h5ad", "cells": 40, "genes": 30, "entries": n_entries}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--cells", 40, "--users", 20), "no --cells with --users, which is for ratings"),
        (("--cells", 40, "--truth", "t.npz"), "no --cells with --truth"),
        (("--genes", 40), "--cells N with --genes, which is for cells"),
        (("--cells", 0), "n_cells of at least 1"),
        (("--cells", 40, "--likelihood", "gaussian"), "a likelihood of counts"),
        (("--cells", 40, "--stored", 2), "above 0 and below 1"),
    ],
)
def test_options_that_do_not_fit_get_one_line(platewise, options, message: str) -> None:
    result = platewise("simulate", *options, "-o", "cells.h5ad")
    assert result.code == 2
    assert message in result.err
    assert result.err.count("\n") == 1
