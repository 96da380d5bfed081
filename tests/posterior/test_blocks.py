"""Whole rows asked about, in blocks; and the rows that a fit was trained on."""

import numpy as np
import pytest
import torch
from platewise.guides import AmortizedNormal
from platewise.inference import svi
from platewise.models import VAE
from platewise.posterior import predictive
from platewise.posterior.blocks import Request
from platewise.posterior.names import Aligned
from platewise.posterior.predictive import row_blocks
from platewise.posterior.training import trained_on

from ..count_data import N_CELLS, small_counts

OPTIONS = {"epochs": 1, "batch_rows": 20, "device": "cpu", "progress": False, "dtype": torch.float64}


@pytest.mark.parametrize(
    ("n_rows", "n_cols", "most", "sizes"), [(7, 4, 12, [3, 2, 2]), (2, 30, 12, [1, 1]), (1, 1, 12, [1])]
)
def test_blocks_of_rows_have_few_cells_and_a_row_at_least(n_rows, n_cols, most, sizes, monkeypatch) -> None:
    monkeypatch.setattr(predictive, "MAX_ENTRIES", most)
    blocks = row_blocks(n_rows, n_cols)
    assert [len(block) for block in blocks] == sizes
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(n_rows))


def test_cells_are_asked_about_row_by_row() -> None:
    rows, cols = Aligned(np.array([5, 9]), 8, ["new", "newer"]), Aligned(np.array([3, 0, 1]), 4, [])
    request = Request.of_cells(rows, cols, np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(request.rows.code, [5, 5, 5, 9, 9, 9])
    np.testing.assert_array_equal(request.cols.code, [3, 0, 1, 3, 0, 1])
    np.testing.assert_array_equal(request.value, np.arange(6.0))
    assert request.rows.new == ["new", "newer"]


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_rows_held_out_are_not_trained_on(share: float, tmp_path) -> None:
    fitted = svi.fit(VAE(2, hidden=4), AmortizedNormal(hidden=4), small_counts(), validation=share, **OPTIONS)
    fitted.save(tmp_path / "run")
    for one in (fitted, type(fitted).load(tmp_path / "run")):
        names = trained_on(one)
        assert len(names) == N_CELLS * (1 - share)
        if share:
            assert set(names) == set(one.obs.index[~one.obs["held_out"].astype(bool)])
