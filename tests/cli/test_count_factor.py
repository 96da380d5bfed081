"""The factor model of counts from the command line: fitted, embedded, evaluated entry by entry."""

import pytest
from platewise.data import write_h5ad
from platewise.inference.run_directory import load, read_config

from ..count_data import small_counts


@pytest.fixture(autouse=True)
def _cells(tmp_path):
    write_h5ad(small_counts(), tmp_path / "cells.h5ad")


def test_the_factor_model_of_counts(platewise):
    options = ("--model", "count-factor", "--rank", 2, "--epochs", 2, "--likelihood", "poisson")
    result = platewise("fit", "cells.h5ad", *options, "-o", "new")
    assert result.code == 0, result.err
    assert "next: platewise embed new DATA.h5ad -o EMBEDDED.h5ad" in result.out
    assert read_config("new")["model"]["config"] == {"rank": 2, "likelihood": "poisson"}
    assert platewise("embed", "new", "cells.h5ad", "-o", "out.h5ad").code == 0


def test_the_factor_model_of_counts_is_evaluated(platewise):
    options = ("--model", "count-factor", "--rank", 2, "--epochs", 2)
    fitted = platewise("fit", "cells.h5ad", *options, "-o", "new")
    assert f"({load('new').elbo / 60:,.4f} per cell)" in fitted.out
    result = platewise("evaluate", "new", "cells.h5ad", "--samples", 20)
    assert "new: 1,500 entries\n" in result.out
    assert "in-sample: these are the entries that the fit was trained on." in result.out
    assert "Counts on the end of an interval are inside; `diagnose` takes them in part" in result.out
    write_h5ad(small_counts(seed=1)[:20].copy(), "test.h5ad")
    found = platewise("diagnose", "new", "test.h5ad", "--rows", 3, "--draws", 100, "--samples", 20, "--loo", 0)
    assert "sampled, a count on the end of an interval inside in part" in found.out.replace("\n", " ")
    assert "Here, as in `evaluate`, a count on the end of an interval is inside" in found.out
    assert "got some entries. Use evaluate" in platewise("predict", "new", "--user", "cell0", "--item", "gene0").err
